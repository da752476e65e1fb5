//! Hosts leave word of themselves in the store; one machine sees all of them, and what ran where.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod support;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use support::host::Said;
use support::source::SLEEPER;
use support::store_server::{StoreServer, token_file};
use support::{Host, Source, wait};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(60);

/// Healthy where the host says so.
fn asks_the_host() -> String {
    SLEEPER.replace("version = \"1\"", "version = \"2\"").replace(r#"["true"]"#, r#"["${WELL}"]"#)
}

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
    let second = fleet.pack(&Source::new(&asks_the_host()).with("app/x", b"two"), "2.0.0");
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
    fleet.pack(&Source::new(&asks_the_host()).with("app/x", b"two"), "2.0.0");
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
    fleet.pack(&Source::new(&asks_the_host()).with("app/x", b"two"), "2.0.0");
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

const READ_TOKEN: &str = "read-canary-91c3aa0de4575f26b1";

fn host_token(host: &str) -> String {
    format!("report-canary-of-{host}-57c21e90fd34")
}

impl Fleet {
    /// A server over the store, at this port or any, which takes reports of these hosts.
    fn serve(&self, at: &str, hosts: &[&str]) -> StoreServer {
        let dir = &self.hosts[0].dir;
        let read = token_file(dir, "read-tokens", READ_TOKEN);
        let lines: String = hosts.iter().map(|host| format!("{host} {}\n", host_token(host))).collect();
        let report = token_file(dir, "report-tokens", &lines);
        let mut command = self.hosts[0].program(env!("CARGO_BIN_EXE_landfall"));
        command.arg("serve").arg(self.store.path()).args(["--listen", at, "--read-token-file"]).arg(read);
        command.arg("--report-token-file").arg(report);
        StoreServer::start(&mut command, &dir.join("serve.log"))
    }

    /// Lets every host read and report through a server, each with its own token.
    fn go_through(&self, url: &str) {
        for host in &self.hosts {
            let toml = std::fs::read_to_string(host.dir.join("host.toml")).unwrap();
            let name = toml.split('"').nth(1).unwrap();
            token_file(&host.dir, "read.token", READ_TOKEN);
            token_file(&host.dir, "report.token", &host_token(name));
            let toml = toml.replace(
                &format!("store = {:?}", self.store.path()),
                &format!("store = \"{url}\"\nstore_token_file = \"read.token\""),
            );
            let report = "[report]\nto = \"store\"\nevery = \"10s\"\ntoken_file = \"report.token\"\n";
            host.write("host.toml", &format!("{toml}\n{report}"));
        }
    }

    /// Looks with nothing but an address and a token.
    fn at_a_laptop(&self, url: &str, token: &str, arguments: &[&str]) -> support::host::Said {
        let laptop = tempfile::tempdir().unwrap();
        let token = token_file(laptop.path(), "token", token);
        let mut command = self.hosts[0].program(env!("CARGO_BIN_EXE_landfall"));
        command.current_dir(laptop.path()).args(["--store", url, "--store-token-file"]).arg(token);
        support::host::Said::of(command.args(arguments).output().unwrap())
    }
}

#[test]
fn hosts_report_through_a_server_each_with_its_own_token_and_a_laptop_reads_all_of_it() {
    let fleet = Fleet::new(&[("web-1", "true"), ("web-2", "false")]);
    fleet.pack(&Source::sleeper("one"), "1.0.0");
    fleet.pack(&Source::new(&asks_the_host()).with("app/x", b"two"), "2.0.0");
    let server = fleet.serve("127.0.0.1:0", &["web-1", "web-2"]);
    fleet.go_through(&server.url);
    fleet.deploy("1.0.0");
    fleet.deploy("2.0.0");

    let seen = fleet.at_a_laptop(&server.url, READ_TOKEN, &["status", "--fleet", "-o", "json"]);
    seen.expect_code(0);
    let list: Value = serde_json::from_str(&seen.out).unwrap();
    let line = |item: &Value| {
        let words = [&item["host"], &item["running"]["version"], &item["sync"], &item["health"]];
        words.map(|word| word.as_str().unwrap().to_owned()).join(" ")
    };
    let lines: Vec<String> = list["items"].as_array().unwrap().iter().map(line).collect();
    assert_eq!(lines, ["web-1 2.0.0 Synced Healthy", "web-2 1.0.0 OutOfSync Healthy"]);
    let audit = fleet.at_a_laptop(&server.url, READ_TOKEN, &["audit", "web", "prod", "-o", "json"]);
    audit.expect_code(0);
    let list: Value = serde_json::from_str(&audit.out).unwrap();
    assert_eq!(
        sorted(short(list["items"].as_array().unwrap())),
        [
            "web-1 1.0.0 Healthy",
            "web-1 2.0.0 Healthy+",
            "web-2 1.0.0 Healthy",
            "web-2 1.0.0 Healthy+",
            "web-2 2.0.0 Reverted",
        ]
    );

    // A host's token sees no other host, and speaks for none.
    let seen = fleet.at_a_laptop(&server.url, &host_token("web-1"), &["status", "--fleet"]);
    assert_eq!(seen.code, Some(6), "{seen:?}");
    assert!(seen.err.contains("a host's report token"), "{}", seen.err);
    let before = std::fs::read(fleet.document("web-2/prod/host.json")).unwrap();
    token_file(&fleet.hosts[1].dir, "report.token", &host_token("web-1"));
    let refused = fleet.hosts[1].run(&["report"]);
    assert_eq!(refused.code, Some(6), "{refused:?}");
    assert!(refused.err.contains("--report-token-file"), "{}", refused.err);
    assert!(!refused.err.contains("canary"), "{}", refused.err);
    assert_eq!(std::fs::read(fleet.document("web-2/prod/host.json")).unwrap(), before);
}

#[test]
fn a_server_that_is_gone_or_takes_no_reports_holds_up_no_deploy_and_is_told_again_when_it_is_back() {
    let mut fleet = Fleet::new(&[("web-1", "true")]);
    let first = fleet.pack(&Source::sleeper("one"), "1.0.0");
    fleet.pack(&Source::sleeper("two"), "2.0.0");
    // It knows another host only.
    let server = fleet.serve("127.0.0.1:0", &["web-2"]);
    fleet.go_through(&server.url);
    let port = server.url.rsplit_once(':').unwrap().1.to_owned();
    fleet.hosts[0].start_agent();
    for (number, version) in ["1.0.0", "2.0.0"].into_iter().enumerate() {
        fleet.hosts[0].run(&["deploy", "web", "prod", version]).expect_code(0);
        assert_eq!(fleet.hosts[0].wait_for_attempt("web", number, LIMIT)["result"], "Healthy");
    }
    let told = |what: &str| fleet.hosts[0].agent_log().contains(what);
    wait::wait_until("the agent says that it cannot report", LIMIT, || {
        told("this host is not shown as reporting") && told("does not know that token")
    });
    drop(server);
    // What is on disk already needs no store.
    fleet.hosts[0].want("web", &first);
    assert_eq!(fleet.hosts[0].wait_for_attempt("web", 2, LIMIT)["target"]["artifact"], first);
    let _server = fleet.serve(&format!("127.0.0.1:{port}"), &["web-1"]);
    wait::wait_until("the agent reports again", LIMIT, || told("this host is reported again"));
    let document = std::fs::read_to_string(fleet.document("web-1/prod/host.json")).unwrap();
    let document: Value = serde_json::from_str(&document).unwrap();
    assert_eq!(document["apps"][0]["status"]["running"]["version"], "1.0.0");
    assert!(!fleet.hosts[0].agent_log().contains("canary"));
    assert!(fleet.hosts[0].stop_agent().success());
}
