//! Why the agent did not take the host.toml it read last.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::RecordError;
use super::sealed::{self, Sealed};
use crate::disk::Disk;
use crate::layout::Root;

/// A configuration that was refused; the one before it stays in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Why.
    pub why: String,
    /// When, by the wall clock; only shown.
    pub at: Timestamp,
}

impl Sealed for Refused {
    const KIND: &'static str = "config-refused";
}

impl Refused {
    /// The refusal that stands, if any.
    pub fn read(disk: &dyn Disk, root: &Root) -> Result<Option<Self>, RecordError> {
        sealed::read(disk, &root.refused())
    }

    /// Notes why, or that all is well again.
    pub fn note(disk: &dyn Disk, root: &Root, why: Option<String>) -> Result<(), RecordError> {
        match why {
            Some(why) => sealed::write(disk, &root.refused(), &Self { why, at: Timestamp::now() }),
            None => disk.remove(&root.refused()).map_err(RecordError::io(root.refused())),
        }
    }
}
