//! A local state file, in a git work tree or not.
//!
//! Watching is on the nearest directory that exists, because editors write in place, rename over, or delete
//! and create, and because the directory itself may appear later.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::process::Command;
use tokio::sync::mpsc::UnboundedSender;

use super::{STATE_BYTES_MAX, SourceError};
use crate::disk::{Disk, RealDisk};

/// Time for git to say which commit a file belongs to.
const COMMIT_LIMIT: Duration = Duration::from_secs(5);

/// A state file on this host.
#[derive(Debug, Clone)]
pub struct FileSource {
    path: PathBuf,
}

impl FileSource {
    /// The file at this path, which need not exist.
    pub fn new(path: &Path) -> std::io::Result<Self> {
        Ok(Self { path: std::path::absolute(path)? })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its bytes now.
    pub fn read(&self) -> Result<Vec<u8>, SourceError> {
        match RealDisk.read(&self.path, STATE_BYTES_MAX) {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err(SourceError::Missing { path: self.path.clone() }),
            Err(source) => Err(SourceError::Unreadable { path: self.path.clone(), source }),
        }
    }

    /// The commit whose content the file has; `None` outside a work tree, and while it is edited.
    pub async fn commit(&self) -> Option<String> {
        let unchanged = self.git(&["diff", "--quiet", "HEAD", "--"]).await?;
        if !unchanged.status.success() {
            return None;
        }
        let log = self.git(&["log", "-1", "--format=%H", "--"]).await?;
        let commit = String::from_utf8(log.stdout).ok()?.trim().to_owned();
        (commit.len() >= 40).then_some(commit)
    }

    async fn git(&self, arguments: &[&str]) -> Option<std::process::Output> {
        let dir = self.path.parent()?;
        let asked = Command::new("git")
            .arg("-C")
            .arg(dir)
            .args(arguments)
            .arg(self.path.file_name()?)
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("GIT_TERMINAL_PROMPT", "0")
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .output();
        // A file system that hangs must not keep the entry of an attempt from being written.
        tokio::time::timeout(COMMIT_LIMIT, asked).await.ok()?.ok()
    }
}

/// Tells when the file may have changed. Events say only "look again".
pub struct FileWatch {
    watcher: RecommendedWatcher,
    source: FileSource,
    watched: Option<PathBuf>,
}

impl FileWatch {
    /// Watches a source; every event sends one `()`.
    pub fn new(source: &FileSource, events: UnboundedSender<()>) -> Result<Self, notify::Error> {
        let path = source.path.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if is_about(&event, &path) && events.send(()).is_err() {
                tracing::debug!("a change of the state came after the loop had ended");
            }
        })?;
        let mut watch = Self { watcher, source: source.clone(), watched: None };
        watch.follow()?;
        Ok(watch)
    }

    /// Moves the watch to the nearest directory that exists now. To be called after every event and timer.
    pub fn follow(&mut self) -> Result<(), notify::Error> {
        // Again after each move: a directory may have appeared between the look and the watch.
        while let Some(nearest) = self.elsewhere() {
            if let Some(old) = self.watched.take() {
                // A directory that was removed took its watch with it.
                drop(self.watcher.unwatch(&old));
            }
            self.watcher.watch(&nearest, RecursiveMode::NonRecursive)?;
            self.watched = Some(nearest);
        }
        Ok(())
    }

    /// The nearest directory that exists, if it is not the one that is watched.
    fn elsewhere(&self) -> Option<PathBuf> {
        let nearest = self.source.path.ancestors().skip(1).find(|dir| dir.is_dir())?;
        (self.watched.as_deref() != Some(nearest)).then(|| nearest.to_path_buf())
    }
}

/// Whether an event may concern the file or a directory on the way to it. Errors and overflows always may.
fn is_about(event: &notify::Result<notify::Event>, path: &Path) -> bool {
    match event {
        Err(_) => true,
        Ok(event) if event.kind.is_access() => false,
        Ok(event) => {
            event.need_rescan()
                || event.paths.iter().any(|changed| path.starts_with(changed) || changed == path)
        }
    }
}
