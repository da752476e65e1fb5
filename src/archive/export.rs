//! From a store into an archive.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use landfall_store::archive::{self, Export, Format};
use landfall_store::blob::BlobSource;
use landfall_store::fetch::{self, StoreSource};
use landfall_store::{Artifact, ArtifactId, BlobId, Layer, Store, StoreError, Tree};

use super::ArchiveError;

/// Bytes gathered before they are written.
const BUFFER_BYTES: usize = 1 << 20;

/// Finds mistakes in a destination before any work is done; a directory written with its `/` is made.
pub fn prepare(path: &Path) -> Result<(), ArchiveError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| ArchiveError::Io { path, source }
    };
    if path.as_os_str().as_encoded_bytes().ends_with(b"/") {
        return std::fs::create_dir_all(path).map_err(at(path));
    }
    if path.is_dir() {
        return Ok(());
    }
    format_of(path)?;
    let parent = parent(path);
    std::fs::metadata(parent).map(drop).map_err(at(parent))
}

fn format_of(path: &Path) -> Result<Format, ArchiveError> {
    let format = path.file_name().and_then(|name| Format::of_name(name.to_str()?));
    format.ok_or_else(|| ArchiveError::UnknownFormat { path: path.to_owned() })
}

/// Writes an artifact as an archive: all of it under its name, or nothing. Byte for byte the same each time.
pub fn export(store: &Store, id: &ArtifactId, path: &Path) -> Result<(), ArchiveError> {
    let format = format_of(path)?;
    let mtime_s = epoch()?;
    let artifact = fetch::artifact(store, id)?;
    let (trees, source) = contents(store, &artifact)?;
    let job = Export { artifact: Some(&artifact), trees: &trees, source: &source, format, mtime_s };
    whole(path, mode(&artifact), |out| {
        archive::export(&job, out).map_err(|source| ArchiveError::Export { path: path.to_owned(), source })
    })
}

/// The time of every member: none, unless the usual variable of reproducible builds gives one.
fn epoch() -> Result<u64, ArchiveError> {
    match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text.parse().map_err(|_| ArchiveError::Epoch(text)),
        Err(_) => Ok(0),
    }
}

/// Env layers are secrets.
fn mode(artifact: &Artifact) -> u32 {
    if artifact.layers.iter().any(Layer::is_env) { 0o600 } else { 0o644 }
}

fn contents<'a>(store: &'a Store, artifact: &Artifact) -> Result<(Vec<Tree>, Layered<'a>), StoreError> {
    let (mut trees, mut sources) = (Vec::new(), Vec::new());
    for layer in &artifact.layers {
        let tree = fetch::tree(store, &layer.tree)?;
        sources.push(StoreSource::new(store, &tree)?);
        trees.push(tree);
    }
    Ok((trees, Layered(sources)))
}

/// The contents of several layers.
struct Layered<'a>(Vec<StoreSource<'a>>);

impl BlobSource for Layered<'_> {
    fn open(&self, blob: &BlobId, size: u64) -> io::Result<Box<dyn Read + '_>> {
        let mut refused = io::Error::new(io::ErrorKind::NotFound, "no layer has it");
        for source in &self.0 {
            match source.open(blob, size) {
                Ok(content) => return Ok(content),
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }
}

/// Writes a file beside its place and renames it there once it is durable.
fn whole(
    path: &Path,
    mode: u32,
    write: impl FnOnce(&mut BufWriter<File>) -> Result<(), ArchiveError>,
) -> Result<(), ArchiveError> {
    let new = beside(path);
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| ArchiveError::Io { path, source }
    };
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new).map_err(at(&new))?;
    let written = (|| {
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, file);
        write(&mut out)?;
        out.flush().and_then(|()| out.get_ref().sync_all()).map_err(at(&new))?;
        std::fs::rename(&new, path).map_err(at(path))?;
        sync_directory(path).map_err(at(path))
    })();
    if written.is_err() {
        // The first error is the one to tell.
        std::fs::remove_file(&new).ok();
    }
    written
}

fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().display();
    path.with_file_name(format!(".{name}.{:08x}", fastrand::u32(..)))
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(parent(path))?.sync_all()
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
