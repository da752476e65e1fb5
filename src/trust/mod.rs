//! Whether a state from a repository may be taken: order, signatures, numbers. Pure: facts in, verdict out.
//!
//! The order of the questions is fixed. First ancestry: the new commit must come after the last accepted one.
//! Then signatures, over the commits that change the file. The state's own words (its `serial`) are looked at
//! last, because only then is it known whose words they are.

pub mod graph;
mod judge;
mod serial;
mod signature;
pub mod signers;

use std::fmt;

pub use judge::{Before, Facts, Floor, Refusal, Signed, Verdict, judge};
pub use serial::{SERIAL_STEP_MAX, SerialFault, follows};
pub use signature::{Unsigned, signed_by};
pub use signers::{Signers, SignersError};

/// The id of a commit: 40 hex digits, or 64 in a repository of SHA-256.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitId(String);

impl CommitId {
    /// A full id; nothing abbreviated, no name.
    pub fn parse(text: &str) -> Option<Self> {
        is_id(text).then(|| Self(text.to_owned()))
    }

    /// As git takes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// For people.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl fmt::Display for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The id of a file's content.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobId(String);

impl BlobId {
    /// A full id.
    pub fn parse(text: &str) -> Option<Self> {
        is_id(text).then(|| Self(text.to_owned()))
    }
}

fn is_id(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
