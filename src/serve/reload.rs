//! What is read from a file again when the file changes.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::limits::LOOK_AGAIN;

/// Files as they were when they were read: inode, size and times of each, where it exists.
type Stamp = Vec<Option<(u64, u64, i64, i64, i64, i64)>>;
type Read<T> = Box<dyn Fn() -> Result<T, String> + Send + Sync>;

/// A value made of files. When they change it is made again; while what they hold cannot be used, the last good
/// value stays in force, and the log says so.
pub struct Reloaded<T> {
    files: Vec<PathBuf>,
    read: Read<T>,
    state: Mutex<State<T>>,
}

struct State<T> {
    value: Arc<T>,
    stamp: Stamp,
    looked: Instant,
}

impl<T> Reloaded<T> {
    /// Reads the files for the first time; now they must be in order.
    pub fn new(
        files: Vec<PathBuf>,
        read: impl Fn() -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<Self, String> {
        // Before reading: a change in between is then seen as one.
        let stamp = stamp(&files);
        let value = Arc::new(read()?);
        let state = Mutex::new(State { value, stamp, looked: Instant::now() });
        Ok(Self { files, read: Box::new(read), state })
    }

    /// The value of the files as they are now, or were a moment ago.
    pub fn get(&self) -> Arc<T> {
        let mut state = self.state();
        if state.looked.elapsed() >= LOOK_AGAIN {
            state.looked = Instant::now();
            let now = stamp(&self.files);
            if now != state.stamp {
                state.stamp = now;
                match (self.read)() {
                    Ok(value) => {
                        state.value = Arc::new(value);
                        tracing::info!(files = %self, "read again");
                    }
                    Err(error) => tracing::error!(%error, "what was read before stays in force"),
                }
            }
        }
        Arc::clone(&state.value)
    }

    /// A panic while it was held left the last good value.
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> fmt::Display for Reloaded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.files.iter().map(|file| file.display().to_string()).collect();
        f.write_str(&names.join(", "))
    }
}

fn stamp(files: &[PathBuf]) -> Stamp {
    let one = |file: &PathBuf| {
        let facts = std::fs::metadata(file).ok()?;
        let times = (facts.mtime(), facts.mtime_nsec(), facts.ctime(), facts.ctime_nsec());
        Some((facts.ino(), facts.size(), times.0, times.1, times.2, times.3))
    };
    files.iter().map(one).collect()
}
