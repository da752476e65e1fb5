//! Text for people: wrapped, indented, times as they are spoken of.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Columns of a table or a paragraph: what every terminal shows.
pub const WIDTH: usize = 80;

/// Breaks a text between words into lines of at most `width` characters, each after `indent`. A word that is
/// longer than a line stays whole: it is an id or a path.
pub fn wrap(text: &str, indent: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(format!("{indent}{word}")),
        }
    }
    lines
}

/// A span up to now: `12s`, `4m`, `2h5m`, `3d4h`.
pub fn ago(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(then).as_secs().max(0);
    match seconds {
        0..=59 => format!("{seconds}s"),
        60..=3599 => format!("{}m", seconds / 60),
        3600..=86_399 => format!("{}h{}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// A moment in this machine's time zone: `11-20 14:03`, with the year if it is another one.
pub fn local(then: Timestamp, now: Timestamp, zone: &TimeZone) -> String {
    let (then, now) = (then.to_zoned(zone.clone()), now.to_zoned(zone.clone()));
    let format = if then.year() == now.year() { "%m-%d %H:%M" } else { "%Y-%m-%d %H:%M" };
    then.strftime(format).to_string()
}

/// At most `most` characters; what is cut leaves an ellipsis.
pub fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(most.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words_and_long_words_stay_whole() {
        let lines = wrap("one two three /a/very/long/path/name four", "  ", 11);
        assert_eq!(lines, ["  one two", "  three", "  /a/very/long/path/name", "  four"]);
        assert_eq!(wrap("", "  ", 10), Vec::<String>::new());
    }

    #[test]
    fn moments_are_short_and_say_the_year_when_it_is_another() {
        let now: Timestamp = "2026-11-20T12:00:00Z".parse().unwrap();
        let at = |text: &str| local(text.parse().unwrap(), now, &TimeZone::UTC);
        assert_eq!(at("2026-11-18T14:20:03Z"), "11-18 14:20");
        assert_eq!(at("2025-11-18T14:20:03Z"), "2025-11-18 14:20");
        let since = |text: &str| ago(text.parse().unwrap(), now);
        assert_eq!(
            ["2026-11-20T11:59:48Z", "2026-11-20T11:50:00Z", "2026-11-20T09:55:00Z", "2026-11-17T08:00:00Z"]
                .map(since),
            ["12s", "10m", "2h5m", "3d4h"]
        );
        assert_eq!(since("2026-11-20T12:00:09Z"), "0s", "a clock that was set back");
    }

    #[test]
    fn what_is_cut_says_so() {
        assert_eq!([cut("2.14.0", 6), cut("2.14.0-rc.1", 6)], ["2.14.0", "2.14.…"]);
    }
}
