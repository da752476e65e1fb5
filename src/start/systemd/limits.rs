//! Bounds of the work with systemd, each with its reason.

use std::time::Duration;

use crate::spec::Millis;

/// Time for `systemctl` to do what takes no time: reading units of a machine with thousands, on one that may stand
/// still for most of a minute while it is moved.
pub const CALL_WAIT: Duration = Duration::from_secs(90);
/// Pause before a restart, where the recipe is silent: long enough to see how the process ended.
pub const RESTART_DELAY: Millis = Millis(1_000);
/// Time for an app to say that it is ready, where the recipe is silent.
pub const NOTIFY_WAIT: Millis = Millis(60_000);
/// Lines of what `systemctl` says that are kept.
pub const SAID_LINES_MAX: usize = 6;
