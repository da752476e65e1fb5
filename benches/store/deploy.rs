//! State file saved → `current` switched: a real `landfall watch` on a real host directory.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::input::Input;
use super::sample::Samples;
use super::support::{Host, json, wait};
use super::table::{Table, short};

/// Switches measured per release size.
const SWITCHES: usize = 120;
/// For a first deploy of everything.
const DEPLOY_LIMIT: Duration = Duration::from_secs(120);
/// How often `current` is looked at while a switch is awaited: the resolution of the measure.
const LOOK_EVERY: Duration = Duration::from_micros(100);
const APP: &str = "bench";
const ENVIRONMENT: &str = "prod";
const SMALL_RECIPE: &str = "app = \"bench\"\nversion = \"0\"\n\n[[layer]]\nname = \"app\"\nfiles = [{ from = \"index.txt\", to = \"index.txt\" }]\n";

pub fn measure(input: &Input, table: &mut Table) {
    let small = input.work.join("small");
    std::fs::create_dir_all(&small).unwrap();
    std::fs::write(small.join("landfall.toml"), SMALL_RECIPE).unwrap();
    saved_to_switched("state saved → `current`, 1 file", &small, table);
    saved_to_switched("state saved → `current`, whole tree", &input.app, table);
}

/// Deploys two releases, then goes from one to the other.
fn saved_to_switched(what: &str, app: &Path, table: &mut Table) {
    let mut host = Host::new(ENVIRONMENT, "");
    let artifacts = ["first", "second"].map(|text| {
        std::fs::write(app.join("index.txt"), format!("{text}\n")).unwrap();
        host.pack_version(app, text)
    });
    host.start_agent();
    for artifact in &artifacts {
        save(&host, artifact);
        settled(&host, artifact, DEPLOY_LIMIT);
    }
    let mut samples = Samples::default();
    for artifact in artifacts.iter().cycle().take(SWITCHES) {
        samples.add(switch(&host, artifact));
        settled(&host, artifact, DEPLOY_LIMIT);
    }
    let met = samples.median() < Duration::from_millis(50);
    let ours =
        format!("median {}, p99 {}, n={}", short(samples.median()), short(samples.p99()), samples.len());
    table.below(what, ours, met, "median < 50 ms");
}

/// Time from the saved state to the changed link.
fn switch(host: &Host, artifact: &str) -> Duration {
    let link = host.app(APP, ENVIRONMENT).join("current");
    let before = std::fs::read_link(&link).unwrap();
    save(host, artifact);
    let saved = Instant::now();
    while std::fs::read_link(&link).unwrap() == before {
        assert!(saved.elapsed() < DEPLOY_LIMIT, "`current` stays at {}", before.display());
        std::thread::sleep(LOOK_EVERY);
    }
    saved.elapsed()
}

/// As editors save: another file, renamed over.
fn save(host: &Host, artifact: &str) {
    let text = format!(
        "{{\"apiVersion\": \"landfall/v1\", \"apps\": {{\"{APP}\": {{\"environments\": {{\"{ENVIRONMENT}\": {{\"target\": {{\"artifact\": \"{artifact}\"}}}}}}}}}}}}\n"
    );
    let state: PathBuf = host.state();
    let new = state.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, state).unwrap();
}

/// Waits until the attempt is over: history has it.
fn settled(host: &Host, artifact: &str, limit: Duration) {
    wait::wait_until("the attempt ends", limit, || {
        let history = host.json(&["history", APP]);
        json::items(&history).first().is_some_and(|entry| entry["artifact"] == artifact)
    });
}
