//! An object on its way: gathered until its key is known, then sent whole or in parts.

use std::io::{self, Write};

use futures_util::{StreamExt, TryStreamExt};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{Attributes, PutMode, PutMultipartOptions};

use super::{S3Backend, immutable};
use crate::backend::{Access, Backend, BackendError, Key, Put, Upload};
use crate::spool::Spool;

/// Bytes of a part, and of what is sent whole: above the least that S3 takes for a part (5 MiB).
const PART_BYTES: u64 = 8 << 20;
/// Parts an object may have is 10,000; larger objects get larger parts.
const PARTS_MAX: u64 = 9_000;
/// Parts in flight for one object: while one is answered the other moves.
const PARTS_IN_FLIGHT: usize = 2;

pub(super) struct S3Upload<'a> {
    backend: &'a S3Backend,
    spool: Spool,
    access: Access,
}

impl<'a> S3Upload<'a> {
    pub(super) fn new(backend: &'a S3Backend, access: Access) -> Self {
        Self { backend, spool: Spool::default(), access }
    }

    /// Whether the object is there with this size. Another size is damage: equal keys have equal bytes.
    fn is_there(&self, key: &Key) -> Result<bool, BackendError> {
        Ok(self.backend.size(key)? == Some(self.spool.size()))
    }

    fn send(&self, key: &Key, mode: PutMode) -> Result<Put, BackendError> {
        let path = self.backend.path(key)?;
        let attributes = immutable(self.access);
        if self.spool.size() > PART_BYTES {
            self.send_parts(key, &path, attributes)?;
            return Ok(Put::Stored);
        }
        let bytes = self.spool.part(0, PART_BYTES as usize);
        let bytes =
            bytes.map_err(|source| BackendError::io("read back", key, self.backend.location(), source))?;
        match self.backend.put(&path, bytes, mode, attributes) {
            Ok(()) => Ok(Put::Stored),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(Put::Existed),
            Err(error) => Err(self.backend.fail("write", key, error)),
        }
    }

    fn send_parts(&self, key: &Key, path: &Path, attributes: Attributes) -> Result<(), BackendError> {
        let S3Backend { store, runtime, .. } = self.backend;
        let failed = |error| self.backend.fail("write", key, error);
        let options = PutMultipartOptions { attributes, ..PutMultipartOptions::default() };
        let id = runtime.run(store.create_multipart_opts(path, options)).map_err(failed)?;
        let size = self.spool.size();
        let bytes = PART_BYTES.max(size.div_ceil(PARTS_MAX));
        let send = |part: u64| {
            let id = &id;
            async move {
                let payload = self.spool.part(part * bytes, bytes as usize).map_err(unreadable)?;
                store.put_part(path, id, part as usize, payload.into()).await
            }
        };
        let sent = runtime.run(async {
            let parts = futures_util::stream::iter(0..size.div_ceil(bytes)).map(send);
            let parts: Vec<PartId> = parts.buffered(PARTS_IN_FLIGHT).try_collect().await?;
            store.complete_multipart(path, &id, parts).await
        });
        if sent.is_err()
            && let Err(error) = runtime.run(store.abort_multipart(path, &id))
        {
            tracing::debug!(%key, %error, "parts of an upload that failed stay until the bucket's rules remove them");
        }
        sent.map(drop).map_err(failed)
    }
}

fn unreadable(error: io::Error) -> object_store::Error {
    object_store::Error::Generic { store: "S3", source: Box::new(error) }
}

impl Write for S3Upload<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.spool.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Upload for S3Upload<'_> {
    fn commit(self: Box<Self>, key: &Key) -> Result<Put, BackendError> {
        // An upload in parts is never conditional; the size tells as much.
        let conditional = self.spool.size() <= PART_BYTES && self.backend.keeps_conditions()?;
        if conditional && self.send(key, PutMode::Create)? == Put::Stored {
            return Ok(Put::Stored);
        }
        if self.is_there(key)? {
            return Ok(Put::Existed);
        }
        self.send(key, PutMode::Overwrite)
    }

    fn overwrite(self: Box<Self>, key: &Key) -> Result<(), BackendError> {
        self.send(key, PutMode::Overwrite).map(drop)
    }
}
