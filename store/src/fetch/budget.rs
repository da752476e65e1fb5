//! The memory of a fetch: however many workers it has, the frames they hold together are bounded.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::pack::Frame;

/// Bytes of frames, stored and decompressed, that all workers hold together. With buffers of sockets and the
/// decoders it keeps a fetch below 64 MiB.
const FRAMES_BYTES_MAX: u64 = 28 << 20;

/// What is left of it.
pub(super) struct Budget {
    left: Mutex<u64>,
    returned: Condvar,
}

/// A part of it, until it is dropped.
pub(super) struct Share<'a> {
    budget: &'a Budget,
    bytes: u64,
}

impl Budget {
    pub(super) fn new() -> Self {
        Self { left: Mutex::new(FRAMES_BYTES_MAX), returned: Condvar::new() }
    }

    fn left(&self) -> MutexGuard<'_, u64> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Room for one frame in both forms; waits for it. Whoever asks must hold no other share, so that all can
    /// never wait for each other.
    pub(super) fn share(&self, frame: Frame) -> Share<'_> {
        // The bounds of frames let any one fit; a larger claim is refused where it is decoded.
        let bytes = (u64::from(frame.stored) + u64::from(frame.raw)).min(FRAMES_BYTES_MAX);
        let wait = self.returned.wait_while(self.left(), |left| *left < bytes);
        *wait.unwrap_or_else(PoisonError::into_inner) -= bytes;
        Share { budget: self, bytes }
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        *self.budget.left() += self.bytes;
        self.budget.returned.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_waits_until_room_is_returned() {
        let budget = Budget::new();
        let frame = Frame { offset: 0, stored: 8 << 20, raw: 8 << 20 };
        let held = budget.share(frame);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| drop(budget.share(frame)));
            assert!(!waiting.is_finished());
            drop(held);
        });
        let huge = Frame { offset: 0, stored: u32::MAX, raw: u32::MAX };
        drop(budget.share(huge));
        assert_eq!(*budget.left(), FRAMES_BYTES_MAX);
    }
}
