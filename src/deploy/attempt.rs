//! What every part of an attempt shares: its journal, its times, its end.

use std::time::Duration;

use tracing::{Span, info, info_span};

use super::{App, Asking, Order};
use crate::effects::Effects;
use crate::failpoint::{Edge, reach};
use crate::plan::revert_target;
use crate::record::RecordError;
use crate::record::history::{Entry, Outcome};
use crate::record::journal::{Failure, Journal, Stage, StageTime};
use crate::record::quarantine::Quarantined;
use crate::record::release::ReleaseRef;
use crate::retry::{self, Jitter};

pub(super) struct Attempt<'a> {
    pub(super) app: &'a mut App,
    pub(super) effects: Effects<'a>,
    pub(super) asking: Asking<'a>,
    pub(super) journal: Journal,
    pub(super) healthy: Vec<ReleaseRef>,
    /// For how long whoever failed last asked to be left alone.
    pub(super) left_alone: Option<Duration>,
    began_ms: u64,
    /// The stage being timed, and when it began.
    timed: Option<(Stage, u64)>,
}

impl<'a> Attempt<'a> {
    pub(super) fn begin(app: &'a mut App, effects: Effects<'a>, order: &Order, asking: Asking<'a>) -> Self {
        let (name, environment) = (app.name.clone(), app.environment.clone());
        let (number, started) = (app.history.next_attempt(), effects.clock.wall());
        let journal = Journal {
            to: order.reuse.clone(),
            from: order.from.clone(),
            healthy: revert_target(&order.healthy, order.reuse.as_ref()),
            ..Journal::new(name, environment, number, order.target.clone(), started)
        };
        let began_ms = effects.clock.monotonic_ms();
        let healthy = order.healthy.clone();
        Self { app, effects, asking, journal, healthy, left_alone: None, began_ms, timed: None }
    }

    pub(super) fn again(
        app: &'a mut App,
        effects: Effects<'a>,
        journal: Journal,
        asking: Asking<'a>,
    ) -> Self {
        let healthy = journal.healthy.iter().cloned().collect();
        let began_ms = effects.clock.monotonic_ms();
        Self { app, effects, asking, journal, healthy, left_alone: None, began_ms, timed: None }
    }

    /// Makes the intent of a stage durable before anything of it happens.
    pub(super) fn enter(&mut self, stage: Stage) -> Result<(), RecordError> {
        reach(stage, Edge::BeforeIntent);
        let now = self.end_timing();
        self.timed = Some((stage, now));
        self.journal.stage = stage;
        self.journal.stopped = false;
        self.journal.waiting = None;
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

    /// Names the release on trial, once it is known, and where a revert of it goes.
    pub(super) fn aim(&mut self, release: &ReleaseRef) {
        self.journal.healthy = revert_target(&self.healthy, Some(release));
        self.journal.to = Some(release.clone());
    }

    /// Forbids the release on trial, if the failure is its fault.
    pub(super) fn quarantine(&mut self, failure: &Failure) -> Result<(), RecordError> {
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

    /// Ends it, and says when it is tried again if nothing changes.
    pub(super) async fn end(self, outcome: Outcome, failure: Option<Failure>) -> Result<Entry, RecordError> {
        let retry = self.next_try(outcome, failure.as_ref());
        self.close(outcome, failure, retry).await
    }

    /// The same where nobody asks for it any more, so that no commit is to be looked up.
    pub(super) fn end_now(self, outcome: Outcome, failure: Option<Failure>) -> Result<Entry, RecordError> {
        let retry = self.next_try(outcome, failure.as_ref());
        self.write(outcome, failure, retry)
    }

    /// The pause before the next attempt at the same; none: it is due at once, or nothing but a change helps.
    fn next_try(&self, outcome: Outcome, failure: Option<&Failure>) -> Option<Duration> {
        let failure = failure.filter(|_| matches!(outcome, Outcome::Failed | Outcome::Refused))?;
        if self.should_go_back_first() {
            return None;
        }
        let alike = |entry: &&Entry| {
            let class = entry.failure.as_ref().map(|failure| failure.class);
            entry.target.artifact == self.journal.target.artifact && class == Some(failure.class)
        };
        let before = self.app.history.entries().iter().rev().take_while(alike).count();
        let in_a_row = u32::try_from(before).unwrap_or(u32::MAX).saturating_add(1);
        retry::between(failure.class, in_a_row, self.left_alone, Jitter::draw())
    }

    /// What is in service never proved itself, and something that did is there to go back to: the next tick
    /// does that at once.
    fn should_go_back_first(&self) -> bool {
        let (Some(from), Some(proved)) = (&self.journal.from, self.healthy.first()) else { return false };
        from != proved && self.journal.to.as_ref() != Some(proved) && self.journal.stage < Stage::Switching
    }

    /// Ends with a failure; one that the last entry tells already is not told again.
    pub(super) async fn fail_once(self, failure: Failure) -> Result<Entry, RecordError> {
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
            None => self.end(Outcome::Failed, Some(failure)).await,
        }
    }

    /// Looks up the commit that asked for it, and writes the entry.
    async fn close(
        mut self,
        outcome: Outcome,
        failure: Option<Failure>,
        retry: Option<Duration>,
    ) -> Result<Entry, RecordError> {
        if self.journal.target.state_commit.is_none() {
            self.journal.target.state_commit = (self.asking.commit)().await;
        }
        self.write(outcome, failure, retry)
    }

    /// The entry first, durably; then the journal is cleared.
    pub(super) fn write(
        mut self,
        outcome: Outcome,
        failure: Option<Failure>,
        retry: Option<Duration>,
    ) -> Result<Entry, RecordError> {
        let took_ms = self.end_timing().saturating_sub(self.began_ms);
        let parent = self.app.history.last_hash();
        let retry_in_ms = retry.map(|pause| u64::try_from(pause.as_millis()).unwrap_or(u64::MAX));
        let entry = Entry { retry_in_ms, ..Entry::ending(&self.journal, outcome, failure, took_ms, parent) };
        self.app.history.append(self.effects.disk, &self.app.dir, entry.clone())?;
        reach(self.journal.stage, Edge::AfterEntry);
        Journal::clear(self.effects.disk, &self.app.dir)?;
        info!(attempt = entry.attempt, took_ms, "{outcome}");
        Ok(entry)
    }
}

/// What is logged inside a stage says which one it is.
pub(super) fn span(stage: Stage) -> Span {
    info_span!("stage", name = %stage)
}
