//! Every bound of a health check, each with its reason.

use std::time::Duration;

/// First pause between two tries; doubled up to the check's interval. A quick app is proved quickly.
pub const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// Bytes of an answer that are read: a health page is small, a home page is bounded.
pub const BODY_BYTES_MAX: usize = 64 << 10;
/// Bytes of an answer's head.
pub const HEAD_BYTES_MAX: usize = 64 << 10;
/// Header fields of an answer.
pub const HEADERS_MAX: usize = 100;
/// Bytes of an answer that are kept as evidence.
pub const EVIDENCE_BODY_BYTES_MAX: usize = 4 << 10;
/// Log lines that are kept as evidence, for each process.
pub const EVIDENCE_LOG_LINES_MAX: usize = 200;
/// Bytes read from the end of a log to find them.
pub const EVIDENCE_LOG_BYTES_MAX: u64 = 64 << 10;
/// Time a server is given to accept a connection before it is asked: whoever accepts later is looked up
/// again with the answer.
pub const ACCEPT_WAIT: Duration = Duration::from_millis(50);
/// Pause between two looks for that.
pub const ACCEPT_LOOK: Duration = Duration::from_millis(1);
/// Longest pause between two looks at the processes when no check looks more often.
pub const FACTS_INTERVAL: Duration = Duration::from_millis(500);
/// Time the manager is given to say how a process ended that was just seen to be gone.
pub const EXIT_WAIT: Duration = Duration::from_millis(500);
/// Pause before another connection where an older start on the same socket took one: dozens fit into a try.
pub const NEXT_CONNECTION: Duration = Duration::from_millis(20);
