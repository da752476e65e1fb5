//! Env layers on a host: secrets, so they never enter `objects/`. One private file per content.

use std::fs::{File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use landfall_store::blob::{BlobSink, BlobSource, Want};
use landfall_store::{BlobId, Tree, TreeId};

use crate::disk::{Disk, RealDisk};

/// Bytes of one env file.
pub(super) const ENV_FILE_BYTES_MAX: u64 = 1 << 20;

/// The env layers of one app in one environment, under `run/env/`.
#[derive(Debug, Clone)]
pub struct Vault {
    dir: PathBuf,
}

impl Vault {
    /// The vault in this directory, which need not exist.
    pub const fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Creates the directory.
    pub fn prepare(&self) -> io::Result<()> {
        RealDisk.create_dir(&self.dir)?;
        std::fs::set_permissions(&self.dir, Permissions::from_mode(0o700))
    }

    /// The tree of an env layer, if it was kept.
    pub fn tree(&self, id: TreeId) -> Option<Tree> {
        let bytes = RealDisk.read(&self.tree_path(id), ENV_FILE_BYTES_MAX).ok()??;
        let tree = Tree::decode(&bytes).ok()?;
        (TreeId::of(&bytes) == id).then_some(tree)
    }

    /// Keeps the tree of an env layer; its contents must be kept before.
    pub fn keep_tree(&self, id: TreeId, tree: &Tree) -> io::Result<()> {
        RealDisk.replace(&self.tree_path(id), &tree.encode())
    }

    /// A content, verified.
    pub fn read(&self, blob: BlobId) -> io::Result<Vec<u8>> {
        let path = self.blob_path(blob);
        let bytes = RealDisk.read(&path, ENV_FILE_BYTES_MAX)?.ok_or(io::ErrorKind::NotFound)?;
        if BlobId::of(&bytes) != blob {
            let what = format!("{} is not what its name says", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        Ok(bytes)
    }

    fn tree_path(&self, id: TreeId) -> PathBuf {
        self.dir.join(format!("{id}.tree"))
    }

    fn blob_path(&self, id: BlobId) -> PathBuf {
        self.dir.join(id.to_string())
    }
}

impl BlobSink for Vault {
    fn has(&self, want: &Want) -> io::Result<bool> {
        match self.read(want.blob) {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn put(&self, want: &Want, content: &mut dyn Read) -> io::Result<()> {
        let mut bytes = Vec::new();
        content.take(ENV_FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != want.size || BlobId::of(&bytes) != want.blob {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an env file is not what its hash says"));
        }
        RealDisk.replace(&self.blob_path(want.blob), &bytes)
    }
}

impl BlobSource for Vault {
    fn open(&self, blob: &BlobId, _: u64) -> io::Result<Box<dyn Read + '_>> {
        Ok(Box::new(File::open(self.blob_path(*blob))?))
    }
}
