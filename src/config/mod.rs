//! `host.toml`: what this host is, and what it allows.

mod app;
pub mod keys;
pub mod remote;
mod report;
mod state;
mod store;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use landfall_store::Name;
use landfall_store::location::StoreLocation;

pub use app::{AppConfig, OnEnvChange, StartOverride};
pub use report::ReportConfig;
pub use state::{Access, History, Repository, StateConfig, StateLocation, WebhookConfig};

use crate::document::{Document, Notation, Problem, Table, Value, parse_toml};

/// Where the configuration lies when `--config` does not say.
pub const DEFAULT_PATH: &str = "/etc/landfall/host.toml";

/// Bytes of a host.toml: far more than any host has apps for.
pub const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The text is not a configuration.
    #[error(transparent)]
    Invalid(#[from] Problem),
    /// The host's own name is not one that landfall can use.
    #[error("{source}: it is this machine's host name")]
    HostName {
        /// Which rule it breaks.
        source: landfall_store::name::NameError,
    },
    /// No such file.
    #[error("{path}: there is no such configuration")]
    Missing {
        /// Which file.
        path: PathBuf,
    },
    /// Too large to be one.
    #[error("{path}: {bytes} bytes are no configuration: at most {CONFIG_BYTES_MAX}")]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// How large it is.
        bytes: u64,
    },
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl ConfigError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Invalid(problem) => problem.hint(),
            Self::HostName { .. } => Some("give the host a name of its own: host = \"web-1\" in host.toml"),
            Self::Missing { .. } | Self::TooLarge { .. } | Self::Unreadable { .. } => None,
        }
    }
}

/// A whole host configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostConfig {
    /// This host's name.
    pub host: Name,
    /// Where in the pipeline it is; some commands take it from `--env` instead.
    pub environment: Option<Name>,
    /// Which parts of apps run here; empty: everything without a role of its own.
    pub roles: Vec<Name>,
    /// Where artifacts come from; absent: `<root>/store`.
    pub store: Option<StoreLocation>,
    /// Places with the same artifacts, asked in order when the store cannot give one.
    pub store_mirrors: Vec<StoreLocation>,
    /// A file with the token that the store's server asks of readers.
    pub store_token_file: Option<PathBuf>,
    /// Where desired state comes from; absent: `--state` says.
    pub state: Option<StateConfig>,
    /// Bytes the cache of fetched objects may take; absent: unbounded.
    pub cache_max_bytes: Option<u64>,
    /// Whose signatures count; empty: none is asked for.
    pub trust: Trust,
    /// Where the git server may say that the state changed.
    pub webhook: Option<WebhookConfig>,
    /// How this host leaves word of itself in the store; absent: it does not.
    pub report: Option<ReportConfig>,
    /// Whether this host runs migrate steps; one that does not waits for their `check`.
    pub migrator: bool,
    /// The apps of this host; absent: every app of its environment.
    pub apps: Option<BTreeMap<Name, AppConfig>>,
}

/// `[trust]`: for the judge of state; nothing is verified here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    /// Principals who may change the state; empty: all of `allowed_signers`.
    pub operators: Vec<String>,
    /// Principals who may sign artifacts.
    pub builders: Vec<String>,
    /// An allowed-signers file as ssh-keygen reads it.
    pub allowed_signers: Option<PathBuf>,
}

impl Trust {
    /// Whether anything is asked of signatures at all.
    pub fn is_configured(&self) -> bool {
        *self != Self::default()
    }
}

impl HostConfig {
    /// Parses a configuration. Relative paths in it are relative to `path`'s directory. `host_name` is this
    /// machine's own name, used where the file gives none.
    pub fn parse(text: &str, path: &Path, host_name: &str) -> Result<Self, ConfigError> {
        let root = parse_toml(text, path)?;
        let document = Document { file: path, text, notation: Notation::Toml };
        let base = path.parent().unwrap_or(Path::new(""));
        config(&document.root(&root), base, host_name)
    }

    /// Reads and parses a configuration.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(&read_text(path)?, path, &host_name())
    }

    /// The configuration of a host without one: its store is `<root>/store`, everything else as if left out.
    pub fn default_for(root: &Path) -> Result<Self, ConfigError> {
        Ok(Self {
            host: own_name(&host_name())?,
            environment: None,
            roles: Vec::new(),
            store: Some(StoreLocation::Dir(root.join("store"))),
            store_mirrors: Vec::new(),
            store_token_file: None,
            state: None,
            cache_max_bytes: None,
            trust: Trust::default(),
            webhook: None,
            report: None,
            migrator: true,
            apps: None,
        })
    }

    /// What is configured for `app`; `None`: it is not for this host, or switched off here.
    pub fn app(&self, app: &Name) -> Option<AppConfig> {
        match &self.apps {
            None => Some(AppConfig::default()),
            Some(apps) => apps.get(app).filter(|app| app.enabled).cloned(),
        }
    }
}

/// This machine's name as the kernel has it.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn own_name(host_name: &str) -> Result<Name, ConfigError> {
    host_name.to_lowercase().parse().map_err(|source| ConfigError::HostName { source })
}

fn mirrors(all: &Value<'_>, base: &Path) -> Result<Vec<StoreLocation>, Problem> {
    all.list()?.iter().map(|value| store::read(value, base)).collect()
}

fn config(root: &Value<'_>, base: &Path, host_name: &str) -> Result<HostConfig, ConfigError> {
    let table = root.table(keys::HOST)?;
    let host = table.read("host", Value::parse)?.map_or_else(|| own_name(host_name), Ok)?;
    Ok(HostConfig {
        host,
        environment: table.read("environment", Value::parse)?,
        roles: table.read("roles", |roles| roles.set(Value::parse))?.unwrap_or_default(),
        store: table.read("store", |value| store::read(value, base))?,
        store_mirrors: table.read("store_mirrors", |all| mirrors(all, base))?.unwrap_or_default(),
        store_token_file: table.read("store_token_file", |file| Ok(base.join(file.text()?)))?,
        state: table.read("state", |value| state::read(value, base))?,
        cache_max_bytes: table.read("cache", cache)?.flatten(),
        trust: table.read("trust", |value| trust(value, base))?.unwrap_or_default(),
        webhook: table.read("webhook", |value| state::webhook(value, base))?,
        report: table.read("report", |value| report::read(value, base))?.flatten(),
        migrator: table.read("migrator", Value::boolean)?.unwrap_or(true),
        apps: table.read("apps", app::read_all)?,
    })
}

fn cache(value: &Value<'_>) -> Result<Option<u64>, Problem> {
    value.table(keys::CACHE)?.read("max_bytes", Value::size)
}

fn trust(value: &Value<'_>, base: &Path) -> Result<Trust, Problem> {
    let table = value.table(keys::TRUST)?;
    Ok(Trust {
        operators: principals(&table, "operators")?,
        builders: principals(&table, "builders")?,
        allowed_signers: table.read("allowed_signers", |value| relative_to(base, value))?,
    })
}

fn principals(table: &Table<'_>, key: &str) -> Result<Vec<String>, Problem> {
    let one = |value: &Value<'_>| match value.text()? {
        "" => Err(value.invalid("an empty name trusts nobody")),
        text => Ok(text.to_owned()),
    };
    table.read(key, |list| list.set(one)).map(Option::unwrap_or_default)
}

/// A path as written if it is absolute, else under `base`.
fn relative_to(base: &Path, value: &Value<'_>) -> Result<PathBuf, Problem> {
    match value.text()? {
        "" => Err(value.invalid("the path is empty")),
        text if text.contains('\0') => Err(value.invalid("a path cannot hold a NUL character")),
        text => Ok(base.join(text)),
    }
}

fn absolute(value: &Value<'_>) -> Result<PathBuf, Problem> {
    let text = value.text()?;
    let path = Path::new(text);
    let climbs = path.components().any(|part| part == std::path::Component::ParentDir);
    if !path.is_absolute() || climbs || text.contains('\0') {
        return Err(value.invalid(format!("`{text}` is not an absolute path without `..`")));
    }
    Ok(path.to_owned())
}

fn read_text(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::NotFound => ConfigError::Missing { path: path.to_owned() },
        _ => ConfigError::Unreadable { path: path.to_owned(), source },
    };
    let bytes = std::fs::metadata(path).map_err(unreadable)?.len();
    if bytes > CONFIG_BYTES_MAX {
        return Err(ConfigError::TooLarge { path: path.to_owned(), bytes });
    }
    std::fs::read_to_string(path).map_err(unreadable)
}

#[cfg(test)]
mod tests;
