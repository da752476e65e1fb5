//! A private copy of a state repository for one command: the agent's own cache is the agent's.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use super::context;
use super::error::CliError;

/// A directory that nobody else may look into, gone with the command.
#[derive(Debug)]
pub struct Copy(PathBuf);

impl Copy {
    /// A place for a copy. Nothing is fetched yet.
    pub fn new() -> Result<Self, CliError> {
        let dir = std::env::temp_dir().join(format!("landfall-{:016x}", fastrand::u64(..)));
        // Made, never found: a name that somebody else has put there is an error.
        std::fs::DirBuilder::new().mode(0o700).create(&dir).map_err(|error| context::io(&dir, &error))?;
        Ok(Self(dir))
    }

    /// Where the repository goes.
    pub fn cache(&self) -> PathBuf {
        self.0.join("state.git")
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(dir = %self.0.display(), %error, "a copy of the state repository was not removed");
        }
    }
}
