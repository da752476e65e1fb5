//! The text of an app's units: pure, and free of secrets, since everybody on the host may read it.
//!
//! What the environment holds stays in a private file; a `${KEY}` of the recipe stays a `${KEY}`, which systemd
//! expands when it starts the process.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::limits::{NOTIFY_WAIT, RESTART_DELAY};
use crate::env::{EnvError, expand, expansion};
use crate::spec::{Command, Millis, StartSpec};
use crate::start::shim::limits::{RESTART_WINDOW, RESTARTS_MAX};
use crate::start::{Launch, Slot, listens};
use crate::systemd::quote::{argument, is_env_key, part, path_line, path_word, quoted};

/// What `ProtectSystem=full` makes read-only.
const READ_ONLY: [&str; 5] = ["/usr", "/boot", "/efi", "/etc", "/bin"];
/// What `PrivateTmp=` replaces.
const TEMPORARY: [&str; 2] = ["/tmp", "/var/tmp"];
/// Environment keys that systemd sets by itself. The socket's and the notification's are the app's to have.
const SET_BY_SYSTEMD: [&str; 14] = [
    "CREDENTIALS_DIRECTORY",
    "HOME",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "LANG",
    "LOGNAME",
    "MANAGERPID",
    "MEMORY_PRESSURE_WATCH",
    "MEMORY_PRESSURE_WRITE",
    "PATH",
    "SHELL",
    "SYSTEMD_EXEC_PID",
    "TERM",
    "USER",
];

/// What this host adds to a launch.
#[derive(Debug, Clone)]
pub(super) struct Host {
    /// The start command's program, found.
    pub(super) program: PathBuf,
    /// The stop command's program, found; none where there is no such command.
    pub(super) stop_program: Option<PathBuf>,
    /// The file that holds the environment.
    pub(super) env_file: PathBuf,
    /// Environment keys that systemd would hand to every service.
    pub(super) inherited: BTreeSet<String>,
}

/// The units of one slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Units {
    /// Files under the directory of units: name and text.
    pub(super) files: Vec<(String, String)>,
    /// One for each instance.
    pub(super) services: Vec<String>,
    /// The socket that is held for them.
    pub(super) socket: Option<String>,
}

impl Units {
    /// What a file is to say.
    pub(super) fn text(&self, file: &str) -> Option<&str> {
        text_of(&self.files, file)
    }
}

/// The text of one of these files.
pub(super) fn text_of<'a>(files: &'a [(String, String)], file: &str) -> Option<&'a str> {
    files.iter().find(|(name, _)| name == file).map(|(_, text)| text.as_str())
}

/// systemd's name for a slot: constant over all releases. No name of landfall's holds `..`, so no two slots share
/// one.
pub(super) fn name(slot: &Slot) -> String {
    format!("landfall-{}..{}..{}", slot.app, slot.environment, slot.process)
}

/// The units of a launch.
///
/// # Errors
/// When no unit can say what the launch wants.
pub(super) fn units(launch: &Launch, host: &Host) -> Result<Units, String> {
    let name = name(&launch.slot);
    let services = match launch.spec.instances {
        1 => vec![format!("{name}.service")],
        more => (1..=more).map(|number| format!("{name}@{number}.service")).collect(),
    };
    let file =
        if launch.spec.instances == 1 { format!("{name}.service") } else { format!("{name}@.service") };
    let address = listens(&launch.spec, &launch.env)?;
    let socket = address.map(|_| format!("{name}.socket"));
    let mut files = vec![(file, service(launch, host, socket.as_deref())?)];
    if let (Some(name), Some(address), Some(first)) = (&socket, address, services.first()) {
        files.push((name.clone(), listening(launch, address, first)));
    }
    Ok(Units { files, services, socket })
}

/// The socket that systemd holds while the service is stopped and started.
fn listening(launch: &Launch, address: SocketAddr, service: &str) -> String {
    let mut lines = Lines::default();
    lines.text(&head(&launch.slot));
    lines.section("Unit");
    lines.set("Description", format!("{}: its socket", described(&launch.slot)));
    lines.section("Socket");
    lines.set("ListenStream", address);
    lines.set("Service", service);
    lines.section("Install");
    lines.set("WantedBy", "sockets.target");
    lines.0
}

fn service(launch: &Launch, host: &Host, socket: Option<&str>) -> Result<String, String> {
    let Launch { slot, spec, .. } = launch;
    let mut lines = Lines::default();
    lines.text(&head(slot));
    lines.section("Unit");
    lines.set("Description", described(slot));
    lines.text(ORDER);
    lines.set("RequiresMountsFor", format!("{} {}", path_word(&slot.run_dir), path_word(&slot.logs_dir)));
    lines.text(
        "# As many restarts as landfall's own supervisor allows, and then it stays down and is reported.\n",
    );
    lines.set("StartLimitIntervalSec", RESTART_WINDOW.as_secs());
    lines.set("StartLimitBurst", RESTARTS_MAX + 1);
    lines.section("Service");
    start_lines(&mut lines, launch, host)?;
    stop_lines(&mut lines, spec, host)?;
    if let Some(socket) = socket {
        lines.set("Sockets", socket);
    }
    lines.text("# Appended to the file that `landfall logs` shows and that is kept as evidence.\n");
    lines.set("StandardOutput", format!("append:{}", path_line(&slot.log_path())?));
    lines.set("StandardError", "inherit");
    lines.set("Slice", "landfall.slice");
    if let Some(bytes) = spec.memory_max {
        lines.set("MemoryMax", bytes);
    }
    hardening(&mut lines, launch);
    lines.section("Install");
    lines.set("WantedBy", "multi-user.target");
    Ok(lines.0)
}

fn head(slot: &Slot) -> String {
    format!(
        "# Written by landfall at each start of this process, from the recipe and host.toml. Changes belong there, or\n\
         # in a drop-in: systemctl edit {}\n\n",
        name(slot)
    )
}

fn described(slot: &Slot) -> String {
    format!("{} in {}, process {}, released by landfall", slot.app, slot.environment, slot.process)
}

const ORDER: &str = "After=network.target remote-fs.target nss-user-lookup.target\n";

fn start_lines(lines: &mut Lines, launch: &Launch, host: &Host) -> Result<(), String> {
    let Launch { slot, spec, .. } = launch;
    if spec.ready {
        lines.text("# The app says that it is ready, itself or by a helper (`systemd-notify --ready`).\n");
        lines.set("Type", "notify");
        lines.set("NotifyAccess", "all");
        lines.set("TimeoutStartSec", seconds(notify_wait(spec)));
    } else {
        lines.set("Type", "exec");
    }
    let command = command_line(&spec.command, &spec.node_args, &host.program);
    lines.set("ExecStart", command.map_err(|error| error.to_string())?);
    lines.set("WorkingDirectory", path_line(&launch.release_dir)?);
    lines.text(
        "# The whole environment, readable by root only; what systemd would add to it is taken away.\n",
    );
    lines.set("EnvironmentFile", path_line(&host.env_file)?);
    let unset = unset(&launch.env, &host.inherited)?;
    if !unset.is_empty() {
        lines.set("UnsetEnvironment", unset);
    }
    if let Some(account) = &slot.account {
        lines.set("User", &account.name);
        lines.set("Group", account.gid);
    }
    lines.set("UMask", "0022");
    lines.set("Restart", "always");
    lines.set("RestartSec", seconds(spec.restart_delay.unwrap_or(RESTART_DELAY)));
    Ok(())
}

fn stop_lines(lines: &mut Lines, spec: &StartSpec, host: &Host) -> Result<(), String> {
    if let (Some(command), Some(program)) = (&spec.stop.command, &host.stop_program) {
        lines.set("ExecStop", command_line(command, &[], program).map_err(|error| error.to_string())?);
    }
    lines.set("KillMode", "control-group");
    lines.set("KillSignal", &spec.stop.signal);
    // Zero would mean for ever.
    lines.set("TimeoutStopSec", seconds(Millis(spec.stop.grace.0.max(1))));
    Ok(())
}

/// How long an app may take to say that it is ready.
pub(super) fn notify_wait(spec: &StartSpec) -> Millis {
    spec.listen_timeout.map_or(NOTIFY_WAIT, |wait| Millis(wait.0.max(1)))
}

fn seconds(span: Millis) -> String {
    match span.0 % 1_000 {
        0 => (span.0 / 1_000).to_string(),
        _ => format!("{}ms", span.0),
    }
}

/// The command with its references left to systemd, which knows the same environment.
fn command_line(command: &Command, node_args: &[String], program: &Path) -> Result<String, EnvError> {
    let is_node = program.file_name().is_some_and(|name| name == "node");
    let program = path_word(program);
    let arguments: Vec<String> = match command {
        Command::Run(list) => {
            let rest = list.iter().skip(1).map(|item| written(item));
            let own = node_args.iter().filter(|_| is_node).map(|item| Ok(argument(item)));
            own.chain(rest).collect::<Result<_, EnvError>>()?
        }
        Command::Shell(line) => vec!["-c".to_owned(), argument(line)],
    };
    Ok(std::iter::once(program).chain(arguments).collect::<Vec<_>>().join(" "))
}

fn written(item: &str) -> Result<String, EnvError> {
    match expansion::keys(item)?.is_empty() {
        true => Ok(argument(&expand(item, &BTreeMap::new())?)),
        false => Ok(quoted(&expansion::rewrite(item, part, |key| format!("${{{key}}}"))?)),
    }
}

fn unset(env: &BTreeMap<String, String>, inherited: &BTreeSet<String>) -> Result<String, String> {
    if let Some(key) = env.keys().find(|key| !is_env_key(key)) {
        return Err(format!(
            "systemd passes no environment key like `{key}` on: letters, digits and `_`, and no digit first"
        ));
    }
    let added = SET_BY_SYSTEMD.into_iter().chain(inherited.iter().map(String::as_str));
    let unwanted: BTreeSet<&str> = added.filter(|key| !env.contains_key(*key)).collect();
    Ok(unwanted.into_iter().collect::<Vec<_>>().join(" "))
}

fn hardening(lines: &mut Lines, launch: &Launch) {
    let slot = &launch.slot;
    lines.text(HARDENING);
    let visible = slot.releases_dir.parent().unwrap_or(&slot.releases_dir);
    let places = [visible, &slot.logs_dir];
    let lies_in = |dirs: &[&str], place: &Path| dirs.iter().any(|dir| place.starts_with(dir));
    if !places.iter().any(|place| lies_in(&TEMPORARY, place)) {
        lines.set("PrivateTmp", "yes");
    }
    for place in places.iter().filter(|place| lies_in(&READ_ONLY, place)) {
        lines.set("ReadWritePaths", format!("-{}", path_word(place)));
    }
    if slot.account.as_ref().is_some_and(|account| account.uid != 0) {
        lines.text(CAPABILITIES);
    }
}

const HARDENING: &str = "\
# What a server in node, Python or any compiled language does without. Each can be undone in a drop-in.
NoNewPrivileges=yes
# /usr, /boot and /etc are read-only.
ProtectSystem=full
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
SystemCallFilter=~@clock @cpu-emulation @module @obsolete @raw-io @reboot @swap
SystemCallErrorNumber=EPERM
# Left out on purpose: ProtectHome (accounts of apps may live in /home), MemoryDenyWriteExecute (node and every
# other just-in-time compiler), RestrictNamespaces (browser sandboxes), PrivateDevices and ProtectClock (GPUs).
";

const CAPABILITIES: &str = "\
# None is given; a drop-in with AmbientCapabilities=CAP_NET_BIND_SERVICE lets the app have a port below 1024.
CapabilityBoundingSet=CAP_NET_BIND_SERVICE
";

#[derive(Default)]
struct Lines(String);

impl Lines {
    fn text(&mut self, text: &str) {
        self.0.push_str(text);
    }

    fn section(&mut self, name: &str) {
        let gap = if self.0.ends_with("\n\n") { "" } else { "\n" };
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "{gap}[{name}]");
    }

    fn set(&mut self, key: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.0, "{key}={value}");
    }
}

#[cfg(test)]
mod tests;
