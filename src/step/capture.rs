//! Keeps the beginning and the end of an output of any length, in bounded memory and disk.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

use super::limits::{OUTPUT_BYTES_MAX, TAIL_BYTES_MAX, TAIL_LINES_MAX};

/// Half of what is kept is the beginning, half the end.
const HALF: usize = OUTPUT_BYTES_MAX / 2;

/// The last bytes of a stream.
struct Last {
    bytes: Vec<u8>,
    max: usize,
}

impl Last {
    fn new(max: usize) -> Self {
        Self { bytes: Vec::new(), max }
    }

    /// Trimmed only when twice too long, so that each byte is moved about once.
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() > 2 * self.max {
            self.bytes.drain(..self.bytes.len() - self.max);
        }
    }

    fn get(&self) -> &[u8] {
        &self.bytes[self.bytes.len().saturating_sub(self.max)..]
    }
}

/// The output of one command.
pub(super) struct Capture {
    file: Option<File>,
    head_left: usize,
    total: u64,
    past_head: u64,
    end_of_file: Last,
    recent: Last,
}

impl Capture {
    /// Output goes to this file, if one is given, and its last lines are kept.
    pub(super) fn new(path: Option<&Path>) -> io::Result<Self> {
        Ok(Self {
            file: path.map(create).transpose()?,
            head_left: HALF,
            total: 0,
            past_head: 0,
            end_of_file: Last::new(HALF),
            recent: Last::new(TAIL_BYTES_MAX),
        })
    }

    /// Takes the next bytes. A full disk costs the log, not the step.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        self.recent.push(bytes);
        let (head, rest) = bytes.split_at(bytes.len().min(self.head_left));
        self.head_left -= head.len();
        self.write(head);
        self.past_head += rest.len() as u64;
        if self.file.is_some() {
            self.end_of_file.push(rest);
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(file) = &mut self.file {
            let _ = file.write_all(bytes);
        }
    }

    /// Writes the end of the output, after a mark where something was left out.
    pub(super) fn finish(&mut self) {
        let kept = self.end_of_file.get().to_vec();
        let lost = self.past_head - kept.len() as u64;
        if lost > 0 && self.file.is_some() {
            self.write(format!("\n[landfall: {lost} bytes left out here]\n").as_bytes());
        }
        self.write(&kept);
    }

    /// Bytes seen.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// The last lines.
    pub(super) fn tail(&self) -> Vec<String> {
        let text = String::from_utf8_lossy(self.recent.get());
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(TAIL_LINES_MAX);
        lines[from..].iter().map(|line| (*line).to_owned()).collect()
    }
}

fn create(path: &Path) -> io::Result<File> {
    File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o640)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captured(bytes: &[u8]) -> (Vec<u8>, Capture) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut capture = Capture::new(Some(&path)).unwrap();
        for piece in bytes.chunks(7_777) {
            capture.push(piece);
        }
        capture.finish();
        (std::fs::read(path).unwrap(), capture)
    }

    #[test]
    fn up_to_the_limit_every_byte_is_kept() {
        for len in [0, 1, HALF - 1, HALF, HALF + 1, OUTPUT_BYTES_MAX] {
            let bytes: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
            assert!(captured(&bytes).0 == bytes, "{len}");
        }
    }

    #[test]
    fn beyond_it_head_and_tail_are_kept_with_a_mark_between() {
        let bytes: Vec<u8> = (0..3 * OUTPUT_BYTES_MAX).map(|at| (at % 251) as u8).collect();
        let (kept, capture) = captured(&bytes);
        assert!(kept[..HALF] == bytes[..HALF]);
        assert!(kept[kept.len() - HALF..] == bytes[bytes.len() - HALF..]);
        let lost = bytes.len() - OUTPUT_BYTES_MAX;
        let mark = format!("[landfall: {lost} bytes left out here]");
        assert!(String::from_utf8_lossy(&kept[HALF..kept.len() - HALF]).contains(&mark));
        assert_eq!(capture.total(), bytes.len() as u64);
    }

    #[test]
    fn the_tail_is_the_last_lines() {
        let text: String = (0..5_000).map(|line| format!("line {line}\n")).collect();
        let tail = captured(text.as_bytes()).1.tail();
        assert_eq!(tail.len(), TAIL_LINES_MAX);
        assert_eq!((tail[0].as_str(), tail[199].as_str()), ("line 4800", "line 4999"));
    }
}
