//! What was kept of a failure, as lines for people.

use std::path::Path;

use serde_json::Value;

use crate::disk::{Disk, RealDisk};
use crate::layout::EVIDENCE;

/// Bytes of an evidence file: bodies and log lines in it are bounded when they are kept.
const EVIDENCE_BYTES_MAX: u64 = 8 << 20;
/// Lines of a body, and of each process's log, that are shown; the file has them all.
const LINES_SHOWN: usize = 12;
/// Characters of such a line.
const LINE_CHARS_MAX: usize = 200;

/// The order in which facts are told: what was asked, what came, what the app said.
const ORDER: [&str; 11] =
    ["step", "check", "port", "tries", "why", "status", "body", "exit", "port_holders", "tail", "logs"];

/// The evidence kept in an attempt's directory, if there is any that can be read.
pub fn read(attempt: &Path) -> Option<Value> {
    let bytes = RealDisk.read(&attempt.join(EVIDENCE), EVIDENCE_BYTES_MAX).ok()??;
    serde_json::from_slice(&bytes).ok()
}

/// Each fact with its name; what has several lines stands below it. Facts that a newer landfall kept are shown
/// like any other.
pub fn lines(evidence: &Value) -> Vec<String> {
    let mut facts: Vec<_> =
        evidence.as_object().into_iter().flatten().filter(|(_, value)| !is_nothing(value)).collect();
    facts.sort_by_key(|(key, _)| ORDER.iter().position(|known| known == key).unwrap_or(ORDER.len()));
    facts.into_iter().flat_map(|(key, value)| fact(key, value)).collect()
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(items) => items.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

fn fact(key: &str, value: &Value) -> Vec<String> {
    let name = key.replace('_', " ");
    match (key, value) {
        ("body", Value::String(body)) => block(&name, &body.lines().take(LINES_SHOWN).collect::<Vec<_>>()),
        ("port_holders", Value::Array(holders)) => {
            block(&name, &holders.iter().map(holder).collect::<Vec<_>>())
        }
        ("logs", Value::Object(logs)) => logs
            .iter()
            .flat_map(|(process, lines)| block(&format!("last lines of {process}"), &last(lines)))
            .collect(),
        ("tail", lines @ Value::Array(_)) => block("last lines", &last(lines)),
        ("exit", Value::Object(exit)) if exit.contains_key("code") => {
            vec![format!("the process exited with status {}", exit["code"])]
        }
        ("exit", Value::Object(exit)) if exit.contains_key("signal") => {
            vec![format!("the process was ended by signal {}", exit["signal"])]
        }
        (_, Value::String(text)) => vec![format!("{name}: {}", printable(text))],
        _ => vec![format!("{name}: {value}")],
    }
}

fn holder(holder: &Value) -> String {
    let text = |key: &str| holder[key].as_str().unwrap_or("?").to_owned();
    format!("pid {} ({}, {})", holder["pid"], text("command"), text("cwd"))
}

fn last(lines: &Value) -> Vec<String> {
    let all: Vec<String> =
        lines.as_array().into_iter().flatten().filter_map(|line| line.as_str().map(str::to_owned)).collect();
    all[all.len().saturating_sub(LINES_SHOWN)..].to_vec()
}

fn block(name: &str, lines: &[impl AsRef<str>]) -> Vec<String> {
    let below = lines.iter().map(|line| format!("  | {}", printable(line.as_ref())));
    std::iter::once(format!("{name}:")).chain(below).collect()
}

/// What an app said can hold anything, also sequences that would move a terminal's cursor.
fn printable(text: &str) -> String {
    let plain = text.chars().map(|char| if char.is_control() && char != '\t' { '\u{b7}' } else { char });
    super::super::text::cut(&plain.collect::<String>(), LINE_CHARS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Evidence;
    use crate::proc::Holder;

    #[test]
    fn every_fact_of_an_evidence_is_told() {
        let evidence = Evidence {
            check: Some("main".to_owned()),
            tries: 30,
            status: Some(500),
            body: Some("{\"status\":\"broken\"}\n".to_owned()),
            exit: Some(crate::start::Exit::Code(1)),
            port_holders: vec![Holder {
                pid: 7,
                command: "node".to_owned(),
                cwd: Some("/srv".into()),
                user: None,
                since: None,
            }],
            logs: [("main".to_owned(), vec!["first".to_owned(), "last \u{1b}[31mred".to_owned()])].into(),
        };
        let lines = lines(&serde_json::to_value(evidence).unwrap());
        let told = lines.join("\n");
        for fact in [
            "check: main",
            "tries: 30",
            "status: 500",
            "  | {\"status\":\"broken\"}",
            "the process exited with status 1",
            "  | pid 7 (node, /srv)",
            "last lines of main:",
            "  | last ·[31mred",
        ] {
            assert!(told.contains(fact), "no `{fact}` in\n{told}");
        }
    }

    #[test]
    fn only_the_last_lines_of_a_long_log_are_shown() {
        let log: Vec<String> = (0..200).map(|line| format!("line {line}")).collect();
        let lines = lines(&serde_json::json!({"logs": {"main": log}}));
        assert_eq!(lines.len(), 1 + LINES_SHOWN);
        assert_eq!(lines.last().map(String::as_str), Some("  | line 199"));
    }
}
