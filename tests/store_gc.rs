//! `landfall store gc` and `store verify` as people and timers run them: what the state names stays, pushes and
//! collections run side by side in processes of their own, and a kill at any moment costs nothing.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use support::{Host, Source};

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files_below(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

fn store(host: &Host) -> PathBuf {
    host.root().join("store")
}

/// Makes everything in the store half a year older.
fn age(host: &Host) {
    for path in files_below(&store(host)) {
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        let modified = file.metadata().unwrap().modified().unwrap();
        file.set_modified(modified - Duration::from_secs(180 * 24 * 3600)).unwrap();
    }
}

/// Commits an hour ago: a window of no time at all ends at this second, which has its commits in it.
fn git(host: &Host, arguments: &[&str]) {
    let hour_ago = SystemTime::now() - Duration::from_secs(3600);
    let date = format!("@{} +0000", hour_ago.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs());
    let mut command = host.program("git");
    command.env("GIT_COMMITTER_DATE", &date).env("GIT_AUTHOR_DATE", &date);
    let status = command.args(arguments).current_dir(host.dir.join("state")).status().unwrap();
    assert!(status.success(), "git {arguments:?}");
}

fn commit(host: &Host, artifact: &str) {
    host.want("web", artifact);
    git(host, &["commit", "--quiet", "--all", "-m", "Deploy"]);
}

/// Objects with this fate, as `store gc -o json` tells it.
fn count(host: &Host, arguments: &[&str], fate: &str) -> usize {
    let told = host.json(&[&["store", "gc"], arguments].concat());
    told["items"].as_array().unwrap().iter().filter(|item| item["fate"] == fate).count()
}

fn has(host: &Host, artifact: &str) -> bool {
    host.run(&["store", "verify", "--artifact", artifact]).code == Some(0)
}

#[test]
fn what_the_state_named_within_the_window_stays_on_every_branch_and_the_rest_goes_in_two_runs() {
    let host = Host::new("prod", "");
    let ids: Vec<String> = (1..=4)
        .map(|n| host.pack_version(Source::sleeper(&n.to_string()).path(), &format!("1.{n}")))
        .collect();
    // The first was asked for, then the second on a branch of its own, then the third, which is in force. The
    // fourth nobody asked for, but it is the newest version.
    commit(&host, &ids[0]);
    git(&host, &["checkout", "--quiet", "-b", "trial"]);
    commit(&host, &ids[1]);
    git(&host, &["checkout", "--quiet", "-"]);
    commit(&host, &ids[2]);
    age(&host);
    let only_newest = ["--keep-versions", "1"];
    let plan = host.run(&[&["store", "gc", "--dry-run"], &only_newest[..]].concat());
    plan.expect_code(0);
    assert!(plan.out.contains("would condemn: nothing"), "{}", plan.out);

    // Out of the window, what is in force on a branch stays, and the first is in no branch's tip.
    let long_ago = ["--keep-versions", "1", "--keep", "0s"];
    let before = files_below(&store(&host));
    assert!(count(&host, &[&["--dry-run"], &long_ago[..]].concat(), "Condemn") >= 5);
    assert_eq!(files_below(&store(&host)), before, "a dry run changes nothing");
    let condemned = count(&host, &long_ago, "Condemn");
    assert!(condemned >= 5, "{condemned}");
    assert!(ids.iter().all(|id| has(&host, id)), "nothing is removed in the run that condemned it");
    assert_eq!(count(&host, &long_ago, "Remove"), 0, "nor before the grace is over");
    age(&host);
    assert_eq!(count(&host, &long_ago, "Remove"), condemned);
    assert!(!has(&host, &ids[0]));
    assert!(ids[1..].iter().all(|id| has(&host, id)));
    let left = files_below(&store(&host).join("gc"));
    assert!(left.is_empty(), "{left:?}");
    host.run(&["store", "verify"]).expect_code(0);
}

#[test]
fn without_the_whole_history_of_the_state_nothing_is_collected() {
    let host = Host::new("prod", "");
    let id = host.pack_version(Source::sleeper("1").path(), "1.0");
    host.pack_version(Source::sleeper("2").path(), "2.0");
    commit(&host, &id);
    age(&host);
    let before = files_below(&store(&host));
    let clone = host.dir.join("clone");
    let url = format!("file://{}", host.dir.join("state").display());
    let status =
        host.program("git").args(["clone", "--quiet", "--depth=1", &url]).arg(&clone).status().unwrap();
    assert!(status.success());
    for (state, code, word) in [
        (clone, 5, "shallow"),
        (host.dir.join("nowhere"), 2, "no state file"),
        (host.dir.join("nowhere/deploy-state.json"), 2, "no state file"),
    ] {
        let said = host.run(&["store", "gc", "--also-state", state.to_str().unwrap(), "--keep", "0s"]);
        assert_eq!(said.code, Some(code), "{}", said.err);
        assert!(said.err.contains(word), "{}", said.err);
    }
    assert_eq!(files_below(&store(&host)), before);
    // Whoever has no state says so.
    assert!(count(&host, &["--no-state", "--keep-versions", "1", "--keep", "0s"], "Condemn") > 0);
}

#[test]
fn a_damaged_store_says_who_needs_what_and_is_healed_by_a_pack() {
    let host = Host::new("prod", "");
    let source = Source::sleeper("1");
    let id = host.pack_version(source.path(), "1.0");
    host.run(&["store", "verify"]).expect_code(0);
    let pack =
        files_below(&store(&host).join("packs")).into_iter().find(|path| path.extension().unwrap() == "lfp");
    let pack = pack.unwrap();
    let mut bytes = std::fs::read(&pack).unwrap();
    bytes[10] ^= 1;
    std::fs::write(&pack, bytes).unwrap();
    let said = host.run(&["store", "verify"]);
    said.expect_code(6);
    assert!(said.out.contains("damaged pack") && said.out.contains("needed by web 1.0"), "{}", said.out);
    host.run(&["store", "verify", "--repair"]).expect_code(6);
    assert_eq!(host.pack_version(source.path(), "1.0"), id);
    host.run(&["store", "verify"]).expect_code(0);
}

/// What each pusher of the next test has pushed.
struct Pusher {
    source: Source,
    app: String,
}

impl Pusher {
    fn new(n: u32) -> Self {
        let recipe = format!(
            "app = \"app{n}\"\nversion = \"1\"\n\n[[layer]]\nname = \"app\"\nfiles = [{{ from = \"app\", to = \"app\" }}]\n"
        );
        Self { source: Source::new(&recipe), app: format!("app{n}") }
    }

    /// A few files, of which every pusher has the same, and which come back in later rounds.
    fn write(&self, round: u32) {
        let dir = self.source.path().join("app");
        std::fs::create_dir_all(&dir).unwrap();
        for file in 0..4 {
            let content = format!("shared {}\n", (round / 2 + file) % 5).repeat(100);
            std::fs::write(dir.join(format!("f{file}")), content).unwrap();
        }
        std::fs::write(dir.join("own"), format!("{} {}", self.app, round % 3)).unwrap();
    }
}

/// Seconds that pushers and the collector run side by side.
const SIDE_BY_SIDE: Duration = Duration::from_secs(10);

#[test]
fn eight_pushers_and_a_collector_side_by_side_lose_nothing() {
    let host = Host::new("prod", "");
    let (pushes, runs, removals) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
    let over = AtomicBool::new(false);
    let path = store(&host);
    let store = path.to_str().unwrap();
    let state = host.state();
    let program = env!("CARGO_BIN_EXE_landfall");
    let landfall = |arguments: &[&str], root: &Path| {
        let mut command = std::process::Command::new(program);
        command.arg("--root").arg(root).args(["--store", store]).arg("--state").arg(&state).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    // The store exists before anybody collects it.
    let first = Pusher::new(99);
    first.write(0);
    let root = host.dir.join("root99");
    let made =
        landfall(&["pack", "--no-build", first.source.path().to_str().unwrap()], &root).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let dir = host.dir.clone();
    let end = Instant::now() + SIDE_BY_SIDE;
    let newest = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for n in 0..8 {
            let (landfall, newest, pushes, dir) = (&landfall, &newest, &pushes, &dir);
            scope.spawn(move || {
                let pusher = Pusher::new(n);
                let root = dir.join(format!("root{n}"));
                let mut last = None;
                let mut round = 0;
                while Instant::now() < end || round < 3 {
                    round += 1;
                    pusher.write(round);
                    let version = format!("1.{round}");
                    let source = pusher.source.path().to_str().unwrap().to_owned();
                    let mut command =
                        landfall(&["pack", "--no-build", "--version", &version, &source], &root);
                    let done = command.output().unwrap();
                    let words = String::from_utf8_lossy(&done.stderr);
                    assert!(done.status.success(), "{words}");
                    pushes.fetch_add(1, Ordering::Relaxed);
                    last = Some(String::from_utf8(done.stdout).unwrap().trim().to_owned());
                    // Moments without any lease are what the collector waits for.
                    std::thread::sleep(Duration::from_millis(u64::from(n * 311 + round * 577) % 2500));
                }
                newest.lock().unwrap().extend(last);
            });
        }
        let (landfall, runs, removals, over, dir) = (&landfall, &runs, &removals, &over, &dir);
        let collector = scope.spawn(move || {
            let root = dir.join("collector");
            while !over.load(Ordering::Relaxed) {
                // No grace at all: only leases stand between a push and a sweep.
                let arguments =
                    ["store", "gc", "--grace", "0s", "--keep", "0s", "--keep-versions", "1", "-o", "json"];
                let done = landfall(&arguments, &root).output().unwrap();
                let words = String::from_utf8_lossy(&done.stdout);
                assert!(done.status.success(), "{words} {}", String::from_utf8_lossy(&done.stderr));
                runs.fetch_add(1, Ordering::Relaxed);
                removals.fetch_add(
                    u32::from(words.contains("\"fate\": \"Remove\"") && words.contains("\"done\": true")),
                    Ordering::Relaxed,
                );
            }
        });
        scope.spawn(move || {
            while Instant::now() < end + Duration::from_secs(1) {
                std::thread::sleep(Duration::from_millis(100));
            }
            over.store(true, Ordering::Relaxed);
        });
        collector.join().unwrap();
    });
    println!(
        "{} pushes, {} runs of the collection, {} of them removed something",
        pushes.load(Ordering::Relaxed),
        runs.load(Ordering::Relaxed),
        removals.load(Ordering::Relaxed)
    );
    let said = host.run(&["store", "verify"]);
    said.expect_code(0);
    let newest = newest.into_inner().unwrap();
    assert_eq!(newest.len(), 8);
    for id in &newest {
        assert!(has(&host, id), "{id}");
    }
    for _ in 0..3 {
        host.run(&["store", "gc", "--grace", "0s", "--keep", "0s", "--keep-versions", "1"]).expect_code(0);
    }
    let left = files_below(&path.join("artifacts"));
    assert_eq!(left.len(), 9, "the newest of each app: {left:?}");
    for id in &newest {
        assert!(has(&host, id), "{id}");
    }
    host.run(&["store", "verify"]).expect_code(0);
}

/// Kills of each of the two: enough to meet every part of a run of some tens of milliseconds.
const KILLS: u32 = 25;

#[test]
fn a_push_and_a_collection_killed_at_any_moment_leave_a_store_that_the_next_ones_complete() {
    let host = Host::new("prod", "");
    let kept = host.pack_version(Source::sleeper("kept").path(), "1.0");
    commit(&host, &kept);
    let gc = ["store", "gc", "--grace", "0s", "--keep", "0s", "--keep-versions", "1"];
    let begun = Instant::now();
    host.pack_version(Source::sleeper("measured").path(), "1.1");
    host.run(&gc).expect_code(0);
    let span = begun.elapsed();
    for n in 0..KILLS {
        let source = Source::sleeper(&format!("version {n}"));
        let version = format!("2.{n}");
        let pack = ["pack", "--no-build", "--version", &version, source.path().to_str().unwrap()];
        for command in [&pack[..], &gc[..]] {
            let mut child =
                host.landfall(command).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(span * n / KILLS);
            // It may be done already.
            child.kill().unwrap();
            child.wait().unwrap();
        }
        // The notes of the dead end by themselves; the test does not wait for that.
        for path in files_below(&store(&host))
            .iter()
            .filter(|path| path.starts_with(store(&host).join("leases")) || path.ends_with("sweeping.json"))
        {
            let file = std::fs::File::options().write(true).open(path).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(7200)).unwrap();
        }
        let id = host.pack_version(source.path(), &version);
        assert!(has(&host, &kept) && has(&host, &id), "kill {n}");
    }
    for _ in 0..3 {
        host.run(&gc).expect_code(0);
    }
    host.run(&["store", "verify"]).expect_code(0);
    // Unfinished files are no part of the store; the next push removes them when they are an hour old.
    let unfinished = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(".new-");
    for path in files_below(&store(&host)).iter().filter(|path| unfinished(path)) {
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(7200)).unwrap();
    }
    let newest = format!("2.{}", KILLS - 1);
    host.pack_version(Source::sleeper(&format!("version {}", KILLS - 1)).path(), &newest);
    let left = ["artifacts", "gc", "leases"].map(|part| files_below(&store(&host).join(part)));
    assert_eq!(left[0].len(), 2, "the one in the state, the newest: {left:?}");
    assert_eq!(left[1..].concat(), Vec::<PathBuf>::new());
    host.run(&["store", "verify"]).expect_code(0);
}
