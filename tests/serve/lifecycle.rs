//! How the server starts, what it refuses to start with, and how it ends.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::Output;
use std::time::Duration;

use rustix::process::Signal;

use super::client::{connect, send};
use super::server::*;
use super::support::authority::authority;
use super::support::wait::wait_until;

const LIMIT: Duration = Duration::from_secs(60);

/// Runs `serve` with options that it must not start with.
fn refused(dir: &std::path::Path, options: &[&str]) -> Output {
    let output = landfall().arg("serve").args(options).current_dir(dir).output().unwrap();
    assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
    output
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn it_does_not_start_with_what_would_give_tokens_away() {
    let dir = tempfile::tempdir().unwrap();
    landfall_store::Store::create(&dir.path().join("store")).unwrap();
    let push = token_file(dir.path(), "push", PUSH_TOKEN);
    token_file(dir.path(), "report", &format!("web-1 {WEB_1_TOKEN}"));
    let options = |listen| ["store", "--push-token-file", "push", "--listen", listen];
    for (listen, file) in [("0.0.0.0:0", "push"), ("[::]:0", "push"), ("0.0.0.0:0", "report")] {
        let option = format!("--{file}-token-file");
        let output = refused(dir.path(), &["store", &option, file, "--listen", listen]);
        assert_eq!(output.status.code(), Some(2));
        assert!(said(&output).contains("--insecure-tokens-in-clear"), "{}", said(&output));
    }
    fs::set_permissions(&push, fs::Permissions::from_mode(0o644)).unwrap();
    let output = refused(dir.path(), &options("127.0.0.1:0"));
    assert!(output.status.code() == Some(3) && said(&output).contains("chmod"), "{}", said(&output));
    fs::set_permissions(&push, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&push, "short-canary\n").unwrap();
    let output = refused(dir.path(), &options("127.0.0.1:0"));
    assert!(said(&output).contains("too short") && !said(&output).contains("canary"), "{}", said(&output));
}

#[test]
fn it_does_not_start_without_a_store_to_read() {
    let dir = tempfile::tempdir().unwrap();
    let output = refused(dir.path(), &["nothing-here"]);
    assert_eq!(output.status.code(), Some(4));
    assert!(!dir.path().join("nothing-here").exists());
    let output = refused(dir.path(), &["--store", "https://artifacts.internal"]);
    assert!(
        output.status.code() == Some(2) && said(&output).contains("not a directory"),
        "{}",
        said(&output)
    );
}

#[test]
fn a_download_ends_before_the_server_does() {
    let dir = tempfile::tempdir().unwrap();
    pack(&dir.path().join("store"), "1.0.0", 30_000_000);
    let mut server = Served::of(dir, &[]);
    let key = object(&server.store(), "packs/", ".idx").replace(".idx", ".lfp");
    let bytes = fs::read(server.store().join(&key)).unwrap();
    let mut stream = connect(server.at);
    stream.write_all(format!("GET /{key} HTTP/1.1\r\nHost: s\r\n\r\n").as_bytes()).unwrap();
    let mut begin = [0; 1000];
    stream.read_exact(&mut begin).unwrap();
    server.signal(Signal::TERM);
    wait_until("the server to stop taking connections", LIMIT, || {
        std::net::TcpStream::connect(server.at).is_err()
    });
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    let all = [&begin[..], &rest].concat();
    assert!(all.ends_with(&bytes), "{} of {} bytes", all.len(), bytes.len());
    assert_eq!(server.wait().code(), Some(0));
    assert!(server.log().contains("stopping"));
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let dir = tempfile::tempdir().unwrap();
    pack(&dir.path().join("store"), "1.0.0", 30_000_000);
    let mut server = Served::of(dir, &[]);
    let key = object(&server.store(), "packs/", ".idx").replace(".idx", ".lfp");
    let mut stream = connect(server.at);
    stream.write_all(format!("GET /{key} HTTP/1.1\r\nHost: s\r\n\r\n").as_bytes()).unwrap();
    stream.read_exact(&mut [0; 1000]).unwrap();
    server.signal(Signal::INT);
    wait_until("the first signal to be heard", LIMIT, || server.log().contains("stopping"));
    server.signal(Signal::INT);
    assert_eq!(server.wait().code(), Some(130));
}

#[test]
fn a_server_without_requests_ends_in_order_while_connections_rest() {
    let mut server = Served::start(&[]);
    let mut resting = connect(server.at);
    resting.write_all(b"GET /healthz HTTP/1.1\r\nHost: s\r\n\r\n").unwrap();
    resting.read_exact(&mut [0; 12]).unwrap();
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn it_is_reached_by_tls_with_an_authority_of_ones_own() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    pack(&store, "1.0.0", 50_000);
    authority(dir.path(), &["localhost"]);
    let options = ["--tls-cert", "cert.pem", "--tls-key", "key.pem", "--push-token-file", "PUSH"];
    // With TLS, tokens may be asked for beyond this machine.
    let server = Served::of_at(dir, "0.0.0.0:0", &options);
    assert!(server.url.starts_with("https://"));
    let url = format!("https://localhost:{}", server.at.port());
    let ls = |roots: Option<&str>| {
        let mut command = landfall();
        command.args(["--store", &url, "--store-token-file", "push", "ls"]).current_dir(server.dir.path());
        match roots {
            Some(file) => command.env("SSL_CERT_FILE", server.dir.path().join(file)),
            None => command.env_remove("SSL_CERT_FILE"),
        };
        command.output().unwrap()
    };
    let listed = ls(Some("ca.pem"));
    assert!(String::from_utf8_lossy(&listed.stdout).contains("1.0.0"), "{listed:?}");
    assert!(!ls(None).status.success(), "an unknown authority is not believed");
    assert!(send(server.at, b"GET /healthz HTTP/1.1\r\n\r\n").is_none(), "no answer in clear");
}
