//! The agent as a service of systemd: the unit, a first host.toml, the root.
//!
//! [`look`] gathers facts, [`plan`] decides, [`apply`] changes. Files are put in place whole or not at all, and
//! what a plan does twice changes nothing the second time.

pub mod host_toml;
pub mod plan;
pub mod unit;

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::config::{ConfigError, HostConfig};
use plan::{Act, Facts, Owner, Plan};

/// The unit's name.
pub const UNIT: &str = "landfall.service";
pub use crate::systemd::{UNIT_DIR, booted as has_systemd};

/// Write permission of everybody but the owner.
const OTHERS_WRITE: u32 = 0o022;
/// Others may write into a directory, but not replace what is somebody else's.
const STICKY: u32 = 0o1000;

/// Why an installation ended early.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The system refused.
    #[error("{}: {source}", .path.display())]
    Io {
        /// What it was about.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// host.toml is there and is none.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// systemd refused.
    #[error("`systemctl {call}` failed: {said}")]
    Systemctl {
        /// With which arguments.
        call: String,
        /// What it said.
        said: String,
    },
    /// Somebody other than root could replace the program.
    #[error("{} can be changed by user {owner} (mode {mode:o}): root must not run it", .path.display())]
    Replaceable {
        /// The program, or a directory on the way to it.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Its mode.
        mode: u32,
    },
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> InstallError {
    let path = path.to_owned();
    move |source| InstallError::Io { path, source }
}

/// Whether nobody but root can put another program in this one's place.
pub fn check_program(program: &Path) -> Result<(), InstallError> {
    let program = program.canonicalize().map_err(io_at(program))?;
    for path in program.ancestors() {
        let found = std::fs::symlink_metadata(path).map_err(io_at(path))?;
        let sticky_dir = found.is_dir() && found.mode() & STICKY != 0;
        let by_others = found.mode() & OTHERS_WRITE != 0 && !sticky_dir;
        if found.uid() != 0 || by_others {
            let (owner, mode) = (found.uid(), found.mode() & 0o7777);
            return Err(InstallError::Replaceable { path: path.to_owned(), owner, mode });
        }
    }
    Ok(())
}

/// What is there now. Changes nothing.
pub fn look(unit_path: &Path, config: &Path, root: &Path) -> Result<Facts, InstallError> {
    let config = match HostConfig::read(config) {
        Ok(config) => Some(config),
        Err(ConfigError::Missing { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let unit = match std::fs::read(unit_path) {
        Ok(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(io_at(unit_path)(error)),
    };
    let root = match std::fs::symlink_metadata(root) {
        Ok(found) if found.is_dir() => Some((Owner { uid: found.uid(), gid: found.gid() }, found.mode())),
        Ok(_) => return Err(io_at(root)(io::ErrorKind::NotADirectory.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(io_at(root)(error)),
    };
    let asks = |question| unit.is_some() && systemd_says_yes(question);
    Ok(Facts { enabled: asks("is-enabled"), active: asks("is-active"), config, unit, root })
}

/// A system without systemctl has nothing enabled and nothing active.
fn systemd_says_yes(question: &str) -> bool {
    let mut systemctl = Command::new("systemctl");
    systemctl.args([question, "--quiet", UNIT]);
    systemctl.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    systemctl.status().is_ok_and(|status| status.success())
}

/// Does what a plan says, in order. `done` is told of each change once it is made.
pub fn apply(plan: &Plan, done: &mut dyn FnMut(&Act)) -> Result<(), InstallError> {
    for act in &plan.acts {
        match act {
            Act::MakeDir { path, mode, owner } => make_dir(path, *mode, *owner).map_err(io_at(path))?,
            Act::Tighten { path, mode } => {
                std::fs::set_permissions(path, Permissions::from_mode(*mode & 0o7777))
                    .map_err(io_at(path))?;
            }
            Act::Write { path, text, mode, .. } => replace(path, text, *mode).map_err(io_at(path))?,
            Act::Remove(path) => {
                std::fs::remove_file(path).and_then(|()| sync_parent(path)).map_err(io_at(path))?;
            }
            Act::Systemctl(arguments) => systemctl(arguments)?,
        }
        done(act);
    }
    Ok(())
}

/// Parents get the system's usual owner and mode; the directory itself those asked for.
fn make_dir(path: &Path, mode: u32, owner: Owner) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    std::fs::create_dir_all(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(mode))?;
    chown(path, Some(owner.uid), Some(owner.gid))?;
    sync_parent(path)
}

/// Whole or not at all, also when the power fails.
fn replace(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let temporary = path.with_file_name(format!(".landfall-new-{:016x}", fastrand::u64(..)));
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.set_permissions(Permissions::from_mode(mode))?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    let written = write();
    if written.is_err() {
        // Nobody has seen the name; the first error is the one to report.
        drop(std::fs::remove_file(&temporary));
    }
    written?;
    sync_parent(path)
}

fn sync_parent(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

fn systemctl(arguments: &[&str]) -> Result<(), InstallError> {
    let failed = |said: String| InstallError::Systemctl { call: arguments.join(" "), said };
    let mut command = Command::new("systemctl");
    command.args(arguments).stdin(Stdio::null());
    let output = command.output().map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(failed(said.trim().replace('\n', "; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_in_a_directory_that_others_may_write_is_not_made_roots() {
        let dir = tempfile::tempdir().unwrap();
        let open = dir.path().join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
        let program = open.join("landfall");
        std::fs::write(&program, "").unwrap();
        let refused = check_program(&program).unwrap_err();
        assert!(matches!(&refused, InstallError::Replaceable { .. }), "{refused}");
        check_program(Path::new("/bin/sh")).unwrap_or_else(|error| panic!("{error}"));
    }

    #[test]
    fn a_file_is_replaced_whole_with_its_mode_and_without_a_trace() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("unit");
        for text in ["one", "two"] {
            replace(&path, text, 0o644).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
