//! What landfall remembers on a host: journal, history, quarantine, releases.
//!
//! Plain files, readable with stock tools. Small ones are sealed (a checksum over kind and content) and
//! replaced whole; the history is append-only and chained by hash. A damaged record is an error that names
//! the file, never "empty".

pub mod acceptances;
pub mod content;
pub mod controls;
pub mod fetching;
pub mod history;
pub mod journal;
pub mod quarantine;
pub mod refused;
pub mod release;
pub mod sealed;
pub mod source;

use std::path::PathBuf;

/// Why a record cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The system refused to read or write it.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Its bytes are not what landfall wrote.
    #[error("{path} is damaged: {why}")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// How that shows.
        why: String,
    },
    /// A newer landfall wrote it; it is left alone.
    #[error(
        "{path} was written by a newer landfall (format {found}, this one reads up to {known}) and is left as it is: install that landfall again"
    )]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest this landfall knows.
        known: u32,
    },
}

impl RecordError {
    /// Wraps what the system said about a file.
    pub fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}
