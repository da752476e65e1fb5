//! The journal: the intent of the attempt in progress, durable before each stage acts.

use jiff::Timestamp;
use landfall_store::{ArtifactId, Name, Version};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::RecordError;
use super::release::ReleaseRef;
use super::sealed::{self, Sealed};
use crate::disk::Disk;
use crate::layout::AppDir;

/// Stages of an attempt, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Stage {
    /// Moving what the host lacks.
    Fetching,
    /// Building the release: tree, env, steps.
    Preparing,
    /// Migration steps.
    Migrating,
    /// A trial run on a side port.
    Preflight,
    /// Pointing `current` at it.
    Switching,
    /// Handing it to the process manager.
    Starting,
    /// Proving it healthy.
    Verifying,
    /// Writing the verdict down.
    Committing,
    /// Going back to the last healthy release.
    Reverting,
    /// Taking the app off this host, as the state asks.
    Removing,
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Fetching => "Fetching",
            Self::Preparing => "Preparing",
            Self::Migrating => "Migrating",
            Self::Preflight => "Preflight",
            Self::Switching => "Switching",
            Self::Starting => "Starting",
            Self::Verifying => "Verifying",
            Self::Committing => "Committing",
            Self::Reverting => "Reverting",
            Self::Removing => "Removing",
        })
    }
}

/// Who is to blame for a failure, and so what happens next (`docs/architecture.md`, failure classes).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Class {
    /// The request itself is refused: blocked, wrong environment, unusable host configuration.
    Refused,
    /// The artifact could not be brought here.
    Supply,
    /// A prepare step failed.
    Prepare,
    /// A migration failed.
    Migrate,
    /// Nobody, for now: a step said by its exit status that it may work later, or waits for another host.
    Transient,
    /// The release could not be started.
    Start,
    /// The manager itself does not work: no fault of the release.
    Manager,
    /// It started and did not prove healthy.
    Health,
    /// landfall could not write its own records or links.
    Host,
}

impl Class {
    /// Whether trying the same release again here would fail the same way, so that it is quarantined.
    pub const fn blames_the_release(self) -> bool {
        match self {
            Self::Prepare | Self::Migrate | Self::Start | Self::Health => true,
            Self::Refused | Self::Supply | Self::Transient | Self::Manager | Self::Host => false,
        }
    }
}

/// How a host differed from what landfall had left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Drift {
    /// A process that should run did not.
    ProcessMissing,
    /// A process ran without a supervisor that would start it again.
    Unsupervised,
    /// `current` named something else, or nothing.
    CurrentMoved,
    /// A process of another release of the app ran.
    OtherRelease,
}

impl std::fmt::Display for Drift {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::ProcessMissing => "it was not running",
            Self::Unsupervised => "its supervisor was gone",
            Self::CurrentMoved => "`current` had been moved",
            Self::OtherRelease => "a process of another release ran",
        })
    }
}

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Failure {
    /// Who is to blame.
    pub class: Class,
    /// The condition's reason, one word for machines.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
}

/// What is wanted: an artifact, and the record of who asked for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Target {
    /// The artifact the state names.
    pub artifact: ArtifactId,
    /// The version the state gives it; it must be the artifact's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// Who asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The commit of the state repo that says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_commit: Option<String>,
    /// Switch to it and start nothing: somebody else starts it, and nothing is proved.
    #[serde(default, skip_serializing_if = "is_false")]
    pub unstarted: bool,
}

const fn is_false(value: &bool) -> bool {
    !*value
}

/// How long a stage took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StageTime {
    /// Which stage.
    pub stage: Stage,
    /// Milliseconds on a clock that never jumps.
    pub ms: u64,
}

/// A pause inside an attempt; only shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Waiting {
    /// What failed.
    pub failure: Failure,
    /// How often by now.
    pub tried: u32,
    /// When it is tried again, by the wall clock; of a wait for another host: when it is given up.
    pub until: Timestamp,
}

/// What became of the `after` steps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum After {
    /// All of them ran, or none is due.
    Done,
    /// One failed; those behind it did not run.
    Failed(Failure),
    /// A newer state came first.
    Superseded,
    /// The agent ended while they ran. They are not run again.
    CutShort,
}

/// The attempt in progress.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// Which app.
    pub app: Name,
    /// In which environment.
    pub environment: Name,
    /// Its number, one more than any in the history.
    pub attempt: u64,
    /// What was asked.
    pub target: Target,
    /// The release of it, once known.
    pub to: Option<ReleaseRef>,
    /// What `current` named when the attempt began.
    pub from: Option<ReleaseRef>,
    /// The last healthy release when the attempt began: where a revert goes.
    pub healthy: Option<ReleaseRef>,
    /// The stage whose effects may have begun.
    pub stage: Stage,
    /// How often a crash has already been recovered from since `current` was switched.
    pub resumed: u32,
    /// What it heals; none: it brings what the state asks for. Healing reverts nothing and quarantines nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heals: Option<Drift>,
    /// Why it is being reverted.
    pub failure: Option<Failure>,
    /// When the attempt began, by the wall clock; shown, and compared only to bound how often is healed.
    pub started: Timestamp,
    /// How long the stages before this one took. A stage that a crash cut short has no time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<StageTime>,
    /// What it waits for, while it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Waiting>,
    /// The agent was stopped in it in an orderly way: no crash, and not counted as one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stopped: bool,
    /// What became of the `after` steps, once they are begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<After>,
}

impl Target {
    /// An artifact nobody in particular asked for.
    pub const fn of(artifact: ArtifactId) -> Self {
        Self { artifact, version: None, by: None, why: None, state_commit: None, unstarted: false }
    }
}

impl Sealed for Journal {
    const KIND: &'static str = "journal";
}

impl Journal {
    /// An attempt that begins.
    pub const fn new(app: Name, environment: Name, attempt: u64, target: Target, started: Timestamp) -> Self {
        Self {
            app,
            environment,
            attempt,
            target,
            to: None,
            from: None,
            healthy: None,
            stage: Stage::Fetching,
            resumed: 0,
            failure: None,
            stages: Vec::new(),
            heals: None,
            started,
            waiting: None,
            stopped: false,
            after: None,
        }
    }

    /// The attempt in progress in this app, if any.
    pub fn read(disk: &dyn Disk, dir: &AppDir) -> Result<Option<Self>, RecordError> {
        sealed::read(disk, &dir.journal())
    }

    /// Makes the intent durable.
    pub fn write(&self, disk: &dyn Disk, dir: &AppDir) -> Result<(), RecordError> {
        sealed::write(disk, &dir.journal(), self)
    }

    /// Ends the attempt. Its history entry must be durable before.
    pub fn clear(disk: &dyn Disk, dir: &AppDir) -> Result<(), RecordError> {
        disk.remove(&dir.journal()).map_err(RecordError::io(dir.journal()))
    }
}
