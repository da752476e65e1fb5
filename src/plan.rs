//! What to do next for one app: a pure decision over observed facts. The plan prints as the dry run.

use std::fmt;

use crate::record::journal::{Failure, Target};
use crate::record::quarantine::{Interrupted, Quarantine};
use crate::record::release::ReleaseRef;

/// What the accepted state says of this app here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Desired {
    /// It names an artifact.
    Target(Target),
    /// It names an artifact that it also blocks.
    Blocked {
        /// The artifact.
        target: Target,
        /// Why it is blocked.
        reason: String,
    },
    /// Nothing may change for now.
    Suspended {
        /// What it would be.
        target: Target,
        /// Why, by whom, until when.
        reason: String,
    },
    /// It does not speak of this app; what runs stays.
    NotInState,
    /// What it says of this app is wrong; what runs stays.
    Invalid(String),
}

/// What `current` is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Current {
    /// No release was ever healthy here.
    Absent,
    /// A prepared release.
    Release(ReleaseRef),
    /// Something landfall did not leave there.
    Broken(String),
}

impl Current {
    /// The release it names, if any.
    pub const fn release(&self) -> Option<&ReleaseRef> {
        match self {
            Self::Release(release) => Some(release),
            Self::Absent | Self::Broken(_) => None,
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
    /// All that should, from this release.
    Yes,
    /// At least one is not there.
    No,
}

/// What the newest entries of the history say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recent {
    /// The desired artifact could not be brought here in the last attempt.
    pub not_supplied: bool,
    /// Attempts in a row, up to now, in which the linked release would not run again.
    pub failed_restarts: u32,
}

/// Restarts of a release that had proved healthy, before a person must look (doco-cd's figure).
pub const FAILED_RESTARTS_MAX: u32 = 5;

/// Everything the decision looks at.
#[derive(Debug, Clone)]
pub struct Facts {
    /// What is wanted.
    pub desired: Desired,
    /// What is linked.
    pub current: Current,
    /// What runs.
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
    /// The right release is linked but does not run.
    Restart {
        /// What was asked.
        target: Target,
        /// The release.
        release: ReleaseRef,
    },
}

/// Why nothing is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hold {
    /// A person suspended the app.
    Suspended(String),
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
            Self::Suspended(reason) => write!(f, "suspended: {reason}"),
            Self::NotInState => f.write_str("the state does not name this app; what runs stays"),
            Self::Invalid(why) => write!(f, "the state is invalid here: {why}"),
            Self::CurrentBroken(why) => write!(f, "`current` is not as landfall left it: {why}"),
            Self::WillNotRun(release) => write!(
                f,
                "{} {} stopped and did not come back in {FAILED_RESTARTS_MAX} starts",
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
    if let Desired::Suspended { reason, .. } = &facts.desired {
        return Plan::Hold(Hold::Suspended(reason.clone()));
    }
    if let Current::Broken(why) = &facts.current {
        return Plan::Hold(Hold::CurrentBroken(why.clone()));
    }
    let plan = towards_the_desired(facts);
    if let Some(proved) = better_than_nothing(&plan, facts) {
        return Plan::Deploy { target: going_back_to(proved), reuse: Some(proved.clone()) };
    }
    match stopped(facts) {
        Some(release) if !goes_elsewhere(&plan, facts) => restart(facts, release),
        _ => plan,
    }
}

/// The plan as far as the state is concerned.
fn towards_the_desired(facts: &Facts) -> Plan {
    let target = match &facts.desired {
        Desired::Suspended { reason, .. } => return Plan::Hold(Hold::Suspended(reason.clone())),
        Desired::NotInState => return Plan::Hold(Hold::NotInState),
        Desired::Invalid(why) => return Plan::Hold(Hold::Invalid(why.clone())),
        Desired::Blocked { reason, .. } => return Plan::Refuse(Refusal::Blocked(reason.clone())),
        Desired::Target(target) => target,
    };
    if let Some(env_changed) = is_what_runs(facts, target) {
        return Plan::InSync { env_changed };
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

/// The last healthy release, if what is linked never proved itself (a newer state came while it was on trial)
/// and nothing newer can take its place now.
fn better_than_nothing<'a>(plan: &Plan, facts: &'a Facts) -> Option<&'a ReleaseRef> {
    let stuck = match plan {
        Plan::Refuse(_) | Plan::Hold(Hold::Interrupted(_)) => true,
        Plan::Deploy { .. } => facts.recent.not_supplied,
        _ => false,
    };
    let (current, proved) = (facts.current.release()?, facts.healthy.first()?);
    (stuck && current != proved).then_some(proved)
}

fn going_back_to(release: &ReleaseRef) -> Target {
    Target {
        by: Some("landfall".to_owned()),
        why: Some("what is in service never proved healthy, and what is wanted cannot be had".to_owned()),
        ..Target::of(release.artifact)
    }
}

/// The linked release, if it proved healthy and does not run.
fn stopped(facts: &Facts) -> Option<&ReleaseRef> {
    let release = facts.current.release()?;
    (facts.running == Running::No && facts.healthy.first() == Some(release)).then_some(release)
}

/// Whether the plan brings another release into service, so that starting the old one would only delay it.
/// Where the new one could not be had, the old one is started first: a reboot with the store down.
fn goes_elsewhere(plan: &Plan, facts: &Facts) -> bool {
    matches!(plan, Plan::Deploy { .. }) && !facts.recent.not_supplied
}

fn restart(facts: &Facts, release: &ReleaseRef) -> Plan {
    if facts.recent.failed_restarts >= FAILED_RESTARTS_MAX {
        return Plan::Hold(Hold::WillNotRun(release.clone()));
    }
    let target = match &facts.desired {
        Desired::Target(target) if target.artifact == release.artifact => target.clone(),
        _ => Target {
            by: Some("landfall".to_owned()),
            why: Some("it was not running".to_owned()),
            ..Target::of(release.artifact)
        },
    };
    Plan::Restart { target, release: release.clone() }
}

/// Whether the linked release is the one wanted, and if so, whether its env was edited since.
fn is_what_runs(facts: &Facts, target: &Target) -> Option<bool> {
    let current = facts.current.release()?;
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
            running: Running::Yes,
            candidate: candidate(name, name == "a"),
            healthy: vec![release("a")],
            quarantine: Quarantine::default(),
            recent: Recent::default(),
            deploy_env_changes: false,
        }
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
    fn a_linked_release_that_never_proved_healthy_is_tried_not_trusted() {
        let facts = Facts { healthy: vec![release("z")], ..running_a_wanting("a") };
        assert_eq!(decide(&facts), Plan::Deploy { target: target("a"), reuse: Some(release("a")) });
    }

    #[test]
    fn a_stopped_release_is_started_again_without_steps() {
        let facts = Facts { running: Running::No, ..running_a_wanting("a") };
        assert_eq!(decide(&facts), Plan::Restart { target: target("a"), release: release("a") });
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
    fn a_release_that_will_not_run_again_is_not_started_for_ever() {
        let mut facts = Facts { running: Running::No, ..running_a_wanting("a") };
        facts.recent.failed_restarts = FAILED_RESTARTS_MAX;
        assert_eq!(decide(&facts), Plan::Hold(Hold::WillNotRun(release("a"))));
    }

    #[test]
    fn an_unproved_release_does_not_stay_in_service_when_nothing_newer_can_take_its_place() {
        // `b` was on trial when `c` came.
        let on_trial = Facts { current: Current::Release(release("b")), ..running_a_wanting("c") };
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
    fn suspended_blocked_missing_and_invalid_states_leave_what_runs_alone() {
        let facts = running_a_wanting("b");
        for desired in [
            Desired::Suspended { target: target("b"), reason: "r".into() },
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
}
