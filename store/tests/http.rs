//! A store behind a static HTTP server: the right bytes or a clear error, whatever the server does.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::Read;
use std::time::Duration;

use common::faulty_http::{Fault, Server};
use landfall_store::backend::{Backend, BackendError, HttpBackend, Key, Patience};

/// Short pauses; waiting for the server stays as long as in production, so that a busy machine fails nothing.
fn patience() -> Patience {
    Patience { pause: Duration::from_millis(2), pause_max: Duration::from_millis(20), ..Patience::default() }
}

/// For servers that are silent or slow on purpose.
fn impatience() -> Patience {
    Patience { answer: Duration::from_millis(300), window: Duration::from_millis(300), ..patience() }
}

fn backend(server: &Server, patience: Patience) -> HttpBackend {
    HttpBackend::open(&server.url(), None).unwrap().with_patience(patience)
}

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

/// A directory with one object of 1,000 different bytes.
fn object() -> (tempfile::TempDir, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = common::noise(7, 1000).into_bytes();
    std::fs::create_dir(dir.path().join("a")).unwrap();
    std::fs::write(dir.path().join("a/b"), &bytes).unwrap();
    (dir, bytes)
}

fn read(backend: &HttpBackend, offset: u64, length: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut body = backend.read(&key("a/b"), offset, length).map_err(|error| error.to_string())?;
    body.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

#[test]
fn an_honest_server_gives_whole_objects_ranges_and_sizes() {
    let (dir, bytes) = object();
    let server = Server::of(dir.path());
    let http = backend(&server, patience());
    assert_eq!(read(&http, 0, 5000).unwrap(), bytes);
    assert_eq!(read(&http, 10, 20).unwrap(), bytes[10..30]);
    assert_eq!(read(&http, 990, 20).unwrap(), bytes[990..], "short, not an error");
    assert_eq!(read(&http, 1000, 20).unwrap(), b"");
    assert_eq!(read(&http, 5, 0).unwrap(), b"");
    assert_eq!(http.size(&key("a/b")).unwrap(), Some(1000));
    assert_eq!(http.size(&key("a/c")).unwrap(), None);
    assert!(matches!(http.read(&key("a/c"), 0, 9), Err(BackendError::NotFound { .. })));
    assert!(http.list(&key("a")).unwrap_err().is_unsupported());
    assert!(http.replace(&key("a/b"), b"x").unwrap_err().is_unsupported());
}

#[test]
fn a_body_cut_at_any_byte_goes_on_where_it_was_cut() {
    let (dir, bytes) = object();
    let server = Server::of(dir.path());
    let http = backend(&server, patience());
    for at in 0..bytes.len() {
        server.forget();
        server.misbehave(move |request| if request.nth == 0 { Fault::Cut(at) } else { Fault::None });
        assert_eq!(read(&http, 0, 1000).unwrap(), bytes, "cut at {at}");
        assert_eq!(server.bytes(), 1000, "nothing was sent twice");
    }
}
