//! `$KEY`, `${KEY}`, `${KEY:-default}` and `${KEY:+other}` inside env files, as dotenv-expand 12 replaces them.
//!
//! Checked against the real package by `tests/dotenv.rs`. Two differences are meant: an expansion that never
//! ends is an error (the package hangs), and a key whose name contains `null` is a key like any other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use regex::Regex;

use super::error::EnvError;

static REFERENCE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\$\{([^{}]+)\}|\$([A-Za-z_][A-Za-z0-9_]*)").expect("the expression is constant and compiles")
});

static OPERATOR: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r":\+|\+|:-|-").expect("the expression is constant and compiles"));

/// Replacements in one value: real ones need a handful, only endless ones need more.
const REPLACEMENTS_MAX: usize = 1_000;
/// Bytes one value may grow to: an environment string is at most 128 KiB on Linux.
const VALUE_BYTES_MAX: usize = 128 << 10;

/// Expands the values of `keys` in place, one after the other, each seeing the results of those before it.
/// A key of `keys` that `env` lacks is passed over.
pub fn expand(keys: &[String], env: &mut BTreeMap<String, String>) -> Result<(), EnvError> {
    let mut done: BTreeSet<&str> = BTreeSet::new();
    for key in keys {
        if let Some(value) = env.get(key) {
            let expanded = expand_value(key, value, env, &done)?;
            env.insert(key.clone(), expanded);
            done.insert(key);
        }
    }
    Ok(())
}

fn expand_value(
    key: &str,
    value: &str,
    env: &BTreeMap<String, String>,
    done: &BTreeSet<&str>,
) -> Result<String, EnvError> {
    let endless = || EnvError::EndlessExpansion { key: key.to_owned() };
    let mut seen: Vec<String> = Vec::new();
    let mut result = value.to_owned();
    while let Some((template, expression)) = next_reference(&result) {
        seen.push(result.clone());
        let replacement = replacement(&expression, env, &seen);
        result = replace_first(&result, &template, &replacement);
        if seen.len() > REPLACEMENTS_MAX || result.len() > VALUE_BYTES_MAX {
            return Err(endless());
        }
        // A result that is another key's finished value is not looked into again.
        let subject = subject(&expression);
        if done.contains(subject) && env.get(subject).is_some_and(|known| *known == result) {
            break;
        }
    }
    Ok(result.replace("\\$", "$"))
}

/// The first reference whose `$` is not escaped: the whole of it, and what stands inside.
fn next_reference(text: &str) -> Option<(String, String)> {
    let mut from = 0;
    while let Some(found) = REFERENCE.captures_at(text, from) {
        let whole = found.get(0)?;
        if !text[..whole.start()].ends_with('\\') {
            let inner = found.get(1).or_else(|| found.get(2))?;
            return Some((whole.as_str().to_owned(), inner.as_str().to_owned()));
        }
        from = whole.start() + 1;
    }
    None
}

fn subject(expression: &str) -> &str {
    OPERATOR.find(expression).map_or(expression, |operator| &expression[..operator.start()])
}

fn replacement(expression: &str, env: &BTreeMap<String, String>, seen: &[String]) -> String {
    let set = |key: &str| env.get(key).filter(|value| !value.is_empty());
    let Some(operator) = OPERATOR.find(expression) else {
        return set(expression).filter(|value| !seen.contains(value)).cloned().unwrap_or_default();
    };
    let (key, other) = (&expression[..operator.start()], &expression[operator.end()..]);
    match (operator.as_str(), set(key)) {
        (":+" | "+", Some(_)) => other.to_owned(),
        (":+" | "+", None) => String::new(),
        (_, Some(value)) if !seen.contains(value) => value.clone(),
        _ => other.to_owned(),
    }
}

/// JavaScript's `text.replace(template, replacement)` with strings: the first occurrence, wherever it is, and
/// `$$`, `$&`, `` $` `` and `$'` in the replacement are patterns of their own.
fn replace_first(text: &str, template: &str, replacement: &str) -> String {
    let Some(at) = text.find(template) else {
        return text.to_owned();
    };
    let (before, after) = (&text[..at], &text[at + template.len()..]);
    let mut result = before.to_owned();
    let mut rest = replacement;
    while let Some(dollar) = rest.find('$') {
        result.push_str(&rest[..dollar]);
        let inserted = match rest[dollar + 1..].chars().next() {
            Some('$') => Some("$"),
            Some('&') => Some(template),
            Some('`') => Some(before),
            Some('\'') => Some(after),
            _ => None,
        };
        result.push_str(inserted.unwrap_or("$"));
        rest = &rest[dollar + 1 + usize::from(inserted.is_some())..];
    }
    result + rest + after
}
