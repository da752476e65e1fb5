//! What operators decided about an app on this host: suspended, pinned, asked to try again, and who, when, why.
//!
//! One sealed record holds a decision and its effect, so that neither is ever there without the other.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::RecordError;
use super::release::ReleaseRef;
use super::sealed::{self, Sealed};
use crate::desired::Suspension;
use crate::disk::Disk;
use crate::layout::AppDir;

/// Decisions that are kept, the newest: a decade of a busy team.
const DECISIONS_MAX: usize = 1_000;

/// All of an app's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Controls {
    /// Nothing is applied or healed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<Suspension>,
    /// A release that should run whatever the state asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<Pin>,
    /// What the next tick is asked to do besides its usual work.
    #[serde(default, skip_serializing_if = "Fresh::is_nothing")]
    pub fresh: Fresh,
    /// The `reconcileRequestedAt` of the state that was acted on last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested: Option<Timestamp>,
    /// Attempts up to this number do not count against a release any more.
    #[serde(default)]
    pub forgiven: u64,
    /// Who decided what, oldest first.
    #[serde(default)]
    pub decisions: Vec<Decision>,
}

/// A release that should run whatever the state asks, for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// Which release.
    pub release: ReleaseRef,
    /// Why.
    pub reason: String,
    /// Who said so.
    pub by: String,
    /// Since when.
    pub since: Timestamp,
    /// When it ends by itself.
    pub until: Timestamp,
}

/// What the next tick is asked to do besides its usual work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fresh {
    /// Try again what failed here.
    #[serde(default)]
    pub retry: bool,
    /// Deploy an edited env file.
    #[serde(default)]
    pub env: bool,
}

/// Something an operator, or the end of a time, decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Decision {
    /// When, by the wall clock.
    pub at: Timestamp,
    /// What.
    pub what: Act,
    /// Who.
    pub by: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Until when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// About which release or file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
}

/// Kinds of decisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Act {
    /// Applying and healing stop.
    Suspend,
    /// They go on.
    Resume,
    /// A release should run whatever the state asks.
    Pin,
    /// The state counts again.
    Unpin,
    /// What failed here is tried again.
    Retry,
    /// The state is looked at now, and an edited env file is deployed.
    Reconcile,
    /// Damaged records were set aside.
    Recover,
    /// The time of a suspension is over.
    SuspensionEnded,
    /// The time of a pin is over.
    PinEnded,
}

impl Fresh {
    fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl std::fmt::Display for Pin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (version, artifact) = (&self.release.version, self.release.artifact.short());
        write!(f, "{version} ({artifact}) until {:.0}: {} (by {})", self.until, self.reason, self.by)
    }
}

impl std::fmt::Display for Act {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Suspend => "Suspend",
            Self::Resume => "Resume",
            Self::Pin => "Pin",
            Self::Unpin => "Unpin",
            Self::Retry => "Retry",
            Self::Reconcile => "Reconcile",
            Self::Recover => "Recover",
            Self::SuspensionEnded => "SuspensionEnded",
            Self::PinEnded => "PinEnded",
        })
    }
}

impl Sealed for Controls {
    const KIND: &'static str = "controls";
}

impl Controls {
    /// What was decided about this app.
    pub fn read(disk: &dyn Disk, dir: &AppDir) -> Result<Self, RecordError> {
        Ok(sealed::read(disk, &dir.controls())?.unwrap_or_default())
    }

    /// Reads, changes and writes, in one go: whoever else changes it does so before or after. At rest nothing is
    /// written.
    pub fn change<T>(
        disk: &dyn Disk,
        dir: &AppDir,
        change: impl FnOnce(&mut Self) -> T,
    ) -> Result<(Self, T), RecordError> {
        let before = Self::read(disk, dir)?;
        let mut after = before.clone();
        let told = change(&mut after);
        if after != before {
            sealed::write(disk, &dir.controls(), &after)?;
        }
        Ok((after, told))
    }

    /// The suspension that counts now.
    pub fn suspension(&self, now: Timestamp) -> Option<&Suspension> {
        self.suspend.as_ref().filter(|suspend| suspend.until.is_none_or(|until| until > now))
    }

    /// The pin that counts now.
    pub fn pin(&self, now: Timestamp) -> Option<&Pin> {
        self.pin.as_ref().filter(|pin| pin.until > now)
    }

    /// When the next of them ends by itself.
    pub fn next_end(&self) -> Option<Timestamp> {
        let suspend = self.suspend.as_ref().and_then(|suspend| suspend.until);
        suspend.into_iter().chain(self.pin.as_ref().map(|pin| pin.until)).min()
    }

    /// Notes a decision.
    pub fn decide(&mut self, decision: Decision) {
        self.decisions.push(decision);
        let too_many = self.decisions.len().saturating_sub(DECISIONS_MAX);
        self.decisions.drain(..too_many);
    }

    /// Lets go of what has reached its end, and notes that.
    pub fn end_what_is_over(&mut self, now: Timestamp) {
        let ended = |what, about| Decision {
            at: now,
            what,
            by: "landfall".to_owned(),
            reason: Some("its time is over".to_owned()),
            until: None,
            about,
        };
        if self.suspend.is_some() && self.suspension(now).is_none() {
            self.suspend = None;
            self.decide(ended(Act::SuspensionEnded, None));
        }
        if self.pin.is_some()
            && self.pin(now).is_none()
            && let Some(pin) = self.pin.take()
        {
            self.decide(ended(Act::PinEnded, Some(pin.release.name)));
        }
    }
}
