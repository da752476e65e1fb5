//! `landfall push` and `pack` to a server: several at once, killed anywhere, over damage.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use landfall_store::{Store, fetch, refs};

use super::server::*;
use super::support::wait::wait_until;

const LIMIT: Duration = Duration::from_secs(60);

fn push(server: &Served, from: &Path, options: &[&str]) -> Command {
    let mut command = landfall();
    command.args(["--store", from.to_str().unwrap(), "push", "--all", "--to", &server.url]);
    command.arg("--token-file").arg(server.dir.path().join("push")).args(options).stdin(Stdio::null());
    command
}

fn done(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

/// Every artifact of a store can be had in full.
fn assert_whole(store: &Path, artifacts: usize) {
    let store = Store::open(store).unwrap();
    let ids = refs::ids(&store).unwrap();
    assert_eq!(ids.len(), artifacts);
    for id in ids {
        for layer in fetch::artifact(&store, &id).unwrap().layers {
            let tree = fetch::tree(&store, &layer.tree).unwrap();
            let source = fetch::StoreSource::new(&store, &tree).unwrap();
            for (blob, size) in tree.blobs() {
                let mut content = Vec::new();
                let mut reader = landfall_store::blob::BlobSource::open(&source, &blob, size).unwrap();
                std::io::Read::read_to_end(&mut reader, &mut content).unwrap();
                assert_eq!(landfall_store::BlobId::of(&content), blob);
            }
        }
    }
}

#[test]
fn a_push_brings_everything_once_and_keeps_env_layers_private() {
    let from = tempfile::tempdir().unwrap();
    pack(from.path(), "1.0.0", 50_000);
    pack(from.path(), "1.1.0", 50_000);
    let server = Served::start(&["--push-token-file", "PUSH"]);
    done(&push(&server, from.path(), &[]).output().unwrap());
    assert_whole(&server.store(), 2);
    for key in objects(from.path()).iter().filter(|key| is_private(from.path(), key)) {
        let kind = &key[..key.find('/').unwrap()];
        assert!(
            objects(&server.store())
                .iter()
                .any(|own| own.starts_with(kind) && is_private(&server.store(), own)),
            "{key}"
        );
    }
    let before = objects(&server.store());
    let again = push(&server, from.path(), &["-o", "json"]).output().unwrap();
    let items: serde_json::Value = serde_json::from_slice(&again.stdout).unwrap();
    assert!(items["items"].as_array().unwrap().iter().all(|item| item["existed"] == true), "{items}");
    assert_eq!(objects(&server.store()), before);
    assert!(!server.log().contains("canary"), "{}", server.log());
}

#[test]
fn pack_writes_to_a_server_and_ls_reads_it() {
    let server = Served::start(&["--push-token-file", "PUSH", "--read-token-file", "READ"]);
    let source = super::support::source::Source::sleeper("hello");
    let run = |token: &str, arguments: &[&str]| {
        let mut command = landfall();
        command.env("LANDFALL_STORE_TOKEN_FILE", server.dir.path().join(token));
        command.args(["--store", &server.url]).args(arguments).output().unwrap()
    };
    let packed = run("push", &["pack", source.path().to_str().unwrap()]);
    done(&packed);
    assert_whole(&server.store(), 1);
    let listed = run("read", &["ls"]);
    assert!(String::from_utf8_lossy(&listed.stdout).contains("web"), "{listed:?}");
    let refused = run("read", &["pack", source.path().to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(6));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("a read token does not allow to push"));
}

#[test]
fn eight_pushers_of_overlapping_artifacts_end_with_everything() {
    let server = Served::start(&["--push-token-file", "PUSH"]);
    let stores: Vec<_> = (0..8)
        .map(|number| {
            let from = tempfile::tempdir().unwrap();
            pack(from.path(), "1.0.0", 50_000);
            pack(from.path(), &format!("2.{number}.0"), 50_000);
            from
        })
        .collect();
    std::thread::scope(|scope| {
        for from in &stores {
            let server = &server;
            scope.spawn(move || done(&push(server, from.path(), &[]).output().unwrap()));
        }
    });
    assert_whole(&server.store(), 9);
}

#[test]
fn a_push_killed_at_many_points_is_finished_by_the_next() {
    let from = tempfile::tempdir().unwrap();
    pack(from.path(), "1.0.0", 400_000);
    pack(from.path(), "1.1.0", 400_000);
    let all = objects(from.path()).len();
    for point in 1..all {
        let server = Served::start(&["--push-token-file", "PUSH"]);
        let mut child = push(&server, from.path(), &["-q"]).stderr(Stdio::null()).spawn().unwrap();
        wait_until("the push to get there", LIMIT, || {
            objects(&server.store()).len() >= point || child.try_wait().unwrap().is_some()
        });
        child.kill().unwrap();
        child.wait().unwrap();
        // An artifact is never there without all that it needs.
        let artifacts = refs::ids(&Store::open(&server.store()).unwrap()).unwrap().len();
        assert_whole(&server.store(), artifacts);
        done(&push(&server, from.path(), &[]).output().unwrap());
        assert_whole(&server.store(), 2);
    }
}

#[test]
fn a_server_killed_during_a_push_has_nothing_half_done() {
    let from = tempfile::tempdir().unwrap();
    pack(from.path(), "1.0.0", 400_000);
    pack(from.path(), "1.1.0", 400_000);
    for point in [2, 3, 5, 7, 9] {
        let server = Served::start(&["--push-token-file", "PUSH"]);
        let mut child = push(&server, from.path(), &["-q"]).stderr(Stdio::null()).spawn().unwrap();
        wait_until("the push to get there", LIMIT, || {
            objects(&server.store()).len() >= point || child.try_wait().unwrap().is_some()
        });
        server.signal(rustix::process::Signal::KILL);
        // It would go on trying for minutes.
        child.kill().unwrap();
        child.wait().unwrap();
        let server = Served::of(server.kill(), &["--push-token-file", "PUSH"]);
        let artifacts = refs::ids(&Store::open(&server.store()).unwrap()).unwrap().len();
        assert_whole(&server.store(), artifacts);
        done(&push(&server, from.path(), &[]).output().unwrap());
        assert_whole(&server.store(), 2);
    }
}

/// Damages every object of a pushed store in turn; a push with `--verify` finds and mends each.
fn verify_heals(to: &Path, push: impl Fn(&[&str]) -> Output) {
    done(&push(&[]));
    for key in
        objects(to).iter().filter(|key| !key.starts_with("landfall-store") && !key.starts_with("refs/"))
    {
        let whole = fs::read(to.join(key)).unwrap();
        let mut damaged = whole.clone();
        damaged[whole.len() / 2] ^= 8;
        fs::write(to.join(key), &damaged).unwrap();
        let said = done(&push(&["--verify"]));
        assert!(said.contains(&format!("{key} was damaged and is stored again")), "{key}: {said}");
        assert_whole(to, 2);
        assert!(done(&push(&["--verify"])).contains(": whole\n"), "{key}");
    }
}

#[test]
fn a_push_with_verify_heals_a_directory() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    pack(from.path(), "1.0.0", 50_000);
    pack(from.path(), "1.1.0", 50_000);
    let to = to.path().join("copy");
    verify_heals(&to, |options| {
        let mut command = landfall();
        command.args([
            "--store",
            from.path().to_str().unwrap(),
            "push",
            "--all",
            "--to",
            to.to_str().unwrap(),
        ]);
        command.args(options).output().unwrap()
    });
}

#[test]
fn a_push_with_verify_heals_a_server() {
    let from = tempfile::tempdir().unwrap();
    pack(from.path(), "1.0.0", 50_000);
    pack(from.path(), "1.1.0", 50_000);
    let server = Served::start(&["--push-token-file", "PUSH"]);
    verify_heals(&server.store(), |options| push(&server, from.path(), options).output().unwrap());
}
