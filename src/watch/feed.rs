//! News of the source: events of a watched file, or what a task beside the loop finds in a repository.
//!
//! A look at a repository may take minutes; the loop never waits for one. Looks follow each other, never two at a
//! time: after the poll's pause, after a longer and longer one while they fail, or at once when somebody asks.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use crate::failpoint::hastened;
use crate::retry::{Jitter, SOURCE};
use crate::source::Source;
use crate::source::file::FileWatch;
use crate::source::git::{GitSource, Known, Seen, Trouble};

/// Between the beginnings of two looks, however often somebody asks: a hook that is sent a thousand times must not
/// become a thousand fetches.
const LOOKS_APART: Duration = Duration::from_secs(1);

/// What tells the loop that there may be something new.
pub(super) enum Feed {
    /// Events of the kernel.
    File(FileWatch),
    /// Looks at a repository.
    Git(GitFeed),
}

/// Looks at a repository, by a task beside the loop.
pub(super) struct GitFeed {
    /// Ends the pause before the next look.
    pub(super) hurry: Rc<Notify>,
    /// What the next look compares with.
    pub(super) known: Rc<RefCell<Known>>,
    seen: UnboundedReceiver<Result<Seen, Trouble>>,
    looking: JoinHandle<()>,
}

impl Drop for GitFeed {
    fn drop(&mut self) {
        self.looking.abort();
    }
}

impl Feed {
    /// Begins to look. Events of a file go to `changed`; a repository is polled this often.
    pub(super) fn new(
        source: &Source,
        poll: Duration,
        known: Known,
        changed: UnboundedSender<()>,
    ) -> Result<Self, notify::Error> {
        match source {
            Source::File(file) => FileWatch::new(file, changed).map(Self::File),
            Source::Git(git) => Ok(Self::Git(GitFeed::new(git.clone(), poll, known))),
        }
    }

    /// To be called after every event and timer.
    pub(super) fn follow(&mut self) -> Result<(), notify::Error> {
        match self {
            Self::File(watch) => watch.follow(),
            Self::Git(_) => Ok(()),
        }
    }

    /// Looks at a repository now. A file is read by the loop itself.
    pub(super) fn hurry(&self) {
        if let Self::Git(feed) = self {
            feed.hurry.notify_one();
        }
    }

    /// What the next look at a repository compares with.
    pub(super) fn compare_with(&self, known: Known) {
        if let Self::Git(feed) = self {
            feed.known.replace(known);
        }
    }

    /// What the next look at a repository found; for ever pending for a file.
    pub(super) async fn seen(&mut self) -> Option<Result<Seen, Trouble>> {
        match self {
            Self::File(_) => std::future::pending().await,
            Self::Git(feed) => feed.seen.recv().await,
        }
    }
}

impl GitFeed {
    fn new(source: GitSource, poll: Duration, known: Known) -> Self {
        let (send, seen) = unbounded_channel();
        let hurry = Rc::new(Notify::new());
        let known = Rc::new(RefCell::new(known));
        let looking = look_again_and_again(source, poll, Rc::clone(&known), Rc::clone(&hurry), send);
        Self { hurry, known, seen, looking: tokio::task::spawn_local(looking) }
    }
}

async fn look_again_and_again(
    source: GitSource,
    poll: Duration,
    known: Rc<RefCell<Known>>,
    hurry: Rc<Notify>,
    send: UnboundedSender<Result<Seen, Trouble>>,
) {
    source.sweep();
    let mut failed: u32 = 0;
    loop {
        let began = Instant::now();
        let compared = known.borrow().clone();
        let seen = source.look(&compared).await;
        failed = if seen.is_ok() { 0 } else { failed.saturating_add(1).min(u32::MAX - 1) };
        if send.send(seen).is_err() {
            return;
        }
        let pause = match SOURCE.pause(failed, Jitter::draw()) {
            Some(pause) if failed > 0 => pause,
            _ => hastened(Jitter::draw().spread(poll)),
        };
        tokio::select! {
            () = sleep(pause) => {}
            () = hurry.notified() => sleep_until(began + LOOKS_APART).await,
        }
    }
}
