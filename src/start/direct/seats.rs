//! Where the starts of one slot are: one that serves, and beside it at most one on trial, on the same socket.
//!
//! Each seat is a directory with the files of one shim. `seats.json` in the first says which is which; without it
//! the first one serves, as every landfall before this had it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{at, read_record};
use crate::start::shim::limits::ORDER_BYTES_MAX;
use crate::start::shim::order::{Record, SlotFiles};
use crate::start::{Slot, StartError, durable};

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Seat {
    #[default]
    First,
    Second,
}

impl Seat {
    pub(super) const fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }
}

/// Which seat serves, and which is on trial beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Seats {
    pub(super) serving: Seat,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) trial: Option<Seat>,
}

impl Seats {
    /// Only this one, and nothing beside it.
    pub(super) const fn only(serving: Seat) -> Self {
        Self { serving, trial: None }
    }

    /// Where the newest start is.
    pub(super) fn newest(self) -> Seat {
        self.trial.unwrap_or(self.serving)
    }

    pub(super) fn read(slot: &Slot) -> Result<Self, StartError> {
        let path = path(slot);
        let found = durable::read_json(&path, ORDER_BYTES_MAX).map_err(|source| at(&path, source))?;
        Ok(found.unwrap_or_default())
    }

    /// Durable before anything acts on it. Nothing is written where nothing changes.
    pub(super) fn write(self, slot: &Slot) -> Result<(), StartError> {
        if Self::read(slot)? == self {
            return Ok(());
        }
        let (dir, path) = (files(slot, Seat::First).dir, path(slot));
        durable::private_dir(&dir).map_err(|source| at(&dir, source))?;
        durable::write_json(&path, 0o600, &self).map_err(|source| at(&path, source))
    }
}

fn path(slot: &Slot) -> PathBuf {
    files(slot, Seat::First).dir.join("seats.json")
}

pub(super) fn files(slot: &Slot, seat: Seat) -> SlotFiles {
    let first = SlotFiles::new(&slot.run_dir, &slot.process);
    match seat {
        Seat::First => first,
        Seat::Second => SlotFiles { dir: first.dir.join("second") },
    }
}

pub(super) fn record(slot: &Slot, seat: Seat) -> Result<Option<Record>, StartError> {
    read_record(&files(slot, seat))
}
