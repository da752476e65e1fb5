//! Canonical trees: the flat, sorted text form of a directory, one line per entry.
//!
//! ```text
//! landfall-tree 1
//! L ../lib/a.js bin/a.js
//! X 1204 03aa…64 hex digits… bin/run
//! D cache
//! F 12 77d0…64 hex digits… my%20notes.txt
//! ```
//!
//! There is exactly one encoding of a tree: the decoder accepts only the bytes that the encoder writes. A
//! tree cannot express an absolute path, `..`, a device, a hard link, ownership, a duplicate, or a path
//! below a file or link. See `docs/formats.md`.

use std::cmp::Ordering;

use rayon::prelude::*;

use crate::digest::{BlobId, TreeId};
use crate::limits::{FILE_BYTES_MAX, LAYER_ENTRIES_MAX};
use crate::path::{EntryPath, LinkError, PathError, check_link, escape_into, unescape};

const HEADER: &str = "landfall-tree 1\n";
/// Lines that one thread decodes at a time: below that, handing them out costs more than it saves.
const LINES_PER_TURN: usize = 2_048;

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file; `executable` is its owner's execute bit.
    File {
        /// Bytes of the content.
        size: u64,
        /// The content's id.
        blob: BlobId,
        /// Mode 0755 instead of 0644.
        executable: bool,
    },
    /// A symbolic link.
    Link {
        /// Its target, as read from the link.
        target: Box<[u8]>,
    },
    /// A directory with nothing in it; others are implied by their entries.
    EmptyDir,
}

/// One line of a tree.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Where.
    pub path: EntryPath,
    /// What.
    pub kind: Kind,
}

/// A checked tree: entries strictly ascending, none below another's file or link, links inside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    entries: Vec<Entry>,
}

/// Why bytes or entries are not a tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// Not even the first line fits.
    #[error("the tree does not begin with `landfall-tree 1`: another kind of object, or a newer format")]
    Header,
    /// A line that does not parse.
    #[error("line {0} of the tree is malformed: {1}")]
    Line(usize, &'static str),
    /// The same tree could be written differently.
    #[error("the tree is not in canonical form near line {0}")]
    NotCanonical(usize),
    /// A path that a layer cannot hold.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A link that a layer cannot hold.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// Two entries for one path.
    #[error("`{0}` stands in the tree twice")]
    Duplicate(EntryPath),
    /// An entry below something that is no directory.
    #[error("`{below}` stands below `{above}`, which is no directory")]
    BelowNonDirectory {
        /// The file, link or empty directory.
        above: EntryPath,
        /// The entry below it.
        below: EntryPath,
    },
    /// Larger than any bound.
    #[error("the tree has more than {LAYER_ENTRIES_MAX} entries")]
    TooManyEntries,
    /// A size that JSON and file systems cannot hold.
    #[error("`{0}` claims {1} bytes; a file may have {FILE_BYTES_MAX} at most")]
    FileTooLarge(EntryPath, u64),
}

impl Tree {
    /// Sorts and checks entries.
    pub fn from_entries(mut entries: Vec<Entry>) -> Result<Self, TreeError> {
        // Mostly they come as one sorted list or a few: this sort notices.
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        check(&entries)?;
        Ok(Self { entries })
    }

    /// The entries, in tree order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut text = String::with_capacity(HEADER.len() + self.entries.len() * 120);
        text.push_str(HEADER);
        for entry in &self.entries {
            encode_entry(&mut text, entry);
        }
        text.into_bytes()
    }

    /// Reads canonical bytes; anything else is an error.
    pub fn decode(bytes: &[u8]) -> Result<Self, TreeError> {
        let text = std::str::from_utf8(bytes).map_err(|_| TreeError::Line(0, "not UTF-8"))?;
        let body = text.strip_prefix(HEADER).ok_or(TreeError::Header)?;
        let lines: Vec<&str> = body.split_inclusive('\n').take(LAYER_ENTRIES_MAX + 1).collect();
        if lines.len() > LAYER_ENTRIES_MAX {
            return Err(TreeError::TooManyEntries);
        }
        let entries = lines
            .par_iter()
            .with_min_len(LINES_PER_TURN)
            .enumerate()
            .map_init(String::new, |canonical, (index, line)| decode_canonical(line, index + 2, canonical))
            .collect::<Result<Vec<Entry>, TreeError>>()?;
        check(&entries)?;
        Ok(Self { entries })
    }

    /// The tree's id.
    pub fn id(&self) -> TreeId {
        TreeId::of(&self.encode())
    }

    /// Number of files (not links, not directories).
    pub fn files(&self) -> u64 {
        self.blobs().count() as u64
    }

    /// Sum of the files' sizes in bytes.
    pub fn bytes(&self) -> u64 {
        self.blobs().map(|(_, size)| size).sum()
    }

    /// Content ids and sizes of all files, in tree order, with repetitions.
    pub fn blobs(&self) -> impl Iterator<Item = (BlobId, u64)> {
        self.entries.iter().filter_map(|entry| match entry.kind {
            Kind::File { size, blob, .. } => Some((blob, size)),
            Kind::Link { .. } | Kind::EmptyDir => None,
        })
    }

    /// Both trees' entries by path, in tree order: what stands there in this one, and what in the other.
    pub fn beside<'a>(
        &'a self,
        other: &'a Self,
    ) -> impl Iterator<Item = (Option<&'a Entry>, Option<&'a Entry>)> {
        let (mut own, mut others) = (self.entries.iter().peekable(), other.entries.iter().peekable());
        std::iter::from_fn(move || {
            let order = match (own.peek(), others.peek()) {
                (None, None) => return None,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(own), Some(other)) => own.path.cmp(&other.path),
            };
            let from = if order.is_le() { own.next() } else { None };
            Some((from, if order.is_ge() { others.next() } else { None }))
        })
    }

    /// The entry at exactly this path.
    pub fn get(&self, path: &[u8]) -> Option<&Entry> {
        let at = self
            .entries
            .binary_search_by(|entry| crate::path::tree_order(entry.path.as_bytes(), path))
            .ok()?;
        self.entries.get(at)
    }
}

fn check(entries: &[Entry]) -> Result<(), TreeError> {
    if entries.len() > LAYER_ENTRIES_MAX {
        return Err(TreeError::TooManyEntries);
    }
    for entry in entries {
        match &entry.kind {
            Kind::Link { target } => check_link(&entry.path, target)?,
            Kind::File { size, .. } if *size > FILE_BYTES_MAX => {
                return Err(TreeError::FileTooLarge(entry.path.clone(), *size));
            }
            Kind::File { .. } | Kind::EmptyDir => {}
        }
    }
    for pair in entries.windows(2) {
        let [first, second] = pair else { continue };
        match first.path.cmp(&second.path) {
            Ordering::Equal => return Err(TreeError::Duplicate(second.path.clone())),
            Ordering::Greater => return Err(TreeError::Line(0, "paths are not in order")),
            // `/` sorts lowest, so the first entry below a path directly follows it.
            Ordering::Less if second.path.is_at_or_below(first.path.as_bytes()) => {
                return Err(TreeError::BelowNonDirectory {
                    above: first.path.clone(),
                    below: second.path.clone(),
                });
            }
            Ordering::Less => {}
        }
    }
    Ok(())
}

fn encode_entry(text: &mut String, entry: &Entry) {
    match &entry.kind {
        Kind::File { size, blob, executable } => {
            text.push_str(if *executable { "X " } else { "F " });
            push_decimal(text, *size);
            text.push(' ');
            text.push_str(&blob.0.to_hex());
        }
        Kind::Link { target } => {
            text.push_str("L ");
            escape_into(text, target);
        }
        Kind::EmptyDir => text.push('D'),
    }
    text.push(' ');
    escape_into(text, entry.path.as_bytes());
    text.push('\n');
}

fn push_decimal(text: &mut String, mut number: u64) {
    const DIGITS_MAX: usize = 20;
    let mut digits = [0; DIGITS_MAX];
    let mut from = DIGITS_MAX;
    loop {
        from -= 1;
        digits[from] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    text.extend(digits[from..].iter().copied().map(char::from));
}

/// An entry whose own encoding is the line it was read from. `canonical` is room to write it in.
fn decode_canonical(line: &str, number: usize, canonical: &mut String) -> Result<Entry, TreeError> {
    let entry = decode_line(line, number)?;
    canonical.clear();
    encode_entry(canonical, &entry);
    if canonical == line { Ok(entry) } else { Err(TreeError::NotCanonical(number)) }
}

fn decode_line(line: &str, number: usize) -> Result<Entry, TreeError> {
    let malformed = |why| TreeError::Line(number, why);
    let line = line.strip_suffix('\n').ok_or(malformed("it does not end in a newline"))?;
    let mut fields = line.split(' ');
    let mut field = || fields.next().ok_or(malformed("a field is missing"));
    let letter = field()?;
    let kind = match letter {
        "F" | "X" => Kind::File {
            size: field()?.parse().map_err(|_| malformed("the size is no number"))?,
            blob: BlobId(field()?.parse().map_err(|_| malformed("the content id is not 64 hex digits"))?),
            executable: letter == "X",
        },
        "L" => Kind::Link { target: raw(field()?, number)?.into_boxed_slice() },
        "D" => Kind::EmptyDir,
        _ => return Err(malformed("the kind is none of F, X, L, D")),
    };
    let path = EntryPath::new(raw(field()?, number)?)?;
    match fields.next() {
        None => Ok(Entry { path, kind }),
        Some(_) => Err(malformed("there are too many fields")),
    }
}

fn raw(text: &str, number: usize) -> Result<Vec<u8>, TreeError> {
    unescape(text).ok_or(TreeError::Line(number, "an escape is not % and two upper-case hex digits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, kind: Kind) -> Entry {
        Entry { path: EntryPath::new(path).unwrap(), kind }
    }

    fn file(path: &str) -> Entry {
        entry(path, Kind::File { size: 1, blob: BlobId::of(b"x"), executable: false })
    }

    fn link(path: &str, target: &str) -> Entry {
        entry(path, Kind::Link { target: target.as_bytes().into() })
    }

    fn sample() -> Tree {
        Tree::from_entries(vec![
            file("my notes.txt"),
            entry("cache", Kind::EmptyDir),
            entry("bin/run", Kind::File { size: 0, blob: BlobId::of(b""), executable: true }),
            link("bin/a.js", "../lib/a.js"),
        ])
        .unwrap()
    }

    #[test]
    fn a_tree_reads_back_as_itself() {
        assert_eq!(Tree::decode(&sample().encode()).unwrap(), sample());
    }

    #[test]
    fn the_golden_tree_keeps_its_id() {
        assert_eq!(sample().id().to_string(), GOLDEN);
        assert_eq!(TreeId::of(HEADER.as_bytes()), Tree::default().id(), "an empty tree is the header alone");
    }
    const GOLDEN: &str = "bd9ce8487ea0ff5226a2a760febe0b55c3aed82e9f1ba91555d80bb811d67ad0";

    #[test]
    fn the_order_of_discovery_does_not_matter() {
        let mut entries = sample().entries;
        entries.reverse();
        assert_eq!(Tree::from_entries(entries).unwrap().id(), sample().id());
    }

    #[test]
    fn b01_b02_a_path_below_a_link_or_file_is_refused() {
        assert!(matches!(
            Tree::from_entries(vec![link("a", "b"), file("a/x")]),
            Err(TreeError::BelowNonDirectory { .. })
        ));
        assert!(Tree::from_entries(vec![file("a"), file("a/x")]).is_err());
        assert!(Tree::from_entries(vec![file("a"), file("a-b"), file("a/x")]).is_err());
        assert!(matches!(Tree::from_entries(vec![link("a", "b"), file("a")]), Err(TreeError::Duplicate(_))));
    }

    #[test]
    fn every_truncation_and_every_flipped_bit_is_noticed_or_is_another_tree() {
        let bytes = sample().encode();
        for end in 0..bytes.len() {
            let read = Tree::decode(&bytes[..end]);
            assert!(read.is_err() || TreeId::of(&bytes[..end]) != sample().id());
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                if let Ok(tree) = Tree::decode(&flipped) {
                    assert_eq!(tree.encode(), flipped, "accepted bytes must be canonical");
                    assert_ne!(tree.id(), sample().id());
                }
            }
        }
    }

    #[test]
    fn other_spellings_of_the_same_tree_are_refused() {
        let good = String::from_utf8(sample().encode()).unwrap();
        for (from, to) in
            [("F 1 ", "F 01 "), ("%20", " "), ("my%20", "m%79%20"), ("\n", "\r\n"), ("D ", "D  ")]
        {
            let other = good.replacen(from, to, 1);
            assert_ne!(other, good);
            assert!(Tree::decode(other.as_bytes()).is_err(), "{to:?} was accepted");
        }
    }
}
