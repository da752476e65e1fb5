//! The read commands of a host, on what a real agent left there. They work with the agent dead, tell the truth,
//! say what to type next, and change nothing.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod support;

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use landfall::recipe::Recipe;
use landfall_store::artifact::{Artifact, Layer};
use landfall_store::push::{PushOptions, push};
use landfall_store::scan::{LayerSource, Mapping, ScanOptions, scan};
use landfall_store::{Kind, Store};
use serde_json::{Value, json};
use support::json::{condition, items};
use support::{Host, Source, process};

const ENV_TOML: &str =
    "\n[[layer]]\nname = \"env\"\nkind = \"env\"\n\n[env]\nenvironments = [\"prod\"]\nlocal = \"optional\"\n";
const SECRET: &str = "correct-horse-battery-staple";

/// A recipe whose app prints a line and then sleeps; `check` decides whether it is well.
fn recipe(version: &str, check: &str) -> String {
    support::source::SLEEPER
        .replace("version = \"1\"", &format!("version = \"{version}\""))
        .replace("[\"sleep\", \"100000\"]", "[\"sh\", \"-c\", \"echo ready; exec sleep 100000\"]")
        .replace("[\"true\"]", check)
        + ENV_TOML
}

/// A host of one app, with a state and an env file.
struct World {
    host: Host,
}

impl World {
    fn new() -> Self {
        let host = Host::new("prod", "");
        let env = host.dir.join("env");
        std::fs::create_dir(&env).unwrap();
        let toml = std::fs::read_to_string(host.dir.join("host.toml")).unwrap();
        host.write("host.toml", &format!("{toml}\n[apps.web]\nenv_dir = {env:?}\nuser = {:?}\n", user()));
        let world = Self { host };
        world.env(&format!("TOKEN={SECRET}\nKEEP=1\n"));
        world
    }

    fn env(&self, text: &str) {
        self.host.write("env/.env.prod", text);
    }

    /// Puts an artifact into the host's store through the library and returns its id.
    fn publish(&self, version: &str, check: &str) -> String {
        let source = Source::new(&recipe(version, check)).with("app/version.txt", version.as_bytes());
        let recipe = Recipe::read(&source.path().join("landfall.toml")).unwrap();
        let layer = LayerSource {
            name: "app".parse().unwrap(),
            root: source.path().to_owned(),
            files: vec![Mapping { from: "app".into(), to: "app".to_owned() }],
            exclude: Vec::new(),
            env: false,
            env_files: Vec::new(),
        };
        let scanned = scan(&layer, &ScanOptions::default()).unwrap();
        let sizes = scanned.tree.entries().iter().filter_map(|entry| match entry.kind {
            Kind::File { size, .. } => Some(size),
            _ => None,
        });
        let (bytes, files) = sizes.fold((0, 0), |(bytes, files), size| (bytes + size, files + 1));
        let layer = Layer {
            bytes,
            environment: None,
            files,
            mount: String::new(),
            name: layer.name.clone(),
            roles: Vec::new(),
            tree: scanned.id,
        };
        let spec = serde_json::to_value(recipe.release_spec(version.parse().unwrap())).unwrap();
        let release = spec.as_object().unwrap().clone();
        let artifact = Artifact::new(recipe.app, None, vec![layer], release).unwrap();
        let store = Store::create(&self.host.root().join("store")).unwrap();
        push(&store, &artifact, &[scanned.content()], &PushOptions::default()).unwrap();
        artifact.id().unwrap().to_string()
    }

    fn want(&self, artifact: &str) {
        self.want_with(artifact, json!({}));
    }

    fn want_with(&self, artifact: &str, more: Value) {
        let mut prod = json!({"target": {"artifact": artifact, "reason": "as planned", "by": "mo"}});
        prod.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let state = json!({"apiVersion": "landfall/v1", "apps": {"web": {"environments": {"prod": prod}}}});
        self.host.write("state/deploy-state.json", &format!("{state:#}\n"));
    }

    #[track_caller]
    fn deploy(&self, version: &str, check: &str, code: i32) -> String {
        let artifact = self.publish(version, check);
        self.want(&artifact);
        self.host.run(&["watch", "--once"]).expect_code(code);
        artifact
    }

    /// A host on which version 1 runs and version 2 failed.
    fn reverted() -> (Self, String, String) {
        let world = Self::new();
        let good = world.deploy("1", "[\"true\"]", 0);
        let bad = world.deploy("2", "[\"false\"]", 8);
        (world, good, bad)
    }

    #[track_caller]
    fn status(&self) -> Value {
        let status = self.host.json(&["status"]);
        assert_eq!((status["kind"].as_str(), items(&status).len()), (Some("StatusList"), 1), "{status:#}");
        items(&status)[0].clone()
    }

    /// What `landfall status` says to people, in one line.
    fn told(&self) -> String {
        let said = self.host.run(&["status"]);
        said.expect_code(0);
        said.out.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn app(&self) -> PathBuf {
        self.host.app("web", "prod")
    }

    fn release(&self) -> PathBuf {
        self.host.current("web", "prod")
    }
}

fn user() -> String {
    nix::unistd::User::from_uid(nix::unistd::getuid()).unwrap().unwrap().name
}

#[track_caller]
fn assert_axes(status: &Value, sync: &str, health: &str) {
    assert_eq!((&status["sync"], &status["health"]), (&json!(sync), &json!(health)), "{status:#}");
    assert_eq!(status["operation"], "Idle", "{status:#}");
}

#[track_caller]
fn assert_condition(status: &Value, kind: &str, is: &str, reason: &str) {
    let found = condition(status, kind).unwrap_or_else(|| panic!("no {kind} in {status:#}"));
    assert_eq!((&found["status"], &found["reason"]), (&json!(is), &json!(reason)), "{status:#}");
}

/// Everything that a write would change about a file: identity, mode, size, times, content.
type Seen = (u64, u32, i64, i64, Vec<u8>);

fn snapshot(dir: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut all = BTreeMap::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let facts = std::fs::symlink_metadata(&path).unwrap();
            let content = if facts.is_file() { std::fs::read(&path).unwrap() } else { Vec::new() };
            if facts.is_dir() {
                open.push(path.clone());
            }
            all.insert(path, (facts.ino(), facts.mode(), facts.mtime(), facts.mtime_nsec(), content));
        }
    }
    all
}

#[test]
fn a_host_without_anything_says_what_to_type_and_stays_empty() {
    let host = Host::new("prod", "");
    let said = host.run(&["status"]);
    said.expect_code(0);
    assert!(said.out.contains("no app in `prod`") && said.out.contains("landfall watch"), "{said:?}");
    assert!(said.err.contains("next: landfall deploy"), "{said:?}");
    host.run(&["status", "--check"]).expect_code(1);
    host.run(&["verify"]).expect_code(0);
    for command in ["history", "describe", "logs", "env"] {
        let said = host.run(&[command, "web"]);
        said.expect_code(4);
        assert!(said.err.contains("no app `web`") && said.err.contains("hint: "), "{said:?}");
    }
    assert!(!host.root().exists(), "looking makes nothing");
}

#[test]
fn a_healthy_app_is_told_with_its_processes_and_nothing_is_changed_by_looking() {
    let world = World::new();
    let artifact = world.deploy("1", "[\"true\"]", 0);
    let before = snapshot(&world.host.root());
    let status = world.status();
    assert_axes(&status, "Synced", "Healthy");
    let running = &status["running"];
    assert_eq!((&running["artifact"], &running["version"]), (&json!(artifact), &json!("1")));
    assert_eq!(running["attested"], true, "{status:#}");
    let serving = world.host.serving("web", "prod");
    assert_eq!(running["pids"], json!([serving[0].pid]), "{status:#}");
    assert_eq!(running["pid"], serving[0].pid);
    assert_eq!(status["last_healthy"], artifact);
    assert_eq!(status["rollback_target"], Value::Null);
    for kind in ["Ready", "Healthy", "SourceReady", "StateValid", "ArtifactInStore"] {
        assert_eq!(condition(&status, kind).unwrap()["status"], "True", "{status:#}");
    }
    for kind in ["Stalled", "Quarantined", "RolledBack", "Drifted", "Reconciling"] {
        assert_eq!(condition(&status, kind), None, "{status:#}");
    }
    world.host.run(&["status", "--check"]).expect_code(0);
    assert!(world.told().contains("no agent is running on"), "{}", world.told());

    world.host.run(&["describe", "web"]).expect_code(0);
    let logs = world.host.run(&["logs", "web"]);
    assert_eq!((logs.code, logs.out.as_str()), (Some(0), "ready\n"));
    world.host.run(&["verify", "--deep"]).expect_code(0);
    world.host.run(&["env", "web"]).expect_code(0);
    world.host.run(&["history", "web", "--verify"]).expect_code(0);
    assert!(snapshot(&world.host.root()) == before, "a read command changed something under the root");
}

#[test]
fn a_reverted_release_is_told_with_its_quarantine_its_evidence_and_the_way_on() {
    let (world, good, bad) = World::reverted();
    let status = world.status();
    assert_axes(&status, "OutOfSync", "Healthy");
    assert_eq!(status["desired"], json!({"artifact": bad, "version": "2", "by": "mo", "why": "as planned"}));
    assert_eq!(status["running"]["artifact"], good);
    assert_condition(&status, "Quarantined", "True", "HealthCheckFailed");
    assert_condition(&status, "RolledBack", "True", "Automatic");
    assert_condition(&status, "Stalled", "True", "Quarantined");
    assert_condition(&status, "Ready", "False", "HealthCheckFailed");
    world.host.run(&["status", "--check"]).expect_code(1);
    let told = world.told();
    for part in [
        "failed here in attempt 2",
        "runs and is healthy",
        "landfall describe web",
        "landfall rollback web prod",
    ] {
        assert!(told.contains(part), "no `{part}` in {told}");
    }
    let described = world.host.run(&["describe", "web"]);
    described.expect_code(0);
    for part in [
        "Attempt 2: Reverted",
        "HealthCheckFailed",
        "last lines of main",
        "| ready",
        "Quarantine",
        "Releases on disk",
    ] {
        assert!(described.out.contains(part), "no `{part}` in {}", described.out);
    }
    let first = world.host.run(&["describe", "web", "--attempt", "1"]);
    assert!(first.out.starts_with("Attempt 1: Healthy"), "{}", first.out);
    world.host.run(&["describe", "web", "--attempt", "9"]).expect_code(4);
}

#[test]
fn the_history_lists_every_attempt_in_the_contracts_shape_and_its_chain_is_checked() {
    let (world, good, bad) = World::reverted();
    let history = world.host.json(&["history", "web"]);
    assert_eq!(history["kind"], "HistoryList");
    let entries = items(&history);
    let told: Vec<_> =
        entries.iter().map(|entry| (&entry["attempt"], &entry["artifact"], &entry["result"])).collect();
    assert_eq!(
        told,
        [(&json!(2), &json!(bad), &json!("Reverted")), (&json!(1), &json!(good), &json!("Healthy"))]
    );
    assert_eq!(entries[0]["parent"], entries[1]["entry"]);
    assert_eq!(entries[0]["previous"], good);
    for key in [
        "version",
        "reason",
        "started",
        "took_ms",
        "by",
        "why",
        "state_commit",
        "previous",
        "entry",
        "parent",
    ] {
        assert!(entries[0].get(key).is_some(), "no {key} in {:#}", entries[0]);
    }
    let table = world.host.run(&["history", "web"]).out;
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    let checked = world.host.run(&["history", "web", "--verify"]);
    let last = &entries[0]["entry"].as_str().unwrap()[..12];
    assert_eq!(checked.out, format!("2 entries, unbroken, last {last}\n"));

    let path = world.app().join("history");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replacen("Healthy", "Failed", 1)).unwrap();
    let broken = world.host.run(&["history", "web", "--verify"]);
    broken.expect_code(6);
    assert!(broken.err.contains("entry 1 was changed"), "{}", broken.err);
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let (first, second) = (lines[0], lines[1]);
    for (how, damaged) in [
        ("cut at its end", first.to_owned()),
        ("dropped at its beginning", second.to_owned()),
        ("reordered", format!("{second}{first}")),
        ("told twice", format!("{text}{second}")),
        ("gone", String::new()),
    ] {
        std::fs::write(&path, damaged).unwrap();
        let said = world.host.run(&["history", "web", "--verify"]);
        assert_eq!(said.code, Some(6), "{how}: {said:?}");
    }
    std::fs::write(&path, text).unwrap();
    world.host.run(&["history", "web", "--verify"]).expect_code(0);
}

#[test]
fn a_first_deploy_that_failed_is_missing_and_stalled() {
    let world = World::new();
    world.deploy("1", "[\"false\"]", 9);
    let status = world.status();
    assert_axes(&status, "OutOfSync", "Missing");
    assert_eq!((&status["running"], &status["last_healthy"]), (&Value::Null, &Value::Null));
    assert_condition(&status, "Stalled", "True", "NoRollbackTarget");
    assert!(world.told().contains("nothing runs"), "{}", world.told());
}

#[test]
fn a_process_that_is_gone_is_degraded_and_the_agent_would_start_it_again() {
    let world = World::new();
    world.deploy("1", "[\"true\"]", 0);
    process::belonging_to(&world.host.dir).iter().for_each(|found| process::kill(found.pid));
    support::wait::wait_until("it is gone", std::time::Duration::from_secs(60), || {
        world.host.serving("web", "prod").is_empty()
    });
    let status = world.status();
    assert_axes(&status, "Synced", "Degraded");
    assert_eq!(status["running"], Value::Null, "{status:#}");
    assert_condition(&status, "Drifted", "True", "ProcessMissing");
    assert_condition(&status, "Healthy", "False", "ProcessExited");
    assert!(world.told().contains("`landfall watch` starts it again"), "{}", world.told());
}

#[test]
fn an_invalid_state_is_said_and_the_last_accepted_one_stays_in_force() {
    let world = World::new();
    let artifact = world.deploy("1", "[\"true\"]", 0);
    world.host.write("state/deploy-state.json", "{ not a state");
    let status = world.status();
    assert_eq!(status["sync"], "Unknown", "{status:#}");
    assert_eq!(status["running"]["artifact"], artifact);
    assert_eq!(condition(&status, "StateValid").unwrap()["status"], "False", "{status:#}");
    world.host.run(&["status", "--check"]).expect_code(1);
    assert!(world.told().contains("landfall state lint"), "{}", world.told());
}

#[test]
fn a_suspended_app_is_never_green() {
    let world = World::new();
    let artifact = world.deploy("1", "[\"true\"]", 0);
    world.want_with(&artifact, json!({"suspend": {"reason": "disk swap", "by": "lee"}}));
    let status = world.status();
    assert_axes(&status, "Synced", "Suspended");
    assert_condition(&status, "Ready", "False", "Suspended");
    assert!(world.told().contains("suspended: disk swap (by lee)"), "{}", world.told());
    world.host.run(&["status", "--check"]).expect_code(1);
}

#[test]
fn an_edited_env_file_is_told_by_its_keys_and_never_by_its_values() {
    let world = World::new();
    world.deploy("1", "[\"true\"]", 0);
    world.env("TOKEN=another-value\nNEW=1\n");
    let status = world.status();
    assert_axes(&status, "Synced", "Healthy");
    assert_condition(&status, "Drifted", "True", "EnvChanged");

    let env = world.host.json(&["env", "web"]);
    let change = |key: &str| items(&env).iter().find(|item| item["key"] == key).unwrap()["change"].clone();
    assert_eq!(
        [change("TOKEN"), change("NEW"), change("KEEP")],
        [json!("changed"), json!("added"), json!("removed")]
    );
    assert_eq!([change("PATH"), change("LANDFALL_RELEASE")], [Value::Null, Value::Null]);
    for command in [&["env", "web"][..], &["env", "web", "-o", "json"], &["describe", "web"], &["status"]] {
        let said = world.host.run(command);
        let secret = [SECRET, "another-value"]
            .into_iter()
            .find(|secret| said.out.contains(secret) || said.err.contains(secret));
        assert_eq!(secret, None, "{command:?}");
    }
    let revealed = world.host.run(&["env", "web", "--reveal"]);
    assert!(revealed.out.contains(SECRET) && revealed.out.contains("another-value"), "{}", revealed.out);
}

#[test]
fn a_damaged_release_is_named_and_mended_from_the_cache() {
    let world = World::new();
    world.deploy("1", "[\"true\"]", 0);
    let file = world.release().join("app/version.txt");
    let inode = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, b"X").unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o444)).unwrap();

    let verified = world.host.run(&["verify"]);
    verified.expect_code(6);
    assert!(verified.out.contains("app/version.txt: its content is another"), "{verified:?}");
    let listed = world.host.run(&["verify", "-o", "json"]);
    let listed: Value = serde_json::from_str(&listed.out).unwrap();
    assert_eq!(
        (&items(&listed)[0]["result"], &items(&listed)[0]["current"]),
        (&json!("Damaged"), &json!(true))
    );

    world.host.run(&["verify", "--repair"]).expect_code(0);
    assert_eq!(std::fs::read(&file).unwrap(), inode);
    world.host.run(&["verify", "--deep"]).expect_code(0);
}

#[test]
fn a_repair_waits_for_no_agent_and_looking_needs_none() {
    let mut world = World::new();
    world.deploy("1", "[\"true\"]", 0);
    world.host.start_agent();
    world.host.wait_for_agent();
    world.host.run(&["verify", "--repair"]).expect_code(12);
    world.host.run(&["verify"]).expect_code(0);
    assert!(!world.told().contains("no agent"), "{}", world.told());
    assert_eq!(world.status()["agent"], true);
}

#[test]
fn logs_that_are_not_there_are_a_clear_error_with_what_is_there() {
    let world = World::new();
    world.deploy("1", "[\"true\"]", 0);
    let said = world.host.run(&["logs", "web", "--process", "worker"]);
    said.expect_code(4);
    assert!(said.err.contains("hint: there are: main"), "{said:?}");
    world.host.run(&["logs", "web", "--attempt", "1", "--step", "migrate"]).expect_code(4);
    let wrong = world.host.run(&["status", "webb"]);
    wrong.expect_code(4);
    assert!(wrong.err.contains("hint: here are: web"), "{wrong:?}");
}
