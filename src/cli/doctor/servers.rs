//! Databases, caches and queues that an app's env names by address: whether somebody answers there.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use super::examine::Finding;

const SERVER: &str = "server";

/// Time for one address to answer: one that is up does in milliseconds.
const ANSWER_WAIT: Duration = Duration::from_secs(2);
/// Addresses of one key that are tried.
const ADDRESSES_MAX: usize = 4;

/// Schemes of servers that an app needs, with the ports that they have where none is written. Others (`file:`,
/// `http:`, `mongodb+srv:`) are left alone: nothing sure can be said of them by a connection.
const SCHEMES: [(&str, u16); 10] = [
    ("postgres", 5432),
    ("postgresql", 5432),
    ("mysql", 3306),
    ("mariadb", 3306),
    ("sqlserver", 1433),
    ("mongodb", 27017),
    ("redis", 6379),
    ("rediss", 6379),
    ("amqp", 5672),
    ("amqps", 5671),
];

/// Tries every server that the env names. No value is shown, for it holds passwords: only key, host and port.
pub fn findings(env: &BTreeMap<String, String>, required: &BTreeSet<String>) -> Vec<Finding> {
    let named = env.iter().filter_map(|(key, value)| Some((key, addresses(value)?)));
    named.map(|(key, addresses)| finding(key, &addresses, required.contains(key))).collect()
}

/// One that answers is enough: the others of a cluster may be down.
fn finding(key: &str, addresses: &[(String, u16)], required: bool) -> Finding {
    let mut refusals = Vec::new();
    for (host, port) in addresses.iter().take(ADDRESSES_MAX) {
        match connect(host, *port) {
            Ok(()) => return Finding::good(SERVER, format!("{key}: {host}:{port} answers")),
            Err(error) => refusals.push(format!("{host}:{port} does not answer: {error}")),
        }
    }
    let what = format!("{key}: {}", refusals.join("; "));
    let fix = format!("start the server, open the way to it, or correct {key} in the env files");
    match required {
        true => Finding::problem(SERVER, what, fix),
        false => Finding::warning(SERVER, what, fix),
    }
}

fn connect(host: &str, port: u16) -> io::Result<()> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "its name has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, ANSWER_WAIT) {
            Ok(_) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Hosts and ports of a connection string, if it is one: `scheme://user:password@host:port,host/path?options`.
fn addresses(value: &str) -> Option<Vec<(String, u16)>> {
    let (scheme, rest) = value.split_once("://")?;
    let (_, port) = SCHEMES.iter().find(|(known, _)| *known == scheme)?;
    let authority = rest.split(['/', '?', '#', ';']).next()?;
    let hosts = authority.rsplit_once('@').map_or(authority, |(_, hosts)| hosts);
    let addresses: Vec<_> = hosts.split(',').filter_map(|host| address(host, *port)).collect();
    (!addresses.is_empty()).then_some(addresses)
}

fn address(text: &str, default: u16) -> Option<(String, u16)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once(']')?,
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let port = match port.strip_prefix(':') {
        Some(port) => port.parse().ok()?,
        None => default,
    };
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_string_gives_its_hosts_and_nothing_else_does() {
        let found = |value: &str| addresses(value).unwrap_or_default();
        let one = |host: &str, port| vec![(host.to_owned(), port)];
        assert_eq!(
            found("postgresql://shop:s%40cret@10.0.0.5:6432/shop?schema=public"),
            one("10.0.0.5", 6432)
        );
        assert_eq!(found("postgres://u:p@ss@db.internal/shop"), one("db.internal", 5432));
        assert_eq!(found("redis://localhost"), one("localhost", 6379));
        assert_eq!(found("sqlserver://db:1434;database=shop;user=u"), one("db", 1434));
        assert_eq!(found("mysql://u@[::1]:3307/x"), one("::1", 3307));
        assert_eq!(found("mongodb://a:1,b:2/x"), [("a".to_owned(), 1), ("b".to_owned(), 2)]);
        for other in [
            "",
            "shop",
            "file:/var/lib/x.db",
            "https://example.org",
            "postgres:///shop?host=/run",
            "redis://h:x",
        ] {
            assert_eq!(found(other), [], "{other}");
        }
    }
}
