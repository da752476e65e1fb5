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

#[test]
fn a_suspension_is_a_commit_that_reads_well_and_is_pushed_on_top_of_what_others_pushed() {
    let desk = Desk::new();
    let text = || std::fs::read_to_string(desk.ours().join("deploy-state.json")).unwrap();
    let before = text();
    desk.they_deploy("staging", &desk.second);
    let until = "2030-01-01T00:00:00Z";
    let said = desk.host.run(&[
        "suspend",
        "web",
        "prod",
        "-m",
        "release freeze",
        "--until",
        until,
        "--by",
        "lee@example.org",
        "--push",
    ]);
    said.expect_code(0);
    assert!(said.out.contains("suspended until 2030-01-01"), "{}", said.out);
    let origin = desk.host.dir.join("origin.git");
    let state: Value = serde_json::from_str(&desk.git(&origin, &["show", "main:deploy-state.json"])).unwrap();
    let prod = &state["apps"]["web"]["environments"]["prod"];
    let expected = serde_json::json!({"reason": "release freeze", "by": "lee@example.org", "until": until});
    assert_eq!(prod["suspend"], expected);
    assert_eq!(prod["target"]["artifact"], desk.first);
    assert_eq!(desk.target(&origin, "staging"), desk.second);
    let message = desk.git(&origin, &["log", "-1", "--format=%B", "main"]);
    assert_eq!(message, format!("suspend web in prod\n\nrelease freeze\n\nUntil: {until}"));

    // What a deploy says meanwhile, and that the same again is nothing new.
    let said = desk.deploy("prod", &desk.second);
    said.expect_code(0);
    assert!(said.err.contains("hosts apply nothing for now"), "{}", said.err);
    desk.git(&desk.ours(), &["reset", "--quiet", "--hard", "origin/main"]);
    let again = desk.host.run(&[
        "suspend",
        "web",
        "prod",
        "-m",
        "release freeze",
        "--until",
        until,
        "--by",
        "lee@example.org",
    ]);
    again.expect_code(0);
    assert!(again.out.contains("nothing was written"), "{}", again.out);

    desk.host.run(&["resume", "web", "prod", "-m", "all clear", "--push"]).expect_code(0);
    let message = desk.git(&origin, &["log", "-1", "--format=%B", "main"]);
    let expected =
        "resume web in prod\n\nall clear\n\nSuspended-By: lee@example.org\nSuspended-For: release freeze";
    assert_eq!(message, expected);
    // Nothing but the suspension came and went: what is left is theirs.
    let theirs = desk.git(&desk.theirs, &["show", "HEAD:deploy-state.json"]);
    assert_eq!(text().trim(), theirs);
    assert_ne!(text(), before);
    let said = desk.host.run(&["resume", "web", "prod"]);
    said.expect_code(0);
    assert!(said.out.contains("not suspended in the state"), "{}", said.out);
}

#[test]
fn an_entry_that_was_changed_meanwhile_is_not_suspended_unseen_and_nothing_is_lost() {
    let desk = Desk::new();
    desk.they_deploy("prod", &desk.second);
    let before = desk.git(&desk.ours(), &["rev-parse", "HEAD"]);
    let said = desk.host.run(&["suspend", "web", "prod", "-m", "freeze", "--push"]);
    said.expect_code(12);
    assert!(said.err.contains("changed by somebody else"), "{}", said.err);
    assert_eq!(desk.git(&desk.ours(), &["rev-parse", "HEAD"]), before);
    assert_eq!(desk.git(&desk.ours(), &["status", "--porcelain"]), "");
}

#[test]
fn a_suspension_that_cannot_be_is_refused_before_anything_is_touched() {
    let desk = Desk::new();
    let before = std::fs::read(desk.host.state()).unwrap();
    for (arguments, code, word) in [
        (&["suspend", "wbe", "prod", "-m", "x"][..], 4, "did you mean `web`?"),
        (&["suspend", "web", "prd", "-m", "x"], 4, "did you mean `prod`?"),
        (&["suspend", "web", "prod", "-m", "x", "--until", "2020-01-01T00:00:00Z"], 2, "has passed"),
        (&["suspend", "web", "prod", "-m", "\u{1b}[2J"], 3, "reason"),
        (&["suspend", "web", "prod", "--env", "prod", "-m", "x"], 2, "named twice"),
        (&["suspend", "web", "-m", "x", "--push"], 2, "edit of the state"),
        (&["suspend", "web", "prod", "--local", "-m", "x", "--push"], 2, "edit of the state"),
        (&["resume", "web", "nowhere"], 4, "no environment"),
    ] {
        let said = desk.host.run(arguments);
        said.expect_code(code);
        assert!(said.err.contains(word), "{arguments:?}: {}", said.err);
    }
    assert_eq!(std::fs::read(desk.host.state()).unwrap(), before);
}

#[test]
fn a_commit_of_landfall_is_signed_where_git_signs_and_a_host_that_asks_for_signatures_takes_it() {
    let forge = support::git::Forge::new();
    let key = forge.key("operator");
    let options = [
        ("gpg.format", "ssh"),
        ("user.signingkey", key.to_str().unwrap()),
        ("commit.gpgsign", "true"),
        ("user.name", "Maria"),
        ("user.email", "maria@acme.example"),
    ];
    options.iter().for_each(|(option, value)| drop(forge.git(&["config", option, value])));
    forge.git(&["push", "--quiet", "--force", "-u", "origin", "HEAD:refs/heads/main"]);
    forge.git(&["branch", "--quiet", "-m", "main"]);
    let host = Host::new("prod", "");
    host.write("signers", &format!("maria@acme.example namespaces=\"git\" {}\n", forge.public(&key)));
    let toml = format!(
        "environment = \"prod\"\n\n[trust]\nallowed_signers = \"signers\"\n\n{}",
        forge.state_of(&forge.url(), "")
    );
    host.write("host.toml", &toml);
    let artifact = host.pack_next(Source::sleeper("1").path());
    let state = forge.work().join("deploy-state.json");
    let run = |arguments: &[&str]| {
        let mut command =
            host.landfall_of_host_toml(&[&["--state", state.to_str().unwrap()], arguments].concat());
        command
            .env("GIT_AUTHOR_EMAIL", "maria@acme.example")
            .env("GIT_COMMITTER_EMAIL", "maria@acme.example");
        support::host::Said::of(command.output().unwrap()).expect_code(0);
    };
    let tick = |code: i32| {
        let output = host.landfall_of_host_toml(&["watch", "--once"]).output().unwrap();
        support::host::Said::of(output).expect_code(code);
    };
    run(&["deploy", "web", "prod", &artifact, "--push"]);
    tick(0);
    run(&["suspend", "web", "prod", "-m", "freeze", "--push"]);
    tick(11);
    run(&["resume", "web", "prod", "--push"]);
    tick(0);
    let signed = forge.git(&["log", "-3", "--format=%(trailers:key=x)%h", "--show-signature"]);
    assert_eq!(signed.matches("signature").count(), 3, "{signed}");
}
