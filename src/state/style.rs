//! How a JSON file is written: its indent, its line ends, its spaces.

use super::splice::{Fresh, quoted};
use crate::document::Node;

/// The way new text is written into a file.
#[derive(Debug, Clone)]
pub struct Style {
    /// The file's line end.
    pub newline: &'static str,
    unit: String,
    /// Present: everything on one line, with these spaces.
    inline: Option<Inline>,
}

#[derive(Debug, Clone)]
struct Inline {
    colon: String,
    pad: String,
    gap: String,
}

impl Default for Style {
    fn default() -> Self {
        Self { newline: "\n", unit: "  ".to_owned(), inline: None }
    }
}

impl Style {
    /// The style of a file: the indent of the root's first property is its unit.
    pub fn of(text: &str, root: &Node) -> Self {
        let newline = if text.contains("\r\n") { "\r\n" } else { "\n" };
        let unit = root.entries().first().and_then(|first| {
            let before = &text[..first.span.start];
            let line = &before[before.rfind('\n')? + 1..];
            let blank = !line.is_empty() && line.trim_matches([' ', '\t']).is_empty();
            blank.then(|| line.to_owned())
        });
        Self { newline, unit: unit.unwrap_or_else(|| "  ".to_owned()), inline: None }
    }

    /// Everything on one line, with the spaces of a neighbour. A gap with a line end in it (commas first)
    /// is used between properties of the neighbour's own object only.
    pub fn inline(colon: &str, pad: &str, gap: &str) -> Self {
        let blank = |text: &str| !text.contains(['\n', '\r']);
        let keep = |text: &str, other: &str| if blank(text) { text } else { other }.to_owned();
        let inline = Inline { colon: keep(colon, ": "), pad: keep(pad, " "), gap: keep(gap, ", ") };
        Self { inline: Some(inline), ..Self::default() }
    }

    /// `"key": value` for a line that begins with `indent`.
    pub fn property(&self, key: &str, value: &Fresh, indent: &str) -> String {
        let colon = self.inline.as_ref().map_or(": ", |inline| inline.colon.as_str());
        format!("{}{colon}{}", quoted(key), self.render(value, indent))
    }

    /// A value that stands on a line beginning with `indent`.
    pub fn render(&self, value: &Fresh, indent: &str) -> String {
        match value {
            Fresh::Text(text) => quoted(text),
            Fresh::Table(entries) => self.table(entries, indent),
        }
    }

    fn table(&self, entries: &[(String, Fresh)], indent: &str) -> String {
        let inner = format!("{indent}{}", self.unit);
        let properties: Vec<String> =
            entries.iter().map(|(key, value)| self.property(key, value, &inner)).collect();
        match &self.inline {
            Some(Inline { pad, gap, .. }) => format!("{{{pad}{}{pad}}}", properties.join(gap)),
            None => {
                let line = format!("{}{inner}", self.newline);
                let body = properties.join(&format!(",{line}"));
                format!("{{{line}{body}{}{indent}}}", self.newline)
            }
        }
    }
}
