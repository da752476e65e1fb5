//! A log file of whole lines that rotates by size.
//!
//! The app must never stop because its log cannot be written: lines that do not fit on the disk are dropped
//! and counted, and the count is written when there is room again.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::limits::{LINE_BYTES_MAX, LOG_FILE_BYTES_MAX, LOG_FILES_KEPT};
use crate::start::RunAs;

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keep {
    /// Bytes at which a file is put aside.
    pub(super) file_bytes: u64,
    /// Files put aside that stay.
    pub(super) files: u32,
}

impl Default for Keep {
    fn default() -> Self {
        Self { file_bytes: LOG_FILE_BYTES_MAX, files: LOG_FILES_KEPT }
    }
}

/// The log of one process.
pub(super) struct Log {
    path: PathBuf,
    keep: Keep,
    file: File,
    bytes: u64,
    dropped: u64,
}

impl Log {
    /// Opens the log for appending.
    pub(super) fn open(path: &Path, keep: Keep) -> io::Result<Self> {
        let file = append_to(path)?;
        Ok(Self { path: path.to_owned(), keep, bytes: file.metadata()?.len(), file, dropped: 0 })
    }

    /// Appends one line (with its newline).
    pub(super) fn line(&mut self, line: &[u8]) {
        if self.bytes > 0 && self.bytes + line.len() as u64 > self.keep.file_bytes {
            self.rotate();
        }
        self.confess_drops();
        match self.file.write_all(line) {
            Ok(()) => self.bytes += line.len() as u64,
            Err(_) => self.dropped += 1,
        }
    }

    /// Appends a line of landfall's own.
    pub(super) fn note(&mut self, text: &str) {
        self.line(format!("landfall: {text}\n").as_bytes());
    }

    fn confess_drops(&mut self) {
        if self.dropped == 0 {
            return;
        }
        let said = format!("landfall: {} lines were lost: the disk was full\n", self.dropped);
        if self.file.write_all(said.as_bytes()).is_ok() {
            self.dropped = 0;
            self.bytes += said.len() as u64;
        }
    }

    fn rotate(&mut self) {
        put_aside(&self.path, self.keep.files);
        if let Ok(file) = append_to(&self.path) {
            self.file = file;
            self.bytes = 0;
        }
    }
}

/// Makes a log that another supervisor writes, as `owner` if the app's account opens it (the directory need not be
/// its). Nobody else rotates it: a large one is put aside first, for whoever opens it next.
pub(crate) fn make_for_another(path: &Path, owner: Option<RunAs>) -> io::Result<()> {
    std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
    let keep = Keep::default();
    if std::fs::symlink_metadata(path).is_ok_and(|log| log.len() > keep.file_bytes) {
        put_aside(path, keep.files);
    }
    let file = append_to(path)?;
    if file.metadata()?.nlink() != 1 {
        return Err(io::Error::other("has another name: it is not only a log"));
    }
    owner.map_or(Ok(()), |owner| owner.give(&file))
}

fn put_aside(path: &Path, files: u32) {
    for number in (1..files).rev() {
        let _ = std::fs::rename(aside(path, number), aside(path, number + 1));
    }
    let _ = std::fs::rename(path, aside(path, 1));
}

fn aside(path: &Path, number: u32) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(format!(".{number}"));
    name.into()
}

/// The directory may belong to the app: a link or a pipe put there must not be followed or waited for.
fn append_to(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("is not a regular file")),
    }
}

/// Cuts a stream into lines of bounded length.
#[derive(Default)]
pub(super) struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    /// Takes the next bytes and gives every line they complete, each with its newline.
    pub(super) fn push(&mut self, bytes: &[u8], mut each: impl FnMut(&[u8])) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            for chunk in piece.chunks(LINE_BYTES_MAX) {
                self.take(chunk, &mut each);
            }
        }
    }

    fn take(&mut self, chunk: &[u8], each: &mut impl FnMut(&[u8])) {
        if self.partial.len() + chunk.len() > LINE_BYTES_MAX {
            self.end(each);
        }
        self.partial.extend_from_slice(chunk);
        if chunk.ends_with(b"\n") {
            each(&self.partial);
            self.partial.clear();
        }
    }

    /// Gives what is left as a line.
    pub(super) fn end(&mut self, each: &mut impl FnMut(&[u8])) {
        if !self.partial.is_empty() {
            self.partial.push(b'\n');
            each(&self.partial);
            self.partial.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotation_keeps_lines_whole_and_only_so_many_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("main.log");
        let keep = Keep { file_bytes: 100, files: 2 };
        let mut log = Log::open(&path, keep).unwrap();
        for number in 0..100 {
            log.line(format!("line number {number}\n").as_bytes());
        }
        let mut names: Vec<_> = dir.path().read_dir().unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["main.log", "main.log.1", "main.log.2"]);
        for name in names {
            let text = std::fs::read_to_string(dir.path().join(name)).unwrap();
            assert!(text.len() <= 100 && text.ends_with('\n') && text.starts_with("line"), "{text}");
        }
        assert!(std::fs::read_to_string(&path).unwrap().ends_with("line number 99\n"));
    }

    #[test]
    fn a_link_in_the_place_of_the_log_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("target");
        std::fs::write(&target, "").unwrap();
        std::os::unix::fs::symlink(&target, dir.path().join("main.log")).unwrap();
        assert!(Log::open(&dir.path().join("main.log"), Keep::default()).is_err());
    }

    #[test]
    fn an_endless_line_is_cut() {
        let mut lines = Lines::default();
        let mut got = Vec::new();
        for _ in 0..40 {
            lines.push(&[b'x'; 10_000], |line| got.push(line.len()));
        }
        assert!(got.iter().all(|len| *len <= LINE_BYTES_MAX + 1), "{got:?}");
        assert!(!got.is_empty());
    }

    #[test]
    fn lines_that_arrive_in_pieces_are_whole() {
        let mut lines = Lines::default();
        let mut got = Vec::new();
        for piece in ["ab", "c\nde", "f\n\ng"] {
            lines.push(piece.as_bytes(), |line| got.push(String::from_utf8(line.to_vec()).unwrap()));
        }
        lines.end(&mut |line: &[u8]| got.push(String::from_utf8(line.to_vec()).unwrap()));
        assert_eq!(got, ["abc\n", "def\n", "\n", "g\n"]);
    }
}
