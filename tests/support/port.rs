//! Ports that no other test takes, in this process or another.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};

use super::tools;

/// Below the range that the kernel hands out to clients, so that no outgoing connection takes one in between.
const RANGE: std::ops::Range<u16> = 20_000..30_000;

/// A free port on the loopback, kept from other tests until dropped.
#[derive(Debug)]
pub struct Port {
    pub number: u16,
    _lock: File,
}

impl Port {
    /// Finds one. The port itself is left unbound, for the program under test.
    pub fn free() -> Self {
        (0..1_000).find_map(|_| Self::take(fastrand::u16(RANGE))).expect("a free port among 1,000 tries")
    }

    fn take(number: u16) -> Option<Self> {
        let lock = tools::lock_file("ports", &number.to_string());
        lock.try_lock().ok()?;
        TcpListener::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
        Some(Self { number, _lock: lock })
    }
}
