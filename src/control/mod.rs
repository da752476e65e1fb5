//! What operators do to one app on this host: suspend, resume, pin, unpin, retry, reconcile, recover.
//!
//! An [`Order`] changes records and nothing else, at once and durably; the next tick acts on them. The agent
//! carries out what comes through its door, and a command does so itself where no agent holds the lock.

mod choose;
mod fresh;
mod order;
mod recover;

pub use choose::ChoiceError;
pub use fresh::{foresee, take_up};
pub use order::{Done, Order, OrderError, Records, Word, carry_out};
pub use recover::{Damage, find};
