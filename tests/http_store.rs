//! An agent whose store is a web server: it deploys from it, does without it, and goes on when it is back.

#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

#[path = "../store/tests/common/faulty_http.rs"]
mod faulty_http;
mod support;

use std::time::Duration;

use faulty_http::{Fault, Server};
use serde_json::Value;
use support::wait::wait_for;
use support::{Host, Source};

const APP: &str = "web";
// A store that is gone is asked five times five times before an attempt fails, with pauses.
const LIMIT: Duration = Duration::from_secs(180);

/// The first attempt at this artifact that ended like this.
#[track_caller]
fn ended(host: &Host, artifact: &str, result: &str) -> Value {
    let it = |entry: &Value| entry["target"]["artifact"] == artifact && entry["result"] == result;
    wait_for(&format!("{artifact} is {result}"), LIMIT, || host.attempts(APP).into_iter().find(it))
}

#[test]
fn an_agent_deploys_over_http_and_outlives_its_store() {
    let mut host = Host::new("prod", "");
    let first = host.pack_next(Source::sleeper("first").path());
    let store = host.root().join("store");
    let server = Server::of(&store);
    let (url, port) = (server.url(), server.port());
    host.want(APP, &first);
    let mut agent = host.landfall(&["watch", "--store", &url]);
    agent.env("LANDFALL_PAUSES", "0.02");
    host.start_agent_as(agent);
    host.wait_for_agent();
    ended(&host, &first, "Healthy");
    let serving = host.serving(APP, "prod");
    assert!(server.requests().iter().any(|request| request.path.ends_with(".lfp")), "contents came by HTTP");

    drop(server);
    let second = host.pack_next(Source::sleeper("second").path());
    host.want(APP, &second);
    let failed = ended(&host, &second, "Failed");
    assert_eq!(failed["failure"]["class"], "Supply", "{failed}");
    let why = failed["failure"]["message"].as_str().unwrap();
    assert!(why.contains(&url) && why.contains("cannot be reached"), "{why}");
    let told = wait_for("status says why", LIMIT, || {
        let status = host.json(&["status", APP])["items"][0].to_string();
        status.contains("cannot be reached").then_some(status)
    });
    assert!(told.contains(&url), "{told}");
    assert_eq!(host.serving(APP, "prod"), serving, "what runs is not touched");

    let _server = Server::at(&store, port);
    ended(&host, &second, "Healthy");
}

#[test]
fn commands_tell_a_web_servers_faults_and_limits_by_exit_code() {
    let host = Host::new("prod", "");
    let artifact = host.pack_next(Source::sleeper("first").path());
    let server = Server::of(&host.root().join("store"));
    let url = server.url();
    host.run(&["show", &artifact, "--store", &url]).expect_code(0);
    let unlisted = host.run(&["ls", "--store", &url]);
    unlisted.expect_code(6);
    assert!(unlisted.err.contains("no lists"), "{}", unlisted.err);
    let short = host.run(&["show", &artifact[..15], "--store", &url]);
    short.expect_code(4);
    assert!(short.err.contains("hint: give the full id"), "{}", short.err);
    server.misbehave(|_| Fault::Status(403, vec![]));
    host.run(&["show", &artifact, "--store", &url]).expect_code(6);
    let gone = server.url();
    drop(server);
    let gone = host.run(&["show", &artifact, "--store", &gone]);
    gone.expect_code(6);
    assert!(gone.err.contains("cannot be reached"), "{}", gone.err);
}

#[test]
fn a_store_that_asks_to_be_left_alone_is_left_alone_by_the_agent_for_as_long() {
    let mut host = Host::new("prod", "");
    let artifact = host.pack_next(Source::sleeper("first").path());
    let server = Server::of(&host.root().join("store"));
    server.misbehave(|_| Fault::Status(503, vec![("Retry-After", "900".to_owned())]));
    host.want(APP, &artifact);
    host.start_agent_as(host.landfall(&["watch", "--store", &server.url()]));
    let failed = ended(&host, &artifact, "Failed");
    assert!(failed["failure"]["message"].as_str().unwrap().contains("left alone for 900 s"), "{failed}");
    let pause = failed["retry_in_ms"].as_u64().unwrap();
    assert!((900_000..=1_300_000).contains(&pause), "{failed}");
    let asked: Vec<String> = server.requests().into_iter().map(|request| request.path).collect();
    let once: std::collections::BTreeSet<&String> = asked.iter().collect();
    assert_eq!(asked.len(), once.len(), "nothing is asked for five times: {asked:?}");
    assert!(host.stop_agent().success());
}
