//! A tree put together from what a host has of other trees, and from what it fetches.

use std::collections::HashMap;
use std::ops::Range;

use super::{Segment, SegmentId, SegmentList, cut};
use crate::inflate::inflate;
use crate::limits::{TREE_BYTES_MAX, TREE_RANGES_MAX};

/// A range of a stored tree, and the segments in it that are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Where it begins.
    pub offset: u64,
    /// Its length.
    pub length: u64,
    /// Indexes into the list.
    pub wanted: Vec<usize>,
}

/// A tree that is put together from segments of other trees and from what is fetched.
#[derive(Debug)]
pub struct Assembly {
    list: SegmentList,
    bases: Vec<Vec<u8>>,
    pieces: Vec<Piece>,
    fetched_bytes: usize,
}

#[derive(Debug, Clone)]
enum Piece {
    Lacking,
    Base(usize, Range<usize>),
    Fetched(Vec<u8>),
}

impl Assembly {
    /// One that lacks everything.
    pub fn new(list: SegmentList) -> Self {
        let pieces = vec![Piece::Lacking; list.0.len()];
        Self { list, bases: Vec::new(), pieces, fetched_bytes: 0 }
    }

    /// Takes what it can use out of the canonical bytes of another tree; how many segments that was.
    pub fn take_from(&mut self, base: Vec<u8>) -> usize {
        let here: HashMap<SegmentId, Range<usize>> =
            cut(&base).into_iter().map(|range| (SegmentId::of(&base[range.clone()]), range)).collect();
        let number = self.bases.len();
        let mut taken = 0;
        for (piece, segment) in self.pieces.iter_mut().zip(&self.list.0) {
            if let (Piece::Lacking, Some(range)) = (&piece, here.get(&segment.id)) {
                *piece = Piece::Base(number, range.clone());
                taken += 1;
            }
        }
        if taken > 0 {
            self.bases.push(base);
        }
        taken
    }

    /// Whether so little is lacking that looking further is not worth it.
    pub fn is_nearly_whole(&self) -> bool {
        let lacking = self.pieces.iter().filter(|piece| matches!(piece, Piece::Lacking)).count();
        lacking * 20 <= self.pieces.len()
    }

    /// The ranges that hold what is lacking: as few bytes as [`TREE_RANGES_MAX`] requests allow.
    pub fn lacking(&self) -> Vec<Span> {
        let mut spans: Vec<Span> = Vec::new();
        for (index, (piece, segment)) in self.pieces.iter().zip(&self.list.0).enumerate() {
            if matches!(piece, Piece::Lacking) {
                spans.push(Span {
                    offset: segment.offset,
                    length: u64::from(segment.stored),
                    wanted: vec![index],
                });
            }
        }
        join_nearest(spans)
    }

    /// Takes a span's bytes in.
    pub fn put(&mut self, span: &Span, stored: &[u8]) -> Result<(), String> {
        for index in &span.wanted {
            let Segment { id, offset, stored: length } = self.list.0[*index];
            let from = usize::try_from(offset - span.offset).map_err(|error| error.to_string())?;
            let frame =
                stored.get(from..from + length as usize).ok_or("the tree ends before its segments")?;
            // All of them together are a tree: what claims to be more is none.
            let room = TREE_BYTES_MAX - self.fetched_bytes;
            let segment = inflate(frame, room).map_err(|error| error.to_string())?;
            self.fetched_bytes += segment.len();
            if SegmentId::of(&segment) != id {
                return Err("a segment is not what the list says".to_owned());
            }
            self.pieces[*index] = Piece::Fetched(segment);
        }
        Ok(())
    }

    /// The canonical bytes, if nothing is lacking. They are verified by nobody yet.
    pub fn finish(&self) -> Option<Vec<u8>> {
        let pieces = self.pieces.iter().map(|piece| match piece {
            Piece::Lacking => None,
            Piece::Base(base, range) => Some(&self.bases[*base][range.clone()]),
            Piece::Fetched(bytes) => Some(bytes.as_slice()),
        });
        let pieces: Vec<&[u8]> = pieces.collect::<Option<_>>()?;
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        (length <= TREE_BYTES_MAX).then(|| pieces.concat())
    }
}

/// Joins neighbours, and then those with the smallest gaps until there are few enough.
fn join_nearest(spans: Vec<Span>) -> Vec<Span> {
    let mut gaps: Vec<u64> =
        spans.windows(2).map(|pair| pair[1].offset - (pair[0].offset + pair[0].length)).collect();
    let kept = (TREE_RANGES_MAX - 1).min(gaps.len());
    gaps.sort_unstable_by(|a, b| b.cmp(a));
    // As many gaps stay as there may be; of equal ones at the edge all are read over.
    let bound = gaps.get(kept).copied().unwrap_or(0);
    let mut joined: Vec<Span> = Vec::new();
    for span in spans {
        match joined.last_mut() {
            Some(last) if span.offset - (last.offset + last.length) <= bound => {
                last.length = span.offset + span.length - last.offset;
                last.wanted.extend(span.wanted);
            }
            _ => joined.push(span),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::super::tests::{file, listed, text, tree};
    use super::*;
    use crate::digest::TreeId;

    #[test]
    fn a_tree_reads_back_from_its_frames_like_any_other_and_by_its_list() {
        let text = text(tree(3_000));
        let (stored, list, id) = listed(&text);
        assert_eq!(inflate(&stored, TREE_BYTES_MAX).unwrap(), text);
        let last = list.segments().last().unwrap();
        assert_eq!(last.offset + u64::from(last.stored), stored.len() as u64);
        let mut assembly = Assembly::new(list);
        assert_eq!(assembly.finish(), None);
        let whole = assembly.lacking();
        assert_eq!((whole.len(), whole[0].length), (1, stored.len() as u64), "neighbours are one request");
        assembly.put(&whole[0], &stored).unwrap();
        assert_eq!(TreeId::of(&assembly.finish().unwrap()), id);
    }

    #[test]
    fn a_host_with_the_last_version_asks_for_what_changed_only() {
        let (old, mut new) = (text(tree(10_000)), tree(10_000));
        new[5_000] = file(5_000, 77_777);
        let new = text(new);
        let (stored, list, id) = listed(&new);
        let mut assembly = Assembly::new(list);
        assembly.take_from(old);
        let spans = assembly.lacking();
        assert_eq!(spans.len(), 1);
        assert!(spans[0].length < 16 << 10, "{spans:?}");
        let range = spans[0].offset as usize..(spans[0].offset + spans[0].length) as usize;
        assembly.put(&spans[0], &stored[range]).unwrap();
        assert_eq!(TreeId::of(&assembly.finish().unwrap()), id);
    }

    #[test]
    fn however_much_changed_a_tree_takes_a_bounded_number_of_requests() {
        let (old, mut new) = (text(tree(30_000)), tree(30_000));
        for number in (0..30_000).step_by(500) {
            new[number] = file(number, 100_000 + number);
        }
        let (stored, list, _) = listed(&text(new));
        let mut assembly = Assembly::new(list);
        assembly.take_from(old);
        let spans = assembly.lacking();
        assert!((2..=TREE_RANGES_MAX).contains(&spans.len()), "{}", spans.len());
        assert!(spans.windows(2).all(|pair| pair[0].offset + pair[0].length < pair[1].offset));
        for span in &spans {
            let range = span.offset as usize..(span.offset + span.length) as usize;
            assembly.put(span, &stored[range]).unwrap();
        }
        assert!(assembly.finish().is_some());
    }

    #[test]
    fn other_bytes_than_the_list_says_are_refused() {
        let text = text(tree(2_000));
        let (stored, list, _) = listed(&text);
        for damaged in [&stored[..stored.len() - 1], &[]] {
            let mut assembly = Assembly::new(list.clone());
            let span = assembly.lacking().remove(0);
            assert!(assembly.put(&span, damaged).is_err());
        }
        let mut swapped = list;
        swapped.0[0].id = swapped.0[1].id;
        let mut assembly = Assembly::new(swapped);
        let span = assembly.lacking().remove(0);
        assert!(assembly.put(&span, &stored).is_err());
    }
}
