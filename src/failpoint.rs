//! Named moments of an attempt at which tests kill the agent. Without the feature `sim` there are none.

use std::time::Duration;

use crate::record::journal::Stage;

/// Moments around a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    /// Before the journal says so.
    BeforeIntent,
    /// The journal says so, nothing has happened.
    AfterIntent,
    /// It has happened, nothing says so yet.
    AfterEffect,
    /// The history entry is durable, the journal not yet cleared.
    AfterEntry,
}

/// Passes a moment. With `sim`, and `LANDFALL_KILL_AT=<Stage>:<Edge>` set, the process dies here by SIGKILL.
#[cfg(feature = "sim")]
pub fn reach(stage: Stage, edge: Edge) {
    die_at(&format!("{stage}:{edge:?}"));
}

/// Moments around the acceptance of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepting {
    /// It was judged; nothing says so yet.
    Before,
    /// It is on record; nothing has acted on it.
    After,
}

/// Passes a moment. With `sim`, and `LANDFALL_KILL_AT=Accept:<moment>` set, the process dies here by SIGKILL.
#[cfg(feature = "sim")]
pub fn accepting(moment: Accepting) {
    die_at(&format!("Accept:{moment:?}"));
}

/// Passes a moment.
#[cfg(not(feature = "sim"))]
pub const fn accepting(_: Accepting) {}

#[cfg(feature = "sim")]
fn die_at(here: &str) {
    if std::env::var("LANDFALL_KILL_AT").is_ok_and(|at| at == here) {
        let own = rustix::process::getpid();
        rustix::process::kill_process(own, rustix::process::Signal::KILL).expect("a process may end itself");
    }
}

/// Passes a moment.
#[cfg(not(feature = "sim"))]
pub const fn reach(_: Stage, _: Edge) {}

/// A bound in bytes. With `sim`, `LANDFALL_CACHE_BYTES=<bytes>` is a smaller one, so that a test can reach it.
#[cfg(feature = "sim")]
pub fn cache_bytes(bound: u64) -> u64 {
    let smaller = std::env::var("LANDFALL_CACHE_BYTES").ok().and_then(|bytes| bytes.parse().ok());
    smaller.map_or(bound, |bytes: u64| bytes.min(bound))
}

/// A bound in bytes.
#[cfg(not(feature = "sim"))]
pub const fn cache_bytes(bound: u64) -> u64 {
    bound
}

/// A pause between tries. With `sim`, `LANDFALL_PAUSES=<factor>` shortens all of them alike.
#[cfg(feature = "sim")]
pub fn hastened(pause: Duration) -> Duration {
    let by = std::env::var("LANDFALL_PAUSES").ok().and_then(|by| by.parse::<f64>().ok());
    by.map_or(pause, |by| pause.mul_f64(by))
}

/// A pause between tries.
#[cfg(not(feature = "sim"))]
pub const fn hastened(pause: Duration) -> Duration {
    pause
}
