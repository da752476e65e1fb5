//! Writing to disk beside the work: so that the wait at the end, for all of it to be durable, is for little.
//!
//! Linux leaves new pages in memory for half a minute; a release of 750 MB would be written in the last second
//! of its making, with the processors idle. Nothing here makes anything durable: whoever needs that still asks
//! for it, and is told of every error.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, bounded};

use crate::fsio;

/// New bytes after which the disk is set to work: small releases never come to it, and a disk takes them in a
/// fraction of a second.
const EVERY_BYTES: u64 = 64 << 20;

/// Sets the disk to work each time that much was written. Dropped, it waits for what it began.
pub(crate) struct Writeback {
    every: u64,
    written: AtomicU64,
    flush: Arc<dyn Fn() + Send + Sync>,
    /// Started when it is first needed. None: no thread could be, and everything is written at the end.
    thread: OnceLock<Option<Flusher>>,
}

struct Flusher {
    /// Holds one order: what is written while the disk works is one more.
    orders: Sender<()>,
    thread: JoinHandle<()>,
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

    fn new(every: u64, flush: impl Fn() + Send + Sync + 'static) -> Self {
        Self { every, written: AtomicU64::new(0), flush: Arc::new(flush), thread: OnceLock::new() }
    }

    /// Told of everything that was written.
    pub(crate) fn wrote(&self, bytes: u64) {
        let before = self.written.fetch_add(bytes, Ordering::Relaxed);
        if before / self.every == (before + bytes) / self.every {
            return;
        }
        if let Some(flusher) = self.thread.get_or_init(|| Flusher::start(Arc::clone(&self.flush))) {
            // A full queue holds the order already.
            let _ = flusher.orders.try_send(());
        }
    }
}

impl Flusher {
    fn start(flush: Arc<dyn Fn() + Send + Sync>) -> Option<Self> {
        let (orders, taken) = bounded(1);
        let named = std::thread::Builder::new().name("landfall-disk".to_owned());
        let thread = named.spawn(move || taken.iter().for_each(|()| flush())).ok()?;
        Some(Self { orders, thread })
    }
}

impl Drop for Writeback {
    fn drop(&mut self) {
        if let Some(Flusher { orders, thread }) = self.thread.take().flatten() {
            drop(orders);
            // A panic of it was printed; what it was to do is done again by whoever makes it durable.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Writeback {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Writeback").field("written", &self.written).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_disk_is_set_to_work_each_time_enough_was_written_and_not_before() {
        let (said, heard) = bounded(9);
        let writeback = Writeback::new(100, move || said.send(()).unwrap());
        writeback.wrote(99);
        assert!(writeback.thread.get().is_none(), "small releases start no thread");
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
        let (began, begins) = bounded(1);
        let (go, may_go) = bounded::<()>(1);
        let (said, heard) = bounded(2);
        let flushed = said.clone();
        let writeback = Writeback::new(1, move || {
            began.send(()).unwrap();
            may_go.recv().unwrap();
            flushed.send("flushed").unwrap();
        });
        writeback.wrote(1);
        begins.recv().unwrap();
        let dropping = std::thread::spawn(move || {
            drop(writeback);
            said.send("dropped").unwrap();
        });
        assert!(heard.recv_timeout(Duration::from_millis(100)).is_err(), "it did not wait");
        go.send(()).unwrap();
        assert_eq!([heard.recv().unwrap(), heard.recv().unwrap()], ["flushed", "dropped"]);
        dropping.join().unwrap();
    }

    #[test]
    fn a_real_directory_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let opened = fsio::open_root(dir.path()).unwrap();
        let writeback = Writeback::of(opened.as_fd()).unwrap();
        std::fs::write(dir.path().join("file"), vec![1; 1 << 20]).unwrap();
        writeback.wrote(EVERY_BYTES);
        assert!(matches!(writeback.thread.get(), Some(Some(_))));
    }
}
