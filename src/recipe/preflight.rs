//! `[preflight]`: trial runs on a side port before the switch.

use landfall_store::Name;

use super::process::pm2_mode;
use super::{keys, roles};
use crate::document::{Problem, Table, Value};
use crate::env::key;
use crate::spec::{ManagerKind, Pm2Mode, PreflightSpec, StartSpec};

/// The key that tells most servers where to listen.
const PORT_ENV: &str = "PORT";

pub(super) fn read_all(value: &Value<'_>, start: &[StartSpec]) -> Result<Vec<PreflightSpec>, Problem> {
    let only = match start {
        [only] => only.name.as_str(),
        _ => "main",
    };
    super::names(value, only, |table, name| read(table, name, start), keys::PREFLIGHT)
}

fn read(table: &Table<'_>, name: Name, start: &[StartSpec]) -> Result<PreflightSpec, Problem> {
    if !start.iter().any(|process| process.name == name) {
        return Err(table
            .value()
            .invalid(format!("there is no process `{name}` in [start] to try"))
            .with_hint("`name` is the name of the process that is tried"));
    }
    Ok(PreflightSpec {
        name,
        enabled: table.read("enabled", Value::boolean)?.unwrap_or(true),
        port_env: table.read("port_env", port_env)?.unwrap_or_else(|| PORT_ENV.to_owned()),
        roles: roles(table)?,
    })
}

fn port_env(value: &Value<'_>) -> Result<String, Problem> {
    let text = value.text()?;
    key::check(text).map_err(|error| value.invalid(error.to_string()))?;
    Ok(text.to_owned())
}

/// Every process that pm2 runs as a cluster is tried first unless the recipe says otherwise: a reload into
/// a release that does not start would leave no worker at all. So is one that is given a socket: it accepts
/// connections from its first moment on.
pub(super) fn with_defaults(mut preflight: Vec<PreflightSpec>, start: &[StartSpec]) -> Vec<PreflightSpec> {
    for process in start.iter().filter(|process| is_cluster(process) || shares_a_socket(process)) {
        if preflight.iter().all(|tried| tried.name != process.name) {
            preflight.push(by_default(process));
        }
    }
    preflight
}

fn is_cluster(process: &StartSpec) -> bool {
    process.manager == ManagerKind::Pm2 && pm2_mode(process) == Pm2Mode::Cluster
}

fn shares_a_socket(process: &StartSpec) -> bool {
    process.manager == ManagerKind::Direct && process.socket.is_some()
}

fn by_default(process: &StartSpec) -> PreflightSpec {
    PreflightSpec {
        name: process.name.clone(),
        enabled: true,
        port_env: PORT_ENV.to_owned(),
        roles: process.roles.clone(),
    }
}
