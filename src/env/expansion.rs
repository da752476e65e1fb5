//! `${KEY}` in argument lists and addresses of the recipe. Shell lines are left to the shell.

use std::collections::BTreeMap;

use super::error::EnvError;
use super::key::is_key_char;
use crate::spec::{Check, Command};

enum Part<'a> {
    Text(&'a str),
    Key(&'a str),
}

/// Replaces each `${KEY}` by its value in `env`; `$${` is a literal `${`, any other `$` stands for itself.
/// A key that is not set is an error that names it: an empty argument is never made of a typing mistake.
pub fn expand(text: &str, env: &BTreeMap<String, String>) -> Result<String, EnvError> {
    let mut expanded = String::with_capacity(text.len());
    for part in parts(text)? {
        match part {
            Part::Text(text) => expanded.push_str(text),
            Part::Key(key) => {
                expanded.push_str(env.get(key).ok_or_else(|| EnvError::Unset { key: key.to_owned() })?)
            }
        }
    }
    Ok(expanded)
}

/// The same text for somebody else who expands references: `literal` writes what is none, `reference` a key.
pub fn rewrite(
    text: &str,
    literal: impl Fn(&str) -> String,
    reference: impl Fn(&str) -> String,
) -> Result<String, EnvError> {
    let write = |part| match part {
        Part::Text(text) => literal(text),
        Part::Key(key) => reference(key),
    };
    Ok(parts(text)?.into_iter().map(write).collect())
}

/// [`expand`] on every argument; a shell line stays as it is, since its shell sees the environment.
pub fn expand_command(command: &Command, env: &BTreeMap<String, String>) -> Result<Command, EnvError> {
    match command {
        Command::Run(arguments) => expand_list(arguments, env).map(Command::Run),
        Command::Shell(line) => Ok(Command::Shell(line.clone())),
    }
}

/// [`expand`] on what a health check asks.
pub fn expand_check(check: &Check, env: &BTreeMap<String, String>) -> Result<Check, EnvError> {
    match check {
        Check::Http(url) => expand(url, env).map(Check::Http),
        Check::Tcp(address) => expand(address, env).map(Check::Tcp),
        Check::Run(arguments) => expand_list(arguments, env).map(Check::Run),
    }
}

fn expand_list(list: &[String], env: &BTreeMap<String, String>) -> Result<Vec<String>, EnvError> {
    list.iter().map(|item| expand(item, env)).collect()
}

/// The keys that `text` refers to, in order.
pub fn keys(text: &str) -> Result<Vec<&str>, EnvError> {
    let key = |part| match part {
        Part::Key(key) => Some(key),
        Part::Text(_) => None,
    };
    Ok(parts(text)?.into_iter().filter_map(key).collect())
}

fn parts(text: &str) -> Result<Vec<Part<'_>>, EnvError> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let (before, reference) = (&rest[..start], &rest[start + 2..]);
        if let Some(literal) = before.strip_suffix('$') {
            parts.extend([Part::Text(literal), Part::Text("${")]);
            rest = reference;
            continue;
        }
        let (key, after) =
            reference.split_once('}').ok_or(EnvError::Malformed { why: "`${` without its `}`" })?;
        parts.extend([Part::Text(before), Part::Key(checked(key)?)]);
        rest = after;
    }
    parts.push(Part::Text(rest));
    Ok(parts)
}

fn checked(key: &str) -> Result<&str, EnvError> {
    if key.is_empty() {
        return Err(EnvError::Malformed { why: "`${}` names no key" });
    }
    if !key.chars().all(is_key_char) {
        return Err(EnvError::Malformed { why: "a key holds letters, digits, `_`, `.` and `-` only" });
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env() -> BTreeMap<String, String> {
        [("PORT", "3100"), ("A.B-C", "x"), ("EMPTY", "")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into()
    }

    #[test]
    fn references_are_replaced_and_everything_else_stands() {
        for (text, expanded) in [
            ("http://127.0.0.1:${PORT}/x", "http://127.0.0.1:3100/x"),
            ("${PORT}${PORT}", "31003100"),
            ("[${EMPTY}]", "[]"),
            ("${A.B-C}", "x"),
            ("$PORT $", "$PORT $"),
            ("$${PORT}", "${PORT}"),
            ("}{", "}{"),
        ] {
            assert_eq!(expand(text, &env()).unwrap(), expanded, "{text}");
        }
    }

    #[test]
    fn a_key_that_is_not_set_is_named_and_never_becomes_empty() {
        let error = expand("--port=${PROT}", &env()).unwrap_err();
        assert_eq!(error.to_string(), "`${PROT}` is used but the environment has no `PROT`");
    }

    #[test]
    fn values_are_not_expanded_again() {
        let env = [("A".to_owned(), "${B}".to_owned())].into();
        assert_eq!(expand("${A}", &env).unwrap(), "${B}");
    }

    #[test]
    fn malformed_references_are_refused() {
        for bad in ["${", "${A", "${}", "${A:-b}", "${a b}"] {
            assert!(matches!(keys(bad), Err(EnvError::Malformed { .. })), "{bad}");
        }
    }

    #[test]
    fn a_shell_line_is_left_to_its_shell() {
        let line = Command::Shell("echo ${PROT:-none}".to_owned());
        assert_eq!(expand_command(&line, &env()).unwrap(), line);
    }
}
