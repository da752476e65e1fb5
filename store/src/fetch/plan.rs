//! Which ranges of which packs to read: pure, from places to runs.

use std::collections::BTreeMap;

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

/// A frame and what is wanted from it.
pub(crate) type FramePieces = (Frame, Vec<Piece>);

/// One read of one pack.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Run {
    /// Frames in file order, each with the contents wanted from it.
    Frames { pack: PackId, frames: Vec<FramePieces> },
    /// A content of several frames.
    Large { want: Want, frames: Vec<PackFrame> },
}

/// Groups wanted places into runs: one for neighbouring frames whose gap is cheaper than a request.
pub(crate) fn runs(wanted: &[(Want, Place)], cost: Cost) -> Vec<Run> {
    let mut by_frame: BTreeMap<(PackId, Frame), Vec<Piece>> = BTreeMap::new();
    let mut runs = Vec::new();
    for (want, place) in wanted {
        match place.frames.as_slice() {
            [one] => by_frame
                .entry((one.pack, one.frame))
                .or_default()
                .push(Piece { want: *want, offset: place.offset }),
            frames => runs.push(Run::Large { want: *want, frames: frames.to_vec() }),
        }
    }
    let mut open: Option<(PackId, Vec<FramePieces>)> = None;
    for ((pack, frame), pieces) in by_frame {
        match &mut open {
            Some((current, frames)) if *current == pack && joins(frames, frame, cost) => {
                frames.push((frame, pieces));
            }
            _ => {
                runs.extend(open.take().map(|(pack, frames)| Run::Frames { pack, frames }));
                open = Some((pack, vec![(frame, pieces)]));
            }
        }
    }
    runs.extend(open.map(|(pack, frames)| Run::Frames { pack, frames }));
    runs
}

fn joins(frames: &[FramePieces], next: Frame, cost: Cost) -> bool {
    let (Some((first, _)), Some((last, _))) = (frames.first(), frames.last()) else { return false };
    let end = last.offset + u64::from(last.stored);
    // A hostile locator may let frames overlap; then each is read for itself.
    next.offset >= end
        && next.offset - end <= cost.gap_bytes
        && next.offset + u64::from(next.stored) - first.offset <= cost.run_bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::{BlobId, Digest};

    const COST: Cost = Cost { parallel: 1, per_object: 1, gap_bytes: 10, run_bytes: 100 };

    fn wanted(pack: u8, offset: u64, stored: u32) -> (Want, Place) {
        let blob = BlobId::of(&offset.to_le_bytes());
        let frame = Frame { offset, stored, raw: 50 };
        let pack = PackId(Digest::from_bytes([pack; 32]));
        (
            Want { blob, size: 5, executable: false },
            Place { frames: vec![PackFrame { pack, frame }], offset: 0 },
        )
    }

    fn lengths(wanted: &[(Want, Place)]) -> Vec<usize> {
        runs(wanted, COST)
            .iter()
            .map(|run| match run {
                Run::Frames { frames, .. } => frames.len(),
                Run::Large { .. } => 0,
            })
            .collect()
    }

    #[test]
    fn near_frames_are_one_request_and_far_ones_are_not() {
        assert_eq!(lengths(&[wanted(1, 30, 20), wanted(1, 0, 20), wanted(1, 61, 20)]), [2, 1]);
        assert_eq!(lengths(&[wanted(1, 0, 20), wanted(2, 20, 20)]), [1, 1], "another pack");
        assert_eq!(lengths(&[wanted(1, 0, 60), wanted(1, 60, 60)]), [1, 1], "longer than a run");
        assert_eq!(lengths(&[wanted(1, 0, 20), wanted(1, 10, 20)]), [1, 1], "overlapping");
    }
}
