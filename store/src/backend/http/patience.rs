//! How long a server is waited for, and how often it is asked: data, and pure functions over it.

use std::time::{Duration, SystemTime};

/// Bounds on the time that one object may take. All of it is time spent waiting for the server: how long the
/// reader takes over what arrived does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Until a request, with connecting and redirects' hops each, has an answer's head.
    pub answer: Duration,
    /// How often the rate of a body is looked at.
    pub window: Duration,
    /// Bytes that each window must bring, unless the body ends in it.
    pub window_bytes: u64,
    /// For an object, with every try, beside what its length takes at the rate of the windows.
    pub object: Duration,
    /// Tries in a row without progress.
    pub tries: u32,
    /// The pause before the second try is drawn from zero to this, and the range doubles with each.
    pub pause: Duration,
    /// What a pause is drawn from at most; a server that asks for a longer one with `Retry-After` is given up.
    pub pause_max: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            // The machine of a small server may be busy for half a minute, and then it answers.
            answer: Duration::from_secs(45),
            window: Duration::from_secs(30),
            // 1 KiB/s: eight requests over the slowest line that anybody deploys through.
            window_bytes: 30 << 10,
            object: Duration::from_secs(300),
            tries: 5,
            pause: Duration::from_millis(500),
            pause_max: Duration::from_secs(30),
        }
    }
}

impl Patience {
    /// Waiting that an object of `length` bytes may cost altogether.
    pub(super) fn in_all(&self, length: u64) -> Duration {
        let windows = u32::try_from(length / self.window_bytes.max(1)).unwrap_or(u32::MAX);
        self.object.saturating_add(self.window.saturating_mul(windows))
    }

    /// The pause after `failed` tries in a row: full jitter over a range that doubles, and at least what the
    /// server asked for. `None`: it asked for more than is waited here.
    pub(super) fn pause_after(
        &self,
        failed: u32,
        asked: Option<Duration>,
        draw: impl FnOnce(Duration) -> Duration,
    ) -> Option<Duration> {
        let range = self.pause.saturating_mul(1 << failed.saturating_sub(1).min(16)).min(self.pause_max);
        let asked = asked.unwrap_or_default();
        (asked <= self.pause_max).then(|| asked.max(draw(range)))
    }
}

/// Any time up to `most`.
pub(super) fn drawn(most: Duration) -> Duration {
    most.mul_f64(fastrand::f64())
}

/// `Retry-After`: seconds, or a date.
pub(super) fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text.trim()).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn patience() -> Patience {
        Patience { pause: SECOND, pause_max: 10 * SECOND, ..Patience::default() }
    }

    #[test]
    fn pauses_double_up_to_their_bound() {
        let most = |failed| patience().pause_after(failed, None, |range| range).unwrap().as_secs();
        assert_eq!([1, 2, 3, 4, 5, 9, 99].map(most), [1, 2, 4, 8, 10, 10, 10]);
        assert_eq!(patience().pause_after(3, None, |_| Duration::ZERO), Some(Duration::ZERO), "full jitter");
    }

    #[test]
    fn a_server_that_asks_for_time_gets_it_up_to_a_bound() {
        let asked = |seconds| patience().pause_after(1, Some(seconds * SECOND), |_| SECOND / 2);
        assert_eq!(asked(7), Some(7 * SECOND));
        assert_eq!(asked(0), Some(SECOND / 2));
        assert_eq!(asked(11), None);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(retry_after("3", now), Some(3 * SECOND));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:47 GMT", now), Some(10 * SECOND));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(retry_after("soon", now), None);
    }

    #[test]
    fn a_longer_object_may_take_longer() {
        let patience = Patience::default();
        assert!(patience.in_all(32 << 20) > patience.in_all(1));
        assert!(patience.in_all(u64::MAX) > Duration::from_secs(1 << 30));
    }
}
