//! A store: a backend whose record says which formats it holds.

use std::io::Read;
use std::path::Path;
use std::sync::OnceLock;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::backend::{Access, Backend, BackendError, DirBackend, Meter, Metered};
use crate::digest::BlobId;
use crate::error::StoreError;
use crate::layout;
use crate::limits::RECORD_BYTES_MAX;

/// The store format this landfall reads and writes.
pub const FORMAT: u32 = 1;
const FEATURES: [&str; 2] = ["zstd", "delta"];

/// `landfall-store.json`. Readers ignore keys they do not know: the numbers decide.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    format: u32,
    min_reader: u32,
    min_writer: u32,
    features: Vec<String>,
    id: String,
}

/// An open store. Every read is verified against the name it was asked for.
pub struct Store {
    backend: Box<dyn Backend>,
    record: OnceLock<Record>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({})", self.location())
    }
}

impl Store {
    /// Opens the store in a directory.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        if !dir.join(layout::record().as_str()).exists() {
            return Err(StoreError::NotAStore(dir.display().to_string()));
        }
        Self::with_backend(Box::new(DirBackend::open(dir)?))
    }

    /// Opens the store in a directory for writing; makes it one if it holds none.
    pub fn create(dir: &Path) -> Result<Self, StoreError> {
        Self::create_with(Box::new(DirBackend::create(dir)?))
    }

    /// Opens the store in any backend.
    pub fn with_backend(backend: Box<dyn Backend>) -> Result<Self, StoreError> {
        let store = Self::reach(backend);
        store.record()?;
        Ok(store)
    }

    /// The store in a backend, of which nothing is asked yet. What is read of a store is proved by its name,
    /// whatever the record says; whether this is a store of a known format is looked up when something fails.
    pub fn reach(backend: Box<dyn Backend>) -> Self {
        Self { backend, record: OnceLock::new() }
    }

    /// The same store, with the documents that are read of it from now on counted by `meter`.
    #[must_use]
    pub fn metered(self, meter: &Meter) -> Self {
        let backend = Box::new(Metered { backend: self.backend, meter: meter.clone() });
        Self { backend, record: self.record }
    }

    /// The record of a store that this landfall can read.
    fn record(&self) -> Result<&Record, StoreError> {
        if let Some(record) = self.record.get() {
            return Ok(record);
        }
        let at = self.location();
        let bytes = self
            .backend
            .find(&layout::record(), RECORD_BYTES_MAX)?
            .ok_or_else(|| StoreError::NotAStore(at.clone()))?;
        let record: Record = serde_json::from_slice(&bytes)
            .map_err(|error| StoreError::Record { at: at.clone(), why: error.to_string() })?;
        if record.min_reader > FORMAT {
            return Err(newer(at, &record, "reads", record.min_reader));
        }
        Ok(self.record.get_or_init(|| record))
    }

    /// An error, or the better one that this is no store, or not one for this landfall.
    pub(crate) fn explain(&self, error: StoreError) -> StoreError {
        if matches!(error, StoreError::Cancelled | StoreError::Sink { .. }) {
            return error;
        }
        match self.record() {
            Err(
                better @ (StoreError::NotAStore(_)
                | StoreError::Record { .. }
                | StoreError::NewerFormat { .. }),
            ) => better,
            _ => error,
        }
    }

    /// Opens the store in any backend for writing; makes it one if it holds none.
    pub fn create_with(backend: Box<dyn Backend>) -> Result<Self, StoreError> {
        let key = layout::record();
        if backend.size(&key)?.is_none() {
            let record = new_record().map_err(|source| BackendError::Io {
                action: "make an id for",
                key: key.to_string(),
                at: backend.location(),
                source,
            })?;
            // Of two creators one loses the race and reads what the other wrote.
            backend.put_new(&key, &record, Access::Public)?;
        }
        let store = Self::with_backend(backend)?;
        store.check_writable()?;
        Ok(store)
    }

    /// Whether this landfall may write here.
    pub(crate) fn check_writable(&self) -> Result<(), StoreError> {
        let record = self.record()?;
        if record.min_writer > FORMAT {
            return Err(newer(self.location(), record, "writes", record.min_writer));
        }
        match record.features.iter().find(|feature| !FEATURES.contains(&feature.as_str())) {
            None => Ok(()),
            Some(feature) => {
                Err(StoreError::UnknownFeature { at: self.location(), feature: feature.clone() })
            }
        }
    }

    /// Where it is, for messages.
    pub fn location(&self) -> String {
        self.backend.location()
    }

    /// What its own clock says.
    pub fn now(&self) -> Result<SystemTime, StoreError> {
        Ok(self.backend.now()?)
    }

    /// Its random id: two stores with one id are copies of each other.
    pub fn id(&self) -> Result<&str, StoreError> {
        Ok(&self.record()?.id)
    }

    pub(crate) fn backend(&self) -> &dyn Backend {
        &*self.backend
    }

    pub(crate) fn unavailable(
        &self,
        blob: BlobId,
        path: String,
        more: usize,
        why: impl ToString,
    ) -> StoreError {
        StoreError::Unavailable { blob, path, more, at: self.location(), why: why.to_string() }
    }

    pub(crate) fn damaged(&self, object: impl ToString, why: impl ToString) -> StoreError {
        StoreError::Damaged { object: object.to_string(), at: self.location(), why: why.to_string() }
    }
}

/// Whether bytes have the form of a store's record.
pub(crate) fn check_record(bytes: &[u8]) -> Result<(), String> {
    serde_json::from_slice::<Record>(bytes).map(drop).map_err(|error| error.to_string())
}

fn newer(at: String, record: &Record, verb: &'static str, needed: u32) -> StoreError {
    StoreError::NewerFormat { at, format: record.format, verb, needed, known: FORMAT }
}

fn new_record() -> std::io::Result<Vec<u8>> {
    let record = Record {
        format: FORMAT,
        min_reader: FORMAT,
        min_writer: FORMAT,
        features: FEATURES.map(str::to_owned).to_vec(),
        id: random_uuid()?,
    };
    let mut text = serde_json::to_vec(&record)?;
    text.push(b'\n');
    Ok(text)
}

/// A version 4 UUID.
pub(crate) fn random_uuid() -> std::io::Result<String> {
    let mut bytes = [0u8; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_created_once_and_keeps_its_id() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(Store::open(dir.path()), Err(StoreError::NotAStore(_))));
        let first = Store::create(dir.path()).unwrap().id().unwrap().to_owned();
        assert_eq!(Store::create(dir.path()).unwrap().id().unwrap(), first);
        assert_eq!(Store::open(dir.path()).unwrap().id().unwrap(), first);
    }

    #[test]
    fn a_newer_store_is_refused_by_name_and_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("landfall-store.json");
        let text = r#"{"format":3,"min_reader":2,"min_writer":3,"features":["x"],"id":"u","more":1}"#;
        std::fs::write(&path, text).unwrap();
        let error = Store::create(dir.path()).unwrap_err().to_string();
        assert!(error.contains("format 3") && error.contains("install a newer landfall"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }

    #[test]
    fn a_store_that_only_newer_ones_may_write_can_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("landfall-store.json");
        for text in [
            r#"{"format":2,"min_reader":1,"min_writer":2,"features":[],"id":"u"}"#,
            r#"{"format":1,"min_reader":1,"min_writer":1,"features":["seal"],"id":"u"}"#,
        ] {
            std::fs::write(&path, text).unwrap();
            assert!(Store::create(dir.path()).is_err());
            Store::open(dir.path()).unwrap();
        }
    }

    #[test]
    fn a_truncated_record_is_an_error_and_never_a_panic() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("landfall-store.json");
        let whole = String::from_utf8(new_record().unwrap()).unwrap();
        for end in 0..whole.trim_end().len() {
            std::fs::write(&path, &whole[..end]).unwrap();
            assert!(matches!(Store::open(dir.path()), Err(StoreError::Record { .. })));
        }
    }
}
