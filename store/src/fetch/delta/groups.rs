//! The groups of a delta, unpacked one at a time, and only those that hold something wanted.

use std::io::{self, Read};
use std::sync::atomic::Ordering;

use rayon::prelude::*;

use super::keep::Keeper;
use super::stream::Stream;
use super::{DeltaError, Piece};
use crate::blob::{BlobSource, Want};
use crate::delta::{Group, Span, decompress};
use crate::digest::BlobId;

/// A content of the new stream, and the forms of it that are missing.
pub(super) struct Wanted {
    pub(super) begins: u64,
    pub(super) ends: u64,
    pub(super) wants: Vec<Want>,
}

/// The groups, one of them unpacked.
pub(super) struct Groups<'a> {
    pieces: &'a [Piece],
    stream: Stream<'a>,
    old: Span<'a>,
    raw: Vec<u8>,
    loaded: Option<usize>,
    keeper: &'a Keeper<'a>,
}

impl<'a> Groups<'a> {
    /// None unpacked yet; `have` has the contents of the old stream.
    pub(super) fn new(
        pieces: &'a [Piece],
        stream: Stream<'a>,
        (have, old): (&'a dyn BlobSource, &'a [(BlobId, u64)]),
        keeper: &'a Keeper<'a>,
    ) -> Self {
        Self { pieces, stream, old: Span::new(have, old), raw: Vec::new(), loaded: None, keeper }
    }

    /// Bytes that were read.
    pub(super) const fn moved(&self) -> u64 {
        self.stream.moved()
    }

    /// Keeps every wanted content; groups that hold none are not asked for.
    pub(super) fn keep_all(&mut self, contents: &[Wanted]) -> Result<(), DeltaError> {
        let mut rest = contents;
        while let Some((first, after)) = rest.split_first() {
            if first.wants.is_empty() {
                rest = after;
                continue;
            }
            self.load_at(first.begins)?;
            let ends = self.loaded_end();
            let (whole, others) = rest.split_at(rest.partition_point(|content| content.ends <= ends));
            rest = match (whole, others.split_first()) {
                ([], Some((content, after))) => {
                    self.keep_long(content)?;
                    after
                }
                _ => {
                    self.keep_whole(whole)?;
                    others
                }
            };
            self.keeper.tick()?;
        }
        Ok(())
    }

    /// Contents that are in the unpacked group from beginning to end.
    fn keep_whole(&self, contents: &[Wanted]) -> Result<(), DeltaError> {
        let begins = self.loaded_piece().map_or(0, |piece| piece.begins);
        let (raw, keeper) = (self.raw.as_slice(), self.keeper);
        contents.par_iter().try_for_each(|content| {
            let bytes = &raw[(content.begins - begins) as usize..(content.ends - begins) as usize];
            content.wants.iter().try_for_each(|want| keeper.put(want, &mut &*bytes))
        })
    }

    /// A content that goes on through several groups, unpacked anew for each form of it.
    fn keep_long(&mut self, content: &Wanted) -> Result<(), DeltaError> {
        for want in &content.wants {
            let mut long = Long { groups: self, at: content.begins, end: content.ends, fault: None };
            let keeper = long.groups.keeper;
            let put = keeper.put(want, &mut long);
            if let Some(fault) = long.fault {
                return Err(fault);
            }
            put?;
        }
        Ok(())
    }

    fn loaded_piece(&self) -> Option<&Piece> {
        self.pieces.get(self.loaded?)
    }

    fn loaded_end(&self) -> u64 {
        self.loaded_piece().map_or(0, |piece| piece.begins + piece.group.new)
    }

    /// Unpacks the group that a place of the new stream is in.
    fn load_at(&mut self, at: u64) -> Result<(), DeltaError> {
        let index = self.pieces.partition_point(|piece| piece.begins + piece.group.new <= at);
        if self.loaded == Some(index) {
            return Ok(());
        }
        self.loaded = None;
        let ids = self.keeper.ids;
        let piece = self.pieces.get(index).ok_or_else(|| ids.unusable("it ends too early"))?;
        let stored = self.stream.stored(piece).map_err(|error| ids.unusable(error))?;
        let Group { new, old_from, old } = piece.group;
        let prefix = self.old.move_to(old_from, old as usize).map_err(|error| ids.unusable(error))?;
        decompress(prefix, &stored, new as usize, &mut self.raw).map_err(|error| ids.unusable(error))?;
        self.loaded = Some(index);
        self.keeper.counters.frames.fetch_add(1, Ordering::Relaxed);
        self.keeper.counters.moved.fetch_add(stored.len() as u64, Ordering::Relaxed);
        self.keeper.tick()
    }
}

/// A content of several groups.
struct Long<'g, 'a> {
    groups: &'g mut Groups<'a>,
    at: u64,
    end: u64,
    /// Set when the groups, not their reader, are at fault.
    fault: Option<DeltaError>,
}

impl Read for Long<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.end {
            return Ok(0);
        }
        if let Err(error) = self.groups.load_at(self.at) {
            let told = io::Error::other(error.to_string());
            self.fault = Some(error);
            return Err(told);
        }
        let begins = self.groups.loaded_piece().map_or(0, |piece| piece.begins);
        let until = self.end.min(self.groups.loaded_end());
        let bytes = &self.groups.raw[(self.at - begins) as usize..(until - begins) as usize];
        let length = bytes.len().min(buffer.len());
        buffer[..length].copy_from_slice(&bytes[..length]);
        self.at += length as u64;
        Ok(length)
    }
}
