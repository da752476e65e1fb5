//! landfall's own manager: a shim for each slot, see [`crate::start::shim`].
//!
//! Guarantees: an agent that ends, is killed or is replaced restarts nothing; a stop ends every process that
//! was started, also those that left their group or session; a second start of one `start_id` is none.
//! Without a passed socket a start is stop, then start.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{ChildStdout, Command};
use tokio::time::{sleep, timeout};

use super::command::argv;
use super::shim::SUBCOMMAND;
use super::shim::family::signal_group;
use super::shim::limits::{
    ANSWER_WAIT, KILL_WAIT, LOOK_AGAIN, LOOK_AGAIN_MAX, ORDER_BYTES_MAX, SHIM_STOP_WAIT,
};
use super::shim::order::{Answer, Order, RECORD_FORMAT, Record, SlotFiles, StopOrder};
use super::shim::signals::named;
use super::{Launch, Manager, ProcessId, Slot, SlotFacts, StartError, durable};
use crate::pending::Pending;
use crate::proc;
use crate::spec::StopSpec;

const MANAGER: &str = "direct";

/// Starts processes under shims.
#[derive(Debug, Clone)]
pub struct Direct {
    executable: PathBuf,
}

impl Direct {
    /// Shims are this very program.
    pub fn of_this_program() -> Self {
        Self::with_executable(proc::OWN_PROGRAM.into())
    }

    /// Shims are this landfall binary.
    pub fn with_executable(executable: PathBuf) -> Self {
        Self { executable }
    }

    async fn start(&self, launch: &Launch) -> Result<(), StartError> {
        let order = order(launch)?;
        let files = files(&launch.slot);
        let record = read_record(&files)?;
        if record.as_ref().is_some_and(|record| is_this_start(record, launch)) {
            return Ok(());
        }
        if let Some(record) = record {
            end(&launch.slot, &files, &record, &record.stop).await?;
        }
        write_order(&launch.slot, &files, &order)?;
        let answer = self.launch_shim(&files.dir).await;
        // An unread order must not stay: it holds the environment.
        let _ = std::fs::remove_file(files.launch());
        match answer {
            Ok(Answer::Started) => Ok(()),
            Ok(Answer::Failed(why)) => Err(refused(launch, why)),
            Err(why) => Err(StartError::ManagerDown { manager: MANAGER, why }),
        }
    }

    async fn launch_shim(&self, dir: &Path) -> Result<Answer, String> {
        let mut command = Command::new(&self.executable);
        command.arg0("landfall").arg(SUBCOMMAND).arg("launch").arg(dir);
        command.env_clear().current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let spawned = command.spawn();
        let mut child = spawned.map_err(|error| format!("{}: {error}", self.executable.display()))?;
        let pipe = child.stdout.take();
        let answer = timeout(ANSWER_WAIT, first_line(pipe)).await;
        let _ = timeout(ANSWER_WAIT, child.wait()).await;
        let line = answer.map_err(|_| format!("the shim did not answer in {ANSWER_WAIT:?}"))?;
        serde_json::from_str(&line).map_err(|_| "the shim ended without an answer".to_owned())
    }
}

impl Manager for Direct {
    fn ready<'a>(&'a self, _: &'a Slot) -> Pending<'a, Result<(), StartError>> {
        // The shim is this program itself.
        Box::pin(async { Ok(()) })
    }

    fn start<'a>(&'a self, launch: &'a Launch) -> Pending<'a, Result<(), StartError>> {
        Box::pin(self.start(launch))
    }

    fn inspect<'a>(&'a self, slot: &'a Slot) -> Pending<'a, Result<SlotFacts, StartError>> {
        Box::pin(async move { Ok(read_record(&files(slot))?.map(facts).unwrap_or_default()) })
    }

    fn stop<'a>(&'a self, slot: &'a Slot, stop: &'a StopSpec) -> Pending<'a, Result<(), StartError>> {
        Box::pin(async move {
            let files = files(slot);
            match read_record(&files)? {
                Some(record) => end(slot, &files, &record, &stop_order(stop, &record.stop)).await,
                None => Ok(()),
            }
        })
    }

    fn persist<'a>(&'a self, _: &'a Slot) -> Pending<'a, Result<(), StartError>> {
        // After a reboot the agent starts what was last healthy: there is nothing to save.
        Box::pin(async { Ok(()) })
    }
}

async fn first_line(pipe: Option<ChildStdout>) -> String {
    let mut line = String::new();
    if let Some(pipe) = pipe {
        let _ = BufReader::new(pipe).read_line(&mut line).await;
    }
    line
}

fn files(slot: &Slot) -> SlotFiles {
    SlotFiles::new(&slot.run_dir, &slot.process)
}

fn order(launch: &Launch) -> Result<Order, StartError> {
    let argv = |command| argv(command, &launch.env).map_err(|error| refused(launch, error.to_string()));
    Ok(Order {
        start_id: launch.start_id.clone(),
        argv: argv(&launch.spec.command)?,
        release_dir: launch.release_dir.clone(),
        env: launch.env.clone(),
        run_as: launch.slot.account.as_ref().map(Into::into),
        instances: launch.spec.instances,
        restart_delay: launch.spec.restart_delay,
        stop: StopOrder {
            signal: checked_signal(launch)?,
            grace: launch.spec.stop.grace,
            argv: launch.spec.stop.command.as_ref().map(argv).transpose()?,
        },
        log: launch.slot.log_path(),
    })
}

fn checked_signal(launch: &Launch) -> Result<String, StartError> {
    let signal = &launch.spec.stop.signal;
    match named(signal) {
        Some(_) => Ok(signal.clone()),
        None => Err(refused(launch, format!("`{signal}` is not a signal that stops a process"))),
    }
}

fn refused(launch: &Launch, why: String) -> StartError {
    StartError::Refused { manager: MANAGER, process: launch.slot.process.clone(), why }
}

fn write_order(slot: &Slot, files: &SlotFiles, order: &Order) -> Result<(), StartError> {
    durable::private_dir(&files.dir).map_err(|source| at(&files.dir, source))?;
    std::fs::create_dir_all(&slot.logs_dir).map_err(|source| at(&slot.logs_dir, source))?;
    remove_if_there(&files.stop())?;
    durable::write_json(&files.launch(), 0o600, order).map_err(|source| at(&files.launch(), source))
}

fn remove_if_there(path: &Path) -> Result<(), StartError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(at(path, source)),
        _ => Ok(()),
    }
}

fn at(path: &Path, source: io::Error) -> StartError {
    StartError::Io { path: path.to_owned(), source }
}

fn read_record(files: &SlotFiles) -> Result<Option<Record>, StartError> {
    let path = files.record();
    let record: Option<Record> =
        durable::read_json(&path, ORDER_BYTES_MAX).map_err(|source| at(&path, source))?;
    match record {
        Some(record) if record.format > RECORD_FORMAT => Err(at(&path, too_new(record.format))),
        record => Ok(record),
    }
}

fn too_new(format: u32) -> io::Error {
    io::Error::other(format!(
        "was written by a newer landfall (format {format}, this one knows {RECORD_FORMAT}): install that one again"
    ))
}

fn is_this_start(record: &Record, launch: &Launch) -> bool {
    record.start_id == launch.start_id && record.is_of_this_boot() && proc::is_alive(record.shim)
}

/// A record is believed only where /proc agrees.
fn facts(record: Record) -> SlotFacts {
    let now = record.is_of_this_boot();
    let living = record.processes.iter().copied().filter(|id| now && proc::is_alive(*id));
    let supervisor = (now && proc::is_alive(record.shim)).then_some(record.shim);
    SlotFacts {
        processes: living.collect(),
        supervisor,
        returns: supervisor.is_some(),
        start_id: Some(record.start_id),
        release_dir: Some(record.release_dir),
        restarts: record.restarts,
        last_exit: record.last_exit,
        // Whatever it was that kept killing the app, a reboot is a new beginning.
        gave_up: now && record.gave_up,
    }
}

/// The signal and grace wished for now; the command only as it was expanded at the start.
fn stop_order(stop: &StopSpec, recorded: &StopOrder) -> StopOrder {
    StopOrder {
        signal: stop.signal.clone(),
        grace: stop.grace,
        argv: stop.command.as_ref().and(recorded.argv.clone()),
    }
}

async fn end(slot: &Slot, files: &SlotFiles, record: &Record, stop: &StopOrder) -> Result<(), StartError> {
    // Processes of another boot are gone, and their numbers belong to strangers now.
    if !record.is_of_this_boot() {
        return Ok(());
    }
    end_shim(files, record, stop).await?;
    // Only when the shim was killed is there anything left: it ends all it has before it ends itself.
    end_orphans(slot, record, stop).await
}

async fn end_shim(files: &SlotFiles, record: &Record, stop: &StopOrder) -> Result<(), StartError> {
    if !proc::is_alive(record.shim) {
        return Ok(());
    }
    // Without a stop file (a full disk) the shim stops as it was told at its start.
    let _ = durable::write_json(&files.stop(), 0o600, stop);
    proc::signal(record.shim, Signal::TERM);
    if !proc::exited_within(record.shim, stop.grace.duration() + SHIM_STOP_WAIT).await {
        proc::signal(record.shim, Signal::KILL);
        proc::exited_within(record.shim, KILL_WAIT).await;
    }
    remove_if_there(&files.stop())
}

/// Ends what a killed shim left: known by the recorded identities, by their groups, by the shim's session,
/// and by the start's random id in their environment.
async fn end_orphans(slot: &Slot, record: &Record, stop: &StopOrder) -> Result<(), StartError> {
    let left = orphans(record);
    if left.is_empty() {
        return Ok(());
    }
    let signal = named(&stop.signal).unwrap_or(Signal::TERM);
    for main in record.processes.iter().filter(|id| proc::is_alive(**id)) {
        signal_group(main.pid, signal);
    }
    let left = outlived(left, record, stop.grace.duration(), |_| ()).await;
    let kill = |id| {
        proc::signal(id, Signal::KILL);
    };
    match outlived(left, record, KILL_WAIT, kill).await.first() {
        Some(id) => Err(would_not_die(slot, id.pid)),
        None => Ok(()),
    }
}

fn orphans(record: &Record) -> Vec<ProcessId> {
    let mut found = proc::started_with("LANDFALL_START", &record.start_id);
    found.extend(proc::session(record.shim.pid).into_iter().map(|stat| stat.id));
    for main in record.processes.iter().filter(|id| proc::is_alive(**id)) {
        found.push(*main);
        found.extend(proc::group(main.pid).into_iter().map(|stat| stat.id));
        let below = proc::descendants(main.pid).into_iter();
        found.extend(below.filter(proc::Stat::is_live).map(|stat| stat.id));
    }
    found.sort_unstable_by_key(|id| id.pid);
    found.dedup();
    found
}

/// Those that still live when the time is up, newcomers included; `each` is done to them at every look.
async fn outlived(
    mut known: Vec<ProcessId>,
    record: &Record,
    limit: Duration,
    each: impl Fn(ProcessId),
) -> Vec<ProcessId> {
    let deadline = Instant::now() + limit;
    let mut pause = LOOK_AGAIN;
    loop {
        known.extend(orphans(record));
        known.retain(|id| proc::is_alive(*id));
        if known.is_empty() || Instant::now() >= deadline {
            return known;
        }
        known.iter().copied().for_each(&each);
        sleep(pause).await;
        pause = (pause * 2).min(LOOK_AGAIN_MAX);
    }
}

fn would_not_die(slot: &Slot, pid: u32) -> StartError {
    StartError::WouldNotDie {
        process: slot.process.clone(),
        pid,
        waited_ms: u64::try_from(KILL_WAIT.as_millis()).unwrap_or(u64::MAX),
    }
}
