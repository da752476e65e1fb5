//! What landfall writes for pm2 and for its launcher.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ecosystem::Entry;
use crate::spec::Millis;
use crate::start::command::RunAs;
use crate::start::shim::limits::ORDER_BYTES_MAX;
use crate::start::shim::log::make_for_another;
use crate::start::shim::order::SlotFiles;
use crate::start::{Launch, ProcessId, Slot, StartError, durable};

const LAUNCHER: &str = include_str!("launcher.cjs");

/// Where the files of one slot are.
pub(super) struct Files {
    /// What pm2 runs: the same for every process of the app.
    pub(super) launcher: PathBuf,
    /// What pm2 reads.
    pub(super) ecosystem: PathBuf,
    /// What the launcher reads.
    pub(super) order: PathBuf,
    open_dir: PathBuf,
    own: SlotFiles,
}

impl Files {
    pub(super) fn of(slot: &Slot) -> Self {
        let open_dir = slot.run_dir.join("pm2").join(slot.process.as_str());
        Self {
            launcher: slot.run_dir.join("launcher.cjs"),
            ecosystem: open_dir.join("ecosystem.json"),
            order: open_dir.join("order.json"),
            open_dir,
            own: SlotFiles::new(&slot.run_dir, &slot.process),
        }
    }

    fn asked(&self) -> PathBuf {
        self.own.dir.join("pm2.json")
    }

    /// Everything but the record of the asking.
    pub(super) fn write(&self, launch: &Launch, entry: &Entry, settings: &Value) -> Result<(), StartError> {
        let owner = launch.slot.account.as_ref().map(RunAs::from);
        durable::private_dir(&self.own.dir).map_err(at(&self.own.dir))?;
        fs::create_dir_all(&self.open_dir).map_err(at(&self.open_dir))?;
        let log = launch.slot.log_path();
        make_for_another(&log, owner).map_err(at(&log))?;
        if fs::read(&self.launcher).ok().as_deref() != Some(LAUNCHER.as_bytes()) {
            durable::write(&self.launcher, 0o644, LAUNCHER.as_bytes()).map_err(at(&self.launcher))?;
        }
        let order = serde_json::to_vec(&order(launch, entry)).map_err(io::Error::other);
        let order = order.map_err(at(&self.order))?;
        durable::write_for(&self.order, 0o600, &order, owner).map_err(at(&self.order))?;
        durable::write_json(&self.ecosystem, 0o644, settings).map_err(at(&self.ecosystem))
    }

    pub(super) fn read_asked(&self) -> Result<Option<Asked>, StartError> {
        let path = self.asked();
        durable::read_known(&path, ORDER_BYTES_MAX, ASKED_FORMAT).map_err(at(&path))
    }

    pub(super) fn write_asked(&self, asked: &Asked) -> Result<(), StartError> {
        let path = self.asked();
        durable::write_json(&path, 0o600, asked).map_err(at(&path))
    }
}

/// What was last asked of pm2.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Asked {
    format: u32,
    /// None while the asking is not finished: whoever finds it so asks again.
    pub(super) start_id: Option<String>,
    pub(super) release_dir: PathBuf,
    /// The workers that came of it.
    pub(super) workers: Vec<ProcessId>,
    pub(super) settings: Value,
}

const ASKED_FORMAT: u32 = 1;

impl Asked {
    /// An asking that begins.
    pub(super) fn begun(launch: &Launch, settings: Value) -> Self {
        Self {
            format: ASKED_FORMAT,
            start_id: None,
            release_dir: launch.release_dir.clone(),
            workers: Vec::new(),
            settings,
        }
    }
}

/// Longest time for which a worker that is to stop goes on answering on kept-alive connections: clients that are
/// at work send their next request well within it. Half of the grace stays for the app itself.
const DRAIN_MAX: Millis = Millis(2_000);

/// What the launcher reads at each spawn.
#[derive(Debug, Serialize)]
struct LauncherOrder<'a> {
    current: &'a Path,
    release: &'a Path,
    signal: &'a str,
    /// How long a worker's kept-alive connections are given to end before the app is told to stop.
    drain_ms: u64,
    log: PathBuf,
    set: BTreeMap<&'a String, &'a String>,
    unset: Vec<String>,
    #[serde(flatten)]
    entry: &'a Entry,
}

fn order<'a>(launch: &'a Launch, entry: &'a Entry) -> LauncherOrder<'a> {
    let own = release_env(&launch.release_dir);
    let differs = |(key, value): &(&String, &String)| own.get(*key) != Some(*value);
    LauncherOrder {
        current: &launch.slot.current,
        release: &launch.release_dir,
        signal: &launch.spec.stop.signal,
        drain_ms: (launch.spec.stop.grace.0 / 2).min(DRAIN_MAX.0),
        log: launch.slot.log_path(),
        set: launch.env.iter().filter(differs).collect(),
        unset: own.keys().filter(|key| !launch.env.contains_key(*key)).cloned().collect(),
        entry,
    }
}

/// The environment the release brings itself; one without brings nothing, and all of it goes into the order.
fn release_env(release: &Path) -> BTreeMap<String, String> {
    let file = release.join(".landfall").join("env.json");
    durable::read_json(&file, ORDER_BYTES_MAX).ok().flatten().unwrap_or_default()
}

pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> StartError + '_ {
    move |source| StartError::Io { path: path.to_owned(), source }
}
