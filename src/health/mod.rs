//! Proof that a release works: probes that count only when this start of this release answers them.
//!
//! [`judge`] decides from samples and facts alone; [`verify`] gathers both until it has decided. Nobody's
//! word is taken: not the manager's, not that of a process that happens to hold the port.

mod answering;
mod attest;
mod evidence;
mod judge;
pub mod limits;
mod others;
mod probe;
mod trial;
mod verify;

pub use answering::Answering;
pub(crate) use answering::ports;
pub use attest::{Answerer, START_HEADER};
pub use evidence::Evidence;
pub use judge::{Judgement, Outcome, Policy, Sample, Trouble, Unhealthy, judge};
pub(crate) use others::holds_its_socket;
pub(crate) use probe::Asking;
pub(crate) use trial::{Trial, try_out};
pub use verify::{Advice, Proof, Reason, Started, Verdict, Verification, verify};
