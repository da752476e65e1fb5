//! Every bound of a step, each with its reason.

use std::time::Duration;

use crate::spec::Millis;

/// Bytes of a step's output that are kept: enough for any installer's log, small beside a release.
pub const OUTPUT_BYTES_MAX: usize = 1 << 20;
/// Lines kept as evidence: what `status` and the history show of a failure.
pub const TAIL_LINES_MAX: usize = 200;
/// Bytes of those lines.
pub const TAIL_BYTES_MAX: usize = 64 << 10;
/// Bytes of a job: far above any environment the kernel would pass on.
pub const JOB_BYTES_MAX: usize = 8 << 20;
/// Time between the request to stop and the kill.
pub const STOP_GRACE: Millis = Millis(5_000);
/// Beyond timeout and grace, how long the agent waits for the runner's report before it ends the runner.
pub const REPORT_WAIT: Duration = Duration::from_secs(15);
