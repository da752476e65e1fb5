//! A host that lost power, with its store and its state out of reach: everything of it is killed at once, and
//! its records speak of another boot. And what an agent that ends, crashes or is replaced does to the apps: nothing.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use support::host::with_pm2;
use support::process;
use support::wait::wait_until;
use support::{Host, Source};

const BACK: Duration = Duration::from_secs(90);

/// Store and state are gone, as when the network is not up yet.
fn lose_store_and_state(host: &Host) {
    std::fs::rename(host.root().join("store"), host.dir.join("store.away")).unwrap();
    std::fs::remove_dir_all(host.state().parent().unwrap()).unwrap();
}

/// Makes a supervisor's record one of another boot, whose pids are a stranger's now.
fn age(host: &Host, app: &str, stranger: &Child) {
    let path = host.app(app, "prod").join("run/processes/main/record.json");
    let mut record: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", stranger.id())).unwrap();
    let ticks: u64 = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap().parse().unwrap();
    let id = serde_json::json!({"pid": stranger.id(), "started_ticks": ticks});
    record["boot"] = "00000000-0000-0000-0000-000000000000".into();
    record["shim"] = id.clone();
    record["processes"] = Value::Array(vec![id]);
    std::fs::write(&path, record.to_string()).unwrap();
}

/// Names several apps in the state at once.
fn want_all(host: &Host, apps: &[(&str, &str)]) {
    let target =
        |artifact: &str| serde_json::json!({"environments": {"prod": {"target": {"artifact": artifact}}}});
    let apps: serde_json::Map<String, Value> =
        apps.iter().map(|(app, artifact)| ((*app).to_owned(), target(artifact))).collect();
    let state = serde_json::json!({"apiVersion": "landfall/v1", "apps": apps});
    std::fs::write(host.state(), state.to_string()).unwrap();
}

fn named(app: &str, content: &str) -> Source {
    let recipe = support::source::SLEEPER.replace("app = \"web\"", &format!("app = \"{app}\""));
    Source::new(&recipe).with("app/version.txt", content.as_bytes())
}

fn text_of(host: &Host, app: &str) -> String {
    std::fs::read_to_string(host.current(app, "prod").join("app/version.txt")).unwrap()
}

fn serves_alone(host: &Host, app: &str, count: usize) -> bool {
    let current = host.current(app, "prod");
    let serving = host.serving(app, "prod");
    serving.len() == count && serving.iter().all(|process| process.cwd.starts_with(&current))
}

#[test]
fn after_a_power_cut_the_last_healthy_release_of_every_app_comes_up_with_store_and_state_gone() {
    let mut host = Host::new("prod", "");
    let apps = ["web", "api", "jobs"];
    for version in ["first", "second"] {
        let ids: Vec<String> =
            apps.iter().map(|app| host.pack_version(named(app, version).path(), version)).collect();
        let wanted: Vec<(&str, &str)> = apps.iter().copied().zip(ids.iter().map(String::as_str)).collect();
        want_all(&host, &wanted);
        if version == "first" {
            host.start_agent();
        }
        let known = usize::from(version == "second");
        for app in apps {
            assert_eq!(host.wait_for_attempt(app, known, BACK)["result"], "Healthy");
        }
    }
    let mut stranger = Command::new("sleep").arg("100000").stdin(Stdio::null()).spawn().unwrap();
    host.power_cut();
    for app in apps {
        age(&host, app, &stranger);
    }
    lose_store_and_state(&host);
    host.start_agent();
    for app in apps {
        let entry = host.wait_for_attempt(app, 2, BACK);
        assert_eq!(
            (&entry["result"], &entry["heals"]),
            (&"Healthy".into(), &"ProcessMissing".into()),
            "{entry}"
        );
        assert!(serves_alone(&host, app, 1), "{:?}", host.serving(app, "prod"));
        assert_eq!(text_of(&host, app), "second");
    }
    assert!(stranger.try_wait().unwrap().is_none(), "whoever has the pid of another boot is left alone");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[test]
fn what_was_given_up_before_a_power_cut_is_started_after_it() {
    let mut host = Host::new("prod", "");
    host.want("web", &host.pack_next(Source::sleeper("a").path()));
    host.start_agent();
    assert_eq!(host.wait_for_attempt("web", 0, BACK)["result"], "Healthy");
    host.power_cut();
    let path = host.app("web", "prod").join("run/processes/main/record.json");
    let mut record: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    record["gave_up"] = true.into();
    record["boot"] = "00000000-0000-0000-0000-000000000000".into();
    std::fs::write(&path, record.to_string()).unwrap();
    host.start_agent();
    assert_eq!(host.wait_for_attempt("web", 1, BACK)["result"], "Healthy");
    assert!(serves_alone(&host, "web", 1));
}

/// pm2's own start after a reboot.
fn resurrect(host: &Host) -> Child {
    let mut command = host.program("pm2");
    command.arg("resurrect").env("PM2_HOME", host.root().join("pm2/self"));
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn dump(host: &Host) -> std::path::PathBuf {
    host.root().join("pm2/self/dump.pm2")
}

/// A host that has run one worker of `a`, then two of `b`; gives the dump of pm2 from the time of `a`.
fn host_under_pm2() -> (Host, Vec<u8>) {
    let mut host = with_pm2(Host::new("prod", ""));
    host.want("web", &host.pack_next(Source::under_pm2("a", 1, "cluster").path()));
    host.start_agent();
    assert_eq!(host.wait_for_attempt("web", 0, BACK)["result"], "Healthy");
    wait_until("pm2 has saved", BACK, || dump(&host).is_file());
    let older = std::fs::read(dump(&host)).unwrap();
    host.want("web", &host.pack_next(Source::under_pm2("b", 2, "cluster").path()));
    assert_eq!(host.wait_for_attempt("web", 1, BACK)["result"], "Healthy");
    wait_until("pm2 has saved", BACK, || std::fs::read(dump(&host)).unwrap() != older);
    (host, older)
}

#[track_caller]
fn comes_to_rest_with_b(host: &Host) {
    wait_until("two workers of the last healthy release, and no more", BACK, || {
        serves_alone(host, "web", 2) && is_fine(host)
    });
    assert_eq!(text_of(host, "web"), "b");
}

fn is_fine(host: &Host) -> bool {
    let said = host.run(&["status", "-o", "json"]);
    let status: Value = serde_json::from_str(&said.out).unwrap();
    let item = &status["items"][0];
    let idle = item["operation"] == "Idle" && item["health"] == "Healthy";
    idle && item["running"]["pids"].as_array().is_some_and(|pids| pids.len() == 2)
}

#[test]
fn what_pm2_has_brought_back_is_found_and_left_running() {
    let (mut host, _) = host_under_pm2();
    host.power_cut();
    lose_store_and_state(&host);
    assert!(resurrect(&host).wait().unwrap().success());
    wait_until("pm2 has started them", BACK, || serves_alone(&host, "web", 2));
    let before = host.serving("web", "prod");
    host.start_agent();
    host.wait_for_agent();
    comes_to_rest_with_b(&host);
    assert_eq!(host.serving("web", "prod"), before, "nobody started them again");
    assert_eq!(host.attempts("web").len(), 2);
}

#[test]
fn an_older_dump_of_pm2_does_not_bring_an_older_release_back() {
    let (mut host, older) = host_under_pm2();
    host.power_cut();
    lose_store_and_state(&host);
    std::fs::write(dump(&host), older).unwrap();
    assert!(resurrect(&host).wait().unwrap().success());
    host.start_agent();
    comes_to_rest_with_b(&host);
}

#[test]
fn agent_and_pm2_that_start_at_the_same_moment_end_with_one_set_of_workers() {
    let (mut host, _) = host_under_pm2();
    host.power_cut();
    lose_store_and_state(&host);
    let mut pm2 = resurrect(&host);
    host.start_agent();
    pm2.wait().unwrap();
    comes_to_rest_with_b(&host);
}

#[test]
fn an_agent_that_stops_crashes_or_is_replaced_restarts_no_app() {
    let managed = [("direct", 1), ("pm2", 2)];
    for (manager, count) in managed {
        let source = match manager {
            "direct" => Source::sleeper("a"),
            _ => Source::under_pm2("a", 2, "cluster"),
        };
        let mut host = with_pm2(Host::new("prod", ""));
        host.want("web", &host.pack_next(source.path()));
        host.start_agent();
        assert_eq!(host.wait_for_attempt("web", 0, BACK)["result"], "Healthy");
        let serving = host.serving("web", "prod");
        assert_eq!(serving.len(), count, "{serving:?}");
        host.stop_agent();
        ticks_once(&mut host);
        host.kill_agent();
        ticks_once(&mut host);
        host.kill_agent();
        // Another file of the same program, as an upgrade puts it beside the old one.
        let newer = host.dir.join("landfall-next");
        std::fs::copy(env!("CARGO_BIN_EXE_landfall"), &newer).unwrap();
        tick_with(&host, &newer);
        assert_eq!(host.serving("web", "prod"), serving, "{manager}");
        assert_eq!(host.attempts("web").len(), 1, "{manager}");
        for process in serving {
            assert!(process::read(process.pid).is_some());
        }
    }
}

/// Starts the agent and waits until it has looked at the app: it says that it does.
fn ticks_once(host: &mut Host) {
    let looked = host.agent_log().matches("watching").count();
    let kept = host.app("web", "prod").join("conditions");
    std::fs::remove_file(&kept).ok();
    host.start_agent();
    wait_until("the agent watches", BACK, || host.agent_log().matches("watching").count() > looked);
    // A tick ends with the conditions on disk.
    wait_until("a tick has ended", BACK, || kept.is_file());
}

fn tick_with(host: &Host, program: &Path) {
    let mut command = host.program(program);
    command.args(["watch", "--once", "--config"]).arg(host.dir.join("host.toml"));
    command.arg("--root").arg(host.root()).arg("--state").arg(host.state());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
