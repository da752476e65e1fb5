//! A store behind a static HTTP server: the right bytes or a clear error, whatever the server does.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::Read;
use std::time::Duration;

use common::faulty_http::{Fault, Request, Server};
use landfall_store::backend::{Backend, BackendError, HttpBackend, Key, Opened, Patience};

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

/// Whether the first `times` requests for an object meet a fault.
fn first(times: usize, fault: Fault) -> impl Fn(&Request) -> Fault + Send + Sync + 'static {
    move |request| if request.nth < times { fault.clone() } else { Fault::None }
}

fn status(code: u16, headers: &[(&'static str, &str)]) -> Fault {
    Fault::Status(code, headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect())
}

#[test]
fn what_passes_is_asked_for_again_and_what_stays_is_an_error() {
    let (dir, bytes) = object();
    let server = Server::of(dir.path());
    let http = backend(&server, patience());
    let faults = [
        ("500", status(500, &[])),
        ("503", status(503, &[("Retry-After", "0")])),
        ("429", status(429, &[])),
        ("408", status(408, &[])),
        ("425", status(425, &[])),
        ("reset", Fault::Reset(0)),
        ("cut", Fault::Cut(0)),
        ("connection", Fault::Hangup),
    ];
    for (name, fault) in faults {
        server.forget();
        server.misbehave(first(3, fault.clone()));
        assert_eq!(read(&http, 10, 900).unwrap(), bytes[10..910], "{name}");
        server.forget();
        server.misbehave(first(usize::MAX, fault));
        let error = read(&http, 10, 900).unwrap_err();
        assert!(error.contains("5 times in a row"), "{name}: {error}");
        assert_eq!(server.requests().len(), 5, "{name}");
    }
}

#[test]
fn a_server_that_asks_for_a_long_pause_is_not_asked_again() {
    let (dir, _) = object();
    let server = Server::of(dir.path());
    let http = backend(&server, patience());
    server.misbehave(first(usize::MAX, status(503, &[("Retry-After", "3600")])));
    let error = read(&http, 0, 9).unwrap_err();
    assert!(error.contains("503") && error.contains("3600 s"), "{error}");
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn wrong_answers_to_ranges_end_in_the_whole_object_or_an_error() {
    let (dir, bytes) = object();
    let server = Server::of(dir.path());
    let http = backend(&server, patience());
    let faults = [
        ("shifted", Fault::WrongRange(7)),
        ("shorter", Fault::Shorter(5)),
        ("unsatisfiable", status(416, &[])),
        ("unsatisfiable", status(416, &[("Content-Range", "bytes */1000")])),
    ];
    for (name, fault) in faults {
        server.forget();
        let behaviour = fault.clone();
        server.misbehave(move |request| match request.range {
            Some(_) => behaviour.clone(),
            None => Fault::None,
        });
        assert_eq!(read(&http, 100, 50).unwrap(), bytes[100..150], "{name}");
        let ranges = server.requests().iter().filter(|request| request.range.is_some()).count();
        assert_eq!((ranges, server.requests().len()), (2, 3), "{name}: one retry, then the whole object");
        // Nothing but the fault, whatever is asked.
        server.misbehave(first(usize::MAX, fault));
        match read(&http, 100, 50) {
            Ok(read) => assert_eq!(read, bytes[100..150], "{name}"),
            Err(error) => assert!(error.contains("times in a row"), "{name}: {error}"),
        }
    }
}

#[test]
fn a_server_that_ignores_ranges_is_read_to_the_bytes_that_were_wanted() {
    let (dir, bytes) = object();
    let server = Server::of(dir.path());
    let http = backend(&server, patience());
    for fault in [Fault::IgnoreRange, Fault::IgnoreRangeChunked] {
        server.forget();
        server.misbehave(first(usize::MAX, fault));
        assert_eq!(read(&http, 990, 50).unwrap(), bytes[990..]);
        assert_eq!(read(&http, 0, 10).unwrap(), bytes[..10]);
        assert_eq!(read(&http, 2000, 10).unwrap(), b"");
        assert_eq!(server.requests().len(), 3, "never asked again");
        assert_eq!(http.cost().per_object, 1, "one stream has everything");
        match http.open(&key("a/b"), 500, 10).unwrap() {
            Opened::Part(_) => panic!("a part"),
            Opened::Whole(mut body) => {
                let mut all = Vec::new();
                body.read_to_end(&mut all).unwrap();
                assert_eq!(all, bytes, "from the first byte to the last");
            }
        }
    }
    server.misbehave(|_| Fault::None);
    read(&http, 5, 5).unwrap();
    assert!(http.cost().per_object > 1, "it has ranges again");
}

#[test]
fn a_whole_object_that_is_cut_goes_on_where_it_was_cut() {
    let (dir, bytes) = object();
    let server = Server::of(dir.path());
    let http = backend(&server, patience());
    for at in [0, 300, 400, 700, 999] {
        server.forget();
        server.misbehave(move |request| match request.nth {
            0 => Fault::IgnoreRangeCut(at),
            1 => Fault::IgnoreRangeCut(at + 1),
            _ => Fault::IgnoreRange,
        });
        assert_eq!(read(&http, 400, 600).unwrap(), bytes[400..], "cut at {at}");
        server.forget();
        let Opened::Whole(mut body) = http.open(&key("a/b"), 400, 9).unwrap() else { panic!("a part") };
        let mut all = Vec::new();
        body.read_to_end(&mut all).unwrap();
        assert_eq!(all, bytes, "cut at {at}");
    }
}

#[test]
fn an_endless_body_is_cut_at_what_was_asked_and_endless_headers_are_refused() {
    let (dir, bytes) = object();
    let server = Server::of(dir.path());
    let http = backend(&server, patience());
    server.misbehave(first(usize::MAX, Fault::Endless));
    assert_eq!(read(&http, 0, 1000).unwrap(), bytes);
    assert_eq!(read(&http, 10, 20).unwrap(), bytes[10..30]);
    server.misbehave(first(usize::MAX, Fault::EndlessHeaders));
    assert!(read(&http, 10, 20).is_err());
}

#[test]
fn an_endless_object_is_larger_than_any() {
    let (dir, _) = object();
    let server = Server::of(dir.path());
    let http = backend(&server, patience());
    server.misbehave(|request| match request.range {
        Some(_) => status(416, &[]),
        None => Fault::Endless,
    });
    let http: &dyn Backend = &http;
    assert!(matches!(http.get(&key("a/b"), 100_000), Err(BackendError::TooLarge { .. })));
}

#[test]
fn a_compressed_answer_is_refused_at_once() {
    let (dir, _) = object();
    let server = Server::of(dir.path());
    let http = backend(&server, patience());
    server.misbehave(first(usize::MAX, Fault::Encoded));
    let error = read(&http, 0, 1000).unwrap_err();
    assert!(error.contains("compressed (gzip)"), "{error}");
    assert!(http.size(&key("a/b")).is_err());
    let requests = server.requests();
    assert_eq!(requests.iter().filter(|request| request.method == "GET").count(), 2);
    assert!(requests.iter().all(|request| request.headers["accept-encoding"] == "identity"));
}

#[test]
fn a_silent_or_slow_server_is_left_after_a_second_chance() {
    let (dir, _) = object();
    let server = Server::of(dir.path());
    let http = backend(&server, impatience());
    server.misbehave(first(usize::MAX, Fault::Silent));
    let error = read(&http, 0, 1000).unwrap_err();
    assert!(error.contains("no answer in 300ms"), "{error}");
    server.misbehave(first(usize::MAX, Fault::Slow(1, Duration::from_millis(50))));
    let error = read(&http, 0, 1000).unwrap_err();
    assert!(error.contains("too slow"), "{error}");
}

#[test]
fn a_slow_reader_is_no_slow_server() {
    let (dir, bytes) = object();
    let server = Server::of(dir.path());
    let answer = Duration::from_secs(5);
    let http = backend(&server, Patience { answer, window: Duration::from_secs(60), ..impatience() });
    let mut body = http.read(&key("a/b"), 0, 1000).unwrap();
    let mut read = vec![0; 10];
    body.read_exact(&mut read).unwrap();
    std::thread::sleep(answer + Duration::from_secs(1));
    body.read_to_end(&mut read).unwrap();
    assert_eq!(read, bytes);
}

#[test]
fn redirects_are_followed_a_few_times_and_carry_no_token_elsewhere() {
    let (dir, bytes) = object();
    let elsewhere = Server::of(dir.path());
    let server = Server::of(dir.path());
    let token = dir.path().join("token");
    std::fs::write(&token, "sesame\n").unwrap();
    let http = HttpBackend::open(&server.url(), Some(&token)).unwrap().with_patience(patience());

    let there = format!("{}/a/b", elsewhere.url().replace("http://", "http://u:p@"));
    server.misbehave(move |_| status(302, &[("Location", there.as_str())]));
    assert_eq!(read(&http, 10, 10).unwrap(), bytes[10..20]);
    assert_eq!(server.requests()[0].headers["authorization"], "Bearer sesame");
    let requests = elsewhere.requests();
    assert_eq!(requests[0].range, Some((10, 19)), "the range goes along");
    assert!(!requests[0].headers.contains_key("authorization"), "{requests:?}");

    server.forget();
    server.misbehave(|request| match request.path.as_str() {
        "a/b" => status(307, &[("Location", "/a/c")]),
        "a/c" => status(301, &[("Location", "b?again")]),
        _ => Fault::None,
    });
    assert!(matches!(http.read(&key("a/b"), 0, 9), Err(BackendError::NotFound { .. })), "a/b?again");
    assert!(server.requests().iter().all(|request| request.headers.contains_key("authorization")));

    server.forget();
    server.misbehave(|_| status(302, &[("Location", "/a/b")]));
    let error = read(&http, 0, 9).unwrap_err();
    assert!(error.contains("more than 5 redirects"), "{error}");
    assert_eq!(server.requests().len(), 6);

    server.misbehave(|_| status(302, &[("Location", "file:///etc/passwd")]));
    assert!(read(&http, 0, 9).unwrap_err().contains("redirect to file:"));
    server.misbehave(|_| status(302, &[]));
    assert!(read(&http, 0, 9).unwrap_err().contains("to nowhere"));
}

#[test]
fn a_server_that_wants_other_credentials_says_so_once() {
    let (dir, _) = object();
    let server = Server::of(dir.path());
    let http = backend(&server, patience());
    for code in [401, 403] {
        server.forget();
        server.misbehave(move |_| status(code, &[]));
        let denied = http.read(&key("a/b"), 0, 9);
        assert!(matches!(denied, Err(BackendError::Denied { .. })));
        assert!(matches!(http.size(&key("a/b")), Err(BackendError::Denied { .. })));
        assert_eq!(server.requests().len(), 2);
    }
}

#[test]
fn a_server_without_head_still_tells_sizes() {
    let (dir, _) = object();
    std::fs::write(dir.path().join("a/empty"), "").unwrap();
    let server = Server::of(dir.path());
    let http = backend(&server, patience());
    server.misbehave(|request| if request.method == "HEAD" { status(405, &[]) } else { Fault::None });
    assert_eq!(http.size(&key("a/b")).unwrap(), Some(1000));
    assert_eq!(http.size(&key("a/empty")).unwrap(), Some(0));
    assert_eq!(http.size(&key("a/c")).unwrap(), None);
}

#[test]
fn a_token_file_without_a_token_is_refused_before_anything_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    for text in ["", "\n", " \nlater", "a\u{1}b"] {
        std::fs::write(&file, text).unwrap();
        let refused = HttpBackend::open("http://127.0.0.1:9", Some(&file));
        assert!(matches!(refused, Err(BackendError::Setup { .. })), "{text:?}");
    }
    assert!(HttpBackend::open("http://127.0.0.1:9", Some(&dir.path().join("none"))).is_err());
}

#[test]
fn an_unreachable_server_is_told_with_its_address_and_reason() {
    let (dir, _) = object();
    let gone = Server::of(dir.path());
    let http = backend(&gone, patience());
    let address = gone.url();
    drop(gone);
    let error = read(&http, 0, 9).unwrap_err();
    assert!(error.contains(&address) && error.contains("refused"), "{error}");
}
