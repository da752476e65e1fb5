//! From the switch to the verdict, and what follows it.

use tracing::{Instrument, warn};

use super::attempt::{Attempt, span};
use crate::effects::{Depth, Effects, Stepped, Verdict};
use crate::failpoint::{Edge, reach};
use crate::record::RecordError;
use crate::record::history::{Entry, Outcome};
use crate::record::journal::{After, Class, Failure, Stage};
use crate::record::release::{ReleaseRecord, ReleaseRef};
use crate::spec::StepKind;
use crate::switch;

impl Attempt<'_> {
    pub(super) async fn put_into_service(mut self, record: &ReleaseRecord) -> Result<Entry, RecordError> {
        self.aim(&record.release);
        self.enter(Stage::Switching)?;
        switch::to(self.effects.disk, &self.app.dir, &record.release)?;
        reach(Stage::Switching, Edge::AfterEffect);
        if self.journal.target.unstarted {
            return self.end(Outcome::Unverified, None).await;
        }
        self.enter(Stage::Starting)?;
        let verdict = self.start_and_verify(record).await?;
        self.conclude(verdict).await
    }

    pub(super) async fn start_and_verify(&mut self, record: &ReleaseRecord) -> Result<Verdict, RecordError> {
        let number = self.journal.attempt;
        if let Err(failure) =
            self.effects.processes.start(record, number).instrument(span(Stage::Starting)).await
        {
            return Ok(Verdict::Unhealthy(failure));
        }
        reach(Stage::Starting, Edge::AfterEffect);
        self.enter(Stage::Verifying)?;
        // Where nothing runs that could answer, every byte is looked at instead.
        if self.effects.processes.starts_nothing(record)
            && let Err(failure) = self.effects.supply.verify(&record.release, Depth::Deep).await
        {
            return Ok(Verdict::Unhealthy(failure));
        }
        let verdict = self
            .effects
            .processes
            .verify(record, number, self.asking.newer)
            .instrument(span(Stage::Verifying))
            .await;
        reach(Stage::Verifying, Edge::AfterEffect);
        Ok(verdict)
    }

    pub(super) async fn conclude(self, verdict: Verdict) -> Result<Entry, RecordError> {
        match verdict {
            Verdict::Healthy => self.commit().await,
            Verdict::Unhealthy(failure) if self.journal.heals.is_some() => {
                self.end(Outcome::Failed, Some(failure)).await
            }
            Verdict::Unhealthy(failure) => self.revert(failure).await,
            // The next attempt starts from here; its revert target stays the last healthy release.
            Verdict::Superseded => self.end(Outcome::Superseded, None).await,
        }
    }

    /// The verdict is durable with the intent; nothing after it changes it.
    pub(super) async fn commit(mut self) -> Result<Entry, RecordError> {
        self.enter(Stage::Committing)?;
        let release = self.journal.to.clone();
        if let Some(release) = &release
            && self.app.quarantine.lift(release.identity)
        {
            self.app.quarantine.write(self.effects.disk, &self.app.dir)?;
        }
        self.settle().await;
        if let Some(release) = &release {
            self.follow_up(release).await?;
        }
        self.end(Outcome::Healthy, None).await
    }

    /// Ends what served beside the release until it was proved. What outlives that is found by the next tick, as a
    /// process of another release.
    async fn settle(&self) {
        if let Err(failure) = self.effects.processes.settle().await {
            warn!(attempt = self.journal.attempt, %failure.message, "what served before still runs");
        }
    }

    /// What follows a verdict and cannot change it.
    async fn follow_up(&mut self, release: &ReleaseRef) -> Result<(), RecordError> {
        let record = match self.effects.supply.load(&release.name).await {
            Ok(record) => record,
            Err(failure) => {
                warn!(release = %release.name, %failure.message, "what follows the commit is left out");
                return Ok(());
            }
        };
        keep_across_reboot(self.effects, &record).await;
        if self.journal.heals.is_none() && record.steps(StepKind::After).next().is_some() {
            self.run_after_steps(&record).await?;
        }
        Ok(())
    }

    /// Once in an attempt: what a crash cut short is said and not run again. A newer state does not wait for
    /// them.
    async fn run_after_steps(&mut self, record: &ReleaseRecord) -> Result<(), RecordError> {
        if self.journal.after.is_some() {
            return Ok(());
        }
        self.journal.after = Some(After::CutShort);
        self.journal.write(self.effects.disk, &self.app.dir)?;
        let after = self.after_steps(record).await;
        if let After::Failed(failure) = &after {
            warn!(release = %record.release.name, %failure.message, "an `after` step failed; the release stays");
        }
        self.journal.after = Some(after);
        Ok(())
    }

    async fn after_steps(&self, record: &ReleaseRecord) -> After {
        for step in record.steps(StepKind::After) {
            if (self.asking.newer)() {
                return After::Superseded;
            }
            let run = self.effects.supply.step(record, step, self.journal.attempt, self.until_superseded());
            match run.instrument(span(Stage::Committing)).await {
                Ok(Stepped::Done) => {}
                Ok(Stepped::GaveWay) => return After::Superseded,
                Err(failure) => return After::Failed(failure),
            }
        }
        After::Done
    }

    /// Back to the last healthy release, without store or state. Depth one: if that fails too, landfall
    /// stops there and says so.
    pub(super) async fn revert(mut self, failure: Failure) -> Result<Entry, RecordError> {
        warn!(attempt = self.journal.attempt, why = %failure.message, "reverting");
        self.journal.failure = Some(failure.clone());
        self.enter(Stage::Reverting)?;
        self.quarantine(&failure)?;
        let outcome = match self.journal.healthy.clone() {
            None => self.stop_with_nothing_to_go_back_to().await?,
            Some(healthy) => self.go_back(&healthy).await?,
        };
        match outcome {
            Ok(outcome) => self.end(outcome, Some(failure)).await,
            Err(second) => {
                let message = format!("{}; and going back failed: {}", failure.message, second.message);
                // A manager that is down is tried again; whatever else is wrong needs a person.
                let class = if second.class == Class::Manager { Class::Manager } else { failure.class };
                self.end(Outcome::Failed, Some(Failure { class, reason: "RevertFailed".to_owned(), message }))
                    .await
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
        if let Err(failure) = self.effects.processes.go_back(&record, number).await {
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
                    self.settle().await;
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
}

async fn keep_across_reboot(effects: Effects<'_>, record: &ReleaseRecord) {
    if let Err(failure) = effects.processes.persist(record).await {
        warn!(release = %record.release.name, %failure.message, "the process manager may not bring it back after a reboot");
    }
}
