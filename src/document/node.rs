//! A parsed document with byte spans, whatever its notation was.

use std::ops::Range;

/// A value and where it stands in the text.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// What it is.
    pub shape: Shape,
    /// Its bytes in the text.
    pub span: Range<usize>,
}

/// The shapes TOML and JSON share.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// A string.
    Text(String),
    /// A whole number that fits 64 bits.
    Integer(i64),
    /// Any other number, as written; no key of landfall takes one.
    Number(String),
    /// `true` or `false`.
    Boolean(bool),
    /// JSON's `null`.
    Null,
    /// TOML's date or time, as written; no key of landfall takes one.
    Date(String),
    /// A list.
    List(Vec<Node>),
    /// A table (TOML) or object (JSON); keys are unique.
    Table(Vec<Entry>),
}

/// A key, where it stands, and its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The key's bytes in the text.
    pub span: Range<usize>,
    /// The value.
    pub value: Node,
}

impl Node {
    /// The entries of a table; of anything else, none.
    pub fn entries(&self) -> &[Entry] {
        match &self.shape {
            Shape::Table(entries) => entries,
            _ => &[],
        }
    }

    /// The value at `key` of a table.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }
}

impl Shape {
    /// What people call this shape.
    pub const fn noun(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Integer(_) => "a whole number",
            Self::Number(_) => "a number with a fraction or out of range",
            Self::Boolean(_) => "a boolean",
            Self::Null => "null",
            Self::Date(_) => "a date",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}
