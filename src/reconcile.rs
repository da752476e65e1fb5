//! One tick of one app: finish what a crash cut short, observe, decide, act.

use jiff::Timestamp;
use tracing::warn;

use crate::control;
use crate::deploy::{self, App, Asking, Healing, Order};
use crate::effects::Effects;
use crate::observe;
use crate::plan::{Desired, Facts, Hold, Plan, Refusal, decide};
use crate::record::RecordError;
use crate::record::controls::{Controls, Fresh};
use crate::record::history::Entry;
use crate::record::journal::{Class, Failure, Journal, Target};
use crate::recover::{Recovery, recover};

/// What a tick came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tick {
    /// Nothing to do.
    InSync {
        /// The env files were edited since the start.
        env_changed: bool,
    },
    /// Nothing may be done.
    Held(Hold),
    /// The app is to go, and nothing of it is in service.
    Removed,
    /// The desired release must not be tried.
    Refused(Refusal),
    /// An attempt ended.
    Attempted(Box<Entry>),
}

/// On what terms the state is applied.
#[derive(Debug, Clone, Copy, Default)]
pub struct Terms {
    /// An env edit alone is deployed, not just reported.
    pub deploy_env_changes: bool,
    /// The state's `reconcileRequestedAt`.
    pub requested: Option<Timestamp>,
}

/// Reconciles. At the goal it writes nothing.
pub async fn reconcile(
    app: &mut App,
    effects: Effects<'_>,
    desired: Desired,
    terms: Terms,
    asking: Asking<'_>,
) -> Result<Tick, RecordError> {
    if let Some(journal) = Journal::read(effects.disk, &app.dir)?
        && let Some(tick) = finish(app, effects, journal, asking).await?
    {
        return Ok(tick);
    }
    let desired = desired.under(&app.controls, effects.clock.wall());
    let fresh = take_up(app, effects, &desired, terms.requested)?;
    note_where_the_state_points(app, effects, &desired)?;
    let facts = observe::facts(app, effects, desired, fresh, terms.deploy_env_changes).await;
    match decide(&facts) {
        Plan::InSync { env_changed } => Ok(Tick::InSync { env_changed }),
        Plan::Hold(hold) => Ok(Tick::Held(hold)),
        Plan::Refuse(refusal) => refused(app, effects, &facts, refusal),
        Plan::Deploy { target, reuse } => {
            let order =
                Order { target, reuse, from: facts.current.release().cloned(), healthy: facts.healthy };
            deploy::deploy(app, effects, order, asking).await.map(|entry| Tick::Attempted(Box::new(entry)))
        }
        Plan::Restart { target, release, heals } => {
            let from = facts.current.release().cloned();
            let order = Order { target, reuse: None, from, healthy: facts.healthy };
            deploy::restart(app, effects, order, Healing { release, heals }, asking)
                .await
                .map(|entry| Tick::Attempted(Box::new(entry)))
        }
        Plan::Remove { release } => {
            let order = Order {
                target: Target::of(release.artifact),
                reuse: None,
                from: Some(release.clone()),
                healthy: facts.healthy,
            };
            deploy::remove(app, effects, &order, &release, asking)
                .await
                .map(|entry| Tick::Attempted(Box::new(entry)))
        }
        Plan::Removed => Ok(Tick::Removed),
    }
}

/// Deals with the attempt a crash left behind. `None`: done, go on with the tick.
async fn finish(
    app: &mut App,
    effects: Effects<'_>,
    journal: Journal,
    asking: Asking<'_>,
) -> Result<Option<Tick>, RecordError> {
    let (current, _) = observe::current(app, effects).await;
    let recovery = recover(&journal, &current, app.history.last());
    warn!(app = %app.name, attempt = journal.attempt, stage = %journal.stage, ?recovery, "an attempt was cut short");
    let entry = match recovery {
        Recovery::ClearJournal => {
            Journal::clear(effects.disk, &app.dir)?;
            return Ok(None);
        }
        Recovery::Abandon => {
            deploy::abandon(app, effects, journal)?;
            return Ok(None);
        }
        Recovery::Hold(why) => return Ok(Some(Tick::Held(Hold::CurrentBroken(why)))),
        Recovery::Resume { .. } => deploy::resume(app, effects, journal, asking).await?,
        Recovery::Removed => deploy::removed(app, effects, journal)?,
        Recovery::Commit { .. } => deploy::commit(app, effects, journal, asking).await?,
        Recovery::Revert { crashed_again } => deploy::revert(app, effects, journal, crashed_again).await?,
    };
    Ok(Some(Tick::Attempted(Box::new(entry))))
}

/// What was asked of this tick. What is let out of quarantine is durable before the asking is forgotten.
fn take_up(
    app: &mut App,
    effects: Effects<'_>,
    desired: &Desired,
    requested: Option<Timestamp>,
) -> Result<Fresh, RecordError> {
    let (quarantine, controls) = (app.quarantine.clone(), app.controls.clone());
    let (last, now) = (app.history.last().map_or(0, |entry| entry.attempt), effects.clock.wall());
    let fresh = control::foresee(app, desired, requested, now);
    if app.quarantine != quarantine {
        app.quarantine.write(effects.disk, &app.dir)?;
    }
    if app.controls != controls {
        let take = |controls: &mut Controls| control::take_up(controls, requested, last, now);
        (app.controls, _) = Controls::change(effects.disk, &app.dir, take)?;
    }
    Ok(fresh)
}

fn note_where_the_state_points(
    app: &mut App,
    effects: Effects<'_>,
    desired: &Desired,
) -> Result<(), RecordError> {
    if let Desired::Target(target) = desired
        && app.quarantine.moved_to(target.artifact)
    {
        app.quarantine.write(effects.disk, &app.dir)?;
    }
    Ok(())
}

/// A block is said in the history once; a quarantine already stands there as the attempt that failed.
fn refused(
    app: &mut App,
    effects: Effects<'_>,
    facts: &Facts,
    refusal: Refusal,
) -> Result<Tick, RecordError> {
    if let (Refusal::Blocked(_), Desired::Blocked { target, .. }) = (&refusal, &facts.desired) {
        let failure =
            Failure { class: Class::Refused, reason: "Blocked".to_owned(), message: refusal.to_string() };
        let order = Order {
            target: target.clone(),
            reuse: None,
            from: facts.current.release().cloned(),
            healthy: facts.healthy.clone(),
        };
        deploy::refuse(app, effects, &order, failure)?;
    }
    Ok(Tick::Refused(refusal))
}
