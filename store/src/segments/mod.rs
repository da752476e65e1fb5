//! Trees in segments: how a large tree travels when a host has one that is much like it.
//!
//! A tree's canonical bytes are cut between entries, by a rule that looks at paths alone and only at near
//! ones: an entry begins a segment if the hash of its path is the smallest among its [`NEIGHBOURS`] on either
//! side. So two trees that differ in one entry differ in at most four segments, and in one if only the entry's
//! content differs, however the trees came about. No segment but the only one has fewer than [`NEIGHBOURS`]
//! entries; the mean is twice that, about 16 KiB.
//!
//! A store keeps each segment of a large tree as a zstd frame of its own, one behind the other, and beside them
//! a list of the segments. A host reads the list, cuts the trees that it has, and asks for the ranges that it
//! lacks. All of this is transport: what comes of it is verified against the tree's id.

mod assembly;

use std::ops::Range;

pub use assembly::{Assembly, Span};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::digest::TreeId;
use crate::inflate::{deflate, inflate};
use crate::limits::{LAYER_ENTRIES_MAX, SEGMENT_LIST_RAW_BYTES_MAX, SEGMENTED_FILES_MIN, TREE_BYTES_MAX};

/// Entries on either side among which a segment's first one has the smallest hash. For a tree of 79,251
/// entries of which one changed, fewer would make the list longer than the segment, more the segment longer
/// than the list.
pub const NEIGHBOURS: usize = 64;
/// Bytes of a segment's id. Two of a million segments share one by chance once in a few hundred trees, which
/// costs a fetch of the whole tree.
const ID_BYTES: usize = 6;
const LEVEL: i32 = 3;

/// The first bytes of the plain BLAKE3 of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId([u8; ID_BYTES]);

impl SegmentId {
    /// The id of these bytes.
    pub fn of(segment: &[u8]) -> Self {
        let hash = blake3::hash(segment);
        Self(std::array::from_fn(|at| hash.as_bytes()[at]))
    }
}

/// One segment in the stored form of its tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// What it holds.
    pub id: SegmentId,
    /// Where its frame begins.
    pub offset: u64,
    /// Bytes of the frame.
    pub stored: u32,
}

/// The segments of a tree, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentList(Vec<Segment>);

/// Why a list cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the segments of tree {tree} are unusable: {why}")]
pub struct SegmentError {
    tree: TreeId,
    why: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    v: u32,
    tree: TreeId,
    ids: String,
    bytes: Vec<u32>,
}

/// Whether a tree with so many files is stored in segments. Known before the tree is: the manifest says it.
pub const fn in_segments(files: u64) -> bool {
    files >= SEGMENTED_FILES_MIN
}

/// Where the segments of canonical bytes are. Joined in order they are those bytes, whatever they hold.
pub fn cut(text: &[u8]) -> Vec<Range<usize>> {
    let mut starts = Vec::new();
    let mut hashes = Vec::new();
    let mut at = 0;
    // The header is no entry; it belongs to the first segment.
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        if at > 0 {
            starts.push(at);
            hashes.push(hash_of_path(line));
        }
        at += line.len();
    }
    let mut cuts = Vec::new();
    let mut from = 0;
    for (index, start) in starts.iter().enumerate() {
        if begins(&hashes, index) {
            cuts.push(from..*start);
            from = *start;
        }
    }
    if from < text.len() {
        cuts.push(from..text.len());
    }
    cuts
}

fn hash_of_path(line: &[u8]) -> u64 {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let path = line.iter().rposition(|byte| *byte == b' ').map_or(line, |space| &line[space + 1..]);
    let hash = blake3::hash(path);
    u64::from_le_bytes(std::array::from_fn(|at| hash.as_bytes()[at]))
}

fn begins(hashes: &[u64], index: usize) -> bool {
    let own = hashes[index];
    let (Some(before), Some(after)) = (
        index.checked_sub(NEIGHBOURS).map(|from| &hashes[from..index]),
        hashes.get(index + 1..index + 1 + NEIGHBOURS),
    ) else {
        return false;
    };
    before.iter().all(|hash| own < *hash) && after.iter().all(|hash| own <= *hash)
}

/// The stored form of a tree in segments, and the list of them.
pub fn encode(text: &[u8], tree: TreeId, level: i32) -> std::io::Result<(Vec<u8>, Vec<u8>)> {
    let frames: Vec<(SegmentId, Vec<u8>)> = cut(text)
        .into_par_iter()
        .map(|range| Ok((SegmentId::of(&text[range.clone()]), deflate(&text[range], level)?)))
        .collect::<std::io::Result<_>>()?;
    let mut stored = Vec::with_capacity(frames.iter().map(|(_, frame)| frame.len()).sum());
    let mut wire = Wire { v: 1, tree, ids: String::new(), bytes: Vec::with_capacity(frames.len()) };
    for (id, frame) in &frames {
        wire.ids.extend(id.0.iter().map(|byte| format!("{byte:02x}")));
        wire.bytes.push(u32::try_from(frame.len()).map_err(std::io::Error::other)?);
        stored.extend_from_slice(frame);
    }
    let list = deflate(&serde_json::to_vec(&wire)?, LEVEL)?;
    Ok((stored, list))
}

impl SegmentList {
    /// Reads the list of a tree; every number is checked, and there is one spelling of each list.
    pub fn decode(bytes: &[u8], tree: TreeId) -> Result<Self, SegmentError> {
        let fail = |why: String| SegmentError { tree, why };
        let text = inflate(bytes, SEGMENT_LIST_RAW_BYTES_MAX).map_err(|error| fail(error.to_string()))?;
        let wire: Wire = serde_json::from_slice(&text).map_err(|error| fail(error.to_string()))?;
        if wire.v != 1 || wire.tree != tree {
            return Err(fail("they are another tree's, or from a newer landfall".to_owned()));
        }
        if serde_json::to_vec(&wire).map_err(|error| fail(error.to_string()))? != text {
            return Err(fail("the list is not in canonical form".to_owned()));
        }
        let count = wire.bytes.len();
        if count == 0 || count > LAYER_ENTRIES_MAX / NEIGHBOURS || wire.ids.len() != count * ID_BYTES * 2 {
            return Err(fail(format!("{count} lengths and {} digits", wire.ids.len())));
        }
        let mut offset = 0;
        let mut segments = Vec::with_capacity(count);
        for (digits, stored) in wire.ids.as_bytes().chunks_exact(ID_BYTES * 2).zip(wire.bytes) {
            let id = id(digits).ok_or_else(|| fail("an id is not in hex digits".to_owned()))?;
            if stored == 0 {
                return Err(fail("a segment of no bytes".to_owned()));
            }
            segments.push(Segment { id, offset, stored });
            offset += u64::from(stored);
        }
        if offset > TREE_BYTES_MAX as u64 {
            return Err(fail(format!("{offset} bytes are more than any tree has")));
        }
        Ok(Self(segments))
    }

    /// The segments, in order.
    pub fn segments(&self) -> &[Segment] {
        &self.0
    }
}

fn id(digits: &[u8]) -> Option<SegmentId> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut id = [0; ID_BYTES];
    for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(SegmentId(id))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::digest::BlobId;
    use crate::path::EntryPath;
    use crate::tree::{Entry, Kind, Tree};
    use proptest::prelude::*;

    pub fn file(number: usize, content: usize) -> Entry {
        let path = EntryPath::new(format!("node_modules/p{}/lib/f{number}.js", number % 97)).unwrap();
        let blob = BlobId::of(&content.to_le_bytes());
        Entry { path, kind: Kind::File { size: 1 + content as u64 % 9_000, blob, executable: false } }
    }

    pub fn tree(files: usize) -> Vec<Entry> {
        (0..files).map(|number| file(number, number)).collect()
    }

    pub fn text(entries: Vec<Entry>) -> Vec<u8> {
        Tree::from_entries(entries).unwrap().encode()
    }

    fn ids(text: &[u8]) -> Vec<SegmentId> {
        cut(text).into_iter().map(|range| SegmentId::of(&text[range])).collect()
    }

    pub fn listed(text: &[u8]) -> (Vec<u8>, SegmentList, TreeId) {
        let id = TreeId::of(text);
        let (stored, list) = encode(text, id, 3).unwrap();
        (stored, SegmentList::decode(&list, id).unwrap(), id)
    }

    /// How many segments of `new` a host with `old` has to fetch.
    fn altered(old: &[u8], new: &[u8]) -> usize {
        let old = ids(old);
        ids(new).iter().filter(|id| !old.contains(id)).count()
    }

    #[test]
    fn segments_are_about_sixteen_kibibytes_and_none_is_a_scrap() {
        let text = text(tree(20_000));
        let cuts = cut(&text);
        let mean = text.len() / cuts.len();
        assert!((8 << 10..32 << 10).contains(&mean), "{mean}");
        let entries =
            |range: &Range<usize>| text[range.clone()].iter().filter(|byte| **byte == b'\n').count();
        assert!(cuts.iter().all(|range| entries(range) >= NEIGHBOURS));
    }

    #[test]
    fn a_list_has_one_spelling_and_every_other_is_refused() {
        let text = text(tree(1_000));
        let id = TreeId::of(&text);
        let (_, list) = encode(&text, id, 3).unwrap();
        let plain = String::from_utf8(inflate(&list, 1 << 20).unwrap()).unwrap();
        let read = |text: &str| SegmentList::decode(&deflate(text.as_bytes(), 3).unwrap(), id);
        read(&plain).unwrap();
        for (from, to) in [
            ("{", "{ "),
            ("\"v\":1", "\"v\":2"),
            ("\"ids\":\"", "\"ids\":\"0"),
            ("\"ids\":\"", "\"ids\":\"0000zz000000"),
            ("\"bytes\":[", "\"bytes\":[0,"),
            ("\"bytes\":[", "\"more\":1,\"bytes\":["),
        ] {
            let other = plain.replacen(from, to, 1);
            assert_ne!(other, plain);
            assert!(read(&other).is_err(), "{to}");
        }
        assert!(SegmentList::decode(&list, TreeId::of(b"another")).is_err());
    }

    #[test]
    fn the_golden_cuts_stay() {
        let text = text(tree(2_000));
        let lengths: Vec<usize> = cut(&text).iter().map(Range::len).take(4).collect();
        assert_eq!(lengths, GOLDEN);
    }
    const GOLDEN: [usize; 4] = [8138, 11092, 9464, 10890];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_bytes_are_cut_without_loss(bytes in prop::collection::vec(prop::sample::select(b"ab \n/".to_vec()), 0..4_000)) {
            let joined: Vec<u8> = cut(&bytes).into_iter().flat_map(|range| bytes[range].to_vec()).collect();
            prop_assert_eq!(joined, bytes);
        }

        #[test]
        fn one_change_alters_few_segments(at in 0..4_000usize, kind in 0..3u8) {
            let old = tree(4_000);
            let mut new = old.clone();
            match kind {
                0 => new[at] = file(at, 123_456),
                1 => drop(new.remove(at)),
                _ => new.push(file(4_000 + at, at)),
            }
            let bound = if kind == 0 { 1 } else { 4 };
            prop_assert!(altered(&text(old), &text(new)) <= bound);
        }

        #[test]
        fn a_damaged_list_is_refused_or_is_a_list(at in 0..200usize, bit in 0..8u8) {
            let text = text(tree(600));
            let id = TreeId::of(&text);
            let (_, mut list) = encode(&text, id, 3).unwrap();
            let at = at % list.len();
            list[at] ^= 1 << bit;
            if let Ok(read) = SegmentList::decode(&list, id) {
                prop_assert!(!read.segments().is_empty());
            }
        }
    }
}
