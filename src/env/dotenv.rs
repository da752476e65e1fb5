//! dotenv files, read exactly as npm's `dotenv` 17 reads them.
//!
//! The grammar of `dotenv` is one regular expression, so the same expression is used here, with JavaScript's
//! classes written out. Checked against the real package by `tests/dotenv.rs`. One difference is known and
//! kept: JavaScript also ends a line at U+2028 and U+2029.

use std::collections::HashMap;
use std::sync::LazyLock;

use regex::Regex;

/// JavaScript's `\s`.
const SPACE: &str =
    r"[\t\n\x0B\x0C\r \u{A0}\u{1680}\u{2000}-\u{200A}\u{2028}\u{2029}\u{202F}\u{205F}\u{3000}\u{FEFF}]";

static LINE: LazyLock<Regex> = LazyLock::new(|| {
    let line = concat!(
        r"(?m)^\s*(?:export\s+)?([A-Za-z0-9_.-]+)(?:\s*=\s*?|:\s+?)",
        r#"(\s*'(?:\\'|[^'])*'|\s*"(?:\\"|[^"])*"|\s*`(?:\\`|[^`])*`|[^#\r\n]+)?"#,
        r"\s*(?:#[^\r\n\u{2028}\u{2029}]*)?$"
    )
    .replace(r"\s", SPACE);
    Regex::new(&line).expect("the expression is constant and compiles")
});

static QUOTED: LazyLock<Regex> = LazyLock::new(|| {
    let quotes = r#"(?m)^(?:'((?s:.*))'|"((?s:.*))"|`((?s:.*))`)$"#;
    Regex::new(quotes).expect("the expression is constant and compiles")
});

/// The pairs of a dotenv file, in the order in which their keys first appear; of a key that stands twice,
/// the last value counts. What is not a pair is skipped, as `dotenv` does.
pub fn parse(text: &str) -> Vec<(String, String)> {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut pairs: Vec<(String, String)> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for found in LINE.captures_iter(&text) {
        let key = found[1].to_owned();
        let value = value(found.get(2).map_or("", |value| value.as_str()));
        match places.get(&key) {
            Some(place) => pairs[*place].1 = value,
            None => {
                places.insert(key.clone(), pairs.len());
                pairs.push((key, value));
            }
        }
    }
    pairs
}

fn value(raw: &str) -> String {
    let trimmed = raw.trim_matches(is_space);
    let bare = QUOTED.replace_all(trimmed, "$1$2$3");
    if trimmed.starts_with('"') { bare.replace("\\n", "\n").replace("\\r", "\r") } else { bare.into_owned() }
}

/// What JavaScript's `trim` takes away: not Rust's white space, which has U+0085 and lacks U+FEFF.
const fn is_space(c: char) -> bool {
    matches!(
        c,
        '\t'..='\r' | ' ' | '\u{A0}' | '\u{1680}' | '\u{2000}'..='\u{200A}' | '\u{2028}' | '\u{2029}'
            | '\u{202F}' | '\u{205F}' | '\u{3000}' | '\u{FEFF}'
    )
}
