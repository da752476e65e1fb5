//! systemd itself: a unit for each app, environment and process, generated from the release and written anew with
//! each start.
//!
//! Guarantees: what runs has exactly the release's directory and environment; no secret stands in a unit or in what
//! `systemctl show` tells everybody; a stop ends the whole control group, whatever left its session; landfall need not
//! run for the app to be started again or to come up after a reboot. Without a passed socket a start is stop, then
//! start.

mod ctl;
mod files;
pub mod limits;
mod unit;

use std::path::PathBuf;
use std::time::Duration;

use self::ctl::{Activity, UnitFacts, call, must, show};
use self::files::{Asked, Files, StartedAs, remove_units};
use self::limits::CALL_WAIT;
use self::unit::{Host, Units, notify_wait, units};
use super::command::{argv, find};
use super::shim::limits::RESTARTS_MAX;
use super::{Launch, Manager, Slot, SlotFacts, StartError};
use crate::pending::Pending;
use crate::proc;
use crate::spec::{Command, StopSpec};
use crate::systemd::{UNIT_DIR, booted};

const MANAGER: &str = "systemd";
/// Exit statuses that systemd gives a process which it could not even start: systemd.exec(5).
const NOT_STARTED: std::ops::RangeInclusive<i32> = 200..=243;

/// The systemd that runs this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Systemd;

impl Systemd {
    async fn start(self, launch: &Launch) -> Result<(), StartError> {
        let slot = &launch.slot;
        let files = Files::of(slot);
        let before = files.read_asked()?;
        if let Some(before) = before.as_ref().filter(|before| is_this_start(before, launch))
            && shown(&before.services).await?.iter().all(|unit| unit.activity == Activity::Active)
        {
            return Ok(());
        }
        let wanted = self.wanted(launch, &files).await?;
        if let Some(before) = &before {
            make_way(before, launch, &wanted).await?;
        }
        files.write(launch, before.as_ref(), &wanted)?;
        let mut asking = Asked::begun(launch, wanted);
        // Written before systemd acts: after a crash in between, nobody must think that it has acted.
        files.write_asked(&asking)?;
        reload().await?;
        end(slot, &asking.services, &asking.stop).await?;
        begin(launch, &asking).await?;
        asking.started =
            Some(StartedAs { start_id: launch.start_id.clone(), release_dir: launch.release_dir.clone() });
        files.write_asked(&asking)?;
        files.clear_env(Some(&launch.start_id))
    }

    async fn wanted(self, launch: &Launch, files: &Files) -> Result<Units, StartError> {
        let refused = |why: String| refused(&launch.slot, why);
        let program = |command: &Command| program(command, launch).map_err(refused);
        let host = Host {
            program: program(&launch.spec.command)?,
            stop_program: launch.spec.stop.command.as_ref().map(program).transpose()?,
            env_file: files.env(&launch.start_id),
            inherited: ctl::inherited_keys().await.map_err(down)?,
        };
        units(launch, &host).map_err(refused)
    }

    async fn inspect(self, slot: &Slot) -> Result<SlotFacts, StartError> {
        let Some(asked) = Files::of(slot).read_asked()? else {
            return Ok(SlotFacts::default());
        };
        Ok(facts(&asked, &shown(&asked.services).await?))
    }

    async fn stop(self, slot: &Slot) -> Result<(), StartError> {
        match Files::of(slot).read_asked()? {
            Some(asked) => end(slot, &asked.units(), &asked.stop).await,
            None => Ok(()),
        }
    }

    async fn forget(self, slot: &Slot) -> Result<(), StartError> {
        let files = Files::of(slot);
        let Some(asked) = files.read_asked()? else { return Ok(()) };
        end(slot, &asked.units(), &asked.stop).await?;
        remove(&asked.units(), asked.files.iter().map(|(file, _)| file.as_str())).await?;
        files.clear()
    }

    async fn persist(self, slot: &Slot) -> Result<(), StartError> {
        let Some(asked) = Files::of(slot).read_asked()? else { return Ok(()) };
        let units = shown(&asked.units()).await?;
        let missing: Vec<&str> =
            units.iter().filter(|unit| !unit.enabled).map(|unit| unit.name.as_str()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        must(&with("enable", &missing), CALL_WAIT).await.map(drop).map_err(down)
    }
}

impl Manager for Systemd {
    fn ready<'a>(&'a self, _: &'a Slot) -> Pending<'a, Result<(), StartError>> {
        Box::pin(async {
            able()?;
            working().await
        })
    }

    fn start<'a>(&'a self, launch: &'a Launch) -> Pending<'a, Result<(), StartError>> {
        Box::pin(async {
            able()?;
            Self::start(*self, launch).await
        })
    }

    fn inspect<'a>(&'a self, slot: &'a Slot) -> Pending<'a, Result<SlotFacts, StartError>> {
        Box::pin(Self::inspect(*self, slot))
    }

    /// The units of the start that runs say how it is stopped.
    fn stop<'a>(&'a self, slot: &'a Slot, _: &'a StopSpec) -> Pending<'a, Result<(), StartError>> {
        Box::pin(Self::stop(*self, slot))
    }

    fn forget<'a>(&'a self, slot: &'a Slot, _: &'a StopSpec) -> Pending<'a, Result<(), StartError>> {
        Box::pin(Self::forget(*self, slot))
    }

    fn persist<'a>(&'a self, slot: &'a Slot) -> Pending<'a, Result<(), StartError>> {
        Box::pin(Self::persist(*self, slot))
    }
}

/// Why this landfall cannot drive systemd on this machine.
///
/// # Errors
/// [`StartError::ManagerDown`], with what to do.
pub fn able() -> Result<(), StartError> {
    if !booted().unwrap_or(false) {
        return Err(down("it does not run this machine: use `manager = \"direct\"`".to_owned()));
    }
    if !rustix::process::geteuid().is_root() {
        return Err(down(
            "only root may manage its units: run the agent as root, or use `manager = \"direct\"`".to_owned(),
        ));
    }
    rustix::fs::access(UNIT_DIR, rustix::fs::Access::WRITE_OK).map_err(|error| {
        down(format!(
            "{UNIT_DIR} may not be written here ({error}): the agent's unit is older than this landfall; run \
             `landfall install`, then `systemctl restart landfall`"
        ))
    })
}

/// A machine that goes down starts nothing, and that is no fault of a release.
async fn working() -> Result<(), StartError> {
    let said = call(&["is-system-running"], CALL_WAIT).await.map_err(down)?;
    match said.out.trim() {
        "stopping" => Err(down("the machine is shutting down".to_owned())),
        "offline" | "unknown" | "" => Err(down(format!("it does not answer: {}", said.complaint))),
        _ => Ok(()),
    }
}

fn is_this_start(asked: &Asked, launch: &Launch) -> bool {
    asked.started.as_ref().is_some_and(|started| started.start_id == launch.start_id)
}

/// Units that this start no longer has go; what stops otherwise than this start says is stopped as its own start said,
/// and a socket that is another now is let go.
async fn make_way(before: &Asked, launch: &Launch, wanted: &Units) -> Result<(), StartError> {
    let is_kept = |unit: &String| wanted.services.contains(unit) || wanted.socket.as_ref() == Some(unit);
    let (kept, gone): (Vec<String>, Vec<String>) = before.units().into_iter().partition(is_kept);
    if before.stop != launch.spec.stop {
        end(&launch.slot, &before.services, &before.stop).await?;
    }
    let is_changed =
        |unit: &&String| before.socket.as_ref() == Some(unit) && before.text(unit) != wanted.text(unit);
    let changed: Vec<String> = kept.iter().filter(is_changed).cloned().collect();
    end(&launch.slot, &changed, &before.stop).await?;
    if gone.is_empty() {
        return Ok(());
    }
    end(&launch.slot, &gone, &before.stop).await?;
    let names = before.files.iter().map(|(file, _)| file.as_str());
    remove(&gone, names.filter(|name| wanted.text(name).is_none())).await
}

/// Ends units. A service whose socket is held may be started again at any moment.
async fn end(slot: &Slot, units: &[String], stop: &StopSpec) -> Result<(), StartError> {
    let running = |unit: &&UnitFacts| unit.activity != Activity::Inactive || unit.queued;
    let before = shown(units).await?;
    let up: Vec<&str> = before.iter().filter(running).map(|unit| unit.name.as_str()).collect();
    if up.is_empty() {
        return Ok(());
    }
    must(&with("stop", &up), stop_wait(stop)).await.map_err(down)?;
    forgive(&up).await?;
    let after = shown(units).await?;
    let ended: Vec<u32> = before.iter().filter_map(|unit| unit.main_pid).collect();
    match after.iter().filter_map(|unit| unit.main_pid).find(|pid| ended.contains(pid)) {
        Some(pid) => Err(StartError::WouldNotDie {
            process: slot.process.clone(),
            pid,
            waited_ms: u64::try_from(stop_wait(stop).as_millis()).unwrap_or(u64::MAX),
        }),
        None => Ok(()),
    }
}

/// Failures and starts so far count no more: what is asked for on purpose is never one restart too many. A unit that
/// systemd has unloaded meanwhile has nothing to forgive.
async fn forgive(units: &[&str]) -> Result<(), StartError> {
    let said = call(&with("reset-failed", units), CALL_WAIT).await.map_err(down)?;
    match said.ok || said.complaint.contains("not loaded") {
        true => Ok(()),
        false => Err(down(format!("`systemctl reset-failed` failed: {}", said.complaint))),
    }
}

/// A stop command, the signal and the kill may each take the grace.
fn stop_wait(stop: &StopSpec) -> Duration {
    stop.grace.duration() * 3 + CALL_WAIT
}

/// Asks for the start, and tells what systemd could not do from what the app did.
async fn begin(launch: &Launch, asking: &Asked) -> Result<(), StartError> {
    let units: Vec<&str> = asking.socket.iter().chain(&asking.services).map(String::as_str).collect();
    let limit = match launch.spec.ready {
        true => CALL_WAIT + notify_wait(&launch.spec).duration() + stop_wait(&launch.spec.stop),
        false => CALL_WAIT,
    };
    let said = call(&with("start", &units), limit).await.map_err(down)?;
    if said.ok {
        return Ok(());
    }
    working().await?;
    let after = shown(&asking.units()).await?;
    match after.iter().find_map(|unit| why_not(unit, launch)) {
        Some(why) => Err(refused(&launch.slot, why)),
        // The app began and ended: its verdict is not this manager's.
        None if after.iter().any(|unit| unit.last_exit.is_some() || unit.restarts > 0) => Ok(()),
        None => Err(refused(&launch.slot, said.complaint)),
    }
}

/// What is wrong with a unit that was to start, as far as it is not the app's own end.
fn why_not(unit: &UnitFacts, launch: &Launch) -> Option<String> {
    use super::Exit::Code;
    let name = &unit.name;
    if unit.result == "timeout" {
        let wait = notify_wait(&launch.spec).duration();
        return Some(format!(
            "{name} did not say within {wait:?} that it is ready (READY=1 to NOTIFY_SOCKET), and was stopped"
        ));
    }
    match unit.last_exit {
        Some(Code(status)) if NOT_STARTED.contains(&status) => Some(format!(
            "{name} could not be executed (status {status}): `journalctl -u {name} -n 20` says why"
        )),
        _ if unit.result == "resources" => {
            Some(format!("{name} could not be prepared: `journalctl -u {name} -n 20` says why"))
        }
        _ => None,
    }
}

async fn remove(units: &[String], files: impl Iterator<Item = &str>) -> Result<(), StartError> {
    let before = shown(units).await?;
    let enabled: Vec<&str> =
        before.iter().filter(|unit| unit.enabled).map(|unit| unit.name.as_str()).collect();
    if !enabled.is_empty() {
        must(&with("disable", &enabled), CALL_WAIT).await.map_err(down)?;
    }
    remove_units(files)?;
    reload().await
}

async fn reload() -> Result<(), StartError> {
    must(&["daemon-reload"], CALL_WAIT).await.map(drop).map_err(down)
}

async fn shown(units: &[String]) -> Result<Vec<UnitFacts>, StartError> {
    match units {
        [] => Ok(Vec::new()),
        units => show(units).await.map_err(down),
    }
}

fn with<'a>(verb: &'a str, units: &[&'a str]) -> Vec<&'a str> {
    [&[verb], units].concat()
}

/// What systemd says, as far as the kernel agrees.
fn facts(asked: &Asked, units: &[UnitFacts]) -> SlotFacts {
    let processes: Vec<_> = units.iter().filter_map(|unit| proc::identity(unit.main_pid?)).collect();
    let spent = |unit: &UnitFacts| usize::try_from(unit.restarts).is_ok_and(|count| count >= RESTARTS_MAX);
    let up =
        |unit: &&UnitFacts| matches!(unit.activity, Activity::Active | Activity::Changing) || unit.queued;
    // A unit that somebody stopped by hand may have failed in that: only one whose restarts are spent was given up.
    let gave_up = units.iter().any(|unit| unit.activity == Activity::Failed && spent(unit));
    let supervised = units.iter().filter(up).count() == units.len();
    SlotFacts {
        start_id: asked.started.as_ref().map(|started| started.start_id.clone()),
        release_dir: asked.started.as_ref().map(|started| started.release_dir.clone()),
        processes,
        supervisor: proc::identity(proc::INIT).filter(|_| supervised),
        returns: supervised,
        restarts: units.iter().map(|unit| unit.restarts).sum(),
        last_exit: units.iter().find_map(|unit| unit.last_exit),
        gave_up,
        beside: None,
    }
}

/// The program of a command, as its start would find it: systemd knows another search path than the app's.
fn program(command: &Command, launch: &Launch) -> Result<PathBuf, String> {
    let argv = argv(command, &launch.env).map_err(|error| error.to_string())?;
    let name = argv.first().map_or("", String::as_str);
    if name.contains('/') {
        return Ok(launch.release_dir.join(name.trim_start_matches("./")));
    }
    let path = launch.env.get("PATH").map(String::as_str).unwrap_or_default();
    let of_release = |dir: PathBuf| launch.release_dir.join(dir);
    let dirs = std::env::join_paths(std::env::split_paths(path).map(of_release)).unwrap_or_default();
    find(name, dirs.to_str().unwrap_or_default())
        .ok_or_else(|| format!("there is no `{name}` on PATH ({path})"))
}

fn down(why: String) -> StartError {
    StartError::ManagerDown { manager: MANAGER, why }
}

fn refused(slot: &Slot, why: String) -> StartError {
    StartError::Refused { manager: MANAGER, process: slot.process.clone(), why }
}
