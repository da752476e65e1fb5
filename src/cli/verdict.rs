//! The exit code of what an agent came to.

use super::exit::Exit;
use crate::plan::Hold;
use crate::record::history::{Entry, Outcome};
use crate::record::journal::{Class, Stage};

/// The code of an attempt.
pub fn code_of(entry: &Entry) -> Exit {
    match (entry.result, entry.failure.as_ref().map(|failure| failure.class)) {
        (Outcome::Healthy | Outcome::Adopted | Outcome::Removed | Outcome::Unverified, _) => Exit::Done,
        (Outcome::Reverted, _) => Exit::Reverted,
        (Outcome::Superseded | Outcome::Interrupted, _) => Exit::Differs,
        (Outcome::Refused, Some(Class::Refused)) => Exit::Invalid,
        (Outcome::Refused, _) => Exit::Refused,
        (Outcome::Failed, Some(Class::Supply)) => Exit::Supply,
        (Outcome::Failed, Some(Class::Prepare | Class::Migrate | Class::Transient)) => Exit::Step,
        (Outcome::Failed, _) if entry.stage < Stage::Switching => Exit::Step,
        (Outcome::Failed, _) => Exit::Down,
    }
}

/// The code of having to do nothing.
pub const fn code_of_hold(hold: &Hold) -> Exit {
    match hold {
        Hold::Suspended(_) | Hold::Pinned(_) => Exit::Suspended,
        Hold::NotInState => Exit::Differs,
        Hold::Invalid(_) => Exit::Invalid,
        Hold::CurrentBroken(_) => Exit::Error,
        Hold::WillNotRun(_) => Exit::Down,
        Hold::Interrupted(_) => Exit::Refused,
    }
}
