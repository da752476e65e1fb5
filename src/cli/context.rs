//! From what was typed to what it means: host, store and state of a command.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use landfall_store::location::{StoreAddress, StoreLocation};
use landfall_store::{ArtifactId, Name};
use landfall_store::{Store, StoreError};

use super::Global;
use super::error::CliError;
use super::exit::Exit;
use super::report::Report;
use crate::config::{self, ConfigError, HostConfig, StateLocation};
use crate::host::{Host, HostError};
use crate::layout::Root;
use crate::source::Source;
use crate::source::file::FileSource;
use crate::source::git::GitSource;
use crate::state::DesiredState;

/// Where an installed agent keeps everything.
pub const INSTALLED_ROOT: &str = "/var/lib/landfall";
/// Where a tried-out one does.
const LOCAL_ROOT: &str = ".landfall";
/// The state's usual name.
const STATE_FILE: &str = "deploy-state.json";

/// Everything a command is given.
#[derive(Debug, Clone)]
pub struct Context {
    /// What was typed.
    pub global: Global,
    /// Where to print.
    pub report: Report,
}

impl Context {
    /// The context of one command.
    pub const fn new(global: Global, report: Report) -> Self {
        Self { global, report }
    }

    /// The root directory.
    pub fn root(&self) -> Result<Root, CliError> {
        let path = match &self.global.root {
            Some(root) => root.clone(),
            None if self.global.config.is_none() && self.config_path().is_some() => INSTALLED_ROOT.into(),
            None => LOCAL_ROOT.into(),
        };
        Root::new(&path).map_err(|error| io(&path, &error))
    }

    fn config_path(&self) -> Option<PathBuf> {
        let default = PathBuf::from(config::DEFAULT_PATH);
        self.global.config.clone().or_else(|| default.exists().then_some(default))
    }

    /// This host's configuration.
    pub fn config(&self) -> Result<HostConfig, CliError> {
        let read = match self.config_path() {
            Some(path) => HostConfig::read(&path),
            None => HostConfig::default_for(self.root()?.path()),
        };
        read.map_err(config_error)
    }

    /// This host.
    pub fn host(&self) -> Result<Host, CliError> {
        let config = self.config()?;
        let root = self.root()?;
        let store = self.store_address(Some(&config))?;
        Ok(Host { root, config, store })
    }

    /// Where artifacts are: `--store`, else host.toml, else `<root>/store`.
    fn store_address(&self, config: Option<&HostConfig>) -> Result<StoreAddress, CliError> {
        if let Some(text) = &self.global.store {
            return Ok(self.address(parse_store(text)?));
        }
        let own;
        let config = match config {
            Some(config) => config,
            None => {
                own = self.config()?;
                &own
            }
        };
        let location = match &config.store {
            Some(store) => store.clone(),
            None => StoreLocation::Dir(self.root()?.store()),
        };
        let token_file = config.store_token_file.clone().or_else(|| self.global.store_token_file.clone());
        Ok(StoreAddress { location, mirrors: config.store_mirrors.clone(), token_file })
    }

    /// How a place that was typed is opened.
    pub fn address(&self, location: StoreLocation) -> StoreAddress {
        StoreAddress { token_file: self.global.store_token_file.clone(), ..location.into() }
    }

    /// The store, which must exist.
    pub fn open_store(&self) -> Result<Store, CliError> {
        self.store()?.open().map_err(store_error)
    }

    /// The store, whether it exists or not.
    pub fn store(&self) -> Result<StoreAddress, CliError> {
        self.store_address(None)
    }

    /// The store, made if it does not exist.
    pub fn create_store(&self) -> Result<Store, CliError> {
        self.store()?.create().map_err(store_error)
    }

    /// The state file: `--state`, else host.toml, else `./deploy-state.json`.
    pub fn state_file(&self) -> Result<PathBuf, CliError> {
        if let Some(path) = &self.global.state {
            return Ok(path.clone());
        }
        let config = self.config()?;
        match config.state.map(|state| state.location) {
            None => Ok(STATE_FILE.into()),
            Some(StateLocation::File(path)) => Ok(path),
            Some(StateLocation::Git(_)) => Err(CliError::new(
                Exit::Source,
                "SourceUnknown",
                "the state is in a git repository, and this command works on a file",
            )
            .hint("clone the state repository and give its file: --state state/deploy-state.json")),
        }
    }

    /// Where the state comes from, as the agent has it: `--state`, else host.toml, else `./deploy-state.json`.
    /// `cache`: where a repository is fetched to.
    pub fn source(&self, cache: PathBuf) -> Result<Source, CliError> {
        if self.global.state.is_none()
            && let Some(StateLocation::Git(repository)) = self.config()?.state.map(|state| state.location)
        {
            return Ok(Source::Git(GitSource::new(repository, cache)));
        }
        let path = self.state_file()?;
        FileSource::new(&path).map(Source::File).map_err(|error| io(&path, &error))
    }

    /// What the state asks every app to run; nothing, and a word about it, where it cannot be read: deltas are
    /// a saving, and no push fails for want of one.
    pub fn deployed(&self) -> BTreeMap<Name, Vec<ArtifactId>> {
        let Ok(path) = self.state_file() else { return BTreeMap::new() };
        if self.global.state.is_none() && !path.exists() {
            return BTreeMap::new();
        }
        match DesiredState::read(&path) {
            Ok(state) => state.artifacts(),
            Err(error) => {
                self.report.say(format!("{error}; deltas start from the last versions only"));
                BTreeMap::new()
            }
        }
    }

    /// The environment of this host, or the only one an argument names.
    pub fn environment(&self, host: &Host, asked: Option<&Name>) -> Result<Name, CliError> {
        asked.cloned().or_else(|| host.config.environment.clone()).ok_or_else(|| {
            CliError::new(Exit::Invalid, "NoEnvironment", "this host is in no environment")
                .hint("set `environment = \"prod\"` in host.toml, or give --env")
        })
    }
}

/// A store as people type it.
pub fn parse_store(text: &str) -> Result<StoreLocation, CliError> {
    StoreLocation::parse(text, Path::new(""))
        .map_err(|error| CliError::new(Exit::Usage, "StoreInvalid", error))
}

/// How a store's error is told.
pub fn store_error(error: StoreError) -> CliError {
    use landfall_store::backend::BackendError;
    let (exit, reason) = match &error {
        StoreError::Backend(BackendError::NotFound { .. }) | StoreError::NotAStore(_) => {
            (Exit::NotFound, "NotFound")
        }
        StoreError::UnknownArtifact { .. } => (Exit::NotFound, "UnknownArtifact"),
        StoreError::Unlisted { .. } => (Exit::NotFound, "Unlisted"),
        StoreError::Backend(BackendError::Unreachable { .. }) => (Exit::Supply, "StoreUnreachable"),
        StoreError::Backend(BackendError::Denied { .. }) => (Exit::Supply, "StoreDenied"),
        StoreError::Ambiguous { .. } => (Exit::Usage, "Ambiguous"),
        StoreError::VersionTaken { .. } => (Exit::Conflict, "VersionTaken"),
        StoreError::Damaged { .. } | StoreError::Unavailable { .. } => (Exit::Supply, "DigestMismatch"),
        StoreError::Sweeping { .. } => (Exit::Conflict, "Sweeping"),
        StoreError::Lapsed { .. } | StoreError::Condemned { .. } => (Exit::Conflict, "LeaseLapsed"),
        StoreError::Cancelled => (Exit::Interrupted, "Interrupted"),
        _ => (Exit::Supply, "StoreFailed"),
    };
    let hint = store_hint(&error);
    let cli = CliError::new(exit, reason, error);
    match hint {
        Some(hint) => cli.hint(hint),
        None => cli,
    }
}

const fn store_hint(error: &StoreError) -> Option<&'static str> {
    match error {
        StoreError::NotAStore(_) => Some("`landfall pack` makes one; --store names another"),
        StoreError::UnknownArtifact { .. } => Some("`landfall ls` shows what the store has"),
        StoreError::Unlisted { .. } => Some("give the full id, or a version together with --app"),
        StoreError::Ambiguous { .. } => Some("give the full id, or more of its digits"),
        StoreError::VersionTaken { .. } => {
            Some("give it another --version, or say --move-version if nobody relies on the old one")
        }
        _ => None,
    }
}

/// How a host's error is told.
pub fn host_error(error: HostError) -> CliError {
    match &error {
        HostError::Locked { .. } => CliError::new(Exit::Conflict, "Locked", &error)
            .hint("an agent is running here; `landfall status` shows what it does"),
        HostError::NoUser { .. } => CliError::new(Exit::Invalid, "NoUser", &error)
            .hint("create the user, or correct `user` under [apps.<app>] in host.toml"),
        HostError::Io { .. } | HostError::Secret { .. } => CliError::new(Exit::Error, "HostUnusable", &error),
    }
}

/// How a configuration's error is told.
pub fn config_error(error: ConfigError) -> CliError {
    let cli = CliError::new(Exit::Invalid, "ConfigInvalid", &error);
    match error.hint() {
        Some(hint) => cli.hint(hint),
        None => cli,
    }
}

/// A file that the system refused.
pub fn io(path: &Path, error: &std::io::Error) -> CliError {
    CliError::new(Exit::Error, "IoError", format!("{}: {error}", path.display()))
}
