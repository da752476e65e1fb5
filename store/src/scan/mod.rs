//! Scanning: a directory becomes a canonical tree, the same on every machine.
//!
//! The walk reads names and metadata on every core; contents are read and hashed on every core; what the
//! stat cache knows is not read at all. Order, umask, owner, times and locale leave no trace. A file that
//! changes while it is read is an error, because its bytes would belong to no moment.

mod ahead;
mod cache;
mod content;
mod error;
mod links;
mod walk;

use std::collections::HashMap;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bytes::BytesMut;
use rayon::prelude::*;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

pub use ahead::Ahead;
use ahead::{Frames, Framing};
use cache::StatCache;
use content::{Content, Wanted};
pub use error::ScanError;
pub use links::dangling;
use walk::{Found, FoundKind, Spot};

use crate::blob::BlobSource;
use crate::digest::{BlobId, TreeId};
use crate::name::Name;
use crate::pack::FrameBytes;
use crate::path::check_link;
use crate::push::LayerContent;
use crate::tree::{Entry, Kind, Tree};

/// Bytes of files that are read while those before them are compressed: twice this is in memory at a time.
const BATCH_BYTES: u64 = 16 << 20;
/// Neighbours that a thread reads at a time: below that, handing them out costs more than it saves.
const FILES_PER_TURN: usize = 32;

/// Where a layer's files come from.
#[derive(Debug, Clone)]
pub struct LayerSource {
    /// The layer, for messages.
    pub name: Name,
    /// What `from` paths are relative to.
    pub root: PathBuf,
    /// What goes where.
    pub files: Vec<Mapping>,
    /// gitignore patterns on the paths in the layer.
    pub exclude: Vec<String>,
    /// Whether it is an env layer.
    pub env: bool,
    /// Names of env files (`.env.production`): left out of every layer that is not an env layer.
    pub env_files: Vec<String>,
}

/// A file or directory that goes into a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// What: relative to the source's root, or absolute.
    pub from: PathBuf,
    /// Where: a path in the layer; `""` is its top. For a file it is the whole name.
    pub to: String,
}

/// How to scan.
#[derive(Debug, Clone, Default)]
pub struct ScanOptions {
    /// Where stat caches are kept; without it every file is read.
    pub cache_dir: Option<PathBuf>,
}

/// What a scan did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ScanCounters {
    /// Files in the layer.
    pub files: u64,
    /// Files that were opened and read.
    pub hashed: u64,
    /// Bytes read from them.
    pub bytes_read: u64,
}

/// A layer as it stood on disk.
#[derive(Debug)]
pub struct ScannedLayer {
    /// The tree's id.
    pub id: TreeId,
    /// The tree.
    pub tree: Tree,
    /// Its contents; what is read from it is verified when it is packed.
    pub source: ScannedSource,
    /// Things worth a person's look: links that lead nowhere in the layer.
    pub warnings: Vec<String>,
    /// Paths that every such layer leaves out: `.git`, `.landfall`, env files.
    pub left_out: Vec<String>,
    /// What was done.
    pub counters: ScanCounters,
}

impl ScannedLayer {
    /// For a push.
    pub fn content(&self) -> LayerContent<'_> {
        LayerContent { id: self.id, tree: &self.tree, source: &self.source }
    }
}

/// Files, by content.
type Files = Vec<(BlobId, Spot)>;

/// The contents of a scanned layer: where they were found, and the frames made of them already.
#[derive(Debug, Default)]
pub struct ScannedSource {
    frames: Frames,
    files: Files,
    /// The first file with each content; made when one is asked for, which a layer that the store has never is.
    first: OnceLock<HashMap<BlobId, usize>>,
}

impl ScannedSource {
    fn spot(&self, blob: &BlobId) -> Option<&Spot> {
        let first = self.first.get_or_init(|| {
            let backwards = self.files.iter().enumerate().rev();
            backwards.map(|(index, (blob, _))| (*blob, index)).collect()
        });
        Some(&self.files[*first.get(blob)?].1)
    }
}

impl BlobSource for ScannedSource {
    fn open(&self, blob: &BlobId, _size: u64) -> io::Result<Box<dyn Read + '_>> {
        match self.spot(blob) {
            Some(spot) => Ok(Box::new(content::open(CWD, spot.path().as_os_str())?)),
            None => Err(io::Error::new(io::ErrorKind::NotFound, "it is not in the scanned layer")),
        }
    }

    fn frame(&self, blobs: &[(BlobId, u64)], level: i32) -> Option<FrameBytes> {
        self.frames.of(blobs, level)
    }
}

/// Scans a layer.
pub fn scan(source: &LayerSource, options: &ScanOptions) -> Result<ScannedLayer, ScanError> {
    scan_with(source, options, |found, read| {
        let nothing = |_: &BlobId, _| false;
        Ok((read.contents(found, &nothing)?, Frames::default()))
    })
}

/// Scans a layer, and compresses what a push will have to store while it is read.
pub fn scan_ahead(
    source: &LayerSource,
    options: &ScanOptions,
    ahead: &mut Ahead,
) -> Result<ScannedLayer, ScanError> {
    scan_with(source, options, |found, read| {
        let mut framing = Framing::new(ahead, found.len());
        let press = framing.press();
        let mut all = Vec::with_capacity(found.len());
        // This thread reads none of it and compresses nothing, so it may wait for those that do.
        rayon::in_place_scope(|scope| {
            for batch in batches(found) {
                press.wait_for(BATCH_BYTES);
                let wanted = |blob: &BlobId, size| framing.ahead().wants(blob, size);
                let mut contents = read.contents(batch, &wanted)?;
                for (found, content) in batch.iter().zip(&mut contents) {
                    if let (FoundKind::File { stamp, .. }, Some(content)) = (&found.kind, content) {
                        framing.add(content.blob, stamp.size, content.bytes.take());
                    }
                }
                press.spawn(scope, framing.take_closed());
                all.append(&mut contents);
            }
            Ok(())
        })?;
        Ok((all, framing.finish(press)))
    })
}

/// The content of each file, in the order in which they were found, and the frames made of them.
type Contents = (Vec<Option<Content>>, Frames);

fn scan_with(
    source: &LayerSource,
    options: &ScanOptions,
    contents: impl FnOnce(&[Found], &Reading<'_>) -> Result<Contents, ScanError>,
) -> Result<ScannedLayer, ScanError> {
    let cache = StatCache::load(options.cache_dir.as_deref(), source);
    let (mut found, left_out) = walk::walk(source)?;
    // Each mapping is in order: a sort that notices has little to do.
    found.sort_by(|a, b| a.path.cmp(&b.path));
    let (contents, frames) = contents(&found, &Reading { layer: &source.name, cache: &cache })?;
    let counters = count(&contents);
    cache.save(
        found.iter().zip(&contents).filter_map(|(found, content)| match (&found.kind, content) {
            (FoundKind::File { stamp, .. }, Some(content)) => Some((*stamp, content.blob)),
            _ => None,
        }),
        counters,
    );
    let (entries, files) = entries(source, found, contents)?;
    let source_of = ScannedSource { frames, files, first: OnceLock::new() };
    let tree = Tree::from_entries(entries).map_err(|error| ScanError::tree(source, error))?;
    let (id, dangling) = rayon::join(|| tree.id(), || dangling(&tree));
    let warnings = dangling.iter().map(|(at, to)| links::warning(&source.name, at, to)).collect();
    Ok(ScannedLayer { id, tree, source: source_of, warnings, left_out, counters })
}

/// Neighbours whose bytes together are about [`BATCH_BYTES`].
fn batches(mut found: &[Found]) -> impl Iterator<Item = &[Found]> {
    std::iter::from_fn(move || {
        let mut total = 0;
        let more = |found: &&Found| {
            let before = total;
            total += found.size();
            before < BATCH_BYTES
        };
        let (batch, rest) = found.split_at(found.iter().take_while(more).count());
        found = rest;
        (!batch.is_empty()).then_some(batch)
    })
}

/// How a layer's files are read.
struct Reading<'a> {
    layer: &'a Name,
    cache: &'a StatCache,
}

impl Reading<'_> {
    /// The content of each file, in the order of `found`; with its bytes if it is wanted.
    fn contents(&self, found: &[Found], wanted: Wanted<'_>) -> Result<Vec<Option<Content>>, ScanError> {
        let reader =
            || Reader { layer: self.layer, cache: self.cache, wanted, dir: None, buffer: BytesMut::new() };
        found.par_iter().with_min_len(FILES_PER_TURN).map_init(reader, Reader::content).collect()
    }
}

/// Reads files in the order of the tree, with the directory of the last one open.
struct Reader<'a> {
    layer: &'a Name,
    cache: &'a StatCache,
    wanted: Wanted<'a>,
    dir: Option<(&'a Arc<Path>, OwnedFd)>,
    buffer: BytesMut,
}

impl<'a> Reader<'a> {
    fn content(&mut self, found: &'a Found) -> Result<Option<Content>, ScanError> {
        let FoundKind::File { stamp, .. } = &found.kind else { return Ok(None) };
        // What is known but wanted will be read anyway.
        if let Some(blob) = self.cache.blob(stamp).filter(|blob| !(self.wanted)(blob, stamp.size)) {
            return Ok(Some(Content { blob, bytes: None, read: None }));
        }
        let dir = match self.dir.take() {
            Some((path, dir)) if Arc::ptr_eq(path, &found.source.dir) => dir,
            _ => self.open(&found.source.dir)?,
        };
        let (_, dir) = self.dir.insert((&found.source.dir, dir));
        content::read(self.layer, dir, &found.source, stamp, (self.wanted, &mut self.buffer)).map(Some)
    }

    fn open(&self, path: &Path) -> Result<OwnedFd, ScanError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::NOENT | Errno::NOTDIR => {
                ScanError::Changed { layer: self.layer.to_string(), path: path.to_owned() }
            }
            errno => ScanError::io(self.layer, "open", path, errno.into()),
        })
    }
}

fn count(contents: &[Option<Content>]) -> ScanCounters {
    let mut counters = ScanCounters::default();
    for content in contents.iter().flatten() {
        counters.files += 1;
        if let Some(bytes) = content.read {
            counters.hashed += 1;
            counters.bytes_read += bytes;
        }
    }
    counters
}

fn entries(
    source: &LayerSource,
    found: Vec<Found>,
    contents: Vec<Option<Content>>,
) -> Result<(Vec<Entry>, Files), ScanError> {
    let mut entries = Vec::with_capacity(found.len());
    let mut files = Vec::with_capacity(found.len());
    for (found, content) in found.into_iter().zip(contents) {
        let kind = match (found.kind, content) {
            (FoundKind::File { stamp, executable }, Some(content)) => {
                files.push((content.blob, found.source));
                Kind::File { size: stamp.size, blob: content.blob, executable }
            }
            (FoundKind::Link(target), _) => {
                check_link(&found.path, &target).map_err(|error| ScanError::link(source, error))?;
                Kind::Link { target }
            }
            (FoundKind::EmptyDir | FoundKind::File { .. }, _) => Kind::EmptyDir,
        };
        entries.push(Entry { path: found.path, kind });
    }
    Ok((merge(entries), files))
}

/// A directory that is empty in one mapping and filled by another is not empty.
fn merge(mut entries: Vec<Entry>) -> Vec<Entry> {
    let filled: Vec<bool> = entries
        .iter()
        .zip(entries.iter().skip(1).map(Some).chain([None]))
        .map(|(entry, next)| {
            entry.kind == Kind::EmptyDir
                && next.is_some_and(|next| next.path.is_at_or_below(entry.path.as_bytes()))
        })
        .collect();
    let mut filled = filled.into_iter();
    entries.retain(|_| !filled.next().unwrap_or(false));
    entries
}
