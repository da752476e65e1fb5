//! The supervisor of one slot's processes.
//!
//! It lives in its own session, owns the output of its processes, reaps them, writes down how each ended,
//! starts them again within a budget, and ends every one of them when it is told to stop (SIGTERM).

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Instant;

use rustix::fs::{FlockOperation, flock};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::{JoinHandle, LocalSet};

use super::budget::{Budget, Next};
use super::family::Family;
use super::limits::{DRAIN_WAIT, ORDER_BYTES_MAX};
use super::log::{Keep, Lines, Log};
use super::order::{Answer, Order, RECORD_FORMAT, Record, SlotFiles, StopOrder};
use super::pump::pump;
use super::{signals, socket};
use crate::proc;
use crate::start::command::prepare;
use crate::start::{Exit, ProcessId, durable};

/// Runs until told to stop or out of restarts.
pub(super) fn main(dir: &Path) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let files = SlotFiles { dir: dir.to_owned() };
        match Supervisor::begin(files).await {
            Ok(supervisor) => {
                answer(&Answer::Started)?;
                supervisor.keep_running().await
            }
            Err(error) => {
                answer(&Answer::Failed(error.to_string()))?;
                Err(error)
            }
        }
    })
}

/// Answers whoever launched, and lets go of the pipe.
fn answer(answer: &Answer) -> io::Result<()> {
    let line = serde_json::to_string(answer).map_err(io::Error::other)?;
    // Nobody may be listening any more: the app runs all the same, and the record says so.
    let _ = writeln!(io::stdout(), "{line}");
    let nothing = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(&nothing)?;
    rustix::stdio::dup2_stderr(&nothing)?;
    Ok(())
}

/// One instance of the app.
struct Instance {
    running: Option<ProcessId>,
    budget: Budget,
    restart_at: Option<Instant>,
}

impl Instance {
    fn new(order: &Order) -> Self {
        Self {
            running: None,
            budget: Budget::new(order.restart_delay.map(|delay| delay.duration())),
            restart_at: None,
        }
    }
}

struct Supervisor {
    files: SlotFiles,
    order: Order,
    record: Record,
    family: Family,
    told: Signal,
    instances: Vec<Instance>,
    log: Rc<RefCell<Log>>,
    pumps: Vec<JoinHandle<()>>,
    began: Instant,
    /// The socket its processes are given.
    listener: Option<TcpListener>,
    /// Held while this process lives: a second supervisor of the slot is refused.
    _lock: File,
}

/// Why the loop woke up.
enum Event {
    Ended(u32, Exit),
    RestartDue,
    Told,
}

impl Supervisor {
    async fn begin(files: SlotFiles) -> io::Result<Self> {
        rustix::process::setsid()?;
        std::env::set_current_dir("/")?;
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        let lock = take_lock(&files)?;
        let order = take_order(&files)?;
        let listener = order.listen.as_ref().map(socket::obtain).transpose()?;
        let log = Log::open(&order.log, Keep::default()).map_err(|error| named(&order.log, &error))?;
        let mut supervisor = Self {
            record: first_record(&order)?,
            family: Family::new()?,
            told: signal(SignalKind::terminate())?,
            instances: (0..order.instances).map(|_| Instance::new(&order)).collect(),
            log: Rc::new(RefCell::new(log)),
            pumps: Vec::new(),
            began: Instant::now(),
            listener,
            _lock: lock,
            files,
            order,
        };
        match supervisor.start_all() {
            Ok(()) => Ok(supervisor),
            Err(error) => {
                supervisor.family.kill_all().await;
                Err(error)
            }
        }
    }

    fn start_all(&mut self) -> io::Result<()> {
        if let Some(listener) = &self.listener {
            socket::hand_out(&self.files, listener).map_err(|error| named(&self.files.socket(), &error))?;
        }
        for index in 0..self.instances.len() {
            let pid = self.spawn()?;
            self.instances[index].running = Some(pid);
        }
        self.write_record()
    }

    fn spawn(&mut self) -> io::Result<ProcessId> {
        let mut command = self.command()?;
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let spawned = self.family.spawn(&mut command);
        let mut child = spawned.map_err(|error| self.why_not(&error))?;
        let out = child.stdout.take().map(OwnedFd::from);
        let err = child.stderr.take().map(OwnedFd::from);
        self.pumps.retain(|pump| !pump.is_finished());
        self.pumps.extend(out.into_iter().chain(err).map(|pipe| log_lines(pipe, &self.log)));
        // Not reaped yet, so the pid is still this child's, a zombie's at worst.
        let stat = proc::stat(child.id()).ok_or_else(|| io::Error::other("/proc is not readable"))?;
        Ok(stat.id)
    }

    fn command(&self) -> io::Result<Command> {
        let Order { argv, release_dir, env, run_as, listen, .. } = &self.order;
        match (listen, &self.listener) {
            (Some(listen), Some(listener)) => {
                socket::passing(listener, &listen.name, argv, release_dir, env, *run_as)
            }
            _ => Ok(prepare(argv, release_dir, env, *run_as)),
        }
    }

    fn why_not(&self, error: &io::Error) -> io::Error {
        let program = self.order.argv.first().map_or("", String::as_str);
        let dir = self.order.release_dir.display();
        io::Error::other(format!("`{program}` in {dir}: {error}"))
    }

    async fn keep_running(mut self) -> io::Result<()> {
        loop {
            let due = self.instances.iter().filter_map(|instance| instance.restart_at).min();
            let event = tokio::select! {
                (pid, exit) = self.family.next_end() => Event::Ended(pid, exit),
                () = until(due) => Event::RestartDue,
                _ = self.told.recv() => Event::Told,
            };
            match event {
                Event::Ended(pid, exit) => self.ended(pid, exit).await,
                Event::RestartDue => self.restart_due(),
                Event::Told => return self.stop().await,
            }
            if self.record.gave_up {
                return self.give_up().await;
            }
        }
    }

    /// Adopted orphans end here as well; they are nobody's main process.
    async fn ended(&mut self, pid: u32, exit: Exit) {
        let is_it = |instance: &Instance| instance.running.is_some_and(|id| id.pid == pid);
        let Some(index) = self.instances.iter().position(is_it) else {
            return;
        };
        self.note(&format!("process {pid} ended with {}", shown(exit)));
        self.instances[index].running = None;
        self.record.last_exit = Some(exit);
        self.plan_restart(index);
        self.write_record_or_note();
        self.clear_remains(pid).await;
    }

    /// What a dead process left behind may hold its port.
    async fn clear_remains(&mut self, main: u32) {
        match self.instances.len() {
            1 => self.family.kill_all().await,
            _ => self.family.kill_groups(&[main]).await,
        };
    }

    fn plan_restart(&mut self, index: usize) {
        let now = Instant::now();
        match self.instances[index].budget.after_death(now - self.began) {
            Next::Restart(pause) => self.instances[index].restart_at = Some(now + pause),
            Next::GiveUp => {
                self.note("gave up: it died too often in too short a time");
                self.record.gave_up = true;
            }
        }
    }

    fn restart_due(&mut self) {
        let now = Instant::now();
        for index in 0..self.instances.len() {
            if self.instances[index].restart_at.is_some_and(|at| at <= now) {
                self.instances[index].restart_at = None;
                self.restart(index);
            }
        }
        self.write_record_or_note();
    }

    fn restart(&mut self, index: usize) {
        self.record.restarts += 1;
        match self.spawn() {
            Ok(pid) => self.instances[index].running = Some(pid),
            Err(error) => {
                self.note(&format!("cannot start again: {error}"));
                self.plan_restart(index);
            }
        }
    }

    async fn give_up(mut self) -> io::Result<()> {
        let stop = self.order.stop.clone();
        self.end_everything(&stop).await;
        self.write_record()
    }

    async fn stop(mut self) -> io::Result<()> {
        let asked = durable::read_json(&self.files.stop(), ORDER_BYTES_MAX).ok().flatten();
        let stop = asked.unwrap_or_else(|| self.order.stop.clone());
        self.end_everything(&stop).await;
        self.write_record()
    }

    /// Asks the groups, then kills all that is left: members that did not listen, and whoever left them.
    async fn end_everything(&mut self, stop: &StopOrder) {
        let mains: Vec<ProcessId> = self.instances.iter().filter_map(|one| one.running).collect();
        let groups: Vec<u32> = mains.iter().map(|id| id.pid).collect();
        let deadline = Instant::now() + stop.grace.duration();
        let helper = stop.argv.as_ref().and_then(|argv| self.run_stop_command(argv));
        match (helper, signals::named(&stop.signal)) {
            (None, Some(signal)) => self.family.ask(&groups, signal, deadline).await,
            _ => self.family.gone_before(&groups, deadline).await,
        };
        self.family.kill_all().await;
        for main in mains {
            let end = self.family.take_end(main.pid);
            self.record.last_exit = end.or(self.record.last_exit);
        }
        for instance in &mut self.instances {
            instance.running = None;
        }
        self.drain().await;
    }

    fn run_stop_command(&mut self, argv: &[String]) -> Option<u32> {
        let order = &self.order;
        let mut command = prepare(argv, &order.release_dir, &order.env, order.run_as);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        match self.family.spawn(&mut command) {
            Ok(child) => Some(child.id()),
            Err(error) => {
                self.note(&format!("the stop command did not start: {error}"));
                None
            }
        }
    }

    /// The last lines of a dead process are still in its pipe.
    async fn drain(&mut self) {
        for pump in self.pumps.drain(..) {
            let _ = tokio::time::timeout(DRAIN_WAIT, pump).await;
        }
    }

    fn write_record(&mut self) -> io::Result<()> {
        self.record.processes = self.instances.iter().filter_map(|one| one.running).collect();
        durable::write_json(&self.files.record(), 0o600, &self.record)
    }

    /// A full disk must not stop the app: /proc still tells the truth about it.
    fn write_record_or_note(&mut self) {
        if let Err(error) = self.write_record() {
            self.note(&format!("cannot write {}: {error}", self.files.record().display()));
        }
    }

    fn note(&self, text: &str) {
        self.log.borrow_mut().note(text);
    }
}

fn take_lock(files: &SlotFiles) -> io::Result<File> {
    let lock = File::options().create(true).append(true).open(files.lock())?;
    let held = |_| io::Error::other("another shim still holds this slot");
    flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(held)?;
    Ok(lock)
}

/// The order holds the environment: it is gone from the disk before the app runs.
fn take_order(files: &SlotFiles) -> io::Result<Order> {
    let path = files.launch();
    let order = durable::read_json(&path, ORDER_BYTES_MAX).map_err(|error| named(&path, &error))?;
    std::fs::remove_file(&path)?;
    order.ok_or_else(|| named(&path, &io::ErrorKind::NotFound.into()))
}

fn first_record(order: &Order) -> io::Result<Record> {
    let own = proc::identity(std::process::id());
    Ok(Record {
        format: RECORD_FORMAT,
        boot: proc::boot(),
        start_id: order.start_id.clone(),
        release_dir: order.release_dir.clone(),
        shim: own.ok_or_else(|| io::Error::other("/proc is not readable"))?,
        processes: Vec::new(),
        restarts: 0,
        last_exit: None,
        gave_up: false,
        stop: order.stop.clone(),
        listens: order.listen.as_ref().map(|listen| listen.address),
    })
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn log_lines(pipe: OwnedFd, log: &Rc<RefCell<Log>>) -> JoinHandle<()> {
    let log = Rc::clone(log);
    tokio::task::spawn_local(async move {
        let mut lines = Lines::default();
        pump(pipe, |bytes| lines.push(bytes, |line| log.borrow_mut().line(line))).await;
        lines.end(&mut |line: &[u8]| log.borrow_mut().line(line));
    })
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

fn shown(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("status {code}"),
        Exit::Signal(signal) => format!("signal {signal}"),
    }
}
