//! Compressing what was just read: a store that lacks a content needs it in a frame, and reading, hashing and
//! compressing a file in one go costs one opening and one pass over its bytes instead of two.
//!
//! This is a prediction and touches no store. Frames stay with the scan, in memory or in a nameless file, until a
//! push asks for exactly the contents of one; a frame that nobody asks for is dropped with the scan.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::mem;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;

use crate::backend::Access;
use crate::digest::BlobId;
use crate::pack::FrameBytes;
use crate::pack::frames::{FrameEncoder, is_closed, is_large};
use crate::spool;

/// Bytes of frames kept in memory; more go to a file. With them a push stays below 256 MiB.
const MEMORY_BYTES: u64 = 48 << 20;

/// What a push will have to store, as far as that is known before it: layer after layer, in an artifact's order.
pub struct Ahead {
    level: i32,
    /// What the store has, and what an earlier frame holds.
    settled: HashSet<BlobId>,
    room: Arc<Room>,
}

impl Ahead {
    /// For a push at this zstd level to a store that has the contents `stored`.
    pub fn new(stored: impl IntoIterator<Item = BlobId>, level: i32) -> Self {
        Self { level, settled: stored.into_iter().collect(), room: Arc::new(Room::default()) }
    }

    /// Whether a content may go into a frame: then its bytes are worth keeping for a moment.
    pub(super) fn wants(&self, blob: &BlobId, size: u64) -> bool {
        size > 0 && !is_large(size) && !self.settled.contains(blob)
    }
}

/// A content with its bytes.
type Loaded = (BlobId, Bytes);

/// The frames of one layer, as its contents come in the order of its tree.
pub(super) struct Framing<'a> {
    ahead: &'a mut Ahead,
    open: Vec<Loaded>,
    open_bytes: u64,
    closed: Vec<Vec<Loaded>>,
    made: Frames,
}

impl<'a> Framing<'a> {
    /// For a layer of this many files.
    pub(super) fn new(ahead: &'a mut Ahead, files: usize) -> Self {
        ahead.settled.reserve(files);
        let made = Frames { level: ahead.level, room: Arc::clone(&ahead.room), made: HashMap::new() };
        Self { ahead, open: Vec::new(), open_bytes: 0, closed: Vec::new(), made }
    }

    pub(super) fn ahead(&self) -> &Ahead {
        self.ahead
    }

    /// The next content of the layer, with its bytes if they were kept.
    pub(super) fn add(&mut self, blob: BlobId, size: u64, bytes: Option<Bytes>) {
        if size == 0 || !self.ahead.settled.insert(blob) {
            return;
        }
        if is_closed(self.open_bytes, size) {
            self.close();
        }
        // What comes without its bytes is read again by the push, and with it what shares its frame.
        if let Some(bytes) = bytes {
            self.open_bytes += size;
            self.open.push((blob, bytes));
        }
    }

    fn close(&mut self) {
        self.open_bytes = 0;
        let open = mem::take(&mut self.open);
        if !open.is_empty() {
            self.closed.push(open);
        }
    }

    /// The full frames that wait to be compressed.
    pub(super) fn take_closed(&mut self) -> Vec<Vec<Loaded>> {
        mem::take(&mut self.closed)
    }

    /// What compresses them.
    pub(super) fn press(&self) -> Press {
        Press {
            level: self.ahead.level,
            room: Arc::clone(&self.ahead.room),
            tools: Mutex::default(),
            waiting: Mutex::new(0),
            pressed: Condvar::new(),
            made: Mutex::default(),
        }
    }

    /// The last frame is closed with the layer.
    pub(super) fn finish(mut self, press: Press) -> Frames {
        self.close();
        self.take_closed().into_iter().for_each(|contents| press.compress(contents));
        let made = press.made.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.made.made.extend(made.into_iter().map(|frame| (frame.blobs[0].0, frame)));
        self.made
    }
}

/// Compresses frames on every core while more is read.
pub(super) struct Press {
    level: i32,
    room: Arc<Room>,
    /// Kept from frame to frame: fresh memory of this size costs page faults each time.
    tools: Mutex<Vec<(FrameEncoder, Vec<u8>)>>,
    /// Bytes of frames that are not compressed yet.
    waiting: Mutex<u64>,
    pressed: Condvar,
    made: Mutex<Vec<Frame>>,
}

/// Bytes that wait to be compressed, until it is dropped.
struct Waiting<'a>(&'a Press, u64);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        *lock(&self.0.waiting) -= self.1;
        self.0.pressed.notify_all();
    }
}

impl Press {
    /// Waits until what is not compressed yet is at most this much. Not on a thread that compresses.
    pub(super) fn wait_for(&self, bytes: u64) {
        drop(self.pressed.wait_while(lock(&self.waiting), |waiting| *waiting > bytes));
    }

    /// Has full frames compressed beside what is done next.
    pub(super) fn spawn<'s>(&'s self, scope: &rayon::Scope<'s>, closed: Vec<Vec<Loaded>>) {
        for contents in closed {
            let bytes = contents.iter().map(|(_, bytes)| bytes.len() as u64).sum();
            *lock(&self.waiting) += bytes;
            let waiting = Waiting(self, bytes);
            scope.spawn(move |_| {
                self.compress(contents);
                drop(waiting);
            });
        }
    }

    fn compress(&self, contents: Vec<Loaded>) {
        let Some((mut encoder, mut raw)) = self.tool() else { return };
        raw.clear();
        contents.iter().for_each(|(_, bytes)| raw.extend_from_slice(bytes));
        let blobs = contents.iter().map(|(blob, bytes)| (*blob, bytes.len() as u64)).collect();
        drop(contents);
        let frame = encoder.encode(&raw, blobs).inspect_err(not_kept).ok();
        lock(&self.tools).push((encoder, raw));
        let kept = |frame: FrameBytes| {
            Some(Frame { blobs: frame.blobs, raw: frame.raw, at: self.room.keep(frame.stored)? })
        };
        lock(&self.made).extend(frame.and_then(kept));
    }

    fn tool(&self) -> Option<(FrameEncoder, Vec<u8>)> {
        let used = lock(&self.tools).pop();
        used.or_else(|| {
            Some((FrameEncoder::new(self.level, Access::Public).inspect_err(not_kept).ok()?, Vec::new()))
        })
    }
}

/// Nothing under these locks panics half-way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A frame that was made, and where it is.
#[derive(Debug)]
pub(super) struct Frame {
    blobs: Vec<(BlobId, u64)>,
    raw: u32,
    at: Place,
}

#[derive(Debug)]
enum Place {
    Memory(Box<[u8]>),
    File { offset: u64, length: usize },
}

/// The frames of one layer, by the first content of each.
#[derive(Debug, Default)]
pub(super) struct Frames {
    level: i32,
    room: Arc<Room>,
    made: HashMap<BlobId, Frame>,
}

impl Frames {
    /// The frame of exactly these contents.
    pub(super) fn of(&self, blobs: &[(BlobId, u64)], level: i32) -> Option<FrameBytes> {
        let (first, _) = blobs.first()?;
        let frame = self.made.get(first).filter(|frame| frame.blobs == blobs && self.level == level)?;
        let stored = match &frame.at {
            Place::Memory(bytes) => bytes.to_vec(),
            Place::File { offset, length } => self.room.read(*offset, *length)?,
        };
        Some(FrameBytes { stored, raw: frame.raw, blobs: frame.blobs.clone() })
    }
}

/// Where frames wait.
#[derive(Debug, Default)]
struct Room {
    in_memory: AtomicU64,
    /// None: there is no room for one, and what does not fit into memory is made again.
    file: OnceLock<Option<File>>,
    file_end: AtomicU64,
}

impl Room {
    fn keep(&self, frame: Vec<u8>) -> Option<Place> {
        let length = frame.len() as u64;
        let fits = |used: u64| (used + length <= MEMORY_BYTES).then_some(used + length);
        if self.in_memory.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok() {
            return Some(Place::Memory(frame.into_boxed_slice()));
        }
        let file = self.file.get_or_init(|| spool::nameless().inspect_err(not_kept).ok()).as_ref()?;
        let offset = self.file_end.fetch_add(length, Ordering::Relaxed);
        file.write_all_at(&frame, offset).inspect_err(not_kept).ok()?;
        Some(Place::File { offset, length: frame.len() })
    }

    fn read(&self, offset: u64, length: usize) -> Option<Vec<u8>> {
        let mut frame = vec![0; length];
        let file = self.file.get()?.as_ref()?;
        file.read_exact_at(&mut frame, offset).inspect_err(not_kept).ok()?;
        Some(frame)
    }
}

/// Nothing is lost by it but time: the push reads the files again.
fn not_kept(error: &io::Error) {
    tracing::warn!(%error, "files are read twice: what they were compressed to at the first reading could not be kept");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::FRAME_RAW_BYTES_TARGET;
    use crate::pack::frames::groups;

    fn content(seed: u32, size: usize) -> Vec<u8> {
        (0..size as u32).map(|at| (at.wrapping_mul(seed).wrapping_add(at >> 7) >> 3) as u8).collect()
    }

    fn framed(ahead: &mut Ahead, contents: &[Vec<u8>]) -> Frames {
        let mut framing = Framing::new(ahead, contents.len());
        for bytes in contents {
            let (blob, size) = (BlobId::of(bytes), bytes.len() as u64);
            let kept = framing.ahead().wants(&blob, size).then(|| bytes.clone().into());
            framing.add(blob, size, kept);
        }
        let press = framing.press();
        rayon::in_place_scope(|scope| press.spawn(scope, framing.take_closed()));
        framing.finish(press)
    }

    fn ids(contents: &[Vec<u8>]) -> Vec<(BlobId, u64)> {
        contents.iter().map(|bytes| (BlobId::of(bytes), bytes.len() as u64)).collect()
    }

    #[test]
    fn the_frames_are_those_that_a_push_asks_for() {
        let sizes = [9, FRAME_RAW_BYTES_TARGET - 9, 1, 5 << 20, 3 << 20, 70_000, 80_000];
        let contents: Vec<_> = sizes.iter().zip(1..).map(|(size, seed)| content(seed, *size)).collect();
        let frames = framed(&mut Ahead::new([], 3), &contents);
        let asked = ids(&contents);
        let mut found = 0;
        for group in groups(&asked).filter(|group| !is_large(group[0].1)) {
            let frame = frames.of(group, 3).unwrap();
            let raw = zstd::decode_all(&frame.stored[..]).unwrap();
            let mut at = 0;
            for (blob, size) in &frame.blobs {
                assert_eq!(BlobId::of(&raw[at..][..*size as usize]), *blob);
                at += *size as usize;
            }
            assert_eq!((at, frame.raw as usize), (raw.len(), raw.len()));
            found += 1;
        }
        assert_eq!(found, frames.made.len());
        assert!(frames.of(&asked[..1], 3).is_none(), "not part of one");
        assert!(frames.of(&asked[..2], 9).is_none(), "not at another level");
    }

    #[test]
    fn what_the_store_has_and_what_an_earlier_layer_has_is_left_out() {
        let contents: Vec<_> = (1..5).map(|seed| content(seed, 1000)).collect();
        let all = ids(&contents);
        let mut ahead = Ahead::new([all[0].0], 3);
        let first = framed(&mut ahead, &contents[..3]);
        assert!(first.of(&all[1..3], 3).is_some());
        let second = framed(&mut ahead, &contents);
        assert!(second.of(&all[3..], 3).is_some());
    }

    #[test]
    fn what_memory_has_no_room_for_comes_back_from_a_file() {
        let room = Room { in_memory: AtomicU64::new(MEMORY_BYTES - 3), ..Room::default() };
        let small = room.keep(vec![1, 2, 3]).unwrap();
        assert!(matches!(small, Place::Memory(_)));
        for bytes in [vec![4; 10], vec![5; 7]] {
            let Some(Place::File { offset, length }) = room.keep(bytes.clone()) else { panic!("no file") };
            assert_eq!(room.read(offset, length).unwrap(), bytes);
        }
    }
}
