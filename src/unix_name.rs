//! Names of sockets that are too long for the kernel.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// Bytes of a socket's name on Linux, with the zero at its end.
const NAME_BYTES_MAX: usize = 108;

/// A name of a socket that fits into an address: one in a deep directory goes by the directory's descriptor.
#[derive(Debug)]
pub(crate) struct Short {
    path: PathBuf,
    _dir: Option<File>,
}

impl Short {
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        if path.as_os_str().len() < NAME_BYTES_MAX {
            return Ok(Self { path: path.to_owned(), _dir: None });
        }
        let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let dir = File::open(dir)?;
        let path = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name);
        Ok(Self { path, _dir: Some(dir) })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}
