//! The host's cache under collection: what anything needs stays, the rest goes, and the agent does it by itself.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use support::{Host, Source};

/// A version with a content of its own, and how many healthy ones stay.
fn version(content: &str, retain: u32) -> Source {
    Source::sleeper_and(&format!("[retain]\nreleases = {retain}\n"))
        .with("app/version.txt", content.repeat(1_000).as_bytes())
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files_below(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// Everything that a collection may remove.
fn cached(host: &Host) -> Vec<PathBuf> {
    ["objects", "trees", "artifacts"].iter().flat_map(|part| files_below(&host.root().join(part))).collect()
}

#[test]
fn what_releases_need_stays_whole_and_what_nothing_needs_goes_and_can_be_had_again() {
    let host = Host::new("prod", "");
    let first = host.pack_next(version("1", 1).path());
    host.want("web", &first);
    host.run(&["watch", "--once"]).expect_code(0);
    for content in ["2", "3"] {
        host.deploy_once(&version(content, 1)).expect_code(0);
    }
    let before = cached(&host);
    let told = host.json(&["gc", "--dry-run", "--max-bytes", "0B"]);
    let told = &told["items"][0];
    assert_eq!((&told["contents"], &told["content_bytes"]), (&2.into(), &2_000.into()), "{told:#}");
    assert_eq!(cached(&host), before, "a dry run removes nothing");
    let done = host.json(&["gc", "--max-bytes", "0B"]);
    assert_eq!(done["items"][0]["content_bytes"], 2_000);
    assert_eq!(done["items"][0]["removed"], true);
    assert!(cached(&host).len() < before.len());
    assert_eq!(files_below(&host.root().join("objects")).len(), 1);
    host.run(&["verify", "--deep"]).expect_code(0);
    // Again there is nothing to do.
    let again = host.json(&["gc", "--max-bytes", "0B"]);
    assert_eq!((&again["items"][0]["contents"], &again["items"][0]["documents"]), (&0.into(), &0.into()));
    // What went is fetched again where it is wanted.
    host.want("web", &first);
    host.run(&["watch", "--once"]).expect_code(0);
    host.run(&["verify", "--deep"]).expect_code(0);
}

#[test]
fn a_damaged_file_of_any_release_on_disk_can_be_mended_after_a_collection() {
    let host = Host::new("prod", "");
    for content in ["1", "2"] {
        host.deploy_once(&version(content, 5)).expect_code(0);
    }
    host.run(&["gc", "--max-bytes", "0B"]).expect_code(0);
    for release in fs::read_dir(host.app("web", "prod").join("releases")).unwrap() {
        let file = release.unwrap().path().join("app/version.txt");
        fs::remove_file(&file).unwrap();
    }
    host.run(&["verify", "--repair"]).expect_code(0);
    host.run(&["verify", "--deep"]).expect_code(0);
}

#[test]
fn p10_a_record_that_cannot_be_read_stops_the_collection_with_nothing_removed() {
    let host = Host::new("prod", "");
    for content in ["1", "2"] {
        host.deploy_once(&version(content, 1)).expect_code(0);
    }
    let app = host.app("web", "prod");
    let record = host.current("web", "prod").join(".landfall/release.json");
    let controls = app.join("controls");
    let before = cached(&host);
    for path in [
        app.join("history"),
        app.join("journal"),
        app.join("quarantine"),
        controls,
        record,
        host.root().join("accepted"),
    ] {
        let good = fs::read(&path).ok();
        fs::write(&path, "damaged").unwrap();
        let said = host.run(&["gc", "--max-bytes", "0B"]);
        assert_ne!(said.code, Some(0), "{}: {}", path.display(), said.out);
        assert_eq!(cached(&host), before, "{}", path.display());
        match good {
            Some(good) => fs::write(&path, good).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
    }
    // A tree of a release on disk that is gone leaves its files unknown.
    let trees = files_below(&host.root().join("trees"));
    let whole: Vec<_> = trees.iter().map(|path| (path, fs::read(path).unwrap())).collect();
    trees.iter().for_each(|path| fs::write(path, "damaged").unwrap());
    host.run(&["gc", "--max-bytes", "0B"]).expect_code(20);
    whole.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
    assert_eq!(cached(&host), before);
    host.run(&["gc", "--max-bytes", "0B"]).expect_code(0);
}

#[test]
fn a_collection_waits_for_nobody_and_a_deploy_that_uses_the_cache_keeps_it() {
    let host = Host::new("prod", "");
    host.deploy_once(&version("1", 1)).expect_code(0);
    let hold = landfall_store::collect::hold(&host.root()).unwrap().unwrap();
    host.run(&["gc", "--max-bytes", "0B"]).expect_code(12);
    host.run(&["gc", "--dry-run"]).expect_code(0);
    drop(hold);
    host.run(&["gc", "--max-bytes", "0B"]).expect_code(0);
}

#[test]
fn the_agent_keeps_its_cache_within_the_bound_by_itself_and_never_below_what_is_needed() {
    let host = Host::new("prod", "[cache]\nmax_bytes = \"1500B\"\n");
    for content in ["1", "2", "3"] {
        host.deploy_once(&version(content, 1)).expect_code(0);
    }
    let objects = || files_below(&host.root().join("objects"));
    assert_eq!(objects().len(), 3, "what was let go of within a day may be wanted back");
    // Two days later, as far as the files tell; ctime cannot be set, so the young stay: the operator says otherwise.
    host.run(&["gc", "--max-bytes", "1500B"]).expect_code(0);
    assert_eq!(objects().len(), 1);
    host.run(&["gc", "--max-bytes", "0B"]).expect_code(0);
    assert_eq!(objects().len(), 1);
    assert!(host.root().join("collected").is_file(), "the agent collected, too");
    host.run(&["verify", "--deep"]).expect_code(0);
}
