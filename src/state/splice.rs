//! Surgery on JSON text: one property set, inserted or removed, and no other byte touched.

use std::ops::Range;

use super::style::Style;
use crate::document::{Entry, Node, Shape};

/// A value that is not in the text yet.
#[derive(Debug, Clone)]
pub enum Fresh {
    /// A string.
    Text(String),
    /// An object.
    Table(Vec<(String, Fresh)>),
}

impl Fresh {
    /// As a document of its own.
    pub fn to_text(&self) -> String {
        Style::default().render(self, "")
    }
}

/// A text, its parse, and the way it is written.
pub struct Splice<'a> {
    text: &'a str,
    style: Style,
}

impl<'a> Splice<'a> {
    /// `root` is the parse of `text`.
    pub fn new(text: &'a str, root: &Node) -> Self {
        Self { text, style: Style::of(text, root) }
    }

    /// The text with `key` of `table` being `value`; with `None`, the text without `key`.
    pub fn set(&self, table: &Node, key: &str, value: Option<&str>) -> String {
        let entries = table.entries();
        let found = entries.iter().position(|entry| entry.key == key);
        match (found, value) {
            (Some(at), Some(value)) => self.replace(&entries[at].value, value),
            (Some(at), None) => self.cut(removal(entries, at)),
            (None, Some(value)) => self.insert(table, key, &Fresh::Text(value.to_owned())),
            (None, None) => self.text.to_owned(),
        }
    }

    /// The text with a new property at the end of `table`; as it is if `table` is not one.
    pub fn insert(&self, table: &Node, key: &str, value: &Fresh) -> String {
        if !matches!(table.shape, Shape::Table(_)) {
            return self.text.to_owned();
        }
        match table.entries() {
            [] => self.fill(&table.span, key, value),
            [.., last] if self.on_its_own_line(last) => self.append_line(last, key, value),
            entries => self.append_inline(&table.span, entries, key, value),
        }
    }

    fn replace(&self, node: &Node, value: &str) -> String {
        if node.shape == Shape::Text(value.to_owned()) {
            return self.text.to_owned();
        }
        self.put(node.span.clone(), &quoted(value))
    }

    /// An empty object: what was between its braces was white space.
    fn fill(&self, span: &Range<usize>, key: &str, value: &Fresh) -> String {
        let table = Fresh::Table(vec![(key.to_owned(), value.clone())]);
        self.put(span.clone(), &self.style.render(&table, self.indent_at(span.start)))
    }

    fn append_line(&self, last: &Entry, key: &str, value: &Fresh) -> String {
        let indent = self.indent_at(last.span.start);
        let property = self.style.property(key, value, indent);
        let end = last.value.span.end;
        self.put(end..end, &format!(",{}{indent}{property}", self.style.newline))
    }

    /// Written as its neighbours are: with their spaces, on their line.
    fn append_inline(&self, span: &Range<usize>, entries: &[Entry], key: &str, value: &Fresh) -> String {
        let [.., last] = entries else {
            return self.text.to_owned();
        };
        let colon = &self.text[last.span.end..last.value.span.start];
        let gap = match entries {
            [.., before, last] => &self.text[before.value.span.end..last.span.start],
            _ if colon.ends_with(' ') => ", ",
            _ => ",",
        };
        let pad = &self.text[span.start + 1..entries[0].span.start];
        let style = Style::inline(colon, pad, gap);
        let end = last.value.span.end;
        self.put(end..end, &format!("{gap}{}", style.property(key, value, "")))
    }

    /// Nothing but white space before it on its line.
    fn on_its_own_line(&self, entry: &Entry) -> bool {
        let before = &self.text[..entry.span.start];
        before.trim_end_matches([' ', '\t']).ends_with('\n')
    }

    /// The white space that the line of byte `at` begins with.
    fn indent_at(&self, at: usize) -> &'a str {
        let start = self.text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let line = &self.text[start..at];
        &line[..line.len() - line.trim_start_matches([' ', '\t']).len()]
    }

    fn cut(&self, range: Range<usize>) -> String {
        self.put(range, "")
    }

    fn put(&self, range: Range<usize>, text: &str) -> String {
        [&self.text[..range.start], text, &self.text[range.end..]].concat()
    }
}

/// A property with the comma that goes with it: the one after it, or before it if it is the last.
fn removal(entries: &[Entry], at: usize) -> Range<usize> {
    let entry = &entries[at];
    match (entries.get(at + 1), at.checked_sub(1)) {
        (Some(next), _) => entry.span.start..next.span.start,
        (None, Some(before)) => entries[before].value.span.end..entry.value.span.end,
        (None, None) => entry.span.start..entry.value.span.end,
    }
}

/// `text` as a JSON string.
pub fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
