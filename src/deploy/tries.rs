//! How an attempt waits: between tries, and for what may be given up when a newer state comes.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use tracing::warn;

use super::attempt::Attempt;
use crate::effects::Setback;
use crate::pending::Pending;
use crate::record::RecordError;
use crate::record::journal::{Class, Failure, Waiting};
use crate::retry::{self, Jitter};

/// Why a part of an attempt does not go on.
pub(super) enum Stop {
    /// A newer state has come.
    Superseded,
    /// It must not be tried at all.
    Refused(Failure),
    /// It failed.
    Failed(Failure),
    /// landfall could not keep its own records.
    Record(RecordError),
}

impl From<RecordError> for Stop {
    fn from(error: RecordError) -> Self {
        Self::Record(error)
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Failures so far, each class counted apart: a step that is only busy now and then still has its own tries.
#[derive(Debug, Default)]
pub(super) struct Tries(BTreeMap<Class, u32>);

impl Tries {
    /// Counts one more failure. Returns how many of its class there are.
    fn count(&mut self, class: Class) -> u32 {
        let failed = self.0.entry(class).or_default();
        *failed += 1;
        *failed
    }
}

impl<'a> Attempt<'a> {
    /// A point at which a newer state may take over.
    pub(super) fn safe_point(&self) -> Result<(), Stop> {
        if (self.asking.newer)() { Err(Stop::Superseded) } else { Ok(()) }
    }

    /// Ends when a newer state has come.
    pub(super) fn until_superseded(&self) -> Pending<'a, ()> {
        Box::pin(self.asking.superseded())
    }

    /// Waits for something that may be dropped at any moment; a newer state does not wait behind it.
    pub(super) async fn giving_way<T>(&self, work: impl Future<Output = T>) -> Result<T, Stop> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            () = self.asking.superseded() => Err(Stop::Superseded),
        }
    }

    /// Waits for the next try of what failed in this stage, if there is one left.
    pub(super) async fn pause(&mut self, tries: &mut Tries, setback: impl Into<Setback>) -> Result<(), Stop> {
        let Setback { failure, retry_after } = setback.into();
        self.left_alone = retry_after;
        let (stage, class) = (self.journal.stage, failure.class);
        let tried = tries.count(class);
        let schedule = retry::within(class, stage, self.effects.patience);
        let Some(pause) = schedule.pause_of(tried, retry_after, Jitter::draw()) else {
            return Err(Stop::Failed(failure));
        };
        warn!(%stage, tried, of = schedule.tries, ?pause, why = %failure.message, "failed, tried again after a pause");
        self.wait(Waiting { failure, tried, until: self.in_wall_time(pause) }, pause).await?;
        self.say_waiting(None);
        Ok(())
    }

    /// Waits, and says in the journal for what and until when; that stays said. Gives way to a newer state at
    /// once.
    pub(super) async fn wait(&mut self, waiting: Waiting, pause: Duration) -> Result<(), Stop> {
        self.say_waiting(Some(waiting));
        self.giving_way(self.effects.clock.sleep(pause)).await
    }

    /// Only shown: a disk that is full at this moment is no reason to give up.
    fn say_waiting(&mut self, waiting: Option<Waiting>) {
        self.journal.waiting = waiting;
        if let Err(error) = self.journal.write(self.effects.disk, &self.app.dir) {
            warn!(%error, "what the attempt waits for cannot be shown");
        }
    }

    /// The time a pause from now ends, by the wall clock; only shown.
    pub(super) fn in_wall_time(&self, pause: Duration) -> jiff::Timestamp {
        let now = self.effects.clock.wall();
        now.checked_add(jiff::SignedDuration::try_from(pause).unwrap_or_default()).unwrap_or(now)
    }
}
