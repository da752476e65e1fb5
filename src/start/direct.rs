//! landfall's own manager: a shim for each slot, see [`crate::start::shim`].
//!
//! Guarantees: an agent that ends, is killed or is replaced restarts nothing; a stop ends every process that
//! was started, also those that left their group or session; a second start of one `start_id` is none.
//! Without a passed socket a start is stop, then start. With one, the new start stands beside the old on the same
//! socket until one of them is settled on, see [`seats`].

mod end;
mod seats;

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{ChildStdout, Command};
use tokio::time::timeout;

use self::end::end;
use self::seats::{Seat, Seats, files, record};
use super::command::{argv, listens};
use super::shim::SUBCOMMAND;
use super::shim::limits::{ANSWER_WAIT, ORDER_BYTES_MAX};
use super::shim::order::{Answer, Listen, Order, RECORD_FORMAT, Record, SlotFiles, StopOrder};
use super::shim::signals::named;
use super::{Kept, Launch, Manager, Slot, SlotFacts, StartError, durable};
use crate::pending::Pending;
use crate::plan::Running;
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
        let slot = &launch.slot;
        let mut order = order(launch)?;
        let seats = Seats::read(slot)?;
        if record(slot, seats.newest())?.is_some_and(|record| is_this_start(&record, launch)) {
            return Ok(());
        }
        clear(slot, seats.serving.other()).await?;
        let serving = record(slot, seats.serving)?;
        let seat = match (serving, &mut order.listen) {
            (Some(serving), Some(listen)) if can_stay(&serving) => {
                listen.from =
                    (serving.listens == Some(listen.address)).then(|| files(slot, seats.serving).socket());
                let trial = seats.serving.other();
                Seats { serving: seats.serving, trial: Some(trial) }.write(slot)?;
                trial
            }
            (serving, _) => {
                Seats::only(seats.serving).write(slot)?;
                if let Some(serving) = serving {
                    end(slot, &files(slot, seats.serving), &serving, &serving.stop).await?;
                }
                seats.serving
            }
        };
        self.launch(launch, &files(slot, seat), &order).await
    }

    async fn launch(&self, launch: &Launch, files: &SlotFiles, order: &Order) -> Result<(), StartError> {
        write_order(&launch.slot, files, order)?;
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
        Box::pin(async move {
            let seats = Seats::read(slot)?;
            let newest = record(slot, seats.newest())?.map(facts).unwrap_or_default();
            let beside = match seats.trial {
                Some(_) => record(slot, seats.serving)?.and_then(|record| facts(record).supervisor),
                None => None,
            };
            Ok(SlotFacts { beside, ..newest })
        })
    }

    fn keep<'a>(&'a self, launch: &'a Launch) -> Pending<'a, Result<Option<Kept>, StartError>> {
        Box::pin(async move {
            let slot = &launch.slot;
            let seats = Seats::read(slot)?;
            let Some(serving) = record(slot, seats.serving)?.filter(can_stay) else { return Ok(None) };
            let (start_id, since_ticks) = (serving.start_id.clone(), serving.shim.started_ticks);
            if facts(serving).running(&launch.release_dir, launch.spec.instances) != Running::Yes {
                return Ok(None);
            }
            Seats::only(seats.serving).write(slot)?;
            clear(slot, seats.serving.other()).await?;
            Ok(Some(Kept { start_id, since_ticks }))
        })
    }

    fn settle<'a>(&'a self, slot: &'a Slot) -> Pending<'a, Result<(), StartError>> {
        Box::pin(async move {
            let serving = Seats::read(slot)?.newest();
            Seats::only(serving).write(slot)?;
            clear(slot, serving.other()).await
        })
    }

    fn stop<'a>(&'a self, slot: &'a Slot, stop: &'a StopSpec) -> Pending<'a, Result<(), StartError>> {
        Box::pin(async move {
            let serving = Seats::read(slot)?.serving;
            clear(slot, serving.other()).await?;
            Seats::only(serving).write(slot)?;
            match record(slot, serving)? {
                Some(record) => {
                    end(slot, &files(slot, serving), &record, &stop_order(stop, &record.stop)).await
                }
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

/// Whether this start may go on serving while another is tried on its socket: its shim can hand that over.
fn can_stay(serving: &Record) -> bool {
    serving.listens.is_some() && serving.is_of_this_boot() && proc::is_alive(serving.shim)
}

/// Ends whatever is in a seat that is not to serve, as it was to be stopped when it was started.
async fn clear(slot: &Slot, seat: Seat) -> Result<(), StartError> {
    let files = files(slot, seat);
    let Some(record) = read_record(&files)? else { return Ok(()) };
    end(slot, &files, &record, &record.stop).await?;
    remove_if_there(&files.socket())?;
    remove_if_there(&files.record())
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
        listen: listens(&launch.spec, &launch.env)
            .map_err(|why| refused(launch, why))?
            .map(|address| Listen { address, name: launch.slot.process.to_string(), from: None }),
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
    durable::read_known(&path, ORDER_BYTES_MAX, RECORD_FORMAT).map_err(|source| at(&path, source))
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
        beside: None,
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
