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
use support::{Host, http, tools, wait};

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
            let recipe = std::fs::read_to_string(dir.join("landfall.toml")).unwrap();
            assert!(recipe.contains("releases = 5"), "{recipe}");
            // So that the third healthy release makes the first one go; and no step is ended because the machine
            // that runs the tests is busy.
            let recipe = recipe
                .replace("releases = 5", "releases = 2")
                .replace("timeout = \"10m\"", "timeout = \"30m\"")
                .replace("name = \"generate\"", "name = \"generate\"\ntimeout = \"30m\"");
            std::fs::write(dir.join("landfall.toml"), recipe).unwrap();
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
        "PATH",
        "HOME",
        "LANG",
        "TZ",
        "PWD",
        "OLDPWD",
        "SHLVL",
        "_",
        "NODE_APP_INSTANCE",
        "LANDFALL_START",
        "LANDFALL_RELEASE",
        "LANDFALL_ARTIFACT",
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

    // Not tried again by asking again.
    assert_eq!(site.steps(), ["install", "generate", "migrate"]);
    site.release(&third, &[]).expect_code(10);
    assert_eq!(site.steps(), Vec::<String>::new());

    let fourth = site.archive("1.3.0");
    site.release(&fourth, &[]).expect_code(7);
    assert_eq!(site.workers(), workers, "no worker was touched");
    evidence(&site, &["P3009", "20260320090000_captain"]);
    assert_eq!(site.steps(), ["install", "generate", "migrate"], "a migration has one try");
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

#[test]
fn direct_stays_in_the_foreground_and_each_flag_leaves_out_or_replaces_what_it_says() {
    let site = Site::new("dev");
    let first = site.archive("1.0.0");
    let arguments = ["release", "--archive", &first, "--env", "dev", "--start-mode", "direct"];
    let mut child =
        site.host.landfall(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    let mut lines = out.lines().map(Result::unwrap);
    let said = lines.find(|line| line.contains("Nest application successfully started"));
    if said.is_none() {
        let mut why = String::new();
        std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut why).unwrap();
        panic!("the app's own lines never came: {why}");
    }
    site.assert_serves("1.0.0", 1);
    assert_eq!(site.get("/health")["harbour"], "Port Askaig (dev)");
    assert_eq!(site.steps(), ["install", "generate", "migrate"]);
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    wait::wait_for("Ctrl-C ends the app", LIMIT, || child.try_wait().unwrap());
    assert!(site.host.serving(APP, "dev").is_empty());

    // From here on with dependencies that are no release's own: beside the releases, where Node looks for them, too.
    tools::run(&site.current(), "chmod", &["-R", "u+w", "."]);
    let installed = site.current().join("node_modules");
    std::fs::rename(installed, site.host.app(APP, "dev").join("node_modules")).unwrap();
    let second = site.archive("1.1.0");
    let bare = ["--skip-install", "--skip-migration", "--skip-pm2"];
    let said = site.release(&second, &bare);
    said.expect_code(0);
    assert!(said.err.contains("steps left out: install, migrate"), "{}", said.err);
    assert_eq!(site.steps(), ["generate"]);
    assert!(site.release_name().starts_with("1.1.0-") && site.host.serving(APP, "dev").is_empty());
    assert_eq!(site.host.attempts(APP).last().unwrap()["result"], "Unverified");
    assert!(!site.current().join("node_modules").exists());

    // Now with the migration, other env files, and started.
    site.host.write("base.env", "HARBOUR_TIDES=south\nHARBOUR_NAME=unused\n");
    let other = site.host.dir.join("other.db");
    let local = format!(
        "HARBOUR_NAME=\"Port Ellen\"\nPORT={}\nDATABASE_URL=file:{}\n",
        site.port.number,
        other.display()
    );
    site.host.write("local.env", &local);
    let files = ["--env-file", "base.env", "--env-local-file", "local.env", "--skip-install"];
    site.release(&second, &[&files[..], &["--start-mode", "direct", "--detach"]].concat()).expect_code(0);
    assert_eq!(site.steps(), ["generate", "migrate"]);
    site.assert_serves("1.1.0", 1);
    assert!(other.is_file(), "the migration took the same database as the app");
    let env = &site.get("/env")["env"];
    assert_eq!((&env["HARBOUR_NAME"], &env["HARBOUR_TIDES"]), (&"Port Ellen".into(), &"south".into()));
    assert_eq!(env["HARBOUR_DOMAIN"], Value::Null, "nothing is left of the layer in the archive");
    assert_eq!(env["HARBOUR_TOKEN"], Value::Null);

    // A host that does not migrate asks Prisma whether somebody else has; and the oldest version goes.
    let toml = std::fs::read_to_string(site.host.dir.join("host.toml")).unwrap();
    site.host.write("host.toml", &format!("migrator = false\n{toml}"));
    site.host.write("local.env", &local.replace("Port Ellen", "Bruichladdich"));
    let before = site.releases();
    assert!(before.iter().any(|name| name.starts_with("1.0.0-")), "{before:?}");
    site.release(&second, &[&files[..], &["--start-mode", "direct", "--detach"]].concat()).expect_code(0);
    assert_eq!(site.steps(), ["generate", "check"]);
    site.assert_serves("1.1.0", 1);
    assert_eq!(site.get("/health")["harbour"], "Bruichladdich");
    let after = site.releases();
    assert!(!after.iter().any(|name| name.starts_with("1.0.0-")), "{before:?} became {after:?}");
}

#[test]
fn init_writes_the_recipe_of_the_example_but_for_what_only_its_author_knows() {
    let host = Host::new("prod", "");
    let example = tools::repository().join("examples/nest-prisma");
    let source = host.dir.join("fresh");
    tools::copy(&example, &source);
    let own = std::fs::read_to_string(source.join("landfall.toml")).unwrap();
    std::fs::remove_file(source.join("landfall.toml")).unwrap();
    let source = source.to_string_lossy();
    host.run(&["init", &source, "--preset", "nest-prisma"]).expect_code(0);
    let written = std::fs::read_to_string(Path::new(&*source).join("landfall.toml")).unwrap();
    let (own, written) = (own.parse::<toml::Table>().unwrap(), written.parse::<toml::Table>().unwrap());
    for key in ["app", "version", "build", "layer", "step", "retain"] {
        assert_eq!(written[key], own[key], "{key}");
    }
    let (mut start, own_start) = (written["start"].clone(), own["start"].clone());
    start.as_table_mut().unwrap().insert("mode".into(), "cluster".into());
    assert_eq!(start, own_start);
    for key in ["expand", "local"] {
        assert_eq!(written["env"][key], own["env"][key], "{key}");
    }
}

/// Members of an archive, without landfall's own and directories.
fn members(archive: &Path) -> BTreeSet<String> {
    let listed = std::process::Command::new("tar").arg("-tzf").arg(archive).output().unwrap();
    let text = String::from_utf8(listed.stdout).unwrap();
    let files = text.lines().filter(|line| !line.starts_with(".landfall/") && !line.ends_with('/'));
    files.map(str::to_owned).collect()
}

/// One file of an archive.
fn member(archive: &Path, name: &str) -> String {
    let read = std::process::Command::new("tar").arg("-xzOf").arg(archive).arg(name).output().unwrap();
    String::from_utf8(read.stdout).unwrap()
}

#[test]
fn pack_builds_for_its_environment_and_makes_a_light_archive_with_the_usual_name() {
    let app = nest_app::built();
    let host = Host::new("prod", "").with_programs(tools::pnpm());
    let (workshop, _lock) = app.workshop();
    let workshop = workshop.to_string_lossy();
    let out = host.dir.join("out/");
    let pack = |more: &[&str]| {
        let out = out.to_string_lossy();
        let said = host.run(&[&["pack", &*workshop, "--archive", &*out], more].concat());
        said.expect_code(0);
        let name = said.err.lines().find_map(|line| line.strip_prefix("archive: ")).unwrap();
        PathBuf::from(name)
    };
    for (environment, kind) in [("dev", "development"), ("staging", "production"), ("prod", "production")] {
        let version = format!("2.0.0-{environment}");
        let archive =
            pack(&["--env", environment, "--version", &version, "--time", "11-20-14-05", "--move-version"]);
        assert_eq!(archive, out.join(format!("backend-v{version}-11-20-14-05.tgz")));
        let build = member(&archive, "dist/backend/build.json");
        assert_eq!(build, format!("{{\"kind\":\"{kind}\",\"environment\":\"{environment}\"}}\n"));
        let maps = members(&archive).iter().any(|file| file.ends_with(".js.map"));
        assert_eq!(maps, environment == "dev");
        let layers = [format!(".env.{environment}"), format!(".env.{environment}.local")];
        let found = members(&archive);
        let envs: BTreeSet<&String> = found.iter().filter(|file| file.starts_with(".env")).collect();
        assert_eq!(envs, layers.iter().collect(), "the layers of another environment");
    }

    // The default version is that of package.json, the default time is now.
    let archive = pack(&["--env", "prod", "--no-build", "--move-version"]);
    let name = archive.file_name().unwrap().to_string_lossy().into_owned();
    let time = name.strip_prefix("backend-v1.0.0-").and_then(|rest| rest.strip_suffix(".tgz")).unwrap();
    assert!(time.parse::<landfall::archive::Stamp>().is_ok(), "{name}");

    let found = members(&archive);
    let light = |file: &str| {
        file.starts_with("dist/backend/")
            || file.starts_with("prisma/schema/")
            || file.starts_with(".env.prod")
            || ["package.json", "pnpm-lock.yaml", "prisma.config.ts", "ecosystem.config.cjs"].contains(&file)
    };
    assert!(found.iter().all(|file| light(file)), "{found:#?}");
    assert!(found.contains("prisma/schema/migrations/20260105090000_berths/migration.sql"), "{found:#?}");
    let manifest: Value = serde_json::from_str(&member(&archive, "package.json")).unwrap();
    assert_eq!(manifest["scripts"], Value::Null, "it was made from package.production.json");
    assert_eq!(manifest["version"], "1.0.0");
}

/// A spoiled copy of the example cannot be packed for `prod`: the command's status, and what it says.
#[track_caller]
fn refused(host: &Host, spoil: impl FnOnce(&Path), says: &str) {
    let dir = tempfile::tempdir_in(&host.dir).unwrap();
    let source = nest_app::built().copy(dir.path());
    spoil(&source);
    let said = host.run(&["pack", &source.to_string_lossy(), "--no-build", "--env", "prod"]);
    said.expect_code(3);
    assert!(said.err.contains(says), "no `{says}` in {}", said.err);
    assert!(said.err.contains("hint: "), "{}", said.err);
}

#[test]
fn every_trap_of_the_old_scripts_is_refused_before_anything_is_touched() {
    let app = nest_app::built();
    let host = Host::new("prod", "");
    let link = |target: &str, at: PathBuf| std::os::unix::fs::symlink(target, at).unwrap();

    // An env file linked to itself.
    let to_itself = |source: &Path| {
        std::fs::remove_file(source.join(".env.prod")).unwrap();
        link(".env.prod", source.join(".env.prod"));
    };
    refused(&host, to_itself, "leads back to itself");
    // This machine's node_modules.
    let modules = |source: &Path| {
        std::fs::create_dir_all(source.join("dist/backend/node_modules/ms")).unwrap();
        std::fs::write(source.join("dist/backend/node_modules/ms/index.js"), "1").unwrap();
    };
    refused(&host, modules, "node_modules, but the step `install` installs dependencies on the host");
    // A dist that links back into the source tree.
    let back = |source: &Path| {
        std::fs::create_dir(source.join("libs")).unwrap();
        std::fs::write(source.join("libs/tides.js"), "1").unwrap();
        link("../../libs/tides.js", source.join("dist/backend/tides.js"));
    };
    refused(&host, back, "and not in the release");
    assert!(!host.root().join("apps").exists());

    // Only the base layer: packed (the local one may be the host's own), and refused where it is released.
    let base_only = tempfile::tempdir_in(&host.dir).unwrap();
    let source = app.copy(base_only.path());
    std::fs::remove_file(source.join(".env.prod.local")).unwrap();
    host.run(&["pack", &source.to_string_lossy(), "--no-build", "--env", "prod", "--version", "1.0.1"])
        .expect_code(0);
    let said = host.run(&["release", "1.0.1", "--env", "prod", "--start-mode", "direct"]);
    said.expect_code(3);
    assert!(said.err.contains(".env.prod.local"), "{}", said.err);

    // A local layer linked to itself on the host.
    let looped = host.dir.join("looped.env");
    link("looped.env", looped.clone());
    let local = ["--env-local-file", &looped.to_string_lossy(), "--start-mode", "direct"];
    let said = host.run(&[&["release", "1.0.1", "--env", "prod"], &local[..]].concat());
    said.expect_code(3);
    assert!(said.err.contains("looped.env"), "{}", said.err);

    // A staging build where another environment runs.
    let version = app.version("1.0.0");
    let staging =
        ["pack", &*version.to_string_lossy(), "--no-build", "--env", "staging", "--version", "1.0.2"];
    host.run(&staging).expect_code(0);
    let said = host.run(&["release", "1.0.2", "--env", "prod", "--start-mode", "direct"]);
    said.expect_code(3);
    assert!(said.err.contains("staging"), "{}", said.err);
    let said = host.run(&["deploy", APP, "prod", "1.0.2"]);
    said.expect_code(3);
    assert!(said.err.contains("staging"), "{}", said.err);

    // Nothing was placed, prepared or started by any of them.
    let releases = host.app(APP, "prod").join("releases");
    assert!(!releases.exists() || std::fs::read_dir(releases).unwrap().next().is_none());
    assert!(host.serving(APP, "prod").is_empty());
}
