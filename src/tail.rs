//! Log files as they grow: the last lines of one, and then every line that is added, across rotation.
//!
//! Only whole lines are given out. A log that is put aside (`main.log` → `main.log.1`) is read to its end, then
//! those that came after it, then the new one; a log that is cut is read from its start again.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use rustix::fs::OFlags;
use tokio::sync::mpsc::{Receiver, channel};

use crate::disk::{Disk, RealDisk};

/// How a log's file name ends.
pub const SUFFIX: &str = ".log";
/// Bytes of a log that are read at most for its last lines: more does not fit a terminal's memory.
const LOG_BYTES_MAX: u64 = 16 << 20;
/// Bytes read from the end at first; doubled until there are enough lines.
const BLOCK_BYTES: u64 = 64 << 10;
/// Bytes of a line without an end, after which it is given out all the same.
const LINE_BYTES_MAX: usize = 64 << 10;
/// Logs put aside that are looked through for one that was followed.
const ASIDE_MAX: u32 = 16;

/// Names of the logs in a directory.
pub fn names(dir: &Path) -> io::Result<Vec<String>> {
    let found = RealDisk.list(dir)?;
    Ok(found.iter().filter_map(|file| file.strip_suffix(SUFFIX)).map(str::to_owned).collect())
}

/// The last lines of a log; 0: all of it, within bounds.
pub fn last_lines(path: &Path, count: usize) -> io::Result<Vec<String>> {
    let wanted = wanted(count);
    let (bytes, _) = end_of(&mut open(path)?, wanted)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(wanted);
    Ok(lines[from..].iter().map(|line| (*line).to_owned()).collect())
}

const fn wanted(count: usize) -> usize {
    if count == 0 { usize::MAX } else { count }
}

/// The app can write beside its log: a link or a fifo there must be refused, not followed or waited for.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file")),
    }
}

/// The end of a file that holds at least this many whole lines, if it has them within bounds; and where it ends.
fn end_of(file: &mut File, lines: usize) -> io::Result<(Vec<u8>, u64)> {
    let len = file.metadata()?.len();
    let mut block = BLOCK_BYTES;
    loop {
        let from = len.saturating_sub(block.min(LOG_BYTES_MAX));
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(from))?;
        file.take(len - from).read_to_end(&mut bytes)?;
        let whole = bytes.iter().filter(|byte| **byte == b'\n').count();
        if whole > lines || from == 0 || block >= LOG_BYTES_MAX {
            return Ok((bytes, len));
        }
        block *= 2;
    }
}

/// One file being read.
struct Open {
    file: File,
    id: (u64, u64),
    at: u64,
}

impl Open {
    fn at(path: &Path, at: u64) -> io::Result<Self> {
        let file = open(path)?;
        let found = file.metadata()?;
        Ok(Self { file, id: (found.dev(), found.ino()), at })
    }

    /// What was added since the last look.
    fn drain(&mut self, lines: &mut Lines, tell: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        if self.file.metadata()?.len() < self.at {
            self.at = 0;
        }
        self.file.seek(SeekFrom::Start(self.at))?;
        let mut block = vec![0; BLOCK_BYTES as usize];
        loop {
            let count = self.file.read(&mut block)?;
            if count == 0 {
                return Ok(());
            }
            self.at += count as u64;
            lines.push(&block[..count], tell);
        }
    }
}

/// Bytes cut into whole lines.
#[derive(Default)]
struct Lines(Vec<u8>);

impl Lines {
    fn push(&mut self, bytes: &[u8], tell: &mut dyn FnMut(&[u8])) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.0.extend_from_slice(part);
            if self.0.len() >= LINE_BYTES_MAX || part.ends_with(b"\n") {
                tell(self.0.strip_suffix(b"\n").unwrap_or(&self.0));
                self.0.clear();
            }
        }
    }
}

/// One log, followed.
struct Tail {
    path: PathBuf,
    now: Option<Open>,
    /// The one before: under pm2 an old worker goes on writing to a log that was put aside.
    before: Option<Open>,
    lines: Lines,
}

impl Tail {
    /// From the first line on.
    const fn whole(path: PathBuf) -> Self {
        Self { path, now: None, before: None, lines: Lines(Vec::new()) }
    }

    /// From its last lines on, which are given out.
    fn last(path: PathBuf, count: Option<usize>, tell: &mut dyn FnMut(&[u8])) -> io::Result<Self> {
        let mut now = Open::at(&path, 0)?;
        let (bytes, len) = end_of(&mut now.file, count.map_or(0, wanted))?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        now.at = len - (bytes.len() - whole) as u64;
        let lines: Vec<&[u8]> = bytes[..whole].split_inclusive(|byte| *byte == b'\n').collect();
        let from = lines.len().saturating_sub(count.map_or(0, wanted));
        lines[from..].iter().for_each(|line| tell(&line[..line.len() - 1]));
        Ok(Self { now: Some(now), ..Self::whole(path) })
    }

    fn read(&mut self, tell: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        if let Some(before) = &mut self.before {
            before.drain(&mut self.lines, tell)?;
        }
        if let Some(now) = &mut self.now {
            now.drain(&mut self.lines, tell)?;
        }
        let found = match std::fs::symlink_metadata(&self.path) {
            Ok(found) => (found.dev(), found.ino()),
            // Put aside, and the next one not made yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        if self.now.as_ref().is_some_and(|now| now.id == found) {
            return Ok(());
        }
        for path in self.missed() {
            Open::at(&path, 0)?.drain(&mut self.lines, tell)?;
        }
        self.before = self.now.take();
        if let Some(before) = &mut self.before {
            // What was written between the look at the file and the look at its name.
            before.drain(&mut self.lines, tell)?;
        }
        let mut now = Open::at(&self.path, 0)?;
        now.drain(&mut self.lines, tell)?;
        self.now = Some(now);
        Ok(())
    }

    /// Logs that were begun and put aside between two looks, oldest first.
    fn missed(&self) -> Vec<PathBuf> {
        let Some(now) = &self.now else { return Vec::new() };
        let aside = (1..=ASIDE_MAX).map(|number| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        });
        let id = |path: &PathBuf| {
            let found = std::fs::symlink_metadata(path).ok()?;
            Some((found.dev(), found.ino()))
        };
        let mut newer: Vec<PathBuf> =
            aside.take_while(|path| id(path).is_some_and(|found| found != now.id)).collect();
        newer.reverse();
        newer
    }
}

/// A place whose logs are followed.
#[derive(Debug, Clone)]
pub struct Place {
    /// What its lines are called by besides the log's name.
    pub label: String,
    /// The directory; it exists.
    pub dir: PathBuf,
    /// Only this log.
    pub only: Option<String>,
}

/// A line of a log: place, name of the log, the line without its end.
pub type Tell<'a> = &'a mut dyn FnMut(&str, &str, &[u8]);

/// Which place, which log.
type Key = (usize, String);

/// Every log of some places, also those that appear later.
pub struct Tails {
    places: Vec<Place>,
    tails: BTreeMap<Key, Tail>,
    changes: Receiver<()>,
    _watcher: RecommendedWatcher,
}

impl Tails {
    /// Begins to watch, and gives out the last lines of what is there. `None`: none of them.
    pub fn begin(places: Vec<Place>, count: Option<usize>, tell: Tell<'_>) -> Result<Self, TailError> {
        // One waiting event says all there is to say: look again.
        let (changed, changes) = channel(1);
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if !event.is_ok_and(|event| event.kind.is_access()) {
                let _ = changed.try_send(());
            }
        })?;
        for place in &places {
            watcher.watch(&place.dir, RecursiveMode::NonRecursive)?;
        }
        let mut tails = Self { places, tails: BTreeMap::new(), changes, _watcher: watcher };
        for (key, path) in tails.newcomers()? {
            let place = &tails.places[key.0].label;
            let told = &mut |line: &[u8]| tell(place, &key.1, line);
            let tail = Tail::last(path.clone(), count, told).map_err(at(&path))?;
            tails.tails.insert(key, tail);
        }
        Ok(tails)
    }

    /// How many logs there are.
    pub fn len(&self) -> usize {
        self.tails.len()
    }

    /// Whether there is no log yet.
    pub fn is_empty(&self) -> bool {
        self.tails.is_empty()
    }

    /// Ends when something may have been added.
    pub async fn changed(&mut self) {
        if self.changes.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }

    /// Gives out what was added.
    pub fn read(&mut self, tell: Tell<'_>) -> Result<(), TailError> {
        for (key, path) in self.newcomers()? {
            self.tails.insert(key, Tail::whole(path));
        }
        for ((place, name), tail) in &mut self.tails {
            let place = &self.places[*place].label;
            tail.read(&mut |line| tell(place, name, line)).map_err(at(&tail.path))?;
        }
        Ok(())
    }

    fn newcomers(&self) -> Result<Vec<(Key, PathBuf)>, TailError> {
        let mut found = Vec::new();
        for (index, place) in self.places.iter().enumerate() {
            for name in names(&place.dir).map_err(at(&place.dir))? {
                let path = place.dir.join(format!("{name}{SUFFIX}"));
                let key = (index, name);
                let wanted = place.only.as_ref().is_none_or(|only| *only == key.1);
                if wanted && !self.tails.contains_key(&key) {
                    found.push((key, path));
                }
            }
        }
        Ok(found)
    }
}

/// Why a log cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum TailError {
    /// The kernel does not tell of changes.
    #[error("cannot watch the logs: {0}")]
    Watch(#[from] notify::Error),
    /// The system refused.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> TailError + '_ {
    move |source| TailError::Io { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn log(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("main.log");
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    fn append(path: &Path, text: &str) {
        File::options().append(true).create(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn put_aside(path: &Path) {
        let aside = |number: u32| PathBuf::from(format!("{}.{number}", path.display()));
        for number in (1..5).rev() {
            drop(std::fs::rename(aside(number), aside(number + 1)));
        }
        std::fs::rename(path, aside(1)).unwrap();
    }

    fn read(tail: &mut Tail) -> Vec<String> {
        let mut lines = Vec::new();
        tail.read(&mut |line| lines.push(String::from_utf8_lossy(line).into_owned())).unwrap();
        lines
    }

    #[test]
    fn the_last_lines_are_whole_however_long_the_log_is() {
        let text: String = (0..20_000).map(|line| format!("line {line} of a log\n")).collect();
        let (_dir, path) = log(&text);
        let lines = last_lines(&path, 8_000).unwrap();
        assert_eq!(lines.len(), 8_000);
        assert_eq!(
            (lines[0].as_str(), lines[7_999].as_str()),
            ("line 12000 of a log", "line 19999 of a log")
        );
        assert_eq!(last_lines(&path, 0).unwrap().len(), 20_000);
        assert_eq!(last_lines(&path, 1).unwrap(), ["line 19999 of a log"]);
    }

    #[test]
    fn a_short_log_and_a_last_line_without_an_end_are_shown() {
        let (_dir, path) = log("one\ntwo");
        assert_eq!(last_lines(&path, 50).unwrap(), ["one", "two"]);
        assert_eq!(last_lines(&path, 1).unwrap(), ["two"]);
        let (_dir, path) = log("");
        assert_eq!(last_lines(&path, 5).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_link_in_the_place_of_a_log_is_refused() {
        let (dir, path) = log("secret");
        let link = dir.path().join("other.log");
        std::os::unix::fs::symlink(path, &link).unwrap();
        assert!(last_lines(&link, 5).is_err());
        assert!(Tail::last(link.clone(), Some(5), &mut |_| ()).is_err());
        assert!(Tail::whole(link).read(&mut |_| ()).is_err());
    }

    #[test]
    fn following_begins_with_the_last_lines_and_gives_out_each_line_once_and_whole() {
        let (_dir, path) = log("one\ntwo\nthr");
        let mut first = Vec::new();
        let mut tail = Tail::last(path.clone(), Some(1), &mut |line| first.push(line.to_vec())).unwrap();
        assert_eq!(first, [b"two"]);
        assert_eq!(read(&mut tail), Vec::<String>::new());
        append(&path, "ee\nfour\n");
        assert_eq!(read(&mut tail), ["three", "four"]);
        assert_eq!(read(&mut tail), Vec::<String>::new());
    }

    #[test]
    fn no_line_is_lost_or_repeated_over_any_number_of_rotations_between_two_looks() {
        for rotations in 0..4 {
            let (_dir, path) = log("seen\n");
            let mut tail = Tail::last(path.clone(), None, &mut |_| ()).unwrap();
            let mut wanted = Vec::new();
            for rotation in 0..rotations {
                append(&path, &format!("line {rotation}\n"));
                wanted.push(format!("line {rotation}"));
                put_aside(&path);
            }
            append(&path, "last\n");
            wanted.push("last".to_owned());
            assert_eq!(read(&mut tail), wanted, "{rotations} rotations");
            assert_eq!(read(&mut tail), Vec::<String>::new());
        }
    }

    #[test]
    fn a_writer_that_keeps_the_log_that_was_put_aside_is_still_heard() {
        let (_dir, path) = log("");
        let mut tail = Tail::last(path.clone(), None, &mut |_| ()).unwrap();
        let mut old = File::options().append(true).open(&path).unwrap();
        put_aside(&path);
        append(&path, "new\n");
        assert_eq!(read(&mut tail), ["new"]);
        old.write_all(b"late\n").unwrap();
        assert_eq!(read(&mut tail), ["late"]);
    }

    #[test]
    fn a_log_that_was_cut_is_read_from_its_start() {
        let (_dir, path) = log("a long first line\n");
        let mut tail = Tail::last(path.clone(), None, &mut |_| ()).unwrap();
        std::fs::write(&path, "short\n").unwrap();
        assert_eq!(read(&mut tail), ["short"]);
    }
}
