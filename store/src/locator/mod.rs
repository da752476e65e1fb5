//! Locators: where the contents of a tree are. Advisory: every content is verified against the tree, so a
//! wrong or hostile locator costs time and never gives wrong bytes.

mod table;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::digest::{BlobId, PackId, TreeId};
use crate::inflate::{deflate, inflate};
use crate::limits::{
    FRAME_RAW_BYTES_MAX, FRAME_RAW_BYTES_TARGET, FRAME_STORED_BYTES_MAX, LOCATOR_RAW_BYTES_MAX,
};
use crate::pack::{Directory, Frame};
use crate::tree::Tree;
use table::{FRAME_BYTES_LEAST, Run, Spot, Table};

const LEVEL: i32 = 3;
const FILL: u32 = FRAME_RAW_BYTES_TARGET as u32;
/// A frame of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackFrame {
    /// The pack.
    pub pack: PackId,
    /// The frame in it.
    pub frame: Frame,
}

/// Where a content is: an offset in one frame, or, above [`FRAME_RAW_BYTES_MAX`], whole consecutive frames.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// The frames it is in. Contents of one frame share them: a layer has a hundred times as many contents as frames.
    pub frames: Arc<[PackFrame]>,
    /// Where it begins in the first.
    pub offset: u32,
}

/// Where contents are.
pub type Places = HashMap<BlobId, Place>;

/// The frames of contents that come in order, each list of them once.
struct Shared<F> {
    frame: F,
    last: Option<(Range<usize>, Arc<[PackFrame]>)>,
}

impl<F: Fn(usize) -> PackFrame> Shared<F> {
    /// `frame` gives the frame of a number.
    fn new(frame: F) -> Self {
        Self { frame, last: None }
    }

    fn of(&mut self, numbers: Range<usize>) -> Arc<[PackFrame]> {
        match &self.last {
            Some((last, frames)) if *last == numbers => Arc::clone(frames),
            _ => {
                let frames: Arc<[PackFrame]> = numbers.clone().map(&self.frame).collect();
                self.last = Some((numbers, Arc::clone(&frames)));
                frames
            }
        }
    }
}

/// Why a locator cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the locator of tree {tree} is unusable: {why}")]
pub struct LocatorError {
    tree: TreeId,
    why: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    v: u32,
    tree: TreeId,
    #[serde(rename = "gen")]
    generation: u64,
    packs: Vec<PackId>,
    /// Raw bytes up to which contents share a frame.
    fill: u32,
    /// Frames that follow one another in a pack: which pack, the first one's offset, then two numbers for
    /// each: compressed bytes, and raw bytes or 0 where the rule gives them.
    frames: Vec<(u32, u64, Vec<u32>)>,
    runs: Vec<Run>,
}

/// The distinct contents of a tree that are stored, with their sizes, in order of first appearance. The
/// empty content is never stored.
pub fn stored_blobs(tree: &Tree) -> Vec<(BlobId, u64)> {
    let mut seen = std::collections::HashSet::new();
    tree.blobs().filter(|(blob, size)| *size > 0 && seen.insert(*blob)).collect()
}

/// The places of everything in a pack.
pub fn places_in(pack: PackId, directory: &Directory) -> impl Iterator<Item = (BlobId, Place)> + '_ {
    let mut shared = Shared::new(move |number: usize| PackFrame { pack, frame: directory.frames()[number] });
    directory.objects().iter().map(move |object| {
        let first = object.frame as usize;
        let mut left = object.size + u64::from(object.offset);
        let spans = directory.frames()[first..].iter().take_while(|frame| {
            let wanted = left > 0;
            left = left.saturating_sub(u64::from(frame.raw));
            wanted
        });
        let frames = first..first + spans.count();
        (object.blob, Place { frames: shared.of(frames), offset: object.offset })
    })
}

/// Writes the locator of a tree all of whose contents have a place.
pub fn encode(tree: &Tree, id: TreeId, generation: u64, places: &Places) -> Result<Vec<u8>, LocatorError> {
    let fail = |why: String| LocatorError { tree: id, why };
    let mut contents = Vec::new();
    for (blob, size) in stored_blobs(tree) {
        let place = places.get(&blob).ok_or_else(|| fail(format!("content {blob} has no place")))?;
        contents.push((size, place));
    }
    // Neighbours mostly share their frames: each list of them is looked at once.
    let same = |a: &(u64, &Place), b: &(u64, &Place)| Arc::ptr_eq(&a.1.frames, &b.1.frames);
    let lists = || contents.chunk_by(same).map(|list| (list[0].1.frames.as_ref(), list));
    let mut packs: Vec<PackId> = Vec::new();
    let mut numbers = HashMap::new();
    for PackFrame { pack, .. } in lists().flat_map(|(frames, _)| frames) {
        numbers.entry(*pack).or_insert_with(|| {
            packs.push(*pack);
            packs.len() - 1
        });
    }
    let frames = lists().flat_map(|(frames, _)| frames);
    let mut frames: Vec<(usize, Frame)> =
        frames.map(|PackFrame { pack, frame }| (numbers[pack], *frame)).collect();
    frames.sort_unstable();
    frames.dedup();
    let number = |at: &PackFrame| frames.binary_search(&(numbers[&at.pack], at.frame)).unwrap_or_default();
    let positions = lists().flat_map(|(list, contents)| {
        let first = number(&list[0]);
        contents.iter().map(move |(_, place)| (first, place.offset))
    });
    let positions: Vec<(usize, u32)> = positions.collect();
    let sizes: Vec<u64> = contents.iter().map(|(size, _)| *size).collect();

    let mut table = Table::new(frames.iter().map(|(_, frame)| frame.raw).collect(), FILL);
    let runs = table.runs(&positions, &sizes).ok_or_else(|| fail("a place is too small".to_owned()))?;
    let mut wire = Wire { v: 1, tree: id, generation, packs, fill: FILL, frames: Vec::new(), runs };
    let mut end = None;
    let short = table.shortened(&wire.runs, &sizes).ok_or_else(|| fail("its runs do not fit".to_owned()))?;
    for ((pack, frame), raw) in frames.iter().zip(short) {
        if end != Some((*pack, frame.offset)) {
            wire.frames.push((*pack as u32, frame.offset, Vec::new()));
        }
        end = Some((*pack, frame.offset + u64::from(frame.stored)));
        if let Some((.., numbers)) = wire.frames.last_mut() {
            numbers.extend([frame.stored, raw]);
        }
    }
    let text = serde_json::to_vec(&wire).map_err(|error| fail(error.to_string()))?;
    deflate(&text, LEVEL).map_err(|error| fail(error.to_string()))
}

/// How often a locator was written anew; `None` if it cannot be read.
pub(crate) fn generation(bytes: &[u8]) -> Option<u64> {
    let text = inflate(bytes, LOCATOR_RAW_BYTES_MAX).ok()?;
    serde_json::from_slice::<Wire>(&text).ok().map(|wire| wire.generation)
}

/// Whether bytes have the form of this tree's locator. What they say of contents is for its readers to check.
pub(crate) fn check(bytes: &[u8], id: TreeId) -> Result<(), LocatorError> {
    read(bytes, id).map(drop)
}

fn read(bytes: &[u8], id: TreeId) -> Result<Wire, LocatorError> {
    let fail = |why: &str| LocatorError { tree: id, why: why.to_owned() };
    let text = inflate(bytes, LOCATOR_RAW_BYTES_MAX).map_err(|error| fail(&error.to_string()))?;
    let wire: Wire = serde_json::from_slice(&text).map_err(|error| fail(&error.to_string()))?;
    if wire.v != 1 || wire.tree != id {
        return Err(fail("it is for another tree, or from a newer landfall"));
    }
    if serde_json::to_vec(&wire).map_err(|error| fail(&error.to_string()))? != text {
        return Err(fail("it is not in canonical form"));
    }
    Ok(wire)
}

/// Reads the locator of a tree; every number is checked, nothing is believed.
pub fn decode(bytes: &[u8], tree: &Tree, id: TreeId) -> Result<Places, LocatorError> {
    let fail = |why: &str| LocatorError { tree: id, why: why.to_owned() };
    let wire = read(bytes, id)?;
    let blobs = stored_blobs(tree);
    let sizes: Vec<u64> = blobs.iter().map(|(_, size)| *size).collect();
    let frames = wire.frames().ok_or_else(|| fail("a frame lies nowhere"))?;
    if frames.len() as u64 > sizes.iter().map(|size| size / FRAME_BYTES_LEAST + 1).sum() {
        return Err(fail("it has more frames than the contents fill"));
    }
    let mut table = Table::new(frames.iter().map(|at| at.frame.raw).collect(), wire.fill);
    let spots = table.spots(&wire.runs, &sizes).ok_or_else(|| fail("its runs do not fit its frames"))?;
    let mut shared = Shared::new(|number: usize| {
        let PackFrame { pack, frame } = frames[number];
        PackFrame { pack, frame: Frame { raw: table.raw[number], ..frame } }
    });
    let mut place = |spot: Spot| Place { frames: shared.of(spot.frames), offset: spot.offset };
    Ok(blobs.into_iter().zip(spots).map(|((blob, _), spot)| (blob, place(spot))).collect())
}

impl Wire {
    fn frames(&self) -> Option<Vec<PackFrame>> {
        let mut frames = Vec::new();
        for (pack, offset, numbers) in &self.frames {
            let pack = *self.packs.get(*pack as usize)?;
            let mut offset = *offset;
            if numbers.is_empty() || numbers.len() % 2 != 0 {
                return None;
            }
            for pair in numbers.chunks_exact(2) {
                let (stored, raw) = (pair[0], pair[1]);
                if raw as usize > FRAME_RAW_BYTES_MAX || stored as usize > FRAME_STORED_BYTES_MAX {
                    return None;
                }
                frames.push(PackFrame { pack, frame: Frame { offset, stored, raw } });
                offset = offset.checked_add(u64::from(stored))?;
            }
        }
        Some(frames)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::path::EntryPath;
    use crate::tree::{Entry, Kind};
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;

    fn blob(number: usize) -> BlobId {
        BlobId::of(&number.to_le_bytes())
    }

    fn tree(contents: &[(usize, u64)]) -> Tree {
        let entry = |(index, (number, size)): (usize, &(usize, u64))| Entry {
            path: EntryPath::new(format!("f{index:06}")).unwrap(),
            kind: Kind::File { size: *size, blob: blob(*number), executable: false },
        };
        Tree::from_entries(contents.iter().enumerate().map(entry).collect()).unwrap()
    }

    /// What a packer makes of contents: frames filled by the rule, one behind the other.
    fn packed(pack: u8, contents: &[(usize, u64)]) -> Places {
        let pack = PackId(Digest::from_bytes([pack; 32]));
        let mut places = Places::new();
        let mut at = 0;
        let mut frame = |raw: u64| {
            let stored = (raw / 3 + 11) as u32;
            let frame = PackFrame { pack, frame: Frame { offset: at, stored, raw: raw as u32 } };
            at += u64::from(stored);
            frame
        };
        let mut rest = contents;
        while let Some((_, first)) = rest.first() {
            let mut total = 0;
            let count = rest
                .iter()
                .take_while(|(_, size)| {
                    total += size;
                    total <= u64::from(FILL)
                })
                .count()
                .max(1);
            let (group, more) = rest.split_at(count);
            rest = more;
            let frames: Vec<PackFrame> = match *first > 4 * MIB {
                true => {
                    (0..first.div_ceil(4 * MIB)).map(|n| frame((first - n * 4 * MIB).min(4 * MIB))).collect()
                }
                false => vec![frame(group.iter().map(|(_, size)| size).sum())],
            };
            let mut offset = 0;
            for (number, size) in group {
                places.insert(blob(*number), Place { frames: frames.clone().into(), offset });
                offset += *size as u32;
            }
        }
        places
    }

    fn numbered(numbers: impl Iterator<Item = usize>) -> Vec<(usize, u64)> {
        numbers.map(|number| (number, 1 + (number as u64 * 7_919) % 40_000)).collect()
    }

    fn reads_back(tree: &Tree, places: &Places) -> usize {
        let id = tree.id();
        let bytes = encode(tree, id, 1, places).unwrap();
        let wanted: Places =
            stored_blobs(tree).into_iter().map(|(blob, _)| (blob, places[&blob].clone())).collect();
        assert_eq!(decode(&bytes, tree, id).unwrap(), wanted);
        bytes.len()
    }

    #[test]
    fn a_fresh_layer_of_thirty_thousand_contents_takes_a_few_bytes_for_each_frame_only() {
        let contents = numbered(0..30_000);
        let (tree, places) = (tree(&contents), packed(1, &contents));
        let frames: std::collections::HashSet<_> =
            places.values().flat_map(|place| place.frames.iter()).collect();
        let bytes = reads_back(&tree, &places);
        assert!(bytes < 300 + frames.len() * 4, "{bytes} for {}", frames.len());
    }

    #[test]
    fn three_contents_in_another_pack_cost_a_few_runs() {
        let old = numbered(0..30_000);
        let before = reads_back(&tree(&old), &packed(1, &old));
        let (mut new, mut places) = (old.clone(), packed(1, &old));
        for at in [100, 101, 20_000] {
            new[at].0 += 1_000_000;
        }
        places.extend(packed(2, &[new[100], new[101], new[20_000]]));
        let after = reads_back(&tree(&new), &places);
        assert!(after < before + 200, "{before} {after}");
    }

    #[test]
    fn large_contents_and_shared_frames_read_back() {
        let fill = u64::from(FILL);
        let sizes = [10, 9 * MIB, 20, 4 * MIB, 4 * MIB + 1, fill + 7, 1, fill, fill - 1, 1, 1];
        let contents: Vec<(usize, u64)> = sizes.iter().copied().enumerate().collect();
        reads_back(&tree(&contents), &packed(1, &contents));
    }

    #[test]
    fn every_truncation_and_flip_is_refused_or_gives_places_for_every_content() {
        let contents = numbered(0..300);
        let (tree, places) = (tree(&contents), packed(1, &contents));
        let id = tree.id();
        let bytes = encode(&tree, id, 1, &places).unwrap();
        for end in 0..bytes.len() {
            assert!(decode(&bytes[..end], &tree, id).is_err());
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                if let Ok(read) = decode(&flipped, &tree, id) {
                    assert_eq!(read.len(), contents.len());
                }
            }
        }
        assert!(decode(&bytes, &tree, TreeId::of(b"another")).is_err());
    }

    #[test]
    fn hostile_numbers_are_refused() {
        let contents = [(0, 10), (1, 9 * MIB), (2, 30)];
        let tree = tree(&contents);
        let id = tree.id();
        let read = |frames: &str, runs: &str| {
            let pack = PackId(Digest::from_bytes([7; 32]));
            let text = format!(
                r#"{{"v":1,"tree":"{id}","gen":1,"packs":["{}"],"fill":262144,"frames":[{frames}],"runs":[{runs}]}}"#,
                pack.0
            );
            decode(&deflate(text.as_bytes(), 3).unwrap(), &tree, id)
        };
        read("[0,0,[5,0,5,0,5,0,5,0,5,0]]", "[0,0,3]").unwrap();
        for (frames, runs) in [
            ("[0,0,[5,0,5,0,5,0,5,0]]", "[0,0,3]"),
            ("[1,0,[5,0,5,0,5,0,5,0,5,0]]", "[0,0,3]"),
            ("[0,18446744073709551615,[5,0,5,0,5,0,5,0,5,0]]", "[0,0,3]"),
            ("[0,0,[5,0,5,0,5,0,5,0,5,4194305]]", "[0,0,3]"),
            ("[0,0,[5,0,5,0,5,0,5,0,5]]", "[0,0,3]"),
            ("[0,0,[]],[0,0,[5,0,5,0,5,0,5,0,5,0]]", "[0,0,3]"),
            ("[0,0,[5,0,5,0,5,0,5,0,5,0]]", "[0,0,2]"),
            ("[0,0,[5,0,5,0,5,0,5,0,5,0]]", "[0,0,4294967295]"),
            ("[0,0,[5,0,5,0,5,0,5,0,5,0]]", "[0,0,3],[0,0,0]"),
            ("[0,0,[5,0,5,0,5,0,5,0,5,0]]", "[0,1,3]"),
            ("[0,0,[5,0,5,0,5,0,5,0,5,0]]", "[4294967295,0,3]"),
            ("[0,0, [5,0,5,0,5,0,5,0,5,0]]", "[0,0,3]"),
        ] {
            assert!(read(frames, runs).is_err(), "{frames} {runs}");
        }
        let ones = format!("[0,0,[{}]]", vec!["1,1"; 9 << 20].join(","));
        assert!(read(&ones, "[0,0,3]").is_err(), "more frames than contents fill");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_mix_of_packs_reads_back(sizes in prop::collection::vec((1..600_000u64, 0..3u8, any::<bool>()), 1..200)) {
            let contents: Vec<(usize, u64)> = sizes.iter().map(|(size, ..)| *size).enumerate().collect();
            let mut places = Places::new();
            for pack in 0..3 {
                // Some contents of a pack are another tree's.
                let of_pack: Vec<(usize, u64)> =
                    contents.iter().filter(|(number, _)| sizes[*number].1 == pack).copied().collect();
                places.extend(packed(pack, &of_pack));
            }
            let used: Vec<(usize, u64)> =
                contents.iter().filter(|(number, _)| sizes[*number].2 || *number == 0).copied().collect();
            reads_back(&tree(&used), &places);
        }
    }
}
