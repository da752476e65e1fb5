//! The only place that prints. Data goes to stdout, talk and errors to stderr.

use std::io::{IsTerminal, Write};

use serde::Serialize;
use serde_json::{Value, json};

use super::error::CliError;

/// The `apiVersion` of everything in JSON.
pub const API_VERSION: &str = "landfall/v1";

/// How data is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// One JSON document.
    Json,
    /// One JSON document a line.
    Ndjson,
}

/// What a colour means. Text says the same without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Good,
    /// On its way, or different on purpose.
    Changing,
    /// Needs a person.
    Bad,
    /// Less important.
    Quiet,
    /// A heading.
    Strong,
}

/// Signs that say at a glance what a colour says, and a word beside them says too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marks {
    /// As it should be.
    pub good: &'static str,
    /// On its way.
    pub moving: &'static str,
    /// Worth a look.
    pub look: &'static str,
    /// Needs a person.
    pub bad: &'static str,
    /// Stopped on purpose.
    pub paused: &'static str,
    /// Nobody can tell.
    pub unknown: &'static str,
}

/// Where and how to print.
#[derive(Debug, Clone, Copy)]
pub struct Report {
    format: Format,
    quiet: bool,
    colour_out: bool,
    colour_err: bool,
    unicode: bool,
    width: usize,
}

/// Columns where nobody says how many there are.
const WIDTH: usize = 80;
/// Below this a table cannot be read; above this a sentence cannot.
const WIDTHS: std::ops::RangeInclusive<usize> = 40..=160;

impl Report {
    /// A report in this format; `quiet` drops talk, never data or errors.
    pub fn new(format: Format, quiet: bool) -> Self {
        let allowed = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self {
            format,
            quiet,
            colour_out: allowed && std::io::stdout().is_terminal(),
            colour_err: allowed && std::io::stderr().is_terminal(),
            unicode: is_utf8(),
            width: terminal_width().map_or(WIDTH, |width| width.clamp(*WIDTHS.start(), *WIDTHS.end())),
        }
    }

    /// The same as wide as the terminal is now.
    #[must_use]
    pub fn resized(self) -> Self {
        Self { width: Self::new(self.format, self.quiet).width, ..self }
    }

    /// A report without colours, whatever the tests run in.
    #[cfg(test)]
    pub const fn plain() -> Self {
        Self {
            format: Format::Table,
            quiet: false,
            colour_out: false,
            colour_err: false,
            unicode: true,
            width: WIDTH,
        }
    }

    /// The same with another number of columns.
    #[cfg(test)]
    pub const fn wide(self, width: usize) -> Self {
        Self { width, ..self }
    }

    /// The format asked for.
    pub const fn format(&self) -> Format {
        self.format
    }

    /// Columns that a line may take: the terminal's, or 80.
    pub const fn width(&self) -> usize {
        self.width
    }

    /// Signs that this terminal can show.
    pub const fn marks(&self) -> Marks {
        if self.unicode {
            Marks { good: "✓", moving: "↻", look: "!", bad: "✗", paused: "‖", unknown: "?" }
        } else {
            Marks { good: "+", moving: "~", look: "!", bad: "x", paused: "=", unknown: "?" }
        }
    }

    /// Whether talk is dropped.
    pub const fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Whether a person watches stderr, so that progress is worth showing.
    pub fn is_interactive(&self) -> bool {
        !self.quiet && std::io::stderr().is_terminal()
    }

    /// Data: one line on stdout. A reader that went away is not an error.
    pub fn line(&self, text: impl AsRef<str>) {
        drop(writeln!(std::io::stdout().lock(), "{}", text.as_ref()));
    }

    /// Data as it is, without a newline of its own.
    pub fn raw(&self, bytes: &[u8]) {
        let mut out = std::io::stdout().lock();
        drop(out.write_all(bytes).and_then(|()| out.flush()));
    }

    /// Data as it comes: an error says that nobody reads it any more.
    pub fn stream(&self, bytes: &[u8]) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        out.write_all(bytes).and_then(|()| out.flush())
    }

    /// Talk: one line on stderr.
    pub fn say(&self, text: impl AsRef<str>) {
        if !self.quiet {
            drop(writeln!(std::io::stderr().lock(), "{}", text.as_ref()));
        }
    }

    /// The same with something beside the items in the envelope; a line of ndjson is an item all the same.
    pub fn items_beside<T: Serialize, B: Serialize>(
        &self,
        kind: &str,
        items: &[T],
        (key, beside): (&str, &[B]),
        table: impl FnOnce(&Self),
    ) {
        if self.format == Format::Json {
            let mut envelope = json!({"apiVersion": API_VERSION, "kind": kind, "items": items});
            envelope[key] = json!(beside);
            return self.json(&envelope);
        }
        self.items(kind, items, table);
    }

    /// Items of one kind: a table for people, an envelope for machines.
    pub fn items<T: Serialize>(&self, kind: &str, items: &[T], table: impl FnOnce(&Self)) {
        match self.format {
            Format::Table => table(self),
            Format::Json => self.json(&json!({"apiVersion": API_VERSION, "kind": kind, "items": items})),
            Format::Ndjson => {
                for item in items {
                    self.line(serde_json::to_string(item).expect("items hold only what JSON can say"));
                }
            }
        }
    }

    /// One JSON document.
    pub fn json(&self, value: &Value) {
        match self.format {
            Format::Ndjson => self.line(value.to_string()),
            Format::Json | Format::Table => self.line(format!("{value:#}")),
        }
    }

    /// An error, with its hint on a line of its own.
    pub fn error(&self, error: &CliError) {
        if self.format == Format::Table {
            let word = paint("error", Tone::Bad, self.colour_err);
            drop(writeln!(std::io::stderr().lock(), "{word}: {}", error.message));
            if let Some(hint) = &error.hint {
                let word = paint("hint", Tone::Changing, self.colour_err);
                drop(writeln!(std::io::stderr().lock(), "{word}: {hint}"));
            }
        } else {
            self.json(&error.to_json());
        }
    }

    /// Text in a colour, if stdout shows colours.
    pub fn tone(&self, text: &str, tone: Tone) -> String {
        paint(text, tone, self.colour_out)
    }

    /// Text in a colour, if stderr shows colours.
    pub fn tone_err(&self, text: &str, tone: Tone) -> String {
        paint(text, tone, self.colour_err)
    }
}

/// What the locale says, as every program of the system reads it: the first of these that is set.
fn is_utf8() -> bool {
    let set = |key: &str| std::env::var(key).ok().filter(|value| !value.is_empty());
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set).unwrap_or_default().to_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

fn terminal_width() -> Option<usize> {
    console::Term::stdout()
        .size_checked()
        .map(|(_, columns)| usize::from(columns))
        .filter(|columns| *columns > 0)
}

fn paint(text: &str, tone: Tone, colour: bool) -> String {
    if !colour {
        return text.to_owned();
    }
    let code = match tone {
        Tone::Good => "32",
        Tone::Changing => "33",
        Tone::Bad => "31",
        Tone::Quiet => "2",
        Tone::Strong => "1",
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// Lines up columns: every column as wide as its widest cell, two spaces between, the last one free.
pub fn columns(rows: &[Vec<String>]) -> Vec<String> {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| visible_width(cell)).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    rows.iter()
        .map(|row| {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                line.push_str(cell);
                if column + 1 < row.len() {
                    line.push_str(&" ".repeat(widths[column] + 2 - visible_width(cell)));
                }
            }
            line.trim_end().to_owned()
        })
        .collect()
}

/// Characters a terminal shows, colour codes left out.
fn visible_width(cell: &str) -> usize {
    let mut width = 0;
    let mut escape = false;
    for char in cell.chars() {
        match (escape, char) {
            (false, '\x1b') => escape = true,
            (false, _) => width += 1,
            (true, 'm') => escape = false,
            (true, _) => {}
        }
    }
    width
}

/// `1.8 MB`: three digits at most, powers of 1000.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 || value >= 99.95 {
        format!("{value:.0} {}", UNITS[unit])
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// `85ms`, `3.2s`, `4m10s`, `2h5m`, `3d4h`: the two largest units.
pub fn span(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0 => format!("{ms}ms"),
        1..=59 => format!("{}.{}s", seconds, ms % 1000 / 100),
        60..=3599 => format!("{}m{}s", seconds / 60, seconds % 60),
        3600..=86_399 => format!("{}h{}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_whatever_their_colour() {
        let rows = vec![
            vec!["APP".to_owned(), "HEALTH".to_owned(), "MESSAGE".to_owned()],
            vec!["web".to_owned(), paint("Healthy", Tone::Good, true), "ok".to_owned()],
        ];
        let lines = columns(&rows);
        assert_eq!(lines[0], "APP  HEALTH   MESSAGE");
        assert_eq!(lines[1], "web  \x1b[32mHealthy\x1b[0m  ok");
    }

    #[test]
    fn sizes_and_spans_are_short() {
        assert_eq!(
            [bytes(0), bytes(999), bytes(1000), bytes(1_811_738), bytes(85_500_000)],
            ["0 B", "999 B", "1.0 kB", "1.8 MB", "85.5 MB"]
        );
        assert_eq!(
            [span(85), span(3_249), span(250_000), span(7_500_000)],
            ["85ms", "3.2s", "4m10s", "2h5m"]
        );
    }
}
