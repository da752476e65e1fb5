//! Scanning: a directory becomes a canonical tree, the same on every machine.
//!
//! The walk reads names and metadata on every core; contents are read and hashed on every core; what the
//! stat cache knows is not read at all. Order, umask, owner, times and locale leave no trace. A file that
//! changes while it is read is an error, because its bytes would belong to no moment.

mod cache;
mod content;
mod error;
mod links;
mod walk;

use std::collections::HashMap;
use std::io::{self, Cursor, Read};
use std::path::PathBuf;

use rayon::prelude::*;

use cache::StatCache;
use content::{Content, Keeper};
pub use error::ScanError;
pub use links::dangling;
use walk::{Found, FoundKind};

use crate::blob::BlobSource;
use crate::digest::{BlobId, TreeId};
use crate::name::Name;
use crate::path::check_link;
use crate::push::LayerContent;
use crate::tree::{Entry, Kind, Tree};

/// Bytes of small contents kept in memory between hashing and packing, so that they are read once.
pub const KEEP_BYTES_DEFAULT: u64 = 256 << 20;

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
#[derive(Debug, Clone)]
pub struct ScanOptions {
    /// Where stat caches are kept; without it every file is read.
    pub cache_dir: Option<PathBuf>,
    /// Bytes of contents that may stay in memory for packing.
    pub keep_bytes: u64,
}

impl Default for ScanOptions {
    fn default() -> Self {
        Self { cache_dir: None, keep_bytes: KEEP_BYTES_DEFAULT }
    }
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

/// The contents of a scanned layer: kept in memory, or where they were found.
#[derive(Debug, Default)]
pub struct ScannedSource(HashMap<BlobId, Origin>);

#[derive(Debug)]
enum Origin {
    Kept(Box<[u8]>),
    File(PathBuf),
}

impl BlobSource for ScannedSource {
    fn open(&self, blob: &BlobId, _size: u64) -> io::Result<Box<dyn Read + '_>> {
        match self.0.get(blob) {
            Some(Origin::Kept(bytes)) => Ok(Box::new(Cursor::new(bytes))),
            Some(Origin::File(path)) => Ok(Box::new(content::open(path)?)),
            None => Err(io::Error::new(io::ErrorKind::NotFound, "it is not in the scanned layer")),
        }
    }

    fn in_memory(&self, blob: &BlobId) -> Option<&[u8]> {
        match self.0.get(blob)? {
            Origin::Kept(bytes) => Some(bytes),
            Origin::File(_) => None,
        }
    }
}

/// Scans a layer.
pub fn scan(source: &LayerSource, options: &ScanOptions) -> Result<ScannedLayer, ScanError> {
    let cache = StatCache::load(options.cache_dir.as_deref(), source);
    let (found, left_out) = walk::walk(source)?;
    let keeper = Keeper::new(options.keep_bytes);
    let contents = contents(source, &found, &cache, &keeper)?;
    let counters = count(&contents);
    cache.save(
        found.iter().zip(&contents).filter_map(|(found, content)| match (&found.kind, content) {
            (FoundKind::File { stamp, .. }, Some(content)) => Some((*stamp, content.blob)),
            _ => None,
        }),
        counters,
    );
    let (entries, source_of) = entries(source, found, contents)?;
    let tree = Tree::from_entries(entries).map_err(|error| ScanError::tree(source, error))?;
    let (id, dangling) = rayon::join(|| tree.id(), || dangling(&tree));
    let warnings = dangling.iter().map(|(at, to)| links::warning(&source.name, at, to)).collect();
    Ok(ScannedLayer { id, tree, source: source_of, warnings, left_out, counters })
}

/// The content of each file, in the order of `found`.
fn contents(
    source: &LayerSource,
    found: &[Found],
    cache: &StatCache,
    keeper: &Keeper,
) -> Result<Vec<Option<Content>>, ScanError> {
    found
        .par_iter()
        .map(|found| match &found.kind {
            FoundKind::File { stamp, .. } => match cache.blob(stamp) {
                Some(blob) => Ok(Some(Content { blob, kept: None, read: None })),
                None => content::read(&source.name, &found.source, stamp, keeper).map(Some),
            },
            FoundKind::Link(_) | FoundKind::EmptyDir => Ok(None),
        })
        .collect()
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
) -> Result<(Vec<Entry>, ScannedSource), ScanError> {
    let mut entries = Vec::with_capacity(found.len());
    let mut origins = HashMap::with_capacity(found.len());
    for (found, content) in found.into_iter().zip(contents) {
        let kind = match (found.kind, content) {
            (FoundKind::File { stamp, executable }, Some(content)) => {
                let origin = content.kept.map_or(Origin::File(found.source), Origin::Kept);
                origins.entry(content.blob).or_insert(origin);
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
    Ok((merge(entries), ScannedSource(origins)))
}

/// A directory that is empty in one mapping and filled by another is not empty.
fn merge(mut entries: Vec<Entry>) -> Vec<Entry> {
    entries.par_sort_by(|a, b| a.path.cmp(&b.path));
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
