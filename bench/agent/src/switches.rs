//! State file saved → `current` switched → proved healthy, between two releases that are on the host.

use std::path::Path;
use std::time::{Duration, Instant};

use super::host::Host;
use super::sample::Samples;
use super::table::Table;
use super::{tree, wait};

const APP: &str = "web";
/// How often `current` is looked at: the resolution of the measure.
const LOOK_EVERY: Duration = Duration::from_micros(200);
const LIMIT: Duration = Duration::from_secs(300);
const MEDIAN_MAX: Duration = Duration::from_millis(50);

/// A process that ends at once when asked, and a probe that is a command: what is left is landfall's own time.
const RECIPE: &str = r#"app = "web"
version = "0"

[[layer]]
name = "deps"
files = [{ from = "node_modules", to = "node_modules" }]

[[layer]]
name = "app"
files = [{ from = "version.txt", to = "version.txt" }]

[start]
run = ["sleep", "1000000"]

[health]
run = ["true"]
successes = 1
settle = "10ms"
"#;

/// Goes to and fro between two releases.
pub fn measure(program: &Path, dir: &Path, what: &str, files: usize, switches: usize, table: &mut Table) {
    let mut host = Host::new(program, dir.join("switches"), &dir.join("switches/store"));
    let source = host.dir.join("source");
    tree::write(&source, files, 0);
    std::fs::write(source.join("landfall.toml"), RECIPE).unwrap();
    let artifacts = ["1", "2"].map(|version| {
        std::fs::write(source.join("version.txt"), version).unwrap();
        host.pack(&source, version)
    });
    host.start_agent();
    for artifact in &artifacts {
        host.want(&[(APP, artifact)]);
        assert_eq!(host.verdict(APP, artifact, 0)["result"], "Healthy");
    }
    let (mut switched, mut healthy) = (Samples::default(), Samples::default());
    for artifact in artifacts.iter().cycle().take(switches) {
        let (link, history) = (host.app(APP).join("current"), host.history_len(APP));
        let before = std::fs::read_link(&link).unwrap();
        let saved = Instant::now();
        host.want(&[(APP, artifact)]);
        wait::wait_for("`current` is switched", LOOK_EVERY, LIMIT, || {
            (std::fs::read_link(&link).unwrap() != before).then_some(())
        });
        switched.add(saved.elapsed());
        assert_eq!(host.verdict(APP, artifact, history)["result"], "Healthy");
        healthy.add(saved.elapsed());
    }
    let met = switched.quantile(0.5) < MEDIAN_MAX;
    table.goal(&format!("edit → switched, release of {what}"), switched.summary(), met, "p50 < 50 ms");
    table.note(&format!("edit → healthy, release of {what}"), healthy.summary());
    host.end();
}
