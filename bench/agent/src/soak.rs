//! Hundreds of deploys of good and bad versions, one after another, and what is left behind.

use std::path::Path;
use std::time::{Duration, Instant};

use super::footprint::Footprint;
use super::host::Host;
use super::sample::{Samples, short};
use super::table::Table;
use super::{proc, wait};

const APP: &str = "web";
/// Deploys before the first footprint: enough for each kind, for caches, and for retention to begin.
const WARM_UP: usize = 40;
/// Until what the last deploy left behind (threads, memory) is gone, before a footprint.
const CALM: Duration = Duration::from_secs(20);
const LIMIT: Duration = Duration::from_secs(300);
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// Verdicts whose times are summed up together.
const TOGETHER: usize = 100;
/// Files of each version; two thirds are the same in all.
const FILES: usize = 30;

/// What is wrong with a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Good,
    /// Two edits, the second before the first is done.
    Overtaken,
    NoProgram,
    ExitsAtOnce,
    FailsHealth,
    FailsMigration,
    /// Named by the state and in no store.
    Missing,
}

/// In these shares.
const MIX: [Kind; 12] = [
    Kind::Good,
    Kind::Good,
    Kind::Good,
    Kind::Good,
    Kind::Good,
    Kind::Overtaken,
    Kind::Overtaken,
    Kind::NoProgram,
    Kind::ExitsAtOnce,
    Kind::FailsHealth,
    Kind::FailsMigration,
    Kind::Missing,
];

struct Soak {
    host: Host,
    random: fastrand::Rng,
    number: usize,
    times: Vec<Samples>,
    healthy: String,
}

pub fn measure(program: &Path, dir: &Path, deploys: usize, seed: u64, table: &mut Table) {
    let mut host = Host::new(program, dir.join("soak"), &dir.join("soak/store"));
    host.start_agent();
    let random = fastrand::Rng::with_seed(seed);
    let mut soak = Soak { host, random, number: 0, times: Vec::new(), healthy: String::new() };
    soak.deploy(Kind::Good);
    MIX.into_iter().for_each(|kind| soak.deploy(kind));
    while soak.number < WARM_UP {
        soak.any();
    }
    soak.deploy(Kind::Good);
    std::thread::sleep(CALM);
    let before = Footprint::now(&soak.host, APP);
    let (start, first) = (Instant::now(), soak.number);
    soak.times.clear();
    while soak.number < first + deploys {
        soak.any();
    }
    soak.deploy(Kind::Good);
    let took = start.elapsed();
    std::thread::sleep(CALM);
    let after = Footprint::now(&soak.host, APP);
    table.note(&format!("soak: {deploys} deploys, seed {seed}"), short(took));
    let ends = [("first", soak.times.first()), ("last", soak.times.last())];
    for (which, times) in ends.into_iter().filter_map(|(which, times)| Some((which, times?))) {
        table.note(&format!("soak: edit → verdict, the {which} of them"), times.summary());
    }
    before.beside(&after, table);
    soak.check_the_end(table);
}

impl Soak {
    fn any(&mut self) {
        let kind = MIX[self.random.usize(..MIX.len())];
        self.deploy(kind);
    }

    fn deploy(&mut self, kind: Kind) {
        match kind {
            Kind::Missing => return self.name_what_is_not_there(),
            Kind::Overtaken => {
                let first = self.pack(Kind::Good);
                self.host.want(&[(APP, &first)]);
                // Anywhere between the edit and the verdict.
                std::thread::sleep(Duration::from_millis(self.random.u64(..60)));
            }
            _ => {}
        }
        let artifact = self.pack(kind);
        let from = self.host.history_len(APP);
        let start = Instant::now();
        self.host.want(&[(APP, &artifact)]);
        let entry = self.host.verdict(APP, &artifact, from);
        if self.times.last().is_none_or(|last| last.len() == TOGETHER) {
            self.times.push(Samples::default());
        }
        self.times.last_mut().unwrap().add(start.elapsed());
        let expected = match kind {
            Kind::Good | Kind::Overtaken => "Healthy",
            Kind::NoProgram | Kind::ExitsAtOnce | Kind::FailsHealth => "Reverted",
            Kind::FailsMigration | Kind::Missing => "Failed",
        };
        assert_eq!(entry["result"], expected, "{kind:?}: {entry}");
        if expected == "Healthy" {
            self.healthy = artifact;
        }
    }

    /// The agent goes on asking the store; the next edit takes over from there.
    fn name_what_is_not_there(&mut self) {
        self.number += 1;
        let artifact = format!("b3:{:064x}", u128::from(self.random.u64(..)));
        self.host.want(&[(APP, &artifact)]);
        let journal = self.host.app(APP).join("journal");
        wait::wait_for("the agent asks the store", LOOK_EVERY, LIMIT, || {
            std::fs::read_to_string(&journal).is_ok_and(|text| text.contains(&artifact)).then_some(())
        });
    }

    fn pack(&mut self, kind: Kind) -> String {
        self.number += 1;
        let source = self.host.dir.join("source");
        std::fs::remove_dir_all(&source).ok();
        std::fs::create_dir_all(source.join("app")).unwrap();
        for file in 0..FILES {
            let version = if file % 3 == 0 { self.number } else { 0 };
            std::fs::write(source.join(format!("app/{file}.txt")), format!("{file} of {version}\n")).unwrap();
        }
        std::fs::write(source.join("landfall.toml"), recipe(kind)).unwrap();
        self.host.pack(&source, &format!("0.0.{}", self.number))
    }

    fn check_the_end(mut self, table: &mut Table) {
        let record = self.host.app(APP).join("current/.landfall/release.json");
        let record = std::fs::read_to_string(record).unwrap();
        assert!(record.contains(&self.healthy), "`current` is not the last good release");
        let releases = self.host.app(APP).join("releases").canonicalize().unwrap();
        let current = self.host.app(APP).join("current").canonicalize().unwrap();
        let in_releases: Vec<_> = proc::belonging_to(&releases).into_iter().map(|(pid, _)| pid).collect();
        assert_eq!(in_releases.len(), 1, "processes in releases: {in_releases:?}");
        let cwd = std::fs::read_link(format!("/proc/{}/cwd", in_releases[0])).unwrap();
        assert_eq!(cwd, current, "the process works in another release");
        let used = proc::cpu_of_children(std::process::id());
        self.host.run(&["history", APP, "--verify"]);
        let used = proc::cpu_of_children(std::process::id()) - used;
        table.note("soak: the whole history read and checked, processor", short(used));
        let all = proc::belonging_to(&self.host.dir);
        let shims = all.iter().filter(|(_, command)| command.contains("shim")).count();
        table.goal(
            "soak: processes at the end",
            format!("{} (agent, app, {shims} of its supervisor)", all.len()),
            all.len() == 2 + shims,
            "no other",
        );
        self.host.stop_agent();
        assert!(
            Path::new(&format!("/proc/{}", in_releases[0])).exists(),
            "the app goes on without the agent"
        );
        self.host.end();
    }
}

/// Small pauses, so that time goes into deploys.
fn recipe(kind: Kind) -> String {
    let start = match kind {
        Kind::NoProgram => r#"["./not-there"]"#,
        Kind::ExitsAtOnce => r#"["false"]"#,
        _ => r#"["sleep", "1000000"]"#,
    };
    let health = if kind == Kind::FailsHealth { "false" } else { "true" };
    let migrate = if kind == Kind::FailsMigration { "false" } else { "true" };
    format!(
        r#"app = "{APP}"
version = "0"

[[layer]]
name = "app"
files = [{{ from = "app", to = "app" }}]

[[step]]
name = "prepare"
run = ["true"]

[[step]]
name = "migrate"
kind = "migrate"
run = ["{migrate}"]

[start]
run = {start}

[health]
run = ["{health}"]
attempts = 2
interval = "20ms"
successes = 1
settle = "20ms"
"#
    )
}
