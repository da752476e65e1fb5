//! Against a real S3 server.

#[path = "../../../tests/support/bucket.rs"]
pub(crate) mod bucket;

use std::io::Write;
use std::time::SystemTime;

use super::*;
use crate::artifact::{Artifact, Layer};
use crate::backend::Put;
use crate::blob::BlobSource;
use crate::digest::{ArtifactId, BlobId};
use crate::path::EntryPath;
use crate::push::{LayerContent, PushOptions, push};
use crate::store::Store;
use crate::sweep::{Policy, Request, collect};
use crate::tree::{Entry, Kind, Tree};
use bucket::Bucket;

/// A backend for a server's bucket.
pub(crate) fn backend(server: &Bucket, prefix: &str) -> S3Backend {
    open(server, bucket::NAME, prefix, &[]).unwrap()
}

/// The same with other variables than the right ones.
fn open(
    server: &Bucket,
    name: &str,
    prefix: &str,
    other: &[(&str, &str)],
) -> Result<S3Backend, BackendError> {
    let right = server.variables();
    let variable = |name: &str| match other.iter().find(|(other, _)| *other == name) {
        Some((_, value)) => Some((*value).to_owned()),
        None => right.iter().find(|(right, _)| right == name).map(|(_, value)| value.clone()),
    };
    let settings =
        Settings::read(&variable, &|_| Ok(None)).map_err(|error| set_up(name, prefix, error.to_string()))?;
    S3Backend::with(name, prefix, settings)
}

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

fn bytes(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at % 251) as u8).collect()
}

#[test]
fn a_pack_that_is_sent_in_parts_arrives_whole_and_once() {
    for server in [Bucket::start(), Bucket::start_forgetful()] {
        let backend = backend(&server, "p");
        let pack = bytes((20 << 20) + 3);
        let upload = || {
            let mut upload = backend.begin(Some(&key("packs")), Access::Public).unwrap();
            pack.chunks(1 << 20).for_each(|chunk| upload.write_all(chunk).unwrap());
            upload
        };
        assert_eq!(upload().commit(&key("packs/ab/x.lfp")).unwrap(), Put::Stored);
        let puts = server.puts();
        assert_eq!(upload().commit(&key("packs/ab/x.lfp")).unwrap(), Put::Existed);
        assert_eq!(server.puts(), puts);
        assert!((&backend as &dyn Backend).get(&key("packs/ab/x.lfp"), 1 << 30).unwrap() == pack);
        for offset in [0, 20 << 20] {
            let mut end = Vec::new();
            let mut reader = backend.read(&key("packs/ab/x.lfp"), offset, u64::MAX).unwrap();
            reader.read_to_end(&mut end).unwrap();
            assert!(end == pack[offset as usize..]);
        }
    }
}

#[test]
fn an_object_of_another_size_is_damage_and_is_replaced() {
    for server in [Bucket::start(), Bucket::start_forgetful()] {
        let backend: &dyn Backend = &backend(&server, "");
        backend.put_new(&key("trees/ab/x.zst"), b"whole", Access::Public).unwrap();
        std::fs::write(server.dir().join("trees/ab/x.zst"), "who").unwrap();
        assert_eq!(backend.put_new(&key("trees/ab/x.zst"), b"whole", Access::Public).unwrap(), Put::Stored);
        assert_eq!(backend.get(&key("trees/ab/x.zst"), 9).unwrap(), b"whole");
    }
}

#[test]
fn the_server_is_asked_once_whether_it_keeps_conditions() {
    for (server, kept) in [(Bucket::start(), true), (Bucket::start_forgetful(), false)] {
        let first = backend(&server, "p");
        assert_eq!(first.keeps_conditions().unwrap(), kept);
        let asked = server.puts();
        assert_eq!(asked, 2);
        assert_eq!(first.keeps_conditions().unwrap(), kept);
        assert_eq!(server.puts(), asked);
        assert_eq!(backend(&server, "p").keeps_conditions().unwrap(), kept);
    }
}

#[test]
fn a_list_of_more_than_a_page_is_whole() {
    let server = Bucket::start();
    let dir = server.dir().join("p/packs/ab");
    std::fs::create_dir_all(&dir).unwrap();
    for number in 0..2300 {
        std::fs::write(dir.join(format!("{number:05}.lfp")), "x").unwrap();
    }
    std::fs::create_dir_all(server.dir().join("p/packs2")).unwrap();
    std::fs::write(server.dir().join("p/packs2/other"), "x").unwrap();
    std::fs::write(dir.join("not a key"), "x").unwrap();
    let listed = backend(&server, "p").list(&key("packs")).unwrap();
    assert_eq!(listed.len(), 2300);
    assert_eq!(listed[2299].key.as_str(), "packs/ab/02299.lfp");
}

#[test]
fn a_read_behind_the_end_is_empty() {
    let server = Bucket::start();
    let backend = backend(&server, "p");
    (&backend as &dyn Backend).put_new(&key("a/b"), b"12", Access::Public).unwrap();
    for (offset, length) in [(2, 5), (7, 1), (7, u64::MAX), (0, 0)] {
        let mut read = Vec::new();
        backend.read(&key("a/b"), offset, length).unwrap().read_to_end(&mut read).unwrap();
        assert!(read.is_empty());
    }
}

/// Messages of a read and of a write with a mistake in the settings.
fn told(server: &Bucket, name: &str, other: &[(&str, &str)]) -> Vec<String> {
    let backend = match open(server, name, "p", other) {
        Ok(backend) => backend,
        Err(error) => return vec![error.to_string()],
    };
    let any: &dyn Backend = &backend;
    let first = any.get(&key("landfall-store.json"), 99).unwrap_err().to_string();
    // Each of these is tried several times.
    if first.contains("cannot be reached") || first.contains("TLS") {
        return vec![first];
    }
    vec![
        first,
        any.size(&key("landfall-store.json")).err().map_or_else(String::new, |error| error.to_string()),
        any.put_new(&key("a/b"), b"x", Access::Public).unwrap_err().to_string(),
        any.replace(&key("a/c"), b"x").unwrap_err().to_string(),
        any.list(&key("a")).unwrap_err().to_string(),
    ]
}

#[test]
fn mistakes_are_told_with_what_to_set_and_never_with_a_secret() {
    let server = Bucket::start();
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (refused, tls) = (format!("http://{nowhere}"), server.endpoint().replace("http:", "https:"));
    let cases: [(&str, &[(&str, &str)], &str); 6] = [
        (bucket::NAME, &[("AWS_SECRET_ACCESS_KEY", "wrong-s3cret")], "check AWS_SECRET_ACCESS_KEY"),
        (bucket::NAME, &[("AWS_ACCESS_KEY_ID", "AKIDUNKNOWN")], "AWS_ACCESS_KEY_ID"),
        ("no-such-bucket", &[], "no bucket `no-such-bucket`"),
        ("a bucket?", &[], "a bucket's name"),
        (
            bucket::NAME,
            &[("AWS_ENDPOINT_URL", &refused)],
            "cannot be reached: tcp connect error: Connection refused",
        ),
        (bucket::NAME, &[("AWS_ENDPOINT_URL", &tls)], "does not speak TLS"),
    ];
    for (name, other, expected) in cases {
        for told in told(&server, name, other).iter().filter(|told| !told.is_empty()) {
            assert!(told.contains(expected), "{other:?}: {told}");
            assert!(!told.contains("s3cret") && !told.contains(bucket::SECRET), "{told}");
        }
    }
}

#[test]
fn the_time_is_the_servers() {
    let server = Bucket::start();
    let told = backend(&server, "p").now().unwrap();
    let off = SystemTime::now().duration_since(told).unwrap_or_default();
    assert!(off < Duration::from_secs(60), "{off:?}");
}

/// A machine's metadata service that gives a role's credentials, on a thread that ends with the process.
fn metadata_service() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && socket.read(&mut byte).unwrap() == 1 {
                request.push(byte[0]);
            }
            let request = String::from_utf8(request).unwrap();
            let answer = match request.split(' ').nth(1).unwrap() {
                "/latest/api/token" => "a-token".to_owned(),
                "/latest/meta-data/iam/security-credentials/" => "deployer".to_owned(),
                "/latest/meta-data/iam/security-credentials/deployer" => format!(
                    r#"{{"Code":"Success","AccessKeyId":"{}","SecretAccessKey":"{}","Token":"t","Expiration":"2999-01-01T00:00:00Z"}}"#,
                    bucket::KEY,
                    bucket::SECRET
                ),
                other => panic!("{other}"),
            };
            let head =
                format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", answer.len());
            socket.write_all((head + &answer).as_bytes()).unwrap();
        }
    });
    format!("http://{address}")
}

#[test]
fn a_machine_with_a_role_needs_no_keys_and_one_without_is_told_to_set_them() {
    let server = Bucket::start();
    let none = [("AWS_ACCESS_KEY_ID", ""), ("AWS_SECRET_ACCESS_KEY", "")];
    let service = metadata_service();
    let with_role = [&none[..], &[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &service)]].concat();
    let backend = open(&server, bucket::NAME, "p", &with_role).unwrap();
    (&backend as &dyn Backend).put_new(&key("a/b"), b"x", Access::Public).unwrap();

    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let nowhere = format!("http://{nowhere}");
    let without = [&none[..], &[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &nowhere)]].concat();
    let told = told(&server, bucket::NAME, &without).concat();
    assert!(told.contains("no credentials: set AWS_ACCESS_KEY_ID"), "{told}");
}

/// A store in the bucket, opened anew as another process would.
fn store(server: &Bucket) -> Store {
    Store::create_with(Box::new(backend(server, "p"))).unwrap()
}

/// Pushes one file as a version.
fn pushed(server: &Bucket, version: &str, text: &str) -> ArtifactId {
    let blob = BlobId::of(text.as_bytes());
    let kind = Kind::File { size: text.len() as u64, blob, executable: false };
    let tree = Tree::from_entries(vec![Entry { path: EntryPath::new("file").unwrap(), kind }]).unwrap();
    let layer = Layer {
        bytes: tree.bytes(),
        environment: None,
        files: 1,
        mount: String::new(),
        name: "app".parse().unwrap(),
        roles: vec![],
        tree: tree.id(),
    };
    let release = serde_json::json!({ "version": version }).as_object().unwrap().clone();
    let artifact = Artifact::new("web".parse().unwrap(), None, vec![layer], release).unwrap();
    let content = LayerContent { id: tree.id(), tree: &tree, source: &Text(text) };
    push(&store(server), &artifact, &[content], &PushOptions::default()).unwrap().artifact
}

struct Text<'a>(&'a str);

impl BlobSource for Text<'_> {
    fn open(&self, _: &BlobId, _: u64) -> io::Result<Box<dyn Read + '_>> {
        Ok(Box::new(self.0.as_bytes()))
    }
}

#[test]
fn a_collection_removes_what_nothing_needs_and_leaves_the_rest_whole() {
    for server in [Bucket::start(), Bucket::start_forgetful()] {
        let (old, new) = (pushed(&server, "1", "the first"), pushed(&server, "2", "the second"));
        let roots = std::collections::BTreeMap::new();
        let mut request = Request::new(&roots);
        request.policy = Policy { versions: 1, age: Duration::ZERO, grace: Duration::ZERO };
        let begun = std::time::Instant::now();
        // The server's clock has seconds: what is condemned in one is removed in a later one.
        while backend(&server, "p").size(&crate::layout::artifact(&old)).unwrap().is_some() {
            assert!(begun.elapsed() < Duration::from_secs(60), "the old version is never removed");
            collect(&store(&server), &request).unwrap();
        }
        let dir = tempfile::tempdir().unwrap();
        let copy = Store::create(dir.path()).unwrap();
        crate::push::copy(&new, &store(&server), &copy, &PushOptions::default()).unwrap();
    }
}
