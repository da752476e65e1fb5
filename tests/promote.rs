//! `landfall promote`: one commit that has one environment run what another does.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod support;

use serde_json::{Value, json};
use support::{Host, Source};

/// A state in which staging has an artifact and prod another.
fn state(host: &Host, staging: &str, prod: &str, blocked: &[&str]) {
    let target = |artifact: &str| json!({ "target": { "artifact": artifact } });
    let blocked: Vec<Value> =
        blocked.iter().map(|it| json!({ "artifact": it, "reason": "leaks", "by": "lee" })).collect();
    let app =
        json!({ "environments": { "staging": target(staging), "prod": target(prod) }, "blocked": blocked });
    let state = json!({ "apiVersion": "landfall/v1", "apps": { "web": app } });
    host.write("state/deploy-state.json", &state.to_string());
    git(host, &["commit", "--quiet", "-am", "Set the scene"]);
}

fn git(host: &Host, arguments: &[&str]) -> String {
    let output = host.program("git").args(arguments).current_dir(host.dir.join("state")).output().unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn target(host: &Host, environment: &str) -> Value {
    let text = std::fs::read_to_string(host.state()).unwrap();
    let state: Value = serde_json::from_str(&text).unwrap();
    state["apps"]["web"]["environments"][environment]["target"].clone()
}

const PROMOTE: [&str; 6] = ["promote", "web", "--from", "staging", "--to", "prod"];

#[test]
fn what_is_desired_in_one_environment_is_desired_in_another_by_one_commit() {
    let host = Host::new("prod", "");
    let [old, new] = ["1", "2"].map(|content| host.pack_next(Source::sleeper(content).path()));
    state(&host, &new, &old, &[]);
    let said = host.run(&PROMOTE);
    said.expect_code(0);
    assert!(said.err.contains("its health in staging is unknown"), "{}", said.err);
    assert_eq!(target(&host, "prod")["artifact"], new);
    assert_eq!(target(&host, "prod")["reason"], "promoted from staging");
    assert_eq!(target(&host, "staging")["artifact"], new);
    assert_eq!(git(&host, &["log", "--format=%s", "-1"]).trim(), "promote web 0.0.2 to prod");
    assert_eq!(git(&host, &["status", "--porcelain"]), "");
    // Again changes nothing; the agent of prod brings it into service.
    let before = git(&host, &["rev-parse", "HEAD"]);
    host.run(&PROMOTE).expect_code(0);
    assert_eq!(git(&host, &["rev-parse", "HEAD"]), before);
    host.run(&["watch", "--once"]).expect_code(0);
    assert_eq!(host.attempts("web").last().unwrap()["target"]["artifact"], new);
}

#[test]
fn an_artifact_of_one_environment_a_blocked_one_and_one_that_failed_there_are_refused_untouched() {
    let host = Host::new("staging", "");
    let old = host.pack_next(Source::sleeper("1").path());
    let before = || (std::fs::read_to_string(host.state()).unwrap(), git(&host, &["rev-parse", "HEAD"]));

    let recipe = format!(
        "{}\n[[layer]]\nname = \"env\"\nkind = \"env\"\n\n[env]\nenvironments = [\"staging\"]\n",
        support::source::SLEEPER.replace("version = \"1\"", "version = \"9\"")
    );
    let bound =
        Source::new(&recipe).with("app/x", b"x").with(".env.staging", b"A=1").with(".env.staging.local", b"");
    let bound = host.pack(bound.path(), "staging");
    state(&host, &bound, &old, &[]);
    let untouched = before();
    let said = host.run(&PROMOTE);
    said.expect_code(3);
    assert!(said.err.contains("was packed for `staging`"), "{}", said.err);
    assert_eq!(before(), untouched);

    let leaky = host.pack_next(Source::sleeper("2").path());
    state(&host, &leaky, &old, &[&leaky]);
    let untouched = before();
    host.run(&PROMOTE).expect_code(10);
    assert_eq!(before(), untouched);

    let failing = support::source::SLEEPER.replace("run = [\"true\"]", "run = [\"false\"]");
    let bad = host.pack_next(Source::new(&failing).with("app/x", b"bad").path());
    state(&host, &bad, &old, &[]);
    host.run(&["watch", "--once"]).expect_code(9);
    let untouched = before();
    let said = host.run(&PROMOTE);
    said.expect_code(10);
    assert!(said.err.contains("did not prove healthy in staging"), "{}", said.err);
    assert_eq!(before(), untouched);

    host.run(&["promote", "web", "--from", "prod", "--to", "prod"]).expect_code(2);
    host.run(&["promote", "web", "--from", "nowhere", "--to", "prod"]).expect_code(4);
}
