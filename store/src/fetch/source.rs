//! A store as a source of contents, for copying to another one.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Cursor, Read};
use std::sync::{Arc, Mutex, PoisonError};

use super::contents::other_places;
use super::large::{LargeContent, Raw};
use super::stream::PackStream;
use crate::blob::BlobSource;
use crate::digest::BlobId;
use crate::error::StoreError;
use crate::locator::{PackFrame, Place, Places, stored_blobs};
use crate::pack::{Frame, FrameDecoder};
use crate::store::Store;
use crate::tree::Tree;

/// Frames kept decoded: contents are asked for in tree order, which is the order of frames, by a few threads.
const FRAMES_KEPT: usize = 8;

/// The contents of a tree in a store.
pub struct StoreSource<'a> {
    store: &'a Store,
    places: Places,
    kept: Mutex<VecDeque<(PackFrame, Arc<Vec<u8>>)>>,
}

impl<'a> StoreSource<'a> {
    /// Finds the contents of a tree: by its locator, or by the packs' directories.
    pub fn new(store: &'a Store, tree: &Tree) -> Result<Self, StoreError> {
        let id = tree.id();
        let mut places = if tree.blobs().any(|(_, size)| size > 0) {
            super::places_of(store, tree, id)?
        } else {
            Places::new()
        };
        let lost: HashMap<BlobId, u64> =
            stored_blobs(tree).into_iter().filter(|(blob, _)| !places.contains_key(blob)).collect();
        if !lost.is_empty() {
            let others = other_places(store, &lost, &[])?;
            places.extend(others.into_iter().filter_map(|(blob, mut found)| Some((blob, found.pop()?))));
        }
        Ok(Self { store, places, kept: Mutex::default() })
    }

    /// Contents whose places are known.
    pub(crate) fn at(store: &'a Store, places: Places) -> Self {
        Self { store, places, kept: Mutex::default() }
    }

    /// Where the contents are.
    pub(crate) const fn places(&self) -> &Places {
        &self.places
    }

    fn frame(&self, place: PackFrame) -> io::Result<Arc<Vec<u8>>> {
        let kept = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, raw)) = kept().iter().find(|(frame, _)| *frame == place) {
            return Ok(Arc::clone(raw));
        }
        let frame = place.frame;
        let mut stored = vec![0; frame.stored as usize];
        self.stream(&[place])?.frame(frame, &mut stored)?;
        let raw = FrameDecoder::new()?.decode(&stored, frame.offset, frame.raw as usize);
        let raw = Arc::new(raw.map_err(io::Error::other)?);
        let mut kept = kept();
        kept.truncate(FRAMES_KEPT - 1);
        kept.push_front((place, Arc::clone(&raw)));
        Ok(raw)
    }

    /// The pack from the first of these frames to the last.
    fn stream(&self, frames: &[PackFrame]) -> io::Result<PackStream<'_>> {
        let (Some(first), Some(last)) = (frames.first(), frames.last()) else {
            return Err(io::Error::other("it has no frames"));
        };
        let end = last.frame.offset.saturating_add(u64::from(last.frame.stored));
        let stream = PackStream::open(self.store.backend(), &first.pack, first.frame.offset, end);
        stream.map_err(io::Error::other)
    }
}

impl BlobSource for StoreSource<'_> {
    fn open(&self, blob: &BlobId, size: u64) -> io::Result<Box<dyn Read + '_>> {
        let place = self.places.get(blob).ok_or_else(|| io::Error::other("no pack has it"))?;
        let Place { frames, offset } = place;
        if let [frame] = &**frames {
            let raw = self.frame(*frame)?;
            let from = *offset as usize;
            let end = from.saturating_add(size as usize);
            let content = raw.get(from..end).ok_or_else(|| io::Error::other("it is not inside its frame"))?;
            return Ok(Box::new(Cursor::new(content.to_vec())));
        }
        let mut stream = self.stream(frames)?;
        let mut decoder = FrameDecoder::new()?;
        let next = move |frame: Frame| {
            let mut stored = vec![0; frame.stored as usize];
            stream.frame(frame, &mut stored)?;
            let raw = decoder.decode(&stored, frame.offset, frame.raw as usize);
            Ok(Box::new(raw.map_err(io::Error::other)?) as Raw<'_>)
        };
        Ok(Box::new(LargeContent::new(frames, Box::new(next))?))
    }
}
