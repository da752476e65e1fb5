//! Samples of one measure.

use std::time::{Duration, Instant};

/// Times of repeated runs.
#[derive(Debug, Default, Clone)]
pub struct Samples(Vec<Duration>);

impl Samples {
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Runs something once and keeps its time. Dirty pages of whatever ran before are written out first, so that
    /// nobody pays for another's writes.
    pub fn take<T>(&mut self, run: impl FnOnce() -> T) -> T {
        rustix::fs::sync();
        let start = Instant::now();
        let result = run();
        self.0.push(start.elapsed());
        result
    }

    pub fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    pub fn median(&self) -> Duration {
        self.quantile(0.5)
    }

    pub fn p99(&self) -> Duration {
        self.quantile(0.99)
    }

    pub fn spread(&self) -> (Duration, Duration) {
        (self.quantile(0.0), self.quantile(1.0))
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    fn quantile(&self, share: f64) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort();
        let last = sorted.len().checked_sub(1).expect("at least one sample");
        sorted[(last as f64 * share).round() as usize]
    }
}
