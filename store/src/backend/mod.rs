//! Where a store's objects are kept: one small trait, one file for each kind of place.
//!
//! Every call blocks. A backend moves bytes and promises durability; it never judges content, because whoever
//! reads an object verifies it against its name. Network backends fit the same trait.

mod client;
mod dir;
mod http;
mod key;
#[cfg(test)]
mod memory;
mod metered;
mod mirrored;
mod runtime;
mod s3;
pub mod wire;

use std::io::{self, Read, Write};
use std::time::{Duration, SystemTime};

pub use dir::{DirBackend, DirObject, DirUpload, Room};
pub use http::{HttpBackend, Patience};
pub use key::{Key, KeyError};
#[cfg(test)]
pub(crate) use memory::MemoryBackend;
pub use metered::Meter;
pub(crate) use metered::Metered;
pub use mirrored::MirroredBackend;
pub use s3::S3Backend;

/// Who may read an object where the backend knows users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody who can reach the store.
    Public,
    /// The store's owner: env layers hold secrets.
    Private,
}

/// Whether a new object had to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It is new.
    Stored,
    /// It was there; nothing was changed.
    Existed,
}

/// An object that `list` found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// Its key.
    pub key: Key,
    /// Its size in bytes.
    pub size: u64,
    /// When it was written, by the store's own clock ([`Backend::now`]).
    pub modified: SystemTime,
}

/// What a request costs here, so that a fetch can choose between more requests and more bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Requests worth having in flight.
    pub parallel: usize,
    /// Of these, for one object. May change while a place is used: it is asked before each request.
    pub per_object: usize,
    /// Unwanted bytes that are cheaper to read than another request.
    pub gap_bytes: u64,
    /// Bytes after which another request costs nothing that matters.
    pub run_bytes: u64,
    /// Share of a pack, in percent, above which its unwanted parts are read too.
    pub whole_percent: u32,
}

impl Cost {
    /// Over a network. Eight requests fill a long line and are few enough for a small server; four of one pack,
    /// so that a fetch does not wait for one object only. A gap of 256 KiB costs as much as a request (measured
    /// by rustic for the same purpose). Runs end at 8 MiB, so that a pack is decompressed on several cores.
    pub(crate) const NETWORK: Self =
        Self { parallel: 8, per_object: 4, gap_bytes: 256 << 10, run_bytes: 8 << 20, whole_percent: 50 };
}

/// An answer to [`Backend::open`].
pub enum Opened<'a> {
    /// The bytes that were asked for.
    Part(Box<dyn Read + Send + 'a>),
    /// The object from its first byte to its last: this place has no ranges.
    Whole(Box<dyn Read + Send + 'a>),
}

/// An object being written. Dropped without [`Upload::commit`], it never existed.
pub trait Upload: Write + Send {
    /// Makes the bytes written so far the object `key`, unless it exists. Durable when it returns.
    fn commit(self: Box<Self>, key: &Key) -> Result<Put, BackendError>;

    /// Makes the bytes written so far the object `key`, whether it exists or not: readers see the old bytes or
    /// the new ones, and its age begins now. For bytes that are the same unless the old ones are damaged.
    fn overwrite(self: Box<Self>, key: &Key) -> Result<(), BackendError>;
}

/// A place for objects.
pub trait Backend: Send + Sync {
    /// The place, for messages.
    fn location(&self) -> String;

    /// What a request costs here.
    fn cost(&self) -> Cost;

    /// What the store's own clock says: ages are judged by it and never by this machine's.
    fn now(&self) -> Result<SystemTime, BackendError>;

    /// The size of an object; `None` if it does not exist.
    fn size(&self, key: &Key) -> Result<Option<u64>, BackendError>;

    /// A stream of `length` bytes of an object from `offset` on; it ends early if the object does.
    fn read(&self, key: &Key, offset: u64, length: u64) -> Result<Box<dyn Read + Send + '_>, BackendError>;

    /// Like [`read`](Self::read), for whoever may have use for the rest of the object: a place without ranges
    /// gives it whole, once, instead of throwing away what was not asked for.
    fn open(&self, key: &Key, offset: u64, length: u64) -> Result<Opened<'_>, BackendError> {
        self.read(key, offset, length).map(Opened::Part)
    }

    /// Told that what it just gave under `key` is not what its name says. Whether the next read comes from
    /// another place, so that it is worth asking again.
    fn mistrust(&self, _key: &Key) -> bool {
        false
    }

    /// Begins a new immutable object below the directory `under` (`None`: at the top). Its key may depend on
    /// its bytes.
    fn begin(&self, under: Option<&Key>, access: Access) -> Result<Box<dyn Upload + '_>, BackendError>;

    /// Writes or overwrites a mutable object: readers see the old bytes or the new ones. Durable when it returns.
    fn replace(&self, key: &Key, bytes: &[u8]) -> Result<(), BackendError>;

    /// Every object below `under`, in order of their keys; none if there is no such directory.
    fn list(&self, under: &Key) -> Result<Vec<Listed>, BackendError>;

    /// Removes an object; it is no error if it does not exist.
    fn delete(&self, key: &Key) -> Result<(), BackendError>;
}

impl dyn Backend + '_ {
    /// A whole object of at most `max` bytes.
    pub fn get(&self, key: &Key, max: u64) -> Result<Vec<u8>, BackendError> {
        let mut bytes = Vec::new();
        self.read(key, 0, max.saturating_add(1))?
            .read_to_end(&mut bytes)
            .map_err(|source| BackendError::io("read", key, self.location(), source))?;
        if bytes.len() as u64 > max {
            return Err(BackendError::TooLarge { key: key.clone(), at: self.location(), max });
        }
        Ok(bytes)
    }

    /// Like [`get`](Self::get), but absence is an answer.
    pub fn find(&self, key: &Key, max: u64) -> Result<Option<Vec<u8>>, BackendError> {
        match self.get(key, max) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(BackendError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Stores a new immutable object under a key known before, unless it exists.
    pub fn put_new(&self, key: &Key, bytes: &[u8], access: Access) -> Result<Put, BackendError> {
        let mut upload = self.begin(key.top().as_ref(), access)?;
        upload.write_all(bytes).map_err(|source| BackendError::io("write", key, self.location(), source))?;
        upload.commit(key)
    }

    /// Writes an immutable object under a key known before, in place of what is there.
    pub fn overwrite(&self, key: &Key, bytes: &[u8], access: Access) -> Result<(), BackendError> {
        let mut upload = self.begin(key.top().as_ref(), access)?;
        upload.write_all(bytes).map_err(|source| BackendError::io("write", key, self.location(), source))?;
        upload.overwrite(key)
    }
}

/// Why a backend could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// No such object.
    #[error("`{key}` is not in the store {at}")]
    NotFound {
        /// The object.
        key: Key,
        /// The store.
        at: String,
    },
    /// An object is larger than anything of its kind.
    #[error("`{key}` in the store {at} is larger than {max} bytes, so it is not what its name says")]
    TooLarge {
        /// The object.
        key: Key,
        /// The store.
        at: String,
        /// The bound.
        max: u64,
    },
    /// The place asks for other credentials, or allows less.
    #[error("the store {at} does not allow to {action} `{key}`: {why}")]
    Denied {
        /// What was tried.
        action: &'static str,
        /// The object.
        key: Key,
        /// The store.
        at: String,
        /// Its answer, without any secret.
        why: String,
    },
    /// The place cannot be used as it is configured. Nothing was asked of it.
    #[error("the store {at} cannot be used: {why}")]
    Setup {
        /// The store.
        at: String,
        /// What is missing or wrong, without any secret.
        why: String,
    },
    /// The place gives no usable answer, also after several tries. Others may.
    #[error("the store {at} cannot be reached for `{key}`: {why}")]
    Unreachable {
        /// The object.
        key: String,
        /// The store.
        at: String,
        /// What became of the tries.
        why: String,
        /// How long it asked to be left alone.
        retry_after: Option<Duration>,
    },
    /// The place failed.
    #[error("cannot {action} `{key}` in the store {at}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The object.
        key: String,
        /// The store.
        at: String,
        /// The system's answer.
        source: io::Error,
    },
}

impl BackendError {
    /// Whether the place can never do this, however often it is asked.
    pub fn is_unsupported(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::Unsupported)
    }

    pub(crate) fn io(action: &'static str, key: &Key, at: String, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::NotFound {
            return Self::NotFound { key: key.clone(), at };
        }
        // A stream that breaks says why in its backend's words.
        let source = match source.downcast::<Self>() {
            Ok(error) => return error,
            Err(source) => source,
        };
        Self::Io { action, key: key.to_string(), at, source }
    }
}

#[cfg(test)]
mod contract {
    //! What every backend must do; each test runs against all of them.

    use std::time::Duration;

    use super::s3::tests::bucket::Bucket;
    use super::*;

    fn each(test: impl Fn(&dyn Backend)) {
        let dir = tempfile::tempdir().unwrap();
        test(&DirBackend::create(dir.path()).unwrap());
        test(&MemoryBackend::default());
        for bucket in [Bucket::start(), Bucket::start_forgetful()] {
            test(&s3::tests::backend(&bucket, "some/prefix"));
        }
    }

    fn key(text: &str) -> Key {
        Key::new(text).unwrap()
    }

    #[test]
    fn an_object_reads_back_whole_and_in_ranges() {
        each(|backend| {
            assert_eq!(backend.put_new(&key("a/b/c"), b"hello", Access::Public).unwrap(), Put::Stored);
            assert_eq!(backend.get(&key("a/b/c"), 5).unwrap(), b"hello");
            assert_eq!(backend.size(&key("a/b/c")).unwrap(), Some(5));
            let mut text = String::new();
            backend.read(&key("a/b/c"), 1, 3).unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "ell");
            text.clear();
            backend.read(&key("a/b/c"), 4, 30).unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "o", "a range past the end is short, not an error");
        });
    }

    #[test]
    fn a_missing_object_is_not_found_and_has_no_size() {
        each(|backend| {
            assert!(matches!(backend.get(&key("a/b"), 9), Err(BackendError::NotFound { .. })));
            assert_eq!(backend.find(&key("a/b"), 9).unwrap(), None);
            assert_eq!(backend.size(&key("a/b")).unwrap(), None);
            assert_eq!(backend.list(&key("a")).unwrap(), []);
            backend.delete(&key("a/b")).unwrap();
        });
    }

    #[test]
    fn an_object_above_the_bound_is_refused() {
        each(|backend| {
            backend.put_new(&key("a/b"), b"123456", Access::Public).unwrap();
            assert!(matches!(backend.get(&key("a/b"), 5), Err(BackendError::TooLarge { .. })));
        });
    }

    #[test]
    fn a_second_put_changes_nothing() {
        each(|backend| {
            assert_eq!(backend.put_new(&key("a/b"), b"one", Access::Public).unwrap(), Put::Stored);
            assert_eq!(backend.put_new(&key("a/b"), b"two", Access::Public).unwrap(), Put::Existed);
            assert_eq!(backend.get(&key("a/b"), 9).unwrap(), b"one");
        });
    }

    #[test]
    fn an_overwritten_object_has_the_new_bytes_and_begins_its_age_anew() {
        each(|backend| {
            backend.put_new(&key("a/b"), b"one", Access::Public).unwrap();
            let before = backend.list(&key("a")).unwrap()[0].modified;
            for (name, bytes) in [("a/b", b"two"), ("a/c", b"new")] {
                let mut upload = backend.begin(Some(&key("a")), Access::Private).unwrap();
                upload.write_all(bytes).unwrap();
                upload.overwrite(&key(name)).unwrap();
                assert_eq!(backend.get(&key(name), 9).unwrap(), bytes);
            }
            let listed = backend.list(&key("a")).unwrap();
            assert_eq!(listed.len(), 2);
            assert!(listed[0].modified >= before);
        });
    }

    #[test]
    fn an_upload_that_is_not_committed_never_existed() {
        each(|backend| {
            let mut upload = backend.begin(Some(&key("packs")), Access::Public).unwrap();
            upload.write_all(b"half").unwrap();
            assert_eq!(backend.list(&key("packs")).unwrap(), []);
            drop(upload);
            assert_eq!(backend.list(&key("packs")).unwrap(), []);
        });
    }

    #[test]
    fn replace_overwrites_and_delete_removes() {
        each(|backend| {
            backend.replace(&key("refs/web/1"), b"a").unwrap();
            backend.replace(&key("refs/web/1"), b"bb").unwrap();
            assert_eq!(backend.get(&key("refs/web/1"), 9).unwrap(), b"bb");
            backend.delete(&key("refs/web/1")).unwrap();
            assert_eq!(backend.find(&key("refs/web/1"), 9).unwrap(), None);
        });
    }

    #[test]
    fn the_store_says_when_an_object_was_written_and_what_time_it_is() {
        each(|backend| {
            let before = backend.now().unwrap();
            backend.put_new(&key("a/b"), b"x", Access::Public).unwrap();
            let listed = backend.list(&key("a")).unwrap();
            // File systems and protocols round down, to a second at worst.
            let after = backend.now().unwrap();
            assert!(listed[0].modified + Duration::from_secs(2) >= before);
            assert!(listed[0].modified <= after + Duration::from_secs(2));
        });
    }

    #[test]
    fn a_list_is_sorted_and_stays_below_its_directory() {
        each(|backend| {
            for name in ["a/y/2", "a/x/1", "ab/z", "a/x/10"] {
                backend.put_new(&key(name), name.as_bytes(), Access::Private).unwrap();
            }
            let found: Vec<_> = backend.list(&key("a")).unwrap();
            let found: Vec<_> = found.iter().map(|item| (item.key.as_str(), item.size)).collect();
            assert_eq!(found, [("a/x/1", 5), ("a/x/10", 6), ("a/y/2", 5)]);
        });
    }
}
