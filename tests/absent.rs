//! `"state": "absent"`: the app goes from the host, its data stays, and it comes back when it is wanted again.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod support;

use std::path::Path;
use std::time::Duration;

use support::{Host, Source, process, wait};

const LIMIT: Duration = Duration::from_secs(60);

/// Starts a child in a session of its own, as daemons do, and keeps something in `shared`.
const FAMILY: &str = r#"app = "web"
version = "1"

[[layer]]
name = "app"
files = [{ from = "app", to = "app" }]

[paths]
shared = ["uploads"]

[start]
manager = "direct"
shell = "echo kept > uploads/kept; setsid sleep 100000 & exec sleep 100000"
stop = { signal = "SIGTERM", grace = "1s" }

[health]
run = ["test", "-f", "uploads/kept"]
attempts = 50
interval = "100ms"
successes = 1
settle = "100ms"
"#;

fn family(content: &str) -> Source {
    Source::new(FAMILY).with("app/version.txt", content.as_bytes())
}

fn set(host: &Host, text: &str) {
    let new = host.state().with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, host.state()).unwrap();
}

fn absent(host: &Host) {
    set(host, r#"{"apiVersion": "landfall/v1", "apps": {"web": {"state": "absent"}}}"#);
}

fn releases(host: &Host) -> Vec<String> {
    let dir = host.app("web", "prod").join("releases");
    let entries = std::fs::read_dir(dir).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[track_caller]
fn assert_gone(host: &Host) {
    let app = host.app("web", "prod");
    assert!(std::fs::symlink_metadata(app.join("current")).is_err(), "`current` is still there");
    wait::wait_until("its releases are deleted", LIMIT, || releases(host).is_empty());
    assert!(process::belonging_to(&app).is_empty(), "{:?}", process::belonging_to(&app));
    assert_eq!(std::fs::read_to_string(app.join("shared/uploads/kept")).unwrap(), "kept\n");
}

#[test]
fn an_absent_app_is_stopped_and_removed_its_data_and_history_stay_and_it_comes_back() {
    let host = Host::new("prod", "");
    host.deploy_once(&family("1")).expect_code(0);
    host.deploy_once(&family("2")).expect_code(0);
    let wanted = std::fs::read_to_string(host.state()).unwrap();
    assert_eq!(host.serving("web", "prod").len(), 2);
    absent(&host);
    let plan = host.run(&["plan"]);
    assert!(plan.expect_code(1).out.contains("remove"), "{}", plan.out);
    host.run(&["watch", "--once"]).expect_code(0);
    assert_gone(&host);
    assert!(!host.app("web", "prod").join("run/env").exists(), "fetched secrets went with it");
    let attempts = host.attempts("web");
    assert_eq!(attempts.len(), 3);
    assert_eq!((&attempts[2]["result"], &attempts[2]["stage"]), (&"Removed".into(), &"Removing".into()));

    // Once more changes nothing.
    host.run(&["watch", "--once"]).expect_code(0);
    assert_eq!(host.attempts("web").len(), 3);
    let status = host.json(&["status"]);
    let item = &status["items"][0];
    assert_eq!((&item["sync"], &item["removed"]), (&"Synced".into(), &true.into()));
    let shared = host.app("web", "prod").join("shared");
    assert!(item["message"].as_str().unwrap().contains(&*shared.to_string_lossy()), "{item:#}");
    host.run(&["status", "--check"]).expect_code(0);

    set(&host, &wanted);
    host.run(&["watch", "--once"]).expect_code(0);
    assert_eq!(host.serving("web", "prod").len(), 2);
    assert_eq!(host.attempts("web").last().unwrap()["result"], "Healthy");
}

#[test]
fn an_app_that_disappears_from_the_state_is_not_removed_and_one_that_never_was_here_leaves_no_trace() {
    let host = Host::new("prod", "");
    host.deploy_once(&Source::sleeper("1")).expect_code(0);
    let other = r#"{"apiVersion": "landfall/v1", "apps": {"other": {"state": "absent",
        "environments": {"prod": {"state": "absent"}}}}}"#;
    set(&host, other);
    host.run(&["watch", "--once"]);
    assert_eq!(host.serving("web", "prod").len(), 1);
    assert!(Path::new(&host.current("web", "prod")).is_dir());
    assert!(!host.root().join("apps/other").exists());
}

#[test]
fn a_running_agent_removes_and_brings_back_by_the_state_alone() {
    let mut host = Host::new("prod", "");
    host.deploy_once(&family("1")).expect_code(0);
    let wanted = std::fs::read_to_string(host.state()).unwrap();
    host.start_agent();
    host.wait_for_agent();
    absent(&host);
    assert_eq!(host.wait_for_attempt("web", 1, LIMIT)["result"], "Removed");
    assert_gone(&host);
    set(&host, &wanted);
    assert_eq!(host.wait_for_attempt("web", 2, LIMIT)["result"], "Healthy");
    assert_eq!(host.serving("web", "prod").len(), 2);
}

#[cfg(feature = "sim")]
#[test]
fn a_kill_at_any_moment_of_a_removal_is_finished_by_the_next_start() {
    for boundary in
        ["Removing:BeforeIntent", "Removing:AfterIntent", "Removing:AfterEffect", "Removing:AfterEntry"]
    {
        let host = Host::new("prod", "");
        host.deploy_once(&family("1")).expect_code(0);
        absent(&host);
        let mut agent = host.landfall(&["watch", "--once"]);
        let status = agent.env("LANDFALL_KILL_AT", boundary).output().unwrap().status;
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "{boundary}");
        host.run(&["watch", "--once"]).expect_code(0);
        assert_gone(&host);
        assert_eq!(host.attempts("web").last().unwrap()["result"], "Removed", "{boundary}");
    }
}
