//! Who reads which run next: several packs at once, a few requests for each, and everything of a pack from one
//! stream where its place has no ranges.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::plan::{PackRuns, Part, Run};
use crate::digest::PackId;

/// Runs that nobody reads yet.
pub(super) struct Queue(Mutex<Vec<Pack>>);

struct Pack {
    pack: PackId,
    /// From last to first.
    runs: Vec<Run>,
    in_flight: usize,
    /// Whether one stream brings the whole pack.
    whole: bool,
}

/// A run that one worker reads. Given back with [`Queue::done`].
#[derive(Debug)]
pub(super) struct Taken {
    index: usize,
    pub(super) pack: PackId,
    pub(super) run: Run,
}

impl Queue {
    pub(super) fn new(packs: Vec<PackRuns>) -> Self {
        let queued = packs.into_iter().map(|PackRuns { pack, mut runs }| {
            runs.reverse();
            Pack { pack, runs, in_flight: 0, whole: false }
        });
        Self(Mutex::new(queued.collect()))
    }

    fn packs(&self) -> MutexGuard<'_, Vec<Pack>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next run of the pack that is read the least; of no pack more than `per_pack` at a time. A worker
    /// that gets none may end: every run that is left belongs to packs that others still read.
    pub(super) fn take(&self, per_pack: usize) -> Option<Taken> {
        let mut packs = self.packs();
        let free = |pack: &Pack| !pack.whole && pack.in_flight < per_pack && !pack.runs.is_empty();
        let free = packs.iter_mut().enumerate().filter(|(_, pack)| free(pack));
        let (index, pack) = free.min_by_key(|(_, pack)| pack.in_flight)?;
        let run = pack.runs.pop()?;
        pack.in_flight += 1;
        Some(Taken { index, pack: pack.pack, run })
    }

    /// The stream of a run turned out to be the whole pack. The first such stream gets every part that nobody
    /// else reads; to others it is `None`, and their run goes back to be read by the first.
    pub(super) fn claim(&self, taken: &mut Taken) -> Option<Vec<Part>> {
        let pack = &mut self.packs()[taken.index];
        let run = std::mem::take(&mut taken.run);
        if std::mem::replace(&mut pack.whole, true) {
            pack.runs.push(run);
            return None;
        }
        let mut parts: Vec<Part> = pack.runs.drain(..).flatten().chain(run).collect();
        parts.sort_by_key(Part::offset);
        Some(parts)
    }

    /// What was given back to a pack since, as far as its stream is not past it.
    pub(super) fn given_back(&self, taken: &Taken, at: u64) -> Vec<Part> {
        let pack = &mut self.packs()[taken.index];
        let ahead = |run: &mut Run| run.first().is_none_or(|first| first.offset() >= at);
        pack.runs.extract_if(.., ahead).flatten().collect()
    }

    /// A run was read, or given up. If its stream was the whole pack, what that did not bring is free again.
    pub(super) fn done(&self, taken: &Taken, whole: bool) {
        let pack = &mut self.packs()[taken.index];
        pack.in_flight -= 1;
        if whole {
            pack.whole = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::pack::Frame;

    fn part(offset: u64) -> Part {
        Part::Frame(Frame { offset, stored: 10, raw: 10 }, Vec::new())
    }

    fn queue(packs: &[&[u64]]) -> Queue {
        let runs = |offsets: &[u64]| offsets.iter().map(|offset| vec![part(*offset)]).collect();
        let pack = |(n, offsets): (usize, &&[u64])| PackRuns {
            pack: PackId(Digest::from_bytes([n as u8; 32])),
            runs: runs(offsets),
        };
        Queue::new(packs.iter().enumerate().map(pack).collect())
    }

    fn next(queue: &Queue, per_pack: usize) -> Option<(usize, u64, Taken)> {
        let taken = queue.take(per_pack)?;
        Some((taken.index, taken.run[0].offset(), taken))
    }

    #[test]
    fn packs_are_read_side_by_side_and_none_by_everybody() {
        let queue = queue(&[&[0, 10, 20], &[0, 10]]);
        let mut held = Vec::new();
        while let Some((pack, offset, taken)) = next(&queue, 2) {
            held.push((pack, offset, taken));
        }
        let order: Vec<_> = held.iter().map(|(pack, offset, _)| (*pack, *offset)).collect();
        assert_eq!(order, [(0, 0), (1, 0), (0, 10), (1, 10)]);
        queue.done(&held[0].2, false);
        assert_eq!(next(&queue, 2).map(|(pack, offset, _)| (pack, offset)), Some((0, 20)));
    }

    #[test]
    fn one_whole_stream_takes_everything_of_its_pack() {
        let queue = queue(&[&[30, 10, 20, 40]]);
        let (_, _, mut first) = next(&queue, 4).unwrap();
        let (_, _, mut second) = next(&queue, 4).unwrap();
        let offsets = |parts: Vec<Part>| parts.iter().map(Part::offset).collect::<Vec<_>>();
        assert_eq!(offsets(queue.claim(&mut first).unwrap()), [20, 30, 40]);
        assert!(queue.take(4).is_none(), "nobody else begins with this pack");
        assert!(queue.claim(&mut second).is_none());
        queue.done(&second, false);
        assert!(queue.given_back(&first, 11).is_empty(), "already past it");
        assert_eq!(offsets(queue.given_back(&first, 10)), [10]);
        queue.done(&first, true);
        assert!(queue.take(4).is_none());
    }

    #[test]
    fn what_a_whole_stream_passed_is_read_again() {
        let queue = queue(&[&[30, 10]]);
        let (_, _, mut first) = next(&queue, 4).unwrap();
        let (_, _, mut second) = next(&queue, 4).unwrap();
        queue.claim(&mut first).unwrap();
        queue.claim(&mut second);
        queue.done(&second, false);
        queue.done(&first, true);
        assert_eq!(next(&queue, 4).map(|(_, offset, _)| offset), Some(10));
    }
}
