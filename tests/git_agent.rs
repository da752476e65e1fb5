//! The agent and its state repository: how soon, how long, and what is shown meanwhile.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use support::git::{Forge, Http, Manners};
use support::host::Said;
use support::port::Port;
use support::process;
use support::wait::{wait_for, wait_until};
use support::{Host, Source};

const LIMIT: Duration = Duration::from_secs(60);
const SECRET: &str = "a secret of the test's own";

struct World {
    forge: Forge,
    host: Host,
    hook: Port,
}

impl World {
    /// An agent that polls once an hour, so that whatever is quick is not the poll; and one healthy app.
    fn new(poll: &str) -> Self {
        let world = Self { forge: Forge::new(), host: Host::new("prod", ""), hook: Port::free() };
        world.configure(&world.forge.url(), poll, "");
        world.want("one");
        world.start()
    }

    fn configure(&self, url: &str, poll: &str, more: &str) {
        self.host.write("secret", &format!("{SECRET}\n"));
        let secret = self.host.dir.join("secret");
        std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        self.host.write(
            "host.toml",
            &format!(
                "environment = \"prod\"\n\n[state]\ngit = {url:?}\npoll = \"{poll}\"\n{more}\n\n\
                 [webhook]\nlisten = \"127.0.0.1:{}\"\nsecret_file = \"secret\"\n",
                self.hook.number
            ),
        );
    }

    /// Commits and pushes a state that names a new artifact, and gives its id.
    fn want(&self, content: &str) -> String {
        let artifact = self.host.pack_next(Source::sleeper(content).path());
        self.forge.want("web", "prod", &artifact);
        self.forge.commit(content);
        self.forge.push();
        artifact
    }

    fn start(mut self) -> Self {
        let command = self.host.landfall_of_host_toml(&["watch"]);
        self.host.start_agent_as(command);
        wait_until("the first deploy", LIMIT, || self.healthy() == 1);
        self
    }

    fn healthy(&self) -> usize {
        self.host.attempts("web").iter().filter(|entry| entry["result"] == "Healthy").count()
    }

    fn run(&self, arguments: &[&str]) -> Said {
        Said::of(self.host.landfall_of_host_toml(arguments).output().unwrap())
    }

    fn status(&self) -> Value {
        serde_json::from_str::<Value>(&self.run(&["status", "-o", "json"]).out).unwrap()["items"][0].clone()
    }

    fn source_ready(&self) -> Value {
        let conditions = self.status()["conditions"].as_array().unwrap().clone();
        conditions.into_iter().find(|condition| condition["type"] == "SourceReady").unwrap_or_default()
    }

    /// Calls the hook, and gives the status of its answer.
    fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> u16 {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.hook.number)).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let headers: String = headers.iter().map(|(key, value)| format!("{key}: {value}\r\n")).collect();
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).ok();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok();
        answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }
}

fn signature(body: &[u8]) -> String {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(body);
    let bytes = mac.finalize().into_bytes();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={hex}")
}

#[test]
fn a_signed_call_brings_a_commit_into_reconciliation_at_once_and_an_unsigned_one_brings_nothing() {
    let world = World::new("1h");
    let body = br#"{"ref": "refs/heads/main", "after": "whatever: nobody reads this"}"#;
    let signed = signature(body);
    let begins = |known: usize| {
        let log = world.host.agent_log();
        log.matches("Fetching attempt=").count() > known
    };
    let mut figures = Vec::new();
    for round in 1..=5 {
        let known = world.host.agent_log().matches("Fetching attempt=").count();
        world.want(&format!("round {round}"));
        // Not within the second that lies between two looks.
        std::thread::sleep(Duration::from_millis(1_100));
        let pushed = Instant::now();
        assert_eq!(world.call("POST", "/hooks/git", &[("X-Hub-Signature-256", &signed)], body), 202);
        wait_until("the host begins to reconcile", LIMIT, || begins(known));
        figures.push(pushed.elapsed());
        wait_until("it is deployed", LIMIT, || world.healthy() == round + 1);
    }
    figures.sort();
    println!("call → Fetching: {figures:?}, median {:?}", figures[2]);
    assert!(figures[0] < Duration::from_secs(30));

    // Whoever does not know the secret, or asks for something else, gets nothing.
    let looks = |world: &World| world.host.agent_log().matches("accepted").count();
    let before = looks(&world);
    world.want("never told");
    assert_eq!(world.call("POST", "/hooks/git", &[], body), 401);
    assert_eq!(world.call("POST", "/hooks/git", &[("X-Hub-Signature-256", &signed)], b"{}"), 401);
    assert_eq!(
        world.call("POST", "/hooks/git", &[("X-Gitlab-Token", "a secret of the test's owm")], b"{}"),
        401
    );
    assert_eq!(world.call("GET", "/hooks/git", &[("X-Hub-Signature-256", &signed)], body), 405);
    assert_eq!(world.call("POST", "/", &[("X-Hub-Signature-256", &signed)], body), 404);
    assert_eq!(looks(&world), before);
    assert_eq!(world.healthy(), 6);
    assert!(world.host.agent_log().contains("refused=1"), "{}", world.host.agent_log());
    // The other servers' ways; `landfall reconcile` does the same.
    assert_eq!(world.call("POST", "/hooks/git", &[("X-Gitlab-Token", SECRET)], b"{}"), 202);
    wait_until("it is deployed", LIMIT, || world.healthy() == 7);
    world.want("reconciled");
    world.run(&["reconcile"]).expect_code(0);
    wait_until("it is deployed", LIMIT, || world.healthy() == 8);
}

#[test]
fn a_thousand_calls_are_not_a_thousand_fetches() {
    let world = World::new("1h");
    let root = world.forge.dir().join("srv");
    let http = Http::serve(root, Manners::default());
    world.configure(&http.url(), "1h", "insecure_transport = true");
    let pid = rustix::process::Pid::from_raw(world.host.agent_pid().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    wait_until("the new address is asked", LIMIT, || {
        http.requests.load(std::sync::atomic::Ordering::Relaxed) > 0
    });
    let began = Instant::now();
    for _ in 0..1_000 {
        assert_eq!(world.call("POST", "/hooks/git", &[("X-Gitlab-Token", SECRET)], b"{}"), 202);
    }
    let took = began.elapsed();
    let requests = http.requests.load(std::sync::atomic::Ordering::Relaxed);
    // A fetch with nothing new is at most three requests; one a second, and one at each end.
    let most = 3 * (usize::try_from(took.as_secs()).unwrap() + 3);
    println!("1000 calls in {took:?}: {requests} requests");
    assert!(requests <= most, "{requests} requests in {took:?}");
}

#[test]
fn a_repository_that_is_gone_is_shown_and_what_runs_is_healed_without_it() {
    let mut world = World::new("5s");
    let aside = world.forge.dir().join("aside");
    std::fs::rename(world.forge.bare(), &aside).unwrap();
    wait_until("that is shown", LIMIT, || world.source_ready()["reason"] == "RefNotFound");
    assert_eq!(world.status()["sync"], "Synced");
    let serving = world.host.serving("web", "prod");
    serving.iter().for_each(|process| process::kill(process.pid));
    wait_until("what runs is healed", LIMIT, || {
        world
            .host
            .serving("web", "prod")
            .iter()
            .any(|process| serving.iter().all(|old| old.pid != process.pid))
    });
    // A restart without the repository starts from the last accepted state.
    world.host.stop_agent();
    let command = world.host.landfall_of_host_toml(&["watch"]);
    world.host.start_agent_as(command);
    wait_until("the agent is back", LIMIT, || world.run(&["reconcile"]).code == Some(0));
    assert_eq!(world.status()["sync"], "Synced");
    std::fs::rename(&aside, world.forge.bare()).unwrap();
    let artifact = world.want("two");
    world.run(&["reconcile"]).expect_code(0);
    let deployed = || {
        world
            .host
            .attempts("web")
            .last()
            .is_some_and(|entry| entry["target"]["artifact"] == *artifact && entry["result"] == "Healthy")
    };
    wait_until("it is deployed once it is back", LIMIT, deployed);
    wait_until("all is well", LIMIT, || world.source_ready()["status"] == "True");
}

/// P13: an old state is seen, by people and by scripts; nothing stops for it.
#[test]
fn a_repository_that_has_not_answered_for_too_long_is_stale() {
    let mut world = World::new("5s");
    wait_until("all is well", LIMIT, || world.source_ready()["status"] == "True");
    world.run(&["status", "--check"]).expect_code(0);
    let contact = |world: &World| {
        world.status()["source"]["contact"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap()
    };
    let first = contact(&world);
    let bytes = std::fs::read(world.host.root().join("source")).unwrap();
    wait_until("the next contact is shown", LIMIT, || contact(&world) > first);
    assert_eq!(
        std::fs::read(world.host.root().join("source")).unwrap(),
        bytes,
        "and nothing was written for it"
    );
    world.host.stop_agent();
    let record = std::fs::File::options().write(true).open(world.host.root().join("source")).unwrap();
    record.set_modified(std::time::SystemTime::now() - Duration::from_secs(16 * 60)).unwrap();
    assert_eq!(world.source_ready()["reason"], "Stale");
    let said = world.run(&["status", "--check"]);
    let told: Vec<&str> = said.expect_code(1).out.split_whitespace().collect();
    assert!(told.join(" ").contains("has not answered since"), "{said:?}");
    assert_eq!(world.host.serving("web", "prod").len(), 1, "what runs is left alone");
}

#[test]
fn a_server_that_hangs_holds_up_nothing_but_the_look() {
    let world = World::new("5s");
    let http = Http::serve(world.forge.dir().join("srv"), Manners { hangs: true, ..Manners::default() });
    world.configure(&http.url(), "5s", "insecure_transport = true");
    let pid = rustix::process::Pid::from_raw(world.host.agent_pid().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    wait_until("the server is asked", LIMIT, || http.requests.load(std::sync::atomic::Ordering::Relaxed) > 0);
    // The loop answers and heals all the same.
    world.run(&["suspend", "web", "--reason", "a test"]).expect_code(0);
    world.run(&["resume", "web"]).expect_code(0);
    let serving = world.host.serving("web", "prod");
    serving.iter().for_each(|process| process::kill(process.pid));
    wait_for("what runs is healed", LIMIT, || {
        world
            .host
            .serving("web", "prod")
            .into_iter()
            .find(|process| serving.iter().all(|old| old.pid != process.pid))
    });
    // An agent that is stopped in the middle of a look leaves no git behind.
    let mut world = world;
    world.host.stop_agent();
    let cache = world.host.root().join("cache/state.git");
    wait_until("no git is left", LIMIT, || process::belonging_to(&cache).is_empty());
}

#[test]
fn an_agent_that_is_killed_in_the_middle_of_a_fetch_leaves_no_git_behind() {
    let mut world = World::new("5s");
    let http = Http::serve(world.forge.dir().join("srv"), Manners { hangs: true, ..Manners::default() });
    world.configure(&http.url(), "5s", "insecure_transport = true");
    let pid = rustix::process::Pid::from_raw(world.host.agent_pid().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    let cache = world.host.root().join("cache/state.git");
    // git, its helper that speaks http, and what guards them.
    let programs = || process::belonging_to(&cache).len();
    wait_until("git waits for the server", LIMIT, || {
        http.requests.load(std::sync::atomic::Ordering::Relaxed) > 0 && programs() >= 2
    });
    let killed = Instant::now();
    world.host.kill_agent();
    wait_until("no git is left", LIMIT, || programs() == 0);
    let took = killed.elapsed();
    println!("gone {took:?} after the agent");
    // Long before git's own limits: 30 s without a byte.
    assert!(took < Duration::from_secs(25), "{took:?}");
    assert_eq!(world.host.serving("web", "prod").len(), 1, "what runs is left alone");
}
