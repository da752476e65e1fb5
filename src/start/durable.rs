//! Small private files written whole or not at all: temporary name, fsync, rename, fsync of the directory.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

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
    let Some(bytes) = read(path, bytes_max)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(io::Error::other)
}

/// Reads a JSON file that says its `format`, which must be no later than the one this landfall knows.
pub(crate) fn read_known<T: DeserializeOwned>(
    path: &Path,
    bytes_max: u64,
    known: u32,
) -> io::Result<Option<T>> {
    #[derive(Deserialize)]
    struct Stamp {
        format: u32,
    }
    let Some(bytes) = read(path, bytes_max)? else { return Ok(None) };
    let Stamp { format } = serde_json::from_slice(&bytes).map_err(io::Error::other)?;
    if format > known {
        return Err(io::Error::other(format!(
            "was written by a newer landfall (format {format}, this one knows {known}): install that one again"
        )));
    }
    serde_json::from_slice(&bytes).map(Some).map_err(io::Error::other)
}

fn read(path: &Path, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
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
    Ok(Some(bytes))
}

/// Makes a directory that only landfall may enter (its parents as usual).
pub(crate) fn private_dir(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_a_newer_landfall_is_refused_before_its_fields_are_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record.json");
        let read = || read_known::<Vec<u8>>(&path, 100, 3);
        assert!(read().unwrap().is_none());
        fs::write(&path, r#"{"format":4,"unheard":"of"}"#).unwrap();
        let error = read().unwrap_err().to_string();
        assert!(error.contains("newer landfall (format 4, this one knows 3)"), "{error}");
        fs::write(&path, r#"{"format":3}"#).unwrap();
        assert!(!read().unwrap_err().to_string().contains("newer"), "only its fields are wrong");
    }
}
