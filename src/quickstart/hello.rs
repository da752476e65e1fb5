//! The example app of the quickstart: a web server of a hundred lines that runs wherever landfall does,
//! because it is landfall's own binary, packed under another name.
//!
//! It serves `page.html` with `{{KEY}}` replaced from its environment, and answers `/health` as the file
//! `health` says: `ok` is 200, anything else is 500.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

/// The hidden first argument.
pub const SUBCOMMAND: &str = "hello-server";
/// Bytes of a request's head.
const REQUEST_BYTES_MAX: u64 = 16 << 10;
/// A client that says nothing is let go.
const PATIENCE: Duration = Duration::from_secs(30);

/// Serves until it is stopped. The one argument is the port, on loopback.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let port = arguments.into_iter().next().and_then(|port| port.to_str()?.parse::<u16>().ok());
    let Some(listener) = port.and_then(|port| TcpListener::bind(("127.0.0.1", port)).ok()) else {
        log("no port to listen on: give a free one");
        return ExitCode::FAILURE;
    };
    log(&format!("hello from {}", env("LANDFALL_RELEASE")));
    for client in listener.incoming().flatten() {
        std::thread::spawn(move || {
            if let Err(error) = talk(&client) {
                log(&format!("a client went away: {error}"));
            }
        });
    }
    ExitCode::SUCCESS
}

fn talk(client: &TcpStream) -> std::io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    let mut requests = BufReader::new(client);
    while let Some(path) = request(&mut requests)? {
        let (status, kind, body) = answer(&path);
        let mut reply = client;
        write!(
            reply,
            "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nx-landfall-start: {}\r\n\r\n{body}",
            body.len(),
            env("LANDFALL_START")
        )?;
    }
    Ok(())
}

/// The path of the next request; `None` when the client is done.
fn request(from: &mut impl BufRead) -> std::io::Result<Option<String>> {
    let mut head = from.take(REQUEST_BYTES_MAX);
    let mut first = String::new();
    if head.read_line(&mut first)? == 0 {
        return Ok(None);
    }
    let mut line = String::new();
    while head.read_line(&mut line)? > 2 {
        line.clear();
    }
    Ok(first.split(' ').nth(1).map(str::to_owned))
}

fn answer(path: &str) -> (&'static str, &'static str, String) {
    match path {
        "/" => ("200 OK", "text/html; charset=utf-8", page()),
        "/health" => health(),
        _ => ("404 Not Found", "text/plain", "not here\n".to_owned()),
    }
}

fn page() -> String {
    let mut page = fs::read_to_string("page.html").unwrap_or_else(|error| format!("page.html: {error}\n"));
    for key in ["GREETING", "LANDFALL_RELEASE", "LANDFALL_ENV"] {
        page = page.replace(&format!("{{{{{key}}}}}"), &env(key));
    }
    page
}

fn health() -> (&'static str, &'static str, String) {
    let state = fs::read_to_string("health").unwrap_or_else(|error| error.to_string());
    let state = state.trim();
    let status = if state == "ok" { "200 OK" } else { "500 Internal Server Error" };
    (status, "application/json", format!("{{\"status\":\"{state}\"}}\n"))
}

fn env(key: &str) -> String {
    std::env::var(key).unwrap_or_default()
}

/// The app's own log is its stderr; the shim keeps it.
fn log(line: &str) {
    // An app whose log is gone goes on serving.
    drop(writeln!(std::io::stderr(), "{line}"));
}
