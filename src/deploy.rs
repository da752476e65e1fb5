//! One attempt, from the order to its history entry.
//!
//! Fetching → Preparing → Migrating → Preflight → Switching → Starting → Verifying → Committing, or
//! Reverting. Each stage's intent is durable in the journal before the stage acts; the entry is durable in
//! the history before the journal is cleared. What runs is untouched until Switching. A revert is the same
//! path entered at the switch with an older release.

use landfall_store::Name;
use tracing::{Instrument, Span, info, info_span, warn};

use crate::effects::{Depth, Effects, Fetched, Newer, Verdict};
use crate::failpoint::{Edge, reach};
use crate::layout::AppDir;
use crate::pending::Pending;
use crate::plan::revert_target;
use crate::record::RecordError;
use crate::record::controls::Controls;
use crate::record::history::{Entry, History, Outcome};
use crate::record::journal::{Class, Drift, Failure, Journal, Stage, StageTime, Target};
use crate::record::quarantine::{Quarantine, Quarantined};
use crate::record::release::{ReleaseRecord, ReleaseRef};
use crate::spec::{StepKind, applies};
use crate::switch;

/// One app in one environment on this host, and what is remembered of it.
#[derive(Debug)]
pub struct App {
    /// Its name.
    pub name: Name,
    /// Its environment.
    pub environment: Name,
    /// Its directories.
    pub dir: AppDir,
    /// Its attempts.
    pub history: History,
    /// Its failed releases.
    pub quarantine: Quarantine,
    /// What operators decided about it here.
    pub controls: Controls,
}

/// What an attempt is to do.
#[derive(Debug, Clone)]
pub struct Order {
    /// What was asked.
    pub target: Target,
    /// A prepared release on disk that is it.
    pub reuse: Option<ReleaseRef>,
    /// What `current` names.
    pub from: Option<ReleaseRef>,
    /// Releases that proved healthy and are on disk, most recently proved first.
    pub healthy: Vec<ReleaseRef>,
}

/// What the person behind an attempt may still change, asked while it runs.
#[derive(Clone, Copy)]
pub struct Asking<'a> {
    /// Whether a newer state has come. Asked at safe points.
    pub newer: Newer<'a>,
    /// Ends when the state may have changed: ask `newer` then. It may end early.
    pub change: &'a dyn Fn() -> Pending<'static, ()>,
    /// The commit that holds the state by now; people commit just after they save.
    pub commit: &'a dyn Fn() -> Option<String>,
}

impl Asking<'_> {
    /// Nobody asks for anything else, and there is no repository.
    pub const NOTHING: Asking<'static> =
        Asking { newer: &|| false, change: &|| Box::pin(std::future::pending()), commit: &|| None };
}

/// Runs an attempt to its entry. An error means that landfall could not keep its own records: the journal
/// stays, and the next start recovers from it.
pub async fn deploy(
    app: &mut App,
    effects: Effects<'_>,
    order: Order,
    asking: Asking<'_>,
) -> Result<Entry, RecordError> {
    let mut attempt = Attempt::begin(app, effects, &order, asking);
    match attempt.bring(order.reuse).await? {
        Brought::Ready(record) => attempt.put_into_service(&record).await,
        Brought::Ended(outcome, failure) => attempt.end(outcome, failure),
    }
}

/// A release that proved healthy before, and what is to be put right about it.
#[derive(Debug, Clone)]
pub struct Healing {
    /// Which release.
    pub release: ReleaseRef,
    /// How the host differs from it.
    pub heals: Drift,
}

/// Puts `current` back to a release that proved healthy before, starts it, and proves it again. Its failure
/// reverts nothing and quarantines nothing: the version is not to blame.
pub async fn restart(
    app: &mut App,
    effects: Effects<'_>,
    order: Order,
    healing: Healing,
    asking: Asking<'_>,
) -> Result<Entry, RecordError> {
    let Healing { release, heals } = healing;
    let mut attempt = Attempt::begin(app, effects, &order, asking);
    attempt.journal.to = Some(release.clone());
    attempt.journal.heals = Some(heals);
    warn!(attempt = attempt.journal.attempt, release = %release.name, why = %heals, "putting right what differs here");
    let moved = order.from.as_ref() != Some(&release);
    attempt.enter(if moved { Stage::Switching } else { Stage::Starting })?;
    let record = match attempt.effects.supply.verify(&release, Depth::Fast).await {
        Ok(record) => record,
        Err(failure) => return attempt.conclude(Verdict::Unhealthy(failure)).await,
    };
    if moved {
        switch::to(attempt.effects.disk, &attempt.app.dir, &release)?;
        reach(Stage::Switching, Edge::AfterEffect);
        attempt.enter(Stage::Starting)?;
    }
    let verdict = attempt.start_and_verify(&record).await?;
    attempt.conclude(verdict).await
}

/// Takes the app off this host: its processes end, then `current` goes. Its releases are left to whoever calls,
/// once this is durable; `shared/`, logs and the history stay. A failure that is the last one's is not said again.
pub async fn remove(
    app: &mut App,
    effects: Effects<'_>,
    order: &Order,
    release: &ReleaseRef,
    asking: Asking<'_>,
) -> Result<Entry, RecordError> {
    let mut attempt = Attempt::begin(app, effects, order, asking);
    attempt.enter(Stage::Removing)?;
    let gone = match effects.supply.load(&release.name).await {
        Ok(record) => effects.processes.forget(&record).instrument(span(Stage::Removing)).await,
        Err(failure) => Err(failure),
    };
    if let Err(failure) = gone {
        return attempt.fail_once(failure);
    }
    switch::away(effects.disk, &attempt.app.dir)?;
    reach(Stage::Removing, Edge::AfterEffect);
    attempt.end(Outcome::Removed, None)
}

/// Writes the entry of a removal that was done when the agent died.
pub fn removed(app: &mut App, effects: Effects<'_>, journal: Journal) -> Result<Entry, RecordError> {
    Attempt::again(app, effects, journal, Asking::NOTHING).end(Outcome::Removed, None)
}

/// Goes on with an attempt that a crash cut short after the switch.
pub async fn resume(
    app: &mut App,
    effects: Effects<'_>,
    mut journal: Journal,
    asking: Asking<'_>,
) -> Result<Entry, RecordError> {
    journal.resumed += 1;
    let release = journal.to.clone();
    let mut attempt = Attempt::again(app, effects, journal, asking);
    attempt.enter(Stage::Starting)?;
    let Some(release) = release else { return attempt.end(Outcome::Interrupted, None) };
    match attempt.effects.supply.verify(&release, Depth::Deep).await {
        Ok(record) => {
            let verdict = attempt.start_and_verify(&record).await?;
            attempt.conclude(verdict).await
        }
        Err(failure) => attempt.conclude(Verdict::Unhealthy(failure)).await,
    }
}

/// Writes the entry of an attempt whose verdict was healthy when the agent died.
pub async fn commit(app: &mut App, effects: Effects<'_>, journal: Journal) -> Result<Entry, RecordError> {
    Attempt::again(app, effects, journal, Asking::NOTHING).commit().await
}

/// Finishes going back.
pub async fn revert(
    app: &mut App,
    effects: Effects<'_>,
    journal: Journal,
    crashed_again: bool,
) -> Result<Entry, RecordError> {
    let failure = journal.failure.clone().unwrap_or_else(|| Failure {
        class: Class::Health,
        reason: "Interrupted".to_owned(),
        message: if crashed_again {
            format!("the agent died twice while this release was {}", journal.stage)
        } else {
            "the agent died while this release was on trial".to_owned()
        },
    });
    Attempt::again(app, effects, journal, Asking::NOTHING).revert(failure).await
}

/// Notes that an attempt was cut short before it touched what runs.
pub fn abandon(app: &mut App, effects: Effects<'_>, journal: Journal) -> Result<Entry, RecordError> {
    Attempt::again(app, effects, journal, Asking::NOTHING).end(Outcome::Interrupted, None)
}

/// Notes that a release was not tried at all. Said once: an entry equal to the last one is not written.
pub fn refuse(
    app: &mut App,
    effects: Effects<'_>,
    order: &Order,
    failure: Failure,
) -> Result<Entry, RecordError> {
    if let Some(last) = app.history.last()
        && last.result == Outcome::Refused
        && last.target == order.target
        && last.failure.as_ref() == Some(&failure)
    {
        return Ok(last.clone());
    }
    Attempt::begin(app, effects, order, Asking::NOTHING).end(Outcome::Refused, Some(failure))
}

enum Brought {
    Ready(Box<ReleaseRecord>),
    Ended(Outcome, Option<Failure>),
}

struct Attempt<'a> {
    app: &'a mut App,
    effects: Effects<'a>,
    asking: Asking<'a>,
    journal: Journal,
    healthy: Vec<ReleaseRef>,
    began_ms: u64,
    /// The stage being timed, and when it began.
    timed: Option<(Stage, u64)>,
}

impl<'a> Attempt<'a> {
    fn begin(app: &'a mut App, effects: Effects<'a>, order: &Order, asking: Asking<'a>) -> Self {
        let journal = Journal {
            app: app.name.clone(),
            environment: app.environment.clone(),
            attempt: app.history.next_attempt(),
            target: order.target.clone(),
            to: order.reuse.clone(),
            from: order.from.clone(),
            healthy: revert_target(&order.healthy, order.reuse.as_ref()),
            stage: Stage::Fetching,
            resumed: 0,
            heals: None,
            failure: None,
            started: effects.clock.wall(),
            stages: Vec::new(),
        };
        let began_ms = effects.clock.monotonic_ms();
        Self { app, effects, asking, journal, healthy: order.healthy.clone(), began_ms, timed: None }
    }

    fn again(app: &'a mut App, effects: Effects<'a>, journal: Journal, asking: Asking<'a>) -> Self {
        let healthy = journal.healthy.iter().cloned().collect();
        let began_ms = effects.clock.monotonic_ms();
        Self { app, effects, asking, journal, healthy, began_ms, timed: None }
    }

    fn superseded(&self) -> bool {
        (self.asking.newer)()
    }

    /// Makes the intent of a stage durable before anything of it happens.
    fn enter(&mut self, stage: Stage) -> Result<(), RecordError> {
        reach(stage, Edge::BeforeIntent);
        let now = self.end_timing();
        self.timed = Some((stage, now));
        self.journal.stage = stage;
        self.journal.write(self.effects.disk, &self.app.dir)?;
        let artifact = self.journal.target.artifact.short();
        info!(attempt = self.journal.attempt, %artifact, "{stage}");
        reach(stage, Edge::AfterIntent);
        Ok(())
    }

    /// Notes how long the stage so far took. Returns the time it is now.
    fn end_timing(&mut self) -> u64 {
        let now = self.effects.clock.monotonic_ms();
        if let Some((stage, since)) = self.timed.take() {
            self.journal.stages.push(StageTime { stage, ms: now.saturating_sub(since) });
        }
        now
    }

    /// Up to a prepared release that may be switched to.
    async fn bring(&mut self, reuse: Option<ReleaseRef>) -> Result<Brought, RecordError> {
        if let Some(failure) = reuse.as_ref().and_then(|release| misnamed(&self.journal.target, release)) {
            return Ok(Brought::Ended(Outcome::Refused, Some(failure)));
        }
        let brought = match self.on_disk(reuse).await {
            Some(record) => Brought::Ready(record),
            None => self.make().await?,
        };
        let Brought::Ready(record) = brought else { return Ok(brought) };
        // What proved healthy here before is not tried out again: going back is switch and start.
        let tried = self.healthy.contains(&record.release);
        match if tried { Verdict::Healthy } else { self.try_out(&record).await? } {
            Verdict::Unhealthy(failure) => self.failed_before_switch(failure),
            Verdict::Healthy if !self.superseded() => Ok(Brought::Ready(record)),
            Verdict::Healthy | Verdict::Superseded => Ok(Brought::Ended(Outcome::Superseded, None)),
        }
    }

    /// The prepared release on disk, if it is still whole.
    async fn on_disk(&self, reuse: Option<ReleaseRef>) -> Option<Box<ReleaseRecord>> {
        let release = reuse?;
        match self.effects.supply.verify(&release, Depth::Fast).await {
            Ok(record) => Some(Box::new(record)),
            Err(failure) => {
                warn!(release = %release.name, why = %failure.message, "not whole, made again");
                None
            }
        }
    }

    async fn try_out(&mut self, record: &ReleaseRecord) -> Result<Verdict, RecordError> {
        if !record.spec.preflight.iter().any(|preflight| preflight.enabled) {
            return Ok(Verdict::Healthy);
        }
        self.enter(Stage::Preflight)?;
        let trial = self.effects.processes.preflight(record, self.journal.attempt, self.asking.newer);
        let verdict = trial.instrument(span(Stage::Preflight)).await;
        reach(Stage::Preflight, Edge::AfterEffect);
        Ok(verdict)
    }

    /// Fetch, prepare, migrate.
    async fn make(&mut self) -> Result<Brought, RecordError> {
        if self.superseded() {
            return Ok(Brought::Ended(Outcome::Superseded, None));
        }
        let number = self.journal.attempt;
        self.enter(Stage::Fetching)?;
        let fetched = match self.fetch_unless_superseded().await {
            Some(Ok(fetched)) => fetched,
            Some(Err(failure)) => return self.failed_before_switch(failure),
            None => return Ok(Brought::Ended(Outcome::Superseded, None)),
        };
        reach(Stage::Fetching, Edge::AfterEffect);
        self.aim(&fetched.release);
        if let Some(failure) = misnamed(&self.journal.target, &fetched.release) {
            return Ok(Brought::Ended(Outcome::Refused, Some(failure)));
        }
        if let Some(item) = self.app.quarantine.forbids(fetched.release.identity) {
            let failure = item.failure.clone();
            return Ok(Brought::Ended(Outcome::Refused, Some(failure)));
        }
        if self.superseded() {
            return Ok(Brought::Ended(Outcome::Superseded, None));
        }
        match self.build(&fetched, number).await? {
            Ok(superseded) if superseded => Ok(Brought::Ended(Outcome::Superseded, None)),
            Ok(_) => match self.effects.supply.verify(&fetched.release, Depth::Fast).await {
                Ok(record) => Ok(Brought::Ready(Box::new(record))),
                Err(failure) => self.failed_before_switch(failure),
            },
            Err(failure) => self.failed_before_switch(failure),
        }
    }

    /// A fetch waits and tries again where a store is slow or gone; a newer state does not wait behind it.
    async fn fetch_unless_superseded(&self) -> Option<Result<Fetched, Failure>> {
        let fetch = self.effects.supply.fetch(&self.journal.target.artifact);
        let mut fetch = std::pin::pin!(fetch.instrument(span(Stage::Fetching)));
        loop {
            tokio::select! {
                fetched = &mut fetch => return Some(fetched),
                () = (self.asking.change)() => {}
            }
            if self.superseded() {
                return None;
            }
        }
    }

    /// The release directory and its steps. `Ok(true)`: superseded in between.
    async fn build(&mut self, fetched: &Fetched, number: u64) -> Result<Result<bool, Failure>, RecordError> {
        let supply = self.effects.supply;
        self.enter(Stage::Preparing)?;
        if let Err(failure) = supply.prepare(fetched, number).instrument(span(Stage::Preparing)).await {
            return Ok(Err(failure));
        }
        reach(Stage::Preparing, Edge::AfterEffect);
        if self.superseded() {
            return Ok(Ok(true));
        }
        if migrates(&fetched.record) {
            self.enter(Stage::Migrating)?;
            if let Err(failure) = supply.migrate(fetched, number).instrument(span(Stage::Migrating)).await {
                return Ok(Err(failure));
            }
            reach(Stage::Migrating, Edge::AfterEffect);
        }
        Ok(supply.finish(fetched).await.map(|()| false))
    }

    /// Names the release on trial, once it is known, and where a revert of it goes.
    fn aim(&mut self, release: &ReleaseRef) {
        self.journal.healthy = revert_target(&self.healthy, Some(release));
        self.journal.to = Some(release.clone());
    }

    fn failed_before_switch(&mut self, failure: Failure) -> Result<Brought, RecordError> {
        self.quarantine(&failure)?;
        let outcome = if failure.class == Class::Refused { Outcome::Refused } else { Outcome::Failed };
        Ok(Brought::Ended(outcome, Some(failure)))
    }

    async fn put_into_service(mut self, record: &ReleaseRecord) -> Result<Entry, RecordError> {
        self.aim(&record.release);
        self.enter(Stage::Switching)?;
        switch::to(self.effects.disk, &self.app.dir, &record.release)?;
        reach(Stage::Switching, Edge::AfterEffect);
        self.enter(Stage::Starting)?;
        let verdict = self.start_and_verify(record).await?;
        self.conclude(verdict).await
    }

    async fn start_and_verify(&mut self, record: &ReleaseRecord) -> Result<Verdict, RecordError> {
        // Where nothing runs that could answer, every byte is looked at instead.
        if self.effects.processes.starts_nothing(record)
            && let Err(failure) = self.effects.supply.verify(&record.release, Depth::Deep).await
        {
            return Ok(Verdict::Unhealthy(failure));
        }
        let number = self.journal.attempt;
        if let Err(failure) =
            self.effects.processes.start(record, number).instrument(span(Stage::Starting)).await
        {
            return Ok(Verdict::Unhealthy(failure));
        }
        reach(Stage::Starting, Edge::AfterEffect);
        self.enter(Stage::Verifying)?;
        let verdict = self
            .effects
            .processes
            .verify(record, number, self.asking.newer)
            .instrument(span(Stage::Verifying))
            .await;
        reach(Stage::Verifying, Edge::AfterEffect);
        Ok(verdict)
    }

    async fn conclude(self, verdict: Verdict) -> Result<Entry, RecordError> {
        match verdict {
            Verdict::Healthy => self.commit().await,
            Verdict::Unhealthy(failure) if self.journal.heals.is_some() => {
                self.end(Outcome::Failed, Some(failure))
            }
            Verdict::Unhealthy(failure) => self.revert(failure).await,
            // The next attempt starts from here; its revert target stays the last healthy release.
            Verdict::Superseded => self.end(Outcome::Superseded, None),
        }
    }

    async fn commit(mut self) -> Result<Entry, RecordError> {
        self.enter(Stage::Committing)?;
        let release = self.journal.to.clone();
        if let Some(release) = &release
            && self.app.quarantine.lift(release.identity)
        {
            self.app.quarantine.write(self.effects.disk, &self.app.dir)?;
        }
        let effects = self.effects;
        let number = self.journal.attempt;
        let entry = self.end(Outcome::Healthy, None)?;
        if let Some(release) = release {
            after(effects, &release, number).await;
        }
        Ok(entry)
    }

    /// Back to the last healthy release, without store or state. Depth one: if that fails too, landfall
    /// stops there and says so.
    async fn revert(mut self, failure: Failure) -> Result<Entry, RecordError> {
        warn!(attempt = self.journal.attempt, why = %failure.message, "reverting");
        self.journal.failure = Some(failure.clone());
        self.enter(Stage::Reverting)?;
        self.quarantine(&failure)?;
        let outcome = match self.journal.healthy.clone() {
            None => self.stop_with_nothing_to_go_back_to().await?,
            Some(healthy) => self.go_back(&healthy).await?,
        };
        match outcome {
            Ok(outcome) => self.end(outcome, Some(failure)),
            Err(second) => {
                let message = format!("{}; and going back failed: {}", failure.message, second.message);
                self.end(
                    Outcome::Failed,
                    Some(Failure { class: failure.class, reason: "RevertFailed".to_owned(), message }),
                )
            }
        }
    }

    async fn go_back(&mut self, healthy: &ReleaseRef) -> Result<Result<Outcome, Failure>, RecordError> {
        let record = match self.effects.supply.verify(healthy, Depth::Deep).await {
            Ok(record) => record,
            Err(failure) => return Ok(Err(failure)),
        };
        switch::to(self.effects.disk, &self.app.dir, healthy)?;
        reach(Stage::Reverting, Edge::AfterEffect);
        let number = self.journal.attempt;
        if let Err(failure) = self.effects.processes.start(&record, number).await {
            return Ok(Err(failure));
        }
        // A revert is never superseded: until it is proved, nothing healthy is known to run.
        Ok(
            match self
                .effects
                .processes
                .verify(&record, number, &|| false)
                .instrument(span(Stage::Reverting))
                .await
            {
                Verdict::Healthy | Verdict::Superseded => {
                    keep_across_reboot(self.effects, &record).await;
                    Ok(Outcome::Reverted)
                }
                Verdict::Unhealthy(failure) => Err(failure),
            },
        )
    }

    async fn stop_with_nothing_to_go_back_to(&mut self) -> Result<Result<Outcome, Failure>, RecordError> {
        if let Some(failed) = self.journal.to.clone()
            && let Ok(record) = self.effects.supply.load(&failed.name).await
            && let Err(failure) = self.effects.processes.stop(&record).await
        {
            return Ok(Err(failure));
        }
        switch::away(self.effects.disk, &self.app.dir)?;
        Ok(Ok(Outcome::Failed))
    }

    /// Forbids the release on trial, if the failure is its fault.
    fn quarantine(&mut self, failure: &Failure) -> Result<(), RecordError> {
        if !failure.class.blames_the_release() {
            return Ok(());
        }
        let Some(release) = self.journal.to.clone() else { return Ok(()) };
        self.app.quarantine.add(Quarantined {
            release,
            attempt: self.journal.attempt,
            failure: failure.clone(),
            since: self.effects.clock.wall(),
            left: false,
        });
        self.app.quarantine.write(self.effects.disk, &self.app.dir)
    }

    /// Ends with a failure; one that the last entry tells already is not told again.
    fn fail_once(self, failure: Failure) -> Result<Entry, RecordError> {
        let known = self.app.history.last().filter(|last| {
            last.result == Outcome::Failed
                && last.stage == self.journal.stage
                && last.failure.as_ref() == Some(&failure)
        });
        match known.cloned() {
            Some(last) => {
                Journal::clear(self.effects.disk, &self.app.dir)?;
                Ok(last)
            }
            None => self.end(Outcome::Failed, Some(failure)),
        }
    }

    /// The entry first, durably; then the journal is cleared.
    fn end(mut self, outcome: Outcome, failure: Option<Failure>) -> Result<Entry, RecordError> {
        if self.journal.target.state_commit.is_none() {
            self.journal.target.state_commit = (self.asking.commit)();
        }
        let took_ms = self.end_timing().saturating_sub(self.began_ms);
        let parent = self.app.history.last_hash();
        let entry = Entry::ending(&self.journal, outcome, failure, took_ms, parent);
        self.app.history.append(self.effects.disk, &self.app.dir, entry.clone())?;
        reach(self.journal.stage, Edge::AfterEntry);
        Journal::clear(self.effects.disk, &self.app.dir)?;
        info!(attempt = entry.attempt, took_ms, "{outcome}");
        Ok(entry)
    }
}

/// Whether a migration belongs to this release on this host.
fn migrates(record: &ReleaseRecord) -> bool {
    let applying = |step: &&crate::spec::StepSpec| applies(&step.roles, &record.roles);
    record.spec.steps.iter().filter(applying).any(|step| step.kind == StepKind::Migrate)
}

/// What is logged inside a stage says which one it is.
fn span(stage: Stage) -> Span {
    info_span!("stage", name = %stage)
}

/// The state may repeat the artifact's version for readers; it may not give it another.
fn misnamed(target: &Target, release: &ReleaseRef) -> Option<Failure> {
    let claimed = target.version.as_ref().filter(|claimed| **claimed != release.version)?;
    Some(Failure {
        class: Class::Refused,
        reason: "VersionMismatch".to_owned(),
        message: format!(
            "the state calls {} version {claimed}, the artifact itself says {}",
            release.artifact, release.version
        ),
    })
}

/// What follows a verdict and cannot change it.
async fn after(effects: Effects<'_>, release: &ReleaseRef, attempt: u64) {
    let record = match effects.supply.load(&release.name).await {
        Ok(record) => record,
        Err(failure) => return warn!(release = %release.name, %failure.message, "after the commit"),
    };
    keep_across_reboot(effects, &record).await;
    if let Err(failure) = effects.supply.after(&record, attempt).await {
        warn!(release = %release.name, %failure.message, "an `after` step failed; the release stays");
    }
}

async fn keep_across_reboot(effects: Effects<'_>, record: &ReleaseRecord) {
    if let Err(failure) = effects.processes.persist(record).await {
        warn!(release = %record.release.name, %failure.message, "the process manager may not bring it back after a reboot");
    }
}
