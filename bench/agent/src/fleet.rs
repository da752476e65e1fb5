//! A host with many apps, each with a large release of its own.

use std::path::Path;
use std::time::{Duration, Instant};

use super::host::Host;
use super::sample::{Samples, short};
use super::table::Table;
use super::{idle, proc, tree, wait};

/// Kept by a process, at once well, not probed again.
const RECIPE: &str = r#"version = "0"

[[layer]]
name = "deps"
files = [{ from = "node_modules", to = "node_modules" }]

[start]
run = ["sleep", "1000000"]

[health]
run = ["true"]
successes = 1
settle = "100ms"
"#;

/// Drift passes that are watched.
const TURNS: usize = 5;
/// The longest time between two of them: the agent has a round of five minutes.
const TURN_LIMIT: Duration = Duration::from_secs(400);
const LOOK_EVERY: Duration = Duration::from_millis(200);
const PASS_LIMIT: Duration = Duration::from_millis(300);

#[derive(Debug)]
pub struct Fleet {
    pub host: Host,
}

impl Fleet {
    /// Packs, names all apps in one edit of the state, and waits until all are healthy.
    pub fn deployed(program: &Path, dir: &Path, apps: usize, files: usize, table: &mut Table) -> Self {
        let apps: Vec<String> = (0..apps).map(|number| format!("app-{number}")).collect();
        let store = dir.join(format!("store-{}x{files}", apps.len()));
        let mut host = Host::new(program, dir.join("fleet"), &store);
        let artifacts = packed(&host, &store, &apps, files);
        host.start_agent();
        idle::start_up(&host, table);
        let wanted: Vec<(&str, &str)> =
            apps.iter().zip(&artifacts).map(|(app, artifact)| (app.as_str(), artifact.as_str())).collect();
        let start = Instant::now();
        host.want(&wanted);
        let workers = proc::peak_below(host.agent_pid(), || {
            for (app, artifact) in &wanted {
                let entry = host.verdict(app, artifact, 0);
                assert_eq!(entry["result"], "Healthy", "{entry}");
            }
        });
        let what = format!("first deploy of {} apps with {files} files each, in one edit", apps.len());
        table.note(&what, short(start.elapsed()));
        table.note("agent's peak meanwhile", proc::mib(proc::held(host.agent_pid()).peak));
        table.note("its helper processes' peak meanwhile, all together", proc::mib(workers));
        Self { host }
    }

    /// Watches the agent on its rounds: each turn is one helper process that compares one app's files with what was
    /// prepared, and the only child an agent at rest has.
    pub fn watch_rounds(&self, table: &mut Table) {
        let pid = self.host.agent_pid();
        let own = proc::cpu(pid);
        let mut samples = Samples::default();
        let mut before = proc::cpu_of_children(pid);
        for _ in 0..TURNS {
            samples.add(wait::wait_for("a turn of the rounds", LOOK_EVERY, TURN_LIMIT, || {
                let used = proc::cpu_of_children(pid).saturating_sub(before);
                (used > Duration::ZERO).then_some(used)
            }));
            before = proc::cpu_of_children(pid);
        }
        let met = samples.quantile(1.0) < PASS_LIMIT;
        table.goal("drift pass, processor time per app", samples.summary(), met, "< 0.3 s");
        table.note("the agent's own, for all of these", short(proc::cpu(pid) - own));
        idle::resident_now(&self.host, "after drift passes", table);
    }
}

/// Packs every app, or takes what an earlier run packed: it takes minutes, and the artifacts are the same.
fn packed(host: &Host, store: &Path, apps: &[String], files: usize) -> Vec<String> {
    let list = store.join("bench-artifacts");
    if let Ok(known) = std::fs::read_to_string(&list) {
        return known.lines().map(str::to_owned).collect();
    }
    let packed: Vec<String> = (0..).zip(apps).map(|(seed, app)| pack(host, app, files, seed)).collect();
    std::fs::write(list, packed.join("\n")).unwrap();
    packed
}

fn pack(host: &Host, app: &str, files: usize, seed: u64) -> String {
    let source = host.dir.join("source");
    tree::write(&source, files, seed);
    std::fs::write(source.join("landfall.toml"), format!("app = \"{app}\"\n{RECIPE}")).unwrap();
    let artifact = host.pack(&source, "1");
    std::fs::remove_dir_all(&source).unwrap();
    artifact
}
