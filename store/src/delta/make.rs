//! Making a delta: head, what came, groups, each against what the reader has.

use std::io;

use super::change::{Change, Run};
use super::codec::compress;
use super::head::{Head, Part};
use super::plan::plan;
use super::span::{Span, Unreadable};
use crate::blob::BlobSource;
use crate::fetch::Watch;
use crate::limits::DELTA_GROUPS_MAX;

/// zstd's level: a real upgrade of 93 MB needs 4.5 MB instead of the 5.9 MB of level 3, for 0.7 s of processor
/// time more.
const LEVEL: i32 = 9;
/// New bytes above which time matters more.
const LEVEL_BYTES_MAX: u64 = 256 << 20;
/// The least of zstd's levels at which a long match costs next to nothing: 16 MB of a large content that only moved
/// take 1.7 kB, at level 3 24.6 kB, 200 bytes for each of its blocks.
pub(super) const LEVEL_ABOVE: i32 = 5;

/// Why there is no delta.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MakeError {
    /// It would be no smaller than what it replaces.
    #[error("it would have more than {0} bytes, too little less than its packs")]
    NotWorth(u64),
    /// Beyond what a delta may be.
    #[error("the new contents need more groups than a delta may have")]
    TooLarge,
    /// A content of either side is missing or damaged.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// The compressor failed.
    #[error("cannot compress: {0}")]
    Compress(#[from] io::Error),
    /// Whoever watches asked to stop.
    #[error("interrupted")]
    Cancelled,
}

/// The delta of a change, of at most `max` bytes, in pieces that follow one another. `old` and `new` have the
/// contents of the two trees. One group is in memory at a time, beside what has been compressed.
pub(crate) fn make(
    change: &Change,
    runs: Vec<Run>,
    old: &dyn BlobSource,
    new: &dyn BlobSource,
    max: u64,
    watch: &Watch<'_>,
) -> Result<Vec<Vec<u8>>, MakeError> {
    let level = if change.new_bytes() <= LEVEL_BYTES_MAX { LEVEL } else { LEVEL_ABOVE };
    let came = change.came.encode();
    let frame = compress(&change.gone.encode(), &came, level)?;
    let came = Part { raw: came.len() as u64, stored: frame.len() as u64 };
    let mut groups = Vec::new();
    let mut pieces = vec![Vec::new(), frame];
    let plan = plan(change);
    if plan.len() as u64 > DELTA_GROUPS_MAX {
        return Err(MakeError::TooLarge);
    }
    let (mut old, mut new) = (Span::new(old, &change.old), Span::new(new, &change.new));
    let mut at = 0;
    let mut bytes = came.stored;
    for group in plan {
        if bytes > max {
            return Err(MakeError::NotWorth(max));
        }
        // Neither length is larger than a group may be.
        let raw = new.move_to(at, group.new as usize)?;
        let frame = compress(old.move_to(group.old_from, group.old as usize)?, raw, level)?;
        at += group.new;
        bytes += frame.len() as u64;
        groups.push((group, frame.len() as u64));
        pieces.push(frame);
        if (watch.cancel)() {
            return Err(MakeError::Cancelled);
        }
    }
    let head = Head { runs, came, groups }.encode();
    bytes += head.len() as u64;
    pieces[0] = head;
    if bytes > max { Err(MakeError::NotWorth(max)) } else { Ok(pieces) }
}
