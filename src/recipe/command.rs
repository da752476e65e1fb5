//! Commands: argument lists, and shell lines where the recipe says `shell`.

use crate::document::{Problem, Shape, Table, Value};
use crate::env::expansion;
use crate::spec::Command;

/// Arguments of one command: the kernel takes more, a recipe does not.
const ARGUMENTS_MAX: usize = 1_024;

/// `run` or `shell` of a table; neither is `None`.
pub(super) fn optional(table: &Table<'_>) -> Result<Option<Command>, Problem> {
    match (table.get("run"), table.get("shell")) {
        (Some(_), Some(shell)) => Err(shell.invalid("`run` and `shell` exclude each other")),
        (Some(run), None) => arguments(&run).map(|arguments| Some(Command::Run(arguments))),
        (None, Some(shell)) => line(&shell).map(|line| Some(Command::Shell(line))),
        (None, None) => Ok(None),
    }
}

/// `run` or `shell` of a table, one of which must be there.
pub(super) fn required(table: &Table<'_>) -> Result<Command, Problem> {
    match optional(table)? {
        Some(command) => Ok(command),
        None => table.need("run").and_then(|run| arguments(&run)).map(Command::Run),
    }
}

/// An argument list: a program and its arguments, `${KEY}` well formed.
pub(super) fn arguments(value: &Value<'_>) -> Result<Vec<String>, Problem> {
    if let Shape::Text(line) = value.shape() {
        return Err(value
            .invalid("a command is a list of arguments, not a shell line")
            .with_hint(format!("write [{}], or `shell = \"…\"` if it needs a shell", quoted(line))));
    }
    let items = value.list()?;
    if items.is_empty() || items.len() > ARGUMENTS_MAX {
        return Err(value.invalid(format!("a command has 1 to {ARGUMENTS_MAX} arguments")));
    }
    let arguments: Vec<String> = items.iter().map(argument).collect::<Result<_, _>>()?;
    if arguments[0].is_empty() {
        return Err(items[0].invalid("the program's name is empty"));
    }
    Ok(arguments)
}

fn argument(value: &Value<'_>) -> Result<String, Problem> {
    reference(value)?;
    without_nul(value)
}

/// Text whose `${KEY}` references are well formed.
pub(super) fn reference<'a>(value: &Value<'a>) -> Result<&'a str, Problem> {
    let text = value.text()?;
    expansion::keys(text).map_err(|error| value.invalid(error.to_string()))?;
    Ok(text)
}

fn line(value: &Value<'_>) -> Result<String, Problem> {
    if value.text()?.trim().is_empty() {
        return Err(value.invalid("the shell line is empty"));
    }
    without_nul(value)
}

fn without_nul(value: &Value<'_>) -> Result<String, Problem> {
    let text = value.text()?;
    if text.contains('\0') {
        return Err(value.invalid("an argument cannot hold a NUL character"));
    }
    Ok(text.to_owned())
}

fn quoted(line: &str) -> String {
    let words: Vec<String> = line.split_whitespace().map(|word| format!("{word:?}")).collect();
    words.join(", ")
}
