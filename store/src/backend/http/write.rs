//! What changes a store behind HTTP, and what a server must say of itself beyond single objects.

use std::io;

use super::HttpBackend;
use crate::backend::{Access, BackendError, Key, Listed, Upload};

const READ_ONLY: &str =
    "a static server takes no uploads: push to a directory and copy that, or to a server of `landfall serve`";
const NO_LISTS: &str = "a static server has no lists: name artifacts by version or by full id";

impl HttpBackend {
    pub(super) fn begin_upload(
        &self,
        under: Option<&Key>,
        _access: Access,
    ) -> Result<Box<dyn Upload + '_>, BackendError> {
        Err(self.unable("write an object in", under.map_or(".", Key::as_str), READ_ONLY))
    }

    pub(super) fn overwrite(&self, key: &Key, _bytes: &[u8]) -> Result<(), BackendError> {
        Err(self.unable("write", key.as_str(), READ_ONLY))
    }

    pub(super) fn remove(&self, key: &Key) -> Result<(), BackendError> {
        Err(self.unable("delete", key.as_str(), READ_ONLY))
    }

    pub(super) fn listed(&self, under: &Key) -> Result<Vec<Listed>, BackendError> {
        Err(self.unable("list", under.as_str(), NO_LISTS))
    }

    fn unable(&self, action: &'static str, key: &str, why: &str) -> BackendError {
        let source = io::Error::new(io::ErrorKind::Unsupported, why);
        BackendError::Io { action, key: key.to_owned(), at: self.shown(), source }
    }
}
