//! TOML into nodes.

use std::ops::Range;
use std::path::Path;

use ::toml::Spanned;
use ::toml::de::{DeTable, DeValue};

use super::node::{Entry, Node, Shape};
use super::problem::{Problem, ProblemKind};

/// Parses TOML. The root is always a table.
pub fn parse_toml(text: &str, file: &Path) -> Result<Node, Problem> {
    let table = DeTable::parse(text).map_err(|error| syntax(&error, text, file))?;
    let span = table.span();
    Ok(table_node(table.into_inner(), span))
}

fn syntax(error: &::toml::de::Error, text: &str, file: &Path) -> Problem {
    let offset = error.span().map_or(0, |span| span.start);
    let kind =
        if error.message().contains("duplicate key") { ProblemKind::Duplicate } else { ProblemKind::Syntax };
    Problem::new(kind, file, text, offset, "", error.message().to_owned())
}

fn table_node(table: DeTable<'_>, span: Range<usize>) -> Node {
    let mut entries: Vec<Entry> = table
        .into_iter()
        .map(|(key, value)| Entry {
            span: key.span(),
            key: key.into_inner().into_owned(),
            value: node(value),
        })
        .collect();
    entries.sort_by_key(|entry| entry.span.start);
    Node { shape: Shape::Table(entries), span }
}

fn node(value: Spanned<DeValue<'_>>) -> Node {
    let span = value.span();
    let shape = match value.into_inner() {
        DeValue::String(text) => Shape::Text(text.into_owned()),
        DeValue::Integer(digits) => integer(digits.as_str(), digits.radix()),
        DeValue::Float(float) => Shape::Number(float.as_str().to_owned()),
        DeValue::Boolean(value) => Shape::Boolean(value),
        DeValue::Datetime(date) => Shape::Date(date.to_string()),
        DeValue::Array(items) => Shape::List(items.into_iter().map(node).collect()),
        DeValue::Table(table) => return table_node(table, span),
    };
    Node { shape, span }
}

fn integer(digits: &str, radix: u32) -> Shape {
    i64::from_str_radix(digits, radix).map_or_else(|_| Shape::Number(digits.to_owned()), Shape::Integer)
}
