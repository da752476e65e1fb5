//! Real pm2, in cluster or fork mode.
//!
//! pm2 runs landfall's launcher, never the app: `run/launcher.cjs` resolves `current` at each spawn, so that
//! code, directory and environment are those of the release. pm2's exit status is no evidence: what runs is
//! read from `/proc`.
//!
//! Files in `run/`: `launcher.cjs`; `pm2/<process>/ecosystem.json` (what pm2 reads, no secrets);
//! `pm2/<process>/order.json` (0600, the account's: entry, arguments and what this start's environment has
//! beyond the release's own `.landfall/env.json`); `processes/<process>/pm2.json` (what was asked of pm2).

mod cli;
mod ecosystem;
mod files;
pub mod foreign;
pub mod limits;
mod words;
mod workers;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Zoned;
use rustix::fs::OFlags;
use rustix::process::Signal;
use tokio::time::sleep;

use self::cli::Cli;
use self::ecosystem::{Entry, ecosystem, mode, name, objection};
use self::files::{Asked, Files, at};
use self::limits::{CALL_WAIT, DAEMON_TRIES, HOME_BYTES_MAX, LISTEN_TIMEOUT, RESURRECT_WAIT, SETTLE_WAIT};
use self::words::Words;
use super::command::{argv, find};
use super::shim::limits::{KILL_WAIT, LOOK_AGAIN, LOOK_AGAIN_MAX};
use super::{Account, Launch, Manager, ProcessId, Slot, SlotFacts, StartError, durable};
use crate::pending::Pending;
use crate::proc;
use crate::spec::{Pm2Mode, StopSpec};

const MANAGER: &str = "pm2";

/// One pm2 daemon: that of one `PM2_HOME`.
#[derive(Debug, Clone)]
pub struct Pm2 {
    cli: Cli,
}

impl Pm2 {
    /// The `pm2` on this search path, with this `PM2_HOME` (one for each service user).
    ///
    /// # Errors
    /// [`StartError::ManagerDown`] when there is none, or the home's name is too long for pm2's sockets.
    pub fn on_path(home: PathBuf, path: &str) -> Result<Self, StartError> {
        let program = find("pm2", path).ok_or_else(|| {
            down(format!("there is no `pm2` on PATH ({path}): install it with `npm install -g pm2`"))
        })?;
        Self::with_program(program, home, path)
    }

    /// This pm2 program; `path` is how it finds node.
    pub fn with_program(program: PathBuf, home: PathBuf, path: &str) -> Result<Self, StartError> {
        if home.as_os_str().len() > HOME_BYTES_MAX {
            let home = home.display();
            return Err(down(format!(
                "{home} is too long for a socket's name: at most {HOME_BYTES_MAX} bytes"
            )));
        }
        let path = path.to_owned();
        Ok(Self { cli: Cli { program, home, path } })
    }

    /// Asks a daemon that runs. One that does not is not started for this: what its death left over is found by
    /// its absence.
    async fn ready(&self, slot: &Slot) -> Result<(), StartError> {
        if workers::daemon(&self.cli.home).is_none() {
            return Ok(());
        }
        let said = self.cli.call(&["ping".as_ref()], slot.account.as_ref(), CALL_WAIT).await.map_err(down)?;
        if said.ok { Ok(()) } else { Err(down(format!("`pm2 ping` failed: {}", said.text))) }
    }

    async fn start(&self, launch: &Launch) -> Result<(), StartError> {
        let slot = &launch.slot;
        let argv = argv(&launch.spec.command, &launch.env).map_err(|why| refused(slot, why.to_string()))?;
        let entry = Entry::of(&launch.spec.command, &argv);
        if let Some(why) = objection(&launch.spec, &entry) {
            return Err(refused(slot, why));
        }
        let files = Files::of(slot);
        let mut asking = Asked::begun(launch, ecosystem(slot, &launch.spec, &entry, &files));
        let before = files.read_asked()?;
        let is_same = |asked: &Asked| asked.start_id.as_deref() == Some(launch.start_id.as_str());
        if before.as_ref().is_some_and(is_same) && self.runs(launch) {
            return Ok(());
        }
        self.make_home(slot.account.as_ref())?;
        self.make_way(launch, before.as_ref(), &asking).await?;
        files.write(launch, &entry, &asking.settings)?;
        // Written before pm2 acts: after a crash in between, nobody must think that it has acted.
        files.write_asked(&asking)?;
        self.reload(launch, &entry, &files).await?;
        asking.workers = self.settled(launch).await;
        asking.start_id = Some(launch.start_id.clone());
        files.write_asked(&asking)?;
        self.end_leftovers(slot, before.and_then(|before| before.start_id)).await
    }

    /// Every instance runs, and in this release.
    fn runs(&self, launch: &Launch) -> bool {
        let workers = self.workers(&launch.slot);
        let wanted = usize::try_from(launch.spec.instances).unwrap_or(usize::MAX);
        workers.len() == wanted && workers.iter().all(|id| proc::works_under(*id, &launch.release_dir))
    }

    /// pm2 runs as many as it should, and has given none of them up.
    fn is_whole(&self, launch: &Launch) -> bool {
        let wanted = usize::try_from(launch.spec.instances).unwrap_or(usize::MAX);
        let words = Words::read(&self.cli.home, &name(&launch.slot));
        self.workers(&launch.slot).len() == wanted && !words.errored
    }

    fn workers(&self, slot: &Slot) -> Vec<ProcessId> {
        workers::workers(&self.cli.home, &name(slot))
    }

    /// The daemon, if there is exactly one.
    fn daemon(&self) -> Option<ProcessId> {
        workers::daemon(&self.cli.home).filter(|daemon| workers::daemons(&self.cli.home) == [*daemon])
    }

    /// Sees to it that there is exactly one daemon. pm2's own start after a reboot may be at work at the same
    /// moment, and so may the start of another app: whoever finds no daemon starts one.
    async fn ensure_daemon(&self, slot: &Slot) -> Result<(), StartError> {
        if self.daemon().is_some() {
            return Ok(());
        }
        let lock = launching(&self.cli.home);
        let _one_at_a_time = lock.lock().await;
        for _ in 0..DAEMON_TRIES {
            if let Some(client) = workers::resurrecting(&self.cli.home) {
                proc::exited_within(client, RESURRECT_WAIT).await;
            }
            let daemons = workers::daemons(&self.cli.home);
            match self.daemon() {
                Some(_) => return Ok(()),
                None if daemons.is_empty() => {}
                None => end_daemons(slot, daemons).await?,
            }
            self.cli.call(&["ping".as_ref()], slot.account.as_ref(), CALL_WAIT).await.map_err(down)?;
        }
        self.daemon().map(drop).ok_or_else(|| down("it does not come to exactly one daemon".to_owned()))
    }

    /// A reload changes neither mode nor number of instances: other settings need a fresh start. Orphans of a
    /// dead daemon would keep the port.
    async fn make_way(&self, launch: &Launch, before: Option<&Asked>, now: &Asked) -> Result<(), StartError> {
        let slot = &launch.slot;
        let same = before.is_some_and(|before| before.settings == now.settings);
        let fresh = before.is_none() && self.workers(slot).is_empty();
        self.ensure_daemon(slot).await?;
        // What a dead daemon left would keep the port.
        let Some(daemon) = self.daemon() else { return Err(down("its daemon did not stay up".to_owned())) };
        let mut orphans = self.workers(slot);
        orphans.retain(|id| !workers::starts_again(daemon, *id));
        end_all(slot, launch.spec.stop.grace.duration(), orphans, Vec::new).await?;
        // Of what pm2 has given up, or has another number of, a reload would leave as many.
        match fresh || same && self.is_whole(launch) {
            true => Ok(()),
            false => self.delete(slot, launch.spec.stop.grace.duration()).await,
        }
    }

    fn make_home(&self, account: Option<&Account>) -> Result<(), StartError> {
        let home = &self.cli.home;
        if home.is_dir() {
            return Ok(());
        }
        durable::private_dir(home).map_err(at(home))?;
        give(home, account)
    }

    async fn reload(&self, launch: &Launch, entry: &Entry, files: &Files) -> Result<(), StartError> {
        let slot = &launch.slot;
        let call: [&OsStr; 2] = ["startOrReload".as_ref(), files.ecosystem.as_os_str()];
        let said =
            self.cli.call(&call, slot.account.as_ref(), patience(launch, entry)).await.map_err(down)?;
        if workers::daemon(&self.cli.home).is_none() {
            return Err(down(format!("its daemon did not stay up: {}", said.text)));
        }
        // A reload that left nothing exits 0 as well: then it is for the health check to say what is wrong.
        match said.ok || !self.workers(slot).is_empty() {
            true => Ok(()),
            false => Err(refused(slot, said.text)),
        }
    }

    /// The workers once they stand in the release, or whatever there is when the time is up.
    async fn settled(&self, launch: &Launch) -> Vec<ProcessId> {
        let deadline = Instant::now() + SETTLE_WAIT;
        let mut pause = LOOK_AGAIN;
        while !self.runs(launch) && Instant::now() < deadline && !self.workers(&launch.slot).is_empty() {
            sleep(pause).await;
            pause = (pause * 2).min(LOOK_AGAIN_MAX);
        }
        self.workers(&launch.slot)
    }

    /// What workers of the start before have left running: it carries that start's id.
    async fn end_leftovers(&self, slot: &Slot, before: Option<String>) -> Result<(), StartError> {
        let left = before.map(|id| proc::started_with("LANDFALL_START", &id)).unwrap_or_default();
        end_all(slot, Duration::ZERO, left, Vec::new).await
    }

    async fn inspect(&self, slot: &Slot) -> Result<SlotFacts, StartError> {
        let Some(asked) = Files::of(slot).read_asked()? else {
            return Ok(SlotFacts::default());
        };
        let processes = self.workers(slot);
        let words = Words::read(&self.cli.home, &name(slot));
        let supervisor =
            self.daemon().filter(|daemon| processes.iter().all(|id| workers::starts_again(*daemon, *id)));
        // A dead daemon gave nothing up: it is missing, and comes back.
        let gave_up =
            supervisor.is_some() && (words.errored || words.too_many_deaths(Zoned::now().datetime()));
        let newcomers = processes.iter().filter(|id| !asked.workers.contains(id)).count();
        Ok(SlotFacts {
            start_id: asked.start_id,
            release_dir: Some(asked.release_dir),
            processes,
            supervisor,
            returns: false,
            restarts: u32::try_from(newcomers).unwrap_or(u32::MAX),
            last_exit: words.last_exit,
            gave_up,
            beside: None,
        })
    }

    async fn stop(&self, slot: &Slot, stop: &StopSpec) -> Result<(), StartError> {
        let grace = stop.grace.duration();
        match workers::daemon(&self.cli.home) {
            Some(_) => self.delete(slot, grace).await,
            None => self.end(slot, Vec::new(), grace).await,
        }
    }

    /// Takes the slot from pm2, and ends what is left of it.
    async fn delete(&self, slot: &Slot, grace: Duration) -> Result<(), StartError> {
        let known = self.everything(slot);
        let name = name(slot);
        let call: [&OsStr; 2] = ["delete".as_ref(), name.as_ref()];
        self.cli.call(&call, slot.account.as_ref(), grace + CALL_WAIT).await.map_err(down)?;
        self.end(slot, known, Duration::ZERO).await
    }

    /// Workers, all below them, and whatever else carries the id of their start.
    fn everything(&self, slot: &Slot) -> Vec<ProcessId> {
        let mut found = workers::workers(&self.cli.home, &name(slot));
        let below = |id: &ProcessId| proc::descendants(id.pid);
        let below: Vec<ProcessId> = found.iter().flat_map(below).map(|stat| stat.id).collect();
        found.extend(below);
        let asked = Files::of(slot).read_asked().ok().flatten();
        let start_id = asked.and_then(|asked| asked.start_id);
        found.extend(start_id.iter().flat_map(|id| proc::started_with("LANDFALL_START", id)));
        found
    }

    async fn end(&self, slot: &Slot, known: Vec<ProcessId>, grace: Duration) -> Result<(), StartError> {
        end_all(slot, grace, known, || self.everything(slot)).await
    }

    async fn persist(&self, slot: &Slot) -> Result<(), StartError> {
        let call: [&OsStr; 2] = ["save".as_ref(), "--force".as_ref()];
        let said = self.cli.call(&call, slot.account.as_ref(), CALL_WAIT).await.map_err(down)?;
        let dump = self.cli.home.join("dump.pm2");
        match make_private(&dump) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(down(format!("`pm2 save` wrote no {}: {}", dump.display(), said.text)))
            }
            done => done.map_err(at(&dump)),
        }
    }
}

impl Manager for Pm2 {
    fn ready<'a>(&'a self, slot: &'a Slot) -> Pending<'a, Result<(), StartError>> {
        Box::pin(self.ready(slot))
    }

    fn start<'a>(&'a self, launch: &'a Launch) -> Pending<'a, Result<(), StartError>> {
        Box::pin(self.start(launch))
    }

    fn inspect<'a>(&'a self, slot: &'a Slot) -> Pending<'a, Result<SlotFacts, StartError>> {
        Box::pin(self.inspect(slot))
    }

    fn stop<'a>(&'a self, slot: &'a Slot, stop: &'a StopSpec) -> Pending<'a, Result<(), StartError>> {
        Box::pin(self.stop(slot, stop))
    }

    fn forget<'a>(&'a self, slot: &'a Slot, stop: &'a StopSpec) -> Pending<'a, Result<(), StartError>> {
        Box::pin(async move {
            self.stop(slot, stop).await?;
            // Saving without a daemon would start an empty one, and save that over what other apps have.
            match workers::daemon(&self.cli.home) {
                Some(_) => self.persist(slot).await,
                None => Ok(()),
            }
        })
    }

    fn persist<'a>(&'a self, slot: &'a Slot) -> Pending<'a, Result<(), StartError>> {
        Box::pin(self.persist(slot))
    }
}

/// Every instance may wait for its timeout and for its predecessor's end.
fn patience(launch: &Launch, entry: &Entry) -> Duration {
    let spec = &launch.spec;
    let listen = spec.listen_timeout.map_or(LISTEN_TIMEOUT, |timeout| timeout.duration());
    let each = listen + spec.stop.grace.duration();
    CALL_WAIT
        + match mode(spec, entry) {
            Pm2Mode::Cluster => each * spec.instances,
            Pm2Mode::Fork => each,
        }
}

/// Held while a daemon is being started in a home: two starts at once would make two daemons.
fn launching(home: &Path) -> Arc<tokio::sync::Mutex<()>> {
    static HOMES: Mutex<BTreeMap<PathBuf, Arc<tokio::sync::Mutex<()>>>> = Mutex::new(BTreeMap::new());
    let mut homes = HOMES.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    Arc::clone(homes.entry(home.to_owned()).or_default())
}

/// Ends daemons that stand in each other's way. Each takes its workers with it; every app that had some is
/// started again by its own next tick.
async fn end_daemons(slot: &Slot, daemons: Vec<ProcessId>) -> Result<(), StartError> {
    tracing::warn!(app = %slot.app, daemons = daemons.len(), "pm2 has not exactly one daemon; starting it anew");
    for (signal, limit) in [(Signal::TERM, CALL_WAIT / 3), (Signal::KILL, KILL_WAIT)] {
        for daemon in &daemons {
            if proc::is_alive(*daemon) && proc::signal(*daemon, signal) {
                proc::exited_within(*daemon, limit).await;
            }
        }
    }
    match daemons.into_iter().find(|daemon| proc::is_alive(*daemon)) {
        None => Ok(()),
        Some(daemon) => Err(down(format!("its daemon, pid {}, cannot be ended", daemon.pid))),
    }
}

fn give(path: &Path, account: Option<&Account>) -> Result<(), StartError> {
    match account {
        Some(account) => {
            std::os::unix::fs::lchown(path, Some(account.uid), Some(account.gid)).map_err(at(path))
        }
        None => Ok(()),
    }
}

/// The directory is the account's: what stands there under this name may be a link to anything.
fn make_private(path: &Path) -> io::Result<()> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    let found = file.metadata()?;
    match found.is_file() && found.nlink() == 1 {
        true => file.set_permissions(fs::Permissions::from_mode(0o600)),
        false => Err(io::Error::other("is not pm2's own file")),
    }
}

/// Asks the known and the newly found to stop, and kills them after the grace.
async fn end_all(
    slot: &Slot,
    grace: Duration,
    mut known: Vec<ProcessId>,
    find: impl Fn() -> Vec<ProcessId>,
) -> Result<(), StartError> {
    for (signal, limit) in [(Signal::INT, grace), (Signal::KILL, KILL_WAIT)] {
        if limit.is_zero() {
            continue;
        }
        known = outlived(signal, limit, known, &find).await;
    }
    match known.first() {
        None => Ok(()),
        Some(id) => Err(StartError::WouldNotDie {
            process: slot.process.clone(),
            pid: id.pid,
            waited_ms: u64::try_from(KILL_WAIT.as_millis()).unwrap_or(u64::MAX),
        }),
    }
}

async fn outlived(
    signal: Signal,
    limit: Duration,
    mut known: Vec<ProcessId>,
    find: impl Fn() -> Vec<ProcessId>,
) -> Vec<ProcessId> {
    let deadline = Instant::now() + limit;
    let mut pause = LOOK_AGAIN;
    loop {
        known.extend(find());
        known.retain(|id| proc::is_alive(*id));
        if known.is_empty() || Instant::now() >= deadline {
            return known;
        }
        for id in &known {
            proc::signal(*id, signal);
        }
        sleep(pause).await;
        pause = (pause * 2).min(LOOK_AGAIN_MAX);
    }
}

fn down(why: String) -> StartError {
    StartError::ManagerDown { manager: MANAGER, why }
}

fn refused(slot: &Slot, why: String) -> StartError {
    StartError::Refused { manager: MANAGER, process: slot.process.clone(), why }
}
