//! How an adopted app is started: what its process was started with, made relative to its tree.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::AdoptError;
use super::find::Found;
use crate::env::{self, key};
use crate::proc;
use crate::spec::{Command, ManagerKind, Millis, Pm2Mode, STOP_GRACE, StartSpec, StopSpec};
use crate::start::pm2::foreign::Described;

/// Keys of a person's session or a shell's own, which are no part of an app.
const NOT_THE_APPS: [&str; 9] =
    ["_", "PWD", "OLDPWD", "SHLVL", "TERM", "LS_COLORS", "SSH_CLIENT", "SSH_CONNECTION", "SSH_TTY"];
/// What pm2 adds to the environment of its workers.
const PM2_KEYS: [&str; 8] = [
    "PM2_HOME",
    "PM2_USAGE",
    "PM2_DISCRETE_MODE",
    "NODE_APP_INSTANCE",
    "pm_id",
    "unique_id",
    "name",
    "status",
];
/// The env file of an adopted release: no app of its own reads a file of this name.
pub const ENV_NAME: &str = "adopted";

/// The environment of an app as it was started.
#[derive(Debug, Clone, Default)]
pub struct Captured {
    /// What its release gets.
    pub vars: BTreeMap<String, String>,
    /// Keys that no env file can carry.
    pub left_out: Vec<String>,
}

/// The environment that the app's process was started with.
pub fn environment(found: &Found, pm2: Option<&Described>) -> Captured {
    let pairs: Vec<(String, String)> = match pm2 {
        Some(described) => described.env.clone().into_iter().collect(),
        None => {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let all = proc::environment(found.processes[0].pid);
            all.iter().map(|(key, value)| (text(key), text(value))).collect()
        }
    };
    let mut captured = Captured::default();
    for (name, value) in pairs {
        let pm2s = pm2.is_some() && (PM2_KEYS.contains(&name.as_str()) || name.starts_with("axm_"));
        if NOT_THE_APPS.contains(&name.as_str()) || name.starts_with(key::OWN_PREFIX) || pm2s {
            continue;
        }
        match key::check(&name).is_ok() && line(&name, &value).is_some() {
            true => drop(captured.vars.insert(name, value)),
            false => captured.left_out.push(name),
        }
    }
    captured
}

/// The environment as an env file. Whatever is written reads back as it was.
pub fn env_file(captured: &Captured) -> String {
    captured.vars.iter().filter_map(|(key, value)| line(key, value)).collect()
}

/// One line of an env file; none if no quotes can hold the value.
fn line(key: &str, value: &str) -> Option<String> {
    let quoted = ['\'', '`', '"'].map(|quote| format!("{key}={quote}{value}{quote}\n"));
    quoted.into_iter().find(|line| {
        let read = env::parse_layer(Path::new(ENV_NAME), line.clone().into_bytes());
        read.is_ok_and(|layer| layer.pairs == [(key.to_owned(), value.to_owned())])
    })
}

/// How it is started again: by the same manager, with the same arguments.
pub fn start(
    found: &Found,
    pm2: Option<&Described>,
    given: &[String],
    captured: &Captured,
) -> Result<StartSpec, AdoptError> {
    let argv = match (given, pm2) {
        ([], Some(described)) => described.argv(),
        ([], None) => argv_of(found, captured)?,
        (given, _) => given.to_vec(),
    };
    let argv = argv.iter().enumerate().map(|(at, part)| relative(found, part, at == 0)).collect();
    let (manager, signal) = match pm2 {
        Some(_) => (ManagerKind::Pm2, "SIGINT"),
        None => (ManagerKind::Direct, "SIGTERM"),
    };
    Ok(StartSpec {
        name: "main".parse().expect("it is a name"),
        manager,
        command: Command::Run(argv),
        instances: u32::try_from(found.processes.len()).unwrap_or(1).max(1),
        roles: Vec::new(),
        stop: StopSpec { signal: signal.to_owned(), grace: grace(pm2), command: None },
        memory_max: None,
        mode: pm2.map(|described| if described.cluster { Pm2Mode::Cluster } else { Pm2Mode::Fork }),
        ready: false,
        listen_timeout: None,
        restart_delay: None,
        node_args: Vec::new(),
        socket: None,
    })
}

fn grace(pm2: Option<&Described>) -> Millis {
    let configured = pm2.and_then(|described| described.kill_timeout).map(Millis);
    configured.map_or(STOP_GRACE, |own| own.max(STOP_GRACE))
}

/// The arguments of the process, if it has not overwritten them with a title.
fn argv_of(found: &Found, captured: &Captured) -> Result<Vec<String>, AdoptError> {
    let pid = found.processes[0].pid;
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).map_err(|_| AdoptError::Unreadable(pid))?;
    let text = String::from_utf8(bytes).map_err(|_| AdoptError::Untold(pid))?;
    let mut argv: Vec<String> = text.trim_end_matches('\0').split('\0').map(str::to_owned).collect();
    let program = PathBuf::from(&argv[0]);
    let path = captured.vars.get("PATH").map_or("", String::as_str);
    let known = match program.components().count() {
        1 => std::env::split_paths(path).any(|dir| dir.join(&program).is_file()),
        _ => found.tree.join(&program).is_file(),
    };
    if !known {
        let exe = std::fs::read_link(format!("/proc/{pid}/exe")).map_err(|_| AdoptError::Unreadable(pid))?;
        // A title stands where the arguments were, in one piece.
        if argv.len() == 1 || !exe.is_file() {
            return Err(AdoptError::Untold(pid));
        }
        argv[0] = exe.to_string_lossy().into_owned();
    }
    Ok(argv)
}

/// A path into the tree becomes one into whatever directory the release has.
fn relative(found: &Found, part: &str, program: bool) -> String {
    let inside = |tree: &PathBuf| Path::new(part).strip_prefix(tree).ok().map(Path::to_path_buf);
    let inside = std::iter::once(&found.tree).chain(&found.aliases).find_map(inside);
    match inside {
        Some(rest) if rest.as_os_str().is_empty() => ".".to_owned(),
        // With a `./` a program is not looked for on PATH.
        Some(rest) if program => format!("./{}", rest.display()),
        Some(rest) => rest.to_string_lossy().into_owned(),
        None => part.to_owned(),
    }
}

/// Keys whose values name the old tree: they go on doing so.
pub fn bound_to_the_tree(found: &Found, captured: &Captured) -> Vec<String> {
    let tree = found.tree.to_string_lossy().into_owned();
    captured.vars.iter().filter(|(_, value)| value.contains(&tree)).map(|(key, _)| key.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_that_is_written_to_the_env_file_reads_back_as_it_was() {
        let values = [
            "",
            "plain",
            "a b # c",
            "it's",
            "\"quoted\"",
            "both ' and \"",
            "$HOME ${X}",
            "line\nbreak",
            "all ' of \" them `",
            " x ",
        ];
        for value in values {
            let vars =
                BTreeMap::from([("KEY".to_owned(), value.to_owned()), ("Z".to_owned(), "1".to_owned())]);
            let text = env_file(&Captured { vars: vars.clone(), left_out: Vec::new() });
            let layer = env::parse_layer(Path::new("x"), text.into_bytes()).unwrap();
            assert_eq!(layer.pairs.into_iter().collect::<BTreeMap<_, _>>(), vars, "{value:?}");
        }
        assert_eq!(line("KEY", "all ' of \" them ` on\ntwo lines"), None);
    }

    #[test]
    fn arguments_that_name_the_tree_follow_the_release() {
        let found = Found {
            processes: Vec::new(),
            tree: "/srv/app/releases/7".into(),
            aliases: vec!["/srv/app/current".into()],
            shared: None,
            user: 0,
            pm2: None,
            unit: None,
        };
        let cases = [
            ("/srv/app/releases/7/bin/web", true, "./bin/web"),
            ("/srv/app/current/server.js", false, "server.js"),
            ("/srv/app/releases/70/x", false, "/srv/app/releases/70/x"),
            ("/srv/app/current", false, "."),
            ("--port=1", false, "--port=1"),
        ];
        for (part, program, wanted) in cases {
            assert_eq!(relative(&found, part, program), wanted);
        }
    }
}
