//! `--push` where somebody else pushed first: made again on top of theirs, or refused, and nothing is lost.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod support;

use std::path::{Path, PathBuf};

use serde_json::Value;
use support::{Host, Source};

/// A desk with a clone of a repository that somebody else has a clone of, too.
struct Desk {
    host: Host,
    theirs: PathBuf,
    first: String,
    second: String,
}

impl Desk {
    fn new() -> Self {
        let host = Host::new("prod", "");
        let [first, second] = ["1", "2"].map(|content| host.pack_next(Source::sleeper(content).path()));
        let (ours, theirs) = (host.dir.join("state"), host.dir.join("theirs"));
        let desk = Self { host, theirs, first, second };
        desk.git(&desk.host.dir, &["init", "--quiet", "--bare", "-b", "main", "origin.git"]);
        desk.git(&ours, &["branch", "-M", "main"]);
        desk.git(&ours, &["remote", "add", "origin", "../origin.git"]);
        desk.deploy("prod", &desk.first).expect_code(0);
        desk.git(&ours, &["push", "--quiet", "-u", "origin", "main"]);
        desk.git(&desk.host.dir, &["clone", "--quiet", "origin.git", "theirs"]);
        desk
    }

    fn ours(&self) -> PathBuf {
        self.host.dir.join("state")
    }

    fn git(&self, dir: &Path, arguments: &[&str]) -> String {
        let output = self.host.program("git").args(arguments).current_dir(dir).output().unwrap();
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn deploy(&self, environment: &str, artifact: &str) -> support::host::Said {
        self.host.run(&["deploy", "web", environment, artifact])
    }

    fn deploy_and_push(&self, environment: &str, artifact: &str) -> support::host::Said {
        self.host.run(&["deploy", "web", environment, artifact, "--push"])
    }

    /// Somebody else deploys and pushes.
    fn they_deploy(&self, environment: &str, artifact: &str) {
        let file = self.theirs.join("deploy-state.json");
        let mut command = self.host.program(env!("CARGO_BIN_EXE_landfall"));
        command.arg("--root").arg(self.host.root()).arg("--state").arg(file);
        command.args(["deploy", "web", environment, artifact, "--push"]);
        support::host::Said::of(command.output().unwrap()).expect_code(0);
    }

    fn target(&self, repository: &Path, environment: &str) -> Value {
        let text = self.git(repository, &["show", "main:deploy-state.json"]);
        let state: Value = serde_json::from_str(&text).unwrap();
        state["apps"]["web"]["environments"][environment]["target"]["artifact"].clone()
    }
}

#[test]
fn another_entry_that_was_pushed_meanwhile_is_kept_and_ours_is_made_on_top_of_it() {
    let desk = Desk::new();
    desk.they_deploy("staging", &desk.second);
    // Neither an unfinished note nor a commit of our own stands in the way.
    std::fs::write(desk.ours().join("note.txt"), "a first word\n").unwrap();
    desk.git(&desk.ours(), &["add", "note.txt"]);
    desk.git(&desk.ours(), &["commit", "--quiet", "-m", "A note"]);
    std::fs::write(desk.ours().join("untracked.txt"), "mine\n").unwrap();

    desk.deploy_and_push("prod", &desk.second).expect_code(0);
    let origin = desk.host.dir.join("origin.git");
    for environment in ["staging", "prod"] {
        assert_eq!(desk.target(&origin, environment), desk.second);
    }
    let log = desk.git(&origin, &["log", "--format=%s", "main"]);
    let subjects: Vec<&str> = log.lines().take(3).collect();
    assert_eq!(subjects, ["deploy web 0.0.2 to prod", "A note", "deploy web 0.0.2 to staging"]);
    assert_eq!(desk.git(&desk.ours(), &["status", "--porcelain"]), "?? untracked.txt");
}

#[test]
fn the_same_entry_that_was_pushed_meanwhile_is_a_conflict_and_everything_is_as_it_was() {
    let desk = Desk::new();
    desk.they_deploy("prod", &desk.second);
    let third = desk.host.pack_next(Source::sleeper("3").path());
    let before = desk.git(&desk.ours(), &["rev-parse", "HEAD"]);
    let said = desk.deploy_and_push("prod", &third);
    said.expect_code(12);
    assert!(said.err.contains("changed by somebody else") && said.err.contains("Operator"), "{}", said.err);
    assert_eq!(desk.git(&desk.ours(), &["rev-parse", "HEAD"]), before);
    assert_eq!(desk.git(&desk.ours(), &["status", "--porcelain"]), "");
    assert_eq!(desk.target(&desk.host.dir.join("origin.git"), "prod"), desk.second);
    // Who takes theirs first may decide again.
    desk.git(&desk.ours(), &["pull", "--quiet", "--rebase"]);
    desk.deploy_and_push("prod", &third).expect_code(0);
    assert_eq!(desk.target(&desk.host.dir.join("origin.git"), "prod"), third);
}

#[test]
fn the_same_choice_made_twice_is_one_choice() {
    let desk = Desk::new();
    desk.they_deploy("prod", &desk.second);
    desk.deploy_and_push("prod", &desk.second).expect_code(0);
    let origin = desk.host.dir.join("origin.git");
    assert_eq!(desk.git(&origin, &["rev-list", "--count", "main"]), "3");
    assert_eq!(desk.git(&desk.ours(), &["rev-parse", "HEAD"]), desk.git(&origin, &["rev-parse", "main"]));
}

#[test]
fn a_push_that_the_server_refuses_is_told_and_the_commit_stays() {
    let desk = Desk::new();
    let hook = desk.host.dir.join("origin.git/hooks/pre-receive");
    std::fs::write(&hook, "#!/bin/sh\necho protected >&2\nexit 1\n").unwrap();
    std::fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let said = desk.deploy_and_push("prod", &desk.second);
    said.expect_code(5);
    assert!(said.err.contains("protected") && said.err.contains("stays here"), "{}", said.err);
    assert_eq!(desk.target(&desk.ours(), "prod"), desk.second);
    std::fs::remove_file(&hook).unwrap();
    desk.deploy_and_push("prod", &desk.second).expect_code(0);
    assert_eq!(desk.target(&desk.host.dir.join("origin.git"), "prod"), desk.second);
}
