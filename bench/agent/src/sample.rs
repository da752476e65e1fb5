//! Samples of one measure.

use std::time::Duration;

/// Times of repeated runs.
#[derive(Debug, Default, Clone)]
pub struct Samples(Vec<Duration>);

impl Samples {
    pub fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// The time that this share of the runs did not exceed.
    pub fn quantile(&self, share: f64) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort();
        let last = sorted.len().checked_sub(1).expect("at least one sample");
        sorted[(last as f64 * share).round() as usize]
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// p50, p99, the longest, and how many there were.
    pub fn summary(&self) -> String {
        let [p50, p99, most] = [0.5, 0.99, 1.0].map(|share| short(self.quantile(share)));
        format!("p50 {p50}, p99 {p99}, longest {most} (n = {})", self.0.len())
    }
}

/// A time in the unit that people would say it in.
pub fn short(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{:.1} ms", time.as_secs_f64() * 1e3)
    } else {
        format!("{:.2} s", time.as_secs_f64())
    }
}
