//! Typed access to a document: every refusal knows its place.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::Path;
use std::str::FromStr;

use super::nearest::nearest;
use super::node::{Entry, Node, Shape};
use super::problem::{Problem, ProblemKind};
use super::units;
use crate::spec::Millis;

/// How keys are written down in messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notation {
    /// `start.stop.signal`, `layer[0].name`.
    Toml,
    /// RFC 6901: `/apps/web/environments/prod`.
    Json,
}

impl Notation {
    /// The place of `key` in the table at `at`.
    pub fn key(self, at: &str, key: &str) -> String {
        match self {
            Self::Toml if at.is_empty() => key.to_owned(),
            Self::Toml => format!("{at}.{key}"),
            Self::Json => format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")),
        }
    }

    /// The place of item `index` of the list at `at`.
    pub fn index(self, at: &str, index: usize) -> String {
        match self {
            Self::Toml => format!("{at}[{index}]"),
            Self::Json => format!("{at}/{index}"),
        }
    }
}

/// The text that a tree of nodes was parsed from.
#[derive(Debug, Clone, Copy)]
pub struct Document<'a> {
    /// The file it came from, for messages.
    pub file: &'a Path,
    /// The whole text.
    pub text: &'a str,
    /// Whether keys are shown as TOML's or JSON's.
    pub notation: Notation,
}

impl<'a> Document<'a> {
    /// The root of the tree.
    pub fn root(self, node: &'a Node) -> Value<'a> {
        Value { document: self, at: String::new(), node }
    }
}

/// A value in its place.
#[derive(Debug, Clone)]
pub struct Value<'a> {
    document: Document<'a>,
    at: String,
    node: &'a Node,
}

impl<'a> Value<'a> {
    /// A problem of this kind at this value.
    pub fn problem(&self, kind: ProblemKind, what: impl Into<String>) -> Problem {
        let Document { file, text, .. } = self.document;
        Problem::new(kind, file, text, self.node.span.start, &self.at, what)
    }

    /// Refuses this value.
    pub fn invalid(&self, what: impl Into<String>) -> Problem {
        self.problem(ProblemKind::Invalid, what)
    }

    /// The key this value stands at.
    pub fn at(&self) -> &str {
        &self.at
    }

    /// What it is.
    pub fn shape(&self) -> &'a Shape {
        &self.node.shape
    }

    fn wrong(&self, needed: &str) -> Problem {
        let found = self.node.shape.noun();
        self.problem(ProblemKind::WrongShape, format!("{needed} is needed, {found} was found"))
    }

    /// The text of a string.
    pub fn text(&self) -> Result<&'a str, Problem> {
        match &self.node.shape {
            Shape::Text(text) => Ok(text),
            _ => Err(self.wrong("a string")),
        }
    }

    /// A boolean.
    pub fn boolean(&self) -> Result<bool, Problem> {
        match self.node.shape {
            Shape::Boolean(value) => Ok(value),
            _ => Err(self.wrong("`true` or `false`")),
        }
    }

    /// A whole number from `least` to `most`.
    pub fn integer(&self, least: u64, most: u64) -> Result<u64, Problem> {
        match self.node.shape {
            Shape::Integer(value) => u64::try_from(value)
                .ok()
                .filter(|value| (least..=most).contains(value))
                .ok_or_else(|| self.invalid(format!("{value} is not from {least} to {most}"))),
            _ => Err(self.wrong("a whole number")),
        }
    }

    /// A whole number from `least` to `most`, in 32 bits.
    pub fn count(&self, least: u32, most: u32) -> Result<u32, Problem> {
        let value = self.integer(least.into(), most.into())?;
        u32::try_from(value).map_err(|error| self.invalid(error.to_string()))
    }

    /// A string that is something: a name, a version, an id.
    pub fn parse<T: FromStr<Err: Display>>(&self) -> Result<T, Problem> {
        self.text()?.parse().map_err(|error: T::Err| self.invalid(error.to_string()))
    }

    /// A duration such as `2s`, more than zero.
    pub fn duration(&self) -> Result<Millis, Problem> {
        let span = units::duration(self.text()?).map_err(|error| self.invalid(error.to_string()))?;
        if span.0 == 0 {
            return Err(self.invalid("zero is no duration"));
        }
        Ok(span)
    }

    /// A size such as `64KiB` in bytes, more than zero.
    pub fn size(&self) -> Result<u64, Problem> {
        let bytes = units::size(self.text()?).map_err(|error| self.invalid(error.to_string()))?;
        if bytes == 0 {
            return Err(self.invalid("zero is no size"));
        }
        Ok(bytes)
    }

    /// The items of a list.
    pub fn list(&self) -> Result<Vec<Self>, Problem> {
        let Shape::List(items) = &self.node.shape else {
            return Err(self.wrong("a list"));
        };
        let item = |(index, node)| Self {
            document: self.document,
            at: self.document.notation.index(&self.at, index),
            node,
        };
        Ok(items.iter().enumerate().map(item).collect())
    }

    /// A list whose items all pass `read`, none of them twice.
    pub fn set<T: Ord + Clone>(&self, read: impl Fn(&Self) -> Result<T, Problem>) -> Result<Vec<T>, Problem> {
        let mut seen = BTreeSet::new();
        let mut items = Vec::new();
        for value in self.list()? {
            let item = read(&value)?;
            if !seen.insert(item.clone()) {
                return Err(value.problem(ProblemKind::Duplicate, "stands in this list twice"));
            }
            items.push(item);
        }
        Ok(items)
    }

    /// One table, or a list of tables.
    pub fn one_or_many(&self) -> Result<Vec<Self>, Problem> {
        match &self.node.shape {
            Shape::Table(_) => Ok(vec![self.clone()]),
            Shape::List(_) => self.list(),
            _ => Err(self.wrong("a table or an array of tables")),
        }
    }

    /// A table whose keys are free: names of apps, keys of an environment.
    pub fn map(&self) -> Result<Table<'a>, Problem> {
        match &self.node.shape {
            Shape::Table(entries) => Ok(Table { value: self.clone(), entries }),
            _ => Err(self.wrong("a table")),
        }
    }

    /// A table with these keys and no others, except those that begin with `x-`.
    pub fn table(&self, known: &[&str]) -> Result<Table<'a>, Problem> {
        let table = self.map()?;
        match table.entries.iter().find(|entry| !is_known(&entry.key, known)) {
            Some(entry) => Err(table.unknown(entry, known)),
            None => Ok(table),
        }
    }
}

fn is_known(key: &str, known: &[&str]) -> bool {
    known.contains(&key) || key.starts_with("x-")
}

/// A table in its place.
#[derive(Debug, Clone)]
pub struct Table<'a> {
    value: Value<'a>,
    entries: &'a [Entry],
}

impl<'a> Table<'a> {
    fn unknown(&self, entry: &Entry, known: &[&str]) -> Problem {
        let Document { file, text, notation } = self.value.document;
        let at = notation.key(&self.value.at, &entry.key);
        let what = format!("unknown key `{}`", entry.key);
        let hint = nearest(&entry.key, known.iter().copied()).map_or_else(
            || format!("known here: {}", known.join(", ")),
            |near| format!("did you mean `{near}`?"),
        );
        Problem::new(ProblemKind::UnknownKey, file, text, entry.span.start, &at, what).with_hint(hint)
    }

    /// The value at `key`, if it is there.
    pub fn get(&self, key: &str) -> Option<Value<'a>> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| self.enter(entry))
    }

    /// The value at `key`, which must be there.
    pub fn need(&self, key: &str) -> Result<Value<'a>, Problem> {
        self.get(key)
            .ok_or_else(|| self.value.problem(ProblemKind::Missing, format!("the key `{key}` is missing")))
    }

    /// Reads the value at `key`, if it is there.
    pub fn read<T>(
        &self,
        key: &str,
        read: impl FnOnce(&Value<'a>) -> Result<T, Problem>,
    ) -> Result<Option<T>, Problem> {
        self.get(key).as_ref().map(read).transpose()
    }

    /// Every key with its value, in the order they stand in the file.
    pub fn entries(&self) -> impl Iterator<Item = (&'a str, Value<'a>)> + '_ {
        self.entries.iter().map(|entry| (entry.key.as_str(), self.enter(entry)))
    }

    /// The table itself as a value, for problems that concern all of it.
    pub fn value(&self) -> &Value<'a> {
        &self.value
    }

    fn enter(&self, entry: &'a Entry) -> Value<'a> {
        let document = self.value.document;
        Value { document, at: document.notation.key(&self.value.at, &entry.key), node: &entry.value }
    }
}
