//! Locators: where the contents of a tree are. Advisory: every content is verified against the tree, so a
//! wrong or hostile locator costs time and never gives wrong bytes.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::digest::{BlobId, PackId, TreeId};
use crate::inflate::{deflate, inflate};
use crate::limits::{FRAME_RAW_BYTES_MAX, LOCATOR_RAW_BYTES_MAX};
use crate::pack::{Directory, Frame};
use crate::tree::Tree;

const LEVEL: i32 = 3;

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
    /// The frames it is in.
    pub frames: Vec<PackFrame>,
    /// Where it begins in the first.
    pub offset: u32,
}

/// Where contents are.
pub type Places = HashMap<BlobId, Place>;

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
    frames: Vec<(u32, u64, u32, u32)>,
    objs: Vec<u32>,
}

/// The distinct contents of a tree that are stored, with their sizes, in order of first appearance. The
/// empty content is never stored.
pub fn stored_blobs(tree: &Tree) -> Vec<(BlobId, u64)> {
    let mut seen = std::collections::HashSet::new();
    tree.blobs().filter(|(blob, size)| *size > 0 && seen.insert(*blob)).collect()
}

/// The places of everything in a pack.
pub fn places_in(pack: PackId, directory: &Directory) -> impl Iterator<Item = (BlobId, Place)> + '_ {
    directory.objects().iter().map(move |object| {
        let first = object.frame as usize;
        let mut left = object.size + u64::from(object.offset);
        let spans = directory.frames()[first..].iter().take_while(move |frame| {
            let wanted = left > 0;
            left = left.saturating_sub(u64::from(frame.raw));
            wanted
        });
        let frames = spans.map(|frame| PackFrame { pack, frame: *frame }).collect();
        (object.blob, Place { frames, offset: object.offset })
    })
}

/// Writes the locator of a tree all of whose contents have a place.
pub fn encode(tree: &Tree, id: TreeId, generation: u64, places: &Places) -> Result<Vec<u8>, LocatorError> {
    let fail = |why: String| LocatorError { tree: id, why };
    let mut wire =
        Wire { v: 1, tree: id, generation, packs: Vec::new(), frames: Vec::new(), objs: Vec::new() };
    let mut packs = HashMap::new();
    let mut frames = HashMap::new();
    for (blob, _) in stored_blobs(tree) {
        let place = places.get(&blob).ok_or_else(|| fail(format!("content {blob} has no place")))?;
        let first = *frames.entry(place.frames[0]).or_insert_with(|| {
            let first = wire.frames.len() as u32;
            for PackFrame { pack, frame } in &place.frames {
                let pack = *packs.entry(*pack).or_insert_with(|| {
                    wire.packs.push(*pack);
                    wire.packs.len() as u32 - 1
                });
                wire.frames.push((pack, frame.offset, frame.stored, frame.raw));
            }
            first
        });
        wire.objs.extend([first, place.offset]);
    }
    let text = serde_json::to_vec(&wire).map_err(|error| fail(error.to_string()))?;
    deflate(&text, LEVEL).map_err(|error| fail(error.to_string()))
}

/// Whether bytes have the form of this tree's locator. What they say of contents is for its readers to check.
pub(crate) fn check(bytes: &[u8], id: TreeId) -> Result<(), LocatorError> {
    read(bytes, id).map(drop)
}

fn read(bytes: &[u8], id: TreeId) -> Result<Wire, LocatorError> {
    let fail = |why: String| LocatorError { tree: id, why };
    let text = inflate(bytes, LOCATOR_RAW_BYTES_MAX).map_err(|error| fail(error.to_string()))?;
    let wire: Wire = serde_json::from_slice(&text).map_err(|error| fail(error.to_string()))?;
    if wire.v != 1 || wire.tree != id {
        return Err(fail("it is for another tree, or from a newer landfall".to_owned()));
    }
    Ok(wire)
}

/// Reads the locator of a tree; every number is checked, nothing is believed.
pub fn decode(bytes: &[u8], tree: &Tree, id: TreeId) -> Result<Places, LocatorError> {
    let fail = |why: String| LocatorError { tree: id, why };
    let wire = read(bytes, id)?;
    let blobs = stored_blobs(tree);
    if wire.objs.len() != blobs.len() * 2 {
        return Err(fail(format!("{} contents instead of {}", wire.objs.len() / 2, blobs.len())));
    }
    blobs
        .into_iter()
        .zip(wire.objs.chunks_exact(2))
        .map(|((blob, size), pair)| match wire.place(pair[0] as usize, pair[1], size) {
            Some(place) => Ok((blob, place)),
            None => Err(fail(format!("content {blob} is not inside its frames"))),
        })
        .collect()
}

impl Wire {
    fn place(&self, first: usize, offset: u32, size: u64) -> Option<Place> {
        let frame = self.frame(first)?;
        if u64::from(offset) + size <= u64::from(frame.frame.raw) {
            return Some(Place { frames: vec![frame], offset });
        }
        let mut frames = Vec::new();
        let mut left = size;
        while left > 0 {
            let frame = self.frame(first + frames.len())?;
            left = left.checked_sub(u64::from(frame.frame.raw))?;
            frames.push(frame);
        }
        (offset == 0).then_some(Place { frames, offset })
    }

    fn frame(&self, index: usize) -> Option<PackFrame> {
        let (pack, offset, stored, raw) = *self.frames.get(index)?;
        // A frame that zstd could not shrink is a little longer than its content.
        let sane =
            raw > 0 && raw as usize <= FRAME_RAW_BYTES_MAX && stored as usize <= 2 * FRAME_RAW_BYTES_MAX;
        offset.checked_add(u64::from(stored)).filter(|_| sane)?;
        Some(PackFrame { pack: *self.packs.get(pack as usize)?, frame: Frame { offset, stored, raw } })
    }
}
