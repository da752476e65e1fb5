//! Where desired state comes from. A source hands over bytes and says which commit they are; judging them is
//! not its business.

pub mod file;

use std::path::PathBuf;

/// Why there is no state.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// There is no such file (yet).
    #[error("{path}: there is no such state file")]
    Missing {
        /// Which file.
        path: PathBuf,
    },
    /// It cannot be read.
    #[error("{path}: {source}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Bytes of a state file: thousands of apps.
pub const STATE_BYTES_MAX: u64 = 1 << 20;
