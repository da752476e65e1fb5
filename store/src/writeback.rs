//! Writing to disk beside the work: so that the wait at the end, for all of it to be durable, is for little.
//!
//! Linux leaves new pages in memory for half a minute; a release of 750 MB would be written in the last second
//! of its making, with the processors idle. Nothing here makes anything durable: whoever needs that still asks
//! for it, and is told of every error.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::fsio;

/// New bytes after which the disk is set to work: small releases never come to it, and a disk takes them in a
/// fraction of a second.
const EVERY_BYTES: u64 = 64 << 20;

/// Sets the disk to work each time that much was written. Dropped, it waits for what it began.
#[derive(Debug)]
pub(crate) struct Writeback {
    every: u64,
    written: AtomicU64,
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    flush: Mutex<Option<Flush>>,
}

type Flush = Box<dyn FnMut() + Send>;

#[derive(Default)]
struct State {
    due: bool,
    over: bool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Writeback {
    /// For the file system of a directory.
    pub(crate) fn of(dir: BorrowedFd<'_>) -> io::Result<Self> {
        // An open directory of its own: each is told of an error once, and that is for whoever makes it durable.
        let dir = fsio::reopen(dir)?;
        Ok(Self::new(EVERY_BYTES, move || {
            if let Err(error) = fsio::sync_all(dir.as_fd()) {
                tracing::debug!(%error, "writing ahead; whoever makes it durable is told as well");
            }
        }))
    }

    fn new(every: u64, flush: impl FnMut() + Send + 'static) -> Self {
        let shared = Shared { flush: Mutex::new(Some(Box::new(flush))), ..Shared::default() };
        Self { every, written: AtomicU64::new(0), shared: Arc::new(shared), thread: Mutex::default() }
    }

    /// Told of everything that was written.
    pub(crate) fn wrote(&self, bytes: u64) {
        let before = self.written.fetch_add(bytes, Ordering::Relaxed);
        if before / self.every != (before + bytes) / self.every {
            self.begin();
        }
    }

    fn begin(&self) {
        lock(&self.shared.state).due = true;
        self.shared.changed.notify_one();
        let mut thread = lock(&self.thread);
        if thread.is_none()
            && let Some(flush) = lock(&self.shared.flush).take()
        {
            let shared = Arc::clone(&self.shared);
            let named = std::thread::Builder::new().name("landfall-disk".to_owned());
            // Without it everything is written at the end.
            *thread = named.spawn(move || shared.run(flush)).ok();
        }
    }
}

impl Shared {
    fn run(&self, mut flush: Flush) {
        loop {
            let wait = |state: &mut State| !state.due && !state.over;
            let state = self.changed.wait_while(lock(&self.state), wait);
            let mut state = state.unwrap_or_else(PoisonError::into_inner);
            if state.over {
                return;
            }
            state.due = false;
            drop(state);
            flush();
        }
    }
}

impl Drop for Writeback {
    fn drop(&mut self) {
        lock(&self.shared.state).over = true;
        self.shared.changed.notify_one();
        if let Some(thread) = lock(&self.thread).take() {
            // A panic of it was printed; what it was to do is done again by whoever makes it durable.
            let _ = thread.join();
        }
    }
}

/// Nothing under these locks panics half-way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn the_disk_is_set_to_work_each_time_enough_was_written_and_not_before() {
        let (said, heard) = channel();
        let writeback = Writeback::new(100, move || said.send(()).unwrap());
        writeback.wrote(99);
        assert!(lock(&writeback.thread).is_none(), "small releases start no thread");
        for _ in 0..3 {
            writeback.wrote(100);
            heard.recv().unwrap();
        }
        writeback.wrote(0);
        drop(writeback);
        assert!(heard.recv().is_err(), "it ended, and nothing more was asked");
    }

    #[test]
    fn one_that_is_dropped_while_the_disk_works_waits_for_it() {
        let (began, waits) = channel();
        let (go, gone) = channel::<()>();
        let writeback = Writeback::new(1, move || {
            began.send(()).unwrap();
            gone.recv().unwrap();
        });
        writeback.wrote(1);
        waits.recv().unwrap();
        let done = std::thread::spawn(move || drop(writeback));
        assert!(!done.is_finished());
        go.send(()).unwrap();
        done.join().unwrap();
    }

    #[test]
    fn a_real_directory_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let opened = fsio::open_root(dir.path()).unwrap();
        let writeback = Writeback::of(opened.as_fd()).unwrap();
        std::fs::write(dir.path().join("file"), vec![1; 1 << 20]).unwrap();
        writeback.wrote(EVERY_BYTES);
    }
}
