//! The runner's own side: `landfall shim run`.

use std::cell::RefCell;
use std::future::pending;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;
use std::rc::Rc;
use std::time::Instant;

use rustix::process::Signal;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::task::{JoinHandle, LocalSet};

use super::capture::Capture;
use super::job::{End, Job, OnAgentDeath, Report};
use super::limits::JOB_BYTES_MAX;
use crate::proc::{self, Stat};
use crate::start::prepare;
use crate::start::shim::family::Family;
use crate::start::shim::limits::DRAIN_WAIT;
use crate::start::shim::pump::pump;
use crate::start::shim::{signals, socket};

/// Reads a job, runs it, reports.
pub(crate) fn main() -> io::Result<()> {
    rustix::process::setsid()?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let mut input = own_input()?;
        let job = read_job(&mut input).await?;
        match run(&job, input).await {
            Ok(report) => say(&report),
            Err(error) => io::stdout().write_all(error.to_string().as_bytes()),
        }
    })
}

/// The runner's input, apart from everything it starts.
fn own_input() -> io::Result<Receiver> {
    Receiver::from_owned_fd(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?)
}

async fn read_job(input: &mut Receiver) -> io::Result<Job> {
    let mut line = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    while !line.ends_with(b"\n") {
        let count = input.read(&mut buffer).await?;
        line.extend_from_slice(&buffer[..count]);
        if count == 0 || line.len() > JOB_BYTES_MAX {
            return Err(io::Error::other("the job on standard input is cut or too long"));
        }
    }
    serde_json::from_slice(&line).map_err(io::Error::other)
}

fn say(report: &Report) -> io::Result<()> {
    let bytes = serde_json::to_vec(report).map_err(io::Error::other)?;
    io::stdout().write_all(&bytes)
}

async fn run(job: &Job, input: Receiver) -> io::Result<Report> {
    let mut family = Family::new()?;
    let capture = Rc::new(RefCell::new(open_capture(job)?));
    let (main, pumps) = match spawn(job, &family, &capture) {
        Ok(started) => started,
        Err(error) => return Ok(report(End::NotStarted(why_not(job, &error)), 0, &capture)),
    };
    let end = main_end(job, &mut family, main, input).await;
    let left_behind = left();
    family.kill_all().await;
    for pump in pumps {
        let _ = tokio::time::timeout(DRAIN_WAIT, pump).await;
    }
    capture.borrow_mut().finish();
    Ok(report(end, left_behind, &capture))
}

fn open_capture(job: &Job) -> io::Result<Capture> {
    let path = job.log.as_deref();
    let shown = path.unwrap_or_else(|| Path::new("")).display();
    Capture::new(path).map_err(|error| io::Error::other(format!("{shown}: {error}")))
}

fn report(end: End, left_behind: u32, capture: &Rc<RefCell<Capture>>) -> Report {
    let capture = capture.borrow();
    Report { end, tail: capture.tail(), output_bytes: capture.total(), left_behind }
}

fn why_not(job: &Job, error: &io::Error) -> String {
    let program = job.argv.first().map_or("", String::as_str);
    format!("`{program}` in {}: {error}", job.dir.display())
}

type Started = (u32, Vec<JoinHandle<()>>);

fn spawn(job: &Job, family: &Family, capture: &Rc<RefCell<Capture>>) -> io::Result<Started> {
    let Job { argv, dir, env, run_as, .. } = job;
    let mut command = match &job.listen {
        Some(listen) => socket::passing(&socket::obtain(listen)?, &listen.name, argv, dir, env, *run_as)?,
        None => prepare(argv, dir, env, *run_as),
    };
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = family.spawn(&mut command)?;
    let out = child.stdout.take().map(OwnedFd::from);
    let err = child.stderr.take().map(OwnedFd::from);
    let pumps = out.into_iter().chain(err).map(|pipe| keep(pipe, capture));
    Ok((child.id(), pumps.collect()))
}

fn keep(pipe: OwnedFd, capture: &Rc<RefCell<Capture>>) -> JoinHandle<()> {
    let capture = Rc::clone(capture);
    tokio::task::spawn_local(pump(pipe, move |bytes| capture.borrow_mut().push(bytes)))
}

async fn main_end(job: &Job, family: &mut Family, main: u32, input: Receiver) -> End {
    let end = tokio::select! {
        exit = exit_of(family, main) => return End::Exited(exit),
        () = time_out(job) => End::TimedOut,
        () = abandoned(job, input) => End::Stopped,
    };
    let signal = signals::named(&job.stop_signal).unwrap_or(Signal::TERM);
    family.ask(&[main], signal, Instant::now() + job.grace.duration()).await;
    end
}

async fn exit_of(family: &mut Family, main: u32) -> crate::start::Exit {
    loop {
        let (pid, exit) = family.next_end().await;
        if pid == main {
            return exit;
        }
    }
}

async fn time_out(job: &Job) {
    match job.timeout {
        Some(timeout) => tokio::time::sleep(timeout.duration()).await,
        None => pending().await,
    }
}

/// Whoever started the runner closed its input, on purpose or by dying.
async fn abandoned(job: &Job, mut input: Receiver) {
    let mut nothing = [0; 64];
    while let Ok(1..) = input.read(&mut nothing).await {}
    if job.on_agent_death == OnAgentDeath::Finish {
        pending().await
    }
}

fn left() -> u32 {
    let below = proc::descendants(std::process::id());
    let living = below.iter().filter(|stat| Stat::is_live(stat)).count();
    u32::try_from(living).unwrap_or(u32::MAX)
}
