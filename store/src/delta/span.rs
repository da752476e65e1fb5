//! A span of a stream of contents, in memory, that moves forward over it.

use std::io::{self, Read};

use rayon::prelude::*;

use crate::blob::BlobSource;
use crate::digest::BlobId;
use crate::verified::Verified;

/// Contents that a thread reads at a time: below that, handing them out costs more than it saves.
const CONTENTS_PER_TURN: usize = 16;

/// A content that could not be read, and why.
#[derive(Debug, thiserror::Error)]
#[error("content {} cannot be read: {source}", .blob.0.short())]
pub(crate) struct Unreadable {
    pub(crate) blob: BlobId,
    pub(crate) source: io::Error,
}

/// Bytes of the contents one behind the other, from one offset on. Every content is proved when its last
/// byte is read. Moving forward reads nothing twice, however much two spans have in common.
pub(crate) struct Span<'a> {
    source: &'a dyn BlobSource,
    contents: &'a [(BlobId, u64)],
    /// Where each content ends in the stream. Sizes are a tree's, so their sum may be anything.
    ends: Vec<u64>,
    /// Where `bytes` begins in the stream.
    at: u64,
    bytes: Vec<u8>,
    open: Option<Open<'a>>,
}

/// The content that is being read: which, where it began, and how far.
struct Open<'a> {
    index: usize,
    begins: u64,
    read: u64,
    reader: Verified<Box<dyn Read + 'a>>,
}

impl<'a> Span<'a> {
    /// Nothing yet, of the stream of these contents.
    pub(crate) fn new(source: &'a dyn BlobSource, contents: &'a [(BlobId, u64)]) -> Self {
        let mut end = 0u64;
        let ends = contents.iter().map(|(_, size)| {
            end = end.saturating_add(*size);
            end
        });
        Self { source, contents, ends: ends.collect(), at: 0, bytes: Vec::new(), open: None }
    }

    /// The `length` bytes from `from` on; the caller knows that the stream has them.
    pub(crate) fn move_to(&mut self, from: u64, length: usize) -> Result<&[u8], Unreadable> {
        let here = self.at + self.bytes.len() as u64;
        if (self.at..=here).contains(&from) {
            self.bytes.drain(..(from - self.at) as usize);
        } else {
            self.bytes.clear();
        }
        self.at = from;
        self.bytes.truncate(length);
        self.bytes.reserve_exact(length - self.bytes.len());
        while self.bytes.len() < length {
            if !self.read_whole(length)? {
                self.read_on(length)?;
            }
        }
        Ok(&self.bytes)
    }

    /// Reads on every core the contents that begin here and end within `length`; `false` if there is none.
    fn read_whole(&mut self, length: usize) -> Result<bool, Unreadable> {
        let next = self.at + self.bytes.len() as u64;
        let first = self.ends.partition_point(|end| *end <= next);
        if first > 0 && self.ends[first - 1] != next || first == 0 && next != 0 {
            return Ok(false);
        }
        let until = self.at + length as u64;
        let whole = self.ends[first..].partition_point(|end| *end <= until);
        let Some(last) = (first + whole).checked_sub(1).filter(|_| whole > 0) else { return Ok(false) };
        let from = self.bytes.len();
        self.bytes.resize(from + (self.ends[last] - next) as usize, 0);
        let mut rest = self.bytes.as_mut_slice().split_at_mut(from).1;
        let mut places = Vec::with_capacity(whole);
        for (blob, size) in &self.contents[first..=last] {
            let (place, after) = rest.split_at_mut(*size as usize);
            places.push((*blob, place));
            rest = after;
        }
        let source = self.source;
        places.into_par_iter().with_min_len(CONTENTS_PER_TURN).try_for_each(|(blob, place)| {
            read_one(source, &blob, place).map_err(|source| Unreadable { blob, source })
        })?;
        self.open = None;
        Ok(true)
    }

    fn read_on(&mut self, length: usize) -> Result<(), Unreadable> {
        let next = self.at + self.bytes.len() as u64;
        let mut open = match self.open.take() {
            // What lies ahead in the open content is skipped to; anything else is found anew.
            Some(open) if open.begins + open.read <= next && next < open.begins + self.size(open.index) => {
                open
            }
            _ => self.find(next)?,
        };
        let blob = self.contents[open.index].0;
        let failed = |source| Unreadable { blob, source };
        let skip = next - (open.begins + open.read);
        open.read += io::copy(&mut open.reader.by_ref().take(skip), &mut io::sink()).map_err(failed)?;
        let wanted = (self.size(open.index) - open.read).min((length - self.bytes.len()) as u64);
        let got = open.reader.by_ref().take(wanted).read_to_end(&mut self.bytes).map_err(failed)? as u64;
        open.read += got;
        if got < wanted {
            return Err(failed(io::ErrorKind::UnexpectedEof.into()));
        }
        self.open = Some(open);
        Ok(())
    }

    fn size(&self, index: usize) -> u64 {
        self.contents[index].1
    }

    fn find(&self, at: u64) -> Result<Open<'a>, Unreadable> {
        let index = self.ends.partition_point(|end| *end <= at);
        let Some((blob, size)) = self.contents.get(index) else {
            return Err(Unreadable { blob: BlobId::of(b""), source: io::ErrorKind::UnexpectedEof.into() });
        };
        let begins = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        let reader = self.source.open(blob, *size).map_err(|source| Unreadable { blob: *blob, source })?;
        Ok(Open { index, begins, read: 0, reader: Verified::new(reader, *blob, *size) })
    }
}

/// A whole content into its place, proved by its last byte.
fn read_one(source: &dyn BlobSource, blob: &BlobId, place: &mut [u8]) -> io::Result<()> {
    let size = place.len() as u64;
    Verified::new(source.open(blob, size)?, *blob, size).read_exact(place)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Memory(HashMap<BlobId, Vec<u8>>, Mutex<usize>);

    impl BlobSource for Memory {
        fn open(&self, blob: &BlobId, _size: u64) -> io::Result<Box<dyn Read + '_>> {
            *self.1.lock().unwrap() += 1;
            self.0
                .get(blob)
                .map(|bytes| Box::new(bytes.as_slice()) as _)
                .ok_or(io::ErrorKind::NotFound.into())
        }
    }

    fn scene(contents: &[&str]) -> (Memory, Vec<(BlobId, u64)>) {
        let id = |text: &&str| (BlobId::of(text.as_bytes()), text.len() as u64);
        let memory = contents.iter().map(|text| (id(text).0, text.as_bytes().to_vec())).collect();
        (Memory(memory, Mutex::default()), contents.iter().map(id).collect())
    }

    #[test]
    fn every_span_in_any_order_has_the_streams_bytes() {
        let (memory, contents) = scene(&["hello", "x", "wide world"]);
        let whole = b"helloxwide world";
        let mut span = Span::new(&memory, &contents);
        for from in 0..whole.len() {
            for length in 0..=whole.len() - from {
                assert_eq!(span.move_to(from as u64, length).unwrap(), &whole[from..from + length]);
            }
        }
    }

    #[test]
    fn moving_forward_opens_each_content_once() {
        let (memory, contents) = scene(&["0123456789", "abcdefghij"]);
        let mut span = Span::new(&memory, &contents);
        for from in 0..10 {
            span.move_to(from, 10).unwrap();
        }
        assert_eq!(span.move_to(17, 2).unwrap(), b"hi", "with a gap");
        assert_eq!(*memory.1.lock().unwrap(), 2);
    }

    #[test]
    fn a_wrong_content_is_noticed_at_its_last_byte() {
        let (mut memory, contents) = scene(&["right"]);
        memory.0.insert(contents[0].0, b"wrong".to_vec());
        let mut span = Span::new(&memory, &contents);
        assert!(span.move_to(0, 4).is_ok());
        assert_eq!(span.move_to(2, 3).unwrap_err().source.kind(), io::ErrorKind::InvalidData);
        assert!(Span::new(&Memory::default(), &contents).move_to(0, 1).is_err());
    }
}
