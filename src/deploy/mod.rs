//! One attempt, from the order to its history entry.
//!
//! Fetching → Preparing → Migrating → Preflight → Switching → Starting → Verifying → Committing, or
//! Reverting. Each stage's intent is durable in the journal before the stage acts; the entry is durable in
//! the history before the journal is cleared. What runs is untouched until Switching. A revert is the same
//! path entered at the switch with an older release.
//!
//! `bring` is everything up to a prepared release, `serve` everything from the switch on; `tries` is how both
//! wait; `attempt` is what they share: the journal and the end.

mod attempt;
mod bring;
mod serve;
mod tries;

use landfall_store::Name;

use tracing::{Instrument, warn};

use crate::effects::{Depth, Effects, Newer, Verdict};
use crate::failpoint::{Edge, reach};
use crate::layout::AppDir;
use crate::pending::Pending;
use crate::record::RecordError;
use crate::record::controls::Controls;
use crate::record::history::{Entry, History, Outcome};
use crate::record::journal::{Class, Drift, Failure, Journal, Stage, Target};
use crate::record::quarantine::{Interrupted, Quarantine};
use crate::record::release::ReleaseRef;
use crate::switch;
use attempt::{Attempt, span};
use bring::Brought;

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
    pub commit: &'a dyn Fn() -> Pending<'static, Option<String>>,
}

impl Asking<'_> {
    /// Nobody asks for anything else, and there is no repository.
    pub const NOTHING: Asking<'static> = Asking {
        newer: &|| false,
        change: &|| Box::pin(std::future::pending()),
        commit: &|| Box::pin(std::future::ready(None)),
    };

    /// Ends when a newer state has come.
    pub async fn superseded(self) {
        while !(self.newer)() {
            (self.change)().await;
        }
    }
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
        Brought::Ended(outcome, failure) => attempt.end(outcome, failure).await,
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
/// reverts nothing and quarantines nothing: the version is not to blame. No step runs.
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
    if heals == Drift::OtherRelease
        && let Err(failure) = attempt.effects.processes.end_others(&record).await
    {
        return attempt.conclude(Verdict::Unhealthy(failure)).await;
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
        return attempt.fail_once(failure).await;
    }
    switch::away(effects.disk, &attempt.app.dir)?;
    reach(Stage::Removing, Edge::AfterEffect);
    attempt.end(Outcome::Removed, None).await
}

/// Writes the entry of a removal that was done when the agent died.
pub fn removed(app: &mut App, effects: Effects<'_>, journal: Journal) -> Result<Entry, RecordError> {
    Attempt::again(app, effects, journal, Asking::NOTHING).end_now(Outcome::Removed, None)
}

/// Goes on with an attempt that was cut short after the switch. A crash counts against the release; an agent
/// that was stopped in an orderly way does not.
pub async fn resume(
    app: &mut App,
    effects: Effects<'_>,
    mut journal: Journal,
    asking: Asking<'_>,
) -> Result<Entry, RecordError> {
    if !std::mem::take(&mut journal.stopped) {
        journal.resumed += 1;
    }
    let release = journal.to.clone();
    let mut attempt = Attempt::again(app, effects, journal, asking);
    if attempt.journal.target.unstarted {
        return attempt.end(Outcome::Unverified, None).await;
    }
    attempt.enter(Stage::Starting)?;
    let Some(release) = release else { return attempt.end(Outcome::Interrupted, None).await };
    match attempt.effects.supply.verify(&release, Depth::Deep).await {
        Ok(record) => {
            let verdict = attempt.start_and_verify(&record).await?;
            attempt.conclude(verdict).await
        }
        Err(failure) => attempt.conclude(Verdict::Unhealthy(failure)).await,
    }
}

/// Writes the entry of an attempt whose verdict was healthy when the agent died.
pub async fn commit(
    app: &mut App,
    effects: Effects<'_>,
    journal: Journal,
    asking: Asking<'_>,
) -> Result<Entry, RecordError> {
    Attempt::again(app, effects, journal, asking).commit().await
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

/// Notes that an attempt was cut short before it touched what runs. If the one before it was cut short in the
/// same stage on the way to the same artifact, that is held until something changes: the stage itself may be
/// what brings the agent or the machine down.
pub fn abandon(app: &mut App, effects: Effects<'_>, journal: Journal) -> Result<Entry, RecordError> {
    let artifact = journal.target.artifact;
    let again = app.history.last().is_some_and(|last| {
        let same = last.target.artifact == artifact && last.stage == journal.stage;
        last.result == Outcome::Interrupted && !last.stopped && same
    });
    if again && !journal.stopped {
        let identity = journal.to.as_ref().map(|release| release.identity);
        app.quarantine.interrupted =
            Some(Interrupted { artifact, identity, stage: journal.stage, attempt: journal.attempt });
        app.quarantine.write(effects.disk, &app.dir)?;
    }
    Attempt::again(app, effects, journal, Asking::NOTHING).end_now(Outcome::Interrupted, None)
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
    Attempt::begin(app, effects, order, Asking::NOTHING).write(Outcome::Refused, Some(failure), None)
}

/// Notes that a release was made of what ran here before: nothing is linked or started.
pub fn adopt(
    app: &mut App,
    effects: Effects<'_>,
    target: Target,
    release: ReleaseRef,
) -> Result<Entry, RecordError> {
    // What failed because it stood in the way need not fail again.
    let before = app.quarantine.items.len();
    app.quarantine.items.retain(|item| item.failure.reason != "PortHeld");
    if app.quarantine.items.len() != before {
        app.quarantine.write(effects.disk, &app.dir)?;
    }
    let order = Order { target, reuse: Some(release), from: None, healthy: Vec::new() };
    Attempt::begin(app, effects, &order, Asking::NOTHING).end_now(Outcome::Adopted, None)
}
