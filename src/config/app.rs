//! `[apps.<app>]`: what this host decides about one app.

use std::collections::BTreeMap;
use std::path::PathBuf;

use landfall_store::Name;
use serde::{Deserialize, Serialize};

use super::{absolute, keys};
use crate::document::{Problem, Shape, Value};
use crate::env::key;
use crate::recipe::{INSTANCES_MAX, parse_manager, parse_mode, pm2_mode, unknown_word};
use crate::spec::{ManagerKind, Pm2Mode, StartSpec};

/// Bytes of a login name on Linux.
const USER_BYTES_MAX: usize = 32;

/// What this host decides about one app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppConfig {
    /// Where `releases`, `current` and `shared` are; absent: under the root.
    pub dir: Option<PathBuf>,
    /// The account that runs steps and app; absent: landfall's own.
    pub user: Option<String>,
    /// Holds `.env.<env>` and `.env.<env>.local`, which replace the artifact's, layer by layer.
    pub env_dir: Option<PathBuf>,
    /// Above both layers.
    pub env: BTreeMap<String, String>,
    /// What is started differently here.
    pub start: StartOverride,
    /// What an edited env file does.
    pub on_env_change: OnEnvChange,
    /// Whether the app runs on this host at all.
    pub enabled: bool,
}

impl Default for AppConfig {
    fn default() -> Self {
        Self {
            dir: None,
            user: None,
            env_dir: None,
            env: BTreeMap::new(),
            start: StartOverride::default(),
            on_env_change: OnEnvChange::Report,
            enabled: true,
        }
    }
}

/// What an env file that was edited under a healthy app does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnEnvChange {
    /// It is reported and applied with the next deploy.
    Report,
    /// It is a deploy.
    Deploy,
}

/// What this host starts differently; part of the release identity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartOverride {
    /// Another manager.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manager: Option<ManagerKind>,
    /// Another pm2 mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Pm2Mode>,
    /// Another number of instances.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instances: Option<u32>,
    /// Another memory limit, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_max: Option<u64>,
}

impl StartOverride {
    /// The process as this host runs it. How an app says that it is ready is a matter between it and the manager
    /// that its recipe names: to another one it says nothing.
    #[must_use]
    pub fn apply(&self, start: &StartSpec) -> StartSpec {
        let manager = self.manager.unwrap_or(start.manager);
        // The workers of a cluster share one port through pm2's daemon; without it, the second could not listen.
        let was_cluster = start.manager == ManagerKind::Pm2 && pm2_mode(start) == Pm2Mode::Cluster;
        let instances = if was_cluster && manager != ManagerKind::Pm2 { 1 } else { start.instances };
        let is_same = manager == start.manager;
        StartSpec {
            manager,
            ready: start.ready && is_same,
            listen_timeout: start.listen_timeout.filter(|_| is_same),
            mode: self.mode.or(start.mode),
            instances: self.instances.unwrap_or(instances),
            memory_max: self.memory_max.or(start.memory_max),
            ..start.clone()
        }
    }
}

pub(super) fn read_all(value: &Value<'_>) -> Result<BTreeMap<Name, AppConfig>, Problem> {
    let mut apps = BTreeMap::new();
    for (name, value) in value.map()?.entries() {
        let name: Name = name
            .parse()
            .map_err(|error: landfall_store::name::NameError| value.invalid(error.to_string()))?;
        apps.insert(name, read(&value)?);
    }
    Ok(apps)
}

fn read(value: &Value<'_>) -> Result<AppConfig, Problem> {
    let table = value.table(keys::APP)?;
    let default = AppConfig::default();
    Ok(AppConfig {
        dir: table.read("dir", absolute)?,
        user: table.read("user", user)?,
        env_dir: table.read("env_dir", absolute)?,
        env: table.read("env", env)?.unwrap_or_default(),
        start: table.read("start", start)?.unwrap_or_default(),
        on_env_change: table.read("on_env_change", on_env_change)?.unwrap_or(default.on_env_change),
        enabled: table.read("enabled", Value::boolean)?.unwrap_or(default.enabled),
    })
}

fn user(value: &Value<'_>) -> Result<String, Problem> {
    let text = value.text()?;
    let well_formed = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.len() <= USER_BYTES_MAX
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-.$".contains(c));
    if well_formed {
        Ok(text.to_owned())
    } else {
        Err(value.invalid(format!("`{text}` is not a login name")))
    }
}

fn env(value: &Value<'_>) -> Result<BTreeMap<String, String>, Problem> {
    let mut env = BTreeMap::new();
    for (name, value) in value.map()?.entries() {
        key::check(name).map_err(|error| value.invalid(error.to_string()))?;
        if name.starts_with(key::OWN_PREFIX) {
            return Err(value.invalid("keys that begin with LANDFALL_ are landfall's own"));
        }
        let text = value.text()?;
        if text.contains('\0') {
            return Err(value.invalid("no environment can carry a NUL character"));
        }
        env.insert(name.to_owned(), text.to_owned());
    }
    Ok(env)
}

fn start(value: &Value<'_>) -> Result<StartOverride, Problem> {
    if let Shape::Text(_) = value.shape() {
        return Ok(StartOverride { manager: Some(manager(value)?), ..StartOverride::default() });
    }
    let table = value.table(keys::START)?;
    Ok(StartOverride {
        manager: table.read("manager", manager)?,
        mode: table.read("mode", parse_mode)?,
        instances: table.read("instances", |count| count.count(1, INSTANCES_MAX))?,
        memory_max: table.read("memory_max", Value::size)?,
    })
}

fn manager(value: &Value<'_>) -> Result<ManagerKind, Problem> {
    parse_manager(value.text()?).ok_or_else(|| unknown_word(value, "manager", &["pm2", "systemd", "direct"]))
}

fn on_env_change(value: &Value<'_>) -> Result<OnEnvChange, Problem> {
    match value.text()? {
        "report" => Ok(OnEnvChange::Report),
        "deploy" => Ok(OnEnvChange::Deploy),
        other => Err(value.invalid(format!("`{other}` is neither `report` nor `deploy`"))),
    }
}
