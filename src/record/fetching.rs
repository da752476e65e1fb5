//! How far a fetch is, for whoever watches it. Nothing depends on it: it is not durable, a write that fails is
//! left out, and what a killed fetch leaves behind is overwritten by the next one.

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use landfall_store::fetch::Progress;
use serde::{Deserialize, Serialize};

use crate::layout::AppDir;

/// Between two writes.
const PAUSE: Duration = Duration::from_millis(200);

/// How far a fetch is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetching {
    /// Files that arrived.
    pub files: u64,
    /// Files that were missing when it began.
    pub files_total: u64,
    /// Their bytes, as they are in the release.
    pub bytes: u64,
    /// Bytes that were missing when it began.
    pub bytes_total: u64,
}

impl Fetching {
    /// How far the fetch of an app is, if one is under way.
    pub fn read(dir: &AppDir) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(dir.fetching()).ok()?).ok()
    }
}

impl From<Progress> for Fetching {
    fn from(now: Progress) -> Self {
        Self {
            files: now.blobs,
            files_total: now.blobs_total,
            bytes: now.bytes,
            bytes_total: now.bytes_total,
        }
    }
}

/// Writes it down while a fetch goes on, and removes it at its end.
pub struct Told {
    file: PathBuf,
    written: Mutex<Option<Instant>>,
}

impl Told {
    /// Nothing is written before the first news.
    pub fn new(dir: &AppDir) -> Self {
        Self { file: dir.fetching(), written: Mutex::new(None) }
    }

    /// News, from any thread.
    pub fn tell(&self, now: Progress) {
        // Whoever is writing has news as good as these.
        let Ok(mut written) = self.written.try_lock() else { return };
        if written.is_some_and(|last| last.elapsed() < PAUSE) {
            return;
        }
        *written = Some(Instant::now());
        let new = self.file.with_extension("new");
        let write =
            |text: Vec<u8>| std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, &self.file));
        let told = serde_json::to_vec(&Fetching::from(now)).map_err(std::io::Error::other).and_then(write);
        if let Err(error) = told {
            tracing::debug!(file = %self.file.display(), %error, "nobody is told how far the fetch is");
        }
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        for file in [self.file.with_extension("new"), self.file.clone()] {
            if let Err(error) = std::fs::remove_file(&file)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::debug!(file = %file.display(), %error, "left behind");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Root;

    #[test]
    fn a_watcher_reads_how_far_a_fetch_is_and_nothing_is_left_of_it() {
        let root = tempfile::tempdir().unwrap();
        let dir =
            Root::new(root.path()).unwrap().app(&"web".parse().unwrap(), &"prod".parse().unwrap(), None);
        std::fs::create_dir_all(dir.own()).unwrap();
        assert_eq!(Fetching::read(&dir), None);
        let told = Told::new(&dir);
        let now = Progress { blobs: 1, blobs_total: 3, bytes: 10, bytes_total: 30, moved: 4 };
        told.tell(now);
        assert_eq!(Fetching::read(&dir), Some(now.into()));
        told.tell(Progress { blobs: 2, ..now });
        assert_eq!(Fetching::read(&dir), Some(now.into()), "not with every content");
        drop(told);
        assert_eq!(std::fs::read_dir(dir.own()).unwrap().count(), 0);
    }
}
