//! Requests that no client sends by accident.

use std::io::Write;

use super::client::{connect, read, send};
use super::server::*;

/// Each is refused or cut, gets nothing under any key, and leaves the server as well as before.
#[test]
fn malformed_requests_are_refused_and_change_nothing() {
    let server = Served::start(&["--push-token-file", "PUSH"]);
    let key = "refs/web/1.json";
    let body = r#"{"artifact":"4ced99dfaa655f5f3d9afecd9176fb74bd629d1e5d293b090f3617a07c45a97c","seq":1}"#;
    let auth = format!("Authorization: Bearer {PUSH_TOKEN}\r\nHost: s\r\nConnection: close\r\n");
    let put = |headers: &str, body: &str| format!("PUT /{key} HTTP/1.1\r\n{auth}{headers}\r\n\r\n{body}");
    let length = body.len();
    let long = "x".repeat(40_000);
    let many: String = (0..200).map(|number| format!("X-{number}: 1\r\n")).collect();
    let cases = [
        ("length and chunks", put(&format!("Content-Length: {length}\r\nTransfer-Encoding: chunked"), body)),
        ("two lengths", put(&format!("Content-Length: {length}\r\nContent-Length: 5"), body)),
        ("a list of lengths", put(&format!("Content-Length: {length}, 5"), body)),
        ("a negative length", put("Content-Length: -1", body)),
        ("a signed length", put(&format!("Content-Length: +{length}"), body)),
        ("an endless length", put("Content-Length: 99999999999999999999999", body)),
        ("no length", put("X: y", "")),
        (
            "chunks of unknown length",
            put("Transfer-Encoding: chunked", &format!("{length:x}\r\n{body}\r\n0\r\n\r\n")),
        ),
        ("bad chunks", put("Transfer-Encoding: chunked", "zz\r\nabc\r\n0\r\n\r\n")),
        ("an unknown coding", put("Transfer-Encoding: gzip", body)),
        ("a hidden coding", put("Transfer-Encoding: xchunked", body)),
        ("a blank before the colon", put(&format!("Content-Length : {length}"), body)),
        ("a compressed body", put(&format!("Content-Length: {length}\r\nContent-Encoding: gzip"), body)),
        (
            "a part of an object",
            put(&format!("Content-Length: {length}\r\nContent-Range: bytes 0-1/9"), body),
        ),
        ("a huge upload", put("Content-Length: 70000", &"x".repeat(70_000))),
        ("a long path", format!("GET /{long} HTTP/1.1\r\nHost: s\r\n\r\n")),
        ("a long header", format!("GET / HTTP/1.1\r\nHost: s\r\nX: {long}\r\n\r\n")),
        ("many headers", format!("GET / HTTP/1.1\r\nHost: s\r\n{many}\r\n")),
        ("a NUL in a header", "GET / HTTP/1.1\r\nHost: s\r\nX: a\0b\r\n\r\n".to_owned()),
        ("an old protocol", "GET /landfall-store.json\r\n\r\n".to_owned()),
        ("a future protocol", "GET / HTTP/9.9\r\nHost: s\r\n\r\n".to_owned()),
        ("a tunnel", "CONNECT example:443 HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n".to_owned()),
        ("a strange method", "BREW /healthz HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n".to_owned()),
        ("no HTTP at all", "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n".to_owned()),
    ];
    for (what, request) in cases {
        let answer = send(server.at, request.as_bytes());
        if let Some(answer) = answer {
            assert!((400..600).contains(&answer.status), "{what}: {answer:?}");
        }
        assert!(!server.has(key), "{what}");
    }
    assert_eq!(
        send(server.at, put(&format!("Content-Length: {length}"), body).as_bytes()).unwrap().status,
        204
    );
}

/// What follows a refused upload on the same connection is never taken for a request of its own.
#[test]
fn the_body_of_a_refused_upload_is_no_request() {
    let server = Served::start(&["--push-token-file", "PUSH"]);
    let hidden =
        format!("DELETE /refs/web/1.json HTTP/1.1\r\nHost: s\r\nAuthorization: Bearer {PUSH_TOKEN}\r\n\r\n");
    let request = format!(
        "PUT /refs/web/1.json HTTP/1.1\r\nHost: s\r\nContent-Length: {}\r\n\r\n{hidden}",
        hidden.len()
    );
    let mut stream = connect(server.at);
    stream.write_all(request.as_bytes()).unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n").unwrap();
    let answers = read(&mut stream).unwrap();
    assert_eq!(answers.status, 401);
    assert!(!server.log().contains("DELETE"), "{}", server.log());
}

#[test]
fn a_connection_for_which_there_is_no_room_is_told_to_come_again() {
    let server = Served::start(&["--max-connections", "2"]);
    // Answered once, so that they are known to be admitted, and kept.
    let kept: Vec<_> = (0..2)
        .map(|_| {
            let mut stream = connect(server.at);
            stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: s\r\n\r\n").unwrap();
            std::io::Read::read_exact(&mut stream, &mut [0; 12]).unwrap();
            stream
        })
        .collect();
    let refused = server.get("/healthz", &[]);
    assert_eq!((refused.status, refused.json()["reason"].as_str()), (503, Some("Busy")));
    assert!(refused.header("Retry-After").is_some());
    drop(kept);
    super::support::wait::wait_until("room again", std::time::Duration::from_secs(60), || {
        server.get("/healthz", &[]).status == 200
    });
}
