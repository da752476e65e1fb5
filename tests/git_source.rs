//! Desired state from a git repository: real git, real servers.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::time::Duration;

use serde_json::Value;
use support::git::{Authority, Forge, Http, Manners, daemon, sshd};
use support::wait::wait_until;
use support::{Host, Source};

const LIMIT: Duration = Duration::from_secs(60);

/// A host whose state is in the forge's repository, at this address.
fn host_of(forge: &Forge, url: &str, more: &str) -> Host {
    let host = Host::new("prod", "");
    configure(&host, forge, url, more);
    host
}

fn configure(host: &Host, forge: &Forge, url: &str, more: &str) {
    host.write(
        "host.toml",
        &format!("host = \"test\"\nenvironment = \"prod\"\n\n{}", forge.state_of(url, more)),
    );
}

/// Lets the forge name the next artifact, and gives its id.
fn want_next(forge: &Forge, host: &Host, content: &str) -> String {
    let artifact = host.pack_next(Source::sleeper(content).path());
    forge.want("web", "prod", &artifact);
    artifact
}

/// `landfall …` without `--state`: the state is where host.toml says.
fn run(host: &Host, arguments: &[&str]) -> support::host::Said {
    let mut command = host.landfall_of_host_toml(arguments);
    support::host::Said::of(command.output().unwrap())
}

fn json(host: &Host, arguments: &[&str]) -> Value {
    let said = run(host, &[arguments, &["-o", "json"]].concat());
    serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {said:?}"))
}

fn condition(host: &Host, kind: &str) -> (String, String, String) {
    let status = json(host, &["status"]);
    let conditions = status["items"][0]["conditions"].as_array().unwrap().clone();
    let found = conditions.into_iter().find(|condition| condition["type"] == kind);
    let found = found.unwrap_or_else(|| panic!("no {kind} in {status:#}"));
    let text = |key: &str| found[key].as_str().unwrap().to_owned();
    (text("status"), text("reason"), text("message"))
}

fn deployed(host: &Host, artifact: &str) {
    wait_until("the artifact is in service", LIMIT, || {
        host.attempts("web")
            .iter()
            .any(|entry| entry["result"] == "Healthy" && entry["target"]["artifact"] == artifact)
    });
}

fn start(host: &mut Host) {
    let command = host.landfall_of_host_toml(&["watch"]);
    host.start_agent_as(command);
}

/// One reconciliation at this address ends well, and the history names the commit.
#[track_caller]
fn converges(forge: &Forge, url: &str, more: &str) {
    let host = host_of(forge, url, more);
    let artifact = want_next(forge, &host, url);
    let commit = forge.commit("deploy web");
    forge.push();
    run(&host, &["watch", "--once"]).expect_code(0);
    let entry = host.attempts("web").pop().unwrap();
    assert_eq!(entry["target"]["artifact"], *artifact);
    assert_eq!(entry["target"]["state_commit"], *commit);
}

#[test]
fn state_comes_over_file_ssh_http_and_the_git_protocol() {
    let forge = Forge::new();
    converges(&forge, &forge.url(), "");
    converges(&forge, &forge.bare().to_string_lossy(), "");
    let ssh = sshd(&forge);
    let access = format!("ssh_key = {:?}\nknown_hosts = {:?}", ssh.key, ssh.known_hosts);
    converges(&forge, &ssh.url, &access);
    let daemon = daemon(&forge);
    let url = format!("git://127.0.0.1:{}/state.git", daemon.port.number);
    converges(&forge, &url, "insecure_transport = true");
    let http = Http::serve(forge.dir().join("srv"), Manners::default());
    converges(&forge, &http.url(), "insecure_transport = true");
}

#[test]
fn an_agent_follows_the_branch_and_a_commit_elsewhere_in_the_repository_restarts_nothing() {
    let forge = Forge::new();
    let mut host = host_of(&forge, &forge.url(), "");
    let one = want_next(&forge, &host, "one");
    forge.commit("one");
    forge.push();
    start(&mut host);
    deployed(&host, &one);
    let two = want_next(&forge, &host, "two");
    let commit = forge.commit("two");
    forge.push();
    deployed(&host, &two);
    std::fs::write(forge.work().join("README"), "hello").unwrap();
    let elsewhere = forge.commit("elsewhere");
    forge.push();
    wait_until("the agent has seen it", LIMIT, || {
        json(&host, &["status"])["items"][0]["source"]["accepted"] == *elsewhere
    });
    assert_eq!(host.attempts("web").len(), 2);
    let status = json(&host, &["status"]);
    assert_eq!(status["items"][0]["state_commit"], *commit, "the commit that says so, not the newest");
    assert_eq!(condition(&host, "SourceReady").0, "True");
    assert_eq!(host.stop_agent().code(), Some(0));
}

#[test]
fn https_is_believed_with_a_certificate_of_a_known_authority_for_this_address_and_with_no_other() {
    let forge = Forge::new();
    let (authority, stranger) = (Authority::new(), Authority::new());
    let trusted = forge.dir().join("ca.pem");
    std::fs::write(&trusted, &authority.pem).unwrap();
    let serve = |by: &Authority, name: &str, until: i32| {
        let (certificate, key) = by.certify(name, until);
        Http::serve_tls(forge.dir().join("srv"), &certificate, &key)
    };
    let once = |host: &Host| {
        let mut command = host.landfall_of_host_toml(&["watch", "--once", "-o", "json"]);
        support::host::Said::of(command.env("SSL_CERT_FILE", &trusted).output().unwrap())
    };
    let good = serve(&authority, "127.0.0.1", 2099);
    let host = host_of(&forge, &good.url(), "");
    let artifact = want_next(&forge, &host, "over tls");
    forge.commit("deploy web");
    forge.push();
    once(&host).expect_code(0);
    deployed(&host, &artifact);

    let pids = || -> Vec<u32> { host.serving("web", "prod").iter().map(|process| process.pid).collect() };
    let before = pids();
    want_next(&forge, &host, "over bad tls");
    forge.commit("deploy web again");
    forge.push();
    for (case, server) in [
        ("an authority nobody knows", serve(&stranger, "127.0.0.1", 2099)),
        ("another address", serve(&authority, "git.example.org", 2099)),
        ("expired", serve(&authority, "127.0.0.1", 2020)),
        ("no tls at all", Http::serve(forge.dir().join("srv"), Manners::default())),
    ] {
        configure(&host, &forge, &server.url().replace("http://", "https://"), "");
        let said = once(&host);
        assert_eq!(said.code, Some(5), "{case}: {said:?}");
        assert_eq!(host.attempts("web").len(), 1, "{case}");
        assert_eq!(pids(), before, "{case}: the app was touched");
    }
    // And with the good one everything goes on.
    configure(&host, &forge, &good.url(), "");
    once(&host).expect_code(0);
    assert_eq!(host.attempts("web").len(), 2);
}
