//! What to do next for one app: a pure decision over observed facts. The plan prints as the dry run.

use std::fmt;

use jiff::SignedDuration;

use crate::desired::Suspension;
use crate::record::controls::{Fresh, Pin};
use crate::record::journal::{Drift, Failure, Target};
use crate::record::quarantine::{Interrupted, Quarantine};
use crate::record::release::ReleaseRef;

pub use crate::desired::Desired;

/// What `current` is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Current {
    /// No release was ever healthy here.
    Absent,
    /// A prepared release.
    Release(ReleaseRef),
    /// A link that landfall did not make, or to what is no prepared release: it can be put back.
    Moved(String),
    /// No link at all, so somebody's own files: never replaced.
    Broken(String),
}

impl Current {
    /// The release it names, if any.
    pub const fn release(&self) -> Option<&ReleaseRef> {
        match self {
            Self::Release(release) => Some(release),
            Self::Absent | Self::Moved(_) | Self::Broken(_) => None,
        }
    }
}

/// The release that the desired artifact would be on this host, as far as it is known without fetching.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Which release.
    pub release: ReleaseRef,
    /// It is on disk, prepared.
    pub prepared: bool,
    /// Against what runs: same artifact and run settings, only the env differs.
    pub only_env_differs: bool,
}

/// Whether the processes of `current` run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Running {
    /// All that should, from this release, and somebody starts them again when they die.
    Yes,
    /// At least one died, and its supervisor is about to start it again.
    Returning,
    /// At least one is not there, and nobody starts it.
    No,
    /// At least one died too often: its supervisor has stopped starting it.
    GaveUp,
    /// All that should, but their supervisor is gone: nobody would start them again.
    Unsupervised,
    /// A process of another release of the app runs, and nobody landfall knows has started it.
    Elsewhere,
}

impl Running {
    /// Whether every process that should be there is.
    pub const fn is_whole(self) -> bool {
        matches!(self, Self::Yes | Self::Unsupervised)
    }

    /// The worse of two: an app runs as its worst process does.
    pub const fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Elsewhere, _) | (_, Self::Elsewhere) => Self::Elsewhere,
            (Self::GaveUp, _) | (_, Self::GaveUp) => Self::GaveUp,
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Unsupervised, _) | (_, Self::Unsupervised) => Self::Unsupervised,
            (Self::Returning, _) | (_, Self::Returning) => Self::Returning,
            (Self::Yes, Self::Yes) => Self::Yes,
        }
    }
}

/// What the newest entries of the history say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recent {
    /// The desired artifact could not be brought here in the last attempt.
    pub not_supplied: bool,
    /// Attempts in a row, up to now and since the machine booted, in which the linked release would not run
    /// again.
    pub failed_restarts: u32,
    /// Attempts in a row, up to now and within the last [`HEAL_WINDOW`], that healed this release.
    pub heals: u32,
}

/// Restarts of a release that had proved healthy, before a person must look (doco-cd's figure).
pub const FAILED_RESTARTS_MAX: u32 = 5;
/// Times that landfall heals the same release within [`HEAL_WINDOW`]: whoever undoes it is not to be fought.
pub const HEALS_MAX: u32 = 5;
/// The span those are counted in.
pub const HEAL_WINDOW: SignedDuration = SignedDuration::from_mins(5);

/// Everything the decision looks at.
#[derive(Debug, Clone)]
pub struct Facts {
    /// What is wanted.
    pub desired: Desired,
    /// What is linked.
    pub current: Current,
    /// The release that landfall left linked and proved, as its history says.
    pub left: Option<ReleaseRef>,
    /// What runs of the release that should: the one left if it is known, else the one linked.
    pub running: Running,
    /// What would be.
    pub candidate: Option<Candidate>,
    /// Releases that proved healthy here and are still on disk, most recently proved first.
    pub healthy: Vec<ReleaseRef>,
    /// Releases that failed here.
    pub quarantine: Quarantine,
    /// How the last attempts went.
    pub recent: Recent,
    /// An env edit alone is deployed, not just reported.
    pub deploy_env_changes: bool,
    /// What was asked of this tick.
    pub fresh: Fresh,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Nothing: what should run runs.
    InSync {
        /// The env files were edited since the start; the next deploy takes them.
        env_changed: bool,
    },
    /// Nothing may be done, and why.
    Hold(Hold),
    /// The release must not be tried, and why.
    Refuse(Refusal),
    /// Bring this artifact here and switch to it.
    Deploy {
        /// What was asked.
        target: Target,
        /// A prepared release on disk: fetch and steps are not needed.
        reuse: Option<ReleaseRef>,
    },
    /// The host differs from what landfall left: put `current` back to this release, start it, prove it again.
    Restart {
        /// What was asked.
        target: Target,
        /// The release.
        release: ReleaseRef,
        /// What differs.
        heals: Drift,
    },
    /// The app is to go, and is still here.
    Remove {
        /// The release that is linked.
        release: ReleaseRef,
    },
    /// The app is to go, and nothing of it is in service.
    Removed,
}

/// Why nothing is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hold {
    /// A person suspended the app.
    Suspended(Suspension),
    /// A person went back to the release that runs; what the state asks waits.
    Pinned(Box<Pin>),
    /// The state does not name it.
    NotInState,
    /// The state's words about it are wrong.
    Invalid(String),
    /// `current` is not what landfall left.
    CurrentBroken(String),
    /// What runs stopped and did not come back.
    WillNotRun(ReleaseRef),
    /// Two attempts in a row were cut short in the same stage.
    Interrupted(Interrupted),
}

/// Why a release is not tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It failed here before.
    Quarantined {
        /// The attempt that failed.
        attempt: u64,
        /// The release.
        release: ReleaseRef,
        /// Why it failed.
        failure: Failure,
    },
    /// The state blocks it.
    Blocked(String),
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Suspended(why) => write!(f, "suspended: {why}"),
            Self::Pinned(pin) => write!(f, "pinned on this host to {pin}"),
            Self::NotInState => f.write_str("the state does not name this app; what runs stays"),
            Self::Invalid(why) => write!(f, "the state is invalid here: {why}"),
            Self::CurrentBroken(why) => write!(f, "`current` is not as landfall left it: {why}"),
            Self::WillNotRun(release) => write!(
                f,
                "{} {} stopped too often and is not started again ({FAILED_RESTARTS_MAX} times in 5 minutes)",
                release.version,
                release.artifact.short()
            ),
            Self::Interrupted(held) => write!(
                f,
                "the agent died twice in a row while it was {} {}, the last time in attempt {}",
                held.stage,
                held.artifact.short(),
                held.attempt
            ),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quarantined { attempt, release, failure } => write!(
                f,
                "{} {} failed here in attempt {attempt}: {}",
                release.version,
                release.artifact.short(),
                failure.message
            ),
            Self::Blocked(reason) => write!(f, "the state blocks this artifact: {reason}"),
        }
    }
}

/// Decides. Pure: equal facts, equal plan.
pub fn decide(facts: &Facts) -> Plan {
    if let Desired::Suspended { why, .. } = &facts.desired {
        return Plan::Hold(Hold::Suspended(why.clone()));
    }
    if let Current::Broken(why) = &facts.current {
        return Plan::Hold(Hold::CurrentBroken(why.clone()));
    }
    if facts.desired == Desired::Absent {
        return facts
            .current
            .release()
            .map_or(Plan::Removed, |release| Plan::Remove { release: release.clone() });
    }
    let Some((release, heals)) = drift(facts) else {
        return match &facts.current {
            Current::Moved(why) if facts.left.is_none() => Plan::Hold(Hold::CurrentBroken(why.clone())),
            _ => rather_proved(towards_the_desired(facts, facts.current.release()), facts),
        };
    };
    // What the state asks for is compared with what landfall left, not with what somebody made of it.
    let plan = towards_the_desired(facts, Some(release));
    if goes_elsewhere(&plan, facts) { plan } else { heal(facts, release, heals) }
}

/// The plan as far as the state is concerned, where this release is linked.
fn towards_the_desired(facts: &Facts, linked: Option<&ReleaseRef>) -> Plan {
    let target = match &facts.desired {
        Desired::Suspended { why, .. } => return Plan::Hold(Hold::Suspended(why.clone())),
        Desired::Pinned { pin, .. } => return towards_the_pin(facts, linked, pin),
        Desired::Absent => return Plan::Removed,
        Desired::NotInState => return Plan::Hold(Hold::NotInState),
        Desired::Invalid(why) => return Plan::Hold(Hold::Invalid(why.clone())),
        Desired::Blocked { reason, .. } => return Plan::Refuse(Refusal::Blocked(reason.clone())),
        Desired::Target(target) => target,
    };
    if let Some(env_changed) = is_what_runs(facts, linked, target) {
        return Plan::InSync { env_changed };
    }
    if target.unstarted && is_linked(facts) {
        return Plan::InSync { env_changed: false };
    }
    if let Some(refusal) = quarantined(facts, target) {
        return Plan::Refuse(refusal);
    }
    let identity = facts.candidate.as_ref().map(|candidate| candidate.release.identity);
    if let Some(held) = facts.quarantine.holds(target.artifact, identity) {
        return Plan::Hold(Hold::Interrupted(held.clone()));
    }
    let reuse = facts
        .candidate
        .as_ref()
        .filter(|candidate| candidate.prepared)
        .map(|candidate| candidate.release.clone());
    Plan::Deploy { target: target.clone(), reuse }
}

/// What is linked may never have proved itself: a newer state came while it was on trial. If nothing newer can
/// take its place now, the last healthy release does.
fn rather_proved(plan: Plan, facts: &Facts) -> Plan {
    let stuck = match &plan {
        Plan::Refuse(_) | Plan::Hold(Hold::Interrupted(_)) => true,
        Plan::Deploy { .. } => facts.recent.not_supplied,
        _ => false,
    };
    let stuck = stuck && matches!(facts.desired, Desired::Target(_) | Desired::Blocked { .. });
    match (facts.current.release(), facts.healthy.first()) {
        (Some(current), Some(proved)) if stuck && current != proved => {
            Plan::Deploy { target: going_back_to(proved), reuse: Some(proved.clone()) }
        }
        _ => plan,
    }
}

fn going_back_to(release: &ReleaseRef) -> Target {
    Target {
        by: Some("landfall".to_owned()),
        why: Some("what is in service never proved healthy, and what is wanted cannot be had".to_owned()),
        ..Target::of(release.artifact)
    }
}

/// Whether `current` names the candidate: all there is to do for a release that is not to be started.
fn is_linked(facts: &Facts) -> bool {
    let candidate = facts.candidate.as_ref().map(|candidate| candidate.release.identity);
    facts.current.release().is_some_and(|current| Some(current.identity) == candidate)
}

/// Back to the release a person chose on this host, and no further.
fn towards_the_pin(facts: &Facts, linked: Option<&ReleaseRef>, pin: &Pin) -> Plan {
    let current = linked.filter(|linked| facts.healthy.first() == Some(*linked));
    // A release that is gone was made again from its artifact, perhaps with another env.
    let gone = !facts.healthy.contains(&pin.release);
    let is_it =
        |current: &ReleaseRef| *current == pin.release || gone && current.artifact == pin.release.artifact;
    if current.is_some_and(is_it) {
        return Plan::Hold(Hold::Pinned(Box::new(pin.clone())));
    }
    if let Some(item) = facts.quarantine.forbids(pin.release.identity) {
        return Plan::Refuse(Refusal::Quarantined {
            attempt: item.attempt,
            release: item.release.clone(),
            failure: item.failure.clone(),
        });
    }
    let target = Target {
        version: Some(pin.release.version.clone()),
        by: Some(pin.by.clone()),
        why: Some(format!("rollback on this host: {}", pin.reason)),
        ..Target::of(pin.release.artifact)
    };
    Plan::Deploy { target, reuse: Some(pin.release.clone()) }
}

/// How the host differs from what landfall left, and the proved release to put right.
fn drift(facts: &Facts) -> Option<(&ReleaseRef, Drift)> {
    let left = facts.left.as_ref().filter(|left| facts.healthy.contains(left));
    if let Some(left) = left.filter(|left| facts.current.release() != Some(left)) {
        return Some((left, Drift::CurrentMoved));
    }
    let linked = facts.current.release().filter(|linked| facts.healthy.first() == Some(linked))?;
    let heals = match facts.running {
        Running::Yes | Running::Returning => return None,
        Running::No | Running::GaveUp => Drift::ProcessMissing,
        Running::Unsupervised => Drift::Unsupervised,
        Running::Elsewhere => Drift::OtherRelease,
    };
    Some((linked, heals))
}

/// Whether the plan brings another release into service, so that starting the old one would only delay it.
/// Where the new one could not be had, the old one is started first: a reboot with the store down.
fn goes_elsewhere(plan: &Plan, facts: &Facts) -> bool {
    matches!(plan, Plan::Deploy { .. }) && !facts.recent.not_supplied
}

fn heal(facts: &Facts, release: &ReleaseRef, heals: Drift) -> Plan {
    let spent = facts.recent.failed_restarts >= FAILED_RESTARTS_MAX || facts.recent.heals >= HEALS_MAX;
    let gave_up = heals == Drift::ProcessMissing && facts.running == Running::GaveUp;
    if (spent || gave_up) && !facts.fresh.retry {
        return Plan::Hold(Hold::WillNotRun(release.clone()));
    }
    let target = match &facts.desired {
        Desired::Target(target) if target.artifact == release.artifact => target.clone(),
        _ => Target {
            by: Some("landfall".to_owned()),
            why: Some(heals.to_string()),
            ..Target::of(release.artifact)
        },
    };
    Plan::Restart { target, release: release.clone(), heals }
}

/// Whether the linked release is the one wanted, and if so, whether its env was edited since.
fn is_what_runs(facts: &Facts, linked: Option<&ReleaseRef>, target: &Target) -> Option<bool> {
    let current = linked?;
    if current.artifact != target.artifact || facts.healthy.first() != Some(current) {
        return None;
    }
    match &facts.candidate {
        Some(candidate) if candidate.release.identity == current.identity => Some(false),
        Some(candidate) => (candidate.only_env_differs && !facts.deploy_env_changes).then_some(true),
        // Not knowing the candidate of the very artifact that runs means only that its env cannot be resolved now.
        None => Some(false),
    }
}

fn quarantined(facts: &Facts, target: &Target) -> Option<Refusal> {
    let item = match &facts.candidate {
        Some(candidate) => facts.quarantine.forbids(candidate.release.identity),
        None => {
            facts.quarantine.items.iter().find(|item| item.release.artifact == target.artifact && !item.left)
        }
    }?;
    Some(Refusal::Quarantined {
        attempt: item.attempt,
        release: item.release.clone(),
        failure: item.failure.clone(),
    })
}

/// Where a revert goes: the release that proved healthy last and is not the one that failed.
pub fn revert_target(healthy: &[ReleaseRef], failed: Option<&ReleaseRef>) -> Option<ReleaseRef> {
    healthy.iter().find(|release| Some(release.identity) != failed.map(|failed| failed.identity)).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::Place;
    use crate::record::journal::{Class, Stage};
    use crate::record::quarantine::Quarantined;
    use jiff::Timestamp;
    use landfall_store::{ArtifactId, Digest};

    fn release(name: &str) -> ReleaseRef {
        let artifact = ArtifactId::of(name.as_bytes());
        ReleaseRef::new(artifact, Digest::of(name.as_bytes()), name.parse().unwrap())
    }

    fn target(name: &str) -> Target {
        Target::of(ArtifactId::of(name.as_bytes()))
    }

    fn candidate(name: &str, prepared: bool) -> Option<Candidate> {
        Some(Candidate { release: release(name), prepared, only_env_differs: false })
    }

    fn running_a_wanting(name: &str) -> Facts {
        Facts {
            desired: Desired::Target(target(name)),
            current: Current::Release(release("a")),
            left: Some(release("a")),
            running: Running::Yes,
            candidate: candidate(name, name == "a"),
            healthy: vec![release("a")],
            quarantine: Quarantine::default(),
            recent: Recent::default(),
            deploy_env_changes: false,
            fresh: Fresh::default(),
        }
    }

    fn suspended(target: Option<Target>) -> Desired {
        let why =
            Suspension { reason: "r".into(), by: "b".into(), since: None, until: None, place: Place::State };
        Desired::Suspended { target, why }
    }

    fn pinned_to(name: &str, state: &str) -> Desired {
        let at = Timestamp::UNIX_EPOCH;
        let pin = Pin { release: release(name), reason: "r".into(), by: "b".into(), since: at, until: at };
        Desired::Pinned { target: Some(target(state)), pin: Box::new(pin) }
    }

    fn quarantine(name: &str, left: bool) -> Quarantine {
        let failure = Failure { class: Class::Health, reason: "x".into(), message: "x".into() };
        Quarantine {
            items: vec![Quarantined {
                release: release(name),
                attempt: 7,
                failure,
                since: Timestamp::UNIX_EPOCH,
                left,
            }],
            interrupted: None,
        }
    }

    #[test]
    fn at_the_goal_nothing_happens() {
        assert_eq!(decide(&running_a_wanting("a")), Plan::InSync { env_changed: false });
    }

    #[test]
    fn a_new_artifact_is_deployed_and_one_on_disk_is_reused() {
        let facts = running_a_wanting("b");
        assert_eq!(decide(&facts), Plan::Deploy { target: target("b"), reuse: None });
        let facts = Facts { candidate: candidate("b", true), ..facts };
        assert_eq!(decide(&facts), Plan::Deploy { target: target("b"), reuse: Some(release("b")) });
        let facts = Facts { candidate: None, ..facts };
        assert_eq!(decide(&facts), Plan::Deploy { target: target("b"), reuse: None });
    }

    #[test]
    fn b46_a_quarantined_release_is_refused_until_the_state_has_been_elsewhere() {
        let facts = Facts { quarantine: quarantine("b", false), ..running_a_wanting("b") };
        assert!(matches!(decide(&facts), Plan::Refuse(Refusal::Quarantined { attempt: 7, .. })));
        let unknown = Facts { candidate: None, ..facts.clone() };
        assert!(matches!(decide(&unknown), Plan::Refuse(Refusal::Quarantined { .. })));
        let back = Facts { quarantine: quarantine("b", true), ..facts };
        assert!(matches!(decide(&back), Plan::Deploy { .. }));
    }

    #[test]
    fn another_env_is_another_release_and_not_quarantined() {
        let mut facts = Facts { quarantine: quarantine("b", false), ..running_a_wanting("b") };
        let mut other = release("b");
        other.identity = Digest::of(b"another env");
        facts.candidate = Some(Candidate { release: other, prepared: false, only_env_differs: false });
        assert!(matches!(decide(&facts), Plan::Deploy { .. }));
    }

    #[test]
    fn an_env_edit_on_a_healthy_host_only_reports() {
        let mut facts = running_a_wanting("a");
        let mut edited = release("a");
        edited.identity = Digest::of(b"another env");
        facts.candidate = Some(Candidate { release: edited, prepared: false, only_env_differs: true });
        assert_eq!(decide(&facts), Plan::InSync { env_changed: true });
        facts.deploy_env_changes = true;
        assert!(matches!(decide(&facts), Plan::Deploy { .. }));
    }

    #[test]
    fn what_is_only_to_be_switched_to_is_done_once_it_is_linked_and_is_not_started() {
        let unstarted = Desired::Target(Target { unstarted: true, ..target("b") });
        let never_proved =
            Facts { desired: unstarted, healthy: Vec::new(), left: None, ..running_a_wanting("b") };
        assert!(matches!(decide(&never_proved), Plan::Deploy { .. }));
        let linked = Facts { current: Current::Release(release("b")), running: Running::No, ..never_proved };
        assert_eq!(decide(&linked), Plan::InSync { env_changed: false });
    }

    #[test]
    fn a_linked_release_that_never_proved_healthy_is_tried_not_trusted() {
        let facts = Facts { healthy: vec![release("z")], left: None, ..running_a_wanting("a") };
        assert_eq!(decide(&facts), Plan::Deploy { target: target("a"), reuse: Some(release("a")) });
    }

    #[test]
    fn a_stopped_release_is_started_again_without_steps() {
        let facts = Facts { running: Running::No, ..running_a_wanting("a") };
        let heals = Drift::ProcessMissing;
        assert_eq!(decide(&facts), Plan::Restart { target: target("a"), release: release("a"), heals });
    }

    #[test]
    fn what_stopped_comes_back_even_if_the_desired_release_is_refused_or_cannot_be_had() {
        let refused =
            Facts { running: Running::No, quarantine: quarantine("b", false), ..running_a_wanting("b") };
        assert!(matches!(decide(&refused), Plan::Restart { release: r, .. } if r == release("a")));
        let mut wanting_b = Facts { running: Running::No, ..running_a_wanting("b") };
        assert!(matches!(decide(&wanting_b), Plan::Deploy { .. }), "a new release is not delayed");
        wanting_b.recent.not_supplied = true;
        assert!(matches!(decide(&wanting_b), Plan::Restart { release: r, .. } if r == release("a")));
    }

    #[test]
    fn an_absent_app_is_removed_once_whether_it_runs_or_not_and_never_while_suspended() {
        for running in [Running::Yes, Running::No] {
            let facts = Facts { desired: Desired::Absent, running, ..running_a_wanting("a") };
            assert_eq!(decide(&facts), Plan::Remove { release: release("a") });
            let gone = Facts { current: Current::Absent, ..facts.clone() };
            assert_eq!(decide(&gone), Plan::Removed);
            let held = Facts { desired: suspended(None), ..facts.clone() };
            assert!(matches!(decide(&held), Plan::Hold(Hold::Suspended(_))));
            let moved = Facts { current: Current::Broken("a file".into()), ..facts };
            assert!(matches!(decide(&moved), Plan::Hold(Hold::CurrentBroken(_))));
        }
    }

    #[test]
    fn a_release_that_will_not_run_again_is_not_started_for_ever() {
        let mut facts = Facts { running: Running::No, ..running_a_wanting("a") };
        facts.recent.failed_restarts = FAILED_RESTARTS_MAX;
        assert_eq!(decide(&facts), Plan::Hold(Hold::WillNotRun(release("a"))));
    }

    #[test]
    fn an_unproved_release_does_not_stay_in_service_when_nothing_newer_can_take_its_place() {
        // `b` was on trial when `c` came.
        let linked = Current::Release(release("b"));
        let on_trial = Facts { current: linked, left: Some(release("b")), ..running_a_wanting("c") };
        let back =
            |facts: &Facts| matches!(decide(facts), Plan::Deploy { reuse: Some(r), .. } if r == release("a"));
        assert!(!back(&on_trial), "`c` is tried first");
        let refused = Facts { quarantine: quarantine("c", false), ..on_trial.clone() };
        assert!(back(&refused));
        let blocked = Desired::Blocked { target: target("c"), reason: "r".into() };
        assert!(back(&Facts { desired: blocked, ..on_trial.clone() }));
        let mut not_supplied = on_trial.clone();
        not_supplied.recent.not_supplied = true;
        assert!(back(&not_supplied));
        not_supplied.current = Current::Release(release("a"));
        not_supplied.left = Some(release("a"));
        assert!(!back(&not_supplied), "`a` proved itself and stays");
        let suspended = Facts { desired: Desired::NotInState, ..refused };
        assert!(!back(&suspended), "what runs stays when the state says nothing of it");
    }

    #[test]
    fn a_release_whose_attempts_were_cut_short_twice_is_held_until_something_changes() {
        let mut facts = running_a_wanting("b");
        let held = Interrupted {
            artifact: target("b").artifact,
            identity: Some(release("b").identity),
            stage: Stage::Preparing,
            attempt: 3,
        };
        facts.quarantine.interrupted = Some(held.clone());
        assert_eq!(decide(&facts), Plan::Hold(Hold::Interrupted(held)));
        let mut other_env = facts.clone();
        other_env.candidate.as_mut().unwrap().release.identity = Digest::of(b"another env");
        assert!(matches!(decide(&other_env), Plan::Deploy { .. }));
        assert!(facts.quarantine.moved_to(target("a").artifact), "the state has been elsewhere");
        assert!(matches!(decide(&facts), Plan::Deploy { .. }));
    }

    #[test]
    fn what_its_supervisor_gave_up_or_is_about_to_start_is_not_started_by_landfall() {
        let with = |running| Facts { running, ..running_a_wanting("a") };
        assert_eq!(decide(&with(Running::GaveUp)), Plan::Hold(Hold::WillNotRun(release("a"))));
        assert_eq!(decide(&with(Running::Returning)), Plan::InSync { env_changed: false });
        let new = Facts { running: Running::GaveUp, ..running_a_wanting("b") };
        assert!(matches!(decide(&new), Plan::Deploy { .. }), "a new release clears it");
    }

    #[test]
    fn what_nobody_supervises_is_started_anew() {
        let facts = Facts { running: Running::Unsupervised, ..running_a_wanting("a") };
        assert!(matches!(decide(&facts), Plan::Restart { heals: Drift::Unsupervised, .. }));
    }

    #[test]
    fn a_process_of_another_release_is_drift_of_the_version_that_should_run() {
        let facts = Facts { running: Running::Elsewhere, ..running_a_wanting("a") };
        let plan = decide(&facts);
        assert!(
            matches!(&plan, Plan::Restart { release: r, heals: Drift::OtherRelease, .. } if *r == release("a")),
            "{plan:?}"
        );
    }

    #[test]
    fn a_moved_current_is_put_back_to_what_landfall_left_whatever_is_desired() {
        let elsewhere =
            [Current::Absent, Current::Moved("it points to /tmp".into()), Current::Release(release("older"))];
        for current in elsewhere {
            let healthy = vec![release("a"), release("older")];
            let here = Facts { current, healthy, ..running_a_wanting("a") };
            let put_back = |facts: &Facts| matches!(decide(facts), Plan::Restart { release: r, heals: Drift::CurrentMoved, .. } if r == release("a"));
            assert!(put_back(&here), "{here:?}");
            assert!(put_back(&Facts { desired: Desired::NotInState, ..here.clone() }));
            // Not even to the version the state asks for: that is a deploy, and this one failed here.
            let refused = Facts {
                desired: Desired::Target(target("b")),
                candidate: candidate("b", true),
                quarantine: quarantine("b", false),
                ..here.clone()
            };
            assert!(put_back(&refused), "{refused:?}");
            let new = Facts { quarantine: Quarantine::default(), ..refused };
            assert!(matches!(decide(&new), Plan::Deploy { .. }), "a new release is not delayed");
        }
    }

    #[test]
    fn an_edited_env_is_no_reason_to_heal_with_another_release() {
        let mut facts = Facts { current: Current::Absent, ..running_a_wanting("a") };
        let mut edited = release("a");
        edited.identity = Digest::of(b"another env");
        facts.candidate = Some(Candidate { release: edited, prepared: false, only_env_differs: true });
        assert!(matches!(decide(&facts), Plan::Restart { release: r, .. } if r == release("a")));
    }

    #[test]
    fn what_is_no_link_or_was_never_landfalls_is_left_alone() {
        let facts = Facts { current: Current::Broken("a directory".into()), ..running_a_wanting("b") };
        assert_eq!(decide(&facts), Plan::Hold(Hold::CurrentBroken("a directory".into())));
        let moved = Current::Moved("it points to /srv/old".into());
        let first = Facts { current: moved, left: None, healthy: Vec::new(), ..running_a_wanting("b") };
        assert_eq!(decide(&first), Plan::Hold(Hold::CurrentBroken("it points to /srv/old".into())));
    }

    #[test]
    fn a_release_that_is_gone_from_the_disk_is_made_again() {
        let current = Current::Moved("it names `a`: there is no such release".into());
        let facts = Facts {
            current,
            healthy: Vec::new(),
            candidate: candidate("a", false),
            ..running_a_wanting("a")
        };
        assert_eq!(decide(&facts), Plan::Deploy { target: target("a"), reuse: None });
    }

    #[test]
    fn whoever_undoes_the_healing_is_not_fought() {
        let mut facts = Facts { current: Current::Absent, ..running_a_wanting("a") };
        facts.recent.heals = HEALS_MAX;
        assert_eq!(decide(&facts), Plan::Hold(Hold::WillNotRun(release("a"))));
    }

    #[test]
    fn suspended_blocked_missing_and_invalid_states_leave_what_runs_alone() {
        let facts = running_a_wanting("b");
        for desired in [
            suspended(Some(target("b"))),
            suspended(None),
            Desired::NotInState,
            Desired::Invalid("w".into()),
            Desired::Blocked { target: target("b"), reason: "r".into() },
        ] {
            let plan = decide(&Facts { desired, ..facts.clone() });
            assert!(matches!(plan, Plan::Hold(_) | Plan::Refuse(_)), "{plan:?}");
        }
    }

    #[test]
    fn b39_a_revert_never_goes_to_the_failed_release_itself() {
        let healthy = [release("b"), release("a")];
        assert_eq!(revert_target(&healthy, Some(&release("c"))), Some(release("b")));
        assert_eq!(revert_target(&healthy, Some(&release("b"))), Some(release("a")));
        assert_eq!(revert_target(&healthy[..1], Some(&release("b"))), None);
    }

    #[test]
    fn a_pin_goes_back_to_its_release_and_stays_there_whatever_the_state_asks() {
        let facts = Facts { healthy: vec![release("b"), release("a")], ..running_a_wanting("b") };
        let there = Facts {
            current: Current::Release(release("b")),
            left: Some(release("b")),
            desired: pinned_to("a", "b"),
            ..facts
        };
        assert!(matches!(decide(&there), Plan::Deploy { reuse: Some(to), .. } if to == release("a")));
        let back = Facts {
            current: Current::Release(release("a")),
            left: Some(release("a")),
            healthy: vec![release("a"), release("b")],
            ..there.clone()
        };
        assert!(matches!(decide(&back), Plan::Hold(Hold::Pinned(_))));
        let stopped = Facts { running: Running::No, ..back.clone() };
        assert!(matches!(decide(&stopped), Plan::Restart { release: to, .. } if to == release("a")));
        let failed = Facts { quarantine: quarantine("a", false), ..there };
        assert!(matches!(decide(&failed), Plan::Refuse(Refusal::Quarantined { .. })));
    }

    #[test]
    fn a_pinned_release_that_is_gone_is_made_again_from_its_artifact_once() {
        let mut again = release("a");
        again.identity = Digest::of(b"another env");
        let facts = Facts {
            current: Current::Release(again.clone()),
            healthy: vec![again],
            desired: pinned_to("a", "b"),
            ..running_a_wanting("b")
        };
        assert!(matches!(decide(&facts), Plan::Hold(Hold::Pinned(_))));
    }

    #[test]
    fn a_retry_starts_a_release_that_would_not_run_once_more() {
        let mut facts = Facts { running: Running::No, ..running_a_wanting("a") };
        facts.recent.failed_restarts = FAILED_RESTARTS_MAX;
        facts.fresh.retry = true;
        assert!(matches!(decide(&facts), Plan::Restart { .. }));
    }
}
