//! An HTTP server in one file, with nothing but the standard library: says how long until the tide turns.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{SystemTime, UNIX_EPOCH};

/// From high water to low water.
const SECONDS_BETWEEN_TURNS: u64 = 22_357;

fn main() -> std::io::Result<()> {
    let port = std::env::var("PORT").map_err(std::io::Error::other)?;
    let listener = TcpListener::bind(format!("127.0.0.1:{port}"))?;
    println!("tide {} on {port}", env!("CARGO_PKG_VERSION"));
    for stream in listener.incoming() {
        let stream = stream?;
        std::thread::spawn(move || {
            // A client that goes away early is its own affair.
            if let Err(error) = answer(stream) {
                eprintln!("{error}");
            }
        });
    }
    Ok(())
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    for line in BufReader::new(&stream).lines() {
        if line?.is_empty() {
            break;
        }
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(std::io::Error::other)?;
    let left = SECONDS_BETWEEN_TURNS - now.as_secs() % SECONDS_BETWEEN_TURNS;
    let body = format!("{{\"version\":\"{}\",\"turns_in_s\":{left}}}\n", env!("CARGO_PKG_VERSION"));
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}
