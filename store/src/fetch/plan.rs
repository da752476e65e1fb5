//! Which ranges of which packs to read: pure, from places to runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::backend::Cost;
use crate::blob::Want;
use crate::digest::PackId;
use crate::locator::{PackFrame, Place};
use crate::pack::Frame;

/// A content inside a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) want: Want,
    pub(crate) offset: u32,
}

/// What follows each other in a pack and is decoded together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// A frame and the contents wanted from it.
    Frame(Frame, Vec<Piece>),
    /// A content of several frames.
    Large(Want, Arc<[PackFrame]>),
}

/// One read of one pack: parts in file order.
pub(crate) type Run = Vec<Part>;

/// Everything wanted from one pack.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PackRuns {
    pub(crate) pack: PackId,
    pub(crate) runs: Vec<Run>,
}

impl Part {
    /// Where it begins in the pack.
    pub(crate) fn offset(&self) -> u64 {
        match self {
            Self::Frame(frame, _) => frame.offset,
            Self::Large(_, frames) => frames.first().map_or(0, |first| first.frame.offset),
        }
    }

    /// Where it ends.
    pub(crate) fn end(&self) -> u64 {
        let last = match self {
            Self::Frame(frame, _) => Some(*frame),
            Self::Large(_, frames) => frames.last().map(|last| last.frame),
        };
        last.map_or(0, |last| last.offset.saturating_add(u64::from(last.stored)))
    }

    /// What is wanted from it.
    pub(crate) fn wants(&self) -> impl Iterator<Item = Want> + '_ {
        let (large, pieces) = match self {
            Self::Frame(_, pieces) => (None, pieces.as_slice()),
            Self::Large(want, _) => (Some(*want), [].as_slice()),
        };
        large.into_iter().chain(pieces.iter().map(|piece| piece.want))
    }
}

/// Groups wanted places into runs: one for neighbouring parts whose gap is cheaper than a request. Where most
/// of a pack is wanted, all of it is read.
pub(crate) fn runs<'a>(wanted: impl IntoIterator<Item = (Want, &'a Place)>, cost: Cost) -> Vec<PackRuns> {
    let mut frames: BTreeMap<(PackId, Frame), Vec<Piece>> = BTreeMap::new();
    let mut parts: BTreeMap<PackId, Vec<Part>> = BTreeMap::new();
    for (want, place) in wanted {
        match &*place.frames {
            [] => {}
            [one] => {
                frames.entry((one.pack, one.frame)).or_default().push(Piece { want, offset: place.offset })
            }
            [first, ..] => {
                parts.entry(first.pack).or_default().push(Part::Large(want, Arc::clone(&place.frames)))
            }
        }
    }
    for ((pack, frame), mut pieces) in frames {
        // A layer has tens of thousands: what growing left over is a mebibyte and more.
        pieces.shrink_to_fit();
        parts.entry(pack).or_default().push(Part::Frame(frame, pieces));
    }
    parts.into_iter().map(|(pack, parts)| PackRuns { pack, runs: joined(parts, cost) }).collect()
}

fn joined(mut parts: Vec<Part>, cost: Cost) -> Vec<Run> {
    parts.sort_by_key(Part::offset);
    let gap = if mostly_wanted(&parts, cost) { u64::MAX } else { cost.gap_bytes };
    let mut runs: Vec<Run> = Vec::new();
    for part in parts {
        match runs.last_mut() {
            Some(run) if joins(run, &part, gap, cost.run_bytes) => run.push(part),
            _ => runs.push(vec![part]),
        }
    }
    runs
}

fn mostly_wanted(parts: &[Part], cost: Cost) -> bool {
    let wanted: u64 = parts.iter().map(|part| part.end().saturating_sub(part.offset())).sum();
    let from = parts.first().map_or(0, Part::offset);
    let to = parts.iter().map(Part::end).max().unwrap_or(0);
    u128::from(wanted) * 100 > u128::from(to.saturating_sub(from)) * u128::from(cost.whole_percent)
}

fn joins(run: &[Part], next: &Part, gap: u64, run_bytes: u64) -> bool {
    let (Some(first), Some(last)) = (run.first(), run.last()) else { return false };
    // A hostile locator may let frames overlap; then each is read for itself.
    next.offset() >= last.end()
        && next.offset() - last.end() <= gap
        && next.end().saturating_sub(first.offset()) <= run_bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::{BlobId, Digest};

    const COST: Cost = Cost { parallel: 1, per_object: 1, gap_bytes: 10, run_bytes: 100, whole_percent: 100 };

    fn frame(pack: u8, offset: u64, stored: u32) -> PackFrame {
        let frame = Frame { offset, stored, raw: 50 };
        PackFrame { pack: PackId(Digest::from_bytes([pack; 32])), frame }
    }

    fn want(offset: u64) -> Want {
        Want { blob: BlobId::of(&offset.to_le_bytes()), size: 5, executable: false }
    }

    fn wanted(pack: u8, offset: u64, stored: u32) -> (Want, Place) {
        (want(offset), Place { frames: [frame(pack, offset, stored)].into(), offset: 0 })
    }

    fn lengths(wanted: &[(Want, Place)], cost: Cost) -> Vec<Vec<usize>> {
        let wanted = wanted.iter().map(|(want, place)| (*want, place));
        runs(wanted, cost).iter().map(|pack| pack.runs.iter().map(Vec::len).collect()).collect()
    }

    #[test]
    fn near_frames_are_one_request_and_far_ones_are_not() {
        let lengths = |wanted: &[_]| lengths(wanted, COST);
        assert_eq!(lengths(&[wanted(1, 30, 20), wanted(1, 0, 20), wanted(1, 61, 20)]), [[2, 1]]);
        assert_eq!(lengths(&[wanted(1, 0, 20), wanted(2, 20, 20)]), [[1], [1]], "another pack");
        assert_eq!(lengths(&[wanted(1, 0, 60), wanted(1, 60, 60)]), [[1, 1]], "longer than a run");
        assert_eq!(lengths(&[wanted(1, 0, 20), wanted(1, 10, 20)]), [[1, 1]], "overlapping");
    }

    #[test]
    fn a_large_content_is_read_with_its_neighbours() {
        let large = (want(9), Place { frames: [frame(1, 20, 10), frame(1, 30, 10)].into(), offset: 0 });
        assert_eq!(lengths(&[wanted(1, 40, 5), large, wanted(1, 0, 20)], COST), [[3]]);
    }

    #[test]
    fn a_pack_that_is_mostly_wanted_is_read_with_its_gaps() {
        let cost = Cost { whole_percent: 50, ..COST };
        let mostly = [wanted(1, 0, 20), wanted(1, 40, 30)];
        assert_eq!(lengths(&mostly, cost), [[2]]);
        assert_eq!(lengths(&mostly, COST), [[1, 1]]);
        assert_eq!(lengths(&[wanted(1, 0, 20), wanted(1, 70, 20)], cost), [[1, 1]], "less than half");
    }

    #[test]
    fn places_at_the_end_of_all_numbers_do_not_overflow() {
        let far = [wanted(1, u64::MAX - 3, 20), wanted(1, 0, 20), wanted(1, u64::MAX, u32::MAX)];
        assert_eq!(lengths(&far, Cost { gap_bytes: u64::MAX, run_bytes: u64::MAX, ..COST }).len(), 1);
    }
}
