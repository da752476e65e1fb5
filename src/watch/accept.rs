//! Judging what a source handed over, and remembering what was accepted.

use std::path::PathBuf;

use jiff::Timestamp;
use landfall_store::Name;
use serde::{Deserialize, Serialize};

use crate::desired::{Place, Suspension};
use crate::disk::RealDisk;
use crate::host::Host;
use crate::plan::Desired;
use crate::record::RecordError;
use crate::record::journal::Target;
use crate::record::sealed::{self, Sealed};
use crate::source::SourceError;
use crate::source::file::FileSource;
use crate::state::{DesiredState, HealthLimits, ResolveError, StateError};
use crate::status::SourceView;

/// A state that parsed, and where it came from.
#[derive(Debug)]
pub struct Accepted {
    /// What it says.
    pub state: DesiredState,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The commit that holds it, if it was committed when it was read.
    pub commit: Option<String>,
}

/// What is wrong with the state.
#[derive(Debug, thiserror::Error)]
pub enum StateProblem {
    /// It cannot be had.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// It is not a state.
    #[error(transparent)]
    Invalid(#[from] StateError),
    /// It is an older one than the last that was accepted.
    #[error("{path}: its serial is {found}, and {accepted} was accepted here already")]
    Rewound {
        /// The file.
        path: PathBuf,
        /// Its serial, or that it has none.
        found: String,
        /// The serial of the last accepted state.
        accepted: u64,
    },
}

impl StateProblem {
    /// The same as a status shows it.
    pub fn view(&self) -> SourceView {
        match self {
            Self::Source(error) => SourceView::Unreachable(error.to_string()),
            Self::Invalid(error) => SourceView::Invalid(error.to_string()),
            Self::Rewound { .. } => SourceView::Rewound(self.to_string()),
        }
    }
}

/// The last accepted state, kept so that a host comes up with its source out of reach.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    path: PathBuf,
    text: String,
    commit: Option<String>,
}

impl Sealed for Kept {
    const KIND: &'static str = "accepted-state";
}

/// What the state may change about an app besides its target.
#[derive(Debug, Clone, Default)]
pub struct Tuning {
    /// Limits of its health checks.
    pub limits: Option<HealthLimits>,
    /// How many healthy releases stay on the host.
    pub retain: Option<u32>,
    /// When somebody last asked for a fresh attempt.
    pub requested: Option<Timestamp>,
}

impl Accepted {
    /// How its source is shown: ready, or stale after the state's own `not_after`.
    pub fn view(&self, now: Timestamp) -> SourceView {
        match self.state.not_after.filter(|end| *end <= now) {
            Some(end) => SourceView::Stale(end),
            None => SourceView::Ready,
        }
    }

    /// What the state tunes of an app here.
    pub fn tuning(&self, app: &Name, environment: &Name) -> Tuning {
        let Ok(found) = self.state.resolve(app, environment) else { return Tuning::default() };
        Tuning {
            limits: found.state.health.clone(),
            retain: found.state.retain,
            requested: found.state.reconcile_requested_at,
        }
    }
}

/// Reads and judges what the source has now, after the state that was accepted last.
pub fn newest(source: &FileSource, last: Option<&Accepted>) -> Result<Accepted, StateProblem> {
    let bytes = source.read()?;
    let state = DesiredState::parse_bytes(&bytes, source.path())?;
    match rewound(state.serial, last.and_then(|last| last.state.serial)) {
        Some(accepted) => Err(StateProblem::Rewound {
            path: source.path().to_owned(),
            found: state.serial.map_or_else(|| "missing".to_owned(), |serial| serial.to_string()),
            accepted,
        }),
        None => Ok(Accepted { state, bytes, commit: None }),
    }
}

/// The serial a new state falls short of. Where there was one, there must be one.
fn rewound(new: Option<u64>, accepted: Option<u64>) -> Option<u64> {
    accepted.filter(|accepted| new.is_none_or(|new| new < *accepted))
}

/// The state that was last accepted on this host.
pub fn last(host: &Host) -> Result<Option<Accepted>, RecordError> {
    let Some(kept) = sealed::read::<Kept>(&RealDisk, &host.root.accepted())? else { return Ok(None) };
    match DesiredState::parse(&kept.text, &kept.path) {
        Ok(state) => Ok(Some(Accepted { state, bytes: kept.text.into_bytes(), commit: kept.commit })),
        Err(error) => Err(RecordError::Damaged {
            path: host.root.accepted(),
            why: format!("it does not parse any more: {error}"),
        }),
    }
}

/// Makes an accepted state durable. One that stands there already is not written again.
pub fn keep(host: &Host, accepted: &Accepted) -> Result<(), RecordError> {
    if matches!(last(host), Ok(Some(last)) if last.bytes == accepted.bytes) {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&accepted.bytes).into_owned();
    let kept = Kept { path: PathBuf::from("deploy-state.json"), text, commit: accepted.commit.clone() };
    sealed::write(&RealDisk, &host.root.accepted(), &kept)
}

/// What the state asks of one app here.
pub fn desired(accepted: &Accepted, app: &Name, environment: &Name) -> Desired {
    let found = accepted.state.resolve(app, environment);
    let suspension = found.as_ref().ok().and_then(suspension);
    let word = word(accepted, app, environment, found);
    match suspension {
        Some(why) => Desired::Suspended { target: word.target().cloned(), why },
        None => word,
    }
}

/// The same without suspensions.
fn word(
    accepted: &Accepted,
    app: &Name,
    environment: &Name,
    found: Result<crate::state::Desired<'_>, ResolveError>,
) -> Desired {
    if accepted.state.is_absent(app, environment) {
        return Desired::Absent;
    }
    let found = match found {
        Ok(found) => found,
        Err(ResolveError::NoApp { .. } | ResolveError::NoEnvironment { .. }) => return Desired::NotInState,
        Err(error @ ResolveError::Invalid(_)) => return Desired::Invalid(error.to_string()),
    };
    let Some(wanted) = found.target() else { return Desired::NotInState };
    let target = Target {
        artifact: wanted.artifact,
        version: wanted.version.clone(),
        by: wanted.by.clone(),
        why: wanted.reason.clone(),
        state_commit: accepted.commit.clone(),
        unstarted: false,
    };
    match found.block_of(&wanted.artifact) {
        Some(block) => Desired::Blocked { target, reason: format!("{} (by {})", block.reason, block.by) },
        None => Desired::Target(target),
    }
}

/// The state's own suspension, while it lasts.
fn suspension(found: &crate::state::Desired<'_>) -> Option<Suspension> {
    let suspend = found.suspend()?;
    let lasts = suspend.until.is_none_or(|until| until > Timestamp::now());
    lasts.then(|| Suspension {
        reason: suspend.reason.clone(),
        by: suspend.by.clone(),
        since: None,
        until: suspend.until,
        place: Place::State,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_never_goes_down_and_is_never_left_out_again() {
        assert_eq!(rewound(None, None), None);
        assert_eq!(rewound(Some(1), None), None);
        assert_eq!(rewound(Some(7), Some(7)), None, "an edit need not raise it");
        assert_eq!(rewound(Some(8), Some(7)), None);
        assert_eq!(rewound(Some(6), Some(7)), Some(7));
        assert_eq!(rewound(None, Some(7)), Some(7));
    }
}
