//! Records age: those of the first format are read by every later landfall, and those of a newer one are refused
//! by name and left as they are, with what runs.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::path::{Path, PathBuf};

use landfall::disk::RealDisk;
use landfall::layout::{AppDir, Root};
use landfall::record::history::{History, Outcome};
use landfall::record::journal::{Journal, Stage};
use landfall::record::quarantine::Quarantine;
use landfall_store::Digest;
use serde_json::Value;
use support::port::Port;
use support::{Host, http};

/// The root of a host as the first landfall left it: one healthy release, one reverted, one on trial when the
/// agent was killed.
fn first_format() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/records-v1")
}

/// A host whose root is a copy of that.
fn host_of_the_first_format() -> Host {
    let host = Host::new("prod", "");
    support::tools::copy(&first_format(), &host.root());
    let app = host.app("hello", "prod");
    std::os::unix::fs::symlink("releases/3.0.0-682c6fd5931f", app.join("current")).unwrap();
    host
}

fn app_dir(host: &Host) -> AppDir {
    Root::new(&host.root()).unwrap().app(&"hello".parse().unwrap(), &"prod".parse().unwrap(), None)
}

#[test]
fn records_of_the_first_format_are_read() {
    let host = host_of_the_first_format();
    let dir = app_dir(&host);
    let history = History::read(&RealDisk, &dir).unwrap();
    let results: Vec<Outcome> = history.entries().iter().map(|entry| entry.result).collect();
    assert_eq!(results, [Outcome::Healthy, Outcome::Reverted]);
    assert_eq!(history.healthy()[0].name, "1.0.0-1b987f17d5a4");
    let journal = Journal::read(&RealDisk, &dir).unwrap().expect("an attempt was cut short");
    assert_eq!((journal.attempt, journal.stage), (3, Stage::Verifying));
    let quarantine = Quarantine::read(&RealDisk, &dir).unwrap();
    assert_eq!(quarantine.items[0].attempt, 2);
    // The rest is private to commands: they must take it as it is.
    let status = &host.json(&["status"])["items"][0];
    assert_eq!(status["app"], "hello", "{status}");
    host.run(&["history", "hello", "--verify"]).expect_code(0);
    let releases = host.json(&["ls", "--releases"]);
    assert_eq!(releases["items"].as_array().unwrap().len(), 3, "{releases}");
    host.run(&["describe", "hello"]).expect_code(0);
}

/// The same record as a landfall of the next format would have written it.
fn of_the_next_format(text: &str) -> String {
    let (_, body) = text.split_once(' ').unwrap();
    let (head, json) = body.split_once('\n').unwrap();
    let head = head.strip_suffix(" 1").expect("a record of format 1");
    let body = format!("{head} 2\n{json}");
    format!("{} {body}", Digest::derived("landfall 2026-11-20 sealed record v1", body.as_bytes()))
}

struct Serving {
    host: Host,
    port: Port,
    next: String,
}

impl Serving {
    /// A host with a healthy app, and a state that names its next version.
    fn new() -> Self {
        let host = Host::new("prod", "");
        let port = Port::free();
        let sources = tempfile::tempdir().unwrap();
        let mut ids = Vec::new();
        for version in ["1.0.0", "2.0.0"] {
            let dir = sources.path().join(version);
            source(&dir, version, port.number);
            ids.push(host.pack_version(&dir, version));
        }
        host.want("hello", &ids[0]);
        host.run(&["watch", "--once"]).expect_code(0);
        let next = ids.remove(1);
        Self { host, port, next }
    }

    fn pids(&self) -> Vec<u32> {
        self.host.serving("hello", "prod").iter().map(|process| process.pid).collect()
    }
}

fn source(dir: &Path, version: &str, port: u16) {
    std::fs::create_dir_all(dir.join("site")).unwrap();
    std::fs::write(dir.join("site/page.html"), format!("<h1>{version}</h1>\n")).unwrap();
    std::fs::write(dir.join("site/health"), "ok").unwrap();
    let landfall = env!("CARGO_BIN_EXE_landfall");
    let recipe = format!(
        r#"
app = "hello"
version = "{version}"
[[layer]]
name = "site"
files = [{{ from = "site", to = "" }}]
[start]
run = ["{landfall}", "hello-server", "{port}"]
stop = {{ signal = "SIGTERM", grace = "2s" }}
manager = "direct"
[health]
http = "http://127.0.0.1:{port}/health"
body_contains = '"status":"ok"'
attempts = 60
interval = "200ms"
settle = "300ms"
"#
    );
    std::fs::write(dir.join("landfall.toml"), recipe).unwrap();
}

/// Refused by name, nothing rewritten, the app untouched; and as it was once the older record is back.
fn is_refused_and_left_alone(serving: &Serving, record: &Path) {
    let before = std::fs::read_to_string(record).unwrap();
    let newer = of_the_next_format(&before);
    std::fs::write(record, &newer).unwrap();
    let pids = serving.pids();
    let current = serving.host.current("hello", "prod");
    serving.host.want("hello", &serving.next);

    let said = serving.host.run(&["watch", "--once"]);
    assert_ne!(said.code, Some(0), "{}: {said:?}", record.display());
    assert!(said.err.contains(&*record.to_string_lossy()), "{}: {}", record.display(), said.err);
    assert!(said.err.contains("a newer landfall"), "{}: {}", record.display(), said.err);
    assert_eq!(std::fs::read_to_string(record).unwrap(), newer, "{} was rewritten", record.display());
    assert_eq!(serving.pids(), pids, "{}: the app was touched", record.display());
    assert_eq!(serving.host.current("hello", "prod"), current);
    assert!(http::get(serving.port.number, "/").unwrap().body.contains("<h1>"));

    std::fs::write(record, before).unwrap();
}

#[test]
fn a_record_of_a_newer_landfall_is_refused_by_name_and_left_alone_with_what_runs() {
    let serving = Serving::new();
    let app = serving.host.app("hello", "prod");
    let journal = app.join("journal");
    std::fs::copy(first_format().join("apps/hello/prod/journal"), &journal).unwrap();
    is_refused_and_left_alone(&serving, &journal);
    std::fs::remove_file(&journal).unwrap();
    for name in ["history.head", "quarantine", "controls"] {
        let record = app.join(name);
        if !record.exists() {
            let fixture = first_format().join("apps/hello/prod").join(name);
            std::fs::copy(fixture, &record).unwrap();
            is_refused_and_left_alone(&serving, &record);
            std::fs::remove_file(&record).unwrap();
        } else {
            is_refused_and_left_alone(&serving, &record);
        }
    }
    // And with every record readable the next version comes.
    serving.host.run(&["watch", "--once"]).expect_code(0);
    assert!(http::get(serving.port.number, "/").unwrap().body.contains("2.0.0"));
}

#[test]
fn an_agent_upgraded_over_its_release_records_restarts_nothing() {
    let serving = Serving::new();
    let record = serving.host.current("hello", "prod").join(".landfall/release.json");
    let text = std::fs::read_to_string(&record).unwrap();
    let (_, body) = text.split_once(' ').unwrap();
    let (head, json) = body.split_once('\n').unwrap();
    let mut document: Value = serde_json::from_str(json).unwrap();
    assert_eq!(document["landfall"], env!("CARGO_PKG_VERSION"));
    document["landfall"] = "0.0.1".into();
    let body = format!("{head}\n{document}\n");
    let seal = Digest::derived("landfall 2026-11-20 sealed record v1", body.as_bytes());
    std::fs::write(&record, format!("{seal} {body}")).unwrap();
    let pids = serving.pids();
    serving.host.run(&["watch", "--once"]).expect_code(0);
    assert_eq!(serving.pids(), pids, "a release of an older landfall was started again");
    assert_eq!(serving.host.attempts("hello").len(), 1, "it was taken for another release");
}
