//! The agent: one loop decides, everything else only sends it events.
//!
//! Triggers are file-system events on the state file, a timer, the end of an attempt, and signals. Apps are
//! independent: one attempt at a time each, and a slow or failing app never holds up another.

mod accept;
mod service;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use landfall_store::Name;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::deploy::Asking;
use crate::host::{Host, HostError};
use crate::pending::Pending;
use crate::plan::Desired;
use crate::reconcile::Tick;
use crate::record::RecordError;
use crate::record::history::Outcome;
use crate::record::journal::{Class, Failure};
use crate::source::SourceError;
use crate::source::file::{FileSource, FileWatch};
use crate::status::{Around, SourceView};

pub use accept::{Accepted, StateProblem, Tuning, desired, last, newest};
pub use service::{Shared, Site};

/// Time between two looks at everything, without any event.
const INTERVAL: Duration = Duration::from_secs(30);
/// A state file that does not parse is looked at again after this long before it is complained about: an
/// editor that writes in place passes through such a moment.
const SETTLE: Duration = Duration::from_millis(50);
/// Pause after an artifact could not be had in all tries.
const SUPPLY_PAUSE: Duration = Duration::from_secs(600);
/// Pause after landfall could not keep its own records.
const RECORD_PAUSE: Duration = Duration::from_secs(10);

/// What an agent is started with.
#[derive(Debug)]
pub struct Settings {
    /// This host.
    pub host: Host,
    /// Its environment.
    pub environment: Name,
    /// Where the state comes from.
    pub source: FileSource,
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
    let shared = Rc::new(Shared::new(&settings, crate::release::Tries::ONCE)?);
    let accepted = accept::newest(&settings)?;
    let mut reports = Vec::new();
    for app in apps(&shared, Some(&accepted))? {
        let wanted = desired(&accepted, &app, &settings.environment);
        let commit = || settings.source.commit();
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
            source: SourceView::Ready,
            state_commit: None,
            agent: true,
        };
        crate::status::record(&site, &around).await?;
        reports.push(Report { app, tick });
    }
    Ok(reports)
}

fn is_about(wanted: &Desired, entry: &crate::record::history::Entry) -> bool {
    matches!(wanted, Desired::Target(target) if target.artifact == entry.target.artifact)
}

/// Reconciles until a signal ends it. The apps go on without it.
pub async fn watch(settings: Settings) -> Result<(), AgentError> {
    let _lock = settings.host.lock()?;
    tokio::task::LocalSet::new().run_until(async { Agent::new(settings)?.run().await }).await
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

struct Agent {
    settings: Settings,
    shared: Rc<Shared>,
    accepted: Option<Rc<Accepted>>,
    complaint: Option<String>,
    apps: BTreeMap<Name, AppState>,
    events: UnboundedReceiver<()>,
    watch: FileWatch,
    ended: UnboundedReceiver<Report>,
    end: UnboundedSender<Report>,
}

/// What the state asks for, and word of its changes.
struct Wanted {
    now: RefCell<Desired>,
    change: tokio::sync::Notify,
}

/// What the loop knows of one app.
struct AppState {
    /// What the state asks for now; an attempt in progress asks here whether it is superseded.
    wanted: Rc<Wanted>,
    busy: bool,
    due: bool,
    not_before: Option<Instant>,
    said: Option<String>,
}

impl Agent {
    fn new(settings: Settings) -> Result<Self, AgentError> {
        let shared = Rc::new(Shared::new(&settings, crate::release::Tries::AGENT)?);
        let (changed, events) = unbounded_channel();
        let (end, ended) = unbounded_channel();
        let watch = FileWatch::new(&settings.source, changed)?;
        let accepted = accept::last(&settings.host)?.map(Rc::new);
        let apps = BTreeMap::new();
        Ok(Self { settings, shared, accepted, complaint: None, apps, events, watch, ended, end })
    }

    async fn run(mut self) -> Result<(), AgentError> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate()).map_err(AgentError::Signals)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(AgentError::Signals)?;
        info!(
            host = %self.settings.host.config.host, environment = %self.settings.environment,
            state = %self.settings.source.path().display(), "watching"
        );
        let mut look_again = self.look();
        let mut timer = Instant::now() + jittered(INTERVAL);
        self.all_due();
        loop {
            self.dispatch();
            tokio::select! {
                Some(()) = self.events.recv() => {
                    while self.events.try_recv().is_ok() {}
                    self.watch.follow()?;
                    look_again = self.look();
                }
                () = until(look_again) => {
                    look_again = None;
                    self.complain();
                }
                Some(report) = self.ended.recv() => self.note(&report),
                () = tokio::time::sleep_until(timer) => {
                    timer = Instant::now() + jittered(INTERVAL);
                    self.watch.follow()?;
                    look_again = self.look();
                    self.all_due();
                }
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
            }
        }
        info!("stopping; the apps go on");
        Ok(())
    }

    /// Reads the state. What is wrong with it is complained about only if it stays.
    fn look(&mut self) -> Option<Instant> {
        match accept::newest(&self.settings) {
            Ok(accepted) => {
                if self.complaint.take().is_some() {
                    info!("the state is readable again");
                }
                self.accept(accepted);
                None
            }
            Err(_) => Some(Instant::now() + SETTLE),
        }
    }

    fn complain(&mut self) {
        match accept::newest(&self.settings) {
            Ok(accepted) => self.accept(accepted),
            Err(problem) => {
                let message = problem.to_string();
                if self.complaint.as_ref() != Some(&message) {
                    error!(problem = %message, "the state cannot be used; the last accepted one stays in force");
                    self.complaint = Some(message);
                }
            }
        }
    }

    fn accept(&mut self, accepted: Accepted) {
        if self.accepted.as_ref().is_some_and(|old| old.bytes == accepted.bytes) {
            return;
        }
        if let Err(error) = accept::keep(&self.settings.host, &accepted) {
            error!(%error, "the state could not be recorded; the last accepted one stays in force");
            return;
        }
        self.accepted = Some(Rc::new(accepted));
        self.know_apps();
    }

    /// Brings what is known of each app up to the accepted state; what changed is due at once.
    fn know_apps(&mut self) {
        let apps = match apps(&self.shared, self.accepted.as_deref()) {
            Ok(apps) => apps,
            Err(error) => return error!(%error, "the apps of this host cannot be listed"),
        };
        for app in apps {
            let wanted = self.wanted(&app);
            let known = self.apps.entry(app).or_insert_with(AppState::new);
            if *known.wanted.now.borrow() != wanted {
                known.wanted.now.replace(wanted);
                known.wanted.change.notify_waiters();
                known.due = true;
                known.not_before = None;
            }
        }
    }

    fn wanted(&self, app: &Name) -> Desired {
        match &self.accepted {
            Some(accepted) => desired(accepted, app, &self.settings.environment),
            None => Desired::NotInState,
        }
    }

    fn all_due(&mut self) {
        self.know_apps();
        let now = Instant::now();
        for app in self.apps.values_mut() {
            app.due |= app.not_before.is_none_or(|at| at <= now);
        }
    }

    /// Starts a tick of every app that is due and idle.
    fn dispatch(&mut self) {
        for (name, app) in &mut self.apps {
            if app.busy || !app.due {
                continue;
            }
            app.due = false;
            let accepted = self.accepted.as_ref();
            let tuning = accepted.map(|accepted| accepted.tuning(name, &self.settings.environment));
            match self.shared.site(name, tuning.unwrap_or_default()) {
                Ok(site) => {
                    app.busy = true;
                    let around = Around {
                        host: self.settings.host.config.host.clone(),
                        wanted: app.wanted.now.borrow().clone(),
                        source: self.complaint.clone().map_or(SourceView::Ready, SourceView::Unreachable),
                        state_commit: None,
                        agent: true,
                    };
                    let source = self.settings.source.clone();
                    let wanted = Rc::clone(&app.wanted);
                    let (name, end) = (name.clone(), self.end.clone());
                    tokio::task::spawn_local(async move {
                        let tick = tick(&site, &wanted, &source, around).await;
                        if end.send(Report { app: name, tick }).is_err() {
                            warn!("an attempt ended while the agent was stopping");
                        }
                    });
                }
                Err(error) => {
                    app.not_before = Some(Instant::now() + jittered(RECORD_PAUSE));
                    app.say(
                        || error!(app = %name, %error, "this app cannot be reconciled"),
                        &error.to_string(),
                    );
                }
            }
        }
    }

    fn note(&mut self, report: &Report) {
        let Some(app) = self.apps.get_mut(&report.app) else { return };
        app.busy = false;
        let now = Instant::now();
        match &report.tick {
            Ok(Tick::Attempted(entry)) => {
                let class = entry.failure.as_ref().map(|failure| failure.class);
                match (entry.result, class) {
                    (Outcome::Failed, Some(Class::Supply)) => {
                        app.not_before = Some(now + jittered(SUPPLY_PAUSE))
                    }
                    (Outcome::Failed, Some(Class::Host | Class::Manager)) => {
                        app.not_before = Some(now + jittered(RECORD_PAUSE));
                    }
                    (Outcome::Refused, _) => app.not_before = Some(now + jittered(SUPPLY_PAUSE)),
                    _ => app.due = true,
                }
            }
            Ok(Tick::Refused(refusal)) => {
                app.say(|| warn!(app = %report.app, %refusal, "not tried"), &refusal.to_string());
            }
            Ok(Tick::Held(hold)) => {
                app.say(|| warn!(app = %report.app, %hold, "nothing is done"), &hold.to_string())
            }
            Ok(Tick::InSync { env_changed: true }) => {
                let what = "an env file was edited since the start; the next deploy takes it";
                app.say(|| warn!(app = %report.app, "{what}"), what);
            }
            Ok(Tick::InSync { env_changed: false } | Tick::Removed) => app.said = None,
            Err(error) => {
                app.not_before = Some(now + jittered(RECORD_PAUSE));
                let what = "landfall could not keep its records; what runs is left alone";
                app.say(|| error!(app = %report.app, %error, "{what}"), &error.to_string());
            }
        }
    }
}

impl AppState {
    fn new() -> Self {
        let now = RefCell::new(Desired::NotInState);
        let wanted = Rc::new(Wanted { now, change: tokio::sync::Notify::new() });
        Self { wanted, busy: false, due: true, not_before: None, said: None }
    }

    /// Says something once, until something else is to be said.
    fn say(&mut self, say: impl FnOnce(), what: &str) {
        if self.said.as_deref() != Some(what) {
            say();
            self.said = Some(what.to_owned());
        }
    }
}

/// One tick, and the conditions it leaves.
async fn tick(
    site: &Site,
    wanted: &Rc<Wanted>,
    source: &FileSource,
    around: Around,
) -> Result<Tick, RecordError> {
    let asked = wanted.now.borrow().clone();
    let newer = || supersedes(&wanted.now.borrow(), &asked);
    let change = || -> Pending<'static, ()> {
        let wanted = Rc::clone(wanted);
        Box::pin(async move { wanted.change.notified().await })
    };
    let asking = Asking { newer: &newer, change: &change, commit: &|| source.commit() };
    let tick = site.tick(asked.clone(), asking).await?;
    crate::status::record(site, &around).await?;
    Ok(tick)
}

/// Whether what is wanted now makes an attempt at what was asked pointless. Another artifact does, and a block
/// of this one; words about it do not, and an attempt in flight is finished when the app is suspended.
fn supersedes(now: &Desired, asked: &Desired) -> bool {
    match (asked, now) {
        (Desired::Target(asked), Desired::Target(now)) => asked.artifact != now.artifact,
        (_, Desired::Blocked { .. } | Desired::Absent { suspended: None }) => true,
        (
            _,
            Desired::Target(_)
            | Desired::Suspended { .. }
            | Desired::Absent { .. }
            | Desired::NotInState
            | Desired::Invalid(_),
        ) => false,
    }
}

/// Waits for a moment, or for ever.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// ± 20 %, so that a fleet does not act in step.
fn jittered(span: Duration) -> Duration {
    span.mul_f64(0.8 + 0.4 * fastrand::f64())
}
