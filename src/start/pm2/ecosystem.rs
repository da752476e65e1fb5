//! What pm2 is told: pure, and free of secrets.

use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};

use super::files::Files;
use super::limits::LISTEN_TIMEOUT;
use crate::spec::{Command, Pm2Mode, StartSpec};
use crate::start::Slot;

/// Environment key by which the launcher finds its order: a path, no secret.
pub(super) const ORDER_KEY: &str = "LANDFALL_ORDER";

/// Quick deaths before pm2 gives up: as many as the direct manager allows.
const QUICK_RESTARTS_MAX: u32 = 5;

/// pm2's name for a slot: constant over all releases.
pub(super) fn name(slot: &Slot) -> String {
    match slot.process.as_str() {
        "main" => format!("{}-{}", slot.app, slot.environment),
        process => format!("{}-{}-{process}", slot.app, slot.environment),
    }
}

/// How a command is run under pm2.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(super) enum Entry {
    /// A file that node loads, after node's own arguments.
    Node {
        #[serde(skip)]
        node_args: Vec<String>,
        entry: String,
        args: Vec<String>,
    },
    /// Any other program, started by the launcher.
    Program { argv: Vec<String> },
}

/// node's options that take their value as the next argument.
const OPTIONS_WITH_VALUE: [&str; 6] = ["-r", "--require", "--import", "--loader", "-C", "--conditions"];

impl Entry {
    /// Reads an expanded argument list. A node without a file to load is a program like any other.
    pub(super) fn of(command: &Command, argv: &[String]) -> Self {
        let program = || Self::Program { argv: argv.to_vec() };
        let Some((first, rest)) = argv.split_first() else {
            return program();
        };
        if matches!(command, Command::Shell(_)) || !is_node(first) {
            return program();
        }
        let options = options(rest);
        match rest[options..].split_first() {
            Some((entry, args)) => {
                Self::Node { node_args: rest[..options].to_vec(), entry: entry.clone(), args: args.to_vec() }
            }
            None => program(),
        }
    }
}

fn is_node(program: &str) -> bool {
    Path::new(program).file_name().is_some_and(|name| name == "node")
}

/// How many of the arguments are node's own.
fn options(arguments: &[String]) -> usize {
    let mut count = 0;
    while arguments.get(count).is_some_and(|argument| argument.starts_with('-')) {
        count += match OPTIONS_WITH_VALUE.contains(&arguments[count].as_str()) {
            true => 2,
            false => 1,
        };
    }
    count.min(arguments.len())
}

/// Cluster mode, where the recipe says so or where it is silent and several instances of node are wanted.
pub(super) fn mode(spec: &StartSpec, entry: &Entry) -> Pm2Mode {
    let by_itself = match entry {
        Entry::Node { .. } if spec.instances > 1 => Pm2Mode::Cluster,
        Entry::Node { .. } | Entry::Program { .. } => Pm2Mode::Fork,
    };
    spec.mode.unwrap_or(by_itself)
}

/// Why pm2 cannot run this.
pub(super) fn objection(spec: &StartSpec, entry: &Entry) -> Option<String> {
    let node_args: &[String] = match entry {
        Entry::Node { node_args, .. } => node_args,
        Entry::Program { .. } => &[],
    };
    let preserves = |argument: &String| argument.starts_with("--preserve-symlinks");
    if spec.node_args.iter().chain(node_args).any(preserves) {
        return Some("--preserve-symlinks would load modules through `current`: leave it out".to_owned());
    }
    if spec.stop.command.is_some() {
        return Some("pm2 stops its workers by a signal and runs no command for it: leave out `stop.run`, and let the app do what it must when it gets `stop.signal`".to_owned());
    }
    let is_program = matches!(entry, Entry::Program { .. });
    if is_program && spec.mode == Some(Pm2Mode::Cluster) {
        return Some("cluster mode needs `run = [\"node\", FILE, …]`: use mode = \"fork\"".to_owned());
    }
    None
}

/// The file that pm2 reads.
pub(super) fn ecosystem(slot: &Slot, spec: &StartSpec, entry: &Entry, files: &Files) -> Value {
    let log = slot.log_path();
    let mut node_args = spec.node_args.clone();
    if let Entry::Node { node_args: own, .. } = entry {
        node_args.extend(own.iter().cloned());
    }
    let mut app = json!({
        "name": name(slot),
        "script": files.launcher,
        "cwd": slot.run_dir,
        "instances": spec.instances,
        "exec_mode": mode(spec, entry),
        "kill_timeout": spec.stop.grace,
        "wait_ready": spec.ready,
        "node_args": node_args,
        "out_file": log,
        "error_file": log,
        "merge_logs": true,
        "max_restarts": QUICK_RESTARTS_MAX,
        "vizion": false,
        "pmx": false,
        "env": { ORDER_KEY: files.order },
    });
    let optional = [
        ("max_memory_restart", spec.memory_max),
        ("listen_timeout", listen_timeout(spec, entry)),
        ("restart_delay", spec.restart_delay.map(|delay| delay.0)),
    ];
    for (key, value) in optional {
        if let Some(value) = value {
            app[key] = value.into();
        }
    }
    json!({ "apps": [app] })
}

/// In milliseconds; in fork mode nothing goes on serving that could wait for it.
fn listen_timeout(spec: &StartSpec, entry: &Entry) -> Option<u64> {
    let by_itself = match mode(spec, entry) {
        Pm2Mode::Cluster => u64::try_from(LISTEN_TIMEOUT.as_millis()).ok(),
        Pm2Mode::Fork => None,
    };
    spec.listen_timeout.map(|timeout| timeout.0).or(by_itself)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(argv: &[&str]) -> Entry {
        let argv: Vec<String> = argv.iter().map(|part| (*part).to_owned()).collect();
        Entry::of(&Command::Run(argv.clone()), &argv)
    }

    fn node(node_args: &[&str], file: &str, args: &[&str]) -> Entry {
        let owned = |list: &[&str]| list.iter().map(|part| (*part).to_owned()).collect();
        Entry::Node { node_args: owned(node_args), entry: file.to_owned(), args: owned(args) }
    }

    #[test]
    fn a_node_command_is_told_apart_from_any_other() {
        assert_eq!(entry(&["node", "server.js"]), node(&[], "server.js", &[]));
        assert_eq!(
            entry(&["/usr/bin/node", "dist/main", "--port", "1"]),
            node(&[], "dist/main", &["--port", "1"])
        );
        assert_eq!(
            entry(&["node", "--enable-source-maps", "-r", "./otel", "a.js", "-x"]),
            node(&["--enable-source-maps", "-r", "./otel"], "a.js", &["-x"])
        );
        for program in [&["npm", "start"][..], &["node"], &["node", "-r"], &["nodemon", "a.js"]] {
            assert!(matches!(entry(program), Entry::Program { .. }), "{program:?}");
        }
    }
}
