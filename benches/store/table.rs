//! The result, as a table for `docs/benchmarks.md`.

use std::fmt;
use std::time::Duration;

use super::sample::Samples;

/// Rows in the order they were measured.
#[derive(Debug, Default)]
pub struct Table(Vec<[String; 5]>);

impl Table {
    /// A measure whose ratio `ours / peer` should be at most `goal`.
    pub fn against(&mut self, what: &str, ours: &Samples, peer: (&str, &Samples), goal: f64) {
        let ratio = ours.median().as_secs_f64() / peer.1.median().as_secs_f64();
        self.ratio(what, time(ours), format!("{}: {}", peer.0, time(peer.1)), ratio, goal);
    }

    /// The same for sizes.
    pub fn bytes(&mut self, what: &str, ours: u64, peer: (&str, u64), goal: f64) {
        let ratio = ours as f64 / peer.1 as f64;
        self.ratio(what, size(ours), format!("{}: {}", peer.0, size(peer.1)), ratio, goal);
    }

    fn ratio(&mut self, what: &str, ours: String, peer: String, ratio: f64, goal: f64) {
        let verdict = if ratio <= goal { "met" } else { "**missed**" };
        self.push([what.to_owned(), ours, peer, format!("{ratio:.3}"), format!("≤ {goal:.3}: {verdict}")]);
    }

    /// A measure with a limit of its own and no peer.
    pub fn below(&mut self, what: &str, ours: String, met: bool, goal: &str) {
        let verdict = if met { "met" } else { "**missed**" };
        self.push([what.to_owned(), ours, "–".to_owned(), "–".to_owned(), format!("{goal}: {verdict}")]);
    }

    fn push(&mut self, row: [String; 5]) {
        println!("{}", row.join(" | "));
        self.0.push(row);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| measure | landfall | peer | ratio | goal |\n|---|---|---|---|---|")?;
        self.0.iter().try_for_each(|row| writeln!(f, "| {} |", row.join(" | ")))
    }
}

/// Median, and the range it was found in.
fn time(samples: &Samples) -> String {
    let (least, most) = samples.spread();
    format!("{} ({}–{}, n={})", short(samples.median()), short(least), short(most), samples.len())
}

/// A time in the unit that people would say it in.
pub fn short(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{:.1} ms", time.as_secs_f64() * 1e3)
    } else {
        format!("{:.2} s", time.as_secs_f64())
    }
}

fn size(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
