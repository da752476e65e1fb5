//! The agent: one loop decides, everything else only sends it events.
//!
//! Triggers are file-system events on the state file, a timer, the end of an attempt, and signals. Apps are
//! independent: one attempt at a time each, and a slow or failing app never holds up another.

mod accept;
mod agent;
mod apps;
mod departures;
mod feed;
mod orders;
mod reload;
mod reporter;
mod repository;
mod rounds;
mod service;
mod stop;
mod tick;
mod tidy;
mod wants;

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;
use landfall_store::Name;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::deploy::Asking;
use crate::disk::RealDisk;
use crate::host::{Host, HostError};
use crate::pending::Pending;
use crate::plan::Desired;
use crate::reconcile::Tick;
use crate::record::RecordError;
use crate::record::journal::{Failure, Journal};
use crate::retry::Patience;
use crate::source::{Source, SourceError};
use crate::status::{Around, SourceView};

pub use accept::{Accepted, StateProblem, Tuning, Waiver, desired, last, newest, of_file};
pub use orders::block_of;
pub use reporter::Reporting;
pub use repository::{accept_without_agent, origin};
pub use service::{Overrides, Shared, Site};

/// What an agent is started with.
#[derive(Debug)]
pub struct Settings {
    /// This host.
    pub host: Host,
    /// Its environment.
    pub environment: Name,
    /// Where the state comes from.
    pub source: Source,
    /// How it reports; absent: it does not.
    pub reporting: Option<Reporting>,
}

impl Settings {
    /// Time between two looks at a repository.
    fn poll(&self) -> Duration {
        self.host.config.state.as_ref().map_or(agent::INTERVAL, |state| Duration::from_millis(state.poll.0))
    }
}

/// Why there is no agent.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The host.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The state, where none was ever accepted.
    #[error(transparent)]
    State(#[from] StateProblem),
    /// The place of the state.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The kernel does not tell of changes.
    #[error("cannot watch the state file: {0}")]
    Watch(#[from] notify::Error),
    /// landfall's own records.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Something the agent needs is missing.
    #[error("{}", .0.message)]
    Setup(Failure),
    /// The kernel does not deliver signals.
    #[error("cannot listen for signals: {0}")]
    Signals(std::io::Error),
}

/// What one app came to.
#[derive(Debug)]
pub struct Report {
    /// Which app.
    pub app: Name,
    /// How its tick ended.
    pub tick: Result<Tick, RecordError>,
}

/// Reconciles every app once.
pub async fn once(settings: Settings) -> Result<Vec<Report>, AgentError> {
    let _lock = settings.host.lock()?;
    let shared = Rc::new(Shared::new(&settings, Patience::Once)?);
    let accepted = accept::newest(&settings.source, &settings.host).await?;
    accept::keep(&settings.host, &accepted)?;
    let mut reports = Vec::new();
    for app in apps(&shared, Some(&accepted))? {
        let wanted = desired(&accepted, &app, &settings.environment);
        let commit = || -> Pending<'static, Option<String>> {
            let source = settings.source.clone();
            Box::pin(async move { source.commit().await })
        };
        let asking = Asking { commit: &commit, ..Asking::NOTHING };
        let site = shared.site(&app, accepted.tuning(&app, &settings.environment))?;
        let mut tick = site.tick(wanted.clone(), asking).await;
        // An attempt that was cut short is finished first; what the state asks for comes after it.
        if matches!(&tick, Ok(Tick::Attempted(entry)) if !is_about(&wanted, entry)) {
            tick = site.tick(wanted, asking).await;
        }
        let around = Around {
            host: settings.host.config.host.clone(),
            wanted: desired(&accepted, &app, &settings.environment),
            source: accepted.view(Timestamp::now()),
            origin: repository::origin(&settings.source, &settings.host.config, None, Some(&accepted)),
            state_commit: None,
            agent: true,
        };
        crate::status::report(&site, &around).await;
        reports.push(Report { app, tick });
    }
    Ok(reports)
}

/// Reconciles one app once with the last accepted state, or without any. Only under the lock.
pub async fn one(host: &Host, environment: &Name, app: &Name) -> Result<Report, AgentError> {
    let secret = host.secret_or_new()?;
    let shared = Shared::with_secret(host.clone(), environment.clone(), secret, Patience::Once)?;
    let accepted = accept::last(host)?;
    let tuning = accepted.as_ref().map(|accepted| accepted.tuning(app, environment)).unwrap_or_default();
    let wanted = match &accepted {
        Some(accepted) => desired(accepted, app, environment),
        None => Desired::NotInState,
    };
    let site = shared.site(app, tuning)?;
    // What a crash cut short is finished first; what was ordered comes after it.
    let cut_short = Journal::read(&RealDisk, &site.dir)?.is_some();
    let mut tick = site.tick(wanted.clone(), Asking::NOTHING).await;
    if cut_short && tick.is_ok() {
        tick = site.tick(wanted.clone(), Asking::NOTHING).await;
    }
    let around = Around {
        host: host.config.host.clone(),
        wanted,
        source: SourceView::Unknown,
        origin: None,
        state_commit: None,
        agent: true,
    };
    crate::status::report(&site, &around).await;
    Ok(Report { app: app.clone(), tick })
}

fn is_about(wanted: &Desired, entry: &crate::record::history::Entry) -> bool {
    matches!(wanted, Desired::Target(target) if target.artifact == entry.target.artifact)
}

/// What people and systemd tell the agent by.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> Result<Self, AgentError> {
        let listen = |kind| signal(kind).map_err(AgentError::Signals);
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }
}

/// Reads the settings again; an error says why they cannot be used.
pub type ReadAgain<'a> = &'a dyn Fn() -> Result<Settings, String>;

/// Reconciles until a signal ends it. The apps go on without it.
pub async fn watch(settings: Settings, read_again: ReadAgain<'_>) -> Result<(), AgentError> {
    // Before the lock: whoever sees it held may end the agent, and that is to be orderly.
    let signals = Signals::listen()?;
    let _lock = settings.host.lock()?;
    let (host, environment) = (settings.host.clone(), settings.environment.clone());
    let attempts = tokio::task::LocalSet::new();
    attempts.run_until(async { agent::Agent::new(settings)?.run(signals, read_again).await }).await?;
    // Whatever attempt is under way ends here: nothing writes its journal any more.
    drop(attempts);
    stop::note(&host, &environment);
    Ok(())
}

/// Apps of this host: those the state names for it, and those that are here already.
fn apps(shared: &Shared, accepted: Option<&Accepted>) -> Result<BTreeSet<Name>, AgentError> {
    let mut apps = shared.apps_on_disk()?;
    if let Some(accepted) = accepted {
        let named = accepted.state.apps_in(&shared.environment);
        // Of what was never here there is nothing to remove.
        apps.extend(named.filter(|app| !accepted.state.is_absent(app, &shared.environment)).cloned());
    }
    apps.retain(|app| shared.host.config.app(app).is_some());
    Ok(apps)
}
