//! Asking for single documents, several at a time, and stopping when nobody waits for the answers any more.

use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Watch;
use crate::backend::{Backend, BackendError, Key};
use crate::error::StoreError;

/// Requests in flight at once, whatever the backend would bear.
const PARALLEL_MAX: usize = 8;
const CHUNK_BYTES: usize = 64 << 10;

/// Applies `ask` to all items, as many at once as the backend has use for; the answers are in their order.
pub(super) fn each<T: Sync, R: Send>(
    backend: &dyn Backend,
    items: &[T],
    ask: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else { return done };
            done.push((index, ask(item)));
        }
    };
    let workers = backend.cost().parallel.clamp(1, PARALLEL_MAX).min(items.len());
    let mut answers: Vec<(usize, R)> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let joined = handles.into_iter().map(|handle| match handle.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        joined.flatten().collect()
    });
    answers.sort_unstable_by_key(|(index, _)| *index);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

/// A document that may be absent; none, too, if it is larger than any of its kind.
pub(super) fn find(
    backend: &dyn Backend,
    key: &Key,
    max: u64,
    watch: &Watch<'_>,
) -> Result<Option<Vec<u8>>, StoreError> {
    let read = backend.read(key, 0, max.saturating_add(1));
    let read = read.map_err(StoreError::from).and_then(|mut stream| {
        read_to_end(&mut *stream, watch, |source| BackendError::io("read", key, backend.location(), source))
    });
    match read {
        Ok(bytes) if bytes.len() as u64 > max => Ok(None),
        Ok(bytes) => Ok(Some(bytes)),
        Err(StoreError::Backend(BackendError::NotFound { .. })) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A document that only saves time: that it cannot be had is logged, and no error.
pub(super) fn hint(
    backend: &dyn Backend,
    key: &Key,
    max: u64,
    watch: &Watch<'_>,
) -> Result<Option<Vec<u8>>, StoreError> {
    match find(backend, key, max, watch) {
        Err(StoreError::Backend(error)) => {
            tracing::warn!(%error, "going on without it");
            Ok(None)
        }
        found => found,
    }
}

/// Reads a stream that is bounded already.
pub(super) fn read_to_end(
    stream: &mut (dyn Read + Send),
    watch: &Watch<'_>,
    failed: impl Fn(std::io::Error) -> BackendError,
) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::new();
    loop {
        if (watch.cancel)() {
            return Err(StoreError::Cancelled);
        }
        let read = Read::take(&mut *stream, CHUNK_BYTES as u64).read_to_end(&mut bytes);
        if read.map_err(&failed)? == 0 {
            return Ok(bytes);
        }
    }
}
