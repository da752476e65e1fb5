//! A real Next.js app under real pm2, from `pack` to `rollback`, by the commands that people type.
//!
//! What is believed comes from HTTP and from `/proc`, never from landfall's or pm2's own word.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use landfall::recipe::Recipe;
use landfall::spec::{Check, ManagerKind, Millis, Pm2Mode};
use serde_json::Value;
use support::port::Port;
use support::{Host, http, json, next_app, process, wait};

const APP: &str = "harbour";
const ENVIRONMENT: &str = "prod";
/// In the local env layer of every version.
const SECRET: &str = "canary-7f0d1c4e9b";
/// `instances` of the recipe.
const WORKERS: usize = 2;
/// For one change of the running release, on a busy machine.
const CHANGE_LIMIT: Duration = Duration::from_secs(90);

#[test]
fn a_real_app_is_replaced_reverted_and_rolled_back_under_pm2_cluster() {
    let harbour = Harbour::with_agent();
    let [v1, v2, v3, v4] = &harbour.packed;

    harbour.deploy(v1, 0);
    next_app::shorten_trials(&harbour.host.borrow());
    harbour.assert_serves(v1, "1.0.0", "channel 12");
    harbour.assert_env_is_exactly(
        v1,
        &[("HARBOUR_NOTICE", "Pilots stand by on channel 12."), ("HARBOUR_SEASON", "winter")],
    );
    harbour.assert_the_secret_stays_secret();

    harbour.without_a_refused_connection(|| harbour.deploy(v2, 0));
    harbour.assert_serves(v2, "1.1.0", "channel 14");
    // One key changed and one is gone: pm2 alone would keep the old one.
    harbour.assert_env_is_exactly(v2, &[("HARBOUR_NOTICE", "Pilots stand by on channel 14.")]);
    harbour.assert_the_secret_stays_secret();

    harbour.deploy(v3, 8);
    harbour.assert_serves(v2, "1.1.0", "channel 14");
    harbour.assert_reverted(v3, v2);

    let before = harbour.workers();
    harbour.deploy(v4, 7);
    assert_eq!(harbour.workers(), before, "a trial run that fails touches no worker");
    harbour.assert_serves(v2, "1.1.0", "channel 14");

    harbour.roll_back_to(v1);
    harbour.assert_serves(v1, "1.0.0", "channel 12");
    harbour.assert_env_is_exactly(
        v1,
        &[("HARBOUR_NOTICE", "Pilots stand by on channel 12."), ("HARBOUR_SEASON", "winter")],
    );
    harbour.assert_the_secret_stays_secret();
    harbour.assert_history(&[
        (v1, "Healthy"),
        (v4, "Failed"),
        (v3, "Reverted"),
        (v2, "Healthy"),
        (v1, "Healthy"),
    ]);

    harbour.assert_the_app_outlives_the_agent();
    harbour.assert_pm2_has_saved_what_the_script_said();
    harbour.assert_pm2_brings_it_back_after_a_power_cut(v1);
}

#[test]
fn the_recipe_of_the_example_says_what_the_script_said() {
    let path = support::tools::repository().join("examples/next-app/landfall.toml");
    let recipe =
        Recipe::parse(&std::fs::read_to_string(&path).expect("the recipe"), &path).expect("a recipe");
    let release = recipe.release_spec("1.0.0".parse().expect("a version"));
    let [start] = &release.start[..] else { panic!("one process: {:?}", release.start) };
    assert_eq!((start.manager, start.mode, start.instances), (ManagerKind::Pm2, Some(Pm2Mode::Cluster), 2));
    assert_eq!(start.memory_max, Some(512 << 20));
    assert_eq!((start.stop.signal.as_str(), start.stop.grace), ("SIGINT", Millis(5_000)));
    let [health] = &release.health[..] else { panic!("one check: {:?}", release.health) };
    assert_eq!(health.check, Check::Http("http://127.0.0.1:${PORT}/api/health".to_owned()));
    assert_eq!(health.body_contains.as_deref(), Some("\"status\":\"ok\""));
    assert_eq!((health.attempts, health.interval), (30, Millis(2_000)));
    assert_eq!(release.retain, Some(5));
    assert!(release.preflight.iter().all(|preflight| preflight.enabled) && !release.preflight.is_empty());
}

/// The example app on a host, four versions of it packed.
struct Harbour {
    host: std::cell::RefCell<Host>,
    port: Port,
    packed: [String; 4],
}

impl Harbour {
    fn with_agent() -> Self {
        let built = next_app::built();
        let port = Port::free();
        let apps = format!("[apps.{APP}]\nenv = {{ PORT = \"{}\" }}\n", port.number);
        let mut host = support::host::with_pm2(Host::new(ENVIRONMENT, &apps));
        let packed =
            [&built.v1, &built.v2, &built.v3, &built.v4].map(|version| host.pack(version, ENVIRONMENT));
        host.start_agent();
        host.wait_for_agent();
        Self { host: host.into(), port, packed }
    }

    /// Names an artifact in the state and follows the agent to the verdict, which must have this exit code.
    #[track_caller]
    fn deploy(&self, artifact: &str, code: i32) {
        self.host.borrow().run(&["deploy", APP, ENVIRONMENT, artifact, "--wait"]).expect_code(code);
    }

    #[track_caller]
    fn roll_back_to(&self, artifact: &str) {
        let rollback = ["rollback", APP, ENVIRONMENT, "--to", artifact, "--wait"];
        self.host.borrow().run(&rollback).expect_code(0);
    }

    fn status(&self) -> Value {
        let status = self.host.borrow().json(&["status"]);
        let items = json::items(&status);
        assert_eq!(items.len(), 1, "{status:#}");
        items[0].clone()
    }

    /// Every live process that runs in any release of the app.
    fn workers(&self) -> BTreeSet<u32> {
        self.host.borrow().serving(APP, ENVIRONMENT).iter().map(|worker| worker.pid).collect()
    }

    /// The release that `current` names.
    fn current(&self) -> PathBuf {
        self.host.borrow().current(APP, ENVIRONMENT)
    }

    /// Page, health answer, `current`, every process and the status all name this artifact, and nothing else is left.
    #[track_caller]
    fn assert_serves(&self, artifact: &str, version: &str, notice: &str) {
        let page = http::get(self.port.number, "/").expect("the page");
        assert_eq!(page.status, 200);
        for text in ["<h1>Port Ellen</h1>", notice, &format!("version {version}, environment prod")] {
            assert!(page.body.contains(text), "`{text}` is not on the page: {}", page.body);
        }
        let health = http::get(self.port.number, "/api/health").expect("the health answer").json();
        assert_eq!((&health["status"], &health["version"]), (&"ok".into(), &version.into()), "{health}");
        let asset = http::get(self.port.number, "/anchor.svg").expect("a static file");
        assert!(asset.status == 200 && asset.body.contains("<svg"), "{asset:?}");

        let release = self.current();
        let name = release.file_name().expect("a name").to_string_lossy().into_owned();
        assert!(name.starts_with(&format!("{version}-")), "current names {name}");
        let host = self.host.borrow();
        let workers = host.serving(APP, ENVIRONMENT);
        assert_eq!(workers.len(), WORKERS, "{workers:?}");
        assert!(
            workers.iter().all(|worker| worker.cwd == release),
            "expected {}: {workers:?}",
            release.display()
        );
        drop(host);

        let status = self.status();
        assert_eq!(status["running"]["artifact"], artifact, "{status:#}");
        assert_eq!(status["health"], "Healthy", "{status:#}");
        let pids: BTreeSet<u32> = status["running"]["pids"]
            .as_array()
            .expect("pids")
            .iter()
            .map(|pid| pid.as_u64().expect("a pid") as u32)
            .collect();
        assert_eq!(pids, self.workers(), "{status:#}");
    }

    /// Asks until every worker has answered, and compares each one's whole environment.
    #[track_caller]
    fn assert_env_is_exactly(&self, artifact: &str, of_the_version: &[(&str, &str)]) {
        let release = self.current();
        let expected = self.expected_env(artifact, &release, of_the_version);
        let mut unseen = self.workers();
        wait::wait_until("every worker answers", CHANGE_LIMIT, || {
            let answer = http::get(self.port.number, "/api/env").expect("the env").json();
            assert_eq!(answer["cwd"], *release.to_string_lossy(), "{answer:#}");
            if unseen.remove(&u32::try_from(answer["pid"].as_u64().expect("a pid")).expect("a pid")) {
                assert_eq!(own_env(&answer["env"]), expected);
            }
            unseen.is_empty()
        });
    }

    fn expected_env(
        &self,
        artifact: &str,
        release: &Path,
        of_the_version: &[(&str, &str)],
    ) -> BTreeMap<String, String> {
        let port = self.port.number.to_string();
        let name = release.file_name().expect("a name").to_string_lossy();
        let fixed = [
            ("HARBOUR_NAME", "Port Ellen"),
            ("HARBOUR_TOKEN", SECRET),
            ("HOSTNAME", "127.0.0.1"),
            ("LANDFALL_APP", APP),
            ("LANDFALL_ARTIFACT", artifact),
            ("LANDFALL_ENV", ENVIRONMENT),
            ("LANDFALL_RELEASE", &name),
            ("NEXT_TELEMETRY_DISABLED", "1"),
            ("NODE_ENV", "production"),
            ("PORT", &port),
        ];
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        fixed.iter().chain(of_the_version).map(own).collect()
    }

    /// Neither pm2's files, nor what `/proc` shows of any process, nor anything that landfall says or keeps readable
    /// for others holds the value of the local layer.
    #[track_caller]
    fn assert_the_secret_stays_secret(&self) {
        let host = self.host.borrow();
        let homes = host.pm2_homes();
        assert!(!homes.is_empty(), "pm2 has a home on this host");
        for home in homes {
            assert_eq!(files_with_secret(&home), Vec::<PathBuf>::new());
        }
        for left in process::belonging_to(&host.dir) {
            assert!(!left.command.contains(SECRET), "in the arguments of {}", left.pid);
            let leaked = process::started_with(left.pid).into_values().any(|value| value.contains(SECRET));
            assert!(!leaked, "in /proc/{}/environ: {}", left.pid, left.command);
        }
        for file in files_with_secret(&host.root()) {
            let mode = std::fs::metadata(&file).expect("a file").permissions().mode() & 0o777;
            assert_eq!(mode & 0o077, 0, "{} holds a secret and has mode {mode:o}", file.display());
        }
        for command in [&["status"][..], &["history", APP], &["describe", APP], &["env", APP], &["logs", APP]]
        {
            let said = host.run(command);
            assert!(
                !said.out.contains(SECRET) && !said.err.contains(SECRET),
                "landfall {command:?} shows a secret"
            );
        }
        assert!(!host.agent_log().contains(SECRET), "the agent's log holds a secret");
    }

    /// Opens a new connection again and again while something happens; each one must be answered.
    fn without_a_refused_connection(&self, act: impl FnOnce()) {
        let done = AtomicBool::new(false);
        let port = self.port.number;
        let failures = std::thread::scope(|scope| {
            let client = scope.spawn(|| {
                let mut answers = Vec::new();
                while !done.load(Ordering::Relaxed) {
                    answers.push(http::get(port, "/api/health").map(|answer| answer.status));
                }
                answers
            });
            let acted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act));
            done.store(true, Ordering::Relaxed);
            let answers = client.join().expect("the client");
            if let Err(panic) = acted {
                std::panic::resume_unwind(panic);
            }
            assert!(answers.len() > 50, "only {} requests", answers.len());
            answers.into_iter().filter(|answer| answer != &Ok(200)).collect::<Vec<_>>()
        });
        assert_eq!(failures, Vec::new());
    }

    /// Status, history and evidence tell of the failed release and of the one that is back.
    #[track_caller]
    fn assert_reverted(&self, failed: &str, healthy: &str) {
        let status = self.status();
        assert_eq!(status["sync"], "OutOfSync", "{status:#}");
        assert_eq!(status["health"], "Healthy", "{status:#}");
        assert_eq!(status["operation"], "Idle", "{status:#}");
        assert_eq!(status["desired"]["artifact"], failed, "{status:#}");
        assert_eq!(status["running"]["artifact"], healthy, "{status:#}");
        for kind in ["Quarantined", "RolledBack"] {
            let condition = json::condition(&status, kind).unwrap_or_else(|| panic!("no {kind}: {status:#}"));
            assert_eq!(condition["status"], "True", "{condition:#}");
        }
        self.host.borrow().run(&["status", "--check"]).expect_code(1);

        let newest = self.history().remove(0);
        assert_eq!(newest["artifact"], failed, "{newest:#}");
        assert_eq!(newest["result"], "Reverted", "{newest:#}");
        assert_eq!(newest["previous"], healthy, "{newest:#}");

        let told = self.host.borrow().run(&["describe", APP]);
        told.expect_code(0);
        assert!(told.out.contains("500") && told.out.contains("broken"), "no evidence in: {}", told.out);
    }

    fn history(&self) -> Vec<Value> {
        json::items(&self.host.borrow().json(&["history", APP])).clone()
    }

    /// Results by artifact, newest first, in a chain that names each parent.
    #[track_caller]
    fn assert_history(&self, expected: &[(&String, &str)]) {
        let history = self.history();
        let told: Vec<_> = history.iter().map(|entry| (&entry["artifact"], &entry["result"])).collect();
        let expected: Vec<_> =
            expected.iter().map(|(id, result)| (Value::from(id.as_str()), Value::from(*result))).collect();
        assert_eq!(told, expected.iter().map(|(id, result)| (id, result)).collect::<Vec<_>>());
        for pair in history.windows(2) {
            assert_eq!(pair[0]["parent"], pair[1]["entry"]);
        }
    }

    /// pm2's own words for its workers, in what `pm2 save` wrote.
    fn assert_pm2_has_saved_what_the_script_said(&self) {
        let home = self.host.borrow().pm2_homes().remove(0);
        let dump = std::fs::read_to_string(home.join("dump.pm2")).expect("what pm2 saved");
        let saved: Value = serde_json::from_str(&dump).expect("JSON");
        let workers = saved.as_array().expect("a list");
        assert_eq!(workers.len(), WORKERS, "{saved:#}");
        for worker in workers {
            assert_eq!(worker["exec_mode"], "cluster_mode");
            assert_eq!(worker["max_memory_restart"], 512 << 20);
            assert_eq!(worker["kill_timeout"], 5_000);
        }
    }

    /// As pm2's own unit does it at boot; the agent stays down.
    fn assert_pm2_brings_it_back_after_a_power_cut(&self, artifact: &str) {
        let home = self.host.borrow().pm2_homes().remove(0);
        self.host.borrow_mut().power_cut();
        assert_eq!(self.workers(), BTreeSet::new());
        let mut resurrect = self.host.borrow().program("pm2");
        resurrect.arg("resurrect").env("PM2_HOME", home).stdout(std::process::Stdio::null());
        assert!(resurrect.status().expect("pm2").success());
        let answers = || http::get(self.port.number, "/api/health").is_ok_and(|answer| answer.status == 200);
        wait::wait_until("the app answers again", CHANGE_LIMIT, answers);
        self.assert_workers_are_of(artifact);
    }

    #[track_caller]
    fn assert_workers_are_of(&self, artifact: &str) {
        let release = self.current();
        wait::wait_until("every worker works in the release", CHANGE_LIMIT, || {
            let workers = self.host.borrow().serving(APP, ENVIRONMENT);
            workers.len() == WORKERS && workers.iter().all(|worker| worker.cwd == release)
        });
        let answer = http::get(self.port.number, "/api/env").expect("the env").json();
        assert_eq!(answer["cwd"], *release.to_string_lossy(), "{answer:#}");
        assert_eq!(answer["env"]["LANDFALL_ARTIFACT"], artifact);
    }

    /// Stopping landfall stops nothing that it started.
    fn assert_the_app_outlives_the_agent(&self) {
        let before = self.workers();
        assert!(self.host.borrow_mut().stop_agent().success());
        assert_eq!(self.workers(), before);
        assert_eq!(http::get(self.port.number, "/api/health").expect("an answer").status, 200);
    }
}

/// A worker's environment without what is put there by Next (at run time) and pm2 (the number of the worker), and
/// without the agent's clean base and the id of the start.
fn own_env(env: &Value) -> BTreeMap<String, String> {
    const THEIRS: [&str; 4] = ["NEXT_DEPLOYMENT_ID", "NEXT_RUNTIME", "TURBOPACK", "NODE_APP_INSTANCE"];
    const BASE: [&str; 5] = ["PATH", "HOME", "LANG", "TZ", "LANDFALL_START"];
    let pairs = env.as_object().expect("an environment").iter();
    let own = pairs.filter(|(key, _)| {
        let key = key.as_str();
        !key.starts_with("__NEXT") && !THEIRS.contains(&key) && !BASE.contains(&key)
    });
    own.map(|(key, value)| (key.clone(), value.as_str().expect("a text").to_owned())).collect()
}

/// Regular files below a directory that hold the secret as plain text.
fn files_with_secret(dir: &Path) -> Vec<PathBuf> {
    let grep = std::process::Command::new("grep").args(["-rlF", "--devices=skip", SECRET]).arg(dir).output();
    let found = grep.expect("grep is needed for this test").stdout;
    String::from_utf8_lossy(&found).lines().map(PathBuf::from).collect()
}
