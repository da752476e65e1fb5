//! The loop: events come in, ticks go out.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;
use landfall_store::Name;
use tokio::sync::mpsc::{Receiver, Sender, UnboundedReceiver, UnboundedSender, channel, unbounded_channel};
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::accept::{self, Accepted, StateProblem};
use super::apps::{AppState, RECORD_PAUSE, jittered};
use super::departures::Departures;
use super::feed::Feed;
use super::reporter::Reporter;
use super::repository::{Refused, floor_of};
use super::rounds::Rounds;
use super::service::Shared;
use super::tick::tick;
use super::{AgentError, ReadAgain, Report, Settings, Signals, Tuning};
use crate::disk::RealDisk;
use crate::door::{Door, Knock};
use crate::hook::Hook;
use crate::processes::Living;
use crate::reconcile::Tick;
use crate::record::journal::Failure;
use crate::record::refused;
use crate::record::source::{SourceRecord, Wrong};
use crate::retry::Patience;
use crate::source::Source;
use crate::status::{Around, SourceView};
use crate::systemd::{Systemd, summary};
use crate::trust::Floor;

/// Time between two looks at everything, without any event.
pub(super) const INTERVAL: Duration = Duration::from_secs(30);
/// A state file that does not parse is looked at again after this long before it is complained about: an
/// editor that writes in place passes through such a moment.
pub(super) const SETTLE: Duration = Duration::from_millis(50);

/// Orders that may wait for the loop; it takes them at once.
const KNOCKS_MAX: usize = 16;

/// The agent of a host.
pub(super) struct Agent {
    pub(super) settings: Settings,
    pub(super) shared: Rc<Shared>,
    pub(super) accepted: Option<Rc<Accepted>>,
    pub(super) complaint: Option<String>,
    /// What is wrong with the source, while something is.
    pub(super) wrong: Option<Wrong>,
    /// What a new state is compared with.
    pub(super) floor: Floor,
    /// The commit that is refused now.
    pub(super) refused: Option<Refused>,
    /// How the repository was last found.
    pub(super) origin: SourceRecord,
    pub(super) source: SourceView,
    pub(super) apps: BTreeMap<Name, AppState>,
    events: UnboundedReceiver<()>,
    pub(super) changed: UnboundedSender<()>,
    pub(super) feed: Feed,
    ended: UnboundedReceiver<Ended>,
    end: UnboundedSender<Ended>,
    departures: Departures,
    rounds: Rounds,
    looked_over: UnboundedReceiver<LookedOver>,
    look_over: UnboundedSender<LookedOver>,
    departed: UnboundedReceiver<Name>,
    systemd: Systemd,
    pub(super) reporter: Reporter,
    /// Nobody can give orders while there is none.
    _door: Option<Door>,
    knocks: Receiver<Knock>,
    /// Where a git server may call.
    pub(super) hook: Option<Hook>,
    pub(super) call: Sender<()>,
    calls: Receiver<()>,
    /// When the next suspension or pin ends by itself.
    pub(super) wake: Option<Instant>,
}

impl Agent {
    pub(super) fn new(settings: Settings) -> Result<Self, AgentError> {
        let shared = Rc::new(Shared::new(&settings, Patience::Agent)?);
        let (changed, events) = unbounded_channel();
        let (end, ended) = unbounded_channel();
        let (word, departed) = unbounded_channel();
        let departures = Departures::new(word);
        let (look_over, looked_over) = unbounded_channel();
        // What runs is healed without any state, too.
        let last = accept::last(&settings.host).inspect_err(
            |error| error!(%error, "the last accepted state cannot be read; a new one is waited for"),
        );
        let floor = accept::floor(&settings.host, &last);
        let accepted = last.unwrap_or_default().map(Rc::new);
        let known = accept::known(&floor, accepted.as_deref());
        let feed = Feed::new(&settings.source, settings.poll(), known, changed.clone())?;
        let origin = SourceRecord::read(&settings.host.root)
            .inspect_err(|error| warn!(%error, "how the state's repository was last found is not known"))
            .unwrap_or_default()
            .filter(|record| record.place == settings.source.place())
            .unwrap_or_default();
        let apps = BTreeMap::new();
        let systemd = Systemd::new();
        let reporter = Reporter::new(settings.reporting.clone());
        let (knock, knocks) = channel(KNOCKS_MAX);
        // One call that waits is as good as a thousand.
        let (call, calls) = channel(1);
        let door = Door::open(&settings.host.root.door(), knock)
            .inspect_err(|error| error!(%error, "no command can give orders to this agent"))
            .ok();
        Ok(Self {
            settings,
            shared,
            accepted,
            complaint: None,
            wrong: None,
            floor,
            refused: None,
            origin,
            source: SourceView::Unknown,
            apps,
            events,
            changed,
            feed,
            ended,
            end,
            departures,
            rounds: Rounds::new(),
            looked_over,
            look_over,
            departed,
            systemd,
            reporter,
            _door: door,
            knocks,
            hook: None,
            call,
            calls,
            wake: None,
        })
    }

    pub(super) async fn run(
        mut self,
        mut signals: Signals,
        read_again: ReadAgain<'_>,
    ) -> Result<(), AgentError> {
        if let Err(error) = refused::Refused::note(&RealDisk, &self.settings.host.root, None) {
            error!(%error, "an old refusal of host.toml was not forgotten");
        }
        info!(
            host = %self.settings.host.config.host, environment = %self.settings.environment,
            state = %self.settings.source.place(), "watching"
        );
        self.open_hook().await;
        let mut look_again = self.look();
        let mut timer = Instant::now() + jittered(INTERVAL);
        self.all_due();
        self.systemd.ready();
        loop {
            self.dispatch();
            self.systemd.status(self.summary());
            let next_try = self.next_try();
            tokio::select! {
                Some(()) = self.events.recv() => {
                    while self.events.try_recv().is_ok() {}
                    self.feed.follow()?;
                    look_again = self.look();
                }
                Some(seen) = self.feed.seen() => self.note_seen(seen),
                () = until(look_again) => {
                    look_again = None;
                    self.complain();
                }
                Some(knock) = self.knocks.recv() => {
                    look_again = self.answer(knock).or(look_again);
                    self.reporter.news();
                }
                Some(()) = self.calls.recv() => self.feed.hurry(),
                () = until(self.wake) => self.know_apps(),
                Some(report) = self.ended.recv() => self.note(report),
                Some(app) = self.departed.recv() => self.look_at(&app),
                () = self.rounds.is_due() => self.begin_turn(),
                Some(turn) = self.looked_over.recv() => self.end_turn(turn),
                turn = self.reporter.turn() => self.reporter.take(turn),
                () = tokio::time::sleep_until(timer) => {
                    timer = Instant::now() + jittered(INTERVAL);
                    self.feed.follow()?;
                    look_again = self.look();
                    self.all_due();
                }
                Some(()) = signals.hangup.recv() => {
                    self.systemd.reloading();
                    look_again = self.reload(read_again)?;
                    self.open_hook().await;
                    self.systemd.ready();
                }
                () = until(next_try) => self.all_due(),
                () = self.systemd.sign_is_due() => self.systemd.sign_of_life(),
                _ = signals.terminate.recv() => break,
                _ = signals.interrupt.recv() => break,
            }
        }
        self.systemd.stopping();
        info!("stopping; the apps go on");
        Ok(())
    }

    /// Reads the state, where it is a file. What is wrong with it is complained about only if it stays.
    pub(super) fn look(&mut self) -> Option<Instant> {
        let Source::File(file) = &self.settings.source else { return None };
        match accept::of_file(file, self.accepted.as_deref()) {
            Ok(accepted) => {
                if self.complaint.take().is_some() {
                    info!("the state is readable again");
                }
                self.see(accepted.view(Timestamp::now()));
                self.accept(accepted);
                None
            }
            Err(_) => Some(Instant::now() + SETTLE),
        }
    }

    fn complain(&mut self) {
        let Source::File(file) = &self.settings.source else { return };
        match accept::of_file(file, self.accepted.as_deref()) {
            Ok(accepted) => self.accept(accepted),
            Err(problem) => self.cannot_use(&problem),
        }
    }

    /// Says once what is wrong with the state.
    pub(super) fn cannot_use(&mut self, problem: &StateProblem) {
        let message = problem.to_string();
        self.source = problem.view();
        self.wrong = Some(problem.wrong());
        if self.complaint.as_ref() != Some(&message) {
            error!(problem = %message, "the state cannot be used; the last accepted one stays in force");
            self.complaint = Some(message);
        }
    }

    pub(super) fn see(&mut self, source: SourceView) {
        if self.source != source
            && let SourceView::Stale(end) = &source
        {
            warn!("the state says that it is good until {end} (`not_after`); it stays in force");
        }
        self.source = source;
    }

    /// Takes a state: durably first, then in force.
    pub(super) fn accept(&mut self, accepted: Accepted) {
        if self.accepted.as_ref().is_some_and(|old| accept::is_same(old, &accepted)) {
            return;
        }
        if let Err(error) = accept::keep(&self.settings.host, &accepted) {
            error!(%error, "the state could not be recorded; the last accepted one stays in force");
            return;
        }
        self.floor = floor_of(&accepted);
        self.feed.compare_with(accept::known(&self.floor, Some(&accepted)));
        self.accepted = Some(Rc::new(accepted));
        self.know_apps();
    }

    pub(super) fn all_due(&mut self) {
        self.know_apps();
        let now = Instant::now();
        for app in self.apps.values_mut() {
            app.remind(now);
        }
    }

    /// The end of the first pause that somebody is waiting out.
    fn next_try(&self) -> Option<Instant> {
        let waits = |app: &&AppState| !app.busy && !app.due;
        self.apps.values().filter(waits).filter_map(|app| app.not_before).min()
    }

    /// Starts a tick of every app that is due and idle.
    fn dispatch(&mut self) {
        let origin = self.origin();
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
                        source: self.source.clone(),
                        origin: origin.clone(),
                        state_commit: None,
                        agent: true,
                    };
                    let source = self.settings.source.clone();
                    let wanted = Rc::clone(&app.wanted);
                    let (name, end) = (name.clone(), self.end.clone());
                    tokio::task::spawn_local(async move {
                        let tick = tick(&site, &wanted, &source, around).await;
                        let living = site.living().await;
                        if end.send(Ended { report: Report { app: name, tick }, living }).is_err() {
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

    /// What the agent does, in one line.
    fn summary(&self) -> String {
        let busy = self.apps.iter().filter(|(_, app)| app.busy).map(|(name, _)| name.as_str());
        summary(self.apps.len(), &busy.collect::<Vec<_>>(), self.complaint.as_deref())
    }

    fn note(&mut self, ended: Ended) {
        let Ended { report, living } = ended;
        if matches!(report.tick, Ok(Tick::Attempted(_))) {
            self.reporter.news();
        }
        if let Some(app) = self.apps.get_mut(&report.app) {
            app.note(&report, Instant::now());
            self.departures.follow(&report.app, living);
        }
        // What host.toml does not name any more is left as it is, once its attempt has ended.
        if self.settings.host.config.app(&report.app).is_none() {
            self.apps.remove(&report.app);
        }
    }

    /// Looks over the files of the app whose turn it is. One in an attempt has just been looked over.
    fn begin_turn(&mut self) {
        let app = self.rounds.take(self.apps.keys());
        let idle = app.filter(|app| self.apps.get(app).is_some_and(|app| !app.busy));
        let site = idle.and_then(|app| Some((self.shared.site(&app, Tuning::default()).ok()?, app)));
        let Some((site, app)) = site else { return self.rounds.ended(self.apps.len()) };
        let end = self.look_over.clone();
        tokio::task::spawn_local(async move {
            let news = site.look_over().await;
            if end.send(LookedOver { app, news }).is_err() {
                warn!("a look at a release's files ended while the agent was stopping");
            }
        });
    }

    fn end_turn(&mut self, turn: LookedOver) {
        self.rounds.ended(self.apps.len());
        let Some(app) = self.apps.get_mut(&turn.app) else { return };
        match turn.news {
            Ok(news) => app.due |= news,
            Err(failure) => app.say(
                || warn!(app = %turn.app, %failure.message, "its files could not be looked over"),
                &failure.message,
            ),
        }
    }

    /// A process ended. What runs is healed also while an app waits for something else, such as its store.
    fn look_at(&mut self, app: &Name) {
        if let Some(app) = self.apps.get_mut(app) {
            app.due = true;
        }
    }
}

/// A tick that ended, and what it left running.
struct Ended {
    report: Report,
    living: Living,
}

/// A look at the files of one app, and whether it found anything new.
struct LookedOver {
    app: Name,
    news: Result<bool, Failure>,
}

/// Waits for a moment, or for ever.
pub(super) async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
