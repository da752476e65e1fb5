//! How the new stream is cut into groups, and what each is compressed against: pure, from the two trees.
//!
//! Neighbours in path order share a group with what stood among them before, so a file that changed, moved
//! or was renamed near its old place finds its ancestor. A large content has groups of its own, each against
//! the part of its ancestor that it most likely came from.

use std::cmp::Ordering;
use std::collections::HashMap;

use super::change::Change;
use crate::digest::BlobId;
use crate::limits::DELTA_GROUP_BYTES_MAX;
use crate::path::EntryPath;
use crate::tree::{Kind, Tree};

/// A content above this many bytes has groups of its own.
const LARGE_BYTES_MIN: u64 = 24 << 20;
/// Bytes of a large content in one group.
const SEGMENT_BYTES: u64 = 16 << 20;
/// Bytes of its ancestor before and behind the corresponding place: what was inserted or removed up to here
/// may shift everything by as much.
const MARGIN_BYTES: u64 = 12 << 20;

/// A piece of the new stream, which follows the one before, and the span of the old stream that it is
/// compressed against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Group {
    /// Bytes of the new stream.
    pub(crate) new: u64,
    /// Where its span of the old stream begins; 0 if it has none.
    pub(crate) old_from: u64,
    /// Bytes of that span.
    pub(crate) old: u64,
}

/// The bounds of groups; the real ones outside of tests.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    group: u64,
    large: u64,
    segment: u64,
    margin: u64,
}

const BOUNDS: Bounds = Bounds {
    group: DELTA_GROUP_BYTES_MAX,
    large: LARGE_BYTES_MIN,
    segment: SEGMENT_BYTES,
    margin: MARGIN_BYTES,
};

/// The groups of a change.
pub(crate) fn plan(change: &Change) -> Vec<Group> {
    groups(change, BOUNDS)
}

/// A content of one of the streams, at the first path that has it.
#[derive(Debug, Clone, Copy)]
struct Item<'a> {
    path: &'a EntryPath,
    size: u64,
    /// Where it begins in its stream.
    at: u64,
    is_new: bool,
}

fn groups(change: &Change, bounds: Bounds) -> Vec<Group> {
    let old = items(&change.gone, &change.old, false);
    let new = items(&change.came, &change.new, true);
    let mut groups = Vec::new();
    let mut run = Vec::new();
    for item in merged(&old, &new) {
        if item.size <= bounds.large {
            run.push(item);
            continue;
        }
        // A large content parts its neighbours, since a group's span of either stream has no gap.
        groups.extend(of_run(&std::mem::take(&mut run), bounds));
        if item.is_new {
            groups.extend(of_large(&item, ancestor(&item, &old), bounds));
        }
    }
    groups.extend(of_run(&run, bounds));
    groups
}

fn items<'a>(tree: &'a Tree, stream: &[(BlobId, u64)], is_new: bool) -> Vec<Item<'a>> {
    let mut first: HashMap<BlobId, &EntryPath> = HashMap::new();
    for entry in tree.entries() {
        if let Kind::File { blob, .. } = entry.kind {
            first.entry(blob).or_insert(&entry.path);
        }
    }
    let mut at = 0u64;
    let item = |(blob, size): &(BlobId, u64)| {
        let item = Item { path: first.get(blob)?, size: *size, at, is_new };
        at = at.saturating_add(*size);
        Some(item)
    };
    stream.iter().filter_map(item).collect()
}

fn merged<'a>(old: &[Item<'a>], new: &[Item<'a>]) -> Vec<Item<'a>> {
    let mut all: Vec<Item<'a>> = old.iter().chain(new).copied().collect();
    all.sort_by(|a, b| match a.path.cmp(b.path) {
        Ordering::Equal => a.is_new.cmp(&b.is_new),
        order => order,
    });
    all
}

/// Neighbours in groups within the bound.
fn of_run(run: &[Item<'_>], bounds: Bounds) -> Vec<Group> {
    let mut groups = Vec::new();
    let mut rest = run;
    while !rest.is_empty() {
        let (group, after) = rest.split_at(cut(rest, bounds.group));
        groups.extend(of_neighbours(group));
        rest = after;
    }
    groups
}

/// How many of the first items share a group: all if they fit; else up to the place between half of a fair
/// share and the bound that parts the fewest relatives, the one nearest to the fair share.
fn cut(items: &[Item<'_>], max: u64) -> usize {
    let total: u64 = items.iter().map(|item| item.size).sum();
    let fair = total.div_ceil(total.div_ceil(max).max(1));
    if total <= max {
        return items.len();
    }
    let mut bytes = 0;
    let mut best = None;
    for (index, pair) in items.windows(2).enumerate() {
        bytes += pair[0].size;
        if bytes > max {
            break;
        }
        let cost = (kinship(pair[0].path, pair[1].path), bytes.abs_diff(fair));
        if bytes >= fair / 2 && best.is_none_or(|(least, _)| cost < least) {
            best = Some((cost, index + 1));
        }
    }
    best.map_or(1, |(_, count)| count)
}

/// How near two paths are: the number of directories they share, and most if they are one path.
fn kinship(a: &EntryPath, b: &EntryPath) -> usize {
    if a == b {
        return usize::MAX;
    }
    let above = |path: &EntryPath| path.components().count() - 1;
    let shared = a.components().zip(b.components()).take_while(|(a, b)| a == b).count();
    shared.min(above(a)).min(above(b))
}

/// One group, unless nothing of it is new.
fn of_neighbours(items: &[Item<'_>]) -> Option<Group> {
    let new: u64 = items.iter().filter(|item| item.is_new).map(|item| item.size).sum();
    let old: u64 = items.iter().filter(|item| !item.is_new).map(|item| item.size).sum();
    let first = items.iter().find(|item| !item.is_new);
    (new > 0).then_some(Group { new, old_from: first.map_or(0, |item| item.at), old })
}

/// The content that a large one most likely replaced: of the same path; else of the same name; else the one
/// whose path begins and ends most alike, if it is of a size to be worth it.
fn ancestor<'a, 'b>(item: &Item<'_>, old: &'b [Item<'a>]) -> Option<&'b Item<'a>> {
    let alike = |candidate: &&Item<'_>| {
        let (a, b) = (item.path.as_bytes(), candidate.path.as_bytes());
        let begins = a.iter().zip(b).take_while(|(a, b)| a == b).count();
        let ends = a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count();
        let same_name = item.path.file_name() == candidate.path.file_name();
        (a == b, same_name, begins + ends)
    };
    let worth = |candidate: &&Item<'_>| candidate.size >= item.size / 8;
    old.iter().filter(worth).max_by_key(alike)
}

fn of_large(item: &Item<'_>, ancestor: Option<&Item<'_>>, bounds: Bounds) -> Vec<Group> {
    let count = item.size.div_ceil(bounds.segment);
    let segment = item.size.div_ceil(count);
    let group = |index: u64| {
        let begins = index * segment;
        let new = segment.min(item.size - begins);
        let Some(old) = ancestor else { return Group { new, old_from: 0, old: 0 } };
        // As far into the ancestor as this is into the content.
        let place = |at: u64| (u128::from(at) * u128::from(old.size) / u128::from(item.size)) as u64;
        let from = place(begins).saturating_sub(bounds.margin);
        let to = place(begins + new).saturating_add(bounds.margin).min(old.size);
        let span = (to - from).min(bounds.group - new);
        Group { new, old_from: old.at + from, old: span }
    };
    (0..count).map(group).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Entry;

    const SMALL: Bounds = Bounds { group: 100, large: 40, segment: 30, margin: 10 };

    /// Files of these sizes, all different from those of any other seed.
    fn tree(seed: &str, files: &[(&str, u64)]) -> Tree {
        let entry = |(path, size): &(&str, u64)| Entry {
            path: EntryPath::new(*path).unwrap(),
            kind: Kind::File {
                size: *size,
                blob: BlobId::of(format!("{seed} {path}").as_bytes()),
                executable: false,
            },
        };
        Tree::from_entries(files.iter().map(entry).collect()).unwrap()
    }

    fn planned(from: &[(&str, u64)], to: &[(&str, u64)]) -> Vec<(u64, u64, u64)> {
        let (change, _) = Change::between(&tree("old", from), &tree("new", to)).unwrap();
        let groups = groups(&change, SMALL);
        assert_eq!(groups.iter().map(|group| group.new).sum::<u64>(), change.new_bytes());
        for group in &groups {
            assert!(group.new + group.old <= SMALL.group, "{group:?}");
            assert!(group.old_from + group.old <= change.old_bytes(), "{group:?}");
        }
        groups.iter().map(|group| (group.new, group.old_from, group.old)).collect()
    }

    #[test]
    fn what_fits_is_one_group() {
        assert_eq!(planned(&[("a", 10), ("b", 5)], &[("a", 11), ("c", 6)]), [(17, 0, 15)]);
        assert_eq!(planned(&[], &[("a", 11)]), [(11, 0, 0)]);
        assert_eq!(planned(&[("a", 11)], &[]), []);
        assert_eq!(planned(&[], &[]), []);
    }

    #[test]
    fn more_is_parted_evenly_and_each_part_has_what_stood_there() {
        let files = [("a", 40), ("b", 40), ("c", 40), ("d", 40)];
        let groups = planned(&files, &files);
        assert_eq!(groups, [(40, 0, 40), (40, 40, 40), (40, 80, 40), (40, 120, 40)]);
        let files = [("a", 10), ("b", 10), ("c", 10), ("d", 10), ("e", 10), ("f", 10)];
        assert_eq!(planned(&files, &files), [(30, 0, 30), (30, 30, 30)]);
    }

    #[test]
    fn groups_part_where_the_fewest_relatives_are_parted() {
        let files = [("p/a", 10), ("p/b", 10), ("q/c", 10), ("q/d", 10), ("q/e", 10), ("q/f", 10)];
        assert_eq!(planned(&files, &files), [(20, 0, 20), (40, 20, 40)]);
    }

    #[test]
    fn a_large_content_stands_alone_in_segments_against_its_place_in_the_old_one() {
        let groups = planned(&[("a", 5), ("big", 200), ("c", 7)], &[("a", 6), ("big", 100), ("c", 8)]);
        assert_eq!(
            groups,
            [(6, 0, 5), (25, 5, 60), (25, 45, 70), (25, 95, 70), (25, 145, 60), (8, 205, 7)],
            "twice as far into one twice as large"
        );
    }

    #[test]
    fn a_renamed_large_content_finds_its_ancestor_by_its_name() {
        let old = [("lib/engine-1.0.bin", 50), ("other/data.bin", 50), ("x/tiny", 1)];
        assert_eq!(planned(&old, &[("lib/engine-2.0.bin", 60)])[0].1, 0);
        assert_eq!(planned(&old, &[("moved/data.bin", 60)])[0].1, 50);
        assert_eq!(planned(&[("x/tiny", 1)], &[("x/large", 60)]), [(30, 0, 0), (30, 0, 0)]);
    }

    #[test]
    fn a_large_content_that_went_is_no_part_of_its_neighbours_spans() {
        let groups = planned(&[("a", 5), ("b", 90), ("c", 5)], &[("a", 6), ("c", 6)]);
        assert_eq!(groups, [(6, 0, 5), (6, 95, 5)]);
    }
}
