//! Reading one pack to its end: its bytes against its id, every frame, every content against its id.

use std::io::Read;

use super::needs::Needs;
use crate::backend::BackendError;
use crate::digest::{BlobId, Digest, PackId};
use crate::error::StoreError;
use crate::fetch;
use crate::layout;
use crate::limits::PACK_DIRECTORY_BYTES_MAX;
use crate::pack::{Directory, Frame, FrameDecoder};
use crate::store::Store;

/// Bytes of a pack read at a time behind its frames.
const CHUNK_BYTES: u64 = 1 << 20;

/// What a pack turned out to be.
#[derive(Debug, Default)]
pub(super) struct Checked {
    /// The first thing that is wrong with it.
    pub(super) fault: Option<String>,
    /// What is wrong with the copy of its directory.
    pub(super) index_fault: Option<String>,
    /// Needed contents that it should hold and does not give.
    pub(super) bad: Vec<BlobId>,
    /// Bytes read.
    pub(super) bytes: u64,
    /// Contents that are whole.
    pub(super) contents: u64,
}

/// Reads a pack once, in order, and marks in `needs` what it gives. `tick` is called once a frame. An error is
/// a place that does not answer; damage is in the result.
pub(super) fn check(
    store: &Store,
    pack: &PackId,
    needs: &Needs,
    decoder: &mut FrameDecoder,
    tick: &(dyn Fn(u64) -> Result<(), StoreError> + Sync),
) -> Result<Checked, StoreError> {
    let mut checked = Checked::default();
    let (inside, copy) = directories(store, pack, &mut checked)?;
    let Some(directory) = inside.as_ref().or(copy.as_ref()) else {
        return Ok(checked);
    };
    let key = layout::pack(pack);
    let backend = store.backend();
    let mut walk = Walk { directory, needs, next: 0, large: None, checked: &mut checked };
    let mut hasher = blake3::Hasher::new();
    let mut stored = Vec::new();
    let mut reader = backend.read(&key, 0, u64::MAX)?;
    let failed = |source| BackendError::io("read", &key, store.location(), source);
    for (index, frame) in directory.frames().iter().enumerate() {
        stored.clear();
        let read = reader.by_ref().take(u64::from(frame.stored)).read_to_end(&mut stored).map_err(failed)?;
        hasher.update(&stored);
        tick(read as u64)?;
        let raw = if read == frame.stored as usize {
            decoder.decode(&stored, frame.offset, frame.raw as usize).map_err(|error| error.to_string())
        } else {
            Err(format!(
                "it ends at byte {} instead of {}",
                frame.offset + read as u64,
                directory.frames_end()
            ))
        };
        walk.frame(index, frame, raw);
    }
    let mut rest = Vec::new();
    loop {
        rest.clear();
        let read = reader.by_ref().take(CHUNK_BYTES).read_to_end(&mut rest).map_err(failed)?;
        if read == 0 {
            break;
        }
        hasher.update(&rest);
        tick(read as u64)?;
    }
    if Digest::from(hasher.finalize()) != pack.0 {
        checked.fault.get_or_insert_with(|| "its bytes do not match its id".to_owned());
    }
    Ok(checked)
}

/// The directory inside the pack, and its copy.
fn directories(
    store: &Store,
    pack: &PackId,
    checked: &mut Checked,
) -> Result<(Option<Directory>, Option<Directory>), StoreError> {
    let inside = match fetch::inside_pack(store, pack) {
        Ok(directory) => Some(directory),
        Err(StoreError::Damaged { why, .. }) => {
            checked.fault = Some(why);
            None
        }
        Err(error) => return Err(error),
    };
    let copy = match store.backend().find(&layout::index(pack), PACK_DIRECTORY_BYTES_MAX) {
        Ok(None) => return Ok((inside, None)),
        Ok(Some(bytes)) => Directory::decode(&bytes).map_err(|error| error.to_string()),
        Err(BackendError::TooLarge { .. }) => Err("it is larger than any".to_owned()),
        Err(error) => return Err(error.into()),
    };
    match copy {
        Ok(copy) if inside.as_ref().is_some_and(|inside| *inside != copy) => {
            checked.index_fault = Some("it differs from the directory in its pack".to_owned());
            Ok((inside, None))
        }
        Ok(copy) => Ok((inside, Some(copy))),
        Err(why) => {
            checked.index_fault = Some(why);
            Ok((inside, None))
        }
    }
}

/// A content of several frames that is being read.
struct Large {
    blob: BlobId,
    left: u64,
    hasher: blake3::Hasher,
    is_whole: bool,
}

struct Walk<'a> {
    directory: &'a Directory,
    needs: &'a Needs,
    /// The next object that begins.
    next: usize,
    large: Option<Large>,
    checked: &'a mut Checked,
}

impl Walk<'_> {
    /// Every object of one frame, in order: the directory's objects tile its frames.
    fn frame(&mut self, index: usize, frame: &Frame, raw: Result<Vec<u8>, String>) {
        if let Err(why) = &raw {
            self.checked.fault.get_or_insert_with(|| why.clone());
        }
        let raw = raw.ok();
        if let Some(mut large) = self.large.take() {
            let part = u64::from(frame.raw).min(large.left);
            match &raw {
                Some(raw) => drop(large.hasher.update(raw.get(..part as usize).unwrap_or_default())),
                None => large.is_whole = false,
            }
            large.left -= part;
            if large.left > 0 {
                self.large = Some(large);
            } else {
                let is_whole = large.is_whole && BlobId(large.hasher.finalize().into()) == large.blob;
                self.content(large.blob, is_whole);
            }
        }
        while let Some(object) = self.directory.objects().get(self.next) {
            if object.frame as usize != index {
                break;
            }
            self.next += 1;
            let here = (u64::from(frame.raw) - u64::from(object.offset)).min(object.size);
            let from = object.offset as usize;
            let bytes = raw.as_ref().and_then(|raw| raw.get(from..from + here as usize));
            if here < object.size {
                let mut hasher = blake3::Hasher::new();
                hasher.update(bytes.unwrap_or_default());
                let (left, is_whole) = (object.size - here, bytes.is_some());
                self.large = Some(Large { blob: object.blob, left, hasher, is_whole });
            } else {
                self.content(object.blob, bytes.is_some_and(|bytes| BlobId::of(bytes) == object.blob));
            }
        }
    }

    fn content(&mut self, blob: BlobId, is_whole: bool) {
        if is_whole {
            self.checked.contents += 1;
            self.needs.found(&blob);
            return;
        }
        let fault = || format!("content {} does not match its id", blob.0.short());
        self.checked.fault.get_or_insert_with(fault);
        if self.needs.has(&blob) {
            self.checked.bad.push(blob);
        }
    }
}
