//! The memory of a fetch: however many workers it has, the frames they hold together are bounded.
//!
//! Frames live in mappings of their own, which return to the system at once. From the allocator they would
//! come out of one heap for each thread, and each of these keeps the most it ever had (measured with eight
//! workers: 70 MiB instead of 40).

use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use memmap2::MmapMut;

use crate::limits::{FRAME_RAW_BYTES_MAX, FRAME_STORED_BYTES_MAX};
use crate::pack::{Frame, FrameDecoder, PackError};

/// Bytes of frames, stored and decompressed, that all workers hold together: the largest possible frame, or
/// three real ones. What else a fetch needs grows with the number of files (`docs/benchmarks.md`).
const FRAMES_BYTES_MAX: usize = FRAME_STORED_BYTES_MAX + FRAME_RAW_BYTES_MAX;

/// What is left of it.
pub(super) struct Budget {
    left: Mutex<usize>,
    returned: Condvar,
}

/// Room for one frame in both forms, until it is dropped.
pub(super) struct Room<'a> {
    budget: &'a Budget,
    frame: Frame,
    memory: MmapMut,
}

impl Budget {
    pub(super) fn new() -> Self {
        Self { left: Mutex::new(FRAMES_BYTES_MAX), returned: Condvar::new() }
    }

    fn left(&self) -> MutexGuard<'_, usize> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Room for a frame; waits for it. Whoever asks must hold no other, so that all can never wait for each
    /// other.
    pub(super) fn room(&self, frame: Frame) -> io::Result<Room<'_>> {
        if frame.raw as usize > FRAME_RAW_BYTES_MAX || frame.stored as usize > FRAME_STORED_BYTES_MAX {
            return Err(io::Error::other("its frame is larger than any"));
        }
        let memory = MmapMut::map_anon(bytes(frame))?;
        let left = self.returned.wait_while(self.left(), |left| *left < bytes(frame));
        *left.unwrap_or_else(PoisonError::into_inner) -= bytes(frame);
        Ok(Room { budget: self, frame, memory })
    }
}

const fn bytes(frame: Frame) -> usize {
    frame.stored as usize + frame.raw as usize
}

impl Room<'_> {
    /// Where the stored frame goes.
    pub(super) fn stored(&mut self) -> &mut [u8] {
        &mut self.memory[..self.frame.stored as usize]
    }

    /// Decompresses the stored frame.
    pub(super) fn decode(&mut self, decoder: &mut FrameDecoder) -> Result<(), PackError> {
        let (stored, raw) = self.memory.split_at_mut(self.frame.stored as usize);
        decoder.decode_into(stored, self.frame.offset, &mut raw[..self.frame.raw as usize])
    }
}

impl AsRef<[u8]> for Room<'_> {
    /// The decompressed frame.
    fn as_ref(&self) -> &[u8] {
        &self.memory[self.frame.stored as usize..][..self.frame.raw as usize]
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        *self.budget.left() += bytes(self.frame);
        self.budget.returned.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_waits_until_room_is_returned() {
        let budget = Budget::new();
        let frame =
            Frame { offset: 0, stored: FRAME_STORED_BYTES_MAX as u32, raw: FRAME_RAW_BYTES_MAX as u32 };
        let held = budget.room(frame).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| drop(budget.room(frame).unwrap()));
            assert!(!waiting.is_finished());
            drop(held);
        });
        assert_eq!(*budget.left(), FRAMES_BYTES_MAX);
    }

    #[test]
    fn a_claim_beyond_all_frames_reserves_nothing() {
        let budget = Budget::new();
        for (stored, raw) in [(1, u32::MAX), (u32::MAX, 1), (u32::MAX, u32::MAX)] {
            assert!(budget.room(Frame { offset: 0, stored, raw }).is_err());
        }
        assert_eq!(*budget.left(), FRAMES_BYTES_MAX);
    }
}
