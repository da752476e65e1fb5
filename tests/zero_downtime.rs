//! A steady load of requests goes through a good deploy, a failed one with its revert, and a rollback: none fails,
//! and none is answered by the failed release once the revert is over. Each test prints what it saw as a table.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod support;

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use support::load::{Connections, Load, Phase, Request, failures, table};
use support::port::Port;
use support::{Host, host, json, next_app, socket_app, wait};

/// Requests a second that the tests promise.
const RATE: u32 = 200;
/// Sent a little faster, so that the promise holds on a machine that is late now and then.
const SENT: u32 = 210;
/// Before and after each act.
const QUIET: Duration = Duration::from_secs(3);
/// For the agent to come to rest.
const LIMIT: Duration = Duration::from_secs(120);

/// Two loads at once would measure each other.
static ALONE: Mutex<()> = Mutex::new(());

/// One act of the story: its deploy, and the exit code of that.
struct Act<'a> {
    name: [&'static str; 3],
    command: Vec<&'a str>,
    code: i32,
}

/// An app that serves under a load.
struct Story<'a> {
    host: &'a Host,
    app: &'static str,
    fresh: Load,
    kept: Load,
    phases: Vec<Phase>,
    /// What the name of the release that failed begins with, and when its revert was over.
    failed: Option<(String, Duration)>,
}

impl<'a> Story<'a> {
    fn begin(host: &'a Host, app: &'static str, port: u16, path: &'static str) -> Self {
        Self {
            host,
            app,
            fresh: Load::begin(port, path, SENT, Connections::Fresh),
            kept: Load::begin(port, path, 40, Connections::Kept),
            phases: Vec::new(),
            failed: None,
        }
    }

    #[track_caller]
    fn act(&mut self, act: &Act<'_>) {
        let from = self.fresh.now();
        std::thread::sleep(QUIET);
        let begin = self.fresh.now();
        self.host.run(&act.command).expect_code(act.code);
        let end = self.fresh.now();
        std::thread::sleep(QUIET);
        let spans = [(from, begin), (begin, end), (end, self.fresh.now())];
        let phases = act.name.into_iter().zip(spans);
        self.phases.extend(phases.map(|(name, (from, to))| Phase { name, from, to }));
        if act.code == 8 {
            let newest = json::items(&self.host.json(&["history", self.app]))[0].clone();
            assert_eq!(newest["result"], "Reverted", "{newest:#}");
            self.failed = Some((format!("{}-", newest["version"].as_str().unwrap()), end));
        }
    }

    /// Prints the tables; gives both loads.
    #[track_caller]
    fn end(self, title: &str) -> [Vec<Request>; 2] {
        let (fresh, kept) = (self.fresh.end(), self.kept.end());
        let shown =
            |how: &str, requests: &[Request]| table(&format!("{title}, {how}"), requests, &self.phases);
        say(&format!(
            "\n{}\n{}",
            shown("a connection for each request", &fresh),
            shown("kept connections", &kept)
        ));

        let lasted = fresh.last().expect("requests").at;
        let least = lasted.as_secs() * u64::from(RATE);
        assert!(fresh.len() as u64 >= least, "{} requests in {lasted:?}", fresh.len());
        let (failed, over) = self.failed.expect("a revert");
        let by_it = |request: &&Request| request.outcome.as_ref().is_ok_and(|name| name.starts_with(&failed));
        for requests in [&fresh, &kept] {
            let late = requests.iter().filter(|request| request.at + request.took > over);
            let wrong: Vec<_> = late.filter(by_it).collect();
            assert!(wrong.is_empty(), "answered by the quarantined release: {wrong:?}");
        }
        [fresh, kept]
    }
}

fn releases(requests: &[Request]) -> BTreeSet<&String> {
    requests.iter().filter_map(|request| request.outcome.as_ref().ok()).collect()
}

#[expect(clippy::print_stdout, reason = "the table is what a person runs this test for")]
fn say(text: &str) {
    println!("{text}");
}

const DEPLOY: [&str; 3] = ["before a good deploy", "during a good deploy", "after a good deploy"];
const REVERT: [&str; 3] = ["before a bad deploy", "during a bad deploy and its revert", "after the revert"];
const ROLLBACK: [&str; 3] = ["before a rollback", "during a rollback", "after a rollback"];

#[test]
fn direct_with_a_socket_loses_no_request_in_a_deploy_a_revert_and_a_rollback() {
    let _alone = ALONE.lock();
    let port = Port::free();
    let mut host = Host::new("prod", "");
    let pack = |way: &str| host.pack_next(socket_app::version(port.number, way, "").path());
    let (first, second) = (pack("well"), pack("well "));
    let soon =
        socket_app::recipe(port.number, socket_app::SOCKET, "").replace("attempts = 60", "attempts = 5");
    let sick = host.pack_next(socket_app::server(&soon, "sick in service").path());
    host.start_agent();
    host.wait_for_agent();
    host.run(&["deploy", "web", "prod", &first, "--wait"]).expect_code(0);

    let mut story = Story::begin(&host, "web", port.number, "/");
    let deploy = |artifact| vec!["deploy", "web", "prod", artifact, "--wait"];
    story.act(&Act { name: DEPLOY, command: deploy(&second), code: 0 });
    story.act(&Act { name: REVERT, command: deploy(&sick), code: 8 });
    let rollback = vec!["rollback", "web", "prod", "--to", &first, "--wait"];
    story.act(&Act { name: ROLLBACK, command: rollback, code: 0 });
    let [fresh, kept] = story.end("direct, with a socket");
    assert_eq!(failures(&fresh), []);
    assert_eq!(
        releases(&fresh).len(),
        3,
        "the failed release served while it was on trial: {:?}",
        releases(&fresh)
    );
    assert!(!kept.is_empty());
}

#[test]
fn next_under_pm2_cluster_loses_no_request_in_a_deploy_a_revert_and_a_rollback() {
    let built = next_app::built();
    let _alone = ALONE.lock();
    let port = Port::free();
    let apps = format!("[apps.harbour]\nenv = {{ PORT = \"{}\" }}\n", port.number);
    let mut host = host::with_pm2(Host::new("prod", &apps));
    let [first, second, sick] = [&built.v1, &built.v2, &built.v3].map(|version| host.pack(version, "prod"));
    host.start_agent();
    host.wait_for_agent();
    host.run(&["deploy", "harbour", "prod", &first, "--wait"]).expect_code(0);
    next_app::shorten_trials(&host);
    let quiet = || json::items(&host.json(&["status"]))[0]["operation"] == "Idle";
    wait::wait_until("the agent is at rest", LIMIT, quiet);

    let mut story = Story::begin(&host, "harbour", port.number, "/api/env");
    let deploy = |artifact| vec!["deploy", "harbour", "prod", artifact, "--wait"];
    story.act(&Act { name: DEPLOY, command: deploy(&second), code: 0 });
    story.act(&Act { name: REVERT, command: deploy(&sick), code: 8 });
    let rollback = vec!["rollback", "harbour", "prod", "--to", &first, "--wait"];
    story.act(&Act { name: ROLLBACK, command: rollback, code: 0 });
    let [fresh, kept] = story.end("Next.js, pm2 cluster of 2");
    assert_eq!(failures(&fresh), []);
    assert_eq!(failures(&kept), []);
}
