//! Where a store is, as people write it, and how it is opened.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::backend::{Backend, DirBackend, HttpBackend, MirroredBackend, S3Backend};
use crate::error::StoreError;
use crate::layout;
use crate::store::Store;

/// A place that holds artifacts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StoreLocation {
    /// A directory.
    Dir(PathBuf),
    /// A static HTTP(S) server: an address without credentials.
    Http(String),
    /// A bucket of S3-compatible object storage.
    S3 {
        /// The bucket.
        bucket: String,
        /// What keys begin with; may be empty.
        prefix: String,
    },
}

/// Why a text is not a store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreLocationError {
    /// Nothing at all.
    #[error("the store's place is empty")]
    Empty,
    /// A scheme landfall does not speak.
    #[error("`{0}://` is not a kind of store: a directory, https://, http:// or s3://")]
    Scheme(String),
    /// No host or bucket.
    #[error("the store `{0}` names no server or bucket")]
    NoAuthority(String),
    /// A password in an address. The address is not repeated.
    #[error("the store's address has credentials in it: they would end up in logs")]
    Credentials,
}

impl StoreLocation {
    /// Reads a place; a relative directory is relative to `base`.
    pub fn parse(text: &str, base: &Path) -> Result<Self, StoreLocationError> {
        if text.is_empty() {
            return Err(StoreLocationError::Empty);
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Ok(Self::Dir(base.join(text)));
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        match (scheme, authority) {
            (_, authority) if authority.contains('@') => Err(StoreLocationError::Credentials),
            ("http" | "https" | "s3", "") => Err(StoreLocationError::NoAuthority(text.to_owned())),
            ("file", "") => Ok(Self::Dir(Path::new("/").join(path))),
            ("http" | "https", _) => Ok(Self::Http(text.trim_end_matches('/').to_owned())),
            ("s3", bucket) => {
                Ok(Self::S3 { bucket: bucket.to_owned(), prefix: path.trim_matches('/').to_owned() })
            }
            (other, _) => Err(StoreLocationError::Scheme(other.to_owned())),
        }
    }
}

impl fmt::Display for StoreLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dir(path) => write!(f, "{}", path.display()),
            Self::Http(url) => f.write_str(url),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

/// Everything needed to open a store. It holds no secret: only where one is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreAddress {
    /// The place that is asked first, and the only one that is written to.
    pub location: StoreLocation,
    /// Places with the same objects, asked in order when the first cannot give one.
    pub mirrors: Vec<StoreLocation>,
    /// A file whose first line is the bearer token of an HTTP store.
    pub token_file: Option<PathBuf>,
}

impl From<StoreLocation> for StoreAddress {
    fn from(location: StoreLocation) -> Self {
        Self { location, mirrors: Vec::new(), token_file: None }
    }
}

impl StoreAddress {
    /// The store, which must exist.
    pub fn open(&self) -> Result<Store, StoreError> {
        Store::with_backend(self.backend()?)
    }

    /// The store without its mirrors, which must exist: what they have, it may lack.
    pub fn open_alone(&self) -> Result<Store, StoreError> {
        Store::with_backend(self.place(&self.location)?)
    }

    /// The store, of which nothing is asked yet: for a fetch, which says by itself if there is none.
    pub fn reach(&self) -> Result<Store, StoreError> {
        Ok(Store::reach(self.backend()?))
    }

    /// The store for writing, made if there is none. Mirrors are never written to, and never read for it:
    /// what they have, the store may lack.
    pub fn create(&self) -> Result<Store, StoreError> {
        match &self.location {
            StoreLocation::Dir(dir) => Store::create(dir),
            StoreLocation::Http(_) | StoreLocation::S3 { .. } => {
                Store::create_with(self.place(&self.location)?)
            }
        }
    }

    /// The place and its mirrors, for reading. Nothing is asked of a network yet; a directory that is not
    /// there is left out if there is another place.
    pub fn backend(&self) -> Result<Box<dyn Backend>, StoreError> {
        let mut places = Vec::new();
        let mut problem = None;
        for location in std::iter::once(&self.location).chain(&self.mirrors) {
            match self.place(location) {
                Ok(place) => places.push(place),
                Err(error) => {
                    tracing::warn!(%error, "this place is not asked");
                    problem.get_or_insert(error);
                }
            }
        }
        let mut places = places.into_iter();
        match (places.next(), problem) {
            (Some(only), _) if places.len() == 0 => Ok(only),
            (Some(store), _) => Ok(Box::new(MirroredBackend::new(store, places.collect()))),
            (None, Some(problem)) => Err(problem),
            (None, None) => Err(StoreError::NotAStore(self.to_string())),
        }
    }

    fn place(&self, location: &StoreLocation) -> Result<Box<dyn Backend>, StoreError> {
        match location {
            StoreLocation::Dir(dir) if !dir.join(layout::record().as_str()).exists() => {
                Err(StoreError::NotAStore(dir.display().to_string()))
            }
            StoreLocation::Dir(dir) => Ok(Box::new(DirBackend::open(dir)?)),
            StoreLocation::Http(address) => {
                Ok(Box::new(HttpBackend::open(address, self.token_file.as_deref())?))
            }
            StoreLocation::S3 { bucket, prefix } => Ok(Box::new(S3Backend::open(bucket, prefix)?)),
        }
    }

    /// The directory, if it is one.
    pub fn dir(&self) -> Option<&Path> {
        match &self.location {
            StoreLocation::Dir(dir) => Some(dir),
            StoreLocation::Http(_) | StoreLocation::S3 { .. } => None,
        }
    }
}

impl fmt::Display for StoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.location.fmt(f)
    }
}
