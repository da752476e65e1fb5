//! The words a store's server and its clients share, beside HTTP's own. `docs/formats.md` has them too.

use serde::{Deserialize, Serialize};

use super::Access;

/// A request's header that says who may read what it uploads.
pub const ACCESS_HEADER: &str = "landfall-access";
/// A request's header that says how an upload is written.
pub const WRITE_HEADER: &str = "landfall-write";
/// A value of [`WRITE_HEADER`]: in place of what has the key, even where that has the same bytes.
pub const WRITE_OVER: &str = "over";

impl Access {
    /// As the value of [`ACCESS_HEADER`].
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Private => "private",
        }
    }
}

/// Why a server refuses a request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Refusal {
    /// One word for machines.
    pub reason: String,
    /// What happened.
    pub message: String,
    /// What to do.
    #[serde(default)]
    pub hint: Option<String>,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, " ({hint})"))
    }
}

/// One object of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Its key.
    pub key: String,
    /// Its size in bytes.
    pub size: u64,
    /// When it was written, in milliseconds since 1970 by the server's clock.
    pub modified_ms: u64,
}

/// The answer to `GET /?list=<prefix>`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct List {
    /// In order of their keys.
    pub items: Vec<Item>,
}
