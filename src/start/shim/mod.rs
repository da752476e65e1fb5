//! `landfall shim`: hidden subcommands of the same binary that stand between landfall and what it runs.
//!
//! - `shim launch DIR` starts the next one in the background and ends, so that it is nobody's child;
//! - `shim supervise DIR` keeps the app's processes running, see [`supervise`];
//! - `shim pass NAME PROGRAM …` becomes an app that is given a listening socket, see [`pass`];
//! - `shim run` runs one command for whoever holds its input open, see [`crate::step::runner`].
//!
//! Nothing secret is ever in their arguments or environment.

mod budget;
pub(crate) mod family;
pub mod limits;
pub(crate) mod log;
pub(crate) mod order;
mod pass;
pub(crate) mod pump;
pub(crate) mod signals;
pub(crate) mod socket;
mod supervise;

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// The hidden first argument that leads here.
pub const SUBCOMMAND: &str = "shim";

/// Runs `landfall shim …`; `arguments` are those after `shim`.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    crate::proc::take_own_name();
    // Rust's own descriptors are never inherited; these are what landfall itself was started with.
    close_fds::set_fds_cloexec(3, &[]);
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let done = match arguments.first().and_then(|first| first.to_str()) {
        Some("launch") => directory(&arguments).and_then(|dir| launch(&dir)),
        Some("supervise") => directory(&arguments).and_then(|dir| supervise::main(&dir)),
        Some(pass::WORD) => pass::main(&arguments[1..]),
        Some("run") => crate::step::runner::main(),
        _ => Err(io::Error::other("is started by landfall itself: see `landfall help`")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&error),
    }
}

fn complain(error: &dyn Display) -> ExitCode {
    let _ = writeln!(io::stderr(), "landfall shim: {error}");
    ExitCode::FAILURE
}

fn directory(arguments: &[OsString]) -> io::Result<PathBuf> {
    let given = arguments.get(1).map(PathBuf::from);
    given.ok_or_else(|| io::Error::other("a directory is missing"))
}

/// The supervisor outlives this process, and so belongs to no agent. It inherits the pipe for its answer.
fn launch(dir: &Path) -> io::Result<()> {
    let mut command = Command::new(crate::proc::OWN_PROGRAM);
    command.arg0("landfall").arg(SUBCOMMAND).arg("supervise").arg(dir);
    command.stdin(Stdio::null()).stdout(Stdio::inherit()).spawn()?;
    Ok(())
}
