//! What the host's read commands share: which host, which environment, which apps, and what the state says.
//!
//! Nothing here takes the lock, makes a file or needs an agent.

use std::collections::BTreeSet;
use std::path::PathBuf;

use jiff::Timestamp;
use landfall_store::{ArtifactId, Name};

use super::context::{Context, host_error};
use super::error::CliError;
use super::exit::Exit;
use crate::disk::{Disk, RealDisk};
use crate::host::Host;
use crate::layout::AppDir;
use crate::plan::Desired;
use crate::record::RecordError;
use crate::record::refused::Refused;
use crate::record::source::SourceRecord;
use crate::source::Source;
use crate::source::file::FileSource;
use crate::status::{Around, Origin, SourceView};
use crate::watch::{self, Accepted, AgentError, Shared, Site, StateProblem};

/// A host as a command that only looks sees it.
pub struct Looking {
    /// Its environment.
    pub environment: Name,
    /// What its apps share.
    pub shared: Shared,
    /// The state that counts: the newest, else the last that was accepted.
    accepted: Option<Accepted>,
    source: SourceView,
    origin: Option<Origin>,
    commit: Option<String>,
    agent: bool,
}

impl Looking {
    /// The host of this command. `env`: the environment, where host.toml does not say.
    pub fn new(context: &Context, env: Option<&Name>) -> Result<Self, CliError> {
        let host = context.host()?;
        let environment = environment(context, &host, env)?;
        let agent = host.is_locked();
        let State { accepted, source, origin, commit } = state(context, &host)?;
        let shared = Shared::looking(host, environment.clone()).map_err(agent_error)?;
        Ok(Self { environment, shared, accepted, source, origin, commit, agent })
    }

    /// Whether an agent works on this root.
    pub const fn has_agent(&self) -> bool {
        self.agent
    }

    /// Why the agent did not take the host.toml it read last. What cannot be read is not known.
    pub fn refused(&self) -> Option<Refused> {
        let refused = Refused::read(&RealDisk, &self.shared.host.root).ok().flatten();
        refused.filter(|_| self.agent)
    }

    /// Where everything lies.
    pub fn root(&self) -> &std::path::Path {
        self.shared.host.root.path()
    }

    /// Every app there is something to say about: those on disk, and those the state names for this host.
    pub fn apps(&self) -> Result<BTreeSet<Name>, CliError> {
        let mut apps = self.shared.apps_on_disk().map_err(record_error)?;
        if let Some(accepted) = &self.accepted {
            let named = accepted.state.apps_in(&self.environment);
            let here = |app: &&Name| {
                self.shared.host.config.app(app).is_some()
                    && !accepted.state.is_absent(app, &self.environment)
            };
            apps.extend(named.filter(here).cloned());
        }
        Ok(apps)
    }

    /// The asked app, which must be known here, or all of them.
    pub fn chosen(&self, asked: Option<&Name>) -> Result<Vec<Name>, CliError> {
        let apps = self.apps()?;
        match asked {
            None => Ok(apps.into_iter().collect()),
            Some(app) if apps.contains(app) => Ok(vec![app.clone()]),
            Some(app) => Err(self.unknown(app, &apps)),
        }
    }

    fn unknown(&self, app: &Name, apps: &BTreeSet<Name>) -> CliError {
        let environment = &self.environment;
        let what = format!("there is no app `{app}` in `{environment}` on this host");
        let known: Vec<&str> = apps.iter().map(Name::as_str).collect();
        let hint = match known.is_empty() {
            true => format!("no app was ever deployed here; is {} the right --root?", self.root().display()),
            false => format!("here are: {}", known.join(", ")),
        };
        CliError::new(Exit::NotFound, "NoApp", what).hint(hint)
    }

    /// One app, with its effects.
    pub fn site(&self, app: &Name) -> Result<Site, CliError> {
        let tuning = self.accepted.as_ref().map(|accepted| accepted.tuning(app, &self.environment));
        self.shared.site(app, tuning.unwrap_or_default()).map_err(agent_error)
    }

    /// The directories of one app.
    pub fn dir(&self, app: &Name) -> AppDir {
        let config = self.shared.host.config.app(app).unwrap_or_default();
        self.shared.host.root.app(app, &self.environment, config.dir.as_deref())
    }

    /// Why the state blocks an artifact, if it does.
    pub fn block_of(&self, app: &Name, artifact: &ArtifactId) -> Option<String> {
        let accepted = self.accepted.as_ref()?;
        watch::block_of(accepted, app, &self.environment, artifact)
    }

    /// What a status of this app needs to know besides its own records.
    pub fn around(&self, app: &Name) -> Around {
        let wanted = match &self.accepted {
            Some(accepted) => watch::desired(accepted, app, &self.environment),
            None => Desired::NotInState,
        };
        Around {
            host: self.shared.host.config.host.clone(),
            wanted,
            source: self.source.clone(),
            origin: self.origin.clone(),
            state_commit: self.commit.clone(),
            agent: self.agent,
        }
    }
}

/// The environment that was typed or configured, else the only one that is on disk.
fn environment(context: &Context, host: &Host, asked: Option<&Name>) -> Result<Name, CliError> {
    let known = || only(environments_on_disk(host));
    match asked.cloned().or_else(|| host.config.environment.clone()).or_else(known) {
        Some(environment) => Ok(environment),
        None => context.environment(host, asked),
    }
}

fn environments_on_disk(host: &Host) -> BTreeSet<Name> {
    let apps = host.root.apps();
    let list = |dir: PathBuf| RealDisk.list(&dir).unwrap_or_default();
    let below = list(apps.clone()).into_iter().flat_map(|app| list(apps.join(app)));
    below.filter_map(|name| name.parse().ok()).collect()
}

fn only(names: BTreeSet<Name>) -> Option<Name> {
    if names.len() == 1 { names.into_iter().next() } else { None }
}

/// What is known of the state.
struct State {
    accepted: Option<Accepted>,
    source: SourceView,
    origin: Option<Origin>,
    commit: Option<String>,
}

/// The newest state if there is one that can be used, else the last that was accepted. A repository is not asked:
/// what the agent last knew of it is on record.
fn state(context: &Context, host: &Host) -> Result<State, CliError> {
    let last = watch::last(host).map_err(record_error)?;
    let commit = last.as_ref().and_then(|last| last.commit.clone());
    let source = match context.source(host.root.repository()) {
        Ok(source) => source,
        // The agent knows where its state is; its last word on it counts.
        Err(_) => return Ok(State { accepted: last, source: SourceView::Unknown, origin: None, commit }),
    };
    let file = match &source {
        Source::File(file) => file,
        Source::Git(_) => {
            let record = SourceRecord::read(&host.root).map_err(record_error)?;
            let record = record.filter(|record| record.place == source.place());
            let view = view_of(record.as_ref(), last.as_ref());
            let origin = watch::origin(&source, &host.config, record.as_ref(), last.as_ref());
            return Ok(State { accepted: last, source: view, origin, commit });
        }
    };
    let problem = match watch::of_file(file, last.as_ref()) {
        Ok(newest) => {
            let (source, commit) = (newest.view(Timestamp::now()), commit_of(file));
            return Ok(State { accepted: Some(newest), source, origin: None, commit });
        }
        Err(problem) => problem,
    };
    let source = match problem {
        StateProblem::Source(_) if was_guessed(context, host) && last.is_some() => SourceView::Unknown,
        problem => problem.view(),
    };
    Ok(State { accepted: last, source, origin: None, commit })
}

/// The commit whose content the file has. On a thread of its own: `status` looks from within a runtime.
fn commit_of(file: &FileSource) -> Option<String> {
    let asked = || super::io_runtime().ok()?.block_on(file.commit());
    std::thread::scope(|scope| scope.spawn(asked).join()).ok().flatten()
}

/// How the repository was last found.
fn view_of(record: Option<&SourceRecord>, last: Option<&Accepted>) -> SourceView {
    match (record.map(|record| &record.wrong), last) {
        (None, None) => SourceView::Unknown,
        (Some(Some(wrong)), _) => SourceView::of(wrong.clone()),
        (Some(None) | None, last) => last.map_or(SourceView::Ready, |last| last.view(Timestamp::now())),
    }
}

/// Nobody said where the state is, neither here nor in host.toml.
fn was_guessed(context: &Context, host: &Host) -> bool {
    context.global.state.is_none() && host.config.state.is_none()
}

/// How a damaged or unreadable record is told.
pub fn record_error(error: RecordError) -> CliError {
    match &error {
        RecordError::Damaged { .. } => CliError::new(Exit::Supply, "RecordDamaged", &error)
            .hint("restore the file from a backup; landfall changes nothing while it cannot read it"),
        RecordError::Newer { .. } => CliError::new(Exit::Error, "RecordNewer", &error)
            .hint("use the landfall that wrote it, or a newer one"),
        RecordError::Io { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
            CliError::new(Exit::Error, "PermissionDenied", &error).hint("run it as the account of the agent")
        }
        RecordError::Io { .. } => CliError::new(Exit::Error, "RecordUnreadable", &error),
    }
}

/// How it is told that a host cannot be looked at.
pub fn agent_error(error: AgentError) -> CliError {
    match error {
        AgentError::Host(error) => host_error(error),
        AgentError::Record(error) => record_error(error),
        AgentError::Setup(failure) => CliError::new(Exit::Error, failure.reason, failure.message),
        other => CliError::new(Exit::Error, "HostUnusable", other),
    }
}
