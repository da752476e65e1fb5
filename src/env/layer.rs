//! Env files on disk: which file, and reading it with care.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use landfall_store::Name;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::dotenv;
use super::error::EnvError;
use crate::spec::EnvSpec;

/// Bytes of an env file: Linux gives a process 2 MiB for arguments and environment together.
pub const LAYER_BYTES_MAX: u64 = 1 << 20;

/// The two layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LayerKind {
    /// `.env.<env>`.
    Base,
    /// `.env.<env>.local`, which wins.
    Local,
}

impl fmt::Display for LayerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Base => "base",
            Self::Local => "local",
        })
    }
}

/// Who supplied a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerSource {
    /// `--env-file` or `--env-local-file`.
    Flag,
    /// `env_dir` of host.toml.
    EnvDir,
    /// The artifact (on the build machine: the source tree).
    Artifact,
}

/// A layer that was read. `Debug` shows its keys only.
#[derive(Clone, PartialEq, Eq)]
pub struct Layer {
    /// Where it was read.
    pub path: PathBuf,
    /// Its bytes, to be placed in the release as they are.
    pub text: String,
    /// Its pairs, each key once.
    pub pairs: Vec<(String, String)>,
}

impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<&str> = self.pairs.iter().map(|(key, _)| key.as_str()).collect();
        f.debug_struct("Layer").field("path", &self.path).field("keys", &keys).finish_non_exhaustive()
    }
}

/// The file name of a layer: `.env.production`, `.env.production.local`.
pub fn file_name(spec: &EnvSpec, environment: &Name, kind: LayerKind) -> String {
    let name = spec.file_name(environment);
    match kind {
        LayerKind::Base => format!(".env.{name}"),
        LayerKind::Local => format!(".env.{name}.local"),
    }
}

/// The layer from the first place that has it: the flag (which must exist), else `env_dir`, else the
/// artifact's directory. `None`: nowhere.
pub fn find_layer(
    flag: Option<&Path>,
    env_dir: Option<&Path>,
    artifact_dir: Option<&Path>,
    file: &str,
) -> Result<Option<(Layer, LayerSource)>, EnvError> {
    if let Some(path) = flag {
        return read_layer(path).map(|layer| Some((layer, LayerSource::Flag)));
    }
    type Reader = fn(&Path) -> Result<Layer, EnvError>;
    let places: [(Option<&Path>, LayerSource, Reader); 2] =
        [(env_dir, LayerSource::EnvDir, read_layer), (artifact_dir, LayerSource::Artifact, read_own_layer)];
    for (dir, source, read) in places {
        let Some(dir) = dir else { continue };
        match read(&dir.join(file)) {
            Ok(layer) => return Ok(Some((layer, source))),
            Err(EnvError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Reads an env file that people placed. A link to a regular file is followed; a link that leads back to
/// itself, a directory, a fifo or a device is an error, and none of them is waited for.
pub fn read_layer(path: &Path) -> Result<Layer, EnvError> {
    read(path, OFlags::empty())
}

/// Reads an env file that landfall itself placed: a link there is an error.
pub fn read_own_layer(path: &Path) -> Result<Layer, EnvError> {
    read(path, OFlags::NOFOLLOW)
}

/// The pairs of `bytes`, which came from `path`.
pub fn parse_layer(path: &Path, bytes: Vec<u8>) -> Result<Layer, EnvError> {
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
        EnvError::NotUtf8 { path: path.to_owned(), line }
    })?;
    let pairs = dotenv::parse(&text);
    match pairs.iter().find(|(_, value)| value.contains('\0')) {
        Some((key, _)) => Err(EnvError::Nul { path: path.to_owned(), key: key.clone() }),
        None => Ok(Layer { path: path.to_owned(), text, pairs }),
    }
}

fn read(path: &Path, extra: OFlags) -> Result<Layer, EnvError> {
    let unreadable = |source| EnvError::Unreadable { path: path.to_owned(), source };
    // NONBLOCK: a fifo in this place must be refused, not waited for.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY | extra;
    let file = rustix::fs::open(path, flags, Mode::empty())
        .map(File::from)
        .map_err(|errno| refused(path, extra, errno))?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(EnvError::NotRegular { path: path.to_owned() });
    }
    let mut bytes = Vec::new();
    file.take(LAYER_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > LAYER_BYTES_MAX {
        let bytes = metadata.len().max(LAYER_BYTES_MAX + 1);
        return Err(EnvError::TooLarge { path: path.to_owned(), bytes, most: LAYER_BYTES_MAX });
    }
    parse_layer(path, bytes)
}

fn refused(path: &Path, flags: OFlags, errno: Errno) -> EnvError {
    let path = path.to_owned();
    match errno {
        Errno::NOENT => EnvError::NotFound { path },
        Errno::LOOP if flags.contains(OFlags::NOFOLLOW) => EnvError::Link { path },
        Errno::LOOP => EnvError::LinkLoop { path },
        // A socket cannot be opened at all.
        Errno::NXIO => EnvError::NotRegular { path },
        errno => EnvError::Unreadable { path, source: errno.into() },
    }
}
