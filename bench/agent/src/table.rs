//! The result, as a table for `docs/benchmarks.md`.

use std::fmt;

/// Rows in the order they were measured; each is also printed when it is known.
#[derive(Debug, Default)]
pub struct Table(Vec<[String; 3]>);

impl Table {
    /// A measure without a limit.
    pub fn note(&mut self, what: &str, value: impl Into<String>) {
        self.push([what.to_owned(), value.into(), "–".to_owned()]);
    }

    /// A measure with one.
    pub fn goal(&mut self, what: &str, value: impl Into<String>, met: bool, goal: &str) {
        let verdict = if met { "met" } else { "**missed**" };
        self.push([what.to_owned(), value.into(), format!("{goal}: {verdict}")]);
    }

    fn push(&mut self, row: [String; 3]) {
        println!("{}", row.join(" | "));
        self.0.push(row);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| measure | figure | goal |\n|---|---|---|")?;
        self.0.iter().try_for_each(|row| writeln!(f, "| {} |", row.join(" | ")))
    }
}
