//! Hard link, reflink or copy: how a release's files come out of the cache.
//!
//! A hard link shares the object's inode, so it is right only where the kernel keeps the app from writing
//! through it: the file has no write bit, and nobody who runs the app or its steps is root or the cache's
//! owner.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use crate::cache::HostCache;
use crate::fsio::{self, At, FsError};
use crate::tag::Precision;

/// How shared files get into a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// One inode for the cache and every release.
    Link,
    /// An inode each, with common blocks until one is written.
    Reflink,
    /// An inode and blocks each.
    Copy,
}

/// What decides about the mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModeFacts {
    /// A hard link from the cache to the releases works: one file system, and it has links.
    pub links_work: bool,
    /// A reflink from the cache to the releases works.
    pub reflinks_work: bool,
    /// Who owns the cache's objects.
    pub cache_owner: u32,
    /// Everybody who runs the app or a step of it.
    pub users: Vec<u32>,
}

/// The cheapest mode in which nobody who runs the app can change the cache or another release.
pub fn choose_mode(facts: &ModeFacts) -> Mode {
    let could_write = |user: &u32| *user == 0 || *user == facts.cache_owner;
    let protected = !facts.users.is_empty() && !facts.users.iter().any(could_write);
    match (facts.links_work && protected, facts.reflinks_work) {
        (true, _) => Mode::Link,
        (false, true) => Mode::Reflink,
        (false, false) => Mode::Copy,
    }
}

impl ModeFacts {
    /// Finds out, by trying, what works between the cache and a directory of releases.
    pub fn observe(cache: &HostCache, releases: &Path, users: Vec<u32>) -> Result<Self, FsError> {
        let to = fsio::open_root(releases)?;
        let (links_work, reflinks_work) =
            try_both(cache.objects(), to.as_fd()).at("try links and reflinks into", releases)?;
        Ok(Self { links_work, reflinks_work, cache_owner: fsio::own_uid(), users })
    }
}

fn try_both(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> std::io::Result<(bool, bool)> {
    let name = fsio::fresh_name(".probe-");
    let name = name.as_bytes();
    let original = fsio::create(from, name, 0o444)?;
    let linked = fsio::link(from, name, to, name).is_ok();
    if linked {
        fsio::unlink(to, name)?;
    }
    let copy = fsio::create(to, name, 0o444);
    let source = fsio::open_file(from, name);
    let reflinked = match (&copy, &source) {
        (Ok(copy), Ok(source)) => fsio::clone_content(source.as_fd(), copy.as_fd()).is_ok(),
        _ => false,
    };
    drop(original);
    fsio::unlink(from, name)?;
    if copy.is_ok() {
        fsio::unlink(to, name)?;
    }
    Ok((linked, reflinked))
}

impl Precision {
    /// Finds out by making a file in `dir` and removing it.
    pub fn observe(dir: &Path) -> Result<Self, FsError> {
        let opened = fsio::open_root(dir)?;
        Ok(fsio::probe(opened.as_fd()).at("create files in", dir)?.precision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(links_work: bool, reflinks_work: bool, users: &[u32]) -> Mode {
        choose_mode(&ModeFacts { links_work, reflinks_work, cache_owner: 100, users: users.to_vec() })
    }

    #[test]
    fn b18_whoever_could_write_through_a_link_gets_no_link() {
        for users in [&[0][..], &[100], &[1000, 0], &[1000, 100], &[]] {
            assert_eq!(mode(true, true, users), Mode::Reflink, "{users:?}");
            assert_eq!(mode(true, false, users), Mode::Copy, "{users:?}");
        }
        assert_eq!(mode(true, true, &[1000, 1001]), Mode::Link);
        assert_eq!(mode(false, false, &[1000]), Mode::Copy);
        assert_eq!(mode(false, true, &[1000]), Mode::Reflink);
    }
}
