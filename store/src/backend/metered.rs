//! A place whose reading is counted: what finding out costs, told apart from what it is about.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use super::{Access, Backend, BackendError, Cost, Key, Listed, Opened, Upload};
use crate::layout;

/// Counts the bytes of documents that are read of a store: everything but packs and deltas, whose bytes are
/// known from documents. Copies count together.
#[derive(Debug, Clone, Default)]
pub struct Meter(Arc<AtomicU64>);

impl Meter {
    /// Bytes so far.
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Any place, counted.
pub(crate) struct Metered {
    pub(crate) backend: Box<dyn Backend>,
    pub(crate) meter: Meter,
}

impl Metered {
    fn count<'a>(&self, key: &Key, stream: Box<dyn Read + Send + 'a>) -> Box<dyn Read + Send + 'a> {
        if [layout::packs(), layout::deltas()].contains(&key.top().unwrap_or_else(|| key.clone())) {
            return stream;
        }
        Box::new(Counted { stream, meter: self.meter.clone() })
    }
}

struct Counted<'a> {
    stream: Box<dyn Read + Send + 'a>,
    meter: Meter,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        self.meter.0.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

impl Backend for Metered {
    fn location(&self) -> String {
        self.backend.location()
    }

    fn cost(&self) -> Cost {
        self.backend.cost()
    }

    fn now(&self) -> Result<SystemTime, BackendError> {
        self.backend.now()
    }

    fn size(&self, key: &Key) -> Result<Option<u64>, BackendError> {
        self.backend.size(key)
    }

    fn read(&self, key: &Key, offset: u64, length: u64) -> Result<Box<dyn Read + Send + '_>, BackendError> {
        Ok(self.count(key, self.backend.read(key, offset, length)?))
    }

    fn open(&self, key: &Key, offset: u64, length: u64) -> Result<Opened<'_>, BackendError> {
        Ok(match self.backend.open(key, offset, length)? {
            Opened::Part(stream) => Opened::Part(self.count(key, stream)),
            Opened::Whole(stream) => Opened::Whole(self.count(key, stream)),
        })
    }

    fn mistrust(&self, key: &Key) -> bool {
        self.backend.mistrust(key)
    }

    fn begin(&self, under: Option<&Key>, access: Access) -> Result<Box<dyn Upload + '_>, BackendError> {
        self.backend.begin(under, access)
    }

    fn replace(&self, key: &Key, bytes: &[u8]) -> Result<(), BackendError> {
        self.backend.replace(key, bytes)
    }

    fn list(&self, under: &Key) -> Result<Vec<Listed>, BackendError> {
        self.backend.list(under)
    }

    fn delete(&self, key: &Key) -> Result<(), BackendError> {
        self.backend.delete(key)
    }
}
