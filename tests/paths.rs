//! Paths with a life of their own: shared, writable, kept, logs. Real files, real processes, hostile links.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use support::{Host, Source, wait};

const LIMIT: Duration = Duration::from_secs(60);

/// A host whose app runs as somebody else than landfall, where the test may do that.
fn host() -> Host {
    if !rustix::process::geteuid().is_root() {
        return Host::new("prod", "");
    }
    let host = Host::new("prod", "[apps.web]\nuser = \"nobody\"\n");
    fs::set_permissions(&host.dir, fs::Permissions::from_mode(0o711)).unwrap();
    host
}

/// The account the app runs as.
fn app_uid() -> u32 {
    let own = rustix::process::geteuid().as_raw();
    if own == 0 { fs::metadata("/").map_or(own, |_| nobody()) } else { own }
}

fn nobody() -> u32 {
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let line = passwd.lines().find(|line| line.starts_with("nobody:")).unwrap();
    line.split(':').nth(2).unwrap().parse().unwrap()
}

/// A server that first runs a line of shell.
fn app(paths: &str, line: &str) -> Source {
    let recipe = format!(
        r#"app = "web"
version = "1"

[[layer]]
name = "app"
files = [{{ from = "app", to = "app" }}]

[paths]
{paths}

[start]
manager = "direct"
shell = '{line}; exec sleep 100000'
stop = {{ signal = "SIGTERM", grace = "1s" }}

[health]
run = ["test", "-e", "app/version.txt"]
attempts = 50
interval = "100ms"
successes = 1
settle = "200ms"
"#
    );
    Source::new(&recipe).with("app/version.txt", line.as_bytes())
}

fn dir(host: &Host) -> PathBuf {
    host.app("web", "prod")
}

#[track_caller]
fn text(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    wait::wait_for(&format!("{} is written", path.display()), LIMIT, || fs::read_to_string(path).ok())
}

#[track_caller]
fn assert_whole(host: &Host) {
    host.run(&["verify", "--deep"]).expect_code(0);
}

#[test]
fn shared_paths_outlive_releases_belong_to_the_app_and_are_no_drift() {
    let host = host();
    let paths = "shared = [\"public/uploads\"]\nshared_files = [\"data/app.db\"]";
    host.deploy_once(&app(paths, "echo one >> public/uploads/log; echo row >> data/app.db")).expect_code(0);
    let shared = dir(&host).join("shared");
    assert_eq!(text(shared.join("public/uploads/log")), "one\n");
    host.deploy_once(&app(paths, "echo two >> public/uploads/log; echo row >> data/app.db")).expect_code(0);
    wait::wait_until("the second release wrote", LIMIT, || text(shared.join("data/app.db")) == "row\nrow\n");
    assert_eq!(text(shared.join("public/uploads/log")), "one\ntwo\n");
    for path in ["public/uploads", "data/app.db"] {
        assert_eq!(fs::metadata(shared.join(path)).unwrap().uid(), app_uid(), "{path}");
    }
    assert_eq!(fs::metadata(shared.join("data/app.db")).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(shared.join("public")).unwrap().uid(), rustix::process::geteuid().as_raw());
    assert_whole(&host);
}

#[test]
fn a_shared_directory_that_an_older_tool_left_is_used_as_it_is() {
    let host = host();
    let shared = dir(&host).join("shared");
    fs::create_dir_all(shared.join("uploads")).unwrap();
    fs::write(shared.join("uploads/old.png"), "picture").unwrap();
    fs::write(shared.join("settings.json"), "{}").unwrap();
    let elsewhere = host.dir.join("volume");
    fs::create_dir(&elsewhere).unwrap();
    symlink(&elsewhere, shared.join("media")).unwrap();
    let paths = "shared = [\"uploads\", \"settings.json\", \"media\"]";
    host.deploy_once(&app(paths, "true")).expect_code(0);
    let current = host.current("web", "prod");
    assert_eq!(text(current.join("uploads/old.png")), "picture");
    assert_eq!(text(current.join("settings.json")), "{}");
    assert_eq!(current.join("media").canonicalize().unwrap(), elsewhere);
    assert_whole(&host);
}

#[test]
fn a_link_that_the_app_planted_in_shared_is_not_followed_and_what_runs_goes_on() {
    let host = host();
    if app_uid() == rustix::process::geteuid().as_raw() {
        return; // Who runs as landfall itself needs no link.
    }
    let secret = host.dir.join("secret");
    fs::create_dir(&secret).unwrap();
    let plant = format!("ln -s {} data/cache", secret.display());
    host.deploy_once(&app("shared = [\"data\"]", &plant)).expect_code(0);
    let planted = dir(&host).join("shared/data/cache");
    wait::wait_until("the app has planted its link", LIMIT, || planted.is_symlink());
    let serving = host.serving("web", "prod");
    for inner in ["data/cache", "data/cache/in"] {
        let next = app(&format!("shared = [\"{inner}\"]"), "true");
        assert_ne!(host.deploy_once(&next).code, Some(0));
        let last = host.attempts("web").pop().unwrap();
        let message = last["failure"]["message"].as_str().unwrap();
        assert!(message.contains("shared/data/cache"), "{message}");
    }
    assert_eq!(fs::metadata(&secret).unwrap().uid(), rustix::process::geteuid().as_raw());
    assert_eq!(fs::read_dir(&secret).unwrap().count(), 0);
    assert_eq!(host.serving("web", "prod"), serving);
}

#[test]
fn a_step_that_puts_something_else_in_the_place_of_a_shared_path_fails() {
    let host = host();
    let recipe =
        "shared = [\"uploads\"]\n\n[[step]]\nname = \"swap\"\nshell = \"rm uploads && mkdir uploads\"";
    host.deploy_once(&app(recipe, "true")).expect_code(7);
    let last = host.attempts("web").pop().unwrap();
    assert!(last["failure"]["message"].as_str().unwrap().contains("`uploads`"), "{last:#}");
}

#[test]
fn writable_paths_are_private_and_fresh_and_a_link_in_them_is_not_followed_at_removal() {
    let host = host();
    let victim = host.dir.join("victim");
    fs::create_dir(&victim).unwrap();
    fs::write(victim.join("kept"), "kept").unwrap();
    let line = format!(
        "echo more >> app/cache/seed; ln -s {} app/cache/out; echo done > app/new/mark",
        victim.display()
    );
    let paths = "writable = [\"app/cache\", \"app/new\"]\n\n[retain]\nreleases = 1";
    let source = |line: &str| app(paths, line).with("app/cache/seed", b"packed\n");
    host.deploy_once(&source(&line)).expect_code(0);
    let first = host.current("web", "prod");
    assert_eq!(text(first.join("app/new/mark")), "done\n");
    assert_eq!(text(first.join("app/cache/seed")), "packed\nmore\n");
    assert_whole(&host);
    // The app's own line went into a copy: a second release of the same content is as packed.
    host.deploy_once(&source("true")).expect_code(0);
    let second = host.current("web", "prod");
    assert_eq!(text(second.join("app/cache/seed")), "packed\n");
    assert!(!second.join("app/cache/out").exists() && !second.join("app/new/mark").exists());
    wait::wait_until("the first release is removed", LIMIT, || !first.exists());
    assert_eq!(text(victim.join("kept")), "kept");
    assert_whole(&host);
}

#[test]
fn logs_that_the_app_writes_itself_live_outside_and_are_shown() {
    let host = host();
    let paths = "logs = \"log\"";
    host.deploy_once(&app(paths, "echo first >> log/app.log")).expect_code(0);
    host.deploy_once(&app(paths, "echo second >> log/app.log")).expect_code(0);
    let log = dir(&host).join("logs/files/app.log");
    wait::wait_until("both releases wrote", LIMIT, || text(&log) == "first\nsecond\n");
    assert_eq!(fs::metadata(log.parent().unwrap()).unwrap().uid(), app_uid());
    let shown = host.json(&["logs", "web"]);
    let named: Vec<&str> =
        shown["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect();
    assert!(named.contains(&"files/app"), "{named:?}");
    assert_whole(&host);
}

/// Files only, one of them named by its content as bundlers do.
fn site(version: &str, more: &str) -> Source {
    let recipe = format!(
        "app = \"web\"\nversion = \"1\"\n\n[[layer]]\nname = \"site\"\nfiles = [{{ from = \"dist\", to = \"dist\" }}]\n\n\
         [paths]\nkeep = [\"dist\"]\n\n[retain]\nreleases = 2\n{more}"
    );
    Source::new(&recipe)
        .with("dist/index.html", format!("page {version}").as_bytes())
        .with(&format!("dist/assets/app.{version}.js"), version.as_bytes())
}

#[test]
fn files_of_earlier_healthy_releases_stay_reachable_the_newest_wins_and_old_ones_go_with_their_release() {
    let host = host();
    let assets = dir(&host).join("assets");
    host.deploy_once(&site("1", "")).expect_code(0);
    assert_eq!(text(assets.join("dist/index.html")), "page 1");
    host.deploy_once(&site("2", "")).expect_code(0);
    assert_eq!(text(assets.join("dist/index.html")), "page 2");
    assert_eq!(text(assets.join("dist/assets/app.1.js")), "1");
    // What never proved healthy is never reachable.
    host.deploy_once(&site("bad", "\n[health]\nrun = [\"false\"]\nattempts = 1\ninterval = \"100ms\"\n"))
        .expect_code(8);
    assert!(!assets.join("dist/assets/app.bad.js").exists());
    host.deploy_once(&site("3", "")).expect_code(0);
    assert_eq!(text(assets.join("dist/index.html")), "page 3");
    assert_eq!(text(assets.join("dist/assets/app.2.js")), "2");
    assert!(!assets.join("dist/assets/app.1.js").exists(), "its release is not retained");
    // A killed agent may have committed without it: the next tick makes it.
    fs::remove_file(&assets).unwrap();
    fs::remove_file(dir(&host).join("tidied")).unwrap();
    host.run(&["watch", "--once"]).expect_code(0);
    assert_eq!(text(assets.join("dist/assets/app.2.js")), "2");
    // Going back is a newer decision.
    host.deploy_once(&site("2", "")).expect_code(0);
    assert_eq!(text(assets.join("dist/index.html")), "page 2");
    let unions = fs::read_dir(dir(&host).join(".assets")).unwrap().count();
    assert_eq!(unions, 1, "older unions are removed");
}

#[test]
fn what_a_step_made_is_kept_too_and_nothing_is_kept_any_more_when_the_recipe_says_so() {
    let host = host();
    let step = "\n[[step]]\nname = \"render\"\nshell = \"echo made > dist/made.$LANDFALL_RELEASE.css\"\nwrites = [\"dist\"]\n";
    host.deploy_once(&site("1", step)).expect_code(0);
    let made: PathBuf = fs::read_dir(host.current("web", "prod").join("dist"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|end| end == "css"))
        .unwrap();
    host.deploy_once(&site("2", step)).expect_code(0);
    let assets = dir(&host).join("assets");
    assert_eq!(text(assets.join("dist").join(made.file_name().unwrap())), "made\n");
    // Nobody who changes a file there changes one of a release.
    assert_whole(&host);
    host.deploy_once(&app("", "true")).expect_code(0);
    assert!(fs::symlink_metadata(&assets).is_err() && !assets.exists());
}

#[test]
fn readers_of_kept_files_never_see_a_gap() {
    let host = host();
    host.deploy_once(&site("0", "")).expect_code(0);
    let (stop, index) = (AtomicBool::new(false), dir(&host).join("assets/dist/index.html"));
    let reads = std::thread::scope(|scope| {
        let read = || {
            let mut reads = 0_u32;
            while !stop.load(Ordering::Relaxed) {
                let page = fs::read_to_string(&index).expect("the page is there at every instant");
                assert!(page.starts_with("page "), "{page}");
                reads += 1;
            }
            reads
        };
        let readers = [scope.spawn(read), scope.spawn(read)];
        for version in 1..4 {
            host.deploy_once(&site(&version.to_string(), "")).expect_code(0);
        }
        stop.store(true, Ordering::Relaxed);
        readers.into_iter().map(|reader| reader.join().unwrap()).sum::<u32>()
    });
    assert!(reads > 100, "only {reads} reads");
}
