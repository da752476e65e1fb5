//! `[start]`: the processes of the app.

use std::net::SocketAddr;

use landfall_store::Name;

use super::{command, keys, names, roles};
use crate::document::{Problem, Table, Value, nearest};
use crate::spec::{Command, ManagerKind, Pm2Mode, STOP_GRACE, StartSpec, StopSpec};

/// Instances of one process on one host: more than cores of the largest machines in use.
pub(crate) const INSTANCES_MAX: u32 = 512;

/// Signals an app can be asked to stop with.
const SIGNALS: [&str; 6] = ["SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2"];

/// Node options under which a module keeps the path it was linked from.
const KEEPS_LINKS: [&str; 2] = ["--preserve-symlinks", "--preserve-symlinks-main"];

pub(super) fn read_all(value: &Value<'_>) -> Result<Vec<StartSpec>, Problem> {
    names(value, "main", read, keys::START)
}

fn read(table: &Table<'_>, name: Name) -> Result<StartSpec, Problem> {
    let manager = table.read("manager", manager)?.unwrap_or(ManagerKind::Direct);
    fits(table, manager)?;
    let start = StartSpec {
        name,
        manager,
        command: command::required(table)?,
        instances: table.read("instances", |count| count.count(1, INSTANCES_MAX))?.unwrap_or(1),
        roles: roles(table)?,
        stop: table.read("stop", |stop| read_stop(stop, manager))?.unwrap_or_else(|| default_stop(manager)),
        memory_max: table.read("memory_max", Value::size)?,
        mode: table.read("mode", mode)?,
        ready: table.read("ready", Value::boolean)?.unwrap_or(false),
        listen_timeout: table.read("listen_timeout", Value::duration)?,
        restart_delay: table.read("restart_delay", Value::duration)?,
        node_args: table.read("node_args", node_args)?.unwrap_or_default(),
        socket: table.read("socket", socket)?,
    };
    follows_links(table, &start)?;
    can_be_a_cluster(table, &start)?;
    waits_for_something(table, &start)?;
    Ok(start)
}

/// Keys that only some managers can honour are refused with the others, never ignored.
fn fits(table: &Table<'_>, manager: ManagerKind) -> Result<(), Problem> {
    let refused: &[&str] = match manager {
        ManagerKind::Pm2 => &["socket"],
        ManagerKind::Systemd => &["mode", "node_args"],
        ManagerKind::Direct => &["mode", "ready", "listen_timeout", "node_args", "memory_max"],
    };
    let hint = match manager {
        ManagerKind::Pm2 => {
            "pm2's own cluster mode shares the port: `mode = \"cluster\"`, or `manager = \"direct\"`"
        }
        ManagerKind::Systemd | ManagerKind::Direct => {
            "it is for `manager = \"pm2\"`; `memory_max`, `ready` and `listen_timeout` also for systemd"
        }
    };
    match refused.iter().find_map(|key| table.get(key)) {
        Some(value) => Err(value
            .invalid(format!("the manager `{}` does not know this", manager_name(manager)))
            .with_hint(hint)),
        None => Ok(()),
    }
}

/// systemd waits for nothing but the app's own word.
fn waits_for_something(table: &Table<'_>, start: &StartSpec) -> Result<(), Problem> {
    match (start.manager, table.get("listen_timeout")) {
        (ManagerKind::Systemd, Some(value)) if !start.ready => Err(value
            .invalid("the manager `systemd` waits for the app only when it says that it is ready")
            .with_hint("`ready = true`, or leave it out: `[health]` has its own time")),
        _ => Ok(()),
    }
}

/// An address to listen on, not a name: which one a name means could change under a socket that is held.
fn socket(value: &Value<'_>) -> Result<String, Problem> {
    let address = command::reference(value)?;
    let known = address.parse::<SocketAddr>().is_ok_and(|address| address.port() != 0);
    if known || address.contains("${") {
        return Ok(address.to_owned());
    }
    Err(value
        .invalid(format!("`{address}` is not an address and port to listen on"))
        .with_hint("socket = \"127.0.0.1:3100\", or socket = \"127.0.0.1:${PORT}\""))
}

/// With links kept, a pm2 worker would go on loading modules through `current` after a switch.
fn follows_links(table: &Table<'_>, start: &StartSpec) -> Result<(), Problem> {
    let words: Vec<&str> = match &start.command {
        Command::Run(arguments) => arguments.iter().map(String::as_str).collect(),
        Command::Shell(line) => line.split_whitespace().collect(),
    };
    let options = start.node_args.iter().map(String::as_str);
    let found = words.into_iter().chain(options).find(|word| KEEPS_LINKS.contains(word));
    match (start.manager, found) {
        (ManagerKind::Pm2, Some(argument)) => Err(table
            .value()
            .invalid(format!("`{argument}` cannot be used with pm2: a worker would load modules through `current` and change release under its feet"))
            .with_hint("remove the option, or use `manager = \"direct\"`")),
        _ => Ok(()),
    }
}

/// Workers share a socket through node's own cluster module, so a cluster is made of node processes.
fn can_be_a_cluster(table: &Table<'_>, start: &StartSpec) -> Result<(), Problem> {
    match start.mode {
        Some(Pm2Mode::Cluster) if !runs_node(&start.command) => Err(table
            .need("mode")?
            .invalid("cluster mode needs `run = [\"node\", FILE, …]`")
            .with_hint("mode = \"fork\"")),
        _ => Ok(()),
    }
}

fn manager(value: &Value<'_>) -> Result<ManagerKind, Problem> {
    parse_manager(value.text()?).ok_or_else(|| unknown(value, "manager", &["pm2", "systemd", "direct"]))
}

pub(crate) fn parse_manager(text: &str) -> Option<ManagerKind> {
    match text {
        "pm2" => Some(ManagerKind::Pm2),
        "systemd" => Some(ManagerKind::Systemd),
        "direct" => Some(ManagerKind::Direct),
        _ => None,
    }
}

const fn manager_name(manager: ManagerKind) -> &'static str {
    match manager {
        ManagerKind::Direct => "direct",
        ManagerKind::Pm2 => "pm2",
        ManagerKind::Systemd => "systemd",
    }
}

pub(crate) fn mode(value: &Value<'_>) -> Result<Pm2Mode, Problem> {
    match value.text()? {
        "cluster" => Ok(Pm2Mode::Cluster),
        "fork" => Ok(Pm2Mode::Fork),
        _ => Err(unknown(value, "mode", &["cluster", "fork"])),
    }
}

pub(crate) fn unknown(value: &Value<'_>, kind: &str, known: &[&str]) -> Problem {
    let text = value.text().unwrap_or_default();
    let hint = nearest(text, known.iter().copied())
        .map_or_else(|| known.join(", "), |near| format!("did you mean `{near}`?"));
    value.invalid(format!("`{text}` is not a {kind}: {}", known.join(", "))).with_hint(hint)
}

fn node_args(value: &Value<'_>) -> Result<Vec<String>, Problem> {
    value.list()?.iter().map(|item| item.text().map(str::to_owned)).collect()
}

fn read_stop(value: &Value<'_>, manager: ManagerKind) -> Result<StopSpec, Problem> {
    let table = value.table(keys::STOP)?;
    let default = default_stop(manager);
    Ok(StopSpec {
        signal: table.read("signal", signal)?.unwrap_or(default.signal),
        grace: table.read("grace", Value::duration)?.unwrap_or(default.grace),
        command: command::optional(&table)?,
    })
}

fn signal(value: &Value<'_>) -> Result<String, Problem> {
    let text = value.text()?;
    SIGNALS
        .contains(&text)
        .then(|| text.to_owned())
        .ok_or_else(|| unknown(value, "signal to stop with", &SIGNALS))
}

/// pm2 stops its workers with SIGINT, and apps written for it listen to that.
fn default_stop(manager: ManagerKind) -> StopSpec {
    let signal = match manager {
        ManagerKind::Pm2 => "SIGINT",
        ManagerKind::Direct | ManagerKind::Systemd => "SIGTERM",
    };
    StopSpec { signal: signal.to_owned(), grace: STOP_GRACE, command: None }
}

/// The mode pm2 runs this process in: what the recipe says, else cluster for a Node entry with more than
/// one instance, else fork.
pub fn pm2_mode(start: &StartSpec) -> Pm2Mode {
    match start.mode {
        Some(mode) => mode,
        None if runs_node(&start.command) && start.instances > 1 => Pm2Mode::Cluster,
        None => Pm2Mode::Fork,
    }
}

fn runs_node(command: &Command) -> bool {
    match command {
        Command::Run(arguments) => {
            arguments.first().is_some_and(|program| program == "node" || program.ends_with("/node"))
        }
        Command::Shell(_) => false,
    }
}
