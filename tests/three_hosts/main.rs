//! A fleet in a network of its own: a commit reaches every host, one that is cut off catches up, one whose app is
//! broken goes back, and a laptop sees all of it.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

#[path = "../support/mod.rs"]
mod support;

mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use support::wait::{wait_for, wait_until};
use world::{LIMIT, World};

const PROD: [&str; 3] = ["web-1", "web-2", "web-3"];

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

/// `host version result`, with a `+` where it is in service, sorted.
fn short(rows: &[Value]) -> Vec<String> {
    let serves = |row: &Value| if row["from"].is_string() && row["until"].is_null() { "+" } else { "" };
    let line = |row: &Value| {
        format!("{} {} {}{}", text(&row["host"]), text(&row["version"]), text(&row["result"]), serves(row))
    };
    let mut lines: Vec<_> = rows.iter().map(line).collect();
    lines.sort();
    lines
}

/// `host environment version sync health`, as `status --fleet` has it.
fn glance(items: &[Value]) -> Vec<String> {
    let line = |item: &Value| {
        let running = &item["running"]["version"];
        let words = [&item["host"], &item["environment"], running, &item["sync"], &item["health"]];
        words.map(text).join(" ")
    };
    items.iter().map(line).collect()
}

fn wait_for_fleet(world: &World, wanted: &[&str]) {
    wait_until(&format!("the laptop sees {wanted:?}"), LIMIT, || {
        glance(&world.items(&["status", "--fleet"])) == wanted
    });
}

#[test]
fn three_hosts_follow_one_commit_whatever_becomes_of_one_of_them_and_a_laptop_sees_all_of_it() {
    let hosts = [("stage-1", "staging"), ("web-1", "prod"), ("web-2", "prod"), ("web-3", "prod")];
    let mut world = World::new(&hosts, &["stage-1", "web-1", "web-3"]);
    let needs = [("1.0.0", ""), ("1.1.0", ""), ("2.0.0", "GREETING")];
    let artifacts: BTreeMap<&str, String> =
        needs.into_iter().map(|(version, needs)| (version, world.pack(version, needs))).collect();

    // Both environments have a commit that an operator signed before the first agent looks.
    let said = world.landfall("read.token", &["deploy", "web", "prod", "1.0.0", "-m", "begin", "--push"]);
    said.expect_code(0);
    world.start();
    for host in PROD {
        assert_eq!(world.attempt(host, "1.0.0")["result"], "Healthy", "{host}");
        assert_eq!(world.served_by(host).as_deref(), Some("1.0.0"), "{host}");
    }

    // Staging first, then the very same bytes in prod.
    world.change("staging", &["deploy", "web", "staging", "1.1.0", "-m", "try 1.1.0"]);
    assert_eq!(world.attempt("stage-1", "1.1.0")["result"], "Healthy");
    let before_the_cut = ["web-1", "web-2", "web-3"].map(|host| format!("{host} prod 1.0.0 Synced Healthy"));
    let mut wanted = vec!["stage-1 staging 1.1.0 Synced Healthy"];
    wanted.extend(before_the_cut.iter().map(String::as_str));
    wait_for_fleet(&world, &wanted);

    // One host is gone, without a word; the others do not wait for it.
    world.cut("web-3");
    world.change("prod", &["promote", "web", "--from", "staging", "--to", "prod", "-m", "1.1.0 is good"]);
    for host in ["web-1", "web-2"] {
        assert_eq!(world.attempt(host, "1.1.0")["result"], "Healthy", "{host}");
        assert_eq!(world.served_by(host).as_deref(), Some("1.1.0"), "{host}");
    }
    assert_eq!(world.served_within("web-3").as_deref(), Some("1.0.0"), "it serves whoever reaches it");
    let silent = wait_for("the laptop sees that web-3 is silent", LIMIT, || {
        let items = world.items(&["status", "--fleet", "web"]);
        items.into_iter().find(|item| item["host"] == "web-3" && item["overdue"] == true)
    });
    assert_eq!(silent["running"]["version"], "1.0.0", "what it said last");
    let table = world.landfall("read.token", &["status", "--fleet", "--check"]);
    table.expect_code(1);
    assert!(table.out.contains("has not reported since"), "{}", table.out);
    let others = world.items(&["audit", "web", "prod", "--artifact", &artifacts["1.1.0"]]);
    assert_eq!(short(&others), ["web-1 1.1.0 Healthy+", "web-2 1.1.0 Healthy+"]);

    // It is back, and nobody has to do anything.
    world.mend("web-3");
    assert_eq!(world.attempt("web-3", "1.1.0")["result"], "Healthy");
    assert_eq!(world.served_by("web-3").as_deref(), Some("1.1.0"));
    wait_for_fleet(
        &world,
        &[
            "stage-1 staging 1.1.0 Synced Healthy",
            "web-1 prod 1.1.0 Synced Healthy",
            "web-2 prod 1.1.0 Synced Healthy",
            "web-3 prod 1.1.0 Synced Healthy",
        ],
    );
    world.landfall("read.token", &["status", "--fleet", "--check"]).expect_code(0);

    // On one host the next version lacks a value: it goes back by itself, the others go on.
    world.change("staging", &["deploy", "web", "staging", "2.0.0", "-m", "greet"]);
    assert_eq!(world.attempt("stage-1", "2.0.0")["result"], "Healthy");
    world.change("prod", &["promote", "web", "--from", "staging", "--to", "prod", "-m", "greet everybody"]);
    assert_eq!(world.attempt("web-1", "2.0.0")["result"], "Healthy");
    assert_eq!(world.attempt("web-2", "2.0.0")["result"], "Reverted");
    assert_eq!(world.attempt("web-3", "2.0.0")["result"], "Healthy");
    let served = PROD.map(|host| world.served_by(host).unwrap());
    assert_eq!(served, ["2.0.0", "1.1.0", "2.0.0"]);
    wait_for_fleet(
        &world,
        &[
            "stage-1 staging 2.0.0 Synced Healthy",
            "web-1 prod 2.0.0 Synced Healthy",
            "web-2 prod 1.1.0 OutOfSync Healthy",
            "web-3 prod 2.0.0 Synced Healthy",
        ],
    );
    the_laptop_tells_all_of_it(&world, &artifacts);

    world.begun.sort();
    let median = world.begun[world.begun.len() / 2];
    println!("call → Fetching, push → Fetching: {:?}; median {median:?}", world.begun);
    // Those that have a hook look by themselves once an hour.
    assert!(world.begun[0].0 < Duration::from_secs(30), "{:?}", world.begun);
    let logs = world.logs();
    assert!(logs.contains("status/web-1/prod/host.json") && !logs.contains("canary"), "a secret is in a log");
}

/// Nobody asks a host anything: the store and the repository know.
fn the_laptop_tells_all_of_it(world: &World, artifacts: &BTreeMap<&str, String>) {
    let mut rows = world.items(&["audit", "web"]);
    // The repository begins with a wish for an environment without hosts, which is told too.
    rows.retain(|row| row["environment"] != "elsewhere");
    assert_eq!(
        short(&rows),
        [
            "stage-1 1.1.0 Healthy",
            "stage-1 2.0.0 Healthy+",
            "web-1 1.0.0 Healthy",
            "web-1 1.1.0 Healthy",
            "web-1 2.0.0 Healthy+",
            "web-2 1.0.0 Healthy",
            "web-2 1.1.0 Healthy",
            "web-2 1.1.0 Healthy+",
            "web-2 2.0.0 Reverted",
            "web-3 1.0.0 Healthy",
            "web-3 1.1.0 Healthy",
            "web-3 2.0.0 Healthy+",
        ]
    );
    let subject = |row: &Value| match (text(&row["version"]), text(&row["environment"])) {
        ("1.0.0", _) => ("deploy web 1.0.0 to prod", "begin"),
        ("1.1.0", "staging") => ("deploy web 1.1.0 to staging", "try 1.1.0"),
        ("1.1.0", _) => ("promote web 1.1.0 to prod", "1.1.0 is good"),
        (_, "staging") => ("deploy web 2.0.0 to staging", "greet"),
        _ => ("promote web 2.0.0 to prod", "greet everybody"),
    };
    for row in &rows {
        assert_eq!(row["artifact"], artifacts[text(&row["version"])], "one hash in both environments: {row}");
        assert_eq!((text(&row["commit"]["subject"]), text(&row["why"])), subject(row), "{row}");
        assert_eq!(row["by"], "maria@acme.example", "{row}");
        let signature = &row["commit"]["signature"];
        assert_eq!(
            (text(&signature["state"]), text(&signature["by"])),
            ("Good", "maria@acme.example"),
            "{row}"
        );
    }
    let of = |host: &str, version: &str| {
        let is =
            |row: &&Value| row["host"] == host && row["version"] == version && row["reason"] != "WentBack";
        rows.iter().find(is).unwrap()
    };
    let from = |row: &Value| text(&row["from"]).parse::<Timestamp>().unwrap();
    let soon = from(of("web-2", "1.1.0"));
    assert!(soon < from(of("web-3", "1.1.0")), "the host that was cut off was later");
    // What ran at the moment at which its neighbour went on without it?
    let then = short(&world.items(&["audit", "web", "prod", "--at", &soon.to_string()]));
    assert!(then.contains(&"web-3 1.0.0 Healthy".to_owned()), "{then:?}");
    assert!(then.contains(&"web-2 1.1.0 Healthy".to_owned()), "{then:?}");
    // Where has this ever run, and what became of it there?
    let ran = world.items(&["audit", "web", "--artifact", &artifacts["2.0.0"]]);
    let expected =
        ["stage-1 2.0.0 Healthy+", "web-1 2.0.0 Healthy+", "web-2 2.0.0 Reverted", "web-3 2.0.0 Healthy+"];
    assert_eq!(short(&ran), expected);
    let went_back = rows.iter().find(|row| row["reason"] == "WentBack").unwrap();
    assert_eq!((text(&went_back["host"]), text(&went_back["version"])), ("web-2", "1.1.0"));
    assert_eq!(went_back["from"], of("web-2", "2.0.0")["until"]);

    // And why a host does not run what it should.
    let items = world.items(&["status", "--fleet", "web", "--env", "prod"]);
    let broken = items.iter().find(|item| item["host"] == "web-2").unwrap();
    assert_eq!(
        (&broken["desired"]["version"], &broken["running"]["version"]),
        (&"2.0.0".into(), &"1.1.0".into())
    );
    let table = world.landfall("read.token", &["status", "--fleet", "--check"]);
    table.expect_code(1);
    assert!(
        table.out.contains("web-2") && table.out.lines().all(|line| line.chars().count() <= 80),
        "{}",
        table.out
    );
}
