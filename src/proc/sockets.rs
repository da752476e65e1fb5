//! TCP sockets and who holds them, from `/proc/net/tcp` and `/proc/net/tcp6`.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{cwd, identity, now_ticks, pids, stat, user};
use crate::start::ProcessId;

/// The two states that matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketState {
    /// Both ends are there.
    Established,
    /// Waits for connections.
    Listening,
    /// Anything else.
    Other,
}

/// One TCP socket of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Socket {
    /// Its own end.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
    /// Where in its life it is.
    pub state: SocketState,
    /// The inode that `/proc/<pid>/fd` names; 0 while nobody has accepted the connection.
    pub inode: u64,
}

/// A process that holds a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its pid.
    pub pid: u32,
    /// Its command name.
    pub command: String,
    /// Where it works, if that may be read.
    pub cwd: Option<PathBuf>,
    /// The account it runs as: its name, or its number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// When it was started, by the wall clock; only shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {} ({}", self.pid, self.command)?;
        if let Some(cwd) = &self.cwd {
            write!(f, ", {}", cwd.display())?;
        }
        if let Some(user) = &self.user {
            write!(f, ", user {user}")?;
        }
        if let Some(since) = &self.since {
            write!(f, ", since {}", since.strftime("%m-%d %H:%M:%S UTC"))?;
        }
        f.write_str(")")
    }
}

impl Holder {
    /// Describes a live process.
    pub fn of(id: ProcessId) -> Option<Self> {
        let stat = stat(id.pid).filter(|stat| stat.id == id)?;
        Some(Self {
            pid: id.pid,
            command: stat.command,
            cwd: cwd(id.pid).map(|cwd| cwd.path),
            user: user(id.pid).map(user_name),
            since: started(id),
        })
    }
}

/// The server end of an established connection, seen from its client's end.
pub fn server_end(client: SocketAddr, server: SocketAddr) -> Option<Socket> {
    let (client, server) = (plain(client), plain(server));
    let (from, to) = (written(client.port()), written(server.port()));
    let connection = |line: &str| line.contains(ESTABLISHED) && line.contains(&from) && line.contains(&to);
    let mut found = table(connection).into_iter();
    found.find(|socket| {
        socket.state == SocketState::Established && socket.local == server && socket.remote == client
    })
}

/// Live processes that hold this socket; `among` first narrows the search (a full one reads every
/// process's descriptors).
pub fn owners(inode: u64, among: Option<&[ProcessId]>) -> Vec<ProcessId> {
    if inode == 0 {
        return Vec::new();
    }
    let wanted = HashSet::from([inode]);
    match among {
        Some(ids) => ids.iter().copied().filter(|id| holds(id.pid, &wanted)).collect(),
        None => holders_of(&wanted),
    }
}

/// Live processes that listen on a TCP port of this host.
pub fn listeners(port: u16) -> Vec<Holder> {
    let to = written(port);
    let listening = |socket: &Socket| socket.state == SocketState::Listening && socket.local.port() == port;
    let found = table(|line| line.contains(LISTENING) && line.contains(&to)).into_iter();
    let inodes: HashSet<u64> = found.filter(listening).map(|socket| socket.inode).collect();
    if inodes.is_empty() {
        return Vec::new();
    }
    holders_of(&inodes).into_iter().filter_map(Holder::of).collect()
}

/// TCP ports that any of these processes listens on, ascending.
pub fn listening(ids: &[ProcessId]) -> Vec<u16> {
    let found = table(|line| line.contains(LISTENING)).into_iter();
    let sockets = found.filter(|socket| socket.state == SocketState::Listening);
    let held = |socket: &Socket| !owners(socket.inode, Some(ids)).is_empty();
    let ports: std::collections::BTreeSet<u16> =
        sockets.filter(held).map(|socket| socket.local.port()).collect();
    ports.into_iter().collect()
}

/// An account's name, or its number where it has none.
pub fn user_name(uid: u32) -> String {
    let known = nix::unistd::User::from_uid(uid.into()).ok().flatten();
    known.map_or_else(|| uid.to_string(), |user| user.name)
}

fn started(id: ProcessId) -> Option<Timestamp> {
    let ago = now_ticks().saturating_sub(id.started_ticks) / rustix::param::clock_ticks_per_second();
    let ago = jiff::SignedDuration::from_secs(i64::try_from(ago).ok()?);
    Timestamp::now().round(jiff::Unit::Second).ok()?.checked_sub(ago).ok()
}

fn holders_of(inodes: &HashSet<u64>) -> Vec<ProcessId> {
    pids().filter(|pid| holds(*pid, inodes)).filter_map(identity).collect()
}

fn holds(pid: u32, inodes: &HashSet<u64>) -> bool {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| socket_inode(&fs::read_link(entry.path()).ok()?))
        .any(|inode| inodes.contains(&inode))
}

fn socket_inode(link: &Path) -> Option<u64> {
    link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// States as the kernel writes them.
const ESTABLISHED: &str = " 01 ";
const LISTENING: &str = " 0A ";

/// A port as the kernel writes it at the end of an address.
fn written(port: u16) -> String {
    format!(":{port:04X} ")
}

/// The sockets on lines that may be meant. A busy server has tens of thousands of closed connections there, which
/// would take longer to read than an app is given to answer.
fn table(may_be: impl Fn(&str) -> bool) -> Vec<Socket> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let four = read("/proc/net/tcp");
    let six = read("/proc/net/tcp6");
    four.lines().chain(six.lines()).filter(|line| may_be(line)).filter_map(parse).collect()
}

fn parse(line: &str) -> Option<Socket> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    Some(Socket {
        local: address(fields.get(1)?)?,
        remote: address(fields.get(2)?)?,
        state: match *fields.get(3)? {
            "01" => SocketState::Established,
            "0A" => SocketState::Listening,
            _ => SocketState::Other,
        },
        inode: fields.get(9)?.parse().ok()?,
    })
}

/// The kernel prints addresses as machine words in hexadecimal, ports in network order.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let words = (0..ip.len()).step_by(8).map(|at| word(ip.get(at..at + 8)?));
    let bytes: Vec<u8> = words.collect::<Option<Vec<_>>>()?.concat();
    let ip = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(four) => IpAddr::V4(Ipv4Addr::from(four)),
        Err(_) => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
    };
    let port = u16::from_str_radix(port, 16).ok()?;
    Some(plain(SocketAddr::new(ip, port)))
}

fn word(hex: &str) -> Option<[u8; 4]> {
    u32::from_str_radix(hex, 16).ok().map(u32::to_ne_bytes)
}

/// An IPv4 client of an IPv6 socket is shown as mapped: compare them as what they are.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn the_server_end_of_a_connection_has_no_owner_until_it_is_accepted() {
        for bind in ["127.0.0.1:0", "[::]:0"] {
            let listener = TcpListener::bind(bind).unwrap();
            let port = listener.local_addr().unwrap().port();
            let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let ends = (client.local_addr().unwrap(), client.peer_addr().unwrap());
            assert_eq!(server_end(ends.0, ends.1).unwrap().inode, 0);
            let _accepted = listener.accept().unwrap();
            let inode = server_end(ends.0, ends.1).unwrap().inode;
            let own = identity(std::process::id()).unwrap();
            assert_eq!(owners(inode, Some(&[own])), [own]);
            assert_eq!(owners(inode, None), [own]);
        }
    }

    #[test]
    fn a_held_port_names_its_holder() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let holders = listeners(listener.local_addr().unwrap().port());
        assert_eq!(holders.len(), 1);
        assert_eq!(holders[0].pid, std::process::id());
        let shown = holders[0].to_string();
        assert!(shown.starts_with(&format!("pid {} (", std::process::id())), "{shown}");
    }

    #[test]
    fn a_free_port_has_no_holder() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        assert_eq!(listeners(port), []);
    }
}
