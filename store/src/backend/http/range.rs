//! What an answer to a range request is worth: pure, because servers are wrong about ranges in many ways.

/// What was asked for: `length` bytes from `offset` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// The parts of an answer that decide.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer<'a> {
    pub(super) status: u16,
    pub(super) content_range: Option<&'a str>,
    pub(super) content_length: Option<u64>,
    pub(super) content_encoding: Option<&'a str>,
}

/// What to do with a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is what was asked for, and this many bytes. Fewer than asked for: the object ends there.
    Part(u64),
    /// It is the object from its first byte on, of this size if that is known.
    Whole(Option<u64>),
    /// The object ends before the range begins.
    PastEnd,
    /// It is something else: asked again, and then without a range.
    Wrong(String),
    /// It is compressed on its way, so no offset in it means anything.
    Encoded(String),
}

/// Judges a 200, 206 or 416.
pub(super) fn judge(asked: Asked, answer: Answer<'_>) -> Verdict {
    if let Some(encoding) = answer.content_encoding
        && !encoding.eq_ignore_ascii_case("identity")
    {
        return Verdict::Encoded(encoding.to_owned());
    }
    match answer.status {
        200 => Verdict::Whole(answer.content_length),
        206 => part(asked, answer),
        _ => past_end(asked, answer.content_range),
    }
}

fn part(asked: Asked, answer: Answer<'_>) -> Verdict {
    let wrong = |why: String| Verdict::Wrong(why);
    let Some(text) = answer.content_range else {
        return wrong("a 206 that does not say which bytes it has".to_owned());
    };
    let Some((first, last, size)) = content_range(text) else {
        return wrong(format!("a 206 with the Content-Range `{text}`"));
    };
    let wanted = asked.offset.saturating_add(asked.length) - 1;
    let end = size.map_or(wanted, |size| wanted.min(size.saturating_sub(1)));
    if first != asked.offset || last != end || last < first {
        return wrong(format!("bytes {first}-{last} instead of {}-{end}", asked.offset));
    }
    let bytes = last - first + 1;
    match answer.content_length {
        Some(length) if length != bytes => wrong(format!("{length} bytes of a range of {bytes}")),
        _ => Verdict::Part(bytes),
    }
}

fn past_end(asked: Asked, content_range: Option<&str>) -> Verdict {
    let size = content_range.and_then(|text| text.trim().strip_prefix("bytes */")?.parse::<u64>().ok());
    match size {
        Some(size) if asked.offset >= size => Verdict::PastEnd,
        _ => Verdict::Wrong("416: it says that the range is not in the object".to_owned()),
    }
}

/// `bytes FIRST-LAST/SIZE`, where the size may be `*`.
pub(super) fn content_range(text: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, size) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let size = if size == "*" { None } else { Some(size.parse().ok()?) };
    Some((first.parse().ok()?, last.parse().ok()?, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: Asked = Asked { offset: 100, length: 50 };

    fn verdict(status: u16, content_range: Option<&str>, content_length: Option<u64>) -> Verdict {
        judge(ASKED, Answer { status, content_range, content_length, content_encoding: None })
    }

    #[test]
    fn a_206_counts_only_with_the_bytes_that_were_asked_for() {
        assert_eq!(verdict(206, Some("bytes 100-149/1000"), Some(50)), Verdict::Part(50));
        assert_eq!(verdict(206, Some("bytes 100-149/*"), None), Verdict::Part(50));
        assert_eq!(verdict(206, Some("bytes 100-119/120"), Some(20)), Verdict::Part(20), "the object's end");
        for (range, length) in [
            (None, None),
            (Some("bytes 0-49/1000"), None),
            (Some("bytes 100-148/1000"), None),
            (Some("bytes 100-150/1000"), None),
            (Some("bytes 100-119/*"), None),
            (Some("bytes 100-149/1000"), Some(49)),
            (Some("bytes 100-99/1000"), None),
            (Some("bytes 100-149/10"), None),
            (Some("bytes 100-99999999999999999999999/1000"), None),
            (Some("lines 100-149/1000"), None),
            (Some("bytes=100-149/1000"), None),
        ] {
            assert!(matches!(verdict(206, range, length), Verdict::Wrong(_)), "{range:?} {length:?}");
        }
    }

    #[test]
    fn a_200_is_the_whole_object_and_a_416_its_end_only_where_it_says_so() {
        assert_eq!(verdict(200, None, Some(1000)), Verdict::Whole(Some(1000)));
        assert_eq!(verdict(416, Some("bytes */100"), None), Verdict::PastEnd);
        assert!(matches!(verdict(416, Some("bytes */1000"), None), Verdict::Wrong(_)));
        assert!(matches!(verdict(416, None, None), Verdict::Wrong(_)));
    }

    #[test]
    fn a_compressed_answer_is_refused_whatever_its_status() {
        let answer = |status| Answer {
            status,
            content_range: Some("bytes 100-149/1000"),
            content_length: Some(50),
            content_encoding: Some("gzip"),
        };
        for status in [200, 206, 416] {
            assert_eq!(judge(ASKED, answer(status)), Verdict::Encoded("gzip".to_owned()));
        }
    }

    #[test]
    fn ranges_at_the_end_of_all_numbers_do_not_overflow() {
        let asked = Asked { offset: u64::MAX - 1, length: u64::MAX };
        let answer = |content_range| Answer {
            status: 206,
            content_range: Some(content_range),
            content_length: None,
            content_encoding: None,
        };
        assert!(matches!(judge(asked, answer("bytes 0-0/1")), Verdict::Wrong(_)));
        let all = format!("bytes 0-{}/*", u64::MAX);
        let asked = Asked { offset: 0, length: u64::MAX };
        assert!(matches!(judge(asked, answer(&all)), Verdict::Wrong(_)));
    }
}
