//! Promises that need neither git nor a file.

use jiff::Timestamp;
use landfall_store::{ArtifactId, Digest};

use super::message::message;
use super::{Previous, Verb, in_history, last_verdict};
use crate::record::history::{Entry, NO_PARENT, Outcome};
use crate::record::journal::{Class, Failure, Stage, Target};
use crate::record::release::ReleaseRef;

fn id(name: &str) -> ArtifactId {
    ArtifactId::of(name.as_bytes())
}

/// Attempts in order, each an artifact and how it ended.
fn history(attempts: &[(&str, Outcome)]) -> Vec<Entry> {
    let entry = |(number, (name, result)): (usize, &(&str, Outcome))| Entry {
        attempt: number as u64 + 1,
        app: "web".parse().unwrap(),
        environment: "prod".parse().unwrap(),
        target: Target::of(id(name)),
        release: Some(ReleaseRef::new(id(name), Digest::of(name.as_bytes()), "1.0".parse().unwrap())),
        result: *result,
        stage: Stage::Verifying,
        failure: None,
        heals: None,
        previous: None,
        started: Timestamp::UNIX_EPOCH,
        took_ms: 1,
        stages: vec![],
        retry_in_ms: None,
        stopped: false,
        after: None,
        parent: NO_PARENT,
    };
    attempts.iter().enumerate().map(entry).collect()
}

fn goal(attempts: &[(&str, Outcome)], now: &str) -> Option<ArtifactId> {
    in_history(&history(attempts), Some(&id(now)), &|_| true).map(|found| found.artifact())
}

use Outcome::{Failed, Healthy, Interrupted, Reverted, Superseded};

#[test]
fn the_goal_is_the_last_healthy_one_whatever_was_tried_since() {
    assert_eq!(goal(&[("a", Healthy), ("b", Healthy)], "b"), Some(id("a")));
    assert_eq!(goal(&[("a", Healthy), ("b", Healthy), ("c", Reverted), ("d", Reverted)], "d"), Some(id("b")));
    assert_eq!(goal(&[("a", Healthy), ("b", Superseded), ("c", Interrupted)], "c"), Some(id("a")));
    assert_eq!(goal(&[("a", Reverted)], "b"), None);
}

#[test]
fn one_that_was_healthy_once_and_failed_since_is_no_goal() {
    assert_eq!(goal(&[("a", Healthy), ("b", Healthy), ("a", Reverted), ("c", Healthy)], "c"), Some(id("b")));
}

#[test]
fn a_failure_that_was_not_the_releases_fault_takes_nothing_from_it() {
    let mut entries = history(&[("a", Healthy), ("a", Failed), ("b", Healthy)]);
    let failure = |class| Failure { class, reason: "x".into(), message: "x".into() };
    entries[1].failure = Some(failure(Class::Supply));
    assert!(in_history(&entries, Some(&id("b")), &|_| true).is_some());
    entries[1].failure = Some(failure(Class::Start));
    assert_eq!(in_history(&entries, Some(&id("b")), &|_| true), None);
}

#[test]
fn what_may_not_be_used_is_passed_over() {
    let entries = history(&[("a", Healthy), ("b", Healthy), ("c", Healthy)]);
    let found = in_history(&entries, Some(&id("c")), &|artifact| *artifact != id("b"));
    assert!(matches!(found, Some(Previous::Healthy { attempt: 1, artifact, .. }) if artifact == id("a")));
}

#[test]
fn the_last_verdict_on_an_artifact_is_the_newest() {
    let entries = history(&[("a", Healthy), ("a", Reverted), ("a", Interrupted)]);
    assert_eq!(last_verdict(&entries, &id("a")).map(|entry| entry.attempt), Some(2));
    assert!(last_verdict(&entries, &id("b")).is_none());
}

#[test]
fn a_message_has_a_subject_the_reason_and_the_full_ids() {
    let target = |name: &str, version: Option<&str>, reason: Option<&str>| crate::state::Target {
        artifact: id(name),
        version: version.map(|version| version.parse().unwrap()),
        reason: reason.map(str::to_owned),
        by: None,
    };
    let (app, environment) = ("web".parse().unwrap(), "prod".parse().unwrap());
    let (old, new) = (target("a", None, None), target("b", Some("1.4.0"), Some("# 12: fix\n")));
    assert_eq!(
        message(Verb::Deploy, &app, &environment, Some(&old), &new),
        format!(
            "deploy web 1.4.0 to prod\n\n# 12: fix\n\nFrom: {}\nArtifact: {} (1.4.0)\n",
            old.artifact, new.artifact
        )
    );
    let first = message(Verb::RollBack, &app, &environment, None, &old);
    assert_eq!(first, format!("roll back web to {} in prod\n\nArtifact: {}\n", id("a").short(), id("a")));
}
