//! JSON into nodes: strict, with duplicate keys refused.

use std::path::Path;

use jsonc_parser::ast;
use jsonc_parser::common::Ranged;
use jsonc_parser::{CollectOptions, ParseOptions};
use serde::de::IgnoredAny;

use super::node::{Entry, Node, Shape};
use super::problem::{Problem, ProblemKind};
use super::reader::Notation;

/// JSON and nothing more: no comments, no trailing commas, no other dialect.
pub const STRICT: ParseOptions = ParseOptions {
    allow_comments: false,
    allow_loose_object_property_names: false,
    allow_trailing_commas: false,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

/// Parses strict JSON; the same key twice in one object is an error.
pub fn parse_json(text: &str, file: &Path) -> Result<Node, Problem> {
    // serde_json judges the syntax: it is strict to the letter and bounds the depth, so that the parser with
    // the spans, which recurses, only ever sees documents of bounded depth.
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| syntax(&error, text, file))?;
    let parsed = jsonc_parser::parse_to_ast(text, &CollectOptions::default(), &STRICT).map_err(|error| {
        let offset = error.range().start;
        Problem::new(ProblemKind::Syntax, file, text, offset, "", error.kind().to_string())
    })?;
    let value = parsed
        .value
        .ok_or_else(|| Problem::new(ProblemKind::Syntax, file, text, 0, "", "the file is empty"))?;
    Reading { text, file }.node(&value, "")
}

fn syntax(error: &serde_json::Error, text: &str, file: &Path) -> Problem {
    let line_start: usize =
        text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    let offset = line_start + error.column().saturating_sub(1);
    let message = error.to_string();
    let what = message.split(" at line ").next().unwrap_or(&message);
    Problem::new(ProblemKind::Syntax, file, text, offset, "", format!("not JSON: {what}"))
}

struct Reading<'a> {
    text: &'a str,
    file: &'a Path,
}

impl Reading<'_> {
    fn node(&self, value: &ast::Value<'_>, at: &str) -> Result<Node, Problem> {
        let range = value.range();
        let shape = match value {
            ast::Value::StringLit(text) => Shape::Text(text.value.clone().into_owned()),
            ast::Value::NumberLit(number) => {
                number.value.parse().map_or_else(|_| Shape::Number(number.value.to_owned()), Shape::Integer)
            }
            ast::Value::BooleanLit(boolean) => Shape::Boolean(boolean.value),
            ast::Value::NullKeyword(_) => Shape::Null,
            ast::Value::Array(array) => self.list(array, at)?,
            ast::Value::Object(object) => self.table(object, at)?,
        };
        Ok(Node { shape, span: range.start..range.end })
    }

    fn list(&self, array: &ast::Array<'_>, at: &str) -> Result<Shape, Problem> {
        array
            .elements
            .iter()
            .enumerate()
            .map(|(index, item)| self.node(item, &Notation::Json.index(at, index)))
            .collect::<Result<_, _>>()
            .map(Shape::List)
    }

    fn table(&self, object: &ast::Object<'_>, at: &str) -> Result<Shape, Problem> {
        let mut seen = std::collections::BTreeSet::new();
        let mut entries = Vec::with_capacity(object.properties.len());
        for property in &object.properties {
            let key = property.name.as_str();
            let (span, at) = (property.name.range(), Notation::Json.key(at, key));
            if !seen.insert(key) {
                return Err(self.duplicate(span.start, &at, key));
            }
            entries.push(Entry {
                key: key.to_owned(),
                span: span.start..span.end,
                value: self.node(&property.value, &at)?,
            });
        }
        Ok(Shape::Table(entries))
    }

    fn duplicate(&self, offset: usize, at: &str, key: &str) -> Problem {
        let what = format!("the key `{key}` stands here a second time");
        Problem::new(ProblemKind::Duplicate, self.file, self.text, offset, at, what)
            .with_hint("remove one of the two: readers of JSON disagree on which one counts")
    }
}
