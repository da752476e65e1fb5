//! A store in a bucket, end to end: a real S3 server, the real program, a host that deploys from it.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "../store/tests/support/bucket.rs"]
mod bucket;
mod support;

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bucket::{Bucket, SECRET};
use support::host::Said;
use support::process::started_with;
use support::{Host, Source};

const LIMIT: Duration = Duration::from_secs(60);
const STORE: &str = "s3://artifacts/web";

/// A host whose store is the server's bucket.
fn host() -> Host {
    let host = Host::new("prod", "");
    let toml = std::fs::read_to_string(host.dir.join("host.toml")).unwrap();
    host.write("host.toml", &format!("store = {STORE:?}\n{toml}"));
    host
}

/// `landfall …` as somebody who may use the bucket.
fn landfall(host: &Host, server: &Bucket, arguments: &[&str]) -> Command {
    let mut command = host.landfall(arguments);
    command.envs(server.variables());
    command
}

fn run(host: &Host, server: &Bucket, arguments: &[&str]) -> Said {
    Said::of(landfall(host, server, arguments).output().unwrap())
}

fn pack(host: &Host, server: &Bucket, source: &Source, version: &str) -> String {
    let source = source.path().to_string_lossy().into_owned();
    let said = run(host, server, &["pack", &source, "--no-build", "--version", version]);
    said.expect_code(0);
    said.out.trim().to_owned()
}

#[test]
fn a_host_deploys_from_a_bucket_and_its_app_never_sees_the_key() {
    let server = Bucket::start();
    let mut host = host();
    // More than the pusher keeps in memory or sends in one piece.
    let mut noise = blake3::Hasher::new().finalize_xof();
    let mut large = vec![0; 20 << 20];
    noise.fill(&mut large);
    let source = Source::sleeper("first").with("app/large.bin", &large);
    let first = pack(&host, &server, &source, "1");
    host.want("web", &first);
    let agent = landfall(&host, &server, &["watch"]);
    host.start_agent_as(agent);
    let attempt = host.wait_for_attempt("web", 0, LIMIT);
    assert_eq!(attempt["result"], "Healthy", "{attempt}");
    assert_eq!(std::fs::read(host.current("web", "prod").join("app/large.bin")).unwrap(), large);

    let second = pack(&host, &server, &Source::sleeper("second"), "2");
    host.want("web", &second);
    let attempt = host.wait_for_attempt("web", 1, LIMIT);
    assert_eq!(attempt["result"], "Healthy", "{attempt}");

    let serving = host.serving("web", "prod");
    assert!(!serving.is_empty());
    for process in serving {
        let environment = started_with(process.pid);
        assert!(!environment.keys().any(|name| name.starts_with("AWS_")), "{environment:?}");
    }
    assert!(!host.agent_log().contains(SECRET));
}

#[test]
fn a_server_that_is_down_or_refuses_leaves_what_runs_alone() {
    let server = Bucket::start();
    let host = host();
    host.want("web", &pack(&host, &server, &Source::sleeper("first"), "1"));
    run(&host, &server, &["watch", "--once"]).expect_code(0);
    let (serving, current) = (host.serving("web", "prod"), host.current("web", "prod"));

    host.want("web", &pack(&host, &server, &Source::sleeper("second"), "2"));
    let mut wrong = landfall(&host, &server, &["watch", "--once"]);
    let wrong = Said::of(wrong.env("AWS_SECRET_ACCESS_KEY", "wr0ng").output().unwrap());
    wrong.expect_code(6);
    assert!(!wrong.err.contains("wr0ng"), "{}", wrong.err);

    let mut down = landfall(&host, &server, &["watch", "--once"]);
    drop(server);
    Said::of(down.output().unwrap()).expect_code(6);

    let attempts = host.attempts("web");
    assert_eq!(attempts.len(), 3);
    for (attempt, why) in attempts[1..].iter().zip(["check AWS_SECRET_ACCESS_KEY", "cannot be reached"]) {
        assert_eq!(attempt["failure"]["class"], "Supply", "{attempt}");
        assert!(attempt["failure"].to_string().contains(why), "{attempt}");
    }
    assert_eq!(host.serving("web", "prod"), serving);
    assert_eq!(host.current("web", "prod"), current);
}

#[test]
fn what_is_set_wrongly_is_said_with_exit_code_6_and_how_to_set_it() {
    let server = Bucket::start();
    let host = host();
    pack(&host, &server, &Source::sleeper("first"), "1");
    let without = |more: &[(&str, &str)]| {
        let mut command = host.landfall(&["ls"]);
        command.env("AWS_ENDPOINT_URL", server.endpoint()).envs(more.iter().copied());
        let said = Said::of(command.output().unwrap());
        said.expect_code(6);
        said.err
    };
    let key = ("AWS_ACCESS_KEY_ID", bucket::KEY);
    assert!(without(&[("AWS_EC2_METADATA_DISABLED", "true")]).contains("set AWS_ACCESS_KEY_ID"));
    assert!(without(&[key]).contains("AWS_SECRET_ACCESS_KEY is not"));
    assert!(without(&[("AWS_PROFILE", "ghost")]).contains("no profile `ghost`"));
    let to = ["push", "1", "--to", "s3://other/web"];
    let said = run(&host, &server, &to);
    said.expect_code(6);
    assert!(said.err.contains("no bucket `other`"), "{}", said.err);
}

#[test]
fn keys_come_from_a_profile_too() {
    let server = Bucket::start();
    let host = host();
    let id = pack(&host, &server, &Source::sleeper("first"), "1");
    std::fs::create_dir(host.dir.join("home/.aws")).unwrap();
    let (key, endpoint) = (bucket::KEY, server.endpoint());
    host.write(
        "home/.aws/credentials",
        &format!("[deploy]\naws_access_key_id = {key}\naws_secret_access_key = {SECRET}\n"),
    );
    host.write(
        "home/.aws/config",
        &format!("[profile deploy]\nregion = us-east-1\nendpoint_url = {endpoint}\n"),
    );
    let mut list = host.landfall(&["ls", "-o", "json"]);
    let listed = Said::of(list.env("AWS_PROFILE", "deploy").output().unwrap());
    listed.expect_code(0);
    assert!(listed.out.contains(id.trim_start_matches("b3:")), "{}", listed.out);
}

/// A store in a directory with versions that share most of their contents.
fn versions(host: &Host, count: u32) -> Vec<String> {
    let shared: String = (0..40_000).map(|line| format!("{line} is the same in each version\n")).collect();
    let dir = host.dir.join("built").to_string_lossy().into_owned();
    let pack = |version: u32| {
        let source = Source::sleeper(&format!("version {version}")).with("app/shared.txt", shared.as_bytes());
        let (from, version) = (source.path().to_string_lossy().into_owned(), version.to_string());
        let said = host.run(&["--store", &dir, "pack", &from, "--no-build", "--version", &version]);
        said.expect_code(0);
        said.out.trim().to_owned()
    };
    (1..=count).map(pack).collect()
}

#[test]
fn pushers_that_race_leave_every_artifact_whole_on_servers_of_both_kinds() {
    for server in [Bucket::start(), Bucket::start_forgetful()] {
        let host = host();
        let ids = versions(&host, 3);
        let built = host.dir.join("built").to_string_lossy().into_owned();
        let push = |id: &String| -> Child {
            let mut command = landfall(&host, &server, &["--store", &built, "push", id, "--to", STORE]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        };
        // Each twice, all at once, into a bucket that has no store yet.
        let pushes: Vec<Child> = ids.iter().chain(&ids).map(push).collect();
        for push in pushes {
            Said::of(push.wait_with_output().unwrap()).expect_code(0);
        }
        // Reading an artifact back verifies every byte of it.
        let copy = host.dir.join("copy").to_string_lossy().into_owned();
        run(&host, &server, &["push", "--all", "--to", &copy]).expect_code(0);
        let listed = host.json(&["--store", &copy, "ls"]).to_string();
        for id in &ids {
            assert!(listed.contains(id.trim_start_matches("b3:")), "{listed}");
        }
    }
}
