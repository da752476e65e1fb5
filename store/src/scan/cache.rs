//! The stat cache: contents of files that have not changed since they were last read.
//!
//! A file is the same if device, inode, size, mtime and ctime are. That holds only for times safely before
//! the scan that read it began: a file written in the same clock tick in which it was read could change
//! again without a trace (git calls such entries racy). They are not cached. The file system's own clock is
//! asked, because that of a network file system may differ from this machine's.
//!
//! The cache is disposable: anything odd about it means that files are read.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::Stat;

use super::{LayerSource, ScanCounters};
use crate::digest::{BlobId, Digest};

const HEADER: &[u8] = b"landfall-stat 1\n";
const RECORD_BYTES: usize = 5 * 8 + 32;
const SUM_BYTES: usize = 32;
/// Longer than the tick of any kernel's clock.
const TICK_NS: i128 = 20_000_000;
/// For file systems that keep whole or even seconds only.
const COARSE_TICK_NS: i128 = 2_000_000_000;

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    pub(super) size: u64,
    /// Nanoseconds since the epoch; 64 bits reach the year 2262.
    modified: i64,
    changed: i64,
}

impl Stamp {
    pub(super) fn of(stat: &Stat) -> Self {
        let nanos = |seconds: i64, nanos: i64| seconds.saturating_mul(1_000_000_000).saturating_add(nanos);
        // The types of these numbers differ between architectures.
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: stat.st_size as u64,
            modified: nanos(stat.st_mtime, stat.st_mtime_nsec as i64),
            changed: nanos(stat.st_ctime, stat.st_ctime_nsec as i64),
        }
    }

    /// Whether a later change must show in the times.
    fn is_settled(&self, clock: i64) -> bool {
        let whole_seconds = self.modified % 1_000_000_000 == 0 && self.changed % 1_000_000_000 == 0;
        let tick = if whole_seconds { COARSE_TICK_NS } else { TICK_NS };
        i128::from(self.modified.max(self.changed)) + tick < i128::from(clock)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        for number in [self.device, self.inode, self.size] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.modified.to_le_bytes());
        out.extend_from_slice(&self.changed.to_le_bytes());
    }

    fn decode(record: &[u8]) -> Self {
        let word = |index: usize| std::array::from_fn(|at| record[index * 8 + at]);
        Self {
            device: u64::from_le_bytes(word(0)),
            inode: u64::from_le_bytes(word(1)),
            size: u64::from_le_bytes(word(2)),
            modified: i64::from_le_bytes(word(3)),
            changed: i64::from_le_bytes(word(4)),
        }
    }
}

/// An inode is nearly unique in a source: a hash of more would only cost time.
impl Hash for Stamp {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.inode);
    }
}

/// What the last scan of a layer's source found.
pub(super) struct StatCache {
    known: HashMap<Stamp, BlobId>,
    /// The file it is kept in, and the file system's time when this scan began.
    place: Option<(PathBuf, i64)>,
}

impl StatCache {
    /// The cache of a source; empty if there is none, or none that can be trusted.
    pub(super) fn load(dir: Option<&Path>, source: &LayerSource) -> Self {
        let Some(dir) = dir else { return Self { known: HashMap::new(), place: None } };
        let path = dir.join(file_name(source));
        let known = std::fs::read(&path).ok().and_then(|bytes| decode(&bytes)).unwrap_or_default();
        let place = match clock(dir) {
            Ok(clock) => Some((path, clock)),
            Err(error) => {
                tracing::warn!(dir = %dir.display(), %error, "no stat cache can be kept");
                None
            }
        };
        Self { known, place }
    }

    pub(super) fn blob(&self, stamp: &Stamp) -> Option<BlobId> {
        self.known.get(stamp).copied()
    }

    /// Keeps what this scan found, unless it found nothing new. A failure costs the next scan time only.
    pub(super) fn save(&self, files: impl Iterator<Item = (Stamp, BlobId)>, counters: ScanCounters) {
        let Some((path, clock)) = &self.place else { return };
        if counters.hashed == 0 && counters.files == self.known.len() as u64 {
            return;
        }
        let settled: HashMap<Stamp, BlobId> = files.filter(|(stamp, _)| stamp.is_settled(*clock)).collect();
        if settled != self.known
            && let Err(error) = replace(path, &encode(&settled))
        {
            tracing::warn!(path = %path.display(), %error, "cannot keep the stat cache");
        }
    }
}

/// One file for each layer and source, so that projects may share a directory.
fn file_name(source: &LayerSource) -> String {
    let mut identity = source.root.as_os_str().as_encoded_bytes().to_vec();
    for mapping in &source.files {
        identity.push(0);
        identity.extend_from_slice(mapping.from.as_os_str().as_encoded_bytes());
    }
    format!("{}-{}.stat", source.name, Digest::of(&identity).short())
}

/// The time of the file system that holds `dir`.
fn clock(dir: &Path) -> io::Result<i64> {
    std::fs::create_dir_all(dir)?;
    let probe = dir.join(format!(".clock-{}", std::process::id()));
    let file = std::fs::File::create(&probe)?;
    let now = Stamp::of(&rustix::fs::fstat(&file)?).modified;
    std::fs::remove_file(&probe)?;
    Ok(now)
}

fn encode(known: &HashMap<Stamp, BlobId>) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER.len() + known.len() * RECORD_BYTES + SUM_BYTES);
    out.extend_from_slice(HEADER);
    for (stamp, blob) in known {
        stamp.encode(&mut out);
        out.extend_from_slice(blob.0.as_bytes());
    }
    let sum = Digest::of(&out);
    out.extend_from_slice(sum.as_bytes());
    out
}

fn decode(bytes: &[u8]) -> Option<HashMap<Stamp, BlobId>> {
    let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(SUM_BYTES)?)?;
    if Digest::of(body).as_bytes() != sum {
        return None;
    }
    let records = body.strip_prefix(HEADER)?.chunks_exact(RECORD_BYTES);
    let blob = |record: &[u8]| BlobId(Digest::from_bytes(std::array::from_fn(|at| record[5 * 8 + at])));
    Some(records.map(|record| (Stamp::decode(record), blob(record))).collect())
}

/// Not durable on purpose: a lost cache is rebuilt, and the sum notices a torn one.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension(format!("new-{}", std::process::id()));
    std::fs::File::create(&new)?.write_all(bytes)?;
    std::fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(modified: i64) -> Stamp {
        Stamp { device: 1, inode: 2, size: 3, modified, changed: modified }
    }

    #[test]
    fn a_cache_reads_back_and_a_torn_or_flipped_one_is_ignored() {
        let known = HashMap::from([(stamp(1), BlobId::of(b"a")), (stamp(2), BlobId::of(b"b"))]);
        let bytes = encode(&known);
        assert_eq!(decode(&bytes).unwrap(), known);
        for end in 0..bytes.len() {
            assert!(decode(&bytes[..end]).is_none());
        }
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert!(decode(&flipped).is_none());
        }
    }

    #[test]
    fn a_file_as_young_as_the_scan_is_not_trusted() {
        let now = 1_700_000_000_500_000_000;
        assert!(!stamp(now).is_settled(now));
        assert!(!stamp(now - 10_000_000).is_settled(now));
        assert!(stamp(now - 30_000_000).is_settled(now));
        assert!(!stamp(1_700_000_000_000_000_000).is_settled(now), "whole seconds mean a coarse clock");
    }
}
