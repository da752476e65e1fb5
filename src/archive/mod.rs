//! Artifacts as archives: `.tar`, `.tgz` and `.tar.zst`, in and out of a store.
//!
//! An archive that landfall wrote carries its artifact and gives back its id. Any other archive becomes an
//! artifact with the recipe in it, or with none.

mod error;
mod export;
mod import;
mod name;

pub use error::ArchiveError;
pub use export::{export, prepare};
pub use import::{ImportRequest, import};
pub use name::{Stamp, StampError, destination};
