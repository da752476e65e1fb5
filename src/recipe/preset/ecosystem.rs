//! Hints from a pm2 configuration, read as text: it is a program, and `init` runs none.

use regex::Regex;

/// What a pm2 configuration says about its first app, as far as it can be seen without running it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pm2Hints {
    /// `name`.
    pub name: Option<String>,
    /// `script`.
    pub script: Option<String>,
    /// `instances`, if it is a number.
    pub instances: Option<u32>,
    /// `exec_mode` is cluster.
    pub cluster: bool,
    /// `max_memory_restart` in bytes.
    pub memory_max: Option<u64>,
    /// `kill_timeout` in milliseconds.
    pub kill_timeout_ms: Option<u64>,
    /// `wait_ready`.
    pub wait_ready: bool,
    /// `listen_timeout` in milliseconds.
    pub listen_timeout_ms: Option<u64>,
    /// `PORT` of its env.
    pub port: Option<u16>,
}

impl Pm2Hints {
    /// Reads the text of `ecosystem.config.cjs` or `.js`.
    pub fn of(text: &str) -> Self {
        Self {
            name: word(text, "name"),
            script: word(text, "script").map(|path| path.trim_start_matches("./").to_owned()),
            instances: number(text, "instances").and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0),
            cluster: word(text, "exec_mode").is_some_and(|mode| mode.starts_with("cluster")),
            memory_max: word(text, "max_memory_restart").and_then(|size| memory(&size)),
            kill_timeout_ms: number(text, "kill_timeout").filter(|ms| *ms > 0),
            wait_ready: value(text, "wait_ready", "(true)").is_some(),
            listen_timeout_ms: number(text, "listen_timeout").filter(|ms| *ms > 0),
            port: number(text, "PORT").and_then(|n| u16::try_from(n).ok()).filter(|n| *n > 0),
        }
    }
}

/// The first `key: <pattern>` of an object literal.
fn value(text: &str, key: &str, pattern: &str) -> Option<String> {
    let property = format!(r#"(?m)(?:^|[\s,{{])['"]?{key}['"]?\s*:\s*{pattern}"#);
    let found = Regex::new(&property).ok()?.captures(text)?;
    found.get(1).map(|value| value.as_str().to_owned())
}

fn word(text: &str, key: &str) -> Option<String> {
    value(text, key, r#"['"`]([^'"`\n$]+)['"`]"#)
}

fn number(text: &str, key: &str) -> Option<u64> {
    value(text, key, r#"['"]?([0-9]+)['"]?\s*(?:[,}\n/]|$)"#)?.parse().ok()
}

/// pm2's sizes: `768M`, `1G`, `500K`, or bytes.
fn memory(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let scale = match text[digits.len()..].chars().next() {
        None => 1,
        Some('K' | 'k') => 1 << 10,
        Some('M' | 'm') => 1 << 20,
        Some('G' | 'g') => 1 << 30,
        Some(_) => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(scale).filter(|bytes| *bytes > 0)
}
