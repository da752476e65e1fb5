//! Following this host's agent through one deploy, by the files it writes: no question is put to it.

use std::time::{Duration, Instant};

use crate::changes::{Changes, WatchError};
use crate::disk::RealDisk;
use crate::host::Host;
use crate::layout::AppDir;
use crate::outlook::{Outlook, outlook};
use crate::plan::{Desired, Hold, Plan, Refusal};
use crate::record::RecordError;
use crate::record::history::{Entry, History, Outcome};
use crate::record::journal::{Journal, Stage};
use crate::watch;
use landfall_store::{ArtifactId, Name};

/// How the wait ended.
#[derive(Debug)]
pub enum Ended {
    /// The attempt has a verdict.
    Verdict(Box<Entry>),
    /// The agent has nothing to do: it runs already.
    InSync,
    /// The agent will not try it.
    Refused(Refusal),
    /// The agent may not do anything now.
    Held(Hold),
    /// The time is over.
    TimedOut(Option<Stage>),
    /// No agent works on this host (any more).
    NoAgent,
}

/// Why nothing can be followed.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The kernel does not tell of changes.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// The agent's records cannot be read.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// A place to look from, taken before the state is changed so that nothing is missed.
pub struct Follow<'a> {
    host: &'a Host,
    app: &'a Name,
    environment: &'a Name,
    dir: AppDir,
    last_before: u64,
    changes: Changes,
}

impl<'a> Follow<'a> {
    /// Begins to look. Attempts that ended before do not count.
    pub fn begin(host: &'a Host, app: &'a Name, environment: &'a Name) -> Result<Self, FollowError> {
        let config = host.config.app(app).unwrap_or_default();
        let dir = host.root.app(app, environment, config.dir.as_deref());
        let changes = Changes::new()?;
        let last_before = History::read(&RealDisk, &dir)?.last().map_or(0, |entry| entry.attempt);
        Ok(Self { host, app, environment, dir, last_before, changes })
    }

    /// The app's directories.
    pub const fn dir(&self) -> &AppDir {
        &self.dir
    }

    /// Waits for the verdict on an artifact, at most `limit`. `seen` is told of every stage once.
    pub fn to_the_verdict(
        mut self,
        artifact: &ArtifactId,
        limit: Duration,
        runtime: &tokio::runtime::Runtime,
        seen: &mut dyn FnMut(&Journal),
    ) -> Result<Ended, FollowError> {
        let deadline = Instant::now() + limit;
        let mut stage = None;
        loop {
            self.changes.widen(&self.dir.history(), self.host.root.path())?;
            let journal = Journal::read(&RealDisk, &self.dir)?.filter(|now| now.target.artifact == *artifact);
            if let Some(journal) = &journal
                && stage.replace((journal.attempt, journal.stage)) != Some((journal.attempt, journal.stage))
            {
                seen(journal);
            }
            if let Some(ended) = self.ended(artifact, journal.is_some(), runtime)? {
                return Ok(ended);
            }
            if !self.changes.another_look(deadline) {
                return Ok(Ended::TimedOut(stage.map(|(_, stage)| stage)));
            }
        }
    }

    /// How it ended, if it has.
    fn ended(
        &self,
        artifact: &ArtifactId,
        in_progress: bool,
        runtime: &tokio::runtime::Runtime,
    ) -> Result<Option<Ended>, FollowError> {
        if let Some(entry) = self.verdict(artifact)? {
            return Ok(Some(Ended::Verdict(Box::new(entry))));
        }
        if !self.host.is_locked() {
            return Ok(Some(Ended::NoAgent));
        }
        if in_progress {
            return Ok(None);
        }
        let settled = runtime.block_on(self.settled(artifact));
        // The agent may have come to its verdict between the two looks.
        let verdict = self.verdict(artifact)?.map(|entry| Ended::Verdict(Box::new(entry)));
        Ok(settled.map(|settled| verdict.unwrap_or(settled)))
    }

    /// The entry that ends what is followed. An agent that died in an attempt makes another one.
    fn verdict(&self, artifact: &ArtifactId) -> Result<Option<Entry>, RecordError> {
        let history = History::read(&RealDisk, &self.dir)?;
        let newer = history.entries().iter().rev().take_while(|entry| entry.attempt > self.last_before);
        let mut ended =
            newer.filter(|entry| entry.target.artifact == *artifact && entry.result != Outcome::Interrupted);
        Ok(ended.next().cloned())
    }

    /// What the agent makes of a state that it has read, where no attempt comes of it.
    async fn settled(&self, artifact: &ArtifactId) -> Option<Ended> {
        let accepted = watch::last(self.host).ok()??;
        // What cannot be looked at from here is waited for.
        let Outlook { plan, journal, facts, .. } =
            outlook(self.host, self.environment, &accepted, self.app).await.ok()?;
        let pinned =
            matches!(&facts.desired, Desired::Pinned { pin, .. } if pin.release.artifact == *artifact);
        let asked = facts.desired.target().is_some_and(|target| target.artifact == *artifact);
        match plan {
            _ if journal.is_some() || !(pinned || asked) => None,
            Plan::Hold(Hold::Pinned(_)) if pinned => Some(Ended::InSync),
            Plan::InSync { .. } => Some(Ended::InSync),
            Plan::Refuse(refusal) => Some(Ended::Refused(refusal)),
            Plan::Hold(hold) => Some(Ended::Held(hold)),
            Plan::Deploy { .. } | Plan::Restart { .. } | Plan::Remove { .. } | Plan::Removed => None,
        }
    }
}
