//! Waiting for what another process does, with an end.

use std::time::{Duration, Instant};

/// The first value that `look` finds; the benchmark ends with `what` if there is none within `limit`.
#[track_caller]
pub fn wait_for<T>(what: &str, every: Duration, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        std::thread::sleep(every);
    }
}
