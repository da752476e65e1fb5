//! Apps of one host do not wait for each other.

#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use support::source::SLEEPER;
use support::wait::wait_until;
use support::{Host, Source, process};

const LIMIT: Duration = Duration::from_secs(120);

fn source(app: &str, version: &str, more: &str) -> Source {
    // A busy machine is no reason for a verdict.
    let patient = SLEEPER.replace("attempts = 3", "attempts = 1000");
    let recipe = patient.replace("app = \"web\"", &format!("app = \"{app}\""));
    Source::new(&format!("{recipe}\n{more}")).with("app/version.txt", format!("{app} {version}").as_bytes())
}

fn want(host: &Host, wanted: &BTreeMap<String, String>) {
    let environments =
        |artifact: &String| serde_json::json!({"environments": {"prod": {"target": {"artifact": artifact}}}});
    let apps: serde_json::Map<_, _> =
        wanted.iter().map(|(app, artifact)| (app.clone(), environments(artifact))).collect();
    let state = serde_json::json!({"apiVersion": "landfall/v1", "apps": apps});
    host.write("state/new.json", &state.to_string());
    std::fs::rename(host.dir.join("state/new.json"), host.state()).unwrap();
}

#[test]
fn of_ten_apps_and_more_some_hang_and_one_fails_for_ever_and_none_of_the_others_waits_for_them() {
    let mut host = Host::new("prod", "");
    let good: Vec<String> = (1..=8).map(|number| format!("app{number}")).collect();
    let mut wanted = BTreeMap::new();
    // As many as can be prepared at once: each place is taken by one that hangs.
    let hanging: Vec<String> = (1..=std::thread::available_parallelism().unwrap().get())
        .map(|number| format!("hangs{number}"))
        .collect();
    for app in &hanging {
        let pid = host.dir.join(app);
        let step = format!(
            "[[step]]\nname = \"hang\"\nshell = '''echo $$ > {}; exec sleep 100000'''\ntimeout = \"1h\"\n",
            pid.display()
        );
        wanted.insert(app.clone(), host.pack_version(source(app, "1", &step).path(), "1"));
    }
    let fail = "[[step]]\nname = \"busy\"\nrun = [\"sh\", \"-c\", \"exit 75\"]\n";
    wanted.insert("fails".to_owned(), host.pack_version(source("fails", "1", fail).path(), "1"));
    want(&host, &wanted);
    let mut agent = host.landfall(&["watch"]);
    // The failing one is at it all the time.
    agent.env("LANDFALL_PAUSES", "0.001");
    host.start_agent_as(agent);
    let pid_of = |app: &String| std::fs::read_to_string(host.dir.join(app)).ok()?.trim().parse().ok();
    wait_until("some hang and one fails", LIMIT, || {
        hanging.iter().all(|app| pid_of(app).is_some()) && !host.attempts("fails").is_empty()
    });

    for version in ["1", "2"] {
        for app in &good {
            let step = "[[step]]\nname = \"prepare\"\nrun = [\"true\"]\n";
            wanted.insert(app.clone(), host.pack_version(source(app, version, step).path(), version));
        }
        let failures = host.attempts("fails").len();
        want(&host, &wanted);
        let is_up = |app: &String| {
            let last = host.attempts(app).pop();
            last.is_some_and(|entry| {
                entry["result"] == "Healthy" && entry["target"]["artifact"] == wanted[app].as_str()
            })
        };
        wait_until(&format!("all others run version {version}"), LIMIT, || good.iter().all(is_up));
        for app in &hanging {
            let step: u32 = pid_of(app).unwrap();
            assert!(process::read(step).is_some(), "the hanging step was gone when the others were up");
            assert!(host.attempts(app).is_empty(), "its attempt had ended");
        }
        wait_until("the failing app goes on failing", LIMIT, || host.attempts("fails").len() > failures);
    }
    let results = host.attempts("fails");
    assert!(results.iter().all(|entry| entry["result"] == "Failed"), "{results:?}");
}
