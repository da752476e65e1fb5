//! Following this host's agent through one deploy, by the files it writes: no question is put to it.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use landfall_store::{ArtifactId, Name};
use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};

use crate::disk::RealDisk;
use crate::host::Host;
use crate::layout::AppDir;
use crate::outlook::{Outlook, outlook};
use crate::plan::{Desired, Hold, Plan, Refusal};
use crate::record::RecordError;
use crate::record::history::{Entry, History, Outcome};
use crate::record::journal::{Journal, Stage};
use crate::watch;

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
    #[error("cannot watch {path}: {source}")]
    Watch {
        /// Which directory.
        path: PathBuf,
        /// What the system said.
        source: notify::Error,
    },
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
    watcher: RecommendedWatcher,
    events: Receiver<()>,
    watched: Vec<PathBuf>,
}

impl<'a> Follow<'a> {
    /// Begins to look. Attempts that ended before do not count.
    pub fn begin(host: &'a Host, app: &'a Name, environment: &'a Name) -> Result<Self, FollowError> {
        let config = host.config.app(app).unwrap_or_default();
        let dir = host.root.app(app, environment, config.dir.as_deref());
        let (send, events) = channel();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if is_a_change(&event) && send.send(()).is_err() {
                tracing::debug!("a change came after the wait had ended");
            }
        });
        let root = || host.root.path().to_owned();
        let watcher = watcher.map_err(|source| FollowError::Watch { path: root(), source })?;
        let last_before = History::read(&RealDisk, &dir)?.last().map_or(0, |entry| entry.attempt);
        Ok(Self { host, app, environment, dir, last_before, watcher, events, watched: Vec::new() })
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
            self.widen()?;
            let journal = Journal::read(&RealDisk, &self.dir)?.filter(|now| now.target.artifact == *artifact);
            if let Some(journal) = &journal
                && stage.replace((journal.attempt, journal.stage)) != Some((journal.attempt, journal.stage))
            {
                seen(journal);
            }
            if let Some(ended) = self.ended(artifact, journal.is_some(), runtime)? {
                return Ok(ended);
            }
            if !self.another_look(deadline) {
                return Ok(Ended::TimedOut(stage.map(|(_, stage)| stage)));
            }
        }
    }

    /// Sleeps until something changed; `false`: the time is over.
    fn another_look(&self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.events.recv_timeout(left) {
            Ok(()) => {
                while self.events.try_recv().is_ok() {}
                true
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => false,
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

    /// Watches every directory on the way to the app's records that exists by now.
    fn widen(&mut self) -> Result<(), FollowError> {
        let own = self.dir.history();
        let way = own.ancestors().skip(1).take_while(|dir| dir.starts_with(self.host.root.path()));
        let new: Vec<PathBuf> = way
            .filter(|dir| dir.is_dir() && !self.watched.iter().any(|old| old == dir))
            .map(Path::to_owned)
            .collect();
        for dir in new {
            let watched = self.watcher.watch(&dir, RecursiveMode::NonRecursive);
            watched.map_err(|source| FollowError::Watch { path: dir.clone(), source })?;
            self.watched.push(dir);
        }
        Ok(())
    }
}

/// Reading is no change; that a file was written and closed is, and tells that an agent let go of its lock.
fn is_a_change(event: &notify::Result<notify::Event>) -> bool {
    match event {
        Err(_) => true,
        Ok(event) => match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
            EventKind::Access(_) => false,
            _ => true,
        },
    }
}
