//! Waiting for what another process does, with an end.

use std::time::{Duration, Instant};

/// How often the outside world is looked at. It sends no event for most of what tests wait for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The first value that `look` finds, within `limit`; the test fails with `what` otherwise.
#[track_caller]
pub fn wait_for<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Waits until something holds.
#[track_caller]
pub fn wait_until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    wait_for(what, limit, || holds().then_some(()));
}
