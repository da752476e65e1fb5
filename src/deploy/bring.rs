//! Up to a prepared release that may be switched to. What runs is not touched.

use std::pin::pin;
use std::time::Duration;

use tracing::{Instrument, warn};

use super::attempt::{Attempt, span};
use super::tries::{Stop, Tries};
use crate::effects::{Depth, Fetched, Place, Stepped, Verdict};
use crate::failpoint::{Edge, reach};
use crate::record::RecordError;
use crate::record::history::Outcome;
use crate::record::journal::{Class, Failure, Stage, Target, Waiting};
use crate::record::release::{ReleaseRecord, ReleaseRef};
use crate::retry::{self, Jitter};
use crate::spec::{StepKind, StepSpec};

/// A step that runs longer than this gives up its place among the releases that are prepared at once: what
/// waits or hangs uses no processor, and must not hold up other apps.
const PLACE_HELD_MAX: Duration = Duration::from_secs(10);

pub(super) enum Brought {
    Ready(Box<ReleaseRecord>),
    Ended(Outcome, Option<Failure>),
}

impl<'a> Attempt<'a> {
    /// Brings the release here, prepared and tried out.
    pub(super) async fn bring(&mut self, reuse: Option<ReleaseRef>) -> Result<Brought, RecordError> {
        match self.prepared(reuse).await {
            Ok(record) => Ok(Brought::Ready(record)),
            Err(Stop::Superseded) => Ok(Brought::Ended(Outcome::Superseded, None)),
            Err(Stop::Refused(failure)) => Ok(Brought::Ended(Outcome::Refused, Some(failure))),
            Err(Stop::Failed(failure)) => {
                self.quarantine(&failure)?;
                let refused = failure.class == Class::Refused;
                let outcome = if refused { Outcome::Refused } else { Outcome::Failed };
                Ok(Brought::Ended(outcome, Some(failure)))
            }
            Err(Stop::Record(error)) => Err(error),
        }
    }

    async fn prepared(&mut self, reuse: Option<ReleaseRef>) -> Result<Box<ReleaseRecord>, Stop> {
        if let Some(release) = &reuse {
            rightly_named(&self.journal.target, release)?;
        }
        let record = match self.on_disk(reuse).await {
            Some(record) => record,
            None => self.make().await?,
        };
        if !self.journal.target.unstarted {
            // What proved healthy here before is not tried out again: going back is switch and start.
            if !self.healthy.contains(&record.release) {
                self.try_out(&record).await?;
            }
            self.effects.processes.ready(&record).await?;
        }
        self.safe_point()?;
        Ok(record)
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

    async fn try_out(&mut self, record: &ReleaseRecord) -> Result<(), Stop> {
        if !record.spec.preflight.iter().any(|preflight| preflight.enabled) {
            return Ok(());
        }
        self.enter(Stage::Preflight)?;
        let trial = self.effects.processes.preflight(record, self.journal.attempt, self.asking.newer);
        let verdict = trial.instrument(span(Stage::Preflight)).await;
        reach(Stage::Preflight, Edge::AfterEffect);
        match verdict {
            Verdict::Healthy => Ok(()),
            Verdict::Unhealthy(failure) => Err(Stop::Failed(failure)),
            Verdict::Superseded => Err(Stop::Superseded),
        }
    }

    /// Fetch, prepare, migrate. A newer state that comes meanwhile leaves nothing half-built behind.
    async fn make(&mut self) -> Result<Box<ReleaseRecord>, Stop> {
        self.safe_point()?;
        let made = self.make_whole().await;
        if let (Err(Stop::Superseded), Some(release)) = (&made, &self.journal.to)
            && let Err(failure) = self.effects.supply.discard(release).await
        {
            warn!(release = %release.name, why = %failure.message, "the half-built release stays for now");
        }
        made
    }

    async fn make_whole(&mut self) -> Result<Box<ReleaseRecord>, Stop> {
        let mut tries = Tries::default();
        let fetched = loop {
            let fetched = self.fetch().await?;
            self.admit(&fetched.release)?;
            match self.prepare(&fetched).await {
                Ok(()) => break fetched,
                // Something of it is missing after all, or does not fit: what is not here is fetched again.
                Err(Stop::Failed(failure)) if failure.class == Class::Supply => {
                    self.pause(&mut tries, failure).await?;
                }
                Err(stop) => return Err(stop),
            }
        };
        self.migrate(&fetched.record).await?;
        self.effects.supply.finish(&fetched).await?;
        Ok(Box::new(self.effects.supply.verify(&fetched.release, Depth::Fast).await?))
    }

    /// A store may be slow or gone; a newer state does not wait behind it.
    async fn fetch(&mut self) -> Result<Fetched, Stop> {
        self.enter(Stage::Fetching)?;
        let artifact = self.journal.target.artifact;
        let mut tries = Tries::default();
        loop {
            let fetch = self.effects.supply.fetch(&artifact).instrument(span(Stage::Fetching));
            match self.giving_way(fetch).await? {
                Ok(fetched) => {
                    reach(Stage::Fetching, Edge::AfterEffect);
                    self.left_alone = None;
                    return Ok(fetched);
                }
                Err(setback) => self.pause(&mut tries, setback).await?,
            }
        }
    }

    /// Refuses the release that was fetched, once it is known which one it is.
    fn admit(&mut self, release: &ReleaseRef) -> Result<(), Stop> {
        self.aim(release);
        rightly_named(&self.journal.target, release)?;
        match self.app.quarantine.forbids(release.identity) {
            Some(item) => Err(Stop::Refused(item.failure.clone())),
            None => self.safe_point(),
        }
    }

    /// The release directory and its prepare steps, in a fresh copy for each try.
    async fn prepare(&mut self, fetched: &Fetched) -> Result<(), Stop> {
        self.enter(Stage::Preparing)?;
        let mut tries = Tries::default();
        loop {
            match self.prepare_once(fetched).instrument(span(Stage::Preparing)).await {
                Err(Stop::Failed(failure)) if failure.class != Class::Supply => {
                    self.pause(&mut tries, failure).await?;
                }
                Ok(()) => {
                    reach(Stage::Preparing, Edge::AfterEffect);
                    return self.safe_point();
                }
                Err(stop) => return Err(stop),
            }
        }
    }

    async fn prepare_once(&self, fetched: &Fetched) -> Result<(), Stop> {
        let place = self.giving_way(self.effects.supply.place()).await?;
        // Never given up half-way: a later build of the same release must not meet this one.
        self.effects.supply.build(fetched).await?;
        drop(place);
        for step in fetched.record.steps(StepKind::Prepare) {
            let place = self.giving_way(self.effects.supply.place()).await?;
            self.prepare_step(&fetched.record, step, place).await?;
        }
        Ok(())
    }

    /// A newer state ends a prepare step, and all that it started, before anything else happens.
    async fn prepare_step(&self, record: &ReleaseRecord, step: &StepSpec, place: Place) -> Result<(), Stop> {
        self.safe_point()?;
        let run = self.effects.supply.step(record, step, self.journal.attempt, self.until_superseded());
        let mut run = pin!(run);
        let stepped = tokio::select! {
            biased;
            stepped = &mut run => stepped,
            () = self.effects.clock.sleep(PLACE_HELD_MAX) => {
                drop(place);
                run.await
            }
        };
        match stepped? {
            Stepped::Done => Ok(()),
            Stepped::GaveWay => Err(Stop::Superseded),
        }
    }

    /// The migrations of this release; on a host that does not migrate, the wait for them.
    async fn migrate(&mut self, record: &ReleaseRecord) -> Result<(), Stop> {
        let steps: Vec<&StepSpec> = record.steps(StepKind::Migrate).collect();
        if steps.is_empty() {
            return Ok(());
        }
        self.enter(Stage::Migrating)?;
        for step in steps {
            if self.effects.supply.migrates() {
                self.run_migration(record, step).await?;
            } else {
                self.await_migration(record, step).await?;
            }
        }
        reach(Stage::Migrating, Edge::AfterEffect);
        Ok(())
    }

    /// Never interrupted. One that met a lock has done nothing, so the pause after it may be.
    async fn run_migration(&mut self, record: &ReleaseRecord, step: &StepSpec) -> Result<(), Stop> {
        let mut tries = Tries::default();
        loop {
            let never = Box::pin(std::future::pending());
            let run = self.effects.supply.step(record, step, self.journal.attempt, never);
            match run.instrument(span(Stage::Migrating)).await {
                Ok(_) => return Ok(()),
                Err(failure) => self.pause(&mut tries, failure).await?,
            }
        }
    }

    /// Asks the step's check until it says that another host has migrated, within the step's timeout.
    async fn await_migration(&mut self, record: &ReleaseRecord, step: &StepSpec) -> Result<(), Stop> {
        let end_ms = self.effects.clock.monotonic_ms().saturating_add(step.timeout.0);
        let until = self.in_wall_time(step.timeout.duration());
        for asked in 1.. {
            let check =
                self.effects.supply.check(record, step, self.journal.attempt, self.until_superseded());
            let Some(complaint) = check.instrument(span(Stage::Migrating)).await? else { break };
            self.safe_point()?;
            let failure = Failure {
                class: Class::Transient,
                reason: "MigrationAwaited".to_owned(),
                message: format!(
                    "step `{}`: this host does not migrate (`migrator = false`) and waits for another: its check {complaint}",
                    step.name
                ),
            };
            let pause = retry::AWAIT.pause(asked, Jitter::draw()).unwrap_or_default();
            if self.effects.clock.monotonic_ms() >= end_ms {
                return Err(Stop::Failed(failure));
            }
            self.wait(Waiting { failure, tried: asked, until }, pause).await?;
        }
        Ok(())
    }
}

/// The state may repeat the artifact's version for readers; it may not give it another.
fn rightly_named(target: &Target, release: &ReleaseRef) -> Result<(), Stop> {
    match target.version.as_ref().filter(|claimed| **claimed != release.version) {
        None => Ok(()),
        Some(claimed) => Err(Stop::Refused(Failure {
            class: Class::Refused,
            reason: "VersionMismatch".to_owned(),
            message: format!(
                "the state calls {} version {claimed}, the artifact itself says {}",
                release.artifact, release.version
            ),
        })),
    }
}
