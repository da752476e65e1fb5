//! What the server takes: only bytes that are what their key says, whole, from those who may.

use std::fs;
use std::io::{Read, Write};
use std::time::Duration;

use landfall_store::backend::{Access, Backend, BackendError, Key, Put};

use super::client::connect;
use super::server::*;
use super::support::wait::wait_until;

const LIMIT: Duration = Duration::from_secs(60);

/// A server with an empty store, and a store with one artifact beside it.
fn empty_beside_packed() -> (Served, tempfile::TempDir) {
    let from = tempfile::tempdir().unwrap();
    pack(from.path(), "1.0.0", 50_000);
    (Served::start(&["--push-token-file", "PUSH"]), from)
}

/// In the order of a push: what refers to another object comes after it.
fn in_order(store: &std::path::Path) -> Vec<String> {
    let mut keys = objects(store);
    keys.retain(|key| key != "landfall-store.json");
    let places = ["packs/", "trees/", "loc/", "artifacts/", "refs/"];
    keys.sort_by_key(|key| (places.iter().position(|place| key.starts_with(place)), key.ends_with(".idx")));
    keys
}

#[test]
fn bytes_get_a_key_only_if_they_are_what_it_says() {
    let (server, from) = empty_beside_packed();
    for key in in_order(from.path()) {
        let bytes = fs::read(from.path().join(&key)).unwrap();
        let mut flipped = bytes.clone();
        let middle = bytes.len() / 2;
        flipped[middle] ^= 1;
        // A version's commit and time are free text, so only its form can be checked.
        let wrong: Vec<Vec<u8>> = if key.starts_with("refs/") {
            vec![bytes[..bytes.len() - 1].to_vec(), Vec::new(), b"null".to_vec()]
        } else {
            vec![
                flipped,
                bytes[..bytes.len() - 1].to_vec(),
                Vec::new(),
                [bytes.clone(), bytes.clone()].concat(),
            ]
        };
        for wrong in wrong {
            let refused = server.put(&key, PUSH_TOKEN, &[], &wrong);
            assert_eq!(
                (refused.status, refused.json()["reason"].as_str()),
                (422, Some("DigestMismatch")),
                "{key}"
            );
            assert!(!server.has(&key), "{key}");
        }
        let private = is_private(from.path(), &key);
        let access: &[(&str, &str)] = if private { &[("landfall-access", "private")] } else { &[] };
        let taken = server.put(&key, PUSH_TOKEN, access, &bytes).status;
        let mutable = key.starts_with("refs/") || key.starts_with("loc/");
        assert_eq!(taken, if mutable { 204 } else { 201 }, "{key}");
        assert_eq!(server.put(&key, PUSH_TOKEN, access, &bytes).status, 204, "{key}");
        assert_eq!(is_private(&server.store(), &key), private, "{key}");
        assert_eq!(fs::read(server.store().join(&key)).unwrap(), bytes);
    }
    let left: Vec<_> = objects(&server.store()).into_iter().filter(|key| key.contains(".new-")).collect();
    assert_eq!(left, Vec::<String>::new());
}

#[test]
fn a_packs_directory_comes_after_its_pack() {
    let (server, from) = empty_beside_packed();
    let key = object(from.path(), "packs/", ".idx");
    let refused = server.put(&key, PUSH_TOKEN, &[], &fs::read(from.path().join(&key)).unwrap());
    assert_eq!((refused.status, refused.json()["reason"].as_str()), (409, Some("TooEarly")));
}

#[test]
fn only_a_push_token_pushes_and_a_server_without_one_is_read_only() {
    let server = Served::start(&["--push-token-file", "PUSH", "--read-token-file", "READ"]);
    let key = "refs/web/1.json";
    for (token, status) in [(READ_TOKEN, 403), ("another-token-of-good-length", 401)] {
        assert_eq!(server.put(key, token, &[], b"{}").status, status);
        let bearer = format!("Bearer {token}");
        let removed =
            super::client::ask(server.at, "DELETE", &format!("/{key}"), &[("Authorization", &bearer)], b"");
        assert_eq!(removed.status, status);
    }
    let read_only = Served::start(&["--read-token-file", "READ"]);
    let refused = read_only.put(key, READ_TOKEN, &[], b"{}");
    assert_eq!((refused.status, refused.json()["reason"].as_str()), (403, Some("ReadOnly")));
    let error = read_only.client("read").replace(&Key::new(key).unwrap(), b"{}").unwrap_err();
    assert!(matches!(&error, BackendError::Denied { .. }), "{error}");
    assert!(error.to_string().contains("--push-token-file"), "{error}");
}

#[test]
fn an_upload_that_is_cut_never_existed() {
    let (server, from) = empty_beside_packed();
    let key = object(from.path(), "packs/", ".idx").replace(".idx", ".lfp");
    let bytes = fs::read(from.path().join(&key)).unwrap();
    for sent in [0, 1, 10_000, bytes.len() - 1] {
        let mut stream = connect(server.at);
        let head = format!(
            "PUT /{key} HTTP/1.1\r\nHost: s\r\nAuthorization: Bearer {PUSH_TOKEN}\r\nContent-Length: {}\r\n\r\n",
            bytes.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&bytes[..sent]).unwrap();
        drop(stream);
    }
    wait_until("the cut uploads to be noticed", LIMIT, || {
        server.log().matches("method=\"PUT\"").count() == 4
    });
    wait_until("their files to be gone", LIMIT, || {
        !objects(&server.store()).iter().any(|key| key.contains(".new-"))
    });
    assert!(!server.has(&key));
    assert_eq!(server.put(&key, PUSH_TOKEN, &[], &bytes).status, 201);
}

#[test]
fn an_upload_of_what_is_there_and_damaged_heals_it() {
    let (server, from) = empty_beside_packed();
    for key in in_order(from.path()) {
        let bytes = fs::read(from.path().join(&key)).unwrap();
        server.put(&key, PUSH_TOKEN, &[], &bytes);
        let mut damaged = bytes.clone();
        damaged[bytes.len() / 3] ^= 4;
        fs::write(server.store().join(&key), &damaged).unwrap();
        assert_eq!(server.put(&key, PUSH_TOKEN, &[], &bytes).status, 204, "{key}");
        assert_eq!(fs::read(server.store().join(&key)).unwrap(), bytes, "{key}");
    }
    let metrics = String::from_utf8(server.get("/metrics", &[]).body).unwrap();
    assert!(metrics.contains("landfall_store_uploads_total{kind=\"tree\",result=\"healed\"}"), "{metrics}");
}

#[test]
fn conditions_of_an_upload_are_kept() {
    let server = Served::start(&["--push-token-file", "PUSH"]);
    let key = "refs/web/1.json";
    let text = |seq: u32| format!(r#"{{"artifact":"{}","seq":{seq}}}"#, "0".repeat(64));
    let put =
        |headers: &[(&str, &str)], seq| server.put(key, PUSH_TOKEN, headers, text(seq).as_bytes()).status;
    assert_eq!(put(&[("If-Match", "\"x\"")], 1), 412, "there is none yet");
    assert_eq!(put(&[("If-None-Match", "*")], 1), 201);
    assert_eq!(put(&[("If-None-Match", "*")], 2), 412);
    let tag = server.get(&format!("/{key}"), &[]).header("ETag").unwrap().to_owned();
    assert_eq!(put(&[("If-Match", &tag)], 2), 204);
    assert_eq!(put(&[("If-Match", &tag)], 3), 412, "it is another by now");
    assert!(String::from_utf8(server.get(&format!("/{key}"), &[]).body).unwrap().contains("\"seq\":2"));
}

/// What `store/src/backend/mod.rs` asks of every backend, with keys and bytes that a server takes.
#[test]
fn the_contract_of_backends_holds_through_a_server() {
    let (server, from) = empty_beside_packed();
    let backend = server.client("push");
    let backend: &dyn Backend = &backend;
    let key = |text: &str| Key::new(text).unwrap();
    let pack = object(from.path(), "packs/", ".idx").replace(".idx", ".lfp");
    let bytes = fs::read(from.path().join(&pack)).unwrap();
    let pack = key(&pack);

    assert!(matches!(backend.get(&pack, 9), Err(BackendError::NotFound { .. })));
    assert_eq!(backend.find(&pack, 9).unwrap(), None);
    assert_eq!(backend.size(&pack).unwrap(), None);
    assert_eq!(backend.list(&key("packs")).unwrap(), []);
    backend.delete(&pack).unwrap();

    let before = backend.now().unwrap();
    let mut upload = backend.begin(Some(&key("packs")), Access::Public).unwrap();
    upload.write_all(&bytes).unwrap();
    drop(upload);
    assert_eq!(backend.list(&key("packs")).unwrap(), [], "what is not committed never existed");
    assert_eq!(backend.put_new(&pack, &bytes, Access::Public).unwrap(), Put::Stored);
    assert_eq!(backend.put_new(&pack, &bytes, Access::Public).unwrap(), Put::Existed);
    assert_eq!(backend.get(&pack, bytes.len() as u64).unwrap(), bytes);
    assert!(matches!(backend.get(&pack, 5), Err(BackendError::TooLarge { .. })));
    assert_eq!(backend.size(&pack).unwrap(), Some(bytes.len() as u64));
    let mut part = Vec::new();
    backend.read(&pack, bytes.len() as u64 - 4, 30).unwrap().read_to_end(&mut part).unwrap();
    assert_eq!(part, &bytes[bytes.len() - 4..], "a range past the end is short, not an error");

    let listed = backend.list(&key("packs")).unwrap();
    let second = Duration::from_secs(2);
    assert_eq!((listed.len(), &listed[0].key, listed[0].size), (1, &pack, bytes.len() as u64));
    assert!(listed[0].modified + second >= before && listed[0].modified <= backend.now().unwrap() + second);

    let old = fs::File::options().write(true).open(server.store().join(pack.as_str())).unwrap();
    old.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1_000_000)).unwrap();
    backend.overwrite(&pack, &bytes, Access::Public).unwrap();
    assert!(backend.list(&key("packs")).unwrap()[0].modified + second >= before, "its age begins anew");

    for name in ["refs/web/2.json", "refs/web/1.json", "refs/web-x/1.json", "refs/web/1+b.json"] {
        let text = format!(r#"{{"artifact":"{}","seq":1,"builder":"{name}"}}"#, "0".repeat(64));
        backend.replace(&key(name), b"{\"artifact\":\"\"}").unwrap_err();
        backend.replace(&key(name), text.as_bytes()).unwrap();
        assert_eq!(backend.get(&key(name), 999).unwrap(), text.as_bytes());
    }
    let names = |under: &str| -> Vec<String> {
        backend.list(&key(under)).unwrap().iter().map(|item| item.key.to_string()).collect()
    };
    assert_eq!(names("refs/web"), ["refs/web/1+b.json", "refs/web/1.json", "refs/web/2.json"]);
    backend.delete(&key("refs/web/2.json")).unwrap();
    assert_eq!(names("refs/web").len(), 2);
    assert!(backend.delete(&key("landfall-store.json")).is_err(), "without its record a store is none");
}

#[test]
fn a_full_disk_is_said_and_leaves_downloads_alone() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not root: no small file system can be mounted");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    fs::create_dir(&store).unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"])
        .arg(&store)
        .status()
        .unwrap();
    assert!(mounted.success());
    let unmount = Unmount(store.clone());
    let from = tempfile::tempdir().unwrap();
    pack(from.path(), "1.0.0", 50_000);
    let server = Served::of(dir, &["--push-token-file", "PUSH"]);
    let key = object(from.path(), "artifacts/", ".json");
    let refused = server.put(&key, PUSH_TOKEN, &[], &fs::read(from.path().join(&key)).unwrap());
    assert_eq!((refused.status, refused.json()["reason"].as_str()), (507, Some("DiskFull")));
    assert_eq!(server.get("/landfall-store.json", &[]).status, 200);
    drop(server);
    drop(unmount);
}

struct Unmount(std::path::PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        // A directory that stays mounted is left behind with its mount; the test has failed anyway.
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
