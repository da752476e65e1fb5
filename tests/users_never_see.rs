//! Users never see a version that cannot boot: under every manager a version that throws, one that never listens and
//! one that answers 500 are refused before anything that serves is touched, and no request notices.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod support;

use std::collections::BTreeSet;

use support::load::{Connections, Load, failures};
use support::port::Port;
use support::socket_app::SOCKET;
use support::{Host, host, json, socket_app};

const ALONE: &str = "stop = { signal = \"SIGTERM\", grace = \"5s\" }";
const CLUSTER: &str =
    "manager = \"pm2\"\nmode = \"cluster\"\ninstances = 2\nstop = { signal = \"SIGTERM\", grace = \"5s\" }";
const TRIED: &str = "[preflight]\nenabled = true";
const NOT_TRIED: &str = "[preflight]\nenabled = false";

/// A host on which a good version serves, under a load while bad ones are deployed.
fn nobody_sees(host: Host, start: &str, more: &str, bad: &[(&str, &str)], code: i32) {
    let port = Port::free();
    let recipe = socket_app::recipe(port.number, start, more);
    let soon =
        recipe.replace("attempts = 60", "attempts = 5").replace("timeout = \"10s\"", "timeout = \"2s\"");
    let mut host = host;
    let good = host.pack_next(socket_app::server(&recipe, "well").path());
    host.start_agent();
    host.wait_for_agent();
    host.run(&["deploy", "web", "prod", &good, "--wait"]).expect_code(0);
    let (before, current) = (host.serving("web", "prod"), host.current("web", "prod"));

    let load = Load::begin(port.number, "/", 50, Connections::Fresh);
    for (way, why) in bad {
        let artifact = host.pack_next(socket_app::server(&soon, way).path());
        host.run(&["deploy", "web", "prod", &artifact, "--wait"]).expect_code(code);
        assert_eq!(host.serving("web", "prod"), before, "{way}: what served was touched");
        assert_eq!(host.current("web", "prod"), current, "{way}");
        let newest = json::items(&host.json(&["history", "web"]))[0].clone();
        assert!(newest.to_string().contains(why), "{way}: {newest:#}");
    }
    let requests = load.end();
    assert_eq!(failures(&requests), [], "of {}", requests.len());
    let answered: BTreeSet<_> = requests.iter().map(|request| request.outcome.clone()).collect();
    assert_eq!(answered.len(), 1, "one release only: {answered:?}");
}

const ALL: [(&str, &str); 3] =
    [("throws", "ended with status 1"), ("never listens", "cannot connect"), ("answers 500", "answered 500")];

#[test]
fn under_direct_with_a_trial() {
    nobody_sees(Host::new("prod", ""), ALONE, TRIED, &ALL, 7);
}

#[test]
fn under_direct_on_a_socket() {
    let bad = [ALL[0], ("never listens", "no answer"), ALL[2]];
    nobody_sees(Host::new("prod", ""), SOCKET, "", &bad, 7);
}

#[test]
fn under_pm2_cluster() {
    nobody_sees(host::with_pm2(Host::new("prod", "")), CLUSTER, "", &ALL, 7);
}

#[test]
fn on_a_socket_even_without_a_trial_what_never_accepts_reaches_nobody() {
    let bad = [("throws", "is not running"), ("never listens", "what serves beside it accepted")];
    nobody_sees(Host::new("prod", ""), SOCKET, NOT_TRIED, &bad, 8);
}
