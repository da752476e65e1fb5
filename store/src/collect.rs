//! Taking contents out of a host's cache: what is there, and removing some of it.
//!
//! Whoever fills the cache or builds from it holds a [`Hold`]; whoever collects has it alone. What is needed is
//! for the caller to say: the cache knows of no release.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::blob::Want;
use crate::cache::{CacheError, HostCache, object_path};
use crate::digest::{BlobId, Digest};
use crate::fsio::{self, At};

/// One content in a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Object {
    /// Which content, with its mode.
    pub want: Want,
    /// When it was last linked to or let go of, in seconds since 1970.
    pub changed: i64,
}

/// Keeps others from collecting, or from filling, while it lives.
#[derive(Debug)]
pub struct Hold(File);

/// Holds the cache under `root` for work that needs its contents; waits for a collection to end. No cache yet:
/// nothing to hold.
pub fn hold(root: &Path) -> Result<Option<Hold>, CacheError> {
    lock(root, FlockOperation::LockShared)
}

/// Has the cache alone, at once or not at all.
pub fn alone(root: &Path) -> Result<Option<Hold>, CacheError> {
    lock(root, FlockOperation::NonBlockingLockExclusive)
}

fn lock(root: &Path, how: FlockOperation) -> Result<Option<Hold>, CacheError> {
    let path = root.join("incoming");
    let dir = match std::fs::File::open(&path) {
        Ok(dir) => dir,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Ok(Err(error).at("open", &path)?),
    };
    match rustix::fs::flock(&dir, how) {
        Ok(()) => Ok(Some(Hold(dir))),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Ok(Err(error).at("lock", &path)?),
    }
}

impl Drop for Hold {
    /// Closing is not enough: a child between its fork and its exec has the same description open.
    fn drop(&mut self) {
        if let Err(error) = rustix::fs::flock(&self.0, FlockOperation::Unlock) {
            tracing::warn!(%error, "the hold on the cache ends only with this process");
        }
    }
}

impl HostCache {
    /// Every content here, in no order. What has no name of a content is none.
    pub fn contents(&self) -> Result<Vec<Object>, CacheError> {
        let path = self.path().join("objects");
        let mut found = Vec::new();
        for shard in fsio::list(self.objects()).at("list", &path)? {
            if shard.name.len() != 2 || !shard.is_dir(self.objects()).at("look at", &path)? {
                continue;
            }
            let dir: OwnedFd = fsio::open_dir(self.objects(), &shard.name).at("open", &path)?;
            for file in fsio::list(dir.as_fd()).at("list", &path)? {
                let Some((blob, executable)) = named(&shard.name, &file.name) else { continue };
                // Somebody may remove it meanwhile; then it is gone, as it should be.
                let seen = fsio::size_and_change(dir.as_fd(), &file.name).at("look at", &path)?;
                let Some((size, changed)) = seen else { continue };
                found.push(Object { want: Want { blob, size, executable }, changed });
            }
        }
        Ok(found)
    }

    /// Removes one content. Releases that link to it keep their file.
    pub fn discard(&self, object: &Object, _alone: &Hold) -> Result<(), CacheError> {
        let name = object_path(&object.want);
        match fsio::unlink(self.objects(), name.as_bytes()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Ok(Err(error).at("remove the object", self.path().join("objects").join(name))?)
            }
            _ => Ok(()),
        }
    }
}

fn named(shard: &[u8], name: &[u8]) -> Option<(BlobId, bool)> {
    let name = std::str::from_utf8(name).ok()?;
    let rest = name.strip_suffix('x').unwrap_or(name);
    let hex = format!("{}{rest}", std::str::from_utf8(shard).ok()?);
    Some((BlobId(hex.parse::<Digest>().ok()?), rest.len() != name.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::BlobSink;

    #[test]
    fn contents_are_listed_and_discarded_by_their_names_alone() {
        let root = tempfile::tempdir().unwrap();
        assert!(hold(root.path()).unwrap().is_none());
        let cache = HostCache::open(root.path()).unwrap();
        let want = |text: &str, executable| Want {
            blob: BlobId::of(text.as_bytes()),
            size: text.len() as u64,
            executable,
        };
        let incoming = cache.receive().unwrap();
        for (text, executable) in [("a", false), ("a", true), ("b", false)] {
            incoming.put(&want(text, executable), &mut text.as_bytes()).unwrap();
        }
        incoming.commit().unwrap();
        std::fs::write(root.path().join("objects/README"), "not a content").unwrap();
        let listed = cache.contents().unwrap();
        assert_eq!(listed.len(), 3);
        let alone = alone(root.path()).unwrap().unwrap();
        let program = listed.iter().find(|object| object.want == want("a", true)).unwrap();
        for _ in 0..2 {
            cache.discard(program, &alone).unwrap();
        }
        assert!(!cache.has(&want("a", true)).unwrap());
        assert!(cache.has(&want("a", false)).unwrap() && cache.has(&want("b", false)).unwrap());
    }

    #[test]
    fn nobody_collects_while_the_cache_is_held_and_everybody_may_again_after() {
        let root = tempfile::tempdir().unwrap();
        HostCache::open(root.path()).unwrap();
        let holds = [hold(root.path()).unwrap(), hold(root.path()).unwrap()];
        assert!(alone(root.path()).unwrap().is_none());
        drop(holds);
        assert!(alone(root.path()).unwrap().is_some());
    }
}
