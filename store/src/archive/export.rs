//! Archives out: the same bytes for the same content, everywhere and always.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read, Write};

use tar::{EntryType, Header};

use super::{ARTIFACT_MEMBER, BLOBS, BLOCK_BYTES, Format, TREES, pax};
use crate::artifact::{Artifact, ArtifactError};
use crate::blob::BlobSource;
use crate::digest::{BlobId, TreeId};
use crate::path::{EntryPath, tree_order};
use crate::tree::{Entry, Kind, Tree};
use crate::verified::Verified;

/// zstd's level: fast, and nearly as small as those above it.
const ZSTD_LEVEL: i32 = 3;

/// Why an archive could not be written. What was written until then is no archive.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The output failed.
    #[error("cannot write the archive: {0}")]
    Write(io::Error),
    /// A content could not be read, or is not what it is named for.
    #[error("cannot export `{path}`, content {blob}: {source}")]
    Content {
        /// The file.
        path: EntryPath,
        /// Its content.
        blob: BlobId,
        /// What happened.
        source: io::Error,
    },
    /// The artifact has no bytes.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// The trees are not those that the artifact names.
    #[error("the artifact names the tree {0}, which is not among those to export")]
    Trees(TreeId),
}

/// What is to be exported.
#[derive(Clone, Copy)]
pub struct Export<'a> {
    /// With it, the archive is that artifact, and import gives back its id. Without: just files.
    pub artifact: Option<&'a Artifact>,
    /// The trees of the artifact's layers, in their order; without an artifact, trees that do not overlap.
    pub trees: &'a [Tree],
    /// Where contents come from; each is verified on its way.
    pub source: &'a dyn BlobSource,
    /// The compression.
    pub format: Format,
    /// The time of every member, in seconds since 1970: 0, or `SOURCE_DATE_EPOCH`.
    pub mtime_s: u64,
}

/// Writes the archive.
pub fn export(job: &Export<'_>, out: impl Write) -> Result<(), ExportError> {
    match job.format {
        Format::Tar => write_tar(job, out).map(drop),
        Format::Gzip => {
            let gzip = flate2::GzBuilder::new().mtime(0).operating_system(255);
            let tar = write_tar(job, gzip.write(out, flate2::Compression::default()))?;
            tar.finish().and_then(|mut out| out.flush()).map_err(ExportError::Write)
        }
        Format::Zstd => {
            let tar = write_tar(job, zstd_stream(out).map_err(ExportError::Write)?)?;
            tar.finish().and_then(|mut out| out.flush()).map_err(ExportError::Write)
        }
    }
}

fn zstd_stream<W: Write>(out: W) -> io::Result<zstd::Encoder<'static, W>> {
    let mut encoder = zstd::Encoder::new(out, ZSTD_LEVEL)?;
    encoder.include_checksum(true)?;
    Ok(encoder)
}

fn write_tar<W: Write>(job: &Export<'_>, out: W) -> Result<W, ExportError> {
    let mut tar = Tar { out, mtime_s: job.mtime_s };
    let (visible, hidden) = arrange(job.trees);
    if let Some(artifact) = job.artifact {
        own_members(job, artifact, &hidden, &mut tar)?;
    }
    let mut made: Vec<&[u8]> = Vec::new();
    for entry in visible {
        parents(entry, &mut made, &mut tar)?;
        tar.entry(entry, job.source)?;
    }
    tar.out.write_all(&[0; 2 * BLOCK_BYTES]).and_then(|()| tar.out.flush()).map_err(ExportError::Write)?;
    Ok(tar.out)
}

/// Divides all entries into those that have their path in the archive, in tree order, and files whose path
/// another layer's entry has. Layers that never meet on a host may have different files at one path.
fn arrange(trees: &[Tree]) -> (Vec<&Entry>, Vec<&Entry>) {
    let mut taken: HashMap<&[u8], &Entry> = HashMap::new();
    let mut directories: HashSet<&[u8]> = HashSet::new();
    let (mut visible, mut hidden) = (Vec::new(), Vec::new());
    for entry in trees.iter().flat_map(Tree::entries) {
        let path = entry.path.as_bytes();
        let above = || path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &path[..at]);
        let below_file = above().any(|dir| taken.get(dir).is_some_and(|other| other.kind != Kind::EmptyDir));
        let is_free = !taken.contains_key(path) && !directories.contains(path);
        if is_free && !below_file {
            taken.insert(path, entry);
            directories.extend(above());
            visible.push(entry);
        } else if taken.get(path).is_none_or(|other| other.kind != entry.kind) {
            hidden.push(entry);
        }
    }
    // An empty directory of one layer that another fills is made as a parent.
    visible.retain(|entry| entry.kind != Kind::EmptyDir || !directories.contains(entry.path.as_bytes()));
    visible.sort_unstable_by(|a, b| tree_order(a.path.as_bytes(), b.path.as_bytes()));
    (visible, hidden)
}

fn own_members<W: Write>(
    job: &Export<'_>,
    artifact: &Artifact,
    hidden: &[&Entry],
    tar: &mut Tar<W>,
) -> Result<(), ExportError> {
    tar.own(ARTIFACT_MEMBER, &artifact.encode()?)?;
    let mut written = HashSet::new();
    for (index, layer) in artifact.layers.iter().enumerate() {
        let bytes = job.trees.get(index).map(Tree::encode).unwrap_or_default();
        if TreeId::of(&bytes) != layer.tree || job.trees.len() != artifact.layers.len() {
            return Err(ExportError::Trees(layer.tree));
        }
        if written.insert(layer.tree) {
            tar.own(&[TREES, layer.tree.to_string().as_bytes()].concat(), &bytes)?;
        }
    }
    let mut contents: Vec<(BlobId, &Entry)> = hidden
        .iter()
        .filter_map(|entry| match entry.kind {
            Kind::File { size: 1.., blob, .. } => Some((blob, *entry)),
            _ => None,
        })
        .collect();
    contents.sort_by_key(|(blob, _)| *blob);
    contents.dedup_by_key(|(blob, _)| *blob);
    for (blob, entry) in contents {
        let name = [BLOBS, blob.to_string().as_bytes()].concat();
        tar.file(&name, false, entry, job.source)?;
    }
    Ok(())
}

/// Writes the directories above an entry that are not written yet.
fn parents<'a, W: Write>(
    entry: &'a Entry,
    made: &mut Vec<&'a [u8]>,
    tar: &mut Tar<W>,
) -> Result<(), ExportError> {
    let path = entry.path.as_bytes();
    made.retain(|dir| entry.path.is_at_or_below(dir));
    let above = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &path[..at]);
    for dir in above.skip(made.len()) {
        tar.directory(dir)?;
        made.push(dir);
    }
    Ok(())
}

struct Tar<W> {
    out: W,
    mtime_s: u64,
}

impl<W: Write> Tar<W> {
    fn entry(&mut self, entry: &Entry, source: &dyn BlobSource) -> Result<(), ExportError> {
        let path = entry.path.as_bytes();
        match &entry.kind {
            Kind::EmptyDir => self.directory(path),
            Kind::Link { target } => {
                self.header(path, target, EntryType::Symlink, 0o755, 0).map_err(ExportError::Write)
            }
            Kind::File { executable, .. } => self.file(path, *executable, entry, source),
        }
    }

    fn directory(&mut self, path: &[u8]) -> Result<(), ExportError> {
        let name = [path, b"/"].concat();
        self.header(&name, b"", EntryType::Directory, 0o755, 0).map_err(ExportError::Write)
    }

    fn file(
        &mut self,
        name: &[u8],
        executable: bool,
        entry: &Entry,
        source: &dyn BlobSource,
    ) -> Result<(), ExportError> {
        let Kind::File { size, blob, .. } = entry.kind else { return Ok(()) };
        let mode = if executable { 0o755 } else { 0o644 };
        self.header(name, b"", EntryType::Regular, mode, size).map_err(ExportError::Write)?;
        if size == 0 {
            return Ok(());
        }
        let unreadable = |source| ExportError::Content { path: entry.path.clone(), blob, source };
        let mut content = Verified::new(source.open(&blob, size).map_err(unreadable)?, blob, size);
        let mut buffer = vec![0; 128 << 10];
        loop {
            match content.read(&mut buffer).map_err(unreadable)? {
                0 => return self.pad(size).map_err(ExportError::Write),
                count => self.out.write_all(&buffer[..count]).map_err(ExportError::Write)?,
            }
        }
    }

    /// One of landfall's own members.
    fn own(&mut self, name: &[u8], content: &[u8]) -> Result<(), ExportError> {
        let size = content.len() as u64;
        self.header(name, b"", EntryType::Regular, 0o644, size)
            .and_then(|()| self.out.write_all(content))
            .and_then(|()| self.pad(size))
            .map_err(ExportError::Write)
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let over = (size % BLOCK_BYTES as u64) as usize;
        if over == 0 { Ok(()) } else { self.out.write_all(&[0; BLOCK_BYTES][over..]) }
    }

    /// A ustar header, after an extended one where ustar cannot say it.
    fn header(&mut self, name: &[u8], link: &[u8], kind: EntryType, mode: u32, size: u64) -> io::Result<()> {
        let split = split(name);
        let mut records = Vec::new();
        let binary = |text: &[u8]| std::str::from_utf8(text).is_err();
        if (split.is_none() && binary(name)) || (!fits(link) && binary(link)) {
            pax::write("hdrcharset", b"BINARY", &mut records);
        }
        if split.is_none() {
            pax::write("path", name, &mut records);
        }
        if !fits(link) {
            pax::write("linkpath", link, &mut records);
        }
        if !records.is_empty() {
            let length = records.len() as u64;
            self.block((b"", b"././@PaxHeader"), b"", EntryType::XHeader, 0o644, length)?;
            self.out.write_all(&records)?;
            self.pad(length)?;
        }
        let name = split.unwrap_or((b"", ASCII_STAND_IN));
        let link = if fits(link) { link } else { ASCII_STAND_IN };
        self.block(name, link, kind, mode, size)
    }

    fn block(
        &mut self,
        (prefix, name): (&[u8], &[u8]),
        link: &[u8],
        kind: EntryType,
        mode: u32,
        size: u64,
    ) -> io::Result<()> {
        let mut header = Header::new_ustar();
        let fields = header.as_old_mut();
        fields.name[..name.len()].copy_from_slice(name);
        fields.linkname[..link.len()].copy_from_slice(link);
        if let Some(ustar) = header.as_ustar_mut() {
            ustar.prefix[..prefix.len()].copy_from_slice(prefix);
        }
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(self.mtime_s);
        // In octal below 8 GiB, above in GNU's binary form.
        header.set_size(size);
        header.set_cksum();
        self.out.write_all(header.as_bytes())
    }
}

/// Stands where the extended header has the real name.
const ASCII_STAND_IN: &[u8] = b"././@LongName";

/// What the 100 bytes of a field hold, and every reader understands.
fn fits(text: &[u8]) -> bool {
    text.len() <= 100 && text.is_ascii()
}

/// The name divided between ustar's two fields, if they can hold it.
fn split(name: &[u8]) -> Option<(&[u8], &[u8])> {
    if fits(name) {
        return Some((b"", name));
    }
    // At the last possible slash, so that the prefix is as long as can be; never before a closing one.
    let last = name.len().checked_sub(2)?.min(155);
    let at = name[..=last].iter().rposition(|byte| *byte == b'/').filter(|at| *at > 0)?;
    let (prefix, rest) = (&name[..at], &name[at + 1..]);
    (rest.len() <= 100 && name.is_ascii()).then_some((prefix, rest))
}
