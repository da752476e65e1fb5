//! Progress in a terminal: one line for whatever takes longer than half a second. It has a bar and the time left
//! where the end is known, else files, bytes and rate.

use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::report::{Report, bytes, span};

/// Shorter work shows nothing.
const PATIENCE: Duration = Duration::from_millis(500);
/// Between two drawings.
const TICK: Duration = Duration::from_millis(100);

/// Cells of the bar: with the longest figures beside it, it fits 80 columns.
const BAR_CELLS: u64 = 20;

/// What is being done.
#[derive(Debug, Default)]
struct Doing {
    what: String,
    files: u64,
    bytes: u64,
    /// Bytes at its end, where that is known.
    bytes_total: Option<u64>,
    since: Option<Instant>,
}

impl Doing {
    fn begun(what: &str) -> Self {
        Self { what: what.to_owned(), since: Some(Instant::now()), ..Self::default() }
    }
}

/// One line that goes away when it is dropped. Silent without a terminal.
pub struct Progress {
    doing: Arc<Mutex<Doing>>,
    line: Option<ProgressBar>,
}

/// Asked at each drawing how far it is: files, bytes, and bytes at the end.
type Look = Arc<dyn Fn() -> Option<(u64, u64, u64)> + Send + Sync>;

impl Progress {
    /// Draws from the first step on, if a person watches.
    pub fn new(report: &Report) -> Self {
        Self::looking(report, None)
    }

    /// Draws what somebody else does, as far as `look` finds out.
    pub fn following(
        report: &Report,
        what: &str,
        look: impl Fn() -> Option<(u64, u64, u64)> + Send + Sync + 'static,
    ) -> Self {
        let progress = Self::looking(report, Some(Arc::new(look)));
        progress.step(what);
        progress
    }

    fn looking(report: &Report, look: Option<Look>) -> Self {
        let line = report.is_interactive().then(|| {
            ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr())
                .with_finish(indicatif::ProgressFinish::AndClear)
        });
        let doing = Arc::new(Mutex::new(Doing::default()));
        if let Some(line) = &line {
            line.set_style(style(Arc::clone(&doing), look));
        }
        Self { doing, line }
    }

    /// Something else begins.
    pub fn step(&self, what: impl Into<String>) {
        *self.doing.lock().unwrap_or_else(PoisonError::into_inner) = Doing::begun(&what.into());
        if let Some(line) = &self.line {
            line.enable_steady_tick(TICK);
        }
    }

    /// It is this far; the first count of a step begins it.
    pub fn count(&self, what: &str, files: u64, bytes: u64) {
        let mut doing = self.doing.lock().unwrap_or_else(PoisonError::into_inner);
        if doing.what != what {
            *doing = Doing::begun(what);
        }
        // Threads report out of order.
        doing.files = doing.files.max(files);
        doing.bytes = doing.bytes.max(bytes);
    }

    /// Like [`Progress::count`], towards a known end.
    pub fn count_of(&self, what: &str, files: u64, bytes: u64, bytes_total: u64) {
        self.count(what, files, bytes);
        self.doing.lock().unwrap_or_else(PoisonError::into_inner).bytes_total = Some(bytes_total);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(line) = &self.line {
            line.finish_and_clear();
        }
    }
}

fn style(doing: Arc<Mutex<Doing>>, look: Option<Look>) -> ProgressStyle {
    let started = Instant::now();
    ProgressStyle::with_template("{doing}").expect("the template is a constant").with_key(
        "doing",
        move |_: &ProgressState, out: &mut dyn Write| {
            if started.elapsed() >= PATIENCE {
                let mut doing = doing.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some((files, bytes, total)) = look.as_ref().and_then(|look| look()) {
                    (doing.files, doing.bytes, doing.bytes_total) = (files, bytes, Some(total));
                }
                let text = told(&doing);
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
    let rate = (doing.bytes as f64 / elapsed.as_secs_f64().max(0.001)) as u64;
    let Some(total) = doing.bytes_total.filter(|total| *total >= doing.bytes && *total > 0) else {
        let Doing { what, files, .. } = doing;
        return format!("{what}: {files} files, {}, {}/s", bytes(doing.bytes), bytes(rate));
    };
    let full = (doing.bytes * BAR_CELLS / total) as usize;
    let bar = format!("{}{}", "━".repeat(full), "─".repeat(BAR_CELLS as usize - full));
    let left = span((total - doing.bytes).saturating_mul(1_000) / rate.max(1));
    format!("{} {bar} {} of {}, {}/s, {left} left", doing.what, bytes(doing.bytes), bytes(total), bytes(rate))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_files_bytes_and_rate() {
        let since = Instant::now() - Duration::from_secs(2);
        let doing = Doing { files: 30, bytes: 4_000_000, since: Some(since), ..Doing::begun("storing") };
        assert!(told(&doing).starts_with("storing: 30 files, 4.0 MB, 2.0 MB/s"), "{}", told(&doing));
    }

    #[test]
    fn with_a_known_end_a_line_has_a_bar_and_the_time_left_and_fits_a_terminal() {
        let line = |seconds, bytes, total| {
            let since = Instant::now() - Duration::from_secs(seconds);
            told(&Doing {
                files: 30,
                bytes,
                bytes_total: Some(total),
                since: Some(since),
                ..Doing::begun("  fetching")
            })
        };
        let half = line(2, 4_000_000, 8_100_000);
        assert!(
            half.starts_with("  fetching ━━━━━━━━━─────────── 4.0 MB of 8.1 MB, 2.0 MB/s, 2.0s left"),
            "{half}"
        );
        assert!(line(10, 1_000_000, 8_000_000).ends_with("1m10s left"));
        assert!(line(100, 1_000_000, 80_000_000).ends_with("2h11m left"));
        assert!(line(9, 999_900_000_000, 999_999_900_000_000).chars().count() <= 80);
        assert!(line(2, 9, 3).contains("30 files"), "an end that was passed is none");
    }
}
