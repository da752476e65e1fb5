//! The release spec: everything of a recipe that acts on a host.
//!
//! It travels inside the artifact (under `release`), so a rollback uses the steps, start and probes of
//! the version it goes back to. Durations are integers in milliseconds, sizes integers in bytes, and the
//! JSON is canonical: this type defines bytes that are part of every artifact's id, so a field may be
//! added only as optional and absent by default.

use std::collections::BTreeMap;
use std::time::Duration;

use landfall_store::{Name, Version};
use serde::{Deserialize, Serialize};

/// Whole milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl Millis {
    /// The same span as a [`Duration`].
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

/// What a host does with an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseSpec {
    /// The version people call it by.
    pub version: Version,
    /// Features a host's landfall must know to act on this artifact.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<String>,
    /// Which env layers exist and what they must hold.
    #[serde(default, skip_serializing_if = "EnvSpec::is_default")]
    pub env: EnvSpec,
    /// Paths that are not plain read-only release files.
    #[serde(default, skip_serializing_if = "PathsSpec::is_default")]
    pub paths: PathsSpec,
    /// Commands around the switch, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepSpec>,
    /// The processes of the app; none: the release is files only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub start: Vec<StartSpec>,
    /// What proves that it works; none: running through the default settle time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub health: Vec<HealthSpec>,
    /// Trial runs on a side port before the switch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub preflight: Vec<PreflightSpec>,
    /// How many healthy releases stay on the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retain: Option<u32>,
}

impl ReleaseSpec {
    /// The `release` part of an artifact.
    pub fn to_map(&self) -> serde_json::Map<String, serde_json::Value> {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::Object(map)) => map,
            _ => unreachable!("a struct of strings, numbers and lists is a JSON object"),
        }
    }
}

/// The env part of a recipe.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvSpec {
    /// Environments the artifact has an env layer for; empty: no env layers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environments: Vec<Name>,
    /// File name of an environment where it differs from its own name (`prod` → `production`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub names: BTreeMap<Name, String>,
    /// Values below the base layer; `${LANDFALL_ENV}` and its like are expanded.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub set: BTreeMap<String, String>,
    /// Keys that must be present after all layers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub required: Vec<String>,
    /// The local layer may be missing.
    #[serde(default, skip_serializing_if = "is_false")]
    pub local_optional: bool,
    /// Expand `$KEY` and `${KEY}` inside env files, as dotenv-expand does.
    #[serde(default, skip_serializing_if = "is_false")]
    pub expand: bool,
}

impl EnvSpec {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The name `.env.<name>` uses for this environment.
    pub fn file_name<'a>(&'a self, environment: &'a Name) -> &'a str {
        self.names.get(environment).map_or(environment.as_str(), String::as_str)
    }
}

/// Paths with a life of their own. All are relative to the release, with `/`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PathsSpec {
    /// Written by the app: private to each release, fresh at each prepare.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub writable: Vec<String>,
    /// Lives outside the releases, linked into each one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shared: Vec<String>,
    /// The same for single files, made empty where there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shared_files: Vec<String>,
    /// Stays reachable under `assets/` for the retained releases.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keep: Vec<String>,
    /// A directory of the release where the app writes logs of its own; they live outside the releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logs: Option<String>,
}

impl PathsSpec {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Everything that is a link out of the release.
    pub fn outside(&self) -> impl Iterator<Item = &String> {
        self.shared.iter().chain(&self.shared_files).chain(&self.logs)
    }
}

/// A command: an argument list, or a shell line where the recipe said so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Program and arguments, no shell.
    Run(Vec<String>),
    /// A line for `/bin/sh -c`.
    Shell(String),
}

/// When a step runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepKind {
    /// Before the switch, while the old release serves; retried.
    Prepare,
    /// Before the switch, once, never interrupted.
    Migrate,
    /// After the commit; its failure never reverts.
    After,
}

/// A command run on the host around the switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepSpec {
    /// Shown in status and logs.
    pub name: Name,
    /// When it runs.
    pub kind: StepKind,
    /// What runs.
    pub command: Command,
    /// Time until the whole process group is killed.
    pub timeout: Millis,
    /// Packed paths it may change; they become private copies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub writes: Vec<String>,
    /// Hosts it runs on; empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<Name>,
    /// What a host that does not migrate waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<Command>,
    /// Names of the migrations that the artifact carries; absent: nobody said where they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migrations: Option<Vec<String>>,
}

/// Who keeps a process running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ManagerKind {
    /// landfall's own shim.
    Direct,
    /// pm2, through landfall's launcher.
    Pm2,
    /// A systemd unit.
    Systemd,
}

/// How pm2 runs instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pm2Mode {
    /// Workers that share the listening socket.
    Cluster,
    /// Independent processes.
    Fork,
}

/// One process of the app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartSpec {
    /// The process's name, unique in the app; `main` unless the recipe names it.
    pub name: Name,
    /// Who runs it.
    pub manager: ManagerKind,
    /// What runs, with the release as its working directory.
    pub command: Command,
    /// How many of it.
    pub instances: u32,
    /// Hosts it runs on; empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<Name>,
    /// How it is asked to stop.
    pub stop: StopSpec,
    /// Restart above this much memory (pm2), or the unit's limit (systemd).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_max: Option<u64>,
    /// pm2's mode; absent: cluster for Node entries with more than one instance, else fork.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Pm2Mode>,
    /// The app says when it is ready (pm2's `process.send('ready')`).
    #[serde(default, skip_serializing_if = "is_false")]
    pub ready: bool,
    /// How long pm2 waits for `ready` or a listening socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen_timeout: Option<Millis>,
    /// Pause before a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_delay: Option<Millis>,
    /// Arguments for node itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub node_args: Vec<String>,
    /// `address:port` of a listening socket that is held for it and passed as descriptor 3; `${KEY}` is expanded
    /// on the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<String>,
}

/// How a process is stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StopSpec {
    /// `SIGTERM`, `SIGINT`, `SIGQUIT`, `SIGHUP`, `SIGUSR1` or `SIGUSR2`.
    pub signal: String,
    /// Time until the whole process group is killed.
    pub grace: Millis,
    /// A command that stops it, with the kill behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Command>,
}

/// What is asked of the app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Check {
    /// A GET that must answer 200..=299 and hold `body_contains`.
    Http(String),
    /// A connection that is accepted: `host:port`.
    Tcp(String),
    /// A command that exits 0.
    Run(Vec<String>),
}

/// One health check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthSpec {
    /// Shown in status; `main` unless the recipe names it.
    pub name: Name,
    /// What is asked; `${KEY}` is expanded from the resolved env.
    pub check: Check,
    /// Text the answer must hold (HTTP).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_contains: Option<String>,
    /// Tries until the first good answer.
    pub attempts: u32,
    /// Longest pause between two tries.
    pub interval: Millis,
    /// Time for one try.
    pub timeout: Millis,
    /// Good answers in a row that are needed.
    pub successes: u32,
    /// Time it must stay well after that.
    pub settle: Millis,
    /// Only reports, never decides.
    #[serde(default, skip_serializing_if = "is_false")]
    pub advisory: bool,
    /// Hosts it applies to; empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<Name>,
}

/// `attempts` when the recipe is silent.
pub const HEALTH_ATTEMPTS: u32 = 30;
/// `interval` when the recipe is silent.
pub const HEALTH_INTERVAL: Millis = Millis(2_000);
/// `timeout` when the recipe is silent.
pub const HEALTH_TIMEOUT: Millis = Millis(2_000);
/// `successes` when the recipe is silent.
pub const HEALTH_SUCCESSES: u32 = 2;
/// `settle` when the recipe is silent, and the proof of an app without health checks.
pub const HEALTH_SETTLE: Millis = Millis(3_000);
/// `timeout` of a step when the recipe is silent.
pub const STEP_TIMEOUT: Millis = Millis(300_000);
/// `stop.grace` when the recipe is silent.
pub const STOP_GRACE: Millis = Millis(5_000);
/// Healthy releases kept when neither recipe nor state says.
pub const RETAIN_RELEASES: u32 = 5;

/// A trial run of one process on a side port, before the switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreflightSpec {
    /// The process of `start` that is tried.
    pub name: Name,
    /// Whether it is tried; absent in the recipe: yes under pm2 cluster.
    pub enabled: bool,
    /// The key that carries the port.
    pub port_env: String,
    /// Hosts it applies to; empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<Name>,
}

const fn is_false(value: &bool) -> bool {
    !*value
}

/// Whether something restricted to `roles` applies to a host with `own` roles; an unrestricted one always does.
pub fn applies(roles: &[Name], own: &[Name]) -> bool {
    roles.is_empty() || roles.iter().any(|role| own.contains(role))
}
