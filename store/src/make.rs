//! Makes single files of a release out of the cache: linked, reflinked or copied, with their final mode,
//! owner and time.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;

use crate::blob::{BlobSource, Want};
use crate::cache::{HostCache, copy_all, object_path};
use crate::contents::Class;
use crate::fsio::{self, Manners, Owner};
use crate::place::Mode;
use crate::tag::Tag;
use crate::verified::{Verified, WHOLE_BYTES_MAX, read_file, read_whole};
use crate::writeback::Writeback;

/// What building came to, in files; `bytes` are those written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Materialised {
    /// Files that share an inode with the cache.
    pub linked: u64,
    /// Files that share blocks with the cache.
    pub reflinked: u64,
    /// Files written anew.
    pub copied: u64,
    /// Bytes of those.
    pub bytes: u64,
}

#[derive(Default)]
pub(crate) struct Counters {
    linked: AtomicU64,
    reflinked: AtomicU64,
    copied: AtomicU64,
    bytes: AtomicU64,
}

impl Counters {
    pub fn read(&self) -> Materialised {
        Materialised {
            linked: self.linked.load(Ordering::Relaxed),
            reflinked: self.reflinked.load(Ordering::Relaxed),
            copied: self.copied.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }
}

/// A file to be made in an open directory.
pub(crate) struct NewFile<'a> {
    pub dir: BorrowedFd<'a>,
    pub name: &'a [u8],
    pub mode: u32,
    pub want: Want,
    pub class: Class,
}

/// When what is made becomes durable.
pub(crate) enum Durability {
    /// Each file before the next.
    Each,
    /// All at the end, by whoever has them made; the disk works meanwhile.
    AtTheEnd(Writeback),
}

/// Makes files, from any number of threads.
pub(crate) struct Maker<'a> {
    pub cache: &'a HostCache,
    pub secrets: &'a dyn BlobSource,
    pub mode: Mode,
    pub owner: Option<Owner>,
    pub manners: Manners,
    /// When its files become durable.
    pub durability: Durability,
    pub counters: Counters,
}

impl Maker<'_> {
    pub fn make(&self, file: &NewFile<'_>, buffer: &mut Vec<u8>) -> io::Result<()> {
        let how = match file.class {
            // One inode for all empty files would run into the limit of links.
            _ if file.want.size == 0 => Mode::Copy,
            Class::Shared => self.mode,
            Class::Private if self.mode == Mode::Copy => Mode::Copy,
            Class::Private => Mode::Reflink,
            Class::Secret => Mode::Copy,
        };
        if how == Mode::Link && self.link(file)? {
            return Ok(());
        }
        if how != Mode::Copy && self.reflink(file)? {
            return Ok(());
        }
        self.copy(file, buffer)
    }

    /// `false`: this file must be made in another way.
    fn link(&self, file: &NewFile<'_>) -> io::Result<bool> {
        let object = object_path(&file.want);
        match fsio::link(self.cache.objects(), object.as_bytes(), file.dir, file.name) {
            Ok(()) => {
                self.counters.linked.fetch_add(1, Ordering::Relaxed);
                Ok(true)
            }
            // Another mount, the object's last link (65,000 on ext4), or a kernel that forbids it.
            Err(Errno::XDEV | Errno::MLINK | Errno::PERM) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn reflink(&self, file: &NewFile<'_>) -> io::Result<bool> {
        let object = fsio::open_file(self.cache.objects(), object_path(&file.want).as_bytes())?;
        let made = fsio::create(file.dir, file.name, file.mode)?;
        if fsio::clone_content(object.as_fd(), made.as_fd()).is_err() {
            fsio::unlink(file.dir, file.name)?;
            return Ok(false);
        }
        self.finish(file, &made)?;
        self.counters.reflinked.fetch_add(1, Ordering::Relaxed);
        Ok(true)
    }

    fn copy(&self, file: &NewFile<'_>, buffer: &mut Vec<u8>) -> io::Result<()> {
        let made = match file.class {
            _ if file.want.size == 0 => fsio::create(file.dir, file.name, file.mode)?,
            Class::Secret => self.write_secret(file, buffer)?,
            Class::Shared | Class::Private => self.write_object(file, buffer)?,
        };
        self.finish(file, &made)?;
        self.counters.copied.fetch_add(1, Ordering::Relaxed);
        self.counters.bytes.fetch_add(file.want.size, Ordering::Relaxed);
        Ok(())
    }

    /// Verified while it is copied; what fits in memory, before anything is created.
    fn write_object(&self, file: &NewFile<'_>, buffer: &mut Vec<u8>) -> io::Result<File> {
        let Want { blob, size, .. } = file.want;
        let object = self.cache.object(&file.want)?;
        if size > WHOLE_BYTES_MAX {
            let mut made = fsio::create(file.dir, file.name, file.mode)?;
            copy_all(&mut Verified::new(object, blob, size), &mut made)?;
            return Ok(made);
        }
        let content = read_file(&object, &blob, size, buffer)?;
        let mut made = fsio::create(file.dir, file.name, file.mode)?;
        made.write_all(content)?;
        Ok(made)
    }

    fn write_secret(&self, file: &NewFile<'_>, buffer: &mut Vec<u8>) -> io::Result<File> {
        let Want { blob, size, .. } = file.want;
        let mut content = self.secrets.open(&blob, size)?;
        if size > WHOLE_BYTES_MAX {
            let mut made = fsio::create(file.dir, file.name, file.mode)?;
            copy_all(&mut Verified::new(content, blob, size), &mut made)?;
            return Ok(made);
        }
        read_whole(&mut content, &blob, size, buffer)?;
        let mut made = fsio::create(file.dir, file.name, file.mode)?;
        made.write_all(buffer)?;
        Ok(made)
    }

    fn finish(&self, file: &NewFile<'_>, made: &File) -> io::Result<()> {
        if file.class != Class::Shared
            && let Some(owner) = self.owner
        {
            fsio::set_owner(made.as_fd(), owner)?;
        }
        fsio::finish(made, file.mode, self.manners.masked, Tag::of(&file.want.blob))?;
        match &self.durability {
            Durability::Each => fsio::sync(made.as_fd()),
            Durability::AtTheEnd(writeback) => {
                writeback.wrote(file.want.size);
                Ok(())
            }
        }
    }
}
