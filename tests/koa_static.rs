//! A real Koa app: one artifact, packed once, on two servers and a host of files, from one store behind real nginx.
//!
//! What is believed comes from HTTP, from `/proc`, from the files, and from what nginx says it sent.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

#[path = "koa_static/fleet.rs"]
mod fleet;
mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use fleet::{Fleet, SERVERS, STATIC, release};
use support::example::Example;
use support::nginx::Sent;
use support::port::Port;
use support::{Host, http, process, wait};

const APP: &str = "timetable";
/// For one change of what runs on all hosts, on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);
/// In the local env layer, which only servers may have.
const SECRET: &str = "canary-41c7e0d2";

fn packs(sent: &[Sent]) -> BTreeSet<&str> {
    sent.iter().map(|sent| sent.path.as_str()).filter(|path| path.ends_with(".lfp")).collect()
}

fn bytes(sent: &[Sent]) -> u64 {
    sent.iter().map(|sent| sent.bytes).sum()
}

/// Changes a word of the client, and with it the name of a compiled file.
fn say(app: &Example, old: &str, new: &str) {
    app.edit("client/src/line.js", &format!("${{at}} {old} ${{to}}"), &format!("${{at}} {new} ${{to}}"));
}

const CHECK: &str = "body_contains =";
/// Limits of the broken version alone: they travel with it.
const SHORT: &str = "attempts = 10\ninterval = \"1s\"\nbody_contains =";

/// A version that starts, and does not work.
fn break_health(app: &Example) {
    app.edit("server/main.js", "ctx.body = health;", "ctx.status = 500;");
    app.edit("landfall.toml", CHECK, SHORT);
}

fn mend_health(app: &Example) {
    app.edit("server/main.js", "ctx.status = 500;", "ctx.body = health;");
    app.edit("landfall.toml", SHORT, CHECK);
}

/// Names and hashes of all files below a directory of a release.
fn content(dir: &Path) -> BTreeSet<(PathBuf, String)> {
    let mut found = BTreeSet::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(next) = dirs.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                let hash = blake3::hash(&std::fs::read(&path).unwrap()).to_hex().to_string();
                found.insert((path.strip_prefix(dir).unwrap().to_owned(), hash));
            }
        }
    }
    found
}

/// Bytes that nothing makes smaller, larger than everything else of the app.
fn photo() -> Vec<u8> {
    let mut bytes = vec![0; 6 << 20];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

#[test]
fn servers_get_the_server_and_static_hosts_the_client_from_one_artifact_and_both_go_back() {
    let fleet = Fleet::new();
    fleet.app.add("client/public/ferry.jpg", &photo());
    fleet.app.add(".env.prod.local", format!("TOKEN={SECRET}\n").as_bytes());

    let first = fleet.pack("1.0.0");
    fleet.deploy(&first, 0);
    let page = fleet.assert_serves("1.0.0");
    assert_each_host_has_its_part(&fleet);
    assert_each_host_fetched_its_part(&fleet);
    assert_all_run_the_same_bytes(&fleet, &first);

    // A page that was loaded before a deploy finds its assets after it.
    say(&fleet.app, "to", "for");
    let second = fleet.pack("1.1.0");
    let differs = fleet.run(0, &["diff", &first, &second], 1).out;
    assert!(differs.contains("layer static") && !differs.contains("layer deps"), "{differs}");
    let before: Vec<u64> = (0..3).map(|index| bytes(&fleet.sent_to(index))).collect();
    fleet.deploy(&second, 0);
    let newer = fleet.assert_serves("1.1.0");
    assert_ne!(page.assets, newer.assets);
    fleet.assert_reachable(&page);
    let later = (0..3).map(|index| bytes(&fleet.sent_to(index)) - before[index]).max().unwrap();
    assert!(later < 256 << 10, "{later} bytes for a changed word: modules and photo are there");

    // A version whose servers do not work: they go back, and the static host, where it is well, has the older files too.
    say(&fleet.app, "for", "bound for");
    break_health(&fleet.app);
    let bad = fleet.pack("1.2.0");
    fleet.deploy(&bad, 8);
    assert_eq!(fleet.assert_serves("1.1.0").assets, newer.assets);
    assert_eq!(fleet.status(STATIC)["running"]["artifact"], bad);
    fleet.assert_reachable(&page);

    // A person goes back, on every host at once.
    fleet.order(&["rollback", APP, "prod", "--to", &first], &first, 0);
    assert_eq!(fleet.assert_serves("1.0.0").assets, page.assets);
    assert_all_run_the_same_bytes(&fleet, &first);

    // The recipe keeps three releases: of the fourth page's predecessors the oldest is gone.
    mend_health(&fleet.app);
    say(&fleet.app, "bound for", "sails to");
    let last = fleet.pack("1.3.0");
    fleet.deploy(&last, 0);
    fleet.assert_serves("1.3.0");
    fleet.assert_reachable(&page);
    wait::wait_until("what no retained release has is gone", LIMIT, || {
        newer.assets.iter().any(|path| fleet.asset(path).status == 404)
    });
    assert_the_app_logs_outside_its_releases(&fleet);
}

/// Nobody has a file, a process or a secret that is not its business.
#[track_caller]
fn assert_each_host_has_its_part(fleet: &Fleet) {
    for server in SERVERS {
        let current = fleet.hosts[server].current(APP, "prod");
        assert!(current.join("server/main.js").is_file() && current.join("node_modules/koa").is_dir());
        assert!(!current.join("client").exists() && !current.join("node_modules/esbuild").exists());
        let text = std::fs::read_to_string(current.join(".env.prod.local")).unwrap();
        assert!(text.contains(SECRET));
        let serving = fleet.hosts[server].serving(APP, "prod");
        let commands: Vec<&str> = serving.iter().map(|process| process.command.as_str()).collect();
        assert!(
            commands.iter().any(|it| it.starts_with("npm")) && commands.contains(&"node server/main.js"),
            "{commands:?}"
        );
        let node = serving.iter().find(|process| process.command == "node server/main.js").unwrap();
        assert_eq!(process::started_with(node.pid)["SERVER_ENV"], "prod");
    }
    let host = &fleet.hosts[STATIC];
    let current = host.current(APP, "prod");
    let mut names: Vec<_> = std::fs::read_dir(&current).unwrap().map(|it| it.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, [".landfall", "client", "logs", "run"], "the client, and nothing of the server");
    assert_eq!(content(&current.join("client/dist")), content(&fleet.app.path().join("client/dist")));
    assert_eq!(host.serving(APP, "prod"), []);
    let found = std::process::Command::new("grep").args(["-rlF", SECRET]).arg(&host.dir).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "", "a secret on a host that runs nothing");
    assert_eq!(fleet.asset("/ferry.jpg").status, 200);
}

/// By what the store's server sent: in objects, and in bytes.
#[track_caller]
fn assert_each_host_fetched_its_part(fleet: &Fleet) {
    let photo = photo().len() as u64;
    let to_static = fleet.sent_to(STATIC);
    assert!(bytes(&to_static) > photo, "{} bytes to the static host", bytes(&to_static));
    for server in SERVERS {
        let to_server = fleet.sent_to(server);
        assert!(!packs(&to_server).is_empty());
        let common: Vec<_> = packs(&to_server).intersection(&packs(&to_static)).copied().collect();
        assert_eq!(common, Vec::<&str>::new(), "packs that both kinds of hosts fetched");
        assert!(bytes(&to_server) < photo / 2, "{} bytes to a server", bytes(&to_server));
    }
    let modules = content(&fleet.hosts[0].current(APP, "prod").join("node_modules"));
    assert!(modules.len() > 100, "{} files of modules", modules.len());
    assert!(bytes(&to_static) < photo + (64 << 10), "{} bytes to the static host", bytes(&to_static));
}

/// The same artifact, whole by a check of every byte, and by comparing the files themselves.
#[track_caller]
fn assert_all_run_the_same_bytes(fleet: &Fleet, artifact: &str) {
    for index in 0..3 {
        let status = fleet.status(index);
        assert_eq!(status["running"]["artifact"], artifact, "{status:#}");
        assert_eq!((&status["sync"], &status["health"]), (&"Synced".into(), &"Healthy".into()), "{status:#}");
        fleet.run(index, &["verify", APP, "--deep"], 0);
    }
    for part in ["node_modules", "server"] {
        let of = |server: usize| content(&fleet.hosts[server].current(APP, "prod").join(part));
        assert_eq!(of(0), of(1), "{part}");
    }
}

#[track_caller]
fn assert_the_app_logs_outside_its_releases(fleet: &Fleet) {
    let log = fleet.hosts[0].app(APP, "prod").join("logs/files/access.log");
    let text = std::fs::read_to_string(&log).unwrap();
    let pages = text.lines().filter(|line| line.contains("GET / 200")).count();
    assert!(pages >= 5, "one file has the lines of every release: {text}");
    assert!(
        !text.is_empty()
            && !log.canonicalize().unwrap().starts_with(fleet.hosts[0].app(APP, "prod").join("releases"))
    );
    let own = fleet.json(0, &["logs", APP]).to_string();
    assert!(own.contains("stopped "), "what `npm run stop` said is in the app's log: {own}");
}

#[test]
fn one_artifact_runs_in_every_environment_as_that_environment() {
    let app = Example::of("koa-static").with_modules();
    let store = tempfile::tempdir().unwrap();
    let mut artifact = None;
    for environment in ["stable", "sit", "pre", "prod"] {
        let port = Port::free();
        let host = Host::new(environment, &format!("[apps.{APP}]\nenv = {{ PORT = \"{}\" }}\n", port.number));
        let toml = std::fs::read_to_string(host.dir.join("host.toml")).unwrap();
        host.write("host.toml", &format!("roles = [\"server\"]\nstore = {:?}\n{toml}", store.path()));
        let id = artifact.get_or_insert_with(|| app.pack(&host, &[])).clone();
        host.want(APP, &id);
        host.run(&["watch", "--once"]).expect_code(0);
        let health = http::get(port.number, "/health").unwrap().json();
        assert_eq!(health["environment"], environment);
        let current = host.current(APP, environment);
        let files =
            std::fs::read_dir(&current).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap());
        let env_files: Vec<String> = files.filter(|name| name.starts_with(".env")).collect();
        assert_eq!(
            env_files,
            [format!(".env.{environment}")],
            "another environment's file is none of this host's"
        );
        let serving = host.serving(APP, environment);
        let node = serving.iter().find(|process| process.command == "node server/main.js").unwrap();
        assert_eq!(process::started_with(node.pid)["SERVER_ENV"], environment);
    }
}

/// The app as it runs before landfall: built in its own directory, started there by hand.
struct ByHand<'a> {
    app: &'a Example,
    npm: Child,
}

impl<'a> ByHand<'a> {
    fn start(app: &'a Example, host: &Host, port: u16) -> Self {
        let npm = |script: &str| {
            let mut npm = host.program("npm");
            npm.args(["run", script]).current_dir(app.path()).stdout(Stdio::null()).stderr(Stdio::null());
            npm.env("SERVER_ENV", "prod").env("PORT", port.to_string()).env("TOKEN", SECRET);
            npm
        };
        assert!(npm("build").status().unwrap().success());
        Self { app, npm: npm("start").spawn().unwrap() }
    }

    /// Who holds the port.
    fn server(&self) -> Option<process::Process> {
        let mut below = process::working_under(self.app.path()).into_iter();
        below.find(|process| process.command == "node server/main.js")
    }
}

impl Drop for ByHand<'_> {
    fn drop(&mut self) {
        process::belonging_to(self.app.path()).iter().for_each(|left| process::kill(left.pid));
        self.npm.kill().ok();
        self.npm.wait().ok();
    }
}

#[track_caller]
fn serves(port: u16, version: &str) {
    wait::wait_until(&format!("{version} answers"), LIMIT, || {
        http::get(port, "/health").is_ok_and(|it| it.status == 200 && it.json()["version"] == version)
    });
}

#[test]
fn the_first_release_takes_over_from_npm_start_by_hand_and_a_bad_one_goes_back_to_it() {
    let port = Port::free();
    let apps = format!("[apps.{APP}]\nenv = {{ PORT = \"{}\" }}\n", port.number);
    let host = Host::new("prod", &apps);
    let toml = std::fs::read_to_string(host.dir.join("host.toml")).unwrap();
    host.write("host.toml", &format!("roles = [\"server\"]\n{toml}"));
    let app = Example::of("koa-static").with_modules();
    let before = Example::of("koa-static").with_modules();
    release(&before, "0.9.0");
    let by_hand = ByHand::start(&before, &host, port.number);
    serves(port.number, "0.9.0");
    let old = by_hand.server().unwrap();

    // Who comes without a word is told who is there, and nothing happens.
    host.want(APP, &app.pack(&host, &[]));
    host.run(&["watch", "--once"]).expect_code(3);
    let message = host.attempts(APP)[0]["failure"]["message"].as_str().unwrap().to_owned();
    for part in [
        format!("port {} is held by pid {} (node, ", port.number, old.pid),
        format!("`landfall adopt {APP} --pid {}`", old.pid),
    ] {
        assert!(message.contains(&part), "{message}");
    }
    assert_eq!(by_hand.server().map(|process| process.pid), Some(old.pid));

    let adopt = ["adopt", APP, "--pid", &old.pid.to_string(), "--shared", "logs", "--shared", "run"];
    let said = host.run(&adopt);
    said.expect_code(0);
    assert!(!said.err.contains(SECRET) && !said.out.contains(SECRET));
    assert_eq!(by_hand.server().map(|process| process.pid), Some(old.pid), "it runs on as it did");

    break_health(&app);
    release(&app, "1.0.1");
    host.want(APP, &app.pack(&host, &[]));
    host.run(&["watch", "--once"]).expect_code(8);
    assert_eq!(by_hand.server(), None, "two could not hold the port");
    serves(port.number, "0.9.0");
    let back = host.serving(APP, "prod");
    assert!(
        back.iter()
            .any(|process| process::started_with(process.pid).get("TOKEN").is_some_and(|it| it == SECRET)),
        "{back:?}"
    );

    mend_health(&app);
    release(&app, "1.0.2");
    host.want(APP, &app.pack(&host, &[]));
    host.run(&["watch", "--once"]).expect_code(0);
    serves(port.number, "1.0.2");
    let results: Vec<_> =
        host.attempts(APP).iter().map(|it| it["result"].as_str().unwrap().to_owned()).collect();
    assert_eq!(results, ["Refused", "Adopted", "Reverted", "Healthy"]);
}
