//! How text is written into a unit and into the files it names: systemd.syntax(7), systemd.service(5),
//! systemd.exec(5).

use std::fmt::Write;
use std::path::Path;

/// A path as one word of a unit file.
pub(crate) fn path_word(path: &Path) -> String {
    argument(&path.to_string_lossy())
}

/// A text as one argument of a command line in a unit: nothing of it is expanded.
pub(crate) fn argument(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@:,=%".contains(c);
    let body = part(text);
    if !text.is_empty() && text.chars().all(plain) { body } else { quoted(&body) }
}

/// What stands between the quotes of [`quoted`] for this text.
pub(crate) fn part(text: &str) -> String {
    let mut written = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '%' => written.push_str("%%"),
            '$' => written.push_str("$$"),
            '\\' | '"' => written.extend(['\\', c]),
            c if c.is_ascii_control() => {
                // Writing to a String cannot fail.
                let _ = write!(written, "\\x{:02x}", u32::from(c));
            }
            c => written.push(c),
        }
    }
    written
}

/// One argument of parts that are written already.
pub(crate) fn quoted(parts: &str) -> String {
    format!("\"{parts}\"")
}

/// A path that is the rest of its line, as `WorkingDirectory=` takes it: there is no way to quote one.
///
/// # Errors
/// When it cannot be written so.
pub(crate) fn path_line(path: &Path) -> Result<String, String> {
    let text = path.to_str().ok_or_else(|| format!("{} is not UTF-8", path.display()))?;
    let odd = text.chars().any(char::is_control) || text.ends_with('\\') || text != text.trim();
    match odd {
        true => Err(format!("no systemd unit can name the path {text:?}")),
        false => Ok(text.replace('%', "%%")),
    }
}

/// A line of an `EnvironmentFile=`: whatever stands in the value, systemd reads the same.
pub(crate) fn env_line(key: &str, value: &str) -> String {
    let mut line = format!("{key}=\"");
    for c in value.chars() {
        if matches!(c, '"' | '\\' | '`' | '$') {
            line.push('\\');
        }
        line.push(c);
    }
    line.push_str("\"\n");
    line
}

/// Whether systemd takes it for the key of an environment. Others are dropped without an error.
pub(crate) fn is_env_key(key: &str) -> bool {
    let mut chars = key.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_is_one_word_whatever_stands_in_it() {
        for (text, written) in [
            ("dist/main.js", "dist/main.js"),
            ("--port=3100", "--port=3100"),
            ("", "\"\""),
            (";", "\";\""),
            ("100% sure", "\"100%% sure\""),
            ("$HOME", "\"$$HOME\""),
            ("a\"b\\c", "\"a\\\"b\\\\c\""),
            ("two\nlines", "\"two\\x0alines\""),
        ] {
            assert_eq!(argument(text), written);
        }
    }

    #[test]
    fn a_path_that_no_line_can_hold_is_refused() {
        assert_eq!(path_line(Path::new("/srv/100% sure/x")).unwrap(), "/srv/100%% sure/x");
        for bad in ["/srv/a\nUser=root", "/srv/a\\", "/srv/a "] {
            assert!(path_line(Path::new(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_env_value_is_quoted() {
        assert_eq!(env_line("A", "x $y `z` \"q\" \\n"), "A=\"x \\$y \\`z\\` \\\"q\\\" \\\\n\"\n");
        assert!(is_env_key("_A1") && !is_env_key("1A") && !is_env_key("a.b") && !is_env_key(""));
    }
}
