//! `[health]`: what proves that a release works.

use landfall_store::Name;

use super::{command, keys, names, roles};
use crate::document::{Problem, Table, Value};
use crate::spec::{
    Check, HEALTH_ATTEMPTS, HEALTH_INTERVAL, HEALTH_SETTLE, HEALTH_SUCCESSES, HEALTH_TIMEOUT, HealthSpec,
};

/// Tries of one check: with the default interval more than five hours.
const ATTEMPTS_MAX: u32 = 10_000;
/// Good answers in a row.
const SUCCESSES_MAX: u32 = 1_000;

pub(super) fn read_all(value: &Value<'_>) -> Result<Vec<HealthSpec>, Problem> {
    names(value, "main", read, keys::HEALTH)
}

fn read(table: &Table<'_>, name: Name) -> Result<HealthSpec, Problem> {
    let check = check(table)?;
    let body_contains = table.read("body_contains", |value| value.text().map(str::to_owned))?;
    if let (Some(value), false) = (table.get("body_contains"), matches!(check, Check::Http(_))) {
        return Err(value.invalid("only an http check has a body"));
    }
    Ok(HealthSpec {
        name,
        check,
        body_contains,
        attempts: table.read("attempts", |n| n.count(1, ATTEMPTS_MAX))?.unwrap_or(HEALTH_ATTEMPTS),
        interval: table.read("interval", Value::duration)?.unwrap_or(HEALTH_INTERVAL),
        timeout: table.read("timeout", Value::duration)?.unwrap_or(HEALTH_TIMEOUT),
        successes: table.read("successes", |n| n.count(1, SUCCESSES_MAX))?.unwrap_or(HEALTH_SUCCESSES),
        settle: table.read("settle", Value::duration)?.unwrap_or(HEALTH_SETTLE),
        advisory: table.read("advisory", Value::boolean)?.unwrap_or(false),
        roles: roles(table)?,
    })
}

fn check(table: &Table<'_>) -> Result<Check, Problem> {
    let found = (table.get("http"), table.get("tcp"), table.get("run"));
    match found {
        (Some(url), None, None) => http(&url).map(Check::Http),
        (None, Some(address), None) => tcp(&address).map(Check::Tcp),
        (None, None, Some(run)) => command::arguments(&run).map(Check::Run),
        _ => Err(table
            .value()
            .invalid("a health check has exactly one of `http`, `tcp` and `run`")
            .with_hint("http = \"http://127.0.0.1:${PORT}/api/health\"")),
    }
}

fn http(value: &Value<'_>) -> Result<String, Problem> {
    let url = command::reference(value)?;
    let rest = url.strip_prefix("http://").filter(|rest| !rest.is_empty() && !rest.starts_with('/'));
    if rest.is_none() || url.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(value
            .invalid(format!("`{url}` is not an address to probe"))
            .with_hint("the app itself is asked, over plain HTTP: http://127.0.0.1:${PORT}/health"));
    }
    if rest.is_some_and(|rest| rest.split('/').next().is_some_and(|host| host.contains('@'))) {
        return Err(value.invalid("a URL with a password in it would end up in logs"));
    }
    Ok(url.to_owned())
}

fn tcp(value: &Value<'_>) -> Result<String, Problem> {
    let address = command::reference(value)?;
    match address.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port_like(port) => Ok(address.to_owned()),
        _ => Err(value
            .invalid(format!("`{address}` is not host:port"))
            .with_hint("tcp = \"127.0.0.1:${PORT}\"")),
    }
}

/// Digits, or a reference that is only known on the host.
fn port_like(port: &str) -> bool {
    port.parse::<u16>().is_ok_and(|port| port != 0) || port.contains('}')
}
