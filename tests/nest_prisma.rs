//! A real NestJS backend with Prisma: what its pack and release scripts did, done by landfall, on a real database.
//!
//! What is believed comes from HTTP, from `/proc`, from the database and from what the programs of the steps were
//! given, never from landfall's own word.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::host::Said;
use support::nest_app::{self, NestApp};
use support::port::Port;
use support::{Host, http, json, tools, wait};

const APP: &str = "backend";
/// In the local layer of every version.
const SECRET: &str = "canary-51c0ffee";
/// `instances` of the recipe.
const WORKERS: usize = 2;
/// Generous: the machine may be busy.
const LIMIT: Duration = Duration::from_secs(120);

/// Stands before pnpm on the PATH, and writes down what it was given.
const WITNESS: &str = r#"#!/bin/sh
case "$*" in
    install*) step=install ;;
    *"prisma generate"*) step=generate ;;
    *"migrate deploy"*) step=migrate ;;
    *"migrate status"*) step=check ;;
    *) step=other ;;
esac
echo "$LANDFALL_RELEASE $step" >>SEEN/order
env >"SEEN/$LANDFALL_RELEASE.$step"
exec PNPM "$@"
"#;

/// A host of one environment with a database of its own.
struct Site {
    host: Host,
    environment: &'static str,
    port: Port,
    app: NestApp,
}

impl Site {
    fn new(environment: &'static str) -> Self {
        let app = nest_app::built();
        let host = support::host::with_pm2(Host::new(environment, ""));
        let witness = host.dir.join("witness");
        let host = host.with_programs(witness.clone());
        let beside = host.app(APP, environment).join("node_modules/.bin");
        let path = std::env::var("PATH").unwrap();
        // The witness first; then a place for programs that are no release's own.
        let path = format!("{}:{}:{}:{path}", witness.display(), tools::pm2().display(), beside.display());
        let toml = std::fs::read_to_string(host.dir.join("host.toml")).unwrap();
        let store = app.store();
        host.write(
            "host.toml",
            &format!(
                "{toml}\n[apps.{APP}.env]\nPATH = {path:?}\nnpm_config_store_dir = {store:?}\n\
                 npm_config_offline = \"true\"\n"
            ),
        );
        for dir in ["witness", "seen", "out"] {
            std::fs::create_dir(host.dir.join(dir)).unwrap();
        }
        let pnpm = tools::pnpm().join("pnpm");
        let script = WITNESS
            .replace("SEEN", &host.dir.join("seen").to_string_lossy())
            .replace("PNPM", &pnpm.to_string_lossy());
        host.write("witness/pnpm", &script);
        std::fs::set_permissions(witness.join("pnpm"), std::fs::Permissions::from_mode(0o755)).unwrap();
        Self { host, environment, port: Port::free(), app }
    }

    fn database(&self) -> PathBuf {
        self.host.dir.join("backend.db")
    }

    /// A version as the build machine has it, with this site's values in the local layer.
    fn source(&self, version: &str) -> PathBuf {
        let dir = self.host.dir.join(format!("source-{version}"));
        if !dir.exists() {
            tools::copy(&self.app.version(version), &dir);
            let local = dir.join(format!(".env.{}.local", self.environment));
            let text = std::fs::read_to_string(&local).unwrap();
            let own = format!(
                "PORT={}\nHARBOUR_TOKEN={SECRET}\nDATABASE_URL=file:{}\nHARBOUR_OF={version}\n",
                self.port.number,
                self.database().display()
            );
            std::fs::write(local, text + &own).unwrap();
        }
        dir
    }

    /// `landfall pack --env … --archive out/`: the archive's path.
    #[track_caller]
    fn archive(&self, version: &str) -> String {
        let (source, out) = (self.source(version), self.host.dir.join("out"));
        let said = self.host.run(&[
            "pack",
            &source.to_string_lossy(),
            "--no-build",
            "--env",
            self.environment,
            "--time",
            "11-20-14-05",
            "--archive",
            &out.to_string_lossy(),
        ]);
        said.expect_code(0);
        let archive = out.join(format!("backend-v{version}-11-20-14-05.tgz"));
        assert!(archive.is_file(), "{}", said.err);
        archive.to_string_lossy().into_owned()
    }

    fn release(&self, archive: &str, more: &[&str]) -> Said {
        self.host.run(&[&["release", "--archive", archive, "--env", self.environment], more].concat())
    }

    fn current(&self) -> PathBuf {
        self.host.current(APP, self.environment)
    }

    fn release_name(&self) -> String {
        self.current().file_name().unwrap().to_string_lossy().into_owned()
    }

    fn workers(&self) -> BTreeSet<u32> {
        self.host.serving(APP, self.environment).iter().map(|worker| worker.pid).collect()
    }

    /// What the steps of all releases were, in their order, since the last call.
    fn steps(&self) -> Vec<String> {
        let path = self.host.dir.join("seen/order");
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        std::fs::write(path, "").unwrap();
        text.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
    }

    fn get(&self, path: &str) -> Value {
        let answer = http::get(self.port.number, path).expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    }

    /// The release in service is this one, whole: `current`, every worker, and what the app says of itself.
    #[track_caller]
    fn assert_serves(&self, version: &str, workers: usize) {
        let current = self.current();
        assert!(self.release_name().starts_with(&format!("{version}-")), "{}", current.display());
        let serving = self.host.serving(APP, self.environment);
        assert_eq!(serving.len(), workers, "{serving:?}");
        assert!(serving.iter().all(|worker| worker.cwd == current), "{serving:?}");
        let health = self.get("/health");
        assert_eq!(health["version"], version, "{health}");
        assert_eq!(health["environment"], self.environment, "{health}");
    }

    /// Every step of the release in service and every worker have the same environment, which is this one.
    #[track_caller]
    fn assert_one_environment(&self, expected: &[(&str, &str)]) {
        let name = self.release_name();
        let expected: BTreeMap<String, String> =
            expected.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        for step in ["install", "generate", "migrate"] {
            let text = std::fs::read_to_string(self.host.dir.join(format!("seen/{name}.{step}"))).unwrap();
            let seen = text.lines().filter_map(|line| line.split_once('='));
            let seen = seen.map(|(key, value)| (key.to_owned(), value.to_owned()));
            assert_eq!(own(seen), expected, "step {step}");
        }
        let mut unseen = self.workers();
        wait::wait_until("every worker answers", LIMIT, || {
            let answer = self.get("/env");
            let pid = u32::try_from(answer["pid"].as_u64().unwrap()).unwrap();
            if unseen.remove(&pid) {
                let env = answer["env"].as_object().unwrap().iter();
                let env = env.map(|(key, value)| (key.clone(), value.as_str().unwrap().to_owned()));
                assert_eq!(own(env), expected, "worker {pid}");
            }
            unseen.is_empty()
        });
    }

    /// What this release's environment has to be, but for what differs.
    fn expected<'a>(&'a self, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let fixed = [
            ("CHECKPOINT_DISABLE", "1"),
            ("HARBOUR_TIDES", "north"),
            ("NODE_ENV", "production"),
            ("PRISMA_QUERY_ENGINE_LIBRARY", "/bin/false"),
            ("PRISMA_SCHEMA_ENGINE_BINARY", "/bin/false"),
            ("npm_config_offline", "true"),
            ("LANDFALL_APP", APP),
            ("LANDFALL_ENV", self.environment),
        ];
        fixed.into_iter().chain(more.iter().copied()).collect()
    }

    fn releases(&self) -> BTreeSet<String> {
        let dir = self.host.app(APP, self.environment).join("releases");
        let entries = std::fs::read_dir(dir).unwrap();
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
    }
}

/// An environment without what a shell, node's package manager, pm2 and the agent's clean base put there, and without
/// the release's own name and the id of the start.
fn own(env: impl Iterator<Item = (String, String)>) -> BTreeMap<String, String> {
    const OTHERS: [&str; 12] = [
        "PATH", "HOME", "LANG", "TZ", "PWD", "OLDPWD", "SHLVL", "_", "NODE_APP_INSTANCE", "LANDFALL_START",
        "LANDFALL_RELEASE", "LANDFALL_ARTIFACT",
    ];
    env.filter(|(key, _)| !OTHERS.contains(&key.as_str()) && key != "npm_config_store_dir").collect()
}

#[test]
fn a_light_archive_is_released_under_pm2_reloaded_rolled_back_and_a_failing_migration_touches_nothing() {
    let site = Site::new("prod");
    let database = format!("file:{}", site.database().display());
    let port = site.port.number.to_string();
    let layers = |version: &'static str| {
        site.expected(&[
            ("DATABASE_URL", &database),
            ("HARBOUR_CONTACT", "office@harbour.example"),
            ("HARBOUR_DOMAIN", "harbour.example"),
            ("HARBOUR_NAME", "Port Askaig"),
            ("HARBOUR_TOKEN", SECRET),
            ("HARBOUR_OF", version),
            ("PORT", &port),
        ])
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect::<Vec<_>>()
    };
    let same = |version| {
        let layers = layers(version);
        let layers: Vec<(&str, &str)> =
            layers.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        site.assert_one_environment(&layers);
    };

    let first = site.archive("1.0.0");
    site.release(&first, &[]).expect_code(0);
    assert_eq!(site.steps(), ["install", "generate", "migrate"]);
    site.assert_serves("1.0.0", WORKERS);
    same("1.0.0");
    assert_eq!(site.get("/berths")[0]["name"], "North Pier 1");

    let second = site.archive("1.1.0");
    site.release(&second, &["--start-mode", "pm2"]).expect_code(0);
    assert_eq!(site.steps(), ["install", "generate", "migrate"]);
    site.assert_serves("1.1.0", WORKERS);
    same("1.1.0");
    assert_eq!(site.get("/berths")[0]["tons"], Value::Null, "the column of the second migration");

    // Back and forth: switch and start, nothing is installed or migrated again.
    site.host.run(&["release", "1.0.0", "--env", "prod"]).expect_code(0);
    site.assert_serves("1.0.0", WORKERS);
    site.host.run(&["release", "1.1.0", "--env", "prod"]).expect_code(0);
    site.assert_serves("1.1.0", WORKERS);
    assert_eq!(site.steps(), Vec::<String>::new());

    let workers = site.workers();
    let third = site.archive("1.2.0");
    let said = site.release(&third, &[]);
    said.expect_code(7);
    assert!(said.err.contains("step `migrate`"), "{}", said.err);
    site.assert_serves("1.1.0", WORKERS);
    assert_eq!(site.workers(), workers, "no worker was touched");
    evidence(&site, &["20260320090000_captain", "duplicate column name: name"]);

    let fourth = site.archive("1.3.0");
    site.release(&fourth, &[]).expect_code(7);
    assert_eq!(site.workers(), workers, "no worker was touched");
    evidence(&site, &["P3009", "20260320090000_captain"]);
    assert_eq!(site.steps().iter().filter(|step| *step == "migrate").count(), 2, "a migration has one try");
    // Not tried again by itself, nor by asking again.
    site.release(&third, &[]).expect_code(10);
    assert_eq!(site.steps(), Vec::<String>::new());
    site.assert_serves("1.1.0", WORKERS);
}

/// `describe` shows this of the newest attempt.
#[track_caller]
fn evidence(site: &Site, parts: &[&str]) {
    let told = site.host.run(&["describe", APP]);
    told.expect_code(0);
    for part in parts {
        assert!(told.out.contains(part), "no `{part}` in {}", told.out);
    }
    assert!(!told.out.contains(SECRET), "{}", told.out);
}
