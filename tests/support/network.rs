//! A network of a test's own: machines that are network namespaces, joined by a bridge.
//!
//! The namespaces have no names and live as long as the descriptors of this process, and what runs in them: nothing
//! of them is seen elsewhere on the machine, networks of several tests do not meet, and none is left behind however
//! a test ends.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, setns, unshare};

/// Machines that reach each other by their addresses.
pub struct Network {
    places: BTreeMap<&'static str, Place>,
    home: File,
}

struct Place {
    namespace: File,
    address: Ipv4Addr,
}

impl Network {
    /// A network of these machines; the first has the bridge, so it is the one that cannot be cut off.
    pub fn new(names: &[&'static str]) -> Self {
        let mut network = Self { places: BTreeMap::new(), home: this_threads() };
        for (number, &name) in (1..).zip(names) {
            let place = Place { namespace: namespace(), address: Ipv4Addr::new(10, 77, 0, number) };
            network.places.insert(name, place);
        }
        let (&hub, others) = names.split_first().expect("a machine");
        network.ip(hub, &["link", "add", "bridge", "type", "bridge"]);
        network.give_address(hub, "bridge");
        for name in others {
            let cable = format!("to-{name}");
            let there = network.places[name].namespace.as_raw_fd();
            let there = format!("/proc/{}/fd/{there}", std::process::id());
            let peer = ["type", "veth", "peer", "name", "eth0", "netns", &there];
            network.ip(hub, &[&["link", "add", "name", &cable][..], &peer].concat());
            network.ip(hub, &["link", "set", &cable, "master", "bridge", "up"]);
            network.give_address(name, "eth0");
        }
        network
    }

    fn give_address(&self, name: &str, link: &str) {
        let address = format!("{}/24", self.address(name));
        self.ip(name, &["address", "add", &address, "dev", link]);
        self.ip(name, &["link", "set", link, "up"]);
        self.ip(name, &["link", "set", "lo", "up"]);
    }

    fn place(&self, name: &str) -> &Place {
        self.places.get(name).unwrap_or_else(|| panic!("no machine `{name}`"))
    }

    /// Where a machine is.
    pub fn address(&self, name: &str) -> Ipv4Addr {
        self.place(name).address
    }

    /// Takes this thread, and what it starts, to a machine, until the answer is dropped.
    #[must_use]
    pub fn enter(&self, name: &str) -> Inside<'_> {
        move_to(&self.place(name).namespace);
        Inside { home: &self.home }
    }

    /// Lets every packet of a machine vanish, as a cable that is cut behind the next switch does: nobody is told.
    pub fn cut(&self, name: &str) {
        for (chain, side) in [("INPUT", "-i"), ("OUTPUT", "-o")] {
            self.run(name, "iptables", &["--wait", "-A", chain, side, "eth0", "-j", "DROP"]);
        }
    }

    /// Ends that.
    pub fn mend(&self, name: &str) {
        self.run(name, "iptables", &["--wait", "-F"]);
    }

    fn ip(&self, name: &str, arguments: &[&str]) {
        self.run(name, "ip", arguments);
    }

    fn run(&self, name: &str, program: &str, arguments: &[&str]) {
        let _here = self.enter(name);
        let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
        let output = output.unwrap_or_else(|error| panic!("{program} is needed for this test: {error}"));
        assert!(
            output.status.success(),
            "{program} {arguments:?} in a network namespace: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

/// A thread that is on another machine.
pub struct Inside<'a> {
    home: &'a File,
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        move_to(self.home);
    }
}

fn this_threads() -> File {
    File::open("/proc/thread-self/ns/net").expect("this thread's network namespace")
}

fn move_to(namespace: &File) {
    setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET).expect("a thread that goes to its own namespace");
}

/// A new one, made by a thread that ends with that.
fn namespace() -> File {
    let made = std::thread::spawn(|| unshare(CloneFlags::CLONE_NEWNET).map(|()| this_threads()));
    made.join().expect("a thread").unwrap_or_else(|error| {
        panic!("this test makes network namespaces: run it as root, in a place that allows them: {error}")
    })
}
