//! What the agent tells the service manager that started it, over a socket as systemd gives it one.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use rustix::process::Signal;
use support::Host;

/// Far more than any message takes to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// The service manager's end of the socket.
struct Manager {
    socket: UnixDatagram,
}

impl Manager {
    /// Starts the agent of a host as a unit with a watchdog of this many microseconds.
    fn starts(host: &mut Host, watchdog_usec: u64) -> Self {
        let path = host.dir.join("notify.sock");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut agent = host.landfall(&["watch"]);
        agent.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", watchdog_usec.to_string());
        host.start_agent_as(agent);
        Self { socket }
    }

    /// The next message, as the assignments it consists of.
    fn next(&self) -> Vec<String> {
        let mut message = [0; 4096];
        let length = self.socket.recv(&mut message).expect("a message within a minute");
        std::str::from_utf8(&message[..length]).unwrap().lines().map(str::to_owned).collect()
    }

    /// Messages up to one that has this assignment.
    fn until(&self, wanted: &str) -> Vec<Vec<String>> {
        let mut seen = Vec::new();
        loop {
            seen.push(self.next());
            if seen.last().unwrap().iter().any(|line| line == wanted) {
                return seen;
            }
        }
    }
}

fn signal(host: &Host, signal: Signal) {
    let pid = rustix::process::Pid::from_raw(host.agent_pid().cast_signed()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

#[test]
fn an_agent_is_ready_when_it_holds_its_root_and_has_looked_and_shows_that_it_lives() {
    let mut host = Host::new("prod", "");
    // An artifact that cannot be had keeps the agent at work.
    host.want("hello", &format!("b3:{}", "0".repeat(64)));
    let manager = Manager::starts(&mut host, 600_000);
    assert_eq!(manager.next(), ["READY=1"], "nothing comes before it");
    assert!(landfall::host::is_locked(&host.root().join("lock")));
    assert!(host.root().join("accepted").exists(), "the state was not looked at before");
    let said = manager.until("WATCHDOG=1").concat();
    assert!(said.contains(&"STATUS=1 app; working on hello".to_owned()), "{said:?}");
    manager.until("WATCHDOG=1");

    host.write("state/deploy-state.json", "{");
    let complaint = |line: &String| line.starts_with("STATUS=") && line.contains("the last accepted state");
    while !manager.next().iter().any(complaint) {}
    assert!(host.stop_agent().success());
    manager.until("STOPPING=1");
}

#[test]
fn a_hangup_is_answered_with_a_reload_and_the_agent_goes_on() {
    let mut host = Host::new("prod", "");
    let manager = Manager::starts(&mut host, 60_000_000);
    manager.until("READY=1");
    signal(&host, Signal::HUP);
    let reload = manager.until("RELOADING=1").pop().unwrap();
    let since = reload.iter().find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
    assert!(since.is_some_and(|usec| usec.parse::<u64>().is_ok()), "{reload:?}");
    manager.until("READY=1");
    assert!(host.stop_agent().success());
}

#[test]
fn an_agent_that_hangs_gives_no_more_signs_of_life() {
    let mut host = Host::new("prod", "");
    let manager = Manager::starts(&mut host, 300_000);
    manager.until("WATCHDOG=1");
    signal(&host, Signal::STOP);
    // What it sent before it stopped is read to the end; then nothing comes for ten watchdogs.
    manager.socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    let mut message = [0; 4096];
    let mut left = 0;
    while manager.socket.recv(&mut message).is_ok() {
        left += 1;
        assert!(left < 100, "a stopped agent goes on talking");
    }
    signal(&host, Signal::CONT);
    manager.socket.set_read_timeout(Some(PATIENCE)).unwrap();
    manager.until("WATCHDOG=1");
    assert!(host.stop_agent().success());
}
