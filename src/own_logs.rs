//! Logs that an app writes itself, under `[paths] logs`, or that systemd writes for it: bounded as those under a shim
//! are.
//!
//! The app holds its file open, so a large one is copied aside and then emptied where it stands. Lines written
//! between the two are lost, as with logrotate's `copytruncate`; an app that logs to its output loses none. The
//! directory is the app's: nothing in it is followed, and only plain files that have no other name are touched.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags};

use crate::start::shim::limits::{LOG_FILE_BYTES_MAX, LOG_FILES_KEPT};

/// Puts aside every log that has become large. No directory: nothing to do.
pub fn rotate(dir: &Path) -> io::Result<()> {
    rotate_above(dir, LOG_FILE_BYTES_MAX, LOG_FILES_KEPT)
}

fn rotate_above(dir: &Path, bytes: u64, files: u32) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = match rustix::fs::open(dir, flags, Mode::empty()) {
        Ok(opened) => opened,
        Err(rustix::io::Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for entry in rustix::fs::Dir::read_from(&opened)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        if !name.starts_with('.') && !is_aside(name) {
            rotate_one(opened.as_fd(), name, bytes, files)?;
        }
    }
    Ok(())
}

/// `app.log.2`.
fn is_aside(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, last)| last.parse::<u32>().is_ok())
}

fn rotate_one(dir: BorrowedFd<'_>, name: &str, bytes: u64, files: u32) -> io::Result<()> {
    let large = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|found| u64::try_from(found.st_size).is_ok_and(|size| size > bytes));
    if !large {
        return Ok(());
    }
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(log) = rustix::fs::openat(dir, name, flags, Mode::empty()) else { return Ok(()) };
    let mut log = File::from(log);
    let found = log.metadata()?;
    if !found.is_file() || found.nlink() != 1 || found.uid() != rustix::fs::fstat(dir)?.st_uid {
        return Ok(());
    }
    let new = format!(".{name}.landfall-{:016x}", fastrand::u64(..));
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut copy = File::from(rustix::fs::openat(dir, &new, flags, Mode::RUSR | Mode::WUSR)?);
    let copied = copy_end(&mut log, &mut copy, bytes).and_then(|()| {
        fchown(&copy, Some(found.uid()), Some(found.gid()))?;
        copy.set_permissions(found.permissions())
    });
    if let Err(error) = copied {
        rustix::fs::unlinkat(dir, &new, AtFlags::empty())?;
        return Err(error);
    }
    for number in (1..files).rev() {
        let (old, older) = (format!("{name}.{number}"), format!("{name}.{}", number + 1));
        match rustix::fs::renameat(dir, &old, dir, &older) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    rustix::fs::renameat(dir, &new, dir, format!("{name}.1"))?;
    log.set_len(0)
}

/// The last bytes: a log that grew without measure must not take as much again.
fn copy_end(from: &mut File, to: &mut File, bytes: u64) -> io::Result<()> {
    let len = from.seek(SeekFrom::End(0))?;
    from.seek(SeekFrom::Start(len.saturating_sub(bytes)))?;
    io::copy(&mut from.take(bytes), to)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_large_log_is_put_aside_while_the_app_goes_on_writing_and_old_ones_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.log");
        let mut app = File::options().append(true).create(true).open(&path).unwrap();
        for round in 1..=4 {
            app.write_all(format!("{} round {round}\n", "x".repeat(100)).as_bytes()).unwrap();
            rotate_above(dir.path(), 50, 2).unwrap();
            app.write_all(b"small\n").unwrap();
            rotate_above(dir.path(), 50, 2).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), "small\n");
            fs::write(&path, "").unwrap();
        }
        let kept = |number: u32| fs::read_to_string(dir.path().join(format!("app.log.{number}"))).unwrap();
        assert!(kept(1).ends_with("round 4\nsmall\n") || kept(1).ends_with("round 4\n"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    }

    #[test]
    fn what_the_app_put_there_that_is_no_log_of_its_own_is_not_touched() {
        let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let secret = elsewhere.path().join("secret");
        fs::write(&secret, "s".repeat(100)).unwrap();
        symlink(&secret, dir.path().join("link.log")).unwrap();
        fs::hard_link(&secret, dir.path().join("hard.log")).unwrap();
        rotate_above(dir.path(), 50, 2).unwrap();
        rotate_above(&dir.path().join("none"), 50, 2).unwrap();
        assert_eq!(fs::read_to_string(&secret).unwrap().len(), 100);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        let linked = elsewhere.path().join("logs");
        symlink(dir.path(), &linked).unwrap();
        assert!(rotate_above(&linked, 50, 2).is_err());
    }
}
