//! Somebody else's pm2: its entries are read from `/proc`, and one is deleted when landfall takes the app over.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::cli::Cli;
use super::limits::CALL_WAIT;
use super::{down, workers};
use crate::adopted::Pm2Entry;
use crate::start::command::find;
use crate::start::shim::signals;
use crate::start::{ProcessId, StartError};

/// The pm2 entry that a process is a worker of: `PM2_HOME` and name.
pub fn entry_of(pid: u32) -> Option<(PathBuf, String)> {
    workers::entry_of(pid)
}

/// The daemon of this `PM2_HOME`, if it lives.
pub fn daemon(home: &Path) -> Option<ProcessId> {
    workers::daemon(home)
}

/// Live workers of this name under this `PM2_HOME`, oldest first.
pub fn workers(home: &Path, name: &str) -> Vec<ProcessId> {
    workers::workers(home, name)
}

/// The `pm2` on a search path.
pub fn program(path: &str) -> Option<PathBuf> {
    find("pm2", path)
}

/// A stop signal by its name.
pub fn signal(name: &str) -> Option<Signal> {
    signals::named(name)
}

/// Takes an entry from its pm2, and out of what that brings back after a reboot. Its other entries stay.
pub async fn delete(entry: &Pm2Entry, grace: Duration) -> Result<(), StartError> {
    if workers::daemon(&entry.home).is_none() {
        return Ok(());
    }
    let cli = Cli { program: entry.program.clone(), home: entry.home.clone(), path: entry.path.clone() };
    let call: [&OsStr; 2] = ["delete".as_ref(), entry.name.as_ref()];
    cli.call(&call, entry.account.as_ref(), grace + CALL_WAIT).await.map_err(down)?;
    if is_saved(&entry.home, &entry.name) {
        let call: [&OsStr; 2] = ["save".as_ref(), "--force".as_ref()];
        cli.call(&call, entry.account.as_ref(), CALL_WAIT).await.map_err(down)?;
    }
    Ok(())
}

/// Whether pm2 would start the entry again after a reboot.
pub fn is_saved(home: &Path, name: &str) -> bool {
    #[derive(serde::Deserialize)]
    struct Saved {
        name: String,
    }
    let dump = std::fs::read(home.join("dump.pm2")).unwrap_or_default();
    let saved: Vec<Saved> = serde_json::from_slice(&dump).unwrap_or_default();
    saved.iter().any(|saved| saved.name == name)
}

/// How an entry runs its app, as its pm2 says.
#[derive(Debug, Clone, Default)]
pub struct Described {
    script: String,
    args: Vec<String>,
    interpreter: String,
    node_args: Vec<String>,
    /// Cluster mode.
    pub cluster: bool,
    /// Milliseconds it is given to end.
    pub kill_timeout: Option<u64>,
    /// The environment it was started with.
    pub env: BTreeMap<String, String>,
}

impl Described {
    /// The command it comes to.
    pub fn argv(&self) -> Vec<String> {
        let interpreter = match self.interpreter.as_str() {
            "none" | "" => Vec::new(),
            own => vec![own.to_owned()],
        };
        [interpreter, self.node_args.clone(), vec![self.script.clone()], self.args.clone()].concat()
    }
}

/// Asks a pm2 about one of its entries. It changes nothing.
pub async fn describe(entry: &Pm2Entry) -> Result<Described, String> {
    let said = list(entry).await?;
    let start = said.find("[{").or_else(|| said.find("[]")).ok_or("`pm2 jlist` printed no list")?;
    let all: Vec<Value> = serde_json::from_str(said[start..].trim_end())
        .map_err(|_| "`pm2 jlist` printed something that is no list".to_owned())?;
    let mut named = all.iter().filter(|one| one["name"] == entry.name.as_str());
    let one = named.next().ok_or_else(|| format!("it has no entry `{}`", entry.name))?;
    let own = &one["pm2_env"];
    let text = |key: &str| own[key].as_str().unwrap_or_default().to_owned();
    Ok(Described {
        script: text("pm_exec_path"),
        args: strings(&own["args"]),
        interpreter: text("exec_interpreter"),
        node_args: strings(&own["node_args"]),
        cluster: own["exec_mode"] == "cluster_mode",
        kill_timeout: own["kill_timeout"].as_u64(),
        env: own["env"].as_object().map(values).unwrap_or_default(),
    })
}

async fn list(entry: &Pm2Entry) -> Result<String, String> {
    close_fds::set_fds_cloexec(3, &[]);
    let mut command = tokio::process::Command::new(&entry.program);
    command.arg("jlist").current_dir("/").env_clear().kill_on_drop(true).stdin(Stdio::null());
    command.env("PATH", &entry.path).env("PM2_HOME", &entry.home);
    command.env("PM2_DISCRETE_MODE", "true").env("PM2_DISABLE_VERSION_CHECK", "true");
    match &entry.account {
        Some(account) => {
            command.gid(account.gid).uid(account.uid).env("HOME", &account.home);
        }
        None => {
            command.env("HOME", std::env::var_os("HOME").unwrap_or_else(|| "/".into()));
        }
    }
    let not_run = |error| format!("{}: {error}", entry.program.display());
    match tokio::time::timeout(CALL_WAIT, command.output()).await {
        Ok(output) => Ok(String::from_utf8_lossy(&output.map_err(not_run)?.stdout).into_owned()),
        Err(_) => Err(format!("`pm2 jlist` did not end within {CALL_WAIT:?}")),
    }
}

fn strings(value: &Value) -> Vec<String> {
    let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(|part| part.as_str().map(str::to_owned)).collect()
}

fn values(env: &serde_json::Map<String, Value>) -> BTreeMap<String, String> {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        // An object is pm2's own: no environment carries one.
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    };
    env.iter().filter_map(|(key, value)| Some((key.clone(), text(value)?))).collect()
}
