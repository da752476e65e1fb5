//! Hosts leave word of themselves in the store; one machine sees all of them, and what ran where.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod support;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use support::host::Said;
use support::{Host, Source, wait};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(60);

/// Healthy where the host says so.
const ASKS_THE_HOST: &str = r#"app = "web"
version = "2"

[[layer]]
name = "app"
files = [{ from = "app", to = "app" }]

[start]
manager = "direct"
run = ["sleep", "100000"]
stop = { signal = "SIGTERM", grace = "1s" }

[health]
run = ["${WELL}"]
attempts = 3
interval = "100ms"
successes = 1
settle = "100ms"
timeout = "60s"
"#;

/// Hosts with one store, and one state repository that each has a clone of.
struct Fleet {
    store: TempDir,
    hosts: Vec<Host>,
}

impl Fleet {
    /// A host for each of these names; `well` is the program that judges there.
    fn new(hosts: &[(&str, &str)]) -> Self {
        let store = tempfile::Builder::new().prefix("landfall-fleet-").tempdir().unwrap();
        let hosts: Vec<Host> = hosts.iter().map(|(name, well)| host(name, well, store.path())).collect();
        for other in &hosts[1..] {
            std::fs::remove_dir_all(other.dir.join("state")).unwrap();
            let from = hosts[0].dir.join("state");
            git(other, &other.dir, &["clone", "--quiet", from.to_str().unwrap(), "state"]);
        }
        Self { store, hosts }
    }

    fn pack(&self, source: &Source, version: &str) -> String {
        self.hosts[0].pack_version(source.path(), version)
    }

    /// Names an artifact in the state of all hosts, lets each reconcile once, and report.
    fn deploy(&self, version: &str) {
        let first = &self.hosts[0];
        first.run(&["deploy", "web", "prod", version, "-m", &format!("because of {version}")]).expect_code(0);
        for host in &self.hosts {
            if host.dir != first.dir {
                git(host, &host.dir.join("state"), &["pull", "--quiet"]);
            }
            host.run(&["watch", "--once"]);
            host.run(&["report"]).expect_code(0);
        }
    }

    fn rows(&self, arguments: &[&str]) -> Vec<Value> {
        let list = self.hosts[0].json(&[&["audit", "web"], arguments].concat());
        list["items"].as_array().unwrap().clone()
    }

    fn document(&self, name: &str) -> PathBuf {
        self.store.path().join("status").join(name)
    }
}

fn host(name: &str, well: &str, store: &Path) -> Host {
    let host = Host::new("prod", "");
    let state = host.state();
    let text = format!(
        "host = \"{name}\"\nenvironment = \"prod\"\nstore = {store:?}\n\n[state]\nfile = {state:?}\n\n\
         [apps.web]\nenv = {{ WELL = \"{well}\" }}\n"
    );
    host.write("host.toml", &text);
    host
}

fn git(host: &Host, dir: &Path, arguments: &[&str]) {
    let output = host.program("git").args(arguments).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// `host version result`, with a `+` where it is in service.
fn short(rows: &[Value]) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let serves = |row: &Value| if row["from"].is_string() && row["until"].is_null() { "+" } else { "" };
    rows.iter()
        .map(|row| {
            format!(
                "{} {} {}{}",
                text(&row["host"]),
                text(&row["version"]),
                text(&row["result"]),
                serves(row)
            )
        })
        .collect()
}

fn sorted(mut rows: Vec<String>) -> Vec<String> {
    rows.sort();
    rows
}

#[test]
fn the_audit_tells_what_ran_on_which_host_from_when_to_when_and_who_asked_for_it() {
    let fleet = Fleet::new(&[("web-1", "true"), ("web-2", "false")]);
    fleet.pack(&Source::sleeper("one"), "1.0.0");
    let second = fleet.pack(&Source::new(ASKS_THE_HOST).with("app/x", b"two"), "2.0.0");
    fleet.deploy("1.0.0");
    fleet.deploy("2.0.0");

    let rows = fleet.rows(&["prod"]);
    assert_eq!(
        sorted(short(&rows)),
        [
            "web-1 1.0.0 Healthy",
            "web-1 2.0.0 Healthy+",
            "web-2 1.0.0 Healthy",
            "web-2 1.0.0 Healthy+",
            "web-2 2.0.0 Reverted",
        ]
    );
    for row in &rows {
        let version = row["version"].as_str().unwrap();
        assert_eq!(row["commit"]["subject"], format!("deploy web {version} to prod"), "{row}");
        assert_eq!(row["commit"]["author"], "Operator <operator@example.org>");
        assert_eq!(row["commit"]["signature"]["state"], "None");
        assert_eq!(row["why"], format!("because of {version}"));
        assert_eq!(row["by"], "operator@example.org");
    }
    let went_back = rows.iter().find(|row| row["reason"] == "WentBack").unwrap();
    let reverted = rows.iter().find(|row| row["result"] == "Reverted").unwrap();
    assert_eq!(went_back["from"], reverted["until"]);

    // What ran on the night of; where has this ever run.
    let first = rows.iter().find(|row| row["host"] == "web-1" && row["version"] == "1.0.0").unwrap();
    let at = fleet.rows(&["prod", "--at", first["from"].as_str().unwrap()]);
    assert_eq!(short(&at), ["web-1 1.0.0 Healthy"]);
    let ran = fleet.rows(&["--artifact", &second["b3:".len()..][..8]]);
    assert_eq!(sorted(short(&ran)), ["web-1 2.0.0 Healthy+", "web-2 2.0.0 Reverted"]);

    // What was asked for where nobody reports is told, too.
    fleet.hosts[0].run(&["deploy", "web", "staging", "1.0.0"]).expect_code(0);
    assert_eq!(short(&fleet.rows(&["staging"])), ["- 1.0.0 -"]);

    let said = fleet.hosts[0].run(&["audit", "web", "prod", "--csv"]);
    said.expect_code(0);
    let lines: Vec<&str> = said.out.lines().collect();
    assert!(lines[0].starts_with("app,environment,host,artifact,version,attempt,result,"), "{}", lines[0]);
    assert_eq!(lines.len(), 1 + rows.len());
    let table = fleet.hosts[0].run(&["audit", "web", "prod"]);
    table.expect_code(0);
    assert!(table.out.lines().all(|line| line.chars().count() <= 80), "{}", table.out);
    assert!(table.out.contains("unsigned"), "{}", table.out);
}

#[test]
fn one_machine_sees_every_host_and_which_are_not_well_or_silent() {
    let fleet = Fleet::new(&[("web-1", "true"), ("web-2", "false")]);
    fleet.pack(&Source::sleeper("one"), "1.0.0");
    fleet.pack(&Source::new(ASKS_THE_HOST).with("app/x", b"two"), "2.0.0");
    let seen = |arguments: &[&str]| fleet.hosts[0].run(&[&["status", "--fleet"], arguments].concat());
    let none = seen(&["--check"]);
    none.expect_code(1);
    assert!(none.err.contains("no host reports"), "{}", none.err);

    fleet.deploy("1.0.0");
    seen(&["--check"]).expect_code(0);
    fleet.deploy("2.0.0");
    seen(&["--check"]).expect_code(1);
    let list = fleet.hosts[1].json(&["status", "--fleet"]);
    let items = list["items"].as_array().unwrap();
    assert_eq!(list["kind"], "FleetStatusList");
    assert_eq!((items[0]["host"].as_str(), items[0]["sync"].as_str()), (Some("web-1"), Some("Synced")));
    assert_eq!(
        (items[1]["sync"].as_str(), items[1]["health"].as_str()),
        (Some("OutOfSync"), Some("Healthy"))
    );
    assert_eq!(items[1]["running"]["version"], "1.0.0");
    let table = seen(&[]);
    assert!(table.out.contains("web-2") && table.out.contains("1.0.0"), "{}", table.out);
    assert!(table.out.lines().all(|line| line.chars().count() <= 80), "{}", table.out);

    // A host that said it would report again, and did not.
    let path = fleet.document("web-1/prod/host.json");
    let mut document: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    document["every_ms"] = 10_000.into();
    document["reported"] = "2026-01-01T00:00:00Z".into();
    std::fs::write(&path, document.to_string()).unwrap();
    let table = seen(&["web"]);
    assert!(table.out.contains("has not reported since"), "{}", table.out);
    std::fs::write(&path, "{").unwrap();
    let table = seen(&[]);
    assert!(table.out.contains("its report cannot be read") && table.out.contains("web-2"), "{}", table.out);
}

#[test]
fn a_history_that_was_cut_or_changed_in_the_store_is_named_and_left_out_and_reported_whole_again() {
    let fleet = Fleet::new(&[("web-1", "true"), ("web-2", "true")]);
    fleet.pack(&Source::sleeper("one"), "1.0.0");
    fleet.pack(&Source::sleeper("two"), "2.0.0");
    fleet.deploy("1.0.0");
    fleet.deploy("2.0.0");
    let path = fleet.document("web-2/prod/web/history-000000.ndjson");
    let whole = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = whole.split_inclusive('\n').collect();
    assert_eq!(lines.len(), 2);
    for broken in [
        lines[0].to_owned(),
        lines[1].to_owned(),
        format!("{}{}", lines[1], lines[0]),
        whole.replacen("because of 1.0.0", "because of 9.9.9", 1),
        String::new(),
    ] {
        std::fs::write(&path, &broken).unwrap();
        let said = fleet.hosts[0].run(&["audit", "web", "prod", "-o", "json"]);
        said.expect_code(0);
        assert!(said.err.contains("web-2 in prod is left out"), "{broken}: {}", said.err);
        let list: Value = serde_json::from_str(&said.out).unwrap();
        assert!(list["items"].as_array().unwrap().iter().all(|row| row["host"] == "web-1"), "{broken}");
    }
    // The host's own chain is whole: a report that finds another one before it writes all of it.
    std::fs::remove_file(fleet.document("web-2/prod/host.json")).unwrap();
    fleet.hosts[1].run(&["report"]).expect_code(0);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), whole);
}

#[test]
fn an_agent_reports_by_itself_and_a_store_that_takes_no_reports_changes_nothing() {
    let mut fleet = Fleet::new(&[("web-1", "true")]);
    let toml = std::fs::read_to_string(fleet.hosts[0].dir.join("host.toml")).unwrap();
    fleet.hosts[0].write("host.toml", &format!("{toml}\n[report]\nto = \"store\"\nevery = \"1h\"\n"));
    fleet.pack(&Source::sleeper("one"), "1.0.0");
    fleet.pack(&Source::sleeper("two"), "2.0.0");
    let reported = fleet.document("web-1/prod/host.json");
    let version = || {
        let document: Value = serde_json::from_slice(&std::fs::read(&reported).ok()?).ok()?;
        Some(document["apps"][0]["status"]["running"]["version"].as_str()?.to_owned())
    };
    let host = &mut fleet.hosts[0];
    host.start_agent();
    for wanted in ["1.0.0", "2.0.0"] {
        host.run(&["deploy", "web", "prod", wanted]).expect_code(0);
        wait::wait_until("the deploy is reported", LIMIT, || version().as_deref() == Some(wanted));
    }
    // Whatever stands in the way of a report: the next deploy goes its way.
    std::fs::remove_dir_all(fleet.store.path().join("status")).unwrap();
    std::fs::write(fleet.store.path().join("status"), "in the way").unwrap();
    host.run(&["deploy", "web", "prod", "1.0.0"]).expect_code(0);
    let entry = host.wait_for_attempt("web", 2, LIMIT);
    assert_eq!(entry["result"], "Healthy");
    let told = || host.agent_log().contains("this host is not shown as reporting");
    wait::wait_until("the agent says that it cannot report", LIMIT, told);
    assert!(host.stop_agent().success());
}

#[test]
fn a_deploy_from_a_desk_waits_for_every_host_that_reports_and_ends_as_the_worst_of_them() {
    let mut fleet = Fleet::new(&[("web-1", "true"), ("web-2", "false")]);
    fleet.pack(&Source::sleeper("one"), "1.0.0");
    fleet.pack(&Source::new(ASKS_THE_HOST).with("app/x", b"two"), "2.0.0");
    let state = fleet.hosts[0].state();
    let desk = host("desk", "true", fleet.store.path());
    let deploy = |version: &str| {
        let arguments = ["--state", state.to_str().unwrap(), "deploy", "web", "prod", version, "--wait"];
        let arguments = [&arguments[..], &["--timeout", "2m", "-o", "json"]].concat();
        Said::of(desk.landfall_of_host_toml(&arguments).output().unwrap())
    };
    // Nobody reports yet, and no agent works here.
    deploy("1.0.0").expect_code(15);
    for host in &mut fleet.hosts {
        let toml = std::fs::read_to_string(host.dir.join("host.toml")).unwrap();
        let own = host.state();
        let toml = toml.replace(own.to_str().unwrap(), state.to_str().unwrap());
        host.write("host.toml", &format!("{toml}\n[report]\nto = \"store\"\nevery = \"1h\"\n"));
        let command = host.landfall_of_host_toml(&["watch"]);
        host.start_agent_as(command);
    }
    for name in ["web-1", "web-2"] {
        let document = fleet.document(&format!("{name}/prod/host.json"));
        wait::wait_until("the host reports", LIMIT, || document.exists());
    }
    let results = |said: &Said| -> Vec<String> {
        let document: Value = serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("{said:?}"));
        let hosts = document["verdict"]["hosts"].as_array().unwrap().clone();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        sorted(
            hosts.iter().map(|host| format!("{} {}", text(&host["host"]), text(&host["result"]))).collect(),
        )
    };
    let good = deploy("1.0.0");
    good.expect_code(0);
    assert!(good.err.contains("following web-1, web-2"), "{}", good.err);
    assert_eq!(results(&good), ["web-1 Healthy", "web-2 Healthy"]);
    let bad = deploy("2.0.0");
    bad.expect_code(8);
    assert_eq!(results(&bad), ["web-1 Healthy", "web-2 Reverted"]);
    let again = deploy("2.0.0");
    again.expect_code(10);
    assert_eq!(results(&again), ["web-1 InSync", "web-2 Quarantined"]);
    for host in &mut fleet.hosts {
        assert!(host.stop_agent().success());
    }
}
