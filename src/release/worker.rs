//! `landfall worker`: one piece of [`Work`] in a process of its own.
//!
//! A deploy of 30,000 files needs 50 MiB for seconds, an agent waits for weeks between deploys, and an allocator
//! keeps most of what it was once given. What an ended process had is the system's again. A worker that the
//! kernel kills for want of memory ends one try, not the agent; one that is not wanted any more is killed, where
//! a thread would work on.
//!
//! The order goes through its standard input, because it may hold secrets of the env; the answer comes through
//! its standard output; what it logs goes where the agent's log goes. It dies with the thread that started it,
//! which is the agent's only one: nothing works on a root without the lock that the agent holds.

use std::io::{self, Write};
use std::num::NonZero;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus, Stdio};
use std::sync::LazyLock;

use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;

use super::work::{Product, Work};
use super::{Inner, failure};
use crate::effects::Setback;
use crate::log::{self, Log};
use crate::proc::OWN_PROGRAM;
use crate::record::journal::{Class, Failure};

/// The hidden first argument that leads here.
pub const SUBCOMMAND: &str = "worker";

#[derive(Serialize)]
struct Order<'a> {
    agent: i32,
    log: Log,
    place: &'a Inner,
    work: Work,
}

#[derive(Deserialize)]
struct Ordered {
    agent: i32,
    log: Log,
    place: Inner,
    work: Work,
}

/// As many releases are made at once as there are processors, so that the first deploy of many apps does not need
/// memory for all of them together. Switching waits behind none of that.
static MAKING: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new(std::thread::available_parallelism().map_or(1, NonZero::get)));

/// Has a worker do it. Dropping the future kills the worker.
pub(super) async fn done(place: &Inner, work: Work) -> Result<Product, Setback> {
    let _turn = match work.makes_a_release() {
        true => MAKING.acquire().await.ok(),
        false => None,
    };
    let agent = Pid::as_raw(Some(rustix::process::getpid()));
    let order = Order { agent, log: log::chosen(), place, work };
    let order = serde_json::to_vec(&order).map_err(|error| lost(error.to_string()))?;
    let (status, answer) = ask(&order).await.map_err(|error| lost(error.to_string()))?;
    if !status.success() {
        return Err(lost(how_it_ended(status)).into());
    }
    serde_json::from_slice(&answer).map_err(|error| lost(format!("its answer cannot be read: {error}")))?
}

async fn ask(order: &[u8]) -> io::Result<(ExitStatus, Vec<u8>)> {
    let mut command = tokio::process::Command::new(OWN_PROGRAM);
    // A group of its own: Ctrl-C at a terminal is for the agent, which knows what to do about its worker.
    command.arg0("landfall").arg(SUBCOMMAND).process_group(0).kill_on_drop(true);
    // An arena for each thread would keep what that thread once needed: a fifth of the memory of a large fetch.
    command.env("MALLOC_ARENA_MAX", "2");
    // Large blocks come from the system and go back to it. Left to itself the allocator raises this bound with the first
    // of them that is freed, and keeps the next ones: 11 MiB of 86 when 79,000 files are fetched.
    command.env("MALLOC_MMAP_THRESHOLD_", "131072");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    if let Some(mut input) = child.stdin.take() {
        // A worker that is gone already is noticed by its status.
        let _ = input.write_all(order).await;
    }
    let mut answer = Vec::new();
    if let Some(output) = &mut child.stdout {
        output.read_to_end(&mut answer).await?;
    }
    Ok((child.wait().await?, answer))
}

fn lost(why: String) -> Failure {
    failure(Class::Host, "WorkerLost", format!("landfall's helper process did not finish its work: {why}"))
}

fn how_it_ended(status: ExitStatus) -> String {
    match status.signal() {
        Some(9) => "it was killed; `dmesg` says whether this host ran out of memory".to_owned(),
        _ => format!("{status}; the agent's log says more"),
    }
}

/// Runs `landfall worker`.
pub fn main() -> ExitCode {
    match work() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "landfall worker: {error}");
            ExitCode::FAILURE
        }
    }
}

fn work() -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let Ordered { agent, log, place, work } =
        serde_json::from_reader(io::stdin().lock()).map_err(|error| {
            io::Error::other(format!("is started by landfall itself: see `landfall help` ({error})"))
        })?;
    // It may have died before the line above the last.
    if Pid::as_raw(rustix::process::getppid()) != agent {
        return Err(io::Error::other("the agent that ordered this is gone"));
    }
    log::init(log);
    let app = tracing::info_span!("app", name = %place.service.app, environment = %place.service.environment);
    let answer = app.in_scope(|| place.perform(work));
    serde_json::to_writer(io::stdout().lock(), &answer)?;
    io::stdout().flush()
}
