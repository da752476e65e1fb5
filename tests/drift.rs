//! Drift: the host differs from what landfall left. Each row of the contract's table on real processes.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use support::host::with_pm2;
use support::process::{self, Process};
use support::wait::{wait_for, wait_until};
use support::{Host, Source};

/// Time for the agent to notice and to act, on a busy machine. The look at everything comes every 30 s.
const HEALED: Duration = Duration::from_secs(90);

/// A host whose agent runs the sleeper, healthy.
fn host_with(source: &Source) -> Host {
    let mut host = Host::new("prod", "");
    host.want("web", &host.pack_next(source.path()));
    host.start_agent();
    assert_eq!(host.wait_for_attempt("web", 0, HEALED)["result"], "Healthy");
    host
}

fn link(host: &Host) -> PathBuf {
    host.app("web", "prod").join("current")
}

fn status(host: &Host) -> Value {
    host.json(&["status"])["items"][0].clone()
}

#[track_caller]
fn one_process(host: &Host) -> Process {
    wait_for("exactly one process", HEALED, || {
        let mut serving = host.serving("web", "prod");
        (serving.len() == 1).then(|| serving.remove(0))
    })
}

/// What condition there is of a type, as `reason: message`.
fn condition(status: &Value, kind: &str) -> Option<String> {
    let all = status["conditions"].as_array().unwrap();
    let found = all.iter().find(|condition| condition["type"] == kind && condition["status"] == "True")?;
    Some(format!("{}: {}", found["reason"].as_str().unwrap(), found["message"].as_str().unwrap()))
}

fn is_fine(host: &Host) -> bool {
    let status = status(host);
    status["sync"] == "Synced" && status["health"] == "Healthy" && condition(&status, "Drifted").is_none()
}

/// The shim of an app's only process.
fn shim(host: &Host) -> Process {
    let dir = host.app("web", "prod").join("run/processes/main");
    let all = process::belonging_to(&dir);
    let mut shims = all.into_iter().filter(|process| process.command.contains("shim supervise"));
    shims.next().expect("a shim")
}

#[test]
fn a_killed_process_is_back_without_an_attempt_and_without_a_step() {
    let host = host_with(&Source::sleeper("a"));
    let first = one_process(&host);
    process::kill(first.pid);
    wait_until("another process in its place", HEALED, || {
        let serving = host.serving("web", "prod");
        serving.len() == 1 && serving[0].pid != first.pid
    });
    wait_until("status is fine", HEALED, || is_fine(&host));
    assert_eq!(host.attempts("web").len(), 1, "the supervisor restarts; landfall needs no attempt for it");
}

#[test]
fn when_supervisor_and_process_are_killed_the_agent_hears_of_it_and_starts_both() {
    let host = host_with(&Source::sleeper("a"));
    let (shim, app) = (shim(&host), one_process(&host));
    process::kill(shim.pid);
    process::kill(app.pid);
    let healed = host.wait_for_attempt("web", 1, HEALED);
    assert_eq!(
        (&healed["result"], &healed["heals"]),
        (&"Healthy".into(), &"ProcessMissing".into()),
        "{healed}"
    );
    assert_ne!(one_process(&host).pid, app.pid);
    wait_until("status is fine", HEALED, || is_fine(&host));
}

#[test]
fn what_runs_without_a_supervisor_is_put_under_a_new_one_and_the_log_says_so() {
    let host = host_with(&Source::sleeper("a"));
    let (old, app) = (shim(&host), one_process(&host));
    process::kill(old.pid);
    let healed = host.wait_for_attempt("web", 1, HEALED);
    assert_eq!(
        (&healed["result"], &healed["heals"]),
        (&"Healthy".into(), &"Unsupervised".into()),
        "{healed}"
    );
    let again = one_process(&host);
    assert_ne!(again.pid, app.pid, "one set of processes, the supervised one");
    assert!(host.agent_log().contains("its supervisor was gone"), "{}", host.agent_log());
    process::kill(again.pid);
    wait_until("the new supervisor restarts it", HEALED, || {
        let serving = host.serving("web", "prod");
        serving.len() == 1 && serving[0].pid != again.pid
    });
    assert_eq!(host.attempts("web").len(), 2);
}

/// Runs until a file says that it is broken.
const BREAKABLE: &str = r#"app = "web"
version = "1"
[[layer]]
name = "app"
files = [{ from = "app", to = "app" }]
[start]
manager = "direct"
run = ["sh", "-c", "test -e \"$BROKEN\" && exit 3; exec sleep 100000"]
stop = { signal = "SIGTERM", grace = "1s" }
[health]
run = ["true"]
attempts = 3
interval = "100ms"
successes = 1
settle = "100ms"
"#;

#[test]
fn a_crash_loop_ends_after_five_restarts_in_five_minutes_and_a_new_release_clears_it() {
    let breakable = |content: &str| Source::new(BREAKABLE).with("app/version.txt", content.as_bytes());
    let mut host = Host::new("prod", "");
    let broken = host.dir.join("broken");
    let toml = std::fs::read_to_string(host.dir.join("host.toml")).unwrap();
    host.write("host.toml", &format!("{toml}\n[apps.web]\nenv = {{ BROKEN = {broken:?} }}\n"));
    host.want("web", &host.pack_next(breakable("a").path()));
    host.start_agent();
    assert_eq!(host.wait_for_attempt("web", 0, HEALED)["result"], "Healthy");

    std::fs::write(&broken, "").unwrap();
    process::kill(one_process(&host).pid);
    let stalled = wait_for("Degraded for good", HEALED, || {
        let status = status(&host);
        let stalled = condition(&status, "Stalled")?;
        stalled.starts_with("RestartBudgetExceeded").then_some(status)
    });
    assert_eq!(stalled["health"], "Degraded", "{stalled}");
    assert_eq!(host.serving("web", "prod"), []);
    let log = std::fs::read_to_string(host.app("web", "prod").join("logs/main.log")).unwrap();
    assert_eq!(log.matches("ended with status 3").count(), 5, "{log}");
    assert_eq!(host.attempts("web").len(), 1, "what its supervisor gave up is not started by landfall");

    std::fs::remove_file(&broken).unwrap();
    host.want("web", &host.pack_next(breakable("b").path()));
    assert_eq!(host.wait_for_attempt("web", 1, HEALED)["result"], "Healthy");
    one_process(&host);
    wait_until("status is fine", HEALED, || is_fine(&host));
}

#[test]
fn a_current_that_was_moved_is_put_back_started_and_verified_and_the_version_stays() {
    let mut host = host_with(&Source::sleeper("a"));
    host.want("web", &host.pack_next(Source::sleeper("b").path()));
    assert_eq!(host.wait_for_attempt("web", 1, HEALED)["result"], "Healthy");
    let right = std::fs::read_link(link(&host)).unwrap();
    let older = std::fs::read_dir(host.app("web", "prod").join("releases")).unwrap();
    let mut older = older.map(|entry| PathBuf::from("releases").join(entry.unwrap().file_name()));
    let older = older.find(|name| *name != right && !name.to_string_lossy().contains("/.")).unwrap();
    let moves = [Some(older), Some("/var/empty".into()), Some("releases/none-such".into()), None];
    for (number, to) in moves.into_iter().enumerate() {
        // A look at everything is due when the agent starts.
        host.stop_agent();
        std::fs::remove_file(link(&host)).unwrap();
        if let Some(to) = &to {
            symlink(to, link(&host)).unwrap();
        }
        host.start_agent();
        let healed = host.wait_for_attempt("web", 2 + number, HEALED);
        assert_eq!(healed["result"], "Healthy", "{to:?}: {healed}");
        assert_eq!(healed["heals"], "CurrentMoved", "{to:?}: {healed}");
        assert_eq!(healed["release"], host.attempts("web")[1]["release"], "the version stays");
        assert_eq!(std::fs::read_link(link(&host)).unwrap(), right, "{to:?}");
        one_process(&host);
        wait_until("status is fine", HEALED, || is_fine(&host));
    }
}

#[test]
fn a_directory_in_the_place_of_current_is_said_and_never_touched() {
    let mut host = host_with(&Source::sleeper("a"));
    let serving = one_process(&host);
    host.stop_agent();
    std::fs::remove_file(link(&host)).unwrap();
    std::fs::create_dir(link(&host)).unwrap();
    std::fs::write(link(&host).join("mine.txt"), "keep me").unwrap();
    host.want("web", &host.pack_next(Source::sleeper("b").path()));
    host.start_agent();
    wait_until("it is said", HEALED, || host.agent_log().contains("no link but a file or directory"));
    let said = condition(&status(&host), "Drifted").unwrap();
    assert!(said.starts_with("CurrentChanged: ") && said.contains("move it away"), "{said}");
    assert_eq!(std::fs::read_to_string(link(&host).join("mine.txt")).unwrap(), "keep me");
    assert_eq!(one_process(&host), serving, "what runs is left alone");
    assert_eq!(host.attempts("web").len(), 1);
}

/// Changes one file of the linked release behind landfall's back.
type Change = fn(&std::path::Path);

#[test]
fn a_changed_file_of_the_release_is_said_with_its_name_and_mended_when_asked() {
    use std::os::unix::fs::PermissionsExt;
    let source = Source::sleeper("a").with("app/tool", b"a tool");
    let mut host = host_with(&source);
    let changes: [(&str, &str, Change); 3] = [
        ("`app/tool`: it has 9 bytes instead of 6", "Repaired", |app| {
            std::fs::write(app.join("tool"), "another 1").unwrap();
        }),
        ("`app/tool`: its mode is 0777 instead of 0444", "Repaired", |app| {
            std::fs::set_permissions(app.join("tool"), PermissionsExt::from_mode(0o777)).unwrap();
        }),
        ("`app/tool`: it is missing", "Repaired", |app| std::fs::remove_file(app.join("tool")).unwrap()),
    ];
    for (what, result, change) in changes {
        host.stop_agent();
        change(&host.current("web", "prod").join("app"));
        // The first pass comes soon after a start, then one every five minutes.
        host.start_agent();
        let said = wait_for(what, HEALED, || condition(&status(&host), "Drifted"));
        assert_eq!(said, format!("ContentChanged: {what}"));
        let seen = status(&host);
        assert_eq!((&seen["health"], &seen["sync"]), (&"Healthy".into(), &"Synced".into()), "only reported");
        assert!(seen["next"].as_str().unwrap().contains("landfall verify web --repair"), "{seen}");
        host.stop_agent();
        let mended = host.json(&["verify", "web", "--repair"]);
        assert_eq!(mended["items"][0]["result"], result, "{mended}");
        assert_eq!(std::fs::read(host.current("web", "prod").join("app/tool")).unwrap(), b"a tool");
        assert_eq!(condition(&status(&host), "Drifted"), None);
        host.start_agent();
        host.wait_for_agent();
    }
    assert_eq!(host.attempts("web").len(), 1, "nothing was restarted for it");
}

#[test]
fn an_added_file_is_said_and_left() {
    let mut host = host_with(&Source::sleeper("a"));
    host.stop_agent();
    let added = host.current("web", "prod").join("app/heap.dump");
    std::fs::write(&added, "mine").unwrap();
    host.start_agent();
    let said = wait_for("it is said", HEALED, || condition(&status(&host), "Drifted"));
    assert_eq!(said, "ContentChanged: `app/heap.dump` is beside the release's own files");
    host.stop_agent();
    host.run(&["verify", "web", "--repair"]).expect_code(0);
    assert_eq!(std::fs::read_to_string(added).unwrap(), "mine");
}

#[test]
fn another_releases_process_is_ended_and_a_shell_that_only_stands_there_is_not() {
    let mut host = host_with(&Source::sleeper("a"));
    let old = host.current("web", "prod");
    host.want("web", &host.pack_next(Source::sleeper("b").path()));
    assert_eq!(host.wait_for_attempt("web", 1, HEALED)["result"], "Healthy");
    host.stop_agent();
    let by_hand = |program: &str, arguments: &[&str]| {
        let mut command = host.program(program);
        command.args(arguments).current_dir(&old).spawn().unwrap()
    };
    let mut server = by_hand("sleep", &["100000"]);
    let mut shell = by_hand("sleep", &["99999"]);
    host.start_agent();
    let healed = host.wait_for_attempt("web", 2, HEALED);
    assert_eq!(
        (&healed["result"], &healed["heals"]),
        (&"Healthy".into(), &"OtherRelease".into()),
        "{healed}"
    );
    assert_eq!(healed["release"], host.attempts("web")[1]["release"], "the version stays");
    server.wait().unwrap();
    assert!(shell.try_wait().unwrap().is_none(), "what is not proved to be the app is nobody's to end");
    shell.kill().unwrap();
    shell.wait().unwrap();
    one_process(&host);
    wait_until("status is fine", HEALED, || is_fine(&host));
}

/// The pm2 daemon of a host.
fn daemon(host: &Host) -> u32 {
    let pid = host.root().join("pm2/self/pm2.pid");
    wait_for("pm2's daemon", HEALED, || std::fs::read_to_string(&pid).ok()?.trim().parse().ok())
}

#[test]
fn a_killed_pm2_daemon_comes_back_with_exactly_one_set_of_workers() {
    for mode in ["fork", "cluster"] {
        let mut host = with_pm2(Host::new("prod", ""));
        host.want("web", &host.pack_next(Source::under_pm2("a", 2, mode).path()));
        host.start_agent();
        assert_eq!(host.wait_for_attempt("web", 0, HEALED)["result"], "Healthy");
        let before = host.serving("web", "prod");
        assert_eq!(before.len(), 2, "{before:?}");
        let old = daemon(&host);
        process::kill(old);
        let healed = host.wait_for_attempt("web", 1, HEALED);
        assert_eq!(healed["result"], "Healthy", "{mode}: {healed}");
        assert_ne!(daemon(&host), old);
        wait_until("two workers, and none of before", HEALED, || {
            let now = host.serving("web", "prod");
            now.len() == 2 && !now.iter().any(|worker| before.contains(worker))
        });
        wait_until("status is fine", HEALED, || is_fine(&host));
    }
}

#[test]
fn what_pm2_has_given_up_is_degraded_and_a_new_release_clears_it() {
    let mut host = with_pm2(Host::new("prod", ""));
    let broken = host.dir.join("broken");
    let toml = std::fs::read_to_string(host.dir.join("host.toml")).unwrap();
    host.write("host.toml", &format!("{toml}\n[apps.web]\nenv = {{ BROKEN = {broken:?} }}\n"));
    host.want("web", &host.pack_next(Source::under_pm2("a", 1, "fork").path()));
    host.start_agent();
    assert_eq!(host.wait_for_attempt("web", 0, HEALED)["result"], "Healthy");
    std::fs::write(&broken, "").unwrap();
    process::kill(one_process(&host).pid);
    wait_until("Degraded for good", HEALED, || {
        let stalled = condition(&status(&host), "Stalled");
        stalled.is_some_and(|stalled| stalled.starts_with("RestartBudgetExceeded"))
    });
    assert_eq!(status(&host)["health"], "Degraded");
    std::fs::remove_file(&broken).unwrap();
    let known = host.attempts("web").len();
    host.want("web", &host.pack_next(Source::under_pm2("b", 1, "fork").path()));
    assert_eq!(host.wait_for_attempt("web", known, HEALED)["result"], "Healthy");
    one_process(&host);
    wait_until("status is fine", HEALED, || is_fine(&host));
}

#[test]
fn reporting_never_decides_conditions_that_cannot_be_written_stop_no_deploy() {
    let mut host = host_with(&Source::sleeper("a"));
    let conditions = host.app("web", "prod").join("conditions");
    // A directory in its place: neither read nor replaced, as on a disk that is full or broken just there.
    wait_until("they are noted", HEALED, || conditions.is_file());
    host.stop_agent();
    std::fs::remove_file(&conditions).unwrap();
    std::fs::create_dir(&conditions).unwrap();
    std::fs::write(conditions.join("in-the-way"), "").unwrap();
    host.start_agent();
    for (number, content) in [(1, "b"), (2, "c")] {
        host.want("web", &host.pack_next(Source::sleeper(content).path()));
        assert_eq!(host.wait_for_attempt("web", number, HEALED)["result"], "Healthy", "{content}");
    }
    host.stop_agent();
    assert_eq!(status(&host)["health"], "Healthy", "and the status is made from what is there");
}
