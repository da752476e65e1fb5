//! Which part of an object a request asks for (RFC 9110, sections 13.1.5 and 14.2). Pure.

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selection {
    /// Everything.
    Whole,
    /// This many bytes from here on; at least one.
    Part {
        /// The first byte.
        first: u64,
        /// How many.
        length: u64,
    },
    /// Nothing: the object ends before what was asked for.
    Unsatisfiable,
}

/// What `Range` selects of `size` bytes. A form that is unknown or malformed, and several ranges at once, select
/// everything, which the standard allows and every client must take.
pub fn select(range: Option<&str>, size: u64) -> Selection {
    let spec = range.and_then(|range| range.trim().strip_prefix("bytes="));
    let Some((first, last)) = spec.and_then(|spec| spec.trim().split_once('-')) else {
        return Selection::Whole;
    };
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => part(first, last, size),
        (Some(first), None) if last.is_empty() => part(first, u64::MAX, size),
        (None, Some(0)) if first.is_empty() => Selection::Unsatisfiable,
        (None, Some(count)) if first.is_empty() => part(size.saturating_sub(count), u64::MAX, size),
        _ => Selection::Whole,
    }
}

fn part(first: u64, last: u64, size: u64) -> Selection {
    if first >= size {
        return Selection::Unsatisfiable;
    }
    Selection::Part { first, length: last.min(size - 1) - first + 1 }
}

/// Digits and nothing else: `+1` parses as a number elsewhere.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // More than 64 bits are beyond the end of every object.
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

/// Whether `If-Range` allows a part: only if it names what the object is now, by its tag or its date.
pub fn is_current(if_range: Option<&str>, tag: &str, modified: &str) -> bool {
    if_range.is_none_or(|validator| validator == tag || validator == modified)
}

/// Whether `If-None-Match` (or `If-Match`) names this tag. Weak ones name the same bytes here.
pub fn names(header: &str, tag: &str) -> bool {
    header.split(',').map(str::trim).any(|item| item == "*" || item.strip_prefix("W/").unwrap_or(item) == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn part(first: u64, length: u64) -> Selection {
        Selection::Part { first, length }
    }

    #[test]
    fn a_single_range_selects_exactly_its_bytes() {
        for (range, selected) in [
            ("bytes=0-0", part(0, 1)),
            ("bytes=0-9", part(0, 10)),
            ("bytes=3-5", part(3, 3)),
            ("bytes=9-", part(9, 1)),
            ("bytes=5-99", part(5, 5)),
            ("bytes=-3", part(7, 3)),
            ("bytes=-99", part(0, 10)),
            ("bytes=0-99999999999999999999999", part(0, 10)),
            (" bytes=3-5 ", part(3, 3)),
        ] {
            assert_eq!(select(Some(range), 10), selected, "{range}");
        }
    }

    #[test]
    fn a_range_beyond_the_end_cannot_be_satisfied() {
        for range in ["bytes=10-", "bytes=10-10", "bytes=99999999999999999999-", "bytes=-0"] {
            assert_eq!(select(Some(range), 10), Selection::Unsatisfiable, "{range}");
        }
        assert_eq!(select(Some("bytes=0-"), 0), Selection::Unsatisfiable);
        assert_eq!(select(Some("bytes=-5"), 0), Selection::Unsatisfiable);
    }

    #[test]
    fn anything_else_selects_everything() {
        for range in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=5-3",
            "bytes=0-1,3-4",
            "bytes=+1-2",
            "items=0-1",
            "bytes=a-b",
        ] {
            assert_eq!(select(Some(range), 10), Selection::Whole, "{range}");
        }
        assert_eq!(select(None, 10), Selection::Whole);
    }

    #[test]
    fn validators_are_compared_as_a_whole() {
        assert!(is_current(None, "\"a\"", "then") && is_current(Some("\"a\""), "\"a\"", "then"));
        assert!(is_current(Some("then"), "\"a\"", "then") && !is_current(Some("\"b\""), "\"a\"", "then"));
        assert!(names("\"x\", \"a\"", "\"a\"") && names("*", "\"a\"") && names("W/\"a\"", "\"a\""));
        assert!(!names("\"aa\"", "\"a\"") && !names("a", "\"a\""));
    }
}
