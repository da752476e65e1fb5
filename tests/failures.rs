//! Every failure class on real files and processes: what fails, what is tried again, and what is left alone.

#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use support::source::SLEEPER;
use support::wait::{wait_for, wait_until};
use support::{Host, Source};

const APP: &str = "web";
const LIMIT: Duration = Duration::from_secs(60);

/// A host with a healthy first version and an agent whose pauses between tries are short.
struct Site {
    host: Host,
    first: String,
    serving: Vec<support::process::Process>,
}

impl Site {
    fn new() -> Self {
        Self::of(Host::new("prod", ""))
    }

    fn of(host: Host) -> Self {
        let source = Source::sleeper("first");
        host.deploy_once(&source).expect_code(0);
        let first = host.current_record(APP)["release"]["artifact"].as_str().unwrap().to_owned();
        let mut site = Self { serving: host.serving(APP, "prod"), host, first };
        assert_eq!(site.serving.len(), 1);
        site.start_agent("0.02");
        site
    }

    fn start_agent(&mut self, pauses: &str) {
        let mut command = self.host.landfall(&["watch"]);
        command.env("LANDFALL_PAUSES", pauses);
        self.host.start_agent_as(command);
        self.host.wait_for_agent();
    }

    fn want(&self, source: &Source) -> String {
        let artifact = self.host.pack_next(source.path());
        self.host.want(APP, &artifact);
        artifact
    }

    /// The first attempt at this artifact that ended like this.
    #[track_caller]
    fn ended(&self, artifact: &str, result: &str) -> Value {
        let it = |entry: &Value| entry["target"]["artifact"] == artifact && entry["result"] == result;
        wait_for(&format!("{artifact} is {result}"), LIMIT, || self.host.attempts(APP).into_iter().find(it))
    }

    fn status(&self) -> Value {
        self.host.json(&["status", APP])["items"][0].clone()
    }

    #[track_caller]
    fn condition(&self, kind: &str) -> Value {
        let of_kind = |status: &Value| {
            status["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind).cloned()
        };
        wait_for(&format!("the condition {kind}"), LIMIT, || of_kind(&self.status()))
    }

    #[track_caller]
    fn assert_untouched(&self) {
        assert_eq!(self.host.serving(APP, "prod"), self.serving, "what ran was touched");
        assert_eq!(self.host.current_record(APP)["release"]["artifact"], self.first.as_str());
    }

    #[track_caller]
    fn assert_not_quarantined(&self) {
        let conditions = self.status()["conditions"].to_string();
        assert!(!conditions.contains("\"Quarantined\""), "{conditions}");
    }

    /// A file outside the releases, for steps to leave traces in.
    fn trace(&self, name: &str) -> PathBuf {
        self.host.dir.join(name)
    }

    fn journal(&self) -> String {
        std::fs::read_to_string(self.host.app(APP, "prod").join("journal")).unwrap_or_default()
    }
}

fn lines(path: &Path) -> usize {
    std::fs::read_to_string(path).unwrap_or_default().lines().count()
}

fn step(kind: &str, shell: &str) -> Source {
    Source::sleeper_and(&format!("[[step]]\nname = \"it\"\nkind = \"{kind}\"\nshell = '''{shell}'''\n"))
}

#[test]
fn a_store_that_is_gone_is_asked_again_and_what_runs_is_untouched_until_it_is_back() {
    let site = Site::new();
    let (store, away) = (site.host.root().join("store"), site.host.dir.join("store-away"));
    let second = site.host.pack_next(Source::sleeper("second").path());
    std::fs::rename(&store, &away).unwrap();
    site.host.want(APP, &second);

    let failed = site.ended(&second, "Failed");
    assert_eq!(failed["failure"]["class"], "Supply", "{failed}");
    assert!(failed["retry_in_ms"].as_u64().is_some(), "{failed}");
    let stalled = site.condition("Stalled");
    assert_eq!(stalled["reason"], "RetriesExhausted");
    assert!(stalled["message"].as_str().unwrap().contains("next try at "), "{stalled}");
    site.assert_untouched();
    site.assert_not_quarantined();

    std::fs::rename(&away, &store).unwrap();
    site.ended(&second, "Healthy");
}

#[test]
fn a_damaged_pack_is_never_used_and_a_whole_one_converges() {
    let site = Site::new();
    let packs = || files_below(&site.host.root().join("store/packs"));
    let before = packs();
    let source =
        Source::sleeper("second").with("app/more.txt", "a content of its own\n".repeat(99).as_bytes());
    let second = site.host.pack_next(source.path());
    let new: Vec<PathBuf> = packs().into_iter().filter(|path| !before.contains(path)).collect();
    assert!(!new.is_empty(), "the second version has no pack of its own");
    let whole: Vec<_> = new.iter().map(|path| std::fs::read(path).unwrap()).collect();
    for (path, bytes) in new.iter().zip(&whole) {
        overwrite(path, &bytes.iter().map(|byte| byte ^ 0x55).collect::<Vec<_>>());
    }
    site.host.want(APP, &second);

    let failed = site.ended(&second, "Failed");
    assert_eq!(failed["failure"]["class"], "Supply", "{failed}");
    site.assert_untouched();
    site.assert_not_quarantined();

    for (path, bytes) in new.iter().zip(&whole) {
        overwrite(path, bytes);
    }
    site.ended(&second, "Healthy");
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let find = std::process::Command::new("find").arg(dir).args(["-type", "f"]).output().unwrap();
    String::from_utf8_lossy(&find.stdout).lines().map(PathBuf::from).collect()
}

fn overwrite(path: &Path, bytes: &[u8]) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_step_that_says_try_later_is_tried_again_in_the_same_attempt() {
    let site = Site::new();
    let tries = site.trace("tries");
    let shell = format!("echo x >> {0}; test $(wc -l < {0}) -ge 3 || exit 75", tries.display());
    let second = site.want(&step("prepare", &shell));
    let entry = site.ended(&second, "Healthy");
    assert_eq!((entry["attempt"].as_u64(), lines(&tries)), (Some(2), 3), "{entry}");
}

#[test]
fn a_step_that_only_ever_says_try_later_is_never_quarantined_and_succeeds_when_it_can() {
    for kind in ["prepare", "migrate"] {
        let site = Site::new();
        let (tries, ready) = (site.trace("tries"), site.trace("ready"));
        let shell = format!("echo x >> {}; test -e {} || exit 75", tries.display(), ready.display());
        let second = site.want(&step(kind, &shell));
        let failed = site.ended(&second, "Failed");
        assert_eq!(failed["failure"]["class"], "Transient", "{kind}: {failed}");
        assert!(lines(&tries) >= 3, "{kind}: a lock or a busy step gets three tries");
        assert_eq!(site.condition("Stalled")["reason"], "RetriesExhausted");
        site.assert_untouched();
        site.assert_not_quarantined();
        std::fs::write(&ready, "").unwrap();
        site.ended(&second, "Healthy");
    }
}

#[test]
fn a_step_that_fails_has_three_tries_a_migration_one_and_then_it_is_quarantined() {
    for (kind, class, tries_in_all) in [("prepare", "Prepare", 3), ("migrate", "Migrate", 1)] {
        let mut site = Site::new();
        let tries = site.trace("tries");
        let second = site.want(&step(kind, &format!("echo x >> {}; exit 3", tries.display())));
        let failed = site.ended(&second, "Failed");
        assert_eq!(failed["failure"]["class"], class, "{failed}");
        assert!(failed["retry_in_ms"].is_null(), "no clock lifts a quarantine: {failed}");
        assert_eq!(site.condition("Quarantined")["status"], "True");
        site.assert_untouched();
        // Not by a restart either.
        site.host.stop_agent();
        site.host.run(&["watch", "--once"]).expect_code(10);
        assert_eq!(lines(&tries), tries_in_all, "{kind}");
    }
}

#[test]
fn a_release_whose_process_dies_at_once_or_while_it_settles_is_reverted() {
    for (start, settle) in [("exit 3", "100ms"), ("sleep 0.5; exit 3", "30s")] {
        let site = Site::new();
        let recipe = SLEEPER
            .replace("run = [\"sleep\", \"100000\"]", &format!("shell = \"{start}\""))
            .replace("settle = \"100ms\"", &format!("settle = \"{settle}\""));
        let second = site.want(&Source::new(&recipe).with("app/version.txt", start.as_bytes()));
        let entry = site.ended(&second, "Reverted");
        assert_eq!(entry["failure"]["reason"], "ProcessExited", "{entry}");
        assert_eq!(site.host.current_record(APP)["release"]["artifact"], site.first.as_str());
        assert_eq!(site.condition("Quarantined")["status"], "True");
        assert_eq!(site.host.serving(APP, "prod").len(), 1, "{start}");
    }
}

#[test]
fn an_agent_that_dies_twice_in_the_same_stage_stops_trying_until_the_state_has_been_elsewhere() {
    let host = Host::new("prod", "");
    host.deploy_once(&Source::sleeper("first")).expect_code(0);
    let first = host.current_record(APP)["release"]["artifact"].as_str().unwrap().to_owned();
    let second = host.pack_next(step("prepare", "true").path());
    host.want(APP, &second);
    for _ in 0..2 {
        let mut agent = host.landfall(&["watch", "--once"]);
        let status = agent.env("LANDFALL_KILL_AT", "Preparing:AfterEffect").status().unwrap();
        assert_eq!(status.signal(), Some(9), "{status}");
    }
    host.run(&["watch", "--once"]).expect_code(10);
    let status = host.json(&["status", APP])["items"][0].clone();
    let stalled = status["conditions"].as_array().unwrap().iter().find(|it| it["type"] == "Stalled").unwrap();
    assert_eq!(stalled["reason"], "Interrupted", "{status}");
    assert_eq!(host.current_record(APP)["release"]["artifact"], first.as_str());
    host.want(APP, &first);
    host.run(&["watch", "--once"]).expect_code(0);
    host.want(APP, &second);
    host.run(&["watch", "--once"]).expect_code(0);
    assert_eq!(host.current_record(APP)["release"]["artifact"], second.as_str());
}

#[test]
fn an_agent_that_is_stopped_in_an_orderly_way_never_counts_against_the_release_on_trial() {
    let mut site = Site::new();
    let well = site.trace("well");
    let check = format!("run = [\"test\", \"-e\", {well:?}]\nattempts = 10000");
    let recipe = SLEEPER.replace("run = [\"true\"]\nattempts = 3", &check);
    let second = site.want(&Source::new(&recipe).with("app/version.txt", b"second"));
    for stops in 1..=3 {
        let trials = || site.host.agent_log().matches("Verifying attempt=").count();
        wait_until(&format!("trial {stops}"), LIMIT, || {
            trials() >= stops && site.journal().contains("\"stage\":\"Verifying\"")
        });
        assert!(site.host.stop_agent().success());
        assert!(site.journal().contains("\"stopped\":true"), "{}", site.journal());
        site.start_agent("0.02");
    }
    std::fs::write(&well, "").unwrap();
    site.ended(&second, "Healthy");
    let results: Vec<Value> = site.host.attempts(APP).iter().map(|entry| entry["result"].clone()).collect();
    assert_eq!(results, ["Healthy", "Healthy"]);
}

#[test]
fn an_after_step_that_fails_is_said_and_neither_reverts_nor_runs_again() {
    let mut site = Site::new();
    let ran = site.trace("ran");
    let shell = format!("readlink ../../current >> {}; echo the CDN is down; exit 3", ran.display());
    let second = site.want(&step("after", &shell));
    let entry = site.ended(&second, "Healthy");
    assert!(entry["after"]["failed"]["message"].as_str().unwrap().contains("the CDN is down"), "{entry}");
    let said = site.condition("AfterFailed");
    assert!(said["message"].as_str().unwrap().contains("the CDN is down"), "{said}");
    assert_eq!(site.host.current_record(APP)["release"]["artifact"], second.as_str());
    let linked = std::fs::read_to_string(&ran).unwrap();
    let current = site.host.current(APP, "prod");
    assert!(linked.trim().ends_with(&*current.file_name().unwrap().to_string_lossy()), "it ran too early");
    site.host.stop_agent();
    site.host.run(&["watch", "--once"]).expect_code(0);
    assert_eq!((lines(&ran), site.host.attempts(APP).len()), (1, 2));
}

#[test]
fn a_host_that_does_not_migrate_waits_for_the_check_and_runs_no_migration() {
    let host = Host::new("prod", "");
    let toml = std::fs::read_to_string(host.dir.join("host.toml")).unwrap();
    host.write("host.toml", &format!("migrator = false\n{toml}"));
    let site = Site::of(host);
    let (migrated, ran) = (site.trace("migrated"), site.trace("ran"));
    let migration = |check: &str| {
        let run = format!("run = [\"touch\", {ran:?}]");
        Source::sleeper_and(&format!("[[step]]\nname = \"migrate\"\nkind = \"migrate\"\n{run}\n{check}\n"))
    };
    let refused = site.want(&migration(""));
    assert_eq!(site.ended(&refused, "Refused")["failure"]["reason"], "MigrateCheckMissing");

    let second = site.want(&migration(&format!("check = [\"test\", \"-e\", {migrated:?}]")));
    wait_until("the host waits", LIMIT, || site.journal().contains("MigrationAwaited"));
    let waiting = site.condition("Reconciling");
    assert_eq!(waiting["reason"], "ProgressingWithRetry");
    assert!(waiting["message"].as_str().unwrap().contains("given up at "), "{waiting}");
    site.assert_untouched();
    std::fs::write(&migrated, "").unwrap();
    site.ended(&second, "Healthy");
    assert!(!ran.exists(), "the migration itself ran here");
}

#[test]
fn a_host_that_waits_for_a_migration_in_vain_says_so_and_goes_on_asking() {
    let host = Host::new("prod", "");
    let toml = std::fs::read_to_string(host.dir.join("host.toml")).unwrap();
    host.write("host.toml", &format!("migrator = false\n{toml}"));
    let site = Site::of(host);
    let migrated = site.trace("migrated");
    let recipe = format!(
        "[[step]]\nname = \"migrate\"\nkind = \"migrate\"\nrun = [\"false\"]\ntimeout = \"1s\"\ncheck = [\"test\", \"-e\", {migrated:?}]\n"
    );
    let second = site.want(&Source::sleeper_and(&recipe));
    let failed = site.ended(&second, "Failed");
    assert_eq!(failed["failure"]["reason"], "MigrationAwaited", "{failed}");
    let stalled = site.condition("Stalled");
    assert!(stalled["message"].as_str().unwrap().contains("waits for another"), "{stalled}");
    site.assert_untouched();
    site.assert_not_quarantined();
    std::fs::write(&migrated, "").unwrap();
    site.ended(&second, "Healthy");
}

#[test]
fn a_pm2_that_is_broken_costs_nothing_that_runs_and_is_tried_again() {
    let real = support::tools::pm2().join("pm2");
    let programs = tempfile::tempdir().unwrap();
    let pm2 = programs.path().join("pm2");
    std::os::unix::fs::symlink(&real, &pm2).unwrap();
    let port = support::port::Port::free();
    let mut host = Host::new("prod", "").with_programs(programs.path().to_owned());
    let source = |version: &str| {
        let server = format!(
            "require('http').createServer((q, s) => s.end('{version}')).listen({}, '127.0.0.1');",
            port.number
        );
        let recipe = format!(
            "app = \"web\"\nversion = \"1\"\n[[layer]]\nname = \"app\"\nfiles = [{{ from = \"app\", to = \"\" }}]\n\
             [start]\nmanager = \"pm2\"\nmode = \"fork\"\nrun = [\"node\", \"server.js\"]\n\
             [health]\nhttp = \"http://127.0.0.1:{}/\"\nbody_contains = \"{version}\"\nsettle = \"200ms\"\n",
            port.number
        );
        Source::new(&recipe).with("app/server.js", server.as_bytes())
    };
    host.deploy_once(&source("one")).expect_code(0);
    let serving = host.serving(APP, "prod");
    let mut agent = host.landfall(&["watch"]);
    agent.env("LANDFALL_PAUSES", "0.02");
    host.start_agent_as(agent);
    host.wait_for_agent();

    std::fs::remove_file(&pm2).unwrap();
    std::fs::write(&pm2, "#!/bin/sh\necho pm2 is broken\nexit 1\n").unwrap();
    std::fs::set_permissions(&pm2, std::fs::Permissions::from_mode(0o755)).unwrap();
    let second = host.pack_next(source("two").path());
    host.want(APP, &second);
    let failed = host.wait_for_attempt(APP, 1, LIMIT);
    assert_eq!(
        (&failed["result"], &failed["failure"]["class"]),
        (&"Failed".into(), &"Manager".into()),
        "{failed}"
    );
    assert_eq!(host.serving(APP, "prod"), serving, "what ran was touched");
    let said = wait_for("the status between two attempts", LIMIT, || {
        let said = host.json(&["status", APP])["items"][0].to_string();
        said.contains("pm2 is broken").then_some(said)
    });
    assert!(!said.contains("\"Quarantined\""), "{said}");

    // Over in one step: a program that is missing for a moment would be another failure.
    let again = programs.path().join("again");
    std::os::unix::fs::symlink(&real, &again).unwrap();
    std::fs::rename(again, &pm2).unwrap();
    wait_until("the second version is in service", LIMIT, || {
        host.attempts(APP).last().is_some_and(|entry| {
            entry["result"] == "Healthy" && entry["target"]["artifact"] == second.as_str()
        })
    });
}
