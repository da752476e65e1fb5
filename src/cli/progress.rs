//! Progress in a terminal: one line with files, bytes and rate, for whatever takes longer than half a second.

use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::report::{Report, bytes};

/// Shorter work shows nothing.
const PATIENCE: Duration = Duration::from_millis(500);
/// Between two drawings.
const TICK: Duration = Duration::from_millis(100);

/// What is being done.
#[derive(Debug, Default)]
struct Doing {
    what: String,
    files: u64,
    bytes: u64,
    since: Option<Instant>,
}

/// One line that goes away when it is dropped. Silent without a terminal.
pub struct Progress {
    doing: Arc<Mutex<Doing>>,
    line: Option<ProgressBar>,
}

impl Progress {
    /// Draws from the first step on, if a person watches.
    pub fn new(report: &Report) -> Self {
        let line = report.is_interactive().then(|| {
            ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr())
                .with_finish(indicatif::ProgressFinish::AndClear)
        });
        let doing = Arc::new(Mutex::new(Doing::default()));
        if let Some(line) = &line {
            line.set_style(style(Arc::clone(&doing)));
        }
        Self { doing, line }
    }

    /// Something else begins.
    pub fn step(&self, what: impl Into<String>) {
        let begun = Doing { what: what.into(), since: Some(Instant::now()), ..Doing::default() };
        *self.doing.lock().unwrap_or_else(PoisonError::into_inner) = begun;
        if let Some(line) = &self.line {
            line.enable_steady_tick(TICK);
        }
    }

    /// It is this far; the first count of a step begins it.
    pub fn count(&self, what: &str, files: u64, bytes: u64) {
        let mut doing = self.doing.lock().unwrap_or_else(PoisonError::into_inner);
        if doing.what != what {
            *doing = Doing { what: what.to_owned(), since: Some(Instant::now()), ..Doing::default() };
        }
        // Threads report out of order.
        doing.files = doing.files.max(files);
        doing.bytes = doing.bytes.max(bytes);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(line) = &self.line {
            line.finish_and_clear();
        }
    }
}

fn style(doing: Arc<Mutex<Doing>>) -> ProgressStyle {
    let started = Instant::now();
    ProgressStyle::with_template("{doing}").expect("the template is a constant").with_key(
        "doing",
        move |_: &ProgressState, out: &mut dyn Write| {
            if started.elapsed() >= PATIENCE {
                let text = told(&doing.lock().unwrap_or_else(PoisonError::into_inner));
                // A terminal that went away is nobody to tell.
                out.write_str(&text).ok();
            }
        },
    )
}

fn told(doing: &Doing) -> String {
    let elapsed = doing.since.map_or(Duration::ZERO, |since| since.elapsed());
    if doing.files == 0 {
        return format!("{} ({}s)", doing.what, elapsed.as_secs());
    }
    let rate = doing.bytes as f64 / elapsed.as_secs_f64().max(0.001);
    format!("{}: {} files, {}, {}/s", doing.what, doing.files, bytes(doing.bytes), bytes(rate as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_files_bytes_and_rate() {
        let since = Instant::now() - Duration::from_secs(2);
        let doing = Doing { what: "storing".to_owned(), files: 30, bytes: 4_000_000, since: Some(since) };
        assert!(told(&doing).starts_with("storing: 30 files, 4.0 MB, 2.0 MB/s"), "{}", told(&doing));
    }
}
