//! What runs, what should, and what to do about the difference.
//!
//! [`look`] gathers a [`View`], which changes nothing on the host; [`assess`] turns it into a [`Status`] and is
//! pure; [`record`] keeps the times at which conditions changed, for the agent to call after each tick.

mod advice;
mod assess;
mod cause;
mod conditions;
mod kept;
mod look;
mod sentence;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use landfall_store::{ArtifactId, Name, Version};
use schemars::JsonSchema;
use serde::Serialize;

use crate::desired::Suspension;
use crate::plan::{Desired, Facts};
use crate::record::content::Content;
use crate::record::controls::Pin;
use crate::record::history::{Entry, Outcome};
use crate::record::journal::{Journal, Stage};
use crate::record::release::ReleaseRef;
use crate::record::source::{Wrong, WrongKind};

pub use assess::assess;
pub use conditions::{Condition, ConditionStatus, Kind};
pub use kept::{KeptConditions, record, report};
pub use look::{Around, look};

/// Whether the release that runs is the one the state asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub enum Sync {
    /// It is.
    Synced,
    /// It is not, or not yet.
    OutOfSync,
    /// The state says nothing about it that could be compared.
    Unknown,
}

/// How what runs now is, whatever is desired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub enum Health {
    /// It proved healthy and its processes run.
    Healthy,
    /// It is on trial.
    Progressing,
    /// It does not run as it should.
    Degraded,
    /// A person suspended the app: nothing is applied or healed.
    Suspended,
    /// Nothing runs.
    Missing,
    /// Nothing is known that would prove it.
    Unknown,
}

/// What the agent does this second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Nothing.
    Idle,
    /// An attempt is in this stage.
    In(Stage),
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Idle => f.pad("Idle"),
            Self::In(stage) => stage.fmt(f),
        }
    }
}

impl JsonSchema for Operation {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Operation".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let stage = generator.subschema_for::<Stage>();
        schemars::json_schema!({"description": "What the agent does this second.", "anyOf": [{"const": "Idle"}, stage]})
    }
}

impl Serialize for Operation {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Wanted {
    /// Which artifact.
    pub artifact: ArtifactId,
    /// What people call it, as far as this host knows.
    pub version: Option<Version>,
    /// Who asked for it.
    pub by: Option<String>,
    /// Why.
    pub why: Option<String>,
}

/// The newest attempt that ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LastAttempt {
    /// Its number.
    pub attempt: u64,
    /// How it ended.
    pub result: Outcome,
    /// Why it failed, in one word.
    pub reason: Option<String>,
    /// When it began.
    pub started: Timestamp,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

impl From<&Entry> for LastAttempt {
    fn from(entry: &Entry) -> Self {
        Self {
            attempt: entry.attempt,
            result: entry.result,
            reason: entry.failure.as_ref().map(|failure| failure.reason.clone()),
            started: entry.started,
            took_ms: entry.took_ms,
        }
    }
}

/// What runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Running {
    /// Which artifact.
    pub artifact: ArtifactId,
    /// What people call it.
    pub version: Version,
    /// The main process; none for a release of files only.
    pub pid: Option<u32>,
    /// Every process.
    pub pids: Vec<u32>,
    /// When the main process started.
    pub since: Option<Timestamp>,
    /// `/proc` shows that every process works in this very release.
    pub attested: bool,
}

/// The release a person went back to on this host, while it counts instead of the state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Pinned {
    /// Which artifact.
    pub artifact: ArtifactId,
    /// What people call it.
    pub version: Version,
    /// Why.
    pub reason: String,
    /// Who said so.
    pub by: String,
    /// Since when.
    pub since: Timestamp,
    /// When it ends by itself.
    pub until: Timestamp,
}

impl From<&Pin> for Pinned {
    fn from(pin: &Pin) -> Self {
        Self {
            artifact: pin.release.artifact,
            version: pin.release.version.clone(),
            reason: pin.reason.clone(),
            by: pin.by.clone(),
            since: pin.since,
            until: pin.until,
        }
    }
}

/// Everything there is to say about one app in one environment on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Status {
    /// Which app.
    pub app: Name,
    /// In which environment.
    pub environment: Name,
    /// On which host.
    pub host: Name,
    /// Does what should run, run?
    pub sync: Sync,
    /// Is what runs well?
    pub health: Health,
    /// What is being done?
    pub operation: Operation,
    /// The state asks for the app to be gone, and it is.
    pub removed: bool,
    /// What should run.
    pub desired: Option<Wanted>,
    /// What runs.
    pub running: Option<Running>,
    /// The artifact that proved healthy last.
    pub last_healthy: Option<ArtifactId>,
    /// Where `landfall rollback` without `--to` goes.
    pub rollback_target: Option<ArtifactId>,
    /// The commit of the state that says what is desired.
    pub state_commit: Option<String>,
    /// The repository that the state comes from, if it is one.
    pub source: Option<Origin>,
    /// The newest attempt that ended.
    pub last_attempt: Option<LastAttempt>,
    /// Why nothing is applied or healed, while that is so.
    pub suspended: Option<Suspension>,
    /// The release a person went back to on this host, while it counts instead of the state.
    pub pinned: Option<Pinned>,
    /// The same for machines.
    pub conditions: Vec<Condition>,
    /// The same as a sentence.
    pub message: String,
    /// What to type next, where a person has something to do.
    pub next: Option<String>,
    /// Whether an agent works on this root.
    pub agent: bool,
}

impl Status {
    /// Whether nothing needs anybody's attention.
    pub fn is_fine(&self) -> bool {
        self.is_synced_and_healthy() && self.next.is_none()
    }

    /// Whether the state may be an old one: nobody has renewed it, or its repository has not answered for too long.
    pub fn is_stale(&self) -> bool {
        let stale = |condition: &Condition| {
            condition.kind == Kind::SourceReady && condition.reason == conditions::STALE
        };
        self.conditions.iter().any(stale)
    }

    /// Whether what should run runs and is well, and what should be gone is.
    pub fn is_synced_and_healthy(&self) -> bool {
        self.sync == Sync::Synced && (self.health == Health::Healthy || self.removed)
    }
}

/// The processes of an app as they were found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Serving {
    /// The release they belong to.
    pub release: Option<ReleaseRef>,
    /// Their pids, the main one first.
    pub pids: Vec<u32>,
    /// How many there should be; 0: the release is files only.
    pub expected: u32,
    /// When the main one started.
    pub since: Option<Timestamp>,
    /// Every one of them works in the release's directory.
    pub attested: bool,
}

/// What is known of the source of the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceView {
    /// Nobody said where it is; the last accepted state counts.
    Unknown,
    /// It was read and parsed.
    Ready,
    /// It was read, and says that it is good until then, which has passed. It counts all the same.
    Stale(Timestamp),
    /// It was read and is not to be trusted; the last accepted state counts.
    Refused(Wrong),
    /// It cannot be read; the last accepted state counts.
    Unreachable(Wrong),
    /// It was read and is no state; the last accepted one counts.
    Invalid(String),
}

impl SourceView {
    /// The same for what is wrong with a source.
    pub fn of(wrong: Wrong) -> Self {
        match wrong.kind {
            WrongKind::Unreachable => Self::Unreachable(wrong),
            WrongKind::Refused => Self::Refused(wrong),
            WrongKind::Invalid => Self::Invalid(wrong.message),
        }
    }
}

/// The repository that the state comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Origin {
    /// Where it is.
    pub place: String,
    /// Its newest commit, as far as the agent has seen.
    pub head: Option<String>,
    /// The commit whose state is in force.
    pub accepted: Option<String>,
    /// Who signed the newest change of it, where signatures are asked for.
    pub signed_by: Option<String>,
    /// When it last answered.
    pub contact: Option<Timestamp>,
    /// Whether signatures are asked for.
    #[serde(skip)]
    pub asks_for_signatures: bool,
}

/// Time without an answer after which the state may be an old one without anybody having noticed.
pub const STALE_AFTER: SignedDuration = SignedDuration::from_mins(15);

impl Origin {
    /// Since when it has not answered, if that is too long.
    pub fn stale_since(&self, now: Timestamp) -> Option<Timestamp> {
        self.contact.filter(|contact| now.duration_since(*contact) > STALE_AFTER)
    }
}

/// Everything a status is made of.
#[derive(Debug, Clone)]
pub struct View {
    /// On which host.
    pub host: Name,
    /// Which app.
    pub app: Name,
    /// In which environment.
    pub environment: Name,
    /// Where its data is, whatever becomes of its releases.
    pub data: PathBuf,
    /// What the state says.
    pub wanted: Desired,
    /// What is wanted, as people call it.
    pub wanted_version: Option<Version>,
    /// What the decision looks at.
    pub facts: Facts,
    /// The attempt in progress.
    pub journal: Option<Journal>,
    /// The newest attempt that ended.
    pub last: Option<Entry>,
    /// What runs.
    pub serving: Serving,
    /// What differs in the files of the linked release, as far as the agent has looked.
    pub content: Option<Content>,
    /// Where the state comes from.
    pub source: SourceView,
    /// The same, where it is a repository.
    pub origin: Option<Origin>,
    /// The commit that holds it.
    pub state_commit: Option<String>,
    /// The file system of the records, if it has no room left for one more.
    pub full: Option<PathBuf>,
    /// Whether an agent works on this root.
    pub agent: bool,
    /// Conditions as the agent last saw them.
    pub kept: KeptConditions,
    /// Now, by the wall clock; only shown.
    pub now: Timestamp,
}
