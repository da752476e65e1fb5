//! A real Koa app: one artifact, packed once, on two servers and a host of files, from one store behind real nginx.
//!
//! What is believed comes from HTTP, from `/proc`, from the files, and from what nginx says it sent.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod support;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::Value;
use support::example::Example;
use support::host::Said;
use support::nginx::{Nginx, Sent};
use support::port::Port;
use support::{Host, http, process, wait};

const APP: &str = "timetable";
/// For one change of what runs on all hosts, on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);
/// In the local env layer, which only servers may have.
const SECRET: &str = "canary-41c7e0d2";

/// Two servers, a host of files with a web server, and the store they all fetch from.
struct Fleet {
    app: Example,
    hosts: [Host; 3],
    ports: [Port; 2],
    store: Nginx,
    site: Nginx,
    _dir: tempfile::TempDir,
    store_dir: PathBuf,
}

const SERVERS: std::ops::Range<usize> = 0..2;
const STATIC: usize = 2;

impl Fleet {
    /// Everything is there, agents included, and nothing is deployed.
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("landfall-store-").tempdir().unwrap();
        let store_dir = dir.path().join("store");
        std::fs::create_dir(&store_dir).unwrap();
        let store = Nginx::serving(3, &format!("root {};", store_dir.display()));
        let ports = [Port::free(), Port::free()];
        let hosts = [(); 3].map(|()| Host::new("prod", ""));
        let site = Nginx::serving(1, &site_of(&hosts[STATIC]));
        let mut fleet = Self { app: Example::of("koa-static").with_modules(), hosts, ports, store, site, _dir: dir, store_dir };
        (0..3).for_each(|index| fleet.configure(index));
        for host in &mut fleet.hosts {
            let command = host.landfall_of_host_toml(&["watch"]);
            host.start_agent_as(command);
            host.wait_for_agent();
        }
        fleet
    }

    /// A host's own file: its part, its address of the store, and the one state of all.
    fn configure(&self, index: usize) {
        let host = &self.hosts[index];
        let (role, apps) = match index {
            STATIC => ("static", String::new()),
            server => ("server", self.server(server)),
        };
        let toml = format!(
            "host = \"host-{index}\"\nenvironment = \"prod\"\nroles = [\"{role}\"]\nstore = \"http://127.0.0.1:{}\"\n\n\
             [state]\nfile = {:?}\n\n{apps}",
            self.store.port(index),
            self.hosts[0].state(),
        );
        host.write("host.toml", &toml);
    }

    /// Servers run the app as an account of its own, where the test may do that.
    fn server(&self, index: usize) -> String {
        let user = if rustix::process::geteuid().is_root() { "user = \"nobody\"\n" } else { "" };
        std::fs::set_permissions(&self.hosts[index].dir, std::fs::Permissions::from_mode(0o711)).unwrap();
        format!(
            "[apps.{APP}]\n{user}env = {{ PORT = \"{}\", ASSETS_URL = \"http://127.0.0.1:{}\" }}\n",
            self.ports[index].number,
            self.site.port(0)
        )
    }

    /// Builds and packs the app as it is now, for every environment, into the store that the hosts read.
    fn pack(&self, version: &str) -> String {
        let store = self.store_dir.to_string_lossy().into_owned();
        self.app.pack(&self.hosts[0], &["--version", version, "--store", &store])
    }

    /// Runs an order on the first server, and waits until every host has come to its end with this artifact.
    #[track_caller]
    fn order(&self, order: &[&str], artifact: &str, code: i32) {
        let known: Vec<usize> = self.hosts.iter().map(|host| host.attempts(APP).len()).collect();
        self.hosts[0].run(&[order, &["--wait"]].concat()).expect_code(code);
        for (host, known) in self.hosts.iter().zip(known) {
            let ended = host.wait_for_attempt(APP, known, LIMIT);
            assert_eq!(ended["target"]["artifact"], artifact, "{ended:#}");
        }
    }

    #[track_caller]
    fn deploy(&self, artifact: &str, code: i32) {
        self.order(&["deploy", APP, "prod", artifact], artifact, code);
    }

    /// The page of a server, and the paths of the assets that it names.
    #[track_caller]
    fn page(&self, server: usize) -> Page {
        Page::of(&http::get(self.ports[server].number, "/").expect("the page").body)
    }

    /// A file of the site, as a browser asks for it.
    fn asset(&self, path: &str) -> http::Answer {
        http::get(self.site.port(0), path).expect("the static host answers")
    }

    /// Every server answers with this version, and the site has what its page names.
    #[track_caller]
    fn assert_serves(&self, version: &str) -> Page {
        for server in SERVERS {
            let page = self.page(server);
            assert!(page.text.contains(&format!("version {version}, prod")), "{server}: {}", page.text);
            self.assert_reachable(&page);
        }
        self.page(0)
    }

    #[track_caller]
    fn assert_reachable(&self, page: &Page) {
        assert_eq!(page.assets.len(), 2, "{}", page.text);
        for path in &page.assets {
            let answer = self.asset(path);
            assert_eq!(answer.status, 200, "{path}");
        }
    }

    fn status(&self, index: usize) -> Value {
        self.run(index, &["status", APP, "-o", "json"]).json()["items"][0].clone()
    }

    /// A command on a host, with the state that all have.
    #[track_caller]
    fn run(&self, index: usize, arguments: &[&str]) -> Done {
        let said = Said::of(self.hosts[index].landfall_of_host_toml(arguments).output().unwrap());
        said.expect_code(0);
        Done(said)
    }

    /// What the store's server sent to a host.
    fn sent_to(&self, index: usize) -> Vec<Sent> {
        let port = self.store.port(index);
        self.store.sent().into_iter().filter(|sent| sent.port == port).collect()
    }
}

struct Done(Said);

impl Done {
    fn json(&self) -> Value {
        serde_json::from_str(&self.0.out).unwrap()
    }
}

struct Page {
    text: String,
    assets: Vec<String>,
}

impl Page {
    fn of(text: &str) -> Self {
        let named = text.split('"').filter_map(|part| part.find("/assets/").map(|at| part[at..].to_owned()));
        Self { text: text.to_owned(), assets: named.collect() }
    }
}

/// What `docs/guides/koa.md` says to put into nginx: the release first, then what earlier ones had.
fn site_of(host: &Host) -> String {
    let dir = host.app(APP, "prod");
    format!(
        "location / {{ root {0}/current/client/dist; try_files $uri @earlier; }}\n\
         location @earlier {{ root {0}/assets/client/dist; try_files $uri =404; }}",
        dir.display()
    )
}

fn packs(sent: &[Sent]) -> BTreeSet<&str> {
    sent.iter().map(|sent| sent.path.as_str()).filter(|path| path.ends_with(".lfp")).collect()
}

fn bytes(sent: &[Sent]) -> u64 {
    sent.iter().map(|sent| sent.bytes).sum()
}

/// Names and hashes of all files below a directory of a release.
fn content(dir: &Path) -> BTreeSet<(PathBuf, blake3::Hash)> {
    let mut found = BTreeSet::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(next) = dirs.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                let hash = blake3::hash(&std::fs::read(&path).unwrap());
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
    fleet.app.edit("client/src/line.js", " to ", " for ");
    let second = fleet.pack("1.1.0");
    let before: Vec<u64> = (0..3).map(|index| bytes(&fleet.sent_to(index))).collect();
    fleet.deploy(&second, 0);
    let newer = fleet.assert_serves("1.1.0");
    assert_ne!(page.assets, newer.assets);
    fleet.assert_reachable(&page);
    let later = (0..3).map(|index| bytes(&fleet.sent_to(index)) - before[index]).max().unwrap();
    assert!(later < 256 << 10, "{later} bytes for a changed word: modules and photo are there");

    // A version whose servers do not work: they go back, and the static host, where it is well, has the older files too.
    fleet.app.edit("client/src/line.js", " for ", " bound for ");
    fleet.app.edit("server/main.js", "ctx.body = health;", "ctx.status = 500;");
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
    fleet.app.edit("server/main.js", "ctx.status = 500;", "ctx.body = health;");
    fleet.app.edit("client/src/line.js", " bound for ", " sails to ");
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
        assert!(commands.contains(&"npm run start") && commands.contains(&"node server/main.js"), "{commands:?}");
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
        fleet.run(index, &["verify", APP, "--deep"]);
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
    assert!(!text.is_empty() && !log.canonicalize().unwrap().starts_with(fleet.hosts[0].app(APP, "prod").join("releases")));
    let own = fleet.run(0, &["logs", APP, "-o", "json"]).json().to_string();
    assert!(own.contains("stopped "), "what `npm run stop` said is in the app's log: {own}");
}
