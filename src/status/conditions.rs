//! Conditions: what machines read. Positive ones are always there, negative ones only while they are true.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cause::{Cause, failed_on_current, is_revert_failed};
use super::{Health, SourceView, Sync, View};
use crate::plan::{Current, Desired};
use crate::record::history::{Entry, Outcome};
use crate::record::journal::{After, Class, Drift, Failure};

/// Types of conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Kind {
    /// What should run runs and is well.
    Ready,
    /// What runs is well.
    Healthy,
    /// The state can be read.
    SourceReady,
    /// The state carries the signature that host.toml asks for.
    SourceVerified,
    /// The state is one.
    StateValid,
    /// The artifact is here, or could be had.
    ArtifactInStore,
    /// An attempt is in progress.
    Reconciling,
    /// It will not move without a person or a new state.
    Stalled,
    /// The desired release failed here.
    Quarantined,
    /// landfall went back by itself.
    RolledBack,
    /// The host differs from what landfall left.
    Drifted,
    /// What runs is well, but an `after` step of it failed or did not run to its end.
    AfterFailed,
}

/// The reason of a source that nobody has heard from, or renewed, for too long.
pub(super) const STALE: &str = "Stale";

/// Reasons of a refusal that are about signatures.
const SIGNATURE_REASONS: [&str; 4] =
    ["SignatureMissing", "SignatureInvalid", "KeyNotTrusted", "SignersUnreadable"];

/// Whether it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConditionStatus {
    /// It does.
    True,
    /// It does not.
    False,
    /// Nobody can tell.
    Unknown,
}

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Condition {
    /// What is said.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// One word why.
    pub reason: String,
    /// A sentence why.
    pub message: String,
    /// When its status last changed, as far as this host knows.
    pub last_transition: Option<Timestamp>,
}

/// Everything that can be said of a view, in the order of the types.
pub(super) fn conditions(
    view: &View,
    cause: &Cause,
    sync: Sync,
    health: Health,
    message: &str,
) -> Vec<Condition> {
    let mut said = Said { view, conditions: Vec::new() };
    said.ready(cause, sync, health, message);
    said.healthy(cause, health);
    said.source_ready();
    said.source_verified();
    said.state_valid();
    said.artifact_in_store();
    said.reconciling(cause);
    said.stalled(cause, message);
    said.quarantined(cause);
    said.rolled_back(sync);
    said.drifted(cause);
    said.after_failed();
    said.conditions
}

struct Said<'a> {
    view: &'a View,
    conditions: Vec<Condition>,
}

impl Said<'_> {
    fn say(&mut self, kind: Kind, status: ConditionStatus, reason: &str, message: impl Into<String>) {
        let last_transition = self.view.kept.since(kind, status).or_else(|| self.last_event());
        let (reason, message) = (reason.to_owned(), message.into());
        self.conditions.push(Condition { kind, status, reason, message, last_transition });
    }

    /// A time for what nobody has recorded yet.
    fn last_event(&self) -> Option<Timestamp> {
        match (&self.view.journal, &self.view.last) {
            (Some(journal), _) => Some(journal.started),
            (None, Some(last)) => Some(ended(last)),
            (None, None) => None,
        }
    }

    fn ready(&mut self, cause: &Cause, sync: Sync, health: Health, message: &str) {
        if *cause == Cause::Removed {
            return self.say(Kind::Ready, ConditionStatus::True, "Removed", message);
        }
        if sync == Sync::Synced && health == Health::Healthy && !matches!(cause, Cause::Attempt(_)) {
            return self.say(Kind::Ready, ConditionStatus::True, "ReconciliationSucceeded", message);
        }
        self.say(Kind::Ready, ConditionStatus::False, &not_ready(self.view, cause), message);
    }

    fn healthy(&mut self, cause: &Cause, health: Health) {
        let serving = &self.view.serving;
        let counted = format!("{} of {} processes run", serving.pids.len(), serving.expected);
        match (health, cause) {
            (Health::Healthy, _) => {
                self.say(Kind::Healthy, ConditionStatus::True, "ProbesPassing", "it proved healthy and runs");
            }
            (Health::Suspended, Cause::Pinned(pin)) => {
                self.say(Kind::Healthy, ConditionStatus::True, "Pinned", format!("pinned to {pin}; it runs"));
            }
            (Health::Suspended, _) => {
                let running = self.view.facts.running.is_whole();
                let status = if running { ConditionStatus::Unknown } else { ConditionStatus::False };
                self.say(Kind::Healthy, status, "Suspended", "nothing is healed while the app is suspended");
            }
            (Health::Missing, Cause::Removed) => {
                self.say(Kind::Healthy, ConditionStatus::Unknown, "Removed", "nothing is to run here");
            }
            (Health::Missing, _) => {
                self.say(Kind::Healthy, ConditionStatus::False, "NotStarted", "nothing runs here");
            }
            (Health::Progressing, _) => {
                self.say(Kind::Healthy, ConditionStatus::Unknown, "Progressing", "it is on trial");
            }
            (_, Cause::WillNotRun(_)) => {
                self.say(Kind::Healthy, ConditionStatus::False, "RestartBudgetExceeded", counted);
            }
            (Health::Degraded, _) if !self.view.facts.running.is_whole() => {
                self.say(Kind::Healthy, ConditionStatus::False, "ProcessExited", counted);
            }
            (Health::Degraded, _) => {
                let why = failed_on_current(self.view).and_then(|last| last.failure.as_ref());
                let why = why.map_or_else(|| counted.clone(), |failure| failure.message.clone());
                self.say(Kind::Healthy, ConditionStatus::False, "ProbesFailing", why);
            }
            (Health::Unknown, _) => {
                let what = "what is linked never proved healthy here";
                self.say(Kind::Healthy, ConditionStatus::Unknown, "NotProved", what);
            }
        }
    }

    fn source_ready(&mut self) {
        match &self.view.source {
            SourceView::Unknown => {}
            SourceView::Ready | SourceView::Invalid(_) => match self.view.origin.as_ref() {
                None => self.say(Kind::SourceReady, ConditionStatus::True, "Succeeded", "the state was read"),
                Some(origin) => match origin.stale_since(self.view.now) {
                    Some(since) => {
                        let what = format!("{} has not answered since {}", origin.place, time(since));
                        self.say(Kind::SourceReady, ConditionStatus::False, STALE, what);
                    }
                    None => {
                        let what = format!("{} was read", origin.place);
                        self.say(Kind::SourceReady, ConditionStatus::True, "Succeeded", what);
                    }
                },
            },
            SourceView::Stale(end) => {
                let what = format!("the state is good until {end} and was not renewed");
                self.say(Kind::SourceReady, ConditionStatus::False, STALE, what);
            }
            SourceView::Refused(wrong) => {
                self.say(Kind::SourceReady, ConditionStatus::False, &wrong.reason, &wrong.message);
            }
            SourceView::Unreachable(wrong) => {
                let silent = self.view.origin.as_ref().and_then(|origin| origin.stale_since(self.view.now));
                let (reason, what) = match silent {
                    Some(since) => {
                        (STALE, format!("{}; the last answer was at {}", wrong.message, time(since)))
                    }
                    None => (wrong.reason.as_str(), wrong.message.clone()),
                };
                self.say(Kind::SourceReady, ConditionStatus::False, reason, what);
            }
        }
    }

    /// Only where signatures are asked for.
    fn source_verified(&mut self) {
        let Some(origin) = self.view.origin.as_ref().filter(|origin| origin.asks_for_signatures) else {
            return;
        };
        match &self.view.source {
            SourceView::Refused(wrong) if SIGNATURE_REASONS.contains(&wrong.reason.as_str()) => {
                self.say(Kind::SourceVerified, ConditionStatus::False, &wrong.reason, &wrong.message);
            }
            _ => match &origin.signed_by {
                Some(by) => {
                    let what = format!("the state in force is signed by {by}");
                    self.say(Kind::SourceVerified, ConditionStatus::True, "Succeeded", what);
                }
                None => {
                    let what = "the state in force was accepted without a signature";
                    self.say(Kind::SourceVerified, ConditionStatus::Unknown, "NotVerified", what);
                }
            },
        }
    }

    fn state_valid(&mut self) {
        match (&self.view.source, &self.view.wanted) {
            (SourceView::Invalid(why), _) => {
                self.say(Kind::StateValid, ConditionStatus::False, invalid(why), why);
            }
            (_, Desired::Invalid(why)) => {
                self.say(Kind::StateValid, ConditionStatus::False, "SchemaViolation", why);
            }
            (SourceView::Unreachable(_), Desired::NotInState) => {
                self.say(
                    Kind::StateValid,
                    ConditionStatus::Unknown,
                    "SourceUnreachable",
                    "there is no state",
                );
            }
            _ => self.say(Kind::StateValid, ConditionStatus::True, "Succeeded", "the state is valid"),
        }
    }

    fn artifact_in_store(&mut self) {
        let Some(wanted) = self.view.wanted.target() else { return };
        let last = self.view.last.as_ref().filter(|last| last.target.artifact == wanted.artifact);
        let failure = last.and_then(|last| last.failure.as_ref());
        if let Some(failure) = failure.filter(|failure| failure.class == Class::Supply) {
            let (reason, message) = (failure.reason.clone(), failure.message.clone());
            return self.say(Kind::ArtifactInStore, ConditionStatus::False, &reason, message);
        }
        if self.view.facts.candidate.is_some() {
            return self.say(Kind::ArtifactInStore, ConditionStatus::True, "Succeeded", "it is on this host");
        }
        let what = "this host has not asked the store for it yet";
        self.say(Kind::ArtifactInStore, ConditionStatus::Unknown, "NotFetched", what);
    }

    fn reconciling(&mut self, cause: &Cause) {
        let Cause::Attempt(journal) = cause else { return };
        let retried = journal.resumed > 0 || journal.waiting.is_some();
        let reason = if retried { "ProgressingWithRetry" } else { "Progressing" };
        let mut what = format!("attempt {} is {}", journal.attempt, journal.stage);
        if let Some(waiting) = &journal.waiting {
            let (tried, until) = (waiting.tried, time(waiting.until));
            let next =
                if waiting.failure.reason == "MigrationAwaited" { "given up at" } else { "next try at" };
            what = format!("{what}: try {tried} failed: {}; {next} {until}", waiting.failure.message);
        }
        self.say(Kind::Reconciling, ConditionStatus::True, reason, what);
    }

    fn stalled(&mut self, cause: &Cause, message: &str) {
        let revert_failed = self.view.last.as_ref().is_some_and(is_revert_failed);
        let nothing_runs = self.view.facts.current == Current::Absent;
        let reason = match cause {
            Cause::Attempt(_) | Cause::CutShort(_) => return,
            _ if revert_failed && failed_on_current(self.view).is_some() => "RevertFailed",
            Cause::Quarantined { .. } if nothing_runs => "NoRollbackTarget",
            Cause::Quarantined { .. } => "Quarantined",
            Cause::Blocked(_) => "Blocked",
            Cause::StateInvalid(_) => "StateInvalid",
            Cause::CurrentBroken(_) => "CurrentChanged",
            Cause::WillNotRun(_) => "RestartBudgetExceeded",
            Cause::Interrupted(_) => "Interrupted",
            Cause::NoRoom(_) => "InsufficientSpace",
            Cause::Failed(last) if last.result == Outcome::Refused => "Refused",
            Cause::Failed(last) if last.retry_in_ms.is_some() || is_supply(last) => "RetriesExhausted",
            _ => return,
        };
        let next = match cause {
            Cause::Failed(last) => last.next_try(),
            _ => None,
        };
        let message = match next {
            Some(next) if self.view.agent => format!("{message}; next try at {}", time(next)),
            _ => message.to_owned(),
        };
        self.say(Kind::Stalled, ConditionStatus::True, reason, message);
    }

    fn quarantined(&mut self, cause: &Cause) {
        let Cause::Quarantined { attempt, release, failure } = cause else { return };
        let what = format!("{} failed in attempt {attempt}: {}", release.version, failure.message);
        self.say(Kind::Quarantined, ConditionStatus::True, reason_of(failure), what);
    }

    fn rolled_back(&mut self, sync: Sync) {
        let reverted = self.view.last.as_ref().filter(|last| last.result == Outcome::Reverted);
        let (Some(last), Sync::OutOfSync) = (reverted, sync) else { return };
        let what = format!("attempt {} failed and the last healthy release was put back", last.attempt);
        self.say(Kind::RolledBack, ConditionStatus::True, "Automatic", what);
    }

    fn drifted(&mut self, cause: &Cause) {
        let (reason, what) = match cause {
            Cause::Fine { env_changed: true } => {
                ("EnvChanged", "an env file was edited since the start".to_owned())
            }
            Cause::CurrentBroken(why) => ("CurrentChanged", why.clone()),
            _ if self.is_another_release() => {
                ("WrongRelease", "processes of another release than the linked one run".to_owned())
            }
            Cause::Drifted(release, heals) => {
                (reason_of_drift(*heals), format!("{}: {heals}", release.version))
            }
            Cause::WillNotRun(release) => {
                ("ProcessMissing", format!("{} should run and does not", release.version))
            }
            Cause::Suspended(_) if self.is_stopped() => {
                ("ProcessMissing", "what is linked does not run".to_owned())
            }
            _ => match &self.view.content {
                Some(content) => ("ContentChanged", content.to_string()),
                None => return,
            },
        };
        self.say(Kind::Drifted, ConditionStatus::True, reason, what);
    }

    fn after_failed(&mut self) {
        let Some(last) = &self.view.last else { return };
        let (reason, what) = match &last.after {
            Some(After::Failed(failure)) => ("StepFailed", failure.message.clone()),
            Some(After::CutShort) => (
                "Interrupted",
                "the agent ended while the `after` steps ran; they are not run again".to_owned(),
            ),
            Some(After::Done | After::Superseded) | None => return,
        };
        let what = format!("attempt {}: {what}", last.attempt);
        self.say(Kind::AfterFailed, ConditionStatus::True, reason, what);
    }

    fn is_stopped(&self) -> bool {
        !self.view.facts.running.is_whole() && self.view.facts.current.release().is_some()
    }

    fn is_another_release(&self) -> bool {
        let (linked, serving) = (self.view.facts.current.release(), self.view.serving.release.as_ref());
        self.view.journal.is_none() && linked.is_some() && serving.is_some() && linked != serving
    }
}

fn is_supply(entry: &Entry) -> bool {
    entry.failure.as_ref().is_some_and(|failure| failure.class == Class::Supply)
}

/// A moment to the second.
fn time(moment: Timestamp) -> Timestamp {
    moment.round(jiff::Unit::Second).unwrap_or(moment)
}

/// The condition's word for a drift.
const fn reason_of_drift(drift: Drift) -> &'static str {
    match drift {
        Drift::ProcessMissing => "ProcessMissing",
        Drift::Unsupervised => "Unsupervised",
        Drift::CurrentMoved => "CurrentChanged",
        Drift::OtherRelease => "WrongRelease",
    }
}

/// When an attempt ended.
pub(super) fn ended(entry: &Entry) -> Timestamp {
    entry.ended()
}

fn invalid(why: &str) -> &'static str {
    if why.contains("apiVersion") { "UnsupportedVersion" } else { "InvalidState" }
}

fn not_ready(view: &View, cause: &Cause) -> String {
    let last = view.last.as_ref();
    let reason = match cause {
        Cause::Attempt(_) | Cause::Pending | Cause::Leaving(_) | Cause::Drifted(..) => "Progressing",
        Cause::Removed => "Removed",
        Cause::CutShort(_) => "Interrupted",
        Cause::Suspended(_) => "Suspended",
        Cause::Pinned(_) => "Pinned",
        Cause::NotInState => "NotInState",
        Cause::StateInvalid(_) => "StateInvalid",
        Cause::SourceUnreachable(_) => "SourceUnreachable",
        Cause::StateRefused(wrong) => return wrong.reason.clone(),
        Cause::SourceSilent(_) => "Stale",
        Cause::StateStale(_) => "Stale",
        Cause::Blocked(_) => "Blocked",
        Cause::CurrentBroken(_) => "CurrentChanged",
        Cause::WillNotRun(_) => "RestartBudgetExceeded",
        Cause::Interrupted(_) => "Interrupted",
        Cause::NoRoom(_) => "InsufficientSpace",
        Cause::Quarantined { .. } if last.is_some_and(is_revert_failed) => "RevertFailed",
        Cause::Quarantined { failure, .. } => reason_of(failure),
        Cause::Failed(entry) => entry.failure.as_ref().map_or("Failed", reason_of),
        Cause::Fine { .. } | Cause::ContentChanged(_) => "NotProved",
    };
    reason.to_owned()
}

/// The condition's word for a failure.
fn reason_of(failure: &Failure) -> &str {
    match failure.class {
        Class::Prepare | Class::Migrate | Class::Transient => "StepFailed",
        Class::Start | Class::Manager => "StartFailed",
        Class::Health if failure.reason == "RevertFailed" => "RevertFailed",
        Class::Health => "HealthCheckFailed",
        Class::Supply => "ArtifactFailed",
        Class::Refused | Class::Host => &failure.reason,
    }
}
