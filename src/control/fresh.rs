//! What was asked of the next tick: to try again what failed here, to deploy an edited env file. Pure.

use jiff::Timestamp;
use landfall_store::ArtifactId;

use crate::deploy::App;
use crate::desired::Desired;
use crate::record::controls::{Act, Controls, Decision, Fresh};
use crate::record::quarantine::Quarantine;

/// Whether the next tick is asked for anything. What is asked of a suspended app waits until it goes on.
fn is_asked(controls: &Controls, desired: &Desired, requested: Option<Timestamp>) -> bool {
    let suspended = matches!(desired, Desired::Suspended { .. });
    !suspended && (controls.fresh != Fresh::default() || is_new(controls, requested))
}

/// A value of the state's `reconcileRequestedAt` counts once.
fn is_new(controls: &Controls, requested: Option<Timestamp>) -> bool {
    requested.is_some() && requested != controls.requested
}

/// Takes what is asked out of the record. `last_attempt`: the newest there was.
pub fn take_up(
    controls: &mut Controls,
    requested: Option<Timestamp>,
    last_attempt: u64,
    now: Timestamp,
) -> Fresh {
    let mut fresh = std::mem::take(&mut controls.fresh);
    if let Some(value) = requested.filter(|_| is_new(controls, requested)) {
        fresh = Fresh { retry: true, env: true };
        controls.requested = requested;
        controls.decide(Decision {
            at: now,
            what: Act::Retry,
            by: "the state".to_owned(),
            reason: Some(format!("reconcileRequestedAt is {value}")),
            until: None,
            about: None,
        });
    }
    if fresh.retry {
        controls.forgiven = last_attempt;
    }
    fresh
}

/// What the next tick will find, without writing anything: what was asked is taken up, and the quarantine lifted.
pub fn foresee(app: &mut App, desired: &Desired, requested: Option<Timestamp>, now: Timestamp) -> Fresh {
    if !is_asked(&app.controls, desired, requested) {
        return Fresh::default();
    }
    let last = app.history.last().map_or(0, |entry| entry.attempt);
    let fresh = take_up(&mut app.controls, requested, last, now);
    if fresh.retry {
        lift(&mut app.quarantine, desired);
    }
    fresh
}

/// The artifact that is brought into service next.
fn goal(desired: &Desired) -> Option<ArtifactId> {
    match desired {
        Desired::Pinned { pin, .. } => Some(pin.release.artifact),
        other => other.target().map(|target| target.artifact),
    }
}

/// Lets go of every failure of the desired artifact. Returns whether there was one.
fn lift(quarantine: &mut Quarantine, desired: &Desired) -> bool {
    let Some(goal) = goal(desired) else { return false };
    let before = quarantine.items.len();
    quarantine.items.retain(|item| item.release.artifact != goal);
    let held = quarantine.interrupted.take_if(|held| held.artifact == goal);
    quarantine.items.len() != before || held.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::{Place, Suspension};
    use crate::record::journal::{Class, Failure, Target};
    use crate::record::quarantine::Quarantined;
    use crate::record::release::ReleaseRef;
    use landfall_store::Digest;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn wanting(name: &str) -> Desired {
        Desired::Target(Target::of(ArtifactId::of(name.as_bytes())))
    }

    #[test]
    fn a_value_of_reconcile_requested_at_counts_once_and_a_changed_one_again() {
        let mut controls = Controls::default();
        let desired = wanting("a");
        assert!(!is_asked(&controls, &desired, None));
        assert!(is_asked(&controls, &desired, Some(at(5))));
        let fresh = take_up(&mut controls, Some(at(5)), 7, at(6));
        assert_eq!((fresh, controls.forgiven), (Fresh { retry: true, env: true }, 7));
        assert!(!is_asked(&controls, &desired, Some(at(5))));
        assert!(is_asked(&controls, &desired, Some(at(4))), "changed, if only to an older time");
        assert_eq!(controls.decisions.len(), 1);
    }

    #[test]
    fn what_is_asked_of_a_suspended_app_waits() {
        let controls = Controls { fresh: Fresh { retry: true, env: false }, ..Controls::default() };
        let why =
            Suspension { reason: "r".into(), by: "b".into(), since: None, until: None, place: Place::Host };
        assert!(!is_asked(&controls, &Desired::Suspended { target: None, why }, Some(at(1))));
        assert!(is_asked(&controls, &wanting("a"), None));
    }

    #[test]
    fn an_edited_env_file_is_deployed_without_forgiving_anything() {
        let mut controls = Controls { fresh: Fresh { retry: false, env: true }, ..Controls::default() };
        assert_eq!(take_up(&mut controls, None, 7, at(0)), Fresh { retry: false, env: true });
        assert_eq!(controls, Controls::default());
    }

    #[test]
    fn only_the_desired_artifact_is_let_out_of_quarantine() {
        let item = |name: &str| {
            let artifact = ArtifactId::of(name.as_bytes());
            Quarantined {
                release: ReleaseRef::new(artifact, Digest::of(name.as_bytes()), "1".parse().unwrap()),
                attempt: 3,
                failure: Failure { class: Class::Health, reason: "x".into(), message: "x".into() },
                since: at(0),
                left: false,
            }
        };
        let mut quarantine = Quarantine { items: vec![item("a"), item("b")], interrupted: None };
        assert!(lift(&mut quarantine, &wanting("b")));
        assert_eq!(quarantine.items, [item("a")]);
        assert!(!lift(&mut quarantine, &wanting("b")));
        assert!(!lift(&mut quarantine, &Desired::NotInState));
    }
}
