//! A host with many apps, each with a large release of its own.

use std::path::Path;
use std::time::{Duration, Instant};

use super::host::Host;
use super::sample::{Samples, short};
use super::table::Table;
use super::{idle, proc, tree};

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

const PASS_LIMIT: Duration = Duration::from_millis(300);

#[derive(Debug)]
pub struct Fleet {
    pub host: Host,
    apps: Vec<String>,
}

impl Fleet {
    /// Packs, names all apps in one edit of the state, and waits until all are healthy.
    pub fn deployed(program: &Path, dir: &Path, apps: usize, files: usize, table: &mut Table) -> Self {
        let apps: Vec<String> = (0..apps).map(|number| format!("app-{number}")).collect();
        let mut host = Host::new(program, dir.join("fleet"), "");
        let artifacts: Vec<String> =
            (0..).zip(&apps).map(|(seed, app)| pack(&host, app, files, seed)).collect();
        host.start_agent();
        idle::start_up(&host, table);
        let wanted: Vec<(&str, &str)> =
            apps.iter().zip(&artifacts).map(|(app, artifact)| (app.as_str(), artifact.as_str())).collect();
        let start = Instant::now();
        host.want(&wanted);
        for (app, artifact) in &wanted {
            let entry = host.verdict(app, artifact, 0);
            assert_eq!(entry["result"], "Healthy", "{entry}");
        }
        let what = format!("first deploy of {} apps with {files} files each, in one edit", apps.len());
        table.note(&what, short(start.elapsed()));
        table.note("agent's peak meanwhile", proc::mib(proc::held(host.agent_pid()).peak));
        Self { host, apps }
    }

    /// Compares every app's release with its record, one after another.
    pub fn check_all(&mut self, table: &mut Table) {
        let mut samples = Samples::default();
        for app in &self.apps {
            let before = proc::cpu_of_children();
            self.host.run(&["verify", app]);
            samples.add(proc::cpu_of_children() - before);
        }
        let met = samples.quantile(1.0) < PASS_LIMIT;
        table.goal("`landfall verify`, processor time per app", samples.summary(), met, "< 0.3 s");
    }
}

fn pack(host: &Host, app: &str, files: usize, seed: u64) -> String {
    let source = host.dir.join("source");
    tree::write(&source, files, seed);
    std::fs::write(source.join("landfall.toml"), format!("app = \"{app}\"\n{RECIPE}")).unwrap();
    let artifact = host.pack(&source, "1");
    std::fs::remove_dir_all(&source).unwrap();
    artifact
}
