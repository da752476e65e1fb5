//! A reader that proves what it reads.

use std::fs::File;
use std::io::{self, Read};

use crate::digest::BlobId;

/// Bytes read at a time from large contents.
pub(crate) const CHUNK_BYTES: usize = 128 << 10;
/// Bytes of a content that is verified in memory as a whole, before anything of it is written.
pub(crate) const WHOLE_BYTES_MAX: u64 = 1 << 20;

/// Passes a content on, hashing. Reports its end only if it has exactly the bytes it was named for; otherwise
/// the last read fails with [`io::ErrorKind::InvalidData`]. Never passes on more than `size` bytes.
pub struct Verified<R> {
    inner: R,
    blob: BlobId,
    left: u64,
    hasher: blake3::Hasher,
    proved: bool,
}

impl<R: Read> Verified<R> {
    /// Expects the content `blob` of `size` bytes from `inner`.
    pub fn new(inner: R, blob: BlobId, size: u64) -> Self {
        Self { inner, blob, left: size, hasher: blake3::Hasher::new(), proved: false }
    }

    fn prove(&mut self) -> io::Result<()> {
        if self.proved {
            return Ok(());
        }
        if self.left > 0 {
            return Err(wrong(&self.blob, "it ends too early"));
        }
        if read_some(&mut self.inner, &mut [0])? > 0 {
            return Err(wrong(&self.blob, "it is longer than it should be"));
        }
        if BlobId(self.hasher.finalize().into()) != self.blob {
            return Err(wrong(&self.blob, "its bytes do not match its id"));
        }
        self.proved = true;
        Ok(())
    }
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = if most == 0 { 0 } else { read_some(&mut self.inner, &mut buffer[..most])? };
        if count == 0 {
            self.prove()?;
            return Ok(0);
        }
        self.hasher.update(&buffer[..count]);
        self.left -= count as u64;
        // A caller who stops after the last byte must have proof too.
        if self.left == 0 {
            self.prove()?;
        }
        Ok(count)
    }
}

fn read_some(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match reader.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            answer => return answer,
        }
    }
}

pub(crate) fn wrong(blob: &BlobId, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("content {blob} is not what it is named for: {why}"))
}

/// Reads a whole file of at most [`WHOLE_BYTES_MAX`] bytes and verifies it. `buffer` only ever grows: fresh
/// memory costs page faults each time.
pub(crate) fn read_file<'b>(
    mut file: &File,
    blob: &BlobId,
    size: u64,
    buffer: &'b mut Vec<u8>,
) -> io::Result<&'b [u8]> {
    let (size, mut filled) = (size as usize, 0);
    if buffer.len() <= size {
        buffer.resize(size + 1, 0);
    }
    while filled <= size {
        match read_some(&mut file, &mut buffer[filled..=size])? {
            0 => break,
            count => filled += count,
        }
    }
    if filled != size {
        return Err(wrong(blob, "its length is another"));
    }
    let content = &buffer[..size];
    if BlobId::of(content) == *blob { Ok(content) } else { Err(wrong(blob, "its bytes do not match its id")) }
}

/// Reads a whole content of at most [`WHOLE_BYTES_MAX`] bytes into `buffer` and verifies it.
pub(crate) fn read_whole(
    content: &mut dyn Read,
    blob: &BlobId,
    size: u64,
    buffer: &mut Vec<u8>,
) -> io::Result<()> {
    buffer.clear();
    content.take(size + 1).read_to_end(buffer)?;
    if buffer.len() as u64 != size {
        return Err(wrong(blob, "its length is another"));
    }
    if BlobId::of(buffer) != *blob {
        return Err(wrong(blob, "its bytes do not match its id"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &[u8], named: &[u8], size: u64) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        Verified::new(content, BlobId::of(named), size).read_to_end(&mut all).map(|_| all)
    }

    #[test]
    fn the_right_bytes_pass_and_any_others_do_not() {
        assert_eq!(read(b"abc", b"abc", 3).unwrap(), b"abc");
        assert_eq!(read(b"", b"", 0).unwrap(), b"");
        for (content, size) in [(&b"abd"[..], 3), (b"ab", 3), (b"abcd", 3), (b"abc", 2), (b"abc", 4)] {
            assert_eq!(read(content, b"abc", size).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }

    #[test]
    fn a_caller_who_stops_at_the_last_byte_still_learns_of_a_wrong_one() {
        let mut buffer = [0; 3];
        assert!(Verified::new(&b"abd"[..], BlobId::of(b"abc"), 3).read_exact(&mut buffer).is_err());
    }
}
