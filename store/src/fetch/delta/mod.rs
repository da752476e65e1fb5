//! Fetching by a delta: a tree and its contents from those of a tree that is here, in one request.
//!
//! A delta is used, never believed: the tree must hash to its id before anything is made of it, every
//! content to the id the tree gives it before it is kept. Whatever goes wrong, the same bytes come from packs.

mod groups;
mod keep;
mod stream;

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::sync::atomic::Ordering;

use groups::{Groups, Wanted};
use keep::Keeper;
use stream::Stream;

use super::read::Counters;
use super::{FetchReport, Progress, Watch, memory};
use crate::blob::{BlobSink, BlobSource, Want};
use crate::delta::{Base, Change, Group, Head, changed, decompress, gone};
use crate::digest::{BlobId, TreeId};
use crate::error::StoreError;
use crate::layout;
use crate::limits::{DELTA_BYTES_MAX, INFLATION_MAX};
use crate::store::Store;
use crate::tree::Tree;

/// What came may always unpack to this many bytes: small trees have any ratio.
const CAME_BYTES_FREE: u64 = 1 << 20;
/// Memory that applying needs beside its largest group: trees, buffers, the program itself.
const MEMORY_BESIDE: u64 = 64 << 20;

/// Why a delta did not bring everything.
#[derive(Debug, thiserror::Error)]
pub enum DeltaError {
    /// It cannot be used here. Packs have the same bytes.
    #[error("the delta from tree {} to {} is of no use here: {why}", .from.0.short(), .to.0.short())]
    Unusable {
        /// The tree it starts from.
        from: TreeId,
        /// The tree it leads to.
        to: TreeId,
        /// What is wrong with it, or with what it needs.
        why: String,
    },
    /// Nothing can be kept here, or nothing is wanted any more: packs would fare no better.
    #[error(transparent)]
    Fatal(StoreError),
}

/// Brings a tree and all its contents that `sink` lacks, by a delta from the tree `from`, whose contents are
/// in `have`. Where the delta does not serve, by packs: the result is the same.
pub fn bring(
    store: &Store,
    base: &Base,
    from: &Tree,
    to: TreeId,
    have: &dyn BlobSource,
    sink: &dyn BlobSink,
    watch: &Watch<'_>,
) -> Result<(Tree, FetchReport), StoreError> {
    let mut report = FetchReport::default();
    let tree = match Delta::open(store, base, from, to) {
        Ok((tree, delta)) => {
            let missing = super::missing(&[&tree], sink)?;
            match delta.contents(missing, have, sink, watch, &mut report) {
                Ok(()) => return Ok((tree, report)),
                Err(error) => error.told()?,
            }
            tree
        }
        Err(error) => {
            error.told()?;
            super::tree(store, &to)?
        }
    };
    let rest = super::blobs(store, &[&tree], sink, watch)?;
    report.bytes_moved += rest.bytes_moved;
    report.blobs += rest.blobs;
    report.frames += rest.frames;
    Ok((tree, report))
}

impl DeltaError {
    /// Logs that packs are used instead, unless they would not help.
    fn told(self) -> Result<(), StoreError> {
        match self {
            Self::Fatal(error) => Err(error),
            Self::Unusable { .. } => {
                tracing::warn!(error = %self, "fetching from packs instead");
                Ok(())
            }
        }
    }
}

/// A delta whose tree came and was proved, and whose contents are still on their way.
pub struct Delta<'a> {
    ids: Ids,
    change: Change,
    groups: Vec<Piece>,
    stream: Stream<'a>,
}

#[derive(Clone, Copy)]
struct Ids {
    from: TreeId,
    to: TreeId,
}

impl Ids {
    fn unusable(self, why: impl ToString) -> DeltaError {
        DeltaError::Unusable { from: self.from, to: self.to, why: why.to_string() }
    }
}

/// A group: where its bytes are in the object, and its content in the new stream.
#[derive(Debug, Clone, Copy)]
struct Piece {
    group: Group,
    at: u64,
    stored: u64,
    begins: u64,
}

impl<'a> Delta<'a> {
    /// Asks for the delta and reads it up to the tree it leads to, which is proved and given beside it. `from` is
    /// the tree `base` names.
    pub fn open(store: &'a Store, base: &Base, from: &Tree, to: TreeId) -> Result<(Tree, Self), DeltaError> {
        let ids = Ids { from: base.tree, to };
        let mut stream = Stream::new(store, layout::delta(&to, &base.tree), base.bytes.min(DELTA_BYTES_MAX));
        let head = Head::read(&mut stream).map_err(|error| ids.unusable(error))?;
        let (tree, change) = read_trees(&mut stream, &head, from, ids)?;
        let groups = pieces(&head, &change, stream.at()).map_err(|why| ids.unusable(why))?;
        fits(&groups, memory::available()).map_err(|why| ids.unusable(why))?;
        Ok((tree, Self { ids, change, groups, stream }))
    }

    /// Bytes of it that bring these contents: its head and trees, and the groups that hold any of them. More
    /// where a group that is not wanted is cheaper to read over than to leave out.
    pub(super) fn moves(&self, missing: &[Want]) -> u64 {
        let missing: HashSet<BlobId> = missing.iter().map(|want| want.blob).collect();
        let mut at = 0;
        let spans = self.change.new.iter().filter_map(|(blob, size)| {
            let begins = at;
            at += size;
            (*size > 0 && missing.contains(blob)).then_some((begins, at))
        });
        let spans: Vec<(u64, u64)> = spans.collect();
        let is_wanted = |piece: &&Piece| {
            let ends = piece.begins + piece.group.new;
            let first = spans.partition_point(|(_, end)| *end <= piece.begins);
            spans.get(first).is_some_and(|(begins, _)| *begins < ends)
        };
        let groups = self.groups.iter().filter(is_wanted).map(|piece| piece.stored).sum::<u64>();
        self.stream.moved() + groups
    }

    /// Brings these contents of the tree to `sink`, which lacks them; `have` has those of the tree it starts
    /// from. On an error, what had arrived by then stays, and is in the report.
    pub fn contents(
        self,
        missing: Vec<Want>,
        have: &dyn BlobSource,
        sink: &dyn BlobSink,
        watch: &Watch<'_>,
        report: &mut FetchReport,
    ) -> Result<(), DeltaError> {
        let Self { ids, change, groups, stream } = self;
        let counters = Counters::default();
        let total = Progress {
            blobs_total: missing.len() as u64,
            bytes_total: missing.iter().map(|want| want.size).sum(),
            ..Progress::default()
        };
        let keeper = Keeper { ids, sink, watch, counters: &counters, total };
        let mut groups = Groups::new(&groups, stream, (have, &change.old), &keeper);
        let done = bring_missing(missing, &change, have, &keeper, &mut groups);
        report.bytes_moved += groups.moved();
        report.blobs += counters.blobs.load(Ordering::Relaxed);
        report.frames += counters.frames.load(Ordering::Relaxed);
        done
    }
}

fn bring_missing(
    mut missing: Vec<Want>,
    change: &Change,
    have: &dyn BlobSource,
    keeper: &Keeper<'_>,
    groups: &mut Groups<'_>,
) -> Result<(), DeltaError> {
    super::keep_empty(&mut missing, keeper.sink, keeper.counters).map_err(DeltaError::Fatal)?;
    let mut wanted: HashMap<BlobId, Vec<Want>> = HashMap::new();
    for want in missing {
        wanted.entry(want.blob).or_default().push(want);
    }
    let mut at = 0;
    let content = |(blob, size): &(BlobId, u64)| {
        let begins = at;
        at += size;
        Wanted { begins, ends: at, wants: wanted.remove(blob).unwrap_or_default() }
    };
    let new: Vec<Wanted> = change.new.iter().map(content).collect();
    // The others are contents of the old tree, in another form than there.
    let others: Vec<Want> = wanted.into_values().flatten().collect();
    // One that is missing comes from a pack; that is no reason to leave the delta.
    let taken = keeper.take_over(&others, have);
    if let Err(DeltaError::Fatal(_)) = taken {
        return taken;
    }
    groups.keep_all(&new)?;
    taken
}

/// Whether the largest group and what is beside it find room in the memory that is free.
fn fits(groups: &[Piece], free: Option<u64>) -> Result<(), String> {
    let largest = groups.iter().map(|piece| piece.group.new + piece.group.old + piece.stored).max();
    let need = largest.map_or(0, |bytes| bytes + MEMORY_BESIDE);
    match free {
        Some(free) if need > free => {
            Err(format!("it needs {} MiB of memory, and {} are free", need >> 20, free >> 20))
        }
        _ => Ok(()),
    }
}

/// The new tree, proved, and what differs from the old one.
fn read_trees(
    stream: &mut Stream<'_>,
    head: &Head,
    from: &Tree,
    ids: Ids,
) -> Result<(Tree, Change), DeltaError> {
    let unusable = |why: &dyn ToString| ids.unusable(why.to_string());
    let most = head.came.stored.saturating_mul(INFLATION_MAX as u64).max(CAME_BYTES_FREE);
    if head.came.raw > most {
        return Err(ids.unusable("what came would unpack to more than it may"));
    }
    let mut stored = Vec::new();
    stream.take(head.came.stored).read_to_end(&mut stored).map_err(|error| unusable(&error))?;
    let gone = gone(from, &head.runs).ok_or_else(|| ids.unusable("it takes more away than there is"))?;
    let gone = gone.map_err(|error| unusable(&error))?;
    let mut raw = Vec::new();
    // The length fits: it is below the bound of trees.
    decompress(&gone.encode(), &stored, head.came.raw as usize, &mut raw)
        .map_err(|error| unusable(&error))?;
    let came = Tree::decode(&raw).map_err(|error| unusable(&error))?;
    let tree = changed(from, &gone, &came).map_err(|error| unusable(&error))?;
    if tree.id() != ids.to {
        return Err(ids.unusable("it gives another tree"));
    }
    Ok((tree, Change::of(from, gone, came)))
}

/// The groups with their places, if they are what the two streams need.
fn pieces(head: &Head, change: &Change, first: u64) -> Result<Vec<Piece>, &'static str> {
    let (mut at, mut begins) = (first, 0u64);
    let mut pieces = Vec::new();
    for (group, stored) in &head.groups {
        if group.old_from.saturating_add(group.old) > change.old_bytes() {
            return Err("one of its groups is against more than there was");
        }
        pieces.push(Piece { group: *group, at, stored: *stored, begins });
        // Groups are few and bounded, so neither sum overflows.
        at += stored;
        begins += group.new;
    }
    if begins == change.new_bytes() { Ok(pieces) } else { Err("its groups are not the new contents") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn piece(new: u64, old: u64, stored: u64) -> Piece {
        Piece { group: Group { new, old_from: 0, old }, at: 0, stored, begins: 0 }
    }

    #[test]
    fn a_host_with_less_free_memory_than_the_largest_group_needs_uses_packs() {
        let groups = [piece(MIB, MIB, MIB), piece(20 * MIB, 30 * MIB, 10 * MIB)];
        assert!(fits(&groups, Some(124 * MIB)).is_ok());
        let why = fits(&groups, Some(124 * MIB - 1)).unwrap_err();
        assert_eq!(why, "it needs 124 MiB of memory, and 123 are free");
        assert!(fits(&groups, None).is_ok(), "where the kernel says nothing");
        assert!(fits(&[piece(300, 300, 300)], Some(80 * MIB)).is_ok(), "a small delta needs little");
        assert!(fits(&[], Some(0)).is_ok(), "and one without contents nothing");
    }
}
