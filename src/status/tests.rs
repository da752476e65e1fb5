//! Every combination that matters, from facts to what is said.

use jiff::Timestamp;
use landfall_store::{ArtifactId, Digest};

use super::*;
use crate::desired::Place;
use crate::plan::{Candidate, Current, Recent, Running as Processes};
use crate::record::controls::Fresh;
use crate::record::history::{NO_PARENT, Outcome};
use crate::record::journal::{Class, Failure, Target};
use crate::record::quarantine::{Quarantine, Quarantined};

fn release(name: &str) -> ReleaseRef {
    ReleaseRef::new(ArtifactId::of(name.as_bytes()), Digest::of(name.as_bytes()), name.parse().unwrap())
}

fn target(name: &str) -> Target {
    Target::of(ArtifactId::of(name.as_bytes()))
}

fn time(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn failure(class: Class) -> Failure {
    Failure { class, reason: "Word".to_owned(), message: "the sentence of the failure".to_owned() }
}

fn entry(name: &str, result: Outcome, stage: Stage, failure: Option<Failure>) -> Entry {
    Entry {
        attempt: 7,
        app: "web".parse().unwrap(),
        environment: "prod".parse().unwrap(),
        target: target(name),
        release: Some(release(name)),
        result,
        stage,
        failure,
        heals: None,
        previous: None,
        started: time(100),
        took_ms: 2_000,
        stages: vec![],
        retry_in_ms: None,
        stopped: false,
        after: None,
        parent: NO_PARENT,
    }
}

fn journal(name: &str, stage: Stage) -> Journal {
    Journal {
        app: "web".parse().unwrap(),
        environment: "prod".parse().unwrap(),
        attempt: 8,
        target: target(name),
        to: Some(release(name)),
        from: Some(release("a")),
        healthy: Some(release("a")),
        stage,
        resumed: 0,
        heals: None,
        failure: None,
        started: time(200),
        stages: vec![],
        waiting: None,
        stopped: false,
        after: None,
    }
}

/// `a` runs and proved healthy; `wanted` is wanted; an agent works.
fn wrong(message: &str) -> Wrong {
    let (reason, hint) =
        ("SourceUnreachable".to_owned(), "put the file back, or name it with --state".to_owned());
    Wrong { kind: WrongKind::Unreachable, reason, message: message.to_owned(), hint }
}

fn running_a_wanting(wanted: &str) -> View {
    let candidate = Candidate { release: release(wanted), prepared: wanted == "a", only_env_differs: false };
    View {
        host: "web-1".parse().unwrap(),
        app: "web".parse().unwrap(),
        environment: "prod".parse().unwrap(),
        data: "/srv/web/shared".into(),
        wanted: Desired::Target(target(wanted)),
        wanted_version: Some(wanted.parse().unwrap()),
        facts: Facts {
            desired: Desired::Target(target(wanted)),
            current: Current::Release(release("a")),
            left: Some(release("a")),
            running: Processes::Yes,
            candidate: Some(candidate),
            healthy: vec![release("a")],
            quarantine: Quarantine::default(),
            recent: Recent::default(),
            deploy_env_changes: false,
            fresh: Fresh::default(),
        },
        journal: None,
        content: None,
        last: Some(entry("a", Outcome::Healthy, Stage::Committing, None)),
        serving: Serving {
            release: Some(release("a")),
            pids: vec![11, 12],
            expected: 2,
            since: Some(time(90)),
            attested: true,
        },
        source: SourceView::Ready,
        origin: None,
        state_commit: None,
        full: None,
        agent: true,
        kept: KeptConditions::default(),
        now: time(1_000),
    }
}

/// `b` was tried over `a`, failed and is quarantined.
fn reverted() -> View {
    let mut view = running_a_wanting("b");
    view.facts.quarantine = quarantine("b");
    view.last = Some(entry("b", Outcome::Reverted, Stage::Reverting, Some(failure(Class::Health))));
    view
}

fn quarantine(name: &str) -> Quarantine {
    let item = Quarantined {
        release: release(name),
        attempt: 7,
        failure: failure(Class::Health),
        since: time(100),
        left: false,
    };
    Quarantine { items: vec![item], interrupted: None }
}

/// Nothing was ever healthy here.
fn empty_wanting(wanted: &str) -> View {
    let mut view = running_a_wanting(wanted);
    view.facts.current = Current::Absent;
    view.facts.running = Processes::No;
    view.facts.healthy = Vec::new();
    view.last = None;
    view.serving = Serving::default();
    view
}

fn stopped(mut view: View) -> View {
    view.facts.running = Processes::No;
    view.serving = Serving { expected: 2, ..Serving::default() };
    view
}

#[track_caller]
fn assert_axes(status: &Status, sync: Sync, health: Health, operation: Operation) {
    assert_eq!((status.sync, status.health, status.operation), (sync, health, operation), "{status:#?}");
}

#[track_caller]
fn assert_says(status: &Status, kind: Kind, is: ConditionStatus, reason: &str) {
    let found = status.conditions.iter().find(|condition| condition.kind == kind);
    let found = found.unwrap_or_else(|| panic!("no {kind:?} in {status:#?}"));
    assert_eq!((found.status, found.reason.as_str()), (is, reason), "{status:#?}");
}

#[track_caller]
fn assert_silent(status: &Status, kinds: &[Kind]) {
    let said: Vec<_> = status.conditions.iter().filter(|said| kinds.contains(&said.kind)).collect();
    assert!(said.is_empty(), "{said:#?}");
}

const NEGATIVE: [Kind; 5] =
    [Kind::Reconciling, Kind::Stalled, Kind::Quarantined, Kind::RolledBack, Kind::Drifted];

#[test]
fn in_sync_and_healthy_there_is_nothing_to_do() {
    let status = assess(&running_a_wanting("a"));
    assert_axes(&status, Sync::Synced, Health::Healthy, Operation::Idle);
    assert!(status.is_fine() && status.next.is_none());
    assert_says(&status, Kind::Ready, ConditionStatus::True, "ReconciliationSucceeded");
    assert_says(&status, Kind::Healthy, ConditionStatus::True, "ProbesPassing");
    assert_says(&status, Kind::ArtifactInStore, ConditionStatus::True, "Succeeded");
    assert_silent(&status, &NEGATIVE);
    let running = status.running.unwrap();
    assert_eq!((running.pid, running.pids, running.attested), (Some(11), vec![11, 12], true));
}

#[test]
fn a_reverted_release_is_out_of_sync_healthy_and_quarantined() {
    let status = assess(&reverted());
    assert_axes(&status, Sync::OutOfSync, Health::Healthy, Operation::Idle);
    assert_says(&status, Kind::Quarantined, ConditionStatus::True, "HealthCheckFailed");
    assert_says(&status, Kind::RolledBack, ConditionStatus::True, "Automatic");
    assert_says(&status, Kind::Stalled, ConditionStatus::True, "Quarantined");
    assert_says(&status, Kind::Ready, ConditionStatus::False, "HealthCheckFailed");
    assert!(!status.is_synced_and_healthy());
    assert!(status.next.unwrap().contains("landfall rollback web prod"));
    for part in ["failed here in attempt 7", "the sentence of the failure", "runs and is healthy"] {
        assert!(status.message.contains(part), "no `{part}` in {}", status.message);
    }
}

#[test]
fn a_revert_that_failed_is_degraded_and_stalled() {
    let mut view = reverted();
    let second = Failure { reason: "RevertFailed".to_owned(), ..failure(Class::Health) };
    view.last = Some(entry("b", Outcome::Failed, Stage::Reverting, Some(second)));
    let status = assess(&view);
    assert_axes(&status, Sync::OutOfSync, Health::Degraded, Operation::Idle);
    assert_says(&status, Kind::Stalled, ConditionStatus::True, "RevertFailed");
    assert_says(&status, Kind::Ready, ConditionStatus::False, "RevertFailed");
}

#[test]
fn a_first_deploy_that_failed_leaves_nothing_and_says_so() {
    let mut view = empty_wanting("a");
    view.facts.quarantine = quarantine("a");
    view.last = Some(entry("a", Outcome::Failed, Stage::Reverting, Some(failure(Class::Health))));
    let status = assess(&view);
    assert_axes(&status, Sync::OutOfSync, Health::Missing, Operation::Idle);
    assert_says(&status, Kind::Stalled, ConditionStatus::True, "NoRollbackTarget");
    assert_says(&status, Kind::Healthy, ConditionStatus::False, "NotStarted");
    assert!(status.message.contains("nothing runs"), "{}", status.message);
    assert_eq!((status.running, status.rollback_target), (None, None));
}

#[test]
fn nothing_deployed_yet_is_missing_and_the_agent_is_about_to_deploy() {
    let status = assess(&empty_wanting("a"));
    assert_axes(&status, Sync::OutOfSync, Health::Missing, Operation::Idle);
    assert_says(&status, Kind::Ready, ConditionStatus::False, "Progressing");
    assert!(status.next.unwrap().contains("agent"));
    let alone = assess(&View { agent: false, ..empty_wanting("a") });
    assert!(alone.next.unwrap().contains("`landfall watch`"));
}

#[test]
fn every_stage_is_the_operation_and_health_is_open_only_from_the_switch_on() {
    for stage in [Stage::Fetching, Stage::Preparing, Stage::Migrating, Stage::Preflight] {
        let status = assess(&View { journal: Some(journal("b", stage)), ..running_a_wanting("b") });
        assert_axes(&status, Sync::OutOfSync, Health::Healthy, Operation::In(stage));
        assert_says(&status, Kind::Reconciling, ConditionStatus::True, "Progressing");
        assert_says(&status, Kind::Ready, ConditionStatus::False, "Progressing");
        let first = assess(&View { journal: Some(journal("b", stage)), ..empty_wanting("b") });
        assert_axes(&first, Sync::OutOfSync, Health::Progressing, Operation::In(stage));
    }
    for stage in [Stage::Switching, Stage::Starting, Stage::Verifying, Stage::Committing, Stage::Reverting] {
        let status = assess(&View { journal: Some(journal("b", stage)), ..running_a_wanting("b") });
        assert_axes(&status, Sync::OutOfSync, Health::Progressing, Operation::In(stage));
        assert_silent(&status, &[Kind::Stalled]);
    }
}

#[test]
fn an_attempt_without_an_agent_was_cut_short_and_nothing_is_under_way() {
    let cut = |stage| View { journal: Some(journal("b", stage)), agent: false, ..running_a_wanting("b") };
    let status = assess(&cut(Stage::Verifying));
    assert_axes(&status, Sync::OutOfSync, Health::Unknown, Operation::Idle);
    assert_eq!(status.next.as_deref(), Some("`landfall watch` finishes it"));
    assert_silent(&status, &[Kind::Reconciling]);
    assert_axes(&assess(&cut(Stage::Fetching)), Sync::OutOfSync, Health::Healthy, Operation::Idle);
}

#[test]
fn suspended_is_never_green_and_says_why() {
    for base in [running_a_wanting("a"), reverted(), stopped(running_a_wanting("a"))] {
        let target = base.wanted.target().cloned();
        let why = Suspension {
            reason: "disk swap".to_owned(),
            by: "lee".to_owned(),
            since: None,
            until: None,
            place: Place::Host,
        };
        let wanted = Desired::Suspended { target, why };
        let status = assess(&View { wanted, ..base });
        assert_eq!(status.health, Health::Suspended);
        assert_says(&status, Kind::Ready, ConditionStatus::False, "Suspended");
        assert!(status.message.contains("disk swap (by lee)") && !status.is_synced_and_healthy());
    }
}

#[test]
fn pinned_is_never_green_and_says_by_whom_why_until_when_and_how_to_go_on() {
    for base in [running_a_wanting("a"), running_a_wanting("b")] {
        let pin = Pin {
            release: release("a"),
            reason: "bad checkout".to_owned(),
            by: "lee".to_owned(),
            since: Timestamp::UNIX_EPOCH,
            until: "2027-01-02T03:04:05Z".parse().unwrap(),
        };
        let wanted = Desired::Pinned { target: base.wanted.target().cloned(), pin: Box::new(pin) };
        let status = assess(&View { wanted, ..base });
        assert_eq!(status.health, Health::Suspended);
        assert_says(&status, Kind::Ready, ConditionStatus::False, "Pinned");
        for said in ["bad checkout", "lee", "2027-01-02T03:04:05Z"] {
            assert!(status.message.contains(said), "{}", status.message);
        }
        assert!(status.next.as_ref().unwrap().contains("landfall unpin web"));
        assert!(!status.is_fine() && !status.is_synced_and_healthy());
    }
}

#[test]
fn an_invalid_state_leaves_the_comparison_open_and_what_runs_alone() {
    let whole = View { source: SourceView::Invalid("not JSON".to_owned()), ..running_a_wanting("a") };
    let one_app = View { wanted: Desired::Invalid("unknown key".to_owned()), ..running_a_wanting("a") };
    for view in [whole, one_app] {
        let status = assess(&view);
        assert_axes(&status, Sync::Unknown, Health::Healthy, Operation::Idle);
        let valid = status.conditions.iter().find(|said| said.kind == Kind::StateValid).unwrap();
        assert_eq!(valid.status, ConditionStatus::False);
        assert_says(&status, Kind::Ready, ConditionStatus::False, "StateInvalid");
        assert_says(&status, Kind::Stalled, ConditionStatus::True, "StateInvalid");
    }
}

#[test]
fn a_source_that_is_gone_changes_no_verdict_and_is_told() {
    let status =
        assess(&View { source: SourceView::Unreachable(wrong("no file")), ..running_a_wanting("a") });
    assert_axes(&status, Sync::Synced, Health::Healthy, Operation::Idle);
    assert_says(&status, Kind::SourceReady, ConditionStatus::False, "SourceUnreachable");
    assert!(status.message.contains("no file") && !status.is_fine());
}

#[test]
fn an_app_that_the_state_does_not_name_keeps_running() {
    let status = assess(&View { wanted: Desired::NotInState, ..running_a_wanting("a") });
    assert_axes(&status, Sync::Unknown, Health::Healthy, Operation::Idle);
    assert_eq!(status.desired, None);
    assert_says(&status, Kind::Ready, ConditionStatus::False, "NotInState");
}

#[test]
fn a_blocked_artifact_is_refused_with_the_reason() {
    let wanted = Desired::Blocked { target: target("b"), reason: "leaks".to_owned() };
    let status = assess(&View { wanted, ..running_a_wanting("b") });
    assert_axes(&status, Sync::OutOfSync, Health::Healthy, Operation::Idle);
    assert_says(&status, Kind::Stalled, ConditionStatus::True, "Blocked");
    assert!(status.message.contains("leaks"));
}

#[test]
fn a_process_that_is_missing_is_degraded_drift_of_the_right_version() {
    let status = assess(&stopped(running_a_wanting("a")));
    assert_axes(&status, Sync::Synced, Health::Degraded, Operation::Idle);
    assert_says(&status, Kind::Drifted, ConditionStatus::True, "ProcessMissing");
    assert_says(&status, Kind::Healthy, ConditionStatus::False, "ProcessExited");
    assert!(status.next.unwrap().contains("the agent starts it again"));
    let mut half = running_a_wanting("a");
    half.facts.running = Processes::No;
    half.serving.pids = vec![11];
    assert!(assess(&half).message.starts_with("only 1 of 2 processes"));
}

#[test]
fn what_does_not_come_back_needs_a_person() {
    let mut view = stopped(running_a_wanting("a"));
    view.facts.recent.failed_restarts = crate::plan::FAILED_RESTARTS_MAX;
    let status = assess(&view);
    assert_axes(&status, Sync::Synced, Health::Degraded, Operation::Idle);
    assert_says(&status, Kind::Stalled, ConditionStatus::True, "RestartBudgetExceeded");
    assert_says(&status, Kind::Healthy, ConditionStatus::False, "RestartBudgetExceeded");
}

#[test]
fn an_edited_env_is_drift_of_a_healthy_app() {
    let mut view = running_a_wanting("a");
    let mut edited = release("a");
    edited.identity = Digest::of(b"another env");
    view.facts.candidate = Some(Candidate { release: edited, prepared: false, only_env_differs: true });
    let status = assess(&view);
    assert_axes(&status, Sync::Synced, Health::Healthy, Operation::Idle);
    assert_says(&status, Kind::Drifted, ConditionStatus::True, "EnvChanged");
    assert!(status.is_synced_and_healthy() && !status.is_fine());
}

#[test]
fn a_current_that_somebody_moved_is_degraded_and_says_how_to_put_it_back() {
    let mut view = stopped(running_a_wanting("a"));
    view.facts.current = Current::Broken("it points elsewhere".to_owned());
    let status = assess(&view);
    assert_eq!(status.health, Health::Degraded);
    assert_says(&status, Kind::Drifted, ConditionStatus::True, "CurrentChanged");
    assert!(status.next.unwrap().contains(&release("a").name));
}

#[test]
fn an_artifact_that_cannot_be_had_is_told_with_the_stores_reason() {
    let mut view = running_a_wanting("b");
    view.facts.candidate = None;
    let gone = Failure { reason: "NotFound".to_owned(), ..failure(Class::Supply) };
    view.last = Some(entry("b", Outcome::Failed, Stage::Fetching, Some(gone)));
    let status = assess(&view);
    assert_axes(&status, Sync::OutOfSync, Health::Healthy, Operation::Idle);
    assert_says(&status, Kind::ArtifactInStore, ConditionStatus::False, "NotFound");
    assert_says(&status, Kind::Stalled, ConditionStatus::True, "RetriesExhausted");
    assert_says(&status, Kind::Ready, ConditionStatus::False, "ArtifactFailed");
}

#[test]
fn processes_of_another_release_than_the_linked_one_are_drift() {
    let mut view = stopped(running_a_wanting("a"));
    view.serving = Serving { release: Some(release("z")), pids: vec![9], expected: 2, ..Serving::default() };
    view.wanted = Desired::NotInState;
    let status = assess(&view);
    assert_eq!(status.running.as_ref().map(|running| running.artifact), Some(release("z").artifact));
    assert_says(&status, Kind::Drifted, ConditionStatus::True, "WrongRelease");
}

#[test]
fn a_condition_keeps_its_time_until_its_status_changes() {
    let fine = assess(&running_a_wanting("a"));
    let kept = KeptConditions::default().after(&fine.conditions, time(500));
    assert_eq!(kept.after(&fine.conditions, time(900)), kept, "at rest nothing is written");

    let broken = assess(&View { kept: kept.clone(), ..stopped(running_a_wanting("a")) });
    let after = kept.after(&broken.conditions, time(900));
    assert_ne!(after, kept);
    assert_eq!(after.since(Kind::StateValid, ConditionStatus::True), Some(time(500)));
    assert_eq!(after.since(Kind::Healthy, ConditionStatus::False), Some(time(900)));
    let told = assess(&View { kept: after, ..stopped(running_a_wanting("a")) });
    let since = |kind| told.conditions.iter().find(|said| said.kind == kind).unwrap().last_transition;
    assert_eq!((since(Kind::StateValid), since(Kind::Drifted)), (Some(time(500)), Some(time(900))));
}

/// Every command between backticks, as the command line understands it.
#[track_caller]
fn assert_can_be_typed(told: &str, about: &str) {
    let commands = told.split('`').skip(1).step_by(2).filter(|part| part.starts_with("landfall "));
    for command in commands {
        let typed = command.replace("<version>", "1.0.0").replace("<pid>", "4711");
        let parsed = crate::cli::definition().try_get_matches_from(typed.split(' '));
        assert!(parsed.is_ok(), "{about}: `{command}` cannot be typed: {}", parsed.unwrap_err());
    }
}

/// A view for every cause there is.
fn every_cause() -> Vec<(&'static str, View)> {
    use crate::desired::{Place, Suspension};
    let suspended = |place| {
        let why =
            Suspension { reason: "disk swap".into(), by: "lee".into(), since: None, until: None, place };
        let target = Some(target("a"));
        View { wanted: Desired::Suspended { target, why }, ..running_a_wanting("a") }
    };
    let failed = |class, reason: &str| {
        let failure = Failure { reason: reason.to_owned(), ..failure(class) };
        let last = Some(entry("b", Outcome::Failed, Stage::Fetching, Some(failure)));
        View { last, ..running_a_wanting("b") }
    };
    let mut edited = running_a_wanting("a");
    let mut other = release("a");
    other.identity = Digest::of(b"another env");
    edited.facts.candidate = Some(Candidate { release: other, prepared: false, only_env_differs: true });
    let mut broken = stopped(running_a_wanting("a"));
    broken.facts.current = Current::Broken("it points elsewhere".to_owned());
    let blocked = Desired::Blocked { target: target("b"), reason: "leaks".to_owned() };
    let wanting_b = || running_a_wanting("b");
    let mut views = vec![
        ("env changed", edited),
        ("cut short", View { journal: Some(journal("b", Stage::Verifying)), agent: false, ..wanting_b() }),
        ("suspended in the state", suspended(Place::State)),
        ("suspended on the host", suspended(Place::Host)),
        ("not in the state", View { wanted: Desired::NotInState, ..running_a_wanting("a") }),
        ("invalid", View { wanted: Desired::Invalid("unknown key".into()), ..running_a_wanting("a") }),
        ("gone", View { source: SourceView::Unreachable(wrong("no file")), ..running_a_wanting("a") }),
        ("blocked", View { wanted: blocked, ..wanting_b() }),
        ("quarantined", reverted()),
        ("quarantined with nothing healthy", {
            let mut view = empty_wanting("a");
            view.facts.quarantine = quarantine("a");
            view
        }),
        ("current broken", broken),
        ("process missing", stopped(running_a_wanting("a"))),
        ("process missing without an agent", View { agent: false, ..stopped(running_a_wanting("a")) }),
        ("no room", View { full: Some("/var/lib/landfall".into()), ..wanting_b() }),
        ("pending", wanting_b()),
        ("pending without an agent", View { agent: false, ..wanting_b() }),
    ];
    for class in [Class::Refused, Class::Supply, Class::Manager, Class::Host] {
        views.push(("failed", failed(class, "SomethingNew")));
        views.extend(super::advice::reasons().map(|reason| (reason, failed(class, reason))));
    }
    views
}

#[test]
fn whatever_is_not_well_has_a_sentence_and_something_to_do_that_can_be_typed() {
    for (name, view) in every_cause() {
        let status = assess(&view);
        let next = status.next.as_deref().unwrap_or_else(|| panic!("{name}: nothing to do: {status:#?}"));
        assert!(!status.message.is_empty() && !status.is_fine(), "{name}: {status:#?}");
        assert_can_be_typed(next, name);
        assert_can_be_typed(&status.message, name);
    }
}

#[test]
fn every_class_of_failure_has_an_answer_with_a_command() {
    use super::advice::{About, after};
    let (app, environment) = ("web".parse().unwrap(), "prod".parse().unwrap());
    let about = About { app: &app, environment: &environment, artifact: release("b").artifact };
    for class in [
        Class::Refused,
        Class::Supply,
        Class::Prepare,
        Class::Migrate,
        Class::Start,
        Class::Manager,
        Class::Health,
        Class::Host,
    ] {
        let told = after(&failure(class), &about);
        assert!(told.contains("`landfall "), "{class:?}: {told}");
        assert_can_be_typed(&told, &format!("{class:?}"));
    }
}

#[test]
fn a_full_disk_is_told_where_nothing_can_be_written_down() {
    let status = assess(&View { full: Some("/var/lib/landfall".into()), ..running_a_wanting("b") });
    assert!(status.message.starts_with("/var/lib/landfall is full"), "{}", status.message);
    assert_says(&status, Kind::Stalled, ConditionStatus::True, "InsufficientSpace");
    let idle = assess(&View { full: Some("/var/lib/landfall".into()), ..running_a_wanting("a") });
    assert!(idle.is_fine(), "what runs does not need room");
}

#[test]
fn a_state_that_cannot_be_read_is_told_beside_any_other_reason() {
    let gone = SourceView::Unreachable(wrong("no such file"));
    let status = assess(&View { source: gone, ..stopped(running_a_wanting("a")) });
    assert!(status.message.contains("should run and does not"), "{}", status.message);
    assert!(status.message.contains("the state cannot be read now"), "{}", status.message);
}
