//! A deliberately naive backend that keeps the trait honest.

use std::collections::BTreeMap;
use std::io::{self, Cursor, Read, Write};
use std::sync::{Mutex, MutexGuard};
use std::time::SystemTime;

use super::{Access, Backend, BackendError, Cost, Key, Listed, Put, Upload};

#[derive(Default)]
pub(crate) struct MemoryBackend(Mutex<BTreeMap<Key, (Vec<u8>, SystemTime)>>);

impl MemoryBackend {
    fn objects(&self) -> MutexGuard<'_, BTreeMap<Key, (Vec<u8>, SystemTime)>> {
        self.0.lock().unwrap()
    }
}

struct MemoryUpload<'a>(&'a MemoryBackend, Vec<u8>);

impl Write for MemoryUpload<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.1.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Upload for MemoryUpload<'_> {
    fn commit(self: Box<Self>, key: &Key) -> Result<Put, BackendError> {
        let mut objects = self.0.objects();
        if objects.contains_key(key) {
            return Ok(Put::Existed);
        }
        objects.insert(key.clone(), (self.1, SystemTime::now()));
        Ok(Put::Stored)
    }

    fn overwrite(self: Box<Self>, key: &Key) -> Result<(), BackendError> {
        self.0.replace(key, &self.1)
    }
}

impl Backend for MemoryBackend {
    fn location(&self) -> String {
        "memory".to_owned()
    }
    fn cost(&self) -> Cost {
        Cost { parallel: 1, per_object: 1, gap_bytes: 0, run_bytes: u64::MAX, whole_percent: 100 }
    }
    fn now(&self) -> Result<SystemTime, BackendError> {
        Ok(SystemTime::now())
    }
    fn size(&self, key: &Key) -> Result<Option<u64>, BackendError> {
        Ok(self.objects().get(key).map(|(bytes, _)| bytes.len() as u64))
    }
    fn read(&self, key: &Key, offset: u64, length: u64) -> Result<Box<dyn Read + Send + '_>, BackendError> {
        let objects = self.objects();
        let (bytes, _) = objects
            .get(key)
            .ok_or_else(|| BackendError::NotFound { key: key.clone(), at: self.location() })?;
        let rest = bytes.get(offset as usize..).unwrap_or_default().to_vec();
        Ok(Box::new(Cursor::new(rest).take(length)))
    }
    fn begin(&self, _under: Option<&Key>, _access: Access) -> Result<Box<dyn Upload + '_>, BackendError> {
        Ok(Box::new(MemoryUpload(self, Vec::new())))
    }
    fn replace(&self, key: &Key, bytes: &[u8]) -> Result<(), BackendError> {
        self.objects().insert(key.clone(), (bytes.to_vec(), SystemTime::now()));
        Ok(())
    }
    fn list(&self, under: &Key) -> Result<Vec<Listed>, BackendError> {
        let prefix = format!("{under}/");
        let objects = self.objects();
        let below = objects.iter().filter(|(key, _)| key.as_str().starts_with(&prefix));
        Ok(below
            .map(|(key, (bytes, modified))| Listed {
                key: key.clone(),
                size: bytes.len() as u64,
                modified: *modified,
            })
            .collect())
    }
    fn delete(&self, key: &Key) -> Result<(), BackendError> {
        self.objects().remove(key);
        Ok(())
    }
}
