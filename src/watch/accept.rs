//! Judging what a source handed over, and remembering what was accepted.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use landfall_store::Name;
use serde::{Deserialize, Serialize};

use crate::config::{History, HostConfig};
use crate::desired::{Place, Suspension};
use crate::disk::{Disk, RealDisk};
use crate::failpoint::{Accepting, accepting};
use crate::host::Host;
use crate::layout::{AppDir, Root};
use crate::plan::Desired;
use crate::record::RecordError;
use crate::record::acceptances::{self, Acceptance};
use crate::record::history;
use crate::record::journal::Target;
use crate::record::sealed::{self, Sealed};
use crate::record::source::{Wrong, WrongKind};
use crate::source::file::FileSource;
use crate::source::git::{Found, Known, Trouble};
use crate::source::{Source, SourceError};
use crate::state::{DesiredState, HealthLimits, ResolveError, StateError};
use crate::status::SourceView;
use crate::trust::{
    CommitId, Facts, Floor, Refusal, SerialFault, Signed, Signers, SignersError, follows, judge,
};

/// A state that parsed and may be taken, and where it came from.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// What it says.
    pub state: DesiredState,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The commit that gave it its content, if that was known when it was read.
    pub commit: Option<String>,
    /// The newest commit of the repository's branch then: the next one must come after it.
    pub head: Option<CommitId>,
    /// Who signed the newest change, where signatures are asked for.
    pub signed_by: Option<String>,
    /// What operators let pass, oldest first.
    pub waivers: Vec<Waiver>,
}

/// A commit that an operator accepted although it was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiver {
    /// The commit.
    pub commit: String,
    /// Why it had been refused.
    pub refusal: String,
    /// Who accepted it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When, by the wall clock; only shown.
    pub at: Timestamp,
}

/// Waivers that are remembered: more than anybody should ever need.
const WAIVERS_MAX: usize = 100;

/// What is wrong with the state.
#[derive(Debug, thiserror::Error)]
pub enum StateProblem {
    /// It cannot be had.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Its repository cannot be read.
    #[error(transparent)]
    Repository(#[from] Trouble),
    /// It is not a state.
    #[error(transparent)]
    Invalid(#[from] StateError),
    /// Its number does not follow that of the last accepted one.
    #[error("{path}: {fault}")]
    Serial {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        fault: SerialFault,
    },
    /// It is not to be trusted.
    #[error(transparent)]
    Refused(Box<Refusal>),
    /// Who may sign is not known.
    #[error("nobody's signature can be checked: {0}")]
    Signers(#[from] SignersError),
    /// Nobody knows what came before.
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl StateProblem {
    /// The same as a status shows it.
    pub fn view(&self) -> SourceView {
        SourceView::of(self.wrong())
    }

    /// Kind, word, message and advice.
    pub fn wrong(&self) -> Wrong {
        let (kind, reason, hint) = match self {
            Self::Source(_) => {
                (WrongKind::Unreachable, "SourceUnreachable", "put the file back, or name it with --state")
            }
            Self::Repository(trouble) => {
                (WrongKind::Unreachable, trouble.fault.reason(), trouble.fault.hint())
            }
            Self::Invalid(_) => {
                (WrongKind::Invalid, "StateInvalid", "`landfall state lint` shows every problem")
            }
            Self::Serial { .. } => (
                WrongKind::Refused,
                "NonFastForward",
                "put the newer state back, or give this one a higher `serial`",
            ),
            Self::Refused(refusal) => (WrongKind::Refused, refusal.reason(), advice(refusal)),
            Self::Signers(_) => {
                (WrongKind::Refused, "SignersUnreadable", "correct the file of [trust] allowed_signers")
            }
            Self::Record(_) => {
                (WrongKind::Refused, "FloorLost", "`landfall state accept <commit> --reason '…'` begins anew")
            }
        };
        let (reason, hint) = (reason.to_owned(), hint.to_owned());
        Wrong { kind, reason, message: self.to_string(), hint }
    }
}

fn advice(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::FloorLost { .. } => {
            "compare the commit with what runs, then `landfall state accept <commit> --reason '…'`"
        }
        Refusal::SetBack { .. } | Refusal::Rewritten { .. } => {
            "push the accepted commit again (`git revert` goes back), or, if it was meant: \
             landfall state accept <commit> --reason '…'"
        }
        Refusal::Serial { .. } => {
            "give the state a `serial` a little above the accepted one, or: \
             landfall state accept <commit> --reason '…'"
        }
        Refusal::Unsigned { .. } | Refusal::NoSource { .. } => {
            "an operator commits the change again, signed, and takes the other one out of the branch"
        }
    }
}

/// The last accepted state, kept so that a host comes up with its source out of reach, and so that nothing older
/// is ever taken: it is the floor.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    path: PathBuf,
    text: String,
    commit: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    head: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signed_by: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    waivers: Vec<Waiver>,
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

/// Reads and judges what a file has now, after the state that was accepted last.
pub fn of_file(source: &FileSource, last: Option<&Accepted>) -> Result<Accepted, StateProblem> {
    let bytes = source.read()?;
    let state = DesiredState::parse_bytes(&bytes, source.path())?;
    let path = || source.path().to_owned();
    let accepted = last.and_then(|last| last.state.serial);
    follows(state.serial, accepted).map_err(|fault| StateProblem::Serial { path: path(), fault })?;
    let waivers = last.map(|last| last.waivers.clone()).unwrap_or_default();
    Ok(Accepted { state, bytes, commit: None, head: None, signed_by: None, waivers })
}

/// What a verdict about a repository's state rests on besides what was found in it.
#[derive(Debug)]
pub struct Court<'a> {
    /// This host's own word.
    pub config: &'a HostConfig,
    /// What was accepted before.
    pub floor: &'a Floor,
    /// The same, in full.
    pub last: Option<&'a Accepted>,
}

/// Judges what was found in a repository. Who may sign is read anew: a key that was taken out counts no more.
pub fn of_repository(found: &Found, path: &Path, court: &Court<'_>) -> Result<Accepted, StateProblem> {
    let trust = &court.config.trust;
    let signers = trust.allowed_signers.as_deref().map(Signers::read).transpose()?;
    let parsed = DesiredState::parse_bytes(&found.bytes, path);
    // Whose words they are is asked before what they say.
    let own_serial = parsed.as_ref().map(|state| state.serial);
    let last_serial = court.last.and_then(|last| last.state.serial);
    let history = court.config.state.as_ref().map_or(History::FastForward, |state| state.history);
    let verdict = judge(&Facts {
        head: &found.head,
        floor: court.floor,
        before: found.before,
        history,
        deciding: &found.deciding,
        signers: signers.as_ref(),
        operators: &trust.operators,
        serial: own_serial.unwrap_or(last_serial),
        now: Timestamp::now(),
    });
    let verdict = verdict.map_err(|refusal| StateProblem::Refused(Box::new(refusal)))?;
    let signed_by = match verdict.signed {
        Signed::NotAsked => None,
        Signed::Unchanged => court.last.and_then(|last| last.signed_by.clone()),
        Signed::By(name) => Some(name),
    };
    Ok(taken(found, parsed?, signed_by, court.last))
}

fn taken(found: &Found, state: DesiredState, signed_by: Option<String>, last: Option<&Accepted>) -> Accepted {
    Accepted {
        state,
        bytes: found.bytes.clone(),
        commit: Some(found.changed.to_string()),
        head: Some(found.head.clone()),
        signed_by,
        waivers: last.map(|last| last.waivers.clone()).unwrap_or_default(),
    }
}

/// Takes what was refused, on an operator's word. It must be a state all the same.
pub fn waive(
    found: &Found,
    path: &Path,
    last: Option<&Accepted>,
    waiver: Waiver,
) -> Result<Accepted, StateProblem> {
    let state = DesiredState::parse_bytes(&found.bytes, path)?;
    let mut accepted = taken(found, state, None, last);
    accepted.waivers.push(waiver);
    let surplus = accepted.waivers.len().saturating_sub(WAIVERS_MAX);
    accepted.waivers.drain(..surplus);
    Ok(accepted)
}

/// What a look of the repository compares with.
pub fn known(floor: &Floor, last: Option<&Accepted>) -> Known {
    let is_in_force = last.is_some_and(|last| last.head.is_some() && last.head.as_ref() == floor.commit());
    Known { floor: floor.commit().cloned(), is_in_force }
}

/// Reads and judges what the source has now. Keeps nothing.
pub async fn newest(source: &Source, host: &Host) -> Result<Accepted, StateProblem> {
    let last = last(host);
    match source {
        Source::File(file) => of_file(file, last?.as_ref()),
        Source::Git(git) => {
            let floor = floor(host, &last);
            let last = last.ok().flatten();
            let found = git.found(floor.commit()).await?;
            let court = Court { config: &host.config, floor: &floor, last: last.as_ref() };
            of_repository(&found, git.path(), &court)
        }
    }
}

/// The state that was last accepted on this host.
pub fn last(host: &Host) -> Result<Option<Accepted>, RecordError> {
    last_on(&RealDisk, &host.root)
}

fn last_on(disk: &dyn Disk, root: &Root) -> Result<Option<Accepted>, RecordError> {
    let Some(kept) = sealed::read::<Kept>(disk, &root.accepted())? else { return Ok(None) };
    let damaged = |why: String| RecordError::Damaged { path: root.accepted(), why };
    let state = DesiredState::parse(&kept.text, &kept.path)
        .map_err(|error| damaged(format!("it does not parse any more: {error}")))?;
    let head = match kept.head {
        None => None,
        Some(head) => Some(CommitId::parse(&head).ok_or_else(|| damaged("its commit is none".to_owned()))?),
    };
    Ok(Some(Accepted {
        state,
        bytes: kept.text.into_bytes(),
        commit: kept.commit,
        head,
        signed_by: kept.signed_by,
        waivers: kept.waivers,
    }))
}

/// What a new commit is compared with. A record that cannot be read, or that is gone from a host that has acted on
/// one, is not "nothing": whoever could make it vanish could bring back any older state.
pub fn floor(host: &Host, last: &Result<Option<Accepted>, RecordError>) -> Floor {
    match last {
        Ok(Some(last)) => Floor::At { commit: last.head.clone(), serial: last.state.serial },
        Err(error) => Floor::Lost(error.to_string()),
        Ok(None) if has_acted(host) => Floor::Lost(format!(
            "{} is gone, and this host has deployed before",
            host.root.accepted().display()
        )),
        Ok(None) => Floor::Nothing,
    }
}

/// Whether any app of this host has an attempt that a commit asked for.
fn has_acted(host: &Host) -> bool {
    let list = |dir: PathBuf| RealDisk.list(&dir).unwrap_or_default();
    let apps = host.root.apps();
    let dirs = list(apps.clone()).into_iter().filter_map(|app| app.parse::<Name>().ok()).flat_map(|app| {
        let environments = list(apps.join(app.as_str())).into_iter();
        let dir = |environment: Name| host.app_dir(&app, &environment);
        environments.filter_map(|name| name.parse().ok()).map(dir).collect::<Vec<AppDir>>()
    });
    dirs.into_iter().any(|dir| match history::History::read(&RealDisk, &dir) {
        Ok(history) => history.entries().iter().any(|entry| entry.target.state_commit.is_some()),
        // Who cannot tell does not guess.
        Err(_) => true,
    })
}

/// Makes an accepted state durable. One that stands there already is not written again.
pub fn keep(host: &Host, accepted: &Accepted) -> Result<(), RecordError> {
    keep_on(&RealDisk, &host.root, accepted)
}

/// The same of one that an operator let pass: first that he did, then the state.
pub fn keep_waived(
    host: &Host,
    found: &Found,
    before: Option<&Accepted>,
    accepted: &Accepted,
) -> Result<(), RecordError> {
    keep_waived_on(&RealDisk, &host.root, found, before, accepted)
}

fn keep_waived_on(
    disk: &dyn Disk,
    root: &Root,
    found: &Found,
    before: Option<&Accepted>,
    accepted: &Accepted,
) -> Result<(), RecordError> {
    if let Some(Waiver { commit, refusal, by, reason, at }) = accepted.waivers.last().cloned() {
        let from = before.and_then(|before| before.head.as_ref()).map(ToString::to_string);
        let state_commit = found.changed.to_string();
        let acceptance = Acceptance { commit, state_commit, from, refusal, by, reason, at };
        acceptances::append(disk, root, acceptance)?;
    }
    keep_on(disk, root, accepted)
}

fn keep_on(disk: &dyn Disk, root: &Root, accepted: &Accepted) -> Result<(), RecordError> {
    if matches!(last_on(disk, root), Ok(Some(last)) if is_same(&last, accepted)) {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&accepted.bytes).into_owned();
    let kept = Kept {
        path: PathBuf::from("deploy-state.json"),
        text,
        commit: accepted.commit.clone(),
        head: accepted.head.as_ref().map(CommitId::to_string),
        signed_by: accepted.signed_by.clone(),
        waivers: accepted.waivers.clone(),
    };
    accepting(Accepting::Before);
    sealed::write(disk, &root.accepted(), &kept)?;
    accepting(Accepting::After);
    Ok(())
}

/// Whether there is nothing to write down between two of them.
pub fn is_same(old: &Accepted, new: &Accepted) -> bool {
    old.bytes == new.bytes
        && old.head == new.head
        && old.signed_by == new.signed_by
        && old.waivers == new.waivers
        && (old.commit == new.commit || new.head.is_none())
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
mod tests;
