//! The agent on real files and processes: the main job, without any process manager but landfall's own.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::path::Path;
use std::time::Duration;

use support::Host;
use support::port::Port;
use support::wait::wait_for;

fn source(dir: &Path, version: &str, port: u16, health: &str) {
    let landfall = env!("CARGO_BIN_EXE_landfall");
    std::fs::create_dir_all(dir.join("site")).unwrap();
    std::fs::write(dir.join("site/page.html"), format!("<h1>{version} in {{{{LANDFALL_ENV}}}}</h1>\n"))
        .unwrap();
    std::fs::write(dir.join("site/health"), health).unwrap();
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
attempts = 5
interval = "200ms"
settle = "300ms"
"#
    );
    std::fs::write(dir.join("landfall.toml"), recipe).unwrap();
}

#[test]
fn a_good_version_serves_a_bad_one_is_reverted_and_the_state_leads_back() {
    let port = Port::free();
    let mut host = Host::new("prod", "");
    let sources = tempfile::tempdir().unwrap();
    let mut artifacts = Vec::new();
    for (version, health) in [("1.0.0", "ok"), ("2.0.0", "ok"), ("3.0.0", "broken")] {
        let dir = sources.path().join(version);
        source(&dir, version, port.number, health);
        artifacts.push(host.pack_version(&dir, version));
    }
    let history = host.app("hello", "prod").join("history");
    let ended = |result: &str, times: usize| {
        wait_for(&format!("{times} × {result}"), Duration::from_secs(60), || {
            let text = std::fs::read_to_string(&history).unwrap_or_default();
            (text.matches(&format!("\"result\":\"{result}\"")).count() == times).then_some(())
        });
    };
    host.want("hello", &artifacts[0]);
    host.start_agent();
    let page = |text: &str| {
        wait_for(&format!("a page with {text}"), Duration::from_secs(60), || {
            support::http::get(port.number, "/").ok().filter(|answer| answer.body.contains(text))
        })
    };
    ended("Healthy", 1);
    page("1.0.0 in prod");
    host.want("hello", &artifacts[1]);
    ended("Healthy", 2);
    page("2.0.0 in prod");
    host.want("hello", &artifacts[2]);
    ended("Reverted", 1);
    page("2.0.0 in prod");
    assert!(host.current("hello", "prod").to_string_lossy().contains("2.0.0"));
    host.want("hello", &artifacts[0]);
    ended("Healthy", 3);
    page("1.0.0 in prod");
}

#[test]
fn a_newer_state_does_not_wait_behind_an_artifact_that_cannot_be_had() {
    let port = Port::free();
    let mut host = Host::new("prod", "");
    let dir = tempfile::tempdir().unwrap();
    source(dir.path(), "1.0.0", port.number, "ok");
    let good = host.pack_version(dir.path(), "1.0.0");
    host.want("hello", &format!("b3:{}", "0".repeat(64)));
    host.start_agent();
    wait_for("a failed try", Duration::from_secs(60), || {
        host.agent_log().contains("failed, tried again").then_some(())
    });
    host.want("hello", &good);
    let history = host.app("hello", "prod").join("history");
    wait_for("both entries", Duration::from_secs(60), || {
        let text = std::fs::read_to_string(&history).unwrap_or_default();
        (text.contains("\"result\":\"Superseded\"") && text.contains("\"result\":\"Healthy\"")).then_some(())
    });
}

/// Packs one version per page text and returns their ids.
fn versions(host: &Host, sources: &Path, port: u16, count: usize) -> Vec<String> {
    (1..=count)
        .map(|number| {
            let version = format!("{number}.0.0");
            let dir = sources.join(&version);
            source(&dir, &version, port, "ok");
            host.pack_version(&dir, &version)
        })
        .collect()
}

fn state_naming(artifact: &str) -> String {
    serde_json::json!({"apiVersion": "landfall/v1", "apps": {"hello": {"environments": {"prod": {"target": {"artifact": artifact}}}}}})
        .to_string()
}

#[test]
fn the_state_is_followed_however_an_editor_writes_it() {
    let port = Port::free();
    let mut host = Host::new("prod", "");
    let sources = tempfile::tempdir().unwrap();
    let ids = versions(&host, sources.path(), port.number, 5);
    let state = host.state();
    // Not even the directory is there when the agent starts.
    std::fs::remove_dir_all(state.parent().unwrap()).unwrap();
    host.start_agent();
    host.wait_for_agent();
    let attempts = |known: usize| {
        let entry = host.wait_for_attempt("hello", known, Duration::from_secs(60));
        assert_eq!(entry["result"], "Healthy", "{entry}");
    };

    std::fs::create_dir_all(state.parent().unwrap()).unwrap();
    std::fs::write(&state, state_naming(&ids[0])).unwrap();
    attempts(0);
    // In place: truncated, then written in two halves.
    let text = state_naming(&ids[1]);
    let mut file = std::fs::File::create(&state).unwrap();
    std::io::Write::write_all(&mut file, &text.as_bytes()[..20]).unwrap();
    file.sync_all().unwrap();
    std::io::Write::write_all(&mut file, &text.as_bytes()[20..]).unwrap();
    drop(file);
    attempts(1);
    // Renamed over.
    host.want("hello", &ids[2]);
    attempts(2);
    // Deleted and created.
    std::fs::remove_file(&state).unwrap();
    std::fs::write(&state, state_naming(&ids[3])).unwrap();
    attempts(3);
    // The old one moved aside first, as vim does with `backupcopy=no`.
    std::fs::rename(&state, state.with_extension("json~")).unwrap();
    std::fs::write(&state, state_naming(&ids[4])).unwrap();
    attempts(4);
    assert!(host.current("hello", "prod").to_string_lossy().contains("5.0.0"));
}

/// A small file system, unmounted when the test ends.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn at(path: std::path::PathBuf, size: &str) -> Self {
        std::fs::create_dir_all(&path).unwrap();
        let mut mount = std::process::Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(&path).status();
        assert!(mounted.unwrap().success(), "this test mounts a tmpfs: run it as root with CAP_SYS_ADMIN");
        Self(path)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the app's own working directory is in there until the host has ended it.
        let unmounted = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

/// A host whose root is a small disk. Dropped in this order: the host finds its processes by where they work,
/// which an unmounted disk does not tell any more.
struct OnSmallDisk {
    host: Host,
    _disk: SmallDisk,
}

impl OnSmallDisk {
    fn new(size: &str) -> Self {
        let host = Host::new("prod", "");
        let root = host.root();
        Self { host, _disk: SmallDisk::at(root, size) }
    }
}

#[test]
fn a_full_disk_leaves_the_running_release_alone_and_room_lets_the_new_one_in() {
    let port = Port::free();
    let place = OnSmallDisk::new("6m");
    let (host, root) = (&place.host, place.host.root());
    let store = host.dir.join("store");
    let store = store.to_string_lossy();
    let pack = |dir: &Path, version: &str| {
        let arguments =
            ["pack", &dir.to_string_lossy(), "--version", version, "--no-build", "--store", &store];
        let said = host.run(&arguments);
        said.expect_code(0);
        said.out.trim().to_owned()
    };
    let sources = tempfile::tempdir().unwrap();
    let small = sources.path().join("small");
    source(&small, "1.0.0", port.number, "ok");
    let first = pack(&small, "1.0.0");
    let large = sources.path().join("large");
    source(&large, "2.0.0", port.number, "ok");
    let noise: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(5 << 20).collect();
    std::fs::write(large.join("site/noise.bin"), noise).unwrap();
    let second = pack(&large, "2.0.0");
    let once = || host.run(&["watch", "--once", "--store", &store]);

    host.want("hello", &first);
    once().expect_code(0);
    let before = host.current("hello", "prod");
    let serving = host.serving("hello", "prod");
    host.want("hello", &second);
    let said = once();
    said.expect_code(6);
    assert_eq!(host.current("hello", "prod"), before, "`current` moved on a full disk");
    assert_eq!(host.serving("hello", "prod"), serving, "the app was touched");
    let failed = host.attempts("hello").pop().unwrap();
    assert_eq!(failed["failure"]["reason"], "InsufficientSpace", "{failed}");

    let grown = std::process::Command::new("mount").args(["-o", "remount,size=64m"]).arg(&root).status();
    assert!(grown.unwrap().success());
    once().expect_code(0);
    assert!(host.current("hello", "prod").to_string_lossy().contains("2.0.0"));
}
