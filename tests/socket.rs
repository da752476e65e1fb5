//! The direct manager and a listening socket: passed as systemd passes it, shared by two starts, never closed.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails, its helpers included")]

#[path = "support/hash.rs"]
mod hash;
#[path = "support/port.rs"]
mod port;
mod procs;
#[path = "support/tools.rs"]
#[allow(dead_code, reason = "only where the ports are locked")]
mod tools;

use std::io::Read;
use std::net::TcpStream;
use std::time::Duration;

use landfall::proc;
use landfall::spec::{Command, StopSpec};
use landfall::start::direct::Direct;
use landfall::start::{Launch, Manager, ProcessId, SlotFacts, StartError};
use port::Port;
use procs::{App, block_on, eventually, landfall, shell, stop_spec, working_under};
use rustix::process::Signal;

/// Names its release and itself to whoever connects.
const SERVER: &str = r#"
const server = require('node:net').createServer((client) => client.end(`${process.env.RELEASE} ${process.pid}`));
server.listen({ fd: 3 });
process.on('SIGTERM', () => server.close(() => process.exit(0)));
"#;

/// Ends whatever a failing test leaves.
struct Running {
    app: App,
    port: Port,
    manager: Direct,
}

impl Running {
    fn new() -> Self {
        let app = App::new();
        for release in ["a", "b"] {
            std::fs::write(app.release(release).join("server.js"), SERVER).unwrap();
        }
        Self { app, port: Port::free(), manager: Direct::with_executable(landfall()) }
    }

    fn launch(&self, release: &str) -> Launch {
        let command = Command::Run(["node", "server.js"].map(Into::into).to_vec());
        self.launch_of(release, command)
    }

    fn launch_of(&self, release: &str, command: Command) -> Launch {
        let mut launch = self.app.launch(release, command);
        launch.spec.socket = Some(format!("127.0.0.1:{}", self.port.number));
        launch
    }

    fn start(&self, launch: &Launch) -> Result<(), StartError> {
        block_on(self.manager.start(launch))
    }

    fn facts(&self) -> SlotFacts {
        block_on(self.manager.inspect(&self.app.slot())).unwrap()
    }

    fn main(&self) -> ProcessId {
        self.facts().processes[0]
    }

    /// Connects once: who answered.
    fn ask(&self) -> String {
        let mut client = TcpStream::connect(("127.0.0.1", self.port.number)).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut said = String::new();
        client.read_to_string(&mut said).unwrap();
        said
    }

    /// Asks until this release has answered.
    fn answers(&self, release: &str) {
        eventually(&format!("{release} answers"), || self.ask().starts_with(&format!("{release} ")));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let stop = StopSpec { grace: landfall::spec::Millis(0), ..stop_spec(0) };
        let _ = block_on(self.manager.stop(&self.app.slot(), &stop));
        for left in working_under(&self.app.root) {
            proc::signal(left.id, Signal::KILL);
        }
    }
}

#[test]
fn the_socket_comes_as_descriptor_3_in_the_way_of_systemd() {
    let running = Running::new();
    let line = "echo fds $LISTEN_FDS; echo pid $LISTEN_PID is $$; echo names $LISTEN_FDNAMES; exec sleep 100";
    running.start(&running.launch_of("a", shell(line))).unwrap();
    let main = running.main();
    let said = format!("fds 1\npid {0} is {0}\nnames main\n", main.pid);
    eventually("it says what it was given", || running.app.log() == said);
    let fd = std::fs::read_link(format!("/proc/{}/fd/3", main.pid)).unwrap();
    assert!(fd.to_string_lossy().starts_with("socket:["), "{}", fd.display());
    assert_eq!(proc::listening(&[main]), [running.port.number]);
    let open = std::fs::read_dir(format!("/proc/{}/fd", main.pid)).unwrap().count();
    assert_eq!(open, 4, "three standard descriptors and the socket");
    let input = std::fs::read_link(format!("/proc/{}/fd/0", main.pid)).unwrap();
    assert_eq!(input, std::path::Path::new("/dev/null"));
}

#[test]
fn a_new_start_stands_beside_the_old_one_until_it_is_settled() {
    let running = Running::new();
    running.start(&running.launch("a")).unwrap();
    running.answers("a");
    let old = running.main();

    running.start(&running.launch("b")).unwrap();
    let facts = running.facts();
    assert_eq!(facts.release_dir, Some(running.app.release("b")));
    assert!(proc::is_alive(old), "the old one was not stopped");
    let beside = facts.beside.expect("the old one's shim");
    assert!(proc::descendants(beside.pid).iter().any(|stat| stat.id == old));
    running.answers("b");
    running.answers("a");

    block_on(running.manager.settle(&running.app.slot())).unwrap();
    assert!(!proc::is_alive(old));
    assert_eq!(running.facts().beside, None);
    assert_eq!(running.facts().processes, facts.processes, "the new one was not touched");
    for _ in 0..20 {
        assert!(running.ask().starts_with("b "));
    }
}

#[test]
fn going_back_keeps_the_old_one_as_it_is() {
    let running = Running::new();
    let first = running.launch("a");
    running.start(&first).unwrap();
    let old = running.main();
    running.start(&running.launch("b")).unwrap();
    let failed = running.main();

    let kept = block_on(running.manager.keep(&running.launch("a"))).unwrap().expect("it still runs");
    assert_eq!(kept.start_id, first.start_id);
    assert!(kept.since_ticks <= old.started_ticks);
    assert!(!proc::is_alive(failed));
    assert_eq!(running.main(), old);
    // Once more, as after a crash of the agent.
    assert_eq!(block_on(running.manager.keep(&running.launch("a"))).unwrap(), Some(kept));
    assert_eq!(block_on(running.manager.keep(&running.launch("b"))).unwrap(), None, "that one is gone");
    running.answers("a");
}

#[test]
fn a_third_start_replaces_the_one_on_trial_and_leaves_the_one_that_serves() {
    let running = Running::new();
    running.start(&running.launch("a")).unwrap();
    let old = running.main();
    running.start(&running.launch("b")).unwrap();
    let superseded = running.main();
    running.start(&running.launch("b")).unwrap();
    assert!(proc::is_alive(old) && !proc::is_alive(superseded));
    assert_ne!(running.main(), superseded);
    block_on(running.manager.stop(&running.app.slot(), &stop_spec(2_000))).unwrap();
    assert_eq!(working_under(&running.app.root), []);
    assert!(TcpStream::connect(("127.0.0.1", running.port.number)).is_err(), "nobody holds the socket");
}

#[test]
fn whoever_connects_while_a_dead_app_is_started_again_waits_for_its_answer() {
    let running = Running::new();
    let mut launch = running.launch("a");
    launch.spec.restart_delay = Some(landfall::spec::Millis(1_000));
    running.start(&launch).unwrap();
    running.answers("a");
    let dead = running.main();
    proc::signal(dead, Signal::KILL);
    eventually("it is dead", || !proc::is_alive(dead));
    let said = running.ask();
    assert!(said.starts_with("a ") && said != format!("a {}", dead.pid), "{said}");
}

#[test]
fn an_address_that_somebody_else_holds_is_refused_with_its_holder_and_the_old_one_serves_on() {
    let running = Running::new();
    running.start(&running.launch("a")).unwrap();
    let old = running.main();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let mut launch = running.launch("b");
    launch.spec.socket = Some(address.to_string());
    let error = running.start(&launch).unwrap_err().to_string();
    assert!(error.contains(&address.to_string()), "{error}");
    assert!(error.contains(&format!("pid {}", std::process::id())), "{error}");
    assert!(proc::is_alive(old));
    assert!(block_on(running.manager.keep(&running.launch("a"))).unwrap().is_some());
    running.answers("a");
}

#[test]
fn a_killed_shim_loses_the_socket_and_the_next_start_still_comes_up() {
    let running = Running::new();
    running.start(&running.launch("a")).unwrap();
    let old = running.main();
    let shim = running.facts().supervisor.unwrap();
    proc::signal(shim, Signal::KILL);
    eventually("the shim is dead", || !proc::is_alive(shim));
    running.start(&running.launch("b")).unwrap();
    assert!(!proc::is_alive(old), "it could not stay: nobody could hand its socket over");
    running.answers("b");
}

#[test]
fn a_program_that_is_not_there_says_so_in_its_log() {
    let running = Running::new();
    running.start(&running.launch_of("a", Command::Run(vec!["./no-such-server".into()]))).unwrap();
    eventually("it is named", || running.app.log().contains("`./no-such-server`: No such file"));
}

#[test]
fn what_is_not_an_address_is_refused_before_anything_is_touched() {
    let running = Running::new();
    running.start(&running.launch("a")).unwrap();
    let old = running.main();
    let mut launch = running.launch("b");
    launch.spec.socket = Some("${NOWHERE}:80".into());
    let error = running.start(&launch).unwrap_err();
    assert!(matches!(error, StartError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("NOWHERE"), "{error}");
    assert!(proc::is_alive(old));
}

#[test]
fn a_deep_root_is_no_obstacle() {
    let mut running = Running::new();
    let deep = running.app.root.join("d".repeat(120));
    std::fs::create_dir(&deep).unwrap();
    running.app.run_dir = deep;
    running.start(&running.launch("a")).unwrap();
    running.start(&running.launch("b")).unwrap();
    assert!(running.facts().beside.is_some());
    running.answers("b");
}
