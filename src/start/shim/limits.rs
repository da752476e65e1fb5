//! Every bound of the shim and the runner, each with its reason.

use std::time::Duration;

/// Restarts within [`RESTART_WINDOW`] before the shim gives up.
pub const RESTARTS_MAX: usize = 5;
/// The span the restarts are counted in: long enough that an app that dies each minute is noticed.
pub const RESTART_WINDOW: Duration = Duration::from_secs(300);
/// First pause before a restart, doubled with each restart in the window.
pub const RESTART_DELAY_FIRST: Duration = Duration::from_millis(200);
/// Longest pause before a restart.
pub const RESTART_DELAY_MAX: Duration = Duration::from_secs(10);
/// Bytes of one log file: twenty files of this size are still small beside a release.
pub const LOG_FILE_BYTES_MAX: u64 = 16 << 20;
/// Rotated files kept beside the live one.
pub const LOG_FILES_KEPT: u32 = 4;
/// Bytes of one line before it is cut: what a person can still read and a process can be made to hold.
pub const LINE_BYTES_MAX: usize = 64 << 10;
/// Bytes of a launch or a record: far above any environment the kernel would pass on.
pub const ORDER_BYTES_MAX: u64 = 8 << 20;
/// Time for the shim to answer that the app was started: fork, exec and two small files on a slow disk, on a machine
/// that may stand still for most of a minute while it is moved.
pub const ANSWER_WAIT: Duration = Duration::from_secs(60);
/// Time for killed processes to be gone: the kernel's own work, slow only under heavy load.
pub const KILL_WAIT: Duration = Duration::from_secs(5);
/// Time for stopped processes to show as stopped before they are killed anyway (one in an uninterruptible
/// sleep never does).
pub const FREEZE_WAIT: Duration = Duration::from_millis(200);
/// Pause between two looks at `/proc` where no event tells of a change in a foreign process.
pub const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// Longest of those pauses.
pub const LOOK_AGAIN_MAX: Duration = Duration::from_millis(50);
/// Time for pipes to be read to their end after every writer is gone.
pub const DRAIN_WAIT: Duration = Duration::from_secs(1);
/// Beyond the grace, how long the agent waits for a shim that was told to stop: its kill and its record.
pub const SHIM_STOP_WAIT: Duration = Duration::from_secs(10);
/// Time for a shim to hand its listening socket over: it does nothing else, on a machine that may stand still.
pub const HAND_OVER_WAIT: Duration = Duration::from_secs(60);
/// Connections the kernel keeps for an app that is not accepting just now (it caps this at `net.core.somaxconn`).
pub const CONNECTIONS_WAITING: i32 = 4096;
