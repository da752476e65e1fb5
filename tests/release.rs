//! `landfall release`: one host, no state repository, the same attempt as the agent's.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails, its helpers included")]

mod support;

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use support::host::Said;
use support::source;
use support::{Host, Source, wait};

/// Generous: the machine may be busy.
const LIMIT: Duration = Duration::from_secs(60);

/// The sleeper, with a check that a busy machine has time for.
fn sleeper() -> String {
    source::SLEEPER.replace("attempts = 3", "attempts = 100")
}

fn version(content: &str) -> Source {
    Source::new(&sleeper()).with("app/version.txt", content.as_bytes())
}

/// An archive of a source, as a build machine sends it.
fn archive(host: &Host, source: &Source, version: &str) -> String {
    let path = host.dir.join(format!("web-{version}.tgz"));
    let elsewhere = host.dir.join("build");
    let path = path.to_str().unwrap().to_owned();
    let said = host
        .program(env!("CARGO_BIN_EXE_landfall"))
        .args(["pack", "--no-build", "--version", version, "--archive", &path, "--root"])
        .arg(elsewhere)
        .arg(source.path())
        .output()
        .unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    path
}

fn release(host: &Host, archive: &str, more: &[&str]) -> Said {
    host.run(&[&["release", "--archive", archive, "--env", "prod"], more].concat())
}

fn sleeper_with(health: &str) -> Source {
    Source::new(&sleeper().replace("[\"true\"]", health)).with("app/version.txt", health.as_bytes())
}

fn serves(host: &Host) -> usize {
    host.serving("web", "prod").len()
}

#[test]
fn an_archive_is_released_once_and_a_bad_one_is_reverted_with_the_record_of_who_did_it() {
    let host = Host::new("prod", "");
    let good = archive(&host, &version("1"), "1.0.0");
    let said = release(&host, &good, &[]);
    said.expect_code(0);
    assert!(said.err.contains("Verifying 1.0.0") && said.err.contains("Healthy in"), "{}", said.err);
    assert_eq!(serves(&host), 1);
    let entry = &host.attempts("web")[0];
    assert_eq!(
        (&entry["result"], &entry["target"]["by"]),
        (&json!("Healthy"), &json!("operator@example.org"))
    );
    assert!(entry["target"]["why"].as_str().unwrap().contains("web-1.0.0.tgz"), "{entry}");

    let again = release(&host, &good, &[]);
    again.expect_code(0);
    assert!(again.err.contains("nothing to do"), "{}", again.err);
    assert_eq!(host.attempts("web").len(), 1);

    let before = host.current("web", "prod");
    let bad = archive(&host, &sleeper_with("[\"false\"]"), "2.0.0");
    let said = release(&host, &bad, &["-o", "json"]);
    said.expect_code(8);
    let document: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(document["result"], "Reverted");
    assert_eq!((host.current("web", "prod"), serves(&host)), (before, 1));
    release(&host, &bad, &[]).expect_code(10);
    // What the store has is released by its version.
    host.run(&["release", "1.0.0", "--env", "prod"]).expect_code(0);
}

#[test]
fn an_archive_without_a_recipe_is_refused_and_nothing_of_it_is_stored() {
    let host = Host::new("prod", "");
    std::fs::create_dir(host.dir.join("plain")).unwrap();
    host.write("plain/server.js", "x");
    let tar = host.program("tar").args(["czf", "plain.tgz", "plain"]).status().unwrap();
    assert!(tar.success());
    let said = release(&host, "plain.tgz", &["--app", "web", "--version", "1"]);
    said.expect_code(3);
    assert!(said.err.contains("no landfall.toml") && said.err.contains("landfall init"), "{}", said.err);
    assert!(!host.root().join("store").exists());
    release(&host, "absent.tgz", &[]).expect_code(4);
}

/// A recipe whose steps leave marks.
fn with_steps() -> Source {
    let steps = "[[step]]\nname = \"modules\"\nshell = \"touch installed; exit 0; npm ci\"\n\n\
                 [[step]]\nname = \"client\"\nrun = [\"touch\", \"generated\"]\n\n\
                 [[step]]\nname = \"schema\"\nkind = \"migrate\"\nrun = [\"touch\", \"migrated\"]\n";
    Source::new(&format!("{}\n{steps}", sleeper())).with("app/version.txt", b"1")
}

#[test]
fn skipped_steps_are_left_out_said_and_on_record_and_a_release_without_them_is_another_one() {
    let host = Host::new("prod", "");
    let path = archive(&host, &with_steps(), "1.0.0");
    let marks = |host: &Host| {
        let dir = host.current("web", "prod");
        ["installed", "generated", "migrated"].map(|mark| dir.join(mark).exists())
    };
    let said = release(&host, &path, &["--skip-install", "--skip-migration"]);
    said.expect_code(0);
    assert!(said.err.contains("steps left out: modules, schema"), "{}", said.err);
    assert_eq!(marks(&host), [false, true, false]);
    assert_eq!(host.current_record("web")["skipped"], json!(["modules", "schema"]));
    release(&host, &path, &["--skip-install", "--skip-migration"]).expect_code(0);
    assert_eq!(host.attempts("web").len(), 1);
    release(&host, &path, &[]).expect_code(0);
    assert_eq!(marks(&host), [true, true, true]);
    assert_eq!(host.attempts("web").len(), 2);
}

#[test]
fn what_is_switched_to_and_not_started_is_unverified_and_never_a_place_to_go_back_to() {
    let host = Host::new("prod", "");
    let unproved = archive(&host, &version("1"), "1.0.0");
    release(&host, &unproved, &["--skip-pm2"]).expect_code(0);
    assert_eq!((host.attempts("web")[0]["result"].as_str(), serves(&host)), (Some("Unverified"), 0));
    assert!(host.current("web", "prod").to_string_lossy().contains("1.0.0-"));
    let said = release(&host, &unproved, &["--skip-pm2"]);
    said.expect_code(0);
    assert!(said.err.contains("nothing to do"), "{}", said.err);
    // Nothing is started by an agent either.
    host.run(&["watch", "--once"]);
    assert_eq!((serves(&host), host.attempts("web").len()), (0, 1));
    let bad = archive(&host, &sleeper_with("[\"false\"]"), "2.0.0");
    release(&host, &bad, &[]).expect_code(9);
    release(&host, &unproved, &[]).expect_code(0);
    assert_eq!(serves(&host), 1);
}

#[test]
fn a_release_that_was_not_started_stays_while_its_successor_is_switched_to_because_it_may_still_run() {
    let host = Host::new("prod", "");
    for number in ["1", "2"] {
        let path = archive(&host, &version(number), &format!("{number}.0.0"));
        release(&host, &path, &["--skip-pm2"]).expect_code(0);
    }
    let releases = host.current("web", "prod").parent().unwrap().to_owned();
    let there = |number: &str| {
        let names = std::fs::read_dir(&releases).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().starts_with(number)).count()
    };
    assert_eq!((there("1.0.0-"), there("2.0.0-")), (1, 1));
}

/// `landfall release --start-mode direct` of an app that says `up`, until that is heard.
fn attached(
    host: &Host,
    shell: &str,
    stop: &str,
) -> (std::process::Child, BufReader<std::process::ChildStdout>) {
    let recipe = sleeper()
        .replace("manager = \"direct\"", "manager = \"pm2\"")
        .replace("run = [\"sleep\", \"100000\"]", &format!("shell = {shell:?}"));
    let recipe = recipe.replace("SIGTERM", stop);
    let path = archive(host, &Source::new(&recipe).with("app/x", b"x"), "1.0.0");
    let mut command =
        host.landfall(&["release", "--archive", &path, "--env", "prod", "--start-mode", "direct"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "up\n");
    (child, out)
}

#[test]
fn in_the_foreground_ctrl_c_stops_the_app_and_its_exit_status_is_landfalls() {
    let host = Host::new("prod", "");
    let (mut child, _out) =
        attached(&host, "trap 'exit 5' TERM; echo up; while :; do sleep 0.1; done", "SIGTERM");
    assert_eq!(serves(&host).min(1), 1);
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let status = wait::wait_for("it ends", LIMIT, || child.try_wait().unwrap());
    assert_eq!((status.code(), serves(&host)), (Some(5), 0));
    assert_eq!(host.attempts("web")[0]["result"], "Healthy");
}

#[test]
fn in_the_foreground_an_app_that_ends_ends_landfall_with_its_status_and_is_not_started_again() {
    let host = Host::new("prod", "");
    let go = host.dir.join("go");
    let shell = format!("echo up; while [ ! -e {} ]; do sleep 0.1; done; exit 3", go.display());
    let (mut child, _out) = attached(&host, &shell, "SIGTERM");
    std::fs::write(go, "").unwrap();
    let status = wait::wait_for("it ends", LIMIT, || child.try_wait().unwrap());
    assert_eq!((status.code(), serves(&host)), (Some(3), 0));
}

#[test]
fn detached_it_is_left_to_its_supervisor_and_other_commands_know_how_it_runs() {
    let host = Host::new("prod", "");
    let recipe = sleeper().replace("manager = \"direct\"", "manager = \"pm2\"");
    let path = archive(&host, &Source::new(&recipe).with("app/x", b"x"), "1.0.0");
    let direct = &["--start-mode", "direct", "--detach"];
    release(&host, &path, direct).expect_code(0);
    assert_eq!(serves(&host), 1);
    let status = host.json(&["status", "web"]);
    assert_eq!(status["items"][0]["health"], "Healthy", "{status}");
    release(&host, &path, direct).expect_code(0);
    assert_eq!(host.attempts("web").len(), 1);
}

#[test]
fn the_start_mode_that_the_recipe_has_anyway_makes_no_other_release() {
    let host = Host::new("prod", "");
    let path = archive(&host, &version("1"), "1.0.0");
    release(&host, &path, &[]).expect_code(0);
    let said = release(&host, &path, &["--start-mode", "direct", "--detach"]);
    said.expect_code(0);
    assert!(said.err.contains("nothing to do"), "{}", said.err);
    assert_eq!((host.attempts("web").len(), serves(&host)), (1, 1));
}

#[test]
fn env_files_given_take_the_place_of_the_layers_in_the_archive() {
    let host = Host::new("prod", "");
    let recipe = format!(
        "{}\n[[layer]]\nname = \"env\"\nkind = \"env\"\n\n[env]\nenvironments = [\"prod\"]\nlocal = \"optional\"\n",
        sleeper()
    );
    let source = Source::new(&recipe)
        .with("app/x", b"x")
        .with(".env.prod", b"FROM=archive\nKEEP=1\n")
        .with(".env.prod.local", b"LOCAL=archive\n");
    let path = archive(&host, &source, "1.0.0");
    host.write("base.env", "FROM=flag\n");
    host.write("local.env", "LOCAL=flag\n");
    release(&host, &path, &["--env-file", "base.env", "--env-local-file", "local.env"]).expect_code(0);
    let env = host.run(&["exec", "web", "--env", "prod", "--", "env"]);
    let has = |line: &str| env.out.lines().any(|own| own == line);
    assert!(has("FROM=flag") && has("LOCAL=flag") && !env.out.contains("KEEP"), "{}", env.out);
    // The same archive with other values is released again; with the same ones, not.
    host.write("base.env", "FROM=other\n");
    for attempts in [2, 2] {
        release(&host, &path, &["--env-file", "base.env", "--env-local-file", "local.env"]).expect_code(0);
        assert_eq!(host.attempts("web").len(), attempts);
    }
    let env = host.run(&["exec", "web", "--env", "prod", "--", "env"]);
    assert!(env.out.lines().any(|own| own == "FROM=other"), "{}", env.out);
    release(&host, &path, &["--env-file", "absent.env"]).expect_code(3);
}

#[test]
fn nothing_is_done_beside_an_agent_or_against_the_state_it_follows() {
    let mut host = Host::new("prod", "");
    let first = version("1");
    host.want("web", &host.pack_next(first.path()));
    host.start_agent();
    host.wait_for_attempt("web", 0, LIMIT);
    let other = archive(&host, &version("2"), "2.0.0");
    let said = release(&host, &other, &[]);
    said.expect_code(12);
    assert!(said.err.contains("landfall deploy"), "{}", said.err);
    host.stop_agent();
    let said = release(&host, &other, &[]);
    said.expect_code(12);
    assert!(said.err.contains("an agent would go back"), "{}", said.err);
    assert_eq!(host.attempts("web").len(), 1);
    let same = host.attempts("web")[0]["target"]["artifact"].as_str().unwrap().to_owned();
    host.run(&["release", &same, "--env", "prod"]).expect_code(0);
}

#[test]
fn what_cannot_be_done_is_refused_before_anything_is_touched() {
    let host = Host::new("prod", "");
    let path = archive(&host, &version("1"), "1.0.0");
    host.run(&["release", "--env", "prod"]).expect_code(2);
    assert_eq!(PathBuf::from(&path).exists(), !host.root().exists());
}
