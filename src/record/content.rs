//! What the last pass over the files of the linked release found, kept for whoever asks for the status.
//!
//! There is a record only while something is wrong: at rest a pass writes nothing.

use serde::{Deserialize, Serialize};

use super::RecordError;
use super::sealed::{self, Sealed};
use crate::disk::Disk;
use crate::layout::AppDir;

/// Paths that are named; all are counted.
pub const NAMED_MAX: usize = 20;

/// A path that is not as it was prepared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wrong {
    /// Relative to the release.
    pub path: String,
    /// What is wrong with it, as a sentence about "it".
    pub fault: String,
}

/// Differences between a release's files and what was prepared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// The name of the release.
    pub release: String,
    /// Paths that are missing or damaged, in all.
    pub wrong: u64,
    /// The first [`NAMED_MAX`] of them.
    pub named: Vec<Wrong>,
    /// Paths beside the release's own, in all.
    pub added: u64,
    /// The first of them.
    pub first_added: Option<String>,
}

impl Sealed for Content {
    const KIND: &'static str = "content";
}

impl Content {
    /// Whether nothing differs.
    pub const fn is_whole(&self) -> bool {
        self.wrong == 0 && self.added == 0
    }

    /// What was found last of this release; what cannot be read is found again by the next pass.
    pub fn of(disk: &dyn Disk, dir: &AppDir, release: &str) -> Option<Self> {
        let found: Option<Self> = sealed::read(disk, &dir.content()).ok().flatten();
        found.filter(|found| found.release == release)
    }

    /// Keeps what was found. True: it is not what was known before.
    pub fn keep(&self, disk: &dyn Disk, dir: &AppDir) -> Result<bool, RecordError> {
        let path = dir.content();
        let known: Option<Self> = sealed::read(disk, &path).unwrap_or_default();
        match (known, self.is_whole()) {
            (None, true) => Ok(false),
            (Some(known), false) if known == *self => Ok(false),
            (_, false) => sealed::write(disk, &path, self).map(|()| true),
            (Some(_), true) => disk.remove(&path).map_err(RecordError::io(path)).map(|()| true),
        }
    }
}

impl std::fmt::Display for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.named.first(), &self.first_added) {
            (Some(Wrong { path, fault }), _) => {
                write!(f, "`{path}`: {fault}")?;
                match self.wrong - 1 {
                    0 => Ok(()),
                    more => write!(f, ", and {more} more"),
                }
            }
            (None, Some(first)) => match self.added {
                1 => write!(f, "`{first}` is beside the release's own files"),
                count => write!(f, "{count} files are beside the release's own, the first `{first}`"),
            },
            (None, None) => f.write_str("every file is as it was prepared"),
        }
    }
}
