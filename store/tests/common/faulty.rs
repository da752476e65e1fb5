//! A backend that fails, or lies, when it is told to.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a helper of tests fails by panicking")]

use std::collections::HashSet;
use std::io::{self, Cursor, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use landfall_store::backend::{Access, Backend, BackendError, Cost, DirBackend, Key, Listed, Put, Upload};

/// What goes wrong.
pub struct Faulty {
    inner: DirBackend,
    /// Writing calls until every one fails; negative: never.
    pub writes_left: AtomicI64,
    /// Flips a bit of the first read of every object.
    pub flip_first_reads: bool,
    /// Bytes after which the first read of each delta is cut; negative: never.
    pub cut_deltas_at: AtomicI64,
    /// Key, offset and length of every read.
    pub reads: Arc<Mutex<Vec<(String, u64, u64)>>>,
    seen: Mutex<HashSet<String>>,
    /// Bytes that reads returned.
    pub bytes_read: AtomicU64,
}

impl Faulty {
    pub fn new(dir: &Path) -> Self {
        Self {
            inner: DirBackend::create(dir).unwrap(),
            writes_left: AtomicI64::new(-1),
            flip_first_reads: false,
            cut_deltas_at: AtomicI64::new(-1),
            reads: Arc::default(),
            seen: Mutex::default(),
            bytes_read: AtomicU64::new(0),
        }
    }

    fn write_fault(&self) -> io::Result<()> {
        let left = self.writes_left.load(Ordering::SeqCst);
        if left < 0 {
            return Ok(());
        }
        self.writes_left.store((left - 1).max(0), Ordering::SeqCst);
        if left == 0 { Err(io::Error::from(io::ErrorKind::StorageFull)) } else { Ok(()) }
    }

    fn fault(&self, key: &Key) -> Result<(), BackendError> {
        self.write_fault().map_err(|source| BackendError::Io {
            action: "write",
            key: key.to_string(),
            at: self.location(),
            source,
        })
    }
}

/// A connection that was cut.
struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::ConnectionReset.into())
    }
}

struct FaultyUpload<'a>(&'a Faulty, Box<dyn Upload + 'a>);

impl Write for FaultyUpload<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write_fault()?;
        self.1.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.1.flush()
    }
}

impl Upload for FaultyUpload<'_> {
    fn commit(self: Box<Self>, key: &Key) -> Result<Put, BackendError> {
        self.0.fault(key)?;
        self.1.commit(key)
    }
    fn overwrite(self: Box<Self>, key: &Key) -> Result<(), BackendError> {
        self.0.fault(key)?;
        self.1.overwrite(key)
    }
}

impl Backend for Faulty {
    fn location(&self) -> String {
        self.inner.location()
    }
    fn cost(&self) -> Cost {
        self.inner.cost()
    }
    fn now(&self) -> Result<std::time::SystemTime, BackendError> {
        self.inner.now()
    }
    fn size(&self, key: &Key) -> Result<Option<u64>, BackendError> {
        self.inner.size(key)
    }
    fn read(&self, key: &Key, offset: u64, length: u64) -> Result<Box<dyn Read + Send + '_>, BackendError> {
        let mut bytes = Vec::new();
        self.inner.read(key, offset, length)?.read_to_end(&mut bytes).unwrap();
        self.bytes_read.fetch_add(bytes.len() as u64, Ordering::SeqCst);
        self.reads.lock().unwrap().push((key.to_string(), offset, bytes.len() as u64));
        let first = self.seen.lock().unwrap().insert(key.to_string());
        if self.flip_first_reads && first && !key.as_str().ends_with("landfall-store.json") {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }
        let cut = usize::try_from(self.cut_deltas_at.load(Ordering::SeqCst)).ok();
        if let (Some(cut), true) = (cut, first && key.as_str().ends_with(".lfd")) {
            bytes.truncate(cut);
            return Ok(Box::new(Cursor::new(bytes).chain(Broken)));
        }
        Ok(Box::new(Cursor::new(bytes)))
    }
    fn begin(&self, under: Option<&Key>, access: Access) -> Result<Box<dyn Upload + '_>, BackendError> {
        self.fault(&Key::new("new").unwrap())?;
        Ok(Box::new(FaultyUpload(self, self.inner.begin(under, access)?)))
    }
    fn replace(&self, key: &Key, bytes: &[u8]) -> Result<(), BackendError> {
        self.fault(key)?;
        self.inner.replace(key, bytes)
    }
    fn list(&self, under: &Key) -> Result<Vec<Listed>, BackendError> {
        self.inner.list(under)
    }
    fn delete(&self, key: &Key) -> Result<(), BackendError> {
        self.inner.delete(key)
    }
}
