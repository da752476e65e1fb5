//! Judging what a source handed over, and remembering what was accepted.

use std::path::PathBuf;

use jiff::Timestamp;
use landfall_store::Name;
use serde::{Deserialize, Serialize};

use super::Settings;
use crate::desired::{Place, Suspension};
use crate::disk::RealDisk;
use crate::host::Host;
use crate::plan::Desired;
use crate::record::RecordError;
use crate::record::journal::Target;
use crate::record::sealed::{self, Sealed};
use crate::source::SourceError;
use crate::state::{DesiredState, HealthLimits, ResolveError, StateError};

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

/// Reads and judges what the source has now.
pub fn newest(settings: &Settings) -> Result<Accepted, StateProblem> {
    let bytes = settings.source.read()?;
    let state = DesiredState::parse_bytes(&bytes, settings.source.path())?;
    Ok(Accepted { state, bytes, commit: None })
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

/// Makes an accepted state durable.
pub fn keep(host: &Host, accepted: &Accepted) -> Result<(), RecordError> {
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
