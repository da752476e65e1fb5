//! The heavy work of a deploy is done in a process of its own, which never outlives its agent.

mod support;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use support::{Host, Source, process, wait};

const LIMIT: Duration = Duration::from_secs(60);
/// Enough for the work to take longer than looking for who does it.
const FILES: usize = 400;

/// Live workers below a process.
fn workers_of(parent: u32) -> Vec<u32> {
    let children =
        std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    let children = children.split_whitespace().map(|pid| pid.parse().expect("a process id"));
    children
        .filter(|pid| process::read(*pid).is_some_and(|child| child.command.starts_with("landfall worker")))
        .collect()
}

#[test]
fn a_killed_worker_costs_one_try_and_not_the_agent() {
    let mut host = Host::new("prod", "");
    let source = (0..FILES).fold(Source::sleeper("first"), |source, number| {
        source.with(&format!("app/{number}.txt"), number.to_string().as_bytes())
    });
    let artifact = host.pack_next(source.path());
    host.start_agent();
    host.wait_for_agent();
    host.want("web", &artifact);
    let agent = host.agent_pid();
    let worker = wait::wait_for("a worker", LIMIT, || workers_of(agent).first().copied());
    process::kill(worker);
    let entry = host.wait_for_attempt("web", 0, LIMIT);
    if entry["result"] != "Healthy" {
        assert_eq!(entry["failure"]["reason"], "WorkerLost", "{entry}");
        let again = host.wait_for_attempt("web", 1, LIMIT);
        assert_eq!(again["result"], "Healthy", "{again}");
    }
    assert_eq!(host.agent_pid(), agent);
    assert_eq!(host.serving("web", "prod").len(), 1);
}

#[test]
fn a_worker_dies_with_the_agent_that_ordered_it() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let order: PathBuf = dir.path().join("order");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &order,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .expect("a fifo");
    // Held open for writing too, so that the worker waits for the rest of its order.
    let _held = std::fs::File::options().read(true).write(true).open(&order).expect("the fifo");
    let mut shell = Command::new("sh")
        .args(["-c", "exec 3<\"$1\"; \"$2\" worker <&3 & wait", "sh"])
        .arg(&order)
        .arg(env!("CARGO_BIN_EXE_landfall"))
        .stdout(Stdio::null())
        .spawn()
        .expect("a shell");
    let worker = wait::wait_for("the worker", LIMIT, || {
        let children = format!("/proc/{0}/task/{0}/children", shell.id());
        let pid = std::fs::read_to_string(children).ok()?.split_whitespace().next()?.parse().ok()?;
        process::read(pid).filter(|child| child.command.ends_with("landfall worker")).map(|_| pid)
    });
    // It sleeps only once it reads, and by then it is bound to its parent.
    wait::wait_until("it waits for its order", LIMIT, || {
        std::fs::read_to_string(format!("/proc/{worker}/stat")).is_ok_and(|stat| stat.contains(") S "))
    });
    shell.kill().expect("a live shell");
    shell.wait().expect("the shell's status");
    wait::wait_until("the worker is gone", LIMIT, || process::read(worker).is_none());
}

#[test]
fn a_worker_refuses_an_order_that_is_not_its_own_agents() {
    let output = Command::new(env!("CARGO_BIN_EXE_landfall"))
        .arg("worker")
        .stdin(Stdio::null())
        .output()
        .expect("the landfall program");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("is started by landfall itself"), "{said}");
}
