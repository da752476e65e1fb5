//! The newest state wins: over a hanging step, a pause, a failing health check; never over a migration.

#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod support;

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use support::source::SLEEPER;
use support::wait::{wait_for, wait_until};
use support::{Host, Source, process};

const APP: &str = "web";
const LIMIT: Duration = Duration::from_secs(60);

/// A host with a healthy first version and an agent.
struct Site {
    host: Host,
    first: String,
}

impl Site {
    /// Every pause between tries is this many times as long as it is for users.
    fn with_pauses(pauses: &str) -> Self {
        let mut host = Host::new("prod", "");
        host.deploy_once(&Source::sleeper("first")).expect_code(0);
        let first = host.current_record(APP)["release"]["artifact"].as_str().unwrap().to_owned();
        let mut agent = host.landfall(&["watch"]);
        agent.env("LANDFALL_PAUSES", pauses);
        host.start_agent_as(agent);
        host.wait_for_agent();
        Self { host, first }
    }

    fn new() -> Self {
        Self::with_pauses("1")
    }

    fn pack(&self, source: &Source) -> String {
        self.host.pack_next(source.path())
    }

    #[track_caller]
    fn ended(&self, artifact: &str, result: &str) -> Value {
        let it = |entry: &Value| entry["target"]["artifact"] == artifact && entry["result"] == result;
        wait_for(&format!("{artifact} is {result}"), LIMIT, || self.host.attempts(APP).into_iter().find(it))
    }

    fn results(&self) -> Vec<String> {
        let result = |entry: &Value| entry["result"].as_str().unwrap().to_owned();
        self.host.attempts(APP).iter().map(result).collect()
    }

    fn trace(&self, name: &str) -> PathBuf {
        self.host.dir.join(name)
    }

    /// The agent has read this state.
    fn wait_until_accepted(&self, artifact: &str) {
        let accepted = self.host.root().join("accepted");
        wait_until("the state is accepted", LIMIT, || {
            std::fs::read_to_string(&accepted).is_ok_and(|text| text.contains(artifact))
        });
    }

    fn wait_until_stage(&self, stage: &str) {
        let journal = self.host.app(APP, "prod").join("journal");
        wait_until(stage, LIMIT, || {
            std::fs::read_to_string(&journal)
                .is_ok_and(|text| text.contains(&format!("\"stage\":\"{stage}\"")))
        });
    }

    fn current(&self) -> String {
        self.host.current_record(APP)["release"]["artifact"].as_str().unwrap().to_owned()
    }
}

fn step(kind: &str, shell: &str) -> Source {
    Source::sleeper_and(&format!("[[step]]\nname = \"it\"\nkind = \"{kind}\"\nshell = '''{shell}'''\n"))
}

/// Runs, and is never found well.
fn never_well() -> Source {
    let recipe = SLEEPER.replace("run = [\"true\"]\nattempts = 3", "run = [\"false\"]\nattempts = 10000");
    Source::new(&recipe).with("app/version.txt", b"never well")
}

#[test]
fn a_newer_state_ends_a_hanging_prepare_step_with_all_it_started_and_leaves_nothing_half_built() {
    let site = Site::new();
    let pids = site.trace("pids");
    let shell = format!("trap '' TERM; sleep 100000 & echo $! $$ > {}; wait", pids.display());
    let hanging = site.pack(&step("prepare", &shell));
    let third = site.pack(&Source::sleeper("third"));
    site.host.want(APP, &hanging);
    let started = wait_for("the step runs", LIMIT, || {
        let text = std::fs::read_to_string(&pids).ok()?;
        let pids: Vec<u32> = text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
        (pids.len() == 2).then_some(pids)
    });
    site.host.want(APP, &third);
    site.ended(&third, "Healthy");
    assert_eq!(site.results(), ["Healthy", "Superseded", "Healthy"]);
    let alive: Vec<_> = started.iter().filter_map(|pid| process::read(*pid)).collect();
    assert_eq!(alive, [], "the step outlived its attempt");
    let releases = std::fs::read_dir(site.host.app(APP, "prod").join("releases")).unwrap();
    let half_built = releases.filter_map(|entry| {
        let record = std::fs::read_to_string(entry.ok()?.path().join(".landfall/release.json")).ok()?;
        record.contains("materialised").then_some(record)
    });
    assert_eq!(half_built.collect::<Vec<_>>(), Vec::<String>::new());
}

#[test]
fn a_pause_between_tries_gives_way_at_once() {
    // The pause lasts for longer than this test waits.
    let site = Site::with_pauses("100");
    let failing = site.pack(&step("prepare", "exit 1"));
    let third = site.pack(&Source::sleeper("third"));
    site.host.want(APP, &failing);
    let journal = site.host.app(APP, "prod").join("journal");
    wait_until("the pause", LIMIT, || {
        std::fs::read_to_string(&journal).is_ok_and(|text| text.contains("\"waiting\""))
    });
    site.host.want(APP, &third);
    site.ended(&third, "Healthy");
    assert_eq!(site.results(), ["Healthy", "Superseded", "Healthy"]);
}

#[test]
fn a_migration_is_never_interrupted_and_the_newer_state_follows_it() {
    let site = Site::new();
    let (begun, go, done) = (site.trace("begun"), site.trace("go"), site.trace("done"));
    let shell = format!(
        "touch {}; while [ ! -e {} ]; do sleep 0.05; done; touch {}",
        begun.display(),
        go.display(),
        done.display()
    );
    let migrating = site.pack(&step("migrate", &shell));
    let third = site.pack(&Source::sleeper("third"));
    site.host.want(APP, &migrating);
    wait_until("the migration", LIMIT, || begun.exists());
    site.host.want(APP, &third);
    site.wait_until_accepted(&third);
    std::fs::write(&go, "").unwrap();
    site.ended(&third, "Healthy");
    assert!(done.exists(), "the migration was cut short");
    assert_eq!(site.results(), ["Healthy", "Superseded", "Healthy"]);
}

#[test]
fn a_newer_state_over_a_failing_health_check_keeps_the_last_healthy_release_as_its_revert_target() {
    let site = Site::new();
    let (second, dying) = (site.pack(&never_well()), {
        let recipe = SLEEPER.replace("run = [\"sleep\", \"100000\"]", "shell = \"exit 3\"");
        site.pack(&Source::new(&recipe).with("app/version.txt", b"dying"))
    });
    site.host.want(APP, &second);
    site.wait_until_stage("Verifying");
    site.host.want(APP, &dying);
    site.ended(&dying, "Reverted");
    assert_eq!(site.results(), ["Healthy", "Superseded", "Reverted"]);
    assert_eq!(site.current(), site.first);
}

#[test]
fn a_release_that_never_proved_itself_does_not_stay_when_the_newer_one_cannot_be_prepared() {
    let site = Site::with_pauses("0.02");
    let (second, third) = (site.pack(&never_well()), site.pack(&step("prepare", "exit 1")));
    site.host.want(APP, &second);
    site.wait_until_stage("Verifying");
    site.host.want(APP, &third);
    site.ended(&third, "Failed");
    wait_until("the last healthy release is back", LIMIT, || site.results().len() == 4);
    assert_eq!(site.results(), ["Healthy", "Superseded", "Failed", "Healthy"]);
    assert_eq!(site.current(), site.first);
}

#[test]
fn of_ten_quick_edits_only_the_last_ends_up_in_service_and_the_others_are_on_record_as_superseded() {
    let site = Site::new();
    let mut wanted: Vec<String> =
        (1..10).map(|number| site.pack(&step("prepare", &format!("sleep 10000{number}")))).collect();
    wanted.push(site.pack(&Source::sleeper("last")));
    let last = wanted[9].clone();
    site.host.want(APP, &wanted[0]);
    site.wait_until_stage("Preparing");
    for artifact in &wanted[1..] {
        site.host.want(APP, artifact);
    }
    site.ended(&last, "Healthy");
    let attempts = site.host.attempts(APP);
    let (healthy, others): (Vec<&Value>, Vec<&Value>) =
        attempts[1..].iter().partition(|entry| entry["target"]["artifact"] == last.as_str());
    assert_eq!(healthy.len(), 1, "{attempts:?}");
    assert!(!others.is_empty() && others.iter().all(|entry| entry["result"] == "Superseded"), "{attempts:?}");
    let serving = site.host.serving(APP, "prod");
    assert_eq!(serving.len(), 1, "{serving:?}");
}
