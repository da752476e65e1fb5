//! Word of changes below a root: what a command that waits sleeps on. Events say only "look again".

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Instant;

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};

/// The kernel does not tell of changes.
#[derive(Debug, thiserror::Error)]
#[error("cannot watch for changes: {0}")]
pub struct WatchError(#[from] notify::Error);

/// Directories that are watched.
#[derive(Debug)]
pub struct Changes {
    watcher: RecommendedWatcher,
    events: Receiver<()>,
    watched: Vec<PathBuf>,
}

impl Changes {
    /// Watches nothing yet.
    pub fn new() -> Result<Self, WatchError> {
        let (send, events) = channel();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if is_a_change(&event) && send.send(()).is_err() {
                tracing::debug!("a change came after the wait had ended");
            }
        })?;
        Ok(Self { watcher, events, watched: Vec::new() })
    }

    /// Sleeps until something changed; `false`: the time is over.
    pub fn another_look(&self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.events.recv_timeout(left) {
            Ok(()) => {
                while self.events.try_recv().is_ok() {}
                true
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => false,
        }
    }

    /// Watches every directory from the root down to a file that exists by now. To be called before every look.
    pub fn widen(&mut self, file: &Path, root: &Path) -> Result<(), WatchError> {
        let way = file.ancestors().skip(1).take_while(|dir| dir.starts_with(root));
        let new: Vec<PathBuf> = way
            .filter(|dir| dir.is_dir() && !self.watched.iter().any(|old| old == dir))
            .map(Path::to_owned)
            .collect();
        for dir in new {
            self.watcher.watch(&dir, RecursiveMode::NonRecursive)?;
            self.watched.push(dir);
        }
        Ok(())
    }
}

/// Reading is no change; that a file was written and closed is, and tells that an agent let go of its lock.
pub(crate) fn is_a_change(event: &notify::Result<notify::Event>) -> bool {
    match event {
        Err(_) => true,
        Ok(event) => match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
            EventKind::Access(_) => false,
            _ => true,
        },
    }
}
