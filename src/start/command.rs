//! From a recipe's command to what is executed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde::{Deserialize, Serialize};

use super::Account;
use crate::env::{EnvError, expand};
use crate::spec::{Command, StartSpec};

/// The argument list of a command: `${KEY}` is expanded in argument lists; a shell line goes to the shell
/// as it is, which expands it itself.
pub fn argv(command: &Command, env: &BTreeMap<String, String>) -> Result<Vec<String>, EnvError> {
    match command {
        Command::Run(list) => list.iter().map(|part| expand(part, env)).collect(),
        Command::Shell(line) => Ok(["/bin/sh", "-c", line].map(str::to_owned).to_vec()),
    }
}

/// The address of the listening socket that a process is given, if it is given one.
pub fn listens(spec: &StartSpec, env: &BTreeMap<String, String>) -> Result<Option<SocketAddr>, String> {
    let Some(text) = &spec.socket else { return Ok(None) };
    let address = expand(text, env).map_err(|error| error.to_string())?;
    match address.parse::<SocketAddr>() {
        Ok(known) if known.port() != 0 => Ok(Some(known)),
        _ => Err(format!("`{address}` (socket = \"{text}\") is not an address and port to listen on")),
    }
}

/// User and group of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunAs {
    uid: u32,
    gid: u32,
}

impl From<&Account> for RunAs {
    fn from(account: &Account) -> Self {
        Self { uid: account.uid, gid: account.gid }
    }
}

impl RunAs {
    /// Makes a file this user's.
    pub(crate) fn give(self, file: &std::fs::File) -> std::io::Result<()> {
        std::os::unix::fs::fchown(file, Some(self.uid), Some(self.gid))
    }
}

/// A command with exactly this environment, directory and user, no input, and no groups but its own.
/// Empty lists are refused by the recipe; here they fail to start like any missing program.
pub(crate) fn prepare(
    argv: &[String],
    dir: &Path,
    env: &BTreeMap<String, String>,
    run_as: Option<RunAs>,
) -> std::process::Command {
    let program = argv.first().map_or("", String::as_str);
    let mut command = std::process::Command::new(program);
    command.args(argv.iter().skip(1)).current_dir(dir).env_clear().envs(env);
    command.stdin(Stdio::null());
    if let Some(RunAs { uid, gid }) = run_as {
        command.gid(gid).uid(uid);
    }
    command
}

/// The first executable file of this name on a search path.
pub(crate) fn find(name: &str, path: &str) -> Option<PathBuf> {
    let candidates = std::env::split_paths(path).map(|dir| dir.join(name));
    candidates.filter(|file| file.is_absolute()).find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env() -> BTreeMap<String, String> {
        BTreeMap::from([("PORT".into(), "3100".into()), ("TRAP".into(), "${PORT}".into())])
    }

    #[test]
    fn a_shell_line_is_left_to_the_shell() {
        let line = Command::Shell("echo ${NOPE}".into());
        assert_eq!(argv(&line, &env()).unwrap(), ["/bin/sh", "-c", "echo ${NOPE}"]);
    }
}
