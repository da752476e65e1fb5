//! What landfall writes for systemd and remembers of it.
//!
//! Under `run/`: `processes/<process>/systemd.json` (what was asked of systemd) and `systemd/<process>/<start>.env`
//! (0600, the environment). The unit of a start names its own file, so that a process which systemd starts again
//! while another start is prepared gets unit and environment of one start.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::unit::{Units, name, text_of};
use crate::spec::StopSpec;
use crate::start::shim::limits::ORDER_BYTES_MAX;
use crate::start::shim::log::make_for_another;
use crate::start::shim::order::SlotFiles;
use crate::start::{Launch, Slot, StartError, durable};
use crate::systemd::UNIT_DIR;
use crate::systemd::quote::env_line;

const ASKED_FORMAT: u32 = 1;
const ENV_SUFFIX: &str = ".env";

/// Where the files of one slot are.
pub(super) struct Files {
    own: SlotFiles,
    env_dir: PathBuf,
}

/// What was last asked of systemd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Asked {
    format: u32,
    /// None while the asking is not finished: whoever finds it so asks again.
    pub(super) started: Option<StartedAs>,
    pub(super) services: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) socket: Option<String>,
    /// Unit files, as they were written.
    pub(super) files: Vec<(String, String)>,
    /// How the units of this start stop it.
    pub(super) stop: StopSpec,
}

/// A finished start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StartedAs {
    pub(super) start_id: String,
    pub(super) release_dir: PathBuf,
}

impl Asked {
    /// An asking that begins.
    pub(super) fn begun(launch: &Launch, units: Units) -> Self {
        let Units { files, services, socket } = units;
        let stop = launch.spec.stop.clone();
        Self { format: ASKED_FORMAT, started: None, services, socket, files, stop }
    }

    /// What a file was to say.
    pub(super) fn text(&self, file: &str) -> Option<&str> {
        text_of(&self.files, file)
    }

    /// Everything that runs or is held, the socket first: it would start its service again.
    pub(super) fn units(&self) -> Vec<String> {
        self.socket.iter().chain(&self.services).cloned().collect()
    }
}

impl Files {
    pub(super) fn of(slot: &Slot) -> Self {
        Self {
            own: SlotFiles::new(&slot.run_dir, &slot.process),
            env_dir: slot.run_dir.join("systemd").join(slot.process.as_str()),
        }
    }

    /// The environment of one start.
    pub(super) fn env(&self, start_id: &str) -> PathBuf {
        self.env_dir.join(format!("{start_id}{ENV_SUFFIX}"))
    }

    fn asked(&self) -> PathBuf {
        self.own.dir.join("systemd.json")
    }

    pub(super) fn read_asked(&self) -> Result<Option<Asked>, StartError> {
        let path = self.asked();
        durable::read_known(&path, ORDER_BYTES_MAX, ASKED_FORMAT).map_err(at(&path))
    }

    pub(super) fn write_asked(&self, asked: &Asked) -> Result<(), StartError> {
        let path = self.asked();
        durable::private_dir(&self.own.dir).map_err(at(&self.own.dir))?;
        durable::write_json(&path, 0o600, asked).map_err(at(&path))
    }

    /// Environment, log and unit files. Units that are not as landfall left them are written anew, and that is said.
    pub(super) fn write(
        &self,
        launch: &Launch,
        before: Option<&Asked>,
        units: &Units,
    ) -> Result<(), StartError> {
        durable::private_dir(&self.env_dir).map_err(at(&self.env_dir))?;
        let env: String = launch.env.iter().map(|(key, value)| env_line(key, value)).collect();
        let path = self.env(&launch.start_id);
        durable::write(&path, 0o600, env.as_bytes()).map_err(at(&path))?;
        let log = launch.slot.log_path();
        make_for_another(&log, None).map_err(at(&log))?;
        for (file, text) in &units.files {
            let path = unit_path(file);
            if let Some(written) = before.and_then(|before| before.text(file))
                && fs::read_to_string(&path).is_ok_and(|there| there != written)
            {
                let drop_in = format!("systemctl edit {}", name(&launch.slot));
                tracing::warn!(unit = %path.display(), drop_in, "this unit is not as landfall left it and is written anew: changes belong in a drop-in");
            }
            durable::write(&path, 0o644, text.as_bytes()).map_err(at(&path))?;
        }
        Ok(())
    }

    /// Environments of other starts than this.
    pub(super) fn clear_env(&self, but: Option<&str>) -> Result<(), StartError> {
        let kept = but.map(|start_id| self.env(start_id));
        let entries = match fs::read_dir(&self.env_dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(at(&self.env_dir)(error)),
        };
        for entry in entries.flatten().filter(|entry| Some(entry.path()) != kept) {
            remove(&entry.path())?;
        }
        Ok(())
    }

    /// Nothing is remembered any more.
    pub(super) fn clear(&self) -> Result<(), StartError> {
        self.clear_env(None)?;
        remove(&self.asked())
    }
}

/// Removes unit files.
pub(super) fn remove_units<'a>(files: impl Iterator<Item = &'a str>) -> Result<(), StartError> {
    files.map(unit_path).try_for_each(|path| remove(&path))
}

fn unit_path(file: &str) -> PathBuf {
    Path::new(UNIT_DIR).join(file)
}

fn remove(path: &Path) -> Result<(), StartError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(path)(error)),
        _ => Ok(()),
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> StartError + '_ {
    move |source| StartError::Io { path: path.to_owned(), source }
}
