//! The bytes of a delta: one request, and another from a group on where it was cut.

use std::io::{self, BufReader, Read};

use super::Piece;
use crate::backend::Key;
use crate::store::Store;

/// How often a group is asked for: a connection may be cut, and one that is cut three times in the same
/// place will be cut again.
const TRIES: usize = 3;
/// The bytes of the delta from where they were left, asked for again where that is not where they go on.
pub(super) struct Stream<'a> {
    store: &'a Store,
    key: Key,
    bytes: u64,
    at: u64,
    open: Option<BufReader<Box<dyn Read + Send + 'a>>>,
    moved: u64,
}

impl<'a> Stream<'a> {
    /// An object of this many bytes, of which nothing has been asked for yet.
    pub(super) const fn new(store: &'a Store, key: Key, bytes: u64) -> Self {
        Self { store, key, bytes, at: 0, open: None, moved: 0 }
    }

    /// Where the next byte is.
    pub(super) const fn at(&self) -> u64 {
        self.at
    }

    /// Bytes that were read.
    pub(super) const fn moved(&self) -> u64 {
        self.moved
    }

    /// The bytes of one group.
    pub(super) fn stored(&mut self, piece: &Piece) -> io::Result<Vec<u8>> {
        let mut last = None;
        for _ in 0..TRIES {
            // A group that is not wanted is read over if that is cheaper than another request.
            let gap = piece.at.checked_sub(self.at);
            let gap_max = self.store.backend().cost().gap_bytes;
            if self.open.is_none() || gap.is_none_or(|gap| gap > gap_max) {
                self.open = None;
                self.at = piece.at;
            }
            match self.read_on(piece) {
                Ok(stored) => return Ok(stored),
                Err(error) => last = Some(error),
            }
            self.open = None;
            self.at = piece.at;
        }
        Err(last.unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into()))
    }

    fn read_on(&mut self, piece: &Piece) -> io::Result<Vec<u8>> {
        let gap = piece.at - self.at;
        io::copy(&mut self.by_ref().take(gap), &mut io::sink())?;
        // The length is bounded, and memory grows with what arrives.
        let mut stored = Vec::new();
        self.by_ref().take(piece.stored).read_to_end(&mut stored)?;
        if stored.len() as u64 == piece.stored {
            Ok(stored)
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }
}

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let open = match &mut self.open {
            Some(open) => open,
            None => {
                let left = self.bytes.saturating_sub(self.at);
                let reader = self.store.backend().read(&self.key, self.at, left).map_err(io::Error::other)?;
                self.open.insert(BufReader::new(reader))
            }
        };
        let count = open.read(buffer)?;
        self.at += count as u64;
        self.moved += count as u64;
        Ok(count)
    }
}
