//! Every bound of the pm2 manager, each with its reason.

use std::time::Duration;

/// Time for a call that only talks to the daemon (first start of the daemon included).
pub const CALL_WAIT: Duration = Duration::from_secs(30);
/// What pm2 waits for a worker that does not listen yet before it stops the one that does, when the recipe does not
/// say. pm2's own three seconds are less than a boot on a busy machine takes, and then nobody listens.
pub const LISTEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Time after a start for its workers to stand in their release: node's own boot, under load.
pub const SETTLE_WAIT: Duration = Duration::from_secs(10);
/// Time for a `pm2 resurrect` that is found at work: it starts everything the host has, one after the other.
pub const RESURRECT_WAIT: Duration = Duration::from_secs(30);
/// Times that daemons which stand in each other's way are ended and started anew.
pub const DAEMON_TRIES: u32 = 3;
/// Bytes of a call's output that are read.
pub const CALL_OUTPUT_BYTES_MAX: usize = 64 << 10;
/// Lines of it that are repeated in an error.
pub const SAID_LINES_MAX: usize = 6;
/// Bytes of pm2's home directory: its sockets' names must fit into a socket address (108 bytes).
pub const HOME_BYTES_MAX: usize = 90;
