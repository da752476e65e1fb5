//! Small private files written whole or not at all: temporary name, fsync, rename, fsync of the directory.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::RunAs;

/// Replaces a JSON file.
pub(crate) fn write_json(path: &Path, mode: u32, value: &impl Serialize) -> io::Result<()> {
    let bytes = serde_json::to_vec(value).map_err(io::Error::other)?;
    write(path, mode, &bytes)
}

/// Replaces a file.
pub(crate) fn write(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    write_for(path, mode, bytes, None)
}

/// Replaces a file that belongs to somebody else than landfall. Each file has one writer at a time: what
/// stands under the temporary name was left by one that was killed.
pub(crate) fn write_for(path: &Path, mode: u32, bytes: &[u8], owner: Option<RunAs>) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    let temporary = Path::new(&name);
    match fs::remove_file(temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let done = create(temporary, mode, bytes, owner).and_then(|()| fs::rename(temporary, path));
    if done.is_err() {
        let _ = fs::remove_file(temporary);
    }
    done?;
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

fn create(path: &Path, mode: u32, bytes: &[u8], owner: Option<RunAs>) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(mode).open(path)?;
    if let Some(owner) = owner {
        owner.give(&file)?;
    }
    file.write_all(bytes)?;
    file.sync_all()
}

/// Reads a JSON file of at most `bytes_max`; none if there is no such file.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path, bytes_max: u64) -> io::Result<Option<T>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(io::Error::other(format!("is larger than {bytes_max} bytes")));
    }
    serde_json::from_slice(&bytes).map(Some).map_err(io::Error::other)
}

/// Makes a directory that only landfall may enter (its parents as usual).
pub(crate) fn private_dir(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        done => done,
    }
}
