//! `landfall adopt`: an app that runs already, by hand, under pm2, or behind a `current` link, is put on record as it
//! runs; the first deploy takes over from it, and goes back to it if it fails.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails, its helpers included")]

mod support;

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use support::host::{Said, with_pm2};
use support::port::Port;
use support::{Host, Source, http, process, wait};

/// Generous: the machine may be busy.
const LIMIT: Duration = Duration::from_secs(60);
/// In the environment of what is adopted; never to be seen.
const SECRET: &str = "correct horse 'battery' \"staple\"";

/// A server that tells which version of it answers, with which environment, from which directory.
const SERVER: &str = r#"
const http = require("http"), fs = require("fs"), path = require("path");
const version = fs.readFileSync(path.join(__dirname, "version.txt"), "utf8").trim();
const env = () => { try { return fs.readFileSync(".env", "utf8"); } catch { return ""; } };
http.createServer((request, response) => {
  if (version === "bad") { response.statusCode = 500; }
  response.end(JSON.stringify({ version, token: process.env.TOKEN, dotenv: env(), pid: process.pid, cwd: process.cwd() }));
}).listen(Number(process.env.PORT), "127.0.0.1");
"#;

/// What ran before landfall: a directory with a server, and whatever runs it.
struct Old {
    dir: PathBuf,
    children: Vec<Child>,
}

impl Old {
    fn at(dir: PathBuf) -> Self {
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("server.js"), SERVER).unwrap();
        std::fs::write(dir.join("version.txt"), "old\n").unwrap();
        std::fs::write(dir.join("package.json"), "{\"version\": \"3.1.4\"}").unwrap();
        Self { dir, children: Vec::new() }
    }

    /// Starts it by hand.
    fn started(mut self, host: &Host, port: u16) -> Self {
        let child = host
            .program("node")
            .arg(self.dir.join("server.js"))
            .current_dir(&self.dir)
            .env("PORT", port.to_string())
            .env("TOKEN", SECRET)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("node is needed for this test");
        self.children.push(child);
        serving(port, "old");
        self
    }

    fn pid(&self) -> String {
        self.children[0].id().to_string()
    }

    /// Whether what was started is still there, and not a zombie.
    fn lives(&mut self) -> bool {
        self.children[0].try_wait().unwrap().is_none()
    }
}

impl Drop for Old {
    fn drop(&mut self) {
        for child in &mut self.children {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

fn get(port: u16) -> Option<serde_json::Value> {
    http::get(port, "/").ok().map(|answer| answer.json())
}

#[track_caller]
fn serving(port: u16, version: &str) -> serde_json::Value {
    wait::wait_for(&format!("{version} answers"), LIMIT, || {
        get(port).filter(|answer| answer["version"] == version)
    })
}

/// The next version, as it is packed.
fn source(version: &str, port: u16) -> Source {
    let recipe = format!(
        "app = \"web\"\nversion = \"{version}\"\n\n[[layer]]\nname = \"app\"\nfiles = [{{ from = \"app\", to = \"\" }}]\n\n\
         [env]\nset = {{ PORT = \"{port}\" }}\n\n\
         [start]\nmanager = \"direct\"\nrun = [\"node\", \"server.js\"]\n\n\
         [health]\nhttp = \"http://127.0.0.1:{port}/\"\nattempts = 50\ninterval = \"200ms\"\ntimeout = \"10s\"\nsettle = \"200ms\"\n"
    );
    Source::new(&recipe).with("app/server.js", SERVER.as_bytes()).with("app/version.txt", version.as_bytes())
}

fn deploy(host: &Host, version: &str, port: u16) -> Said {
    host.deploy_once(&source(version, port))
}

/// No file below a directory that everybody may read, and no output, holds the secret.
fn nobody_sees_the_secret(host: &Host, said: &Said) {
    assert!(!said.out.contains("battery") && !said.err.contains("battery"), "{}{}", said.out, said.err);
    let mut dirs = vec![host.root()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let found = std::fs::symlink_metadata(&path).unwrap();
            if found.is_dir() {
                dirs.push(path);
            } else if found.is_file() && found.permissions().mode() & 0o044 != 0 {
                let text = std::fs::read(&path).unwrap();
                assert!(!String::from_utf8_lossy(&text).contains("battery"), "{}", path.display());
            }
        }
    }
}

#[test]
fn an_app_started_by_hand_is_adopted_as_it_runs_and_a_bad_first_deploy_goes_back_to_it() {
    let (host, port) = (Host::new("prod", ""), Port::free().number);
    let mut old = Old::at(host.dir.join("srv"));
    std::fs::write(old.dir.join(".env"), "FROM_FILE=battery\n").unwrap();
    old = old.started(&host, port);
    let said = host.run(&["adopt", "web", "--pid", &old.pid(), "--dry-run"]);
    said.expect_code(0);
    assert!(said.err.contains("node server.js") && said.err.contains(&port.to_string()), "{}", said.err);
    assert!(!host.app("web", "prod").exists(), "a dry run makes nothing");

    let said = host.run(&["adopt", "web", "--pid", &old.pid()]);
    said.expect_code(0);
    nobody_sees_the_secret(&host, &said);
    assert!(old.lives() && get(port).unwrap()["version"] == "old");
    assert_eq!(host.attempts("web")[0]["result"], "Adopted");
    assert!(!host.app("web", "prod").join("current").exists());
    // An agent leaves it alone.
    host.run(&["watch", "--once"]);
    assert!(old.lives() && host.attempts("web").len() == 1);

    let said = deploy(&host, "bad", port);
    said.expect_code(8);
    assert!(!old.lives(), "two could not hold the port");
    let back = serving(port, "old");
    assert_eq!(
        (back["token"].as_str(), back["dotenv"].as_str()),
        (Some(SECRET), Some("FROM_FILE=battery\n"))
    );
    assert_eq!(Path::new(back["cwd"].as_str().unwrap()), host.current("web", "prod"));
    nobody_sees_the_secret(&host, &said);
    deploy(&host, "new", port).expect_code(0);
    serving(port, "new");
    host.run(&["adopt", "web", "--pid", &host.serving("web", "prod")[0].pid.to_string()]).expect_code(12);
}

#[test]
fn a_python_server_without_any_help_of_ours_is_adopted_and_a_good_deploy_takes_over() {
    let (host, port) = (Host::new("prod", ""), Port::free().number);
    let dir = host.dir.join("srv");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("index.html"), "hello").unwrap();
    let mut child = host
        .program("python3")
        .args(["-m", "http.server", &port.to_string(), "--bind", "127.0.0.1"])
        .current_dir(&dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait::wait_until("it listens", LIMIT, || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    host.run(&["adopt", "web", "--pid", &child.id().to_string()]).expect_code(0);
    deploy(&host, "new", port).expect_code(0);
    assert!(child.wait().unwrap().code().is_none(), "it was ended by a signal");
    serving(port, "new");
}

#[test]
fn without_adoption_the_attempt_says_who_holds_the_port_and_how_to_adopt_it() {
    let (host, port) = (Host::new("prod", ""), Port::free().number);
    let mut old = Old::at(host.dir.join("srv")).started(&host, port);
    deploy(&host, "new", port).expect_code(3);
    assert!(old.lives() && !host.app("web", "prod").join("current").exists());
    let message = host.attempts("web")[0]["failure"]["message"].as_str().unwrap().to_owned();
    for part in [
        &format!("port {port} is held by pid {} (node", old.pid()),
        "user ",
        "since ",
        "landfall adopt web --pid",
    ] {
        assert!(message.contains(part), "{message}");
    }
    // Once it is adopted, the same version gets its chance.
    host.run(&["adopt", "web", "--pid", &old.pid()]).expect_code(0);
    host.run(&["watch", "--once"]).expect_code(0);
    serving(port, "new");
    assert!(!old.lives());
}

#[test]
fn an_app_under_somebodys_pm2_is_adopted_and_its_entry_goes_with_the_first_deploy() {
    let (host, port) = (with_pm2(Host::new("prod", "")), Port::free().number);
    let old = Old::at(host.dir.join("srv"));
    let pm2 = |arguments: &[&str]| {
        let mut command = host.program("pm2");
        command.args(arguments).current_dir(&old.dir).env("PORT", port.to_string()).env("TOKEN", SECRET);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    pm2(&["start", "server.js", "--name", "shop"]);
    pm2(&["start", "server.js", "--name", "other", "--no-autorestart"]);
    pm2(&["save"]);
    let pid = serving(port, "old")["pid"].as_u64().unwrap();
    host.run(&["adopt", "web", "--pm2", "nobody"]).expect_code(4);
    let said = host.run(&["adopt", "web", "--pm2", "shop"]);
    said.expect_code(0);
    assert!(!said.err.contains("battery"), "{}", said.err);
    assert_eq!(get(port).unwrap()["pid"], pid, "nothing was restarted");
    deploy(&host, "bad", port).expect_code(8);
    let back = serving(port, "old");
    assert_eq!(back["token"], SECRET);
    assert!(Path::new(back["cwd"].as_str().unwrap()).starts_with(host.app("web", "prod")));
    let names = pm2(&["jlist"]);
    assert!(!names.contains("\"name\":\"shop\"") && names.contains("\"name\":\"other\""), "{names}");
    let dump = std::fs::read_to_string(host.dir.join("home/.pm2/dump.pm2")).unwrap();
    assert!(!dump.contains("\"name\": \"shop\""), "a reboot would bring it back");
}

#[test]
fn behind_a_current_link_what_is_shared_stays_where_it_is_and_is_used_by_the_revert() {
    let (host, port) = (Host::new("prod", ""), Port::free().number);
    let base = host.dir.join("srv");
    let old = Old::at(base.join("releases/20260101"));
    std::fs::create_dir_all(base.join("shared/uploads")).unwrap();
    std::fs::write(base.join("shared/.env"), "LINKED=1\n").unwrap();
    symlink(base.join("shared/uploads"), old.dir.join("uploads")).unwrap();
    symlink("../../shared/.env", old.dir.join(".env")).unwrap();
    symlink("releases/20260101", base.join("current")).unwrap();
    let mut old = old.started(&host, port);
    let dir = base.to_str().unwrap();
    host.run(&["adopt", "web", "--dir", dir]).expect_code(0);
    assert!(old.lives());
    assert_eq!(std::fs::read_link(base.join("current")).unwrap(), Path::new("releases/20260101"));
    deploy(&host, "bad", port).expect_code(8);
    assert_eq!(serving(port, "old")["dotenv"], "LINKED=1\n");
    std::fs::write(base.join("shared/uploads/new.txt"), "x").unwrap();
    assert!(host.current("web", "prod").join("uploads/new.txt").exists());
    let env = host.current("web", "prod").join(".env");
    assert_eq!(std::fs::metadata(env).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn links_out_of_the_tree_are_refused_by_name_and_nothing_is_made() {
    let (host, port) = (Host::new("prod", ""), Port::free().number);
    let secret = host.dir.join("secret");
    std::fs::write(&secret, "battery").unwrap();
    let old = Old::at(host.dir.join("srv"));
    symlink(&secret, old.dir.join("theirs.txt")).unwrap();
    let old = old.started(&host, port);
    let said = host.run(&["adopt", "web", "--pid", &old.pid()]);
    said.expect_code(3);
    assert!(said.err.contains("theirs.txt →") && said.err.contains("--exclude"), "{}", said.err);
    assert_eq!(host.attempts("web").len(), 0);
    host.run(&["adopt", "web", "--pid", &old.pid(), "--exclude", "theirs.txt"]).expect_code(0);
    nobody_sees_the_secret(&host, &host.run(&["history", "web"]));
}

#[test]
fn a_process_that_is_gone_by_then_is_no_trouble_and_a_reused_pid_is_never_touched() {
    let (host, port) = (Host::new("prod", ""), Port::free().number);
    let mut old = Old::at(host.dir.join("srv")).started(&host, port);
    host.run(&["adopt", "web", "--pid", &old.pid()]).expect_code(0);
    old.children[0].kill().unwrap();
    old.children[0].wait().unwrap();
    // The record names a process that was another one: as after the kernel gave its pid to somebody else.
    let mut bystander = host.program("sleep").arg("1000").spawn().unwrap();
    let record = host.app("web", "prod").join("run/adopted");
    let text = std::fs::read_to_string(&record).unwrap();
    assert!(text.contains(&format!("\"pid\":{}", old.pid())), "{text}");
    forge(&host, &old.pid(), bystander.id());
    deploy(&host, "bad", port).expect_code(8);
    serving(port, "old");
    assert!(bystander.try_wait().unwrap().is_none(), "the bystander was ended");
    assert!(!record.exists(), "what was taken over is forgotten");
    process::kill(bystander.id());
    bystander.wait().unwrap();
    host.run(&["adopt", "other", "--pid", &old.pid()]).expect_code(4);
}

/// Puts another pid into the sealed record, with the old start time.
fn forge(host: &Host, old: &str, new: u32) {
    use landfall::adopted::Adopted;
    use landfall::layout::Root;
    let dir = Root::new(&host.root()).unwrap().app(&"web".parse().unwrap(), &"prod".parse().unwrap(), None);
    let mut adopted = Adopted::read(&dir).unwrap().unwrap();
    let process = adopted.processes.iter_mut().find(|id| id.pid.to_string() == old).unwrap();
    process.pid = new;
    adopted.write(&dir).unwrap();
}

#[test]
fn what_somebody_else_answers_is_not_adopted() {
    let (host, port, other) = (Host::new("prod", ""), Port::free().number, Port::free().number);
    let old = Old::at(host.dir.join("srv")).started(&host, port);
    let _stranger = Old::at(host.dir.join("stranger")).started(&host, other);
    let url = format!("http://127.0.0.1:{other}/");
    let said = host.run(&["adopt", "web", "--pid", &old.pid(), "--http", &url]);
    said.expect_code(1);
    assert!(said.err.contains("does not answer for itself"), "{}", said.err);
    assert_eq!(host.attempts("web").len(), 0);
}
