//! The head of a delta: numbers only, each with a bound, in one spelling.

use std::io::{self, Read};

use super::change::Run;
use super::plan::Group;
use crate::limits::{DELTA_GROUP_BYTES_MAX, DELTA_GROUPS_MAX, LAYER_ENTRIES_MAX, TREE_BYTES_MAX};

const MAGIC: &[u8; 8] = b"LFDELTA1";
/// Numbers are below 2⁵³, as everywhere in landfall's formats.
const NUMBER_MAX: u64 = (1 << 53) - 1;

/// A part of a delta: its bytes before and after compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) raw: u64,
    pub(crate) stored: u64,
}

/// What stands before the compressed parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    /// Which entries of the old tree stay and go.
    pub(crate) runs: Vec<Run>,
    /// The canonical tree of what came, compressed against that of what went.
    pub(crate) came: Part,
    /// The groups, in the order of the new stream, with their stored bytes.
    pub(crate) groups: Vec<(Group, u64)>,
}

/// Why bytes are not the head of a delta.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HeadError {
    /// Another kind of object, or a newer format.
    #[error("it does not begin with LFDELTA1")]
    Magic,
    /// A number that no delta has.
    #[error("{0}")]
    Number(&'static str),
    /// The stream ended or failed.
    #[error("its head cannot be read: {0}")]
    Io(#[from] io::Error),
}

impl Head {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        let mut put = |number| push(&mut bytes, number);
        put(self.runs.len() as u64);
        for run in &self.runs {
            put(run.stay);
            put(run.go);
        }
        put(self.came.raw);
        put(self.came.stored);
        put(self.groups.len() as u64);
        for (group, stored) in &self.groups {
            put(group.new);
            put(group.old_from);
            put(group.old);
            put(*stored);
        }
        bytes
    }

    /// Bytes of the compressed parts behind it.
    pub(crate) fn parts(&self) -> u64 {
        // At most 4,096 groups of 64 MiB, and a tree.
        self.came.stored + self.groups.iter().map(|(_, stored)| stored).sum::<u64>()
    }

    /// Reads a head and checks what can be checked without the trees. Memory grows with what was read only.
    pub(crate) fn read(from: &mut dyn Read) -> Result<Self, HeadError> {
        let mut magic = [0; MAGIC.len()];
        from.read_exact(&mut magic)?;
        if magic != *MAGIC {
            return Err(HeadError::Magic);
        }
        let runs = read_list(from, LAYER_ENTRIES_MAX as u64, read_run)?;
        if runs.iter().skip(1).any(|run| run.stay == 0) || runs.iter().any(|run| run.go == 0) {
            return Err(HeadError::Number("two of its runs are one, or one is none"));
        }
        let came = Part { raw: number(from)?, stored: number(from)? };
        if came.raw > TREE_BYTES_MAX as u64 || came.stored > TREE_BYTES_MAX as u64 {
            return Err(HeadError::Number("what came is larger than any tree"));
        }
        let groups = read_list(from, DELTA_GROUPS_MAX, read_group)?;
        Ok(Self { runs, came, groups })
    }
}

fn read_list<T>(
    from: &mut dyn Read,
    max: u64,
    read: impl Fn(&mut dyn Read) -> Result<T, HeadError>,
) -> Result<Vec<T>, HeadError> {
    let count = number(from)?;
    if count > max {
        return Err(HeadError::Number("it has more runs or groups than any delta"));
    }
    (0..count).map(|_| read(from)).collect()
}

fn read_run(from: &mut dyn Read) -> Result<Run, HeadError> {
    Ok(Run { stay: number(from)?, go: number(from)? })
}

fn read_group(from: &mut dyn Read) -> Result<(Group, u64), HeadError> {
    let group = Group { new: number(from)?, old_from: number(from)?, old: number(from)? };
    let stored = number(from)?;
    if group.new == 0 || group.old == 0 && group.old_from > 0 {
        return Err(HeadError::Number("one of its groups is empty, or has a place without bytes"));
    }
    // Three numbers below 2⁵³ do not overflow.
    if group.new + group.old > DELTA_GROUP_BYTES_MAX || stored > DELTA_GROUP_BYTES_MAX {
        return Err(HeadError::Number("one of its groups is larger than any"));
    }
    Ok((group, stored))
}

/// LEB128: seven bits a byte, the lowest first, the high bit set on all but the last.
fn push(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// One number, in its shortest form.
fn number(from: &mut dyn Read) -> Result<u64, HeadError> {
    let mut value = 0u64;
    let mut byte = [0];
    for shift in (0..).step_by(7).take(8) {
        from.read_exact(&mut byte)?;
        value |= u64::from(byte[0] & 0x7f) << shift;
        if byte[0] & 0x80 == 0 {
            let shortest = byte[0] > 0 || shift == 0;
            return match shortest && value <= NUMBER_MAX {
                true => Ok(value),
                false => Err(HeadError::Number("a number is too large, or not in its shortest form")),
            };
        }
    }
    Err(HeadError::Number("a number is too large"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Head {
        Head {
            runs: vec![Run { stay: 0, go: 1 }, Run { stay: 70_000, go: 300 }],
            came: Part { raw: 16, stored: 20 },
            groups: vec![
                (Group { new: 5, old_from: 0, old: 0 }, 9),
                (Group { new: 300, old_from: 128, old: 1 << 20 }, 77),
            ],
        }
    }

    #[test]
    fn a_head_reads_back_as_itself_and_stops_at_its_end() {
        let mut bytes = sample().encode();
        let length = bytes.len();
        bytes.extend_from_slice(b"frames");
        let mut rest = bytes.as_slice();
        assert_eq!(Head::read(&mut rest).unwrap(), sample());
        assert_eq!((rest, length), (&b"frames"[..], 31));
    }

    #[test]
    fn no_two_spellings_are_read() {
        let good = sample().encode();
        for at in 0..good.len() {
            assert!(Head::read(&mut &good[..at]).is_err());
            for bit in 0..8 {
                let mut other = good.clone();
                other[at] ^= 1 << bit;
                if let Ok(head) = Head::read(&mut other.as_slice()) {
                    assert!(other.starts_with(&head.encode()), "byte {at} bit {bit}");
                    assert_ne!(head, sample());
                }
            }
        }
    }

    #[test]
    fn numbers_beyond_every_bound_are_refused_before_anything_is_allocated() {
        for number in [LAYER_ENTRIES_MAX as u64 + 1, 1 << 53, u64::MAX >> 1] {
            let mut bytes = MAGIC.to_vec();
            push(&mut bytes, number);
            bytes.extend_from_slice(&[1; 64]);
            assert!(matches!(Head::read(&mut bytes.as_slice()), Err(HeadError::Number(_))));
        }
        let large = [
            Head { came: Part { raw: TREE_BYTES_MAX as u64 + 1, stored: 1 }, ..sample() },
            Head { came: Part { raw: 1, stored: TREE_BYTES_MAX as u64 + 1 }, ..sample() },
            Head { groups: vec![(Group { new: DELTA_GROUP_BYTES_MAX, old_from: 0, old: 1 }, 1)], ..sample() },
            Head {
                groups: vec![(Group { new: 1, old_from: 0, old: 1 }, DELTA_GROUP_BYTES_MAX + 1)],
                ..sample()
            },
            Head { groups: vec![(Group { new: 0, old_from: 0, old: 1 }, 1)], ..sample() },
        ];
        for head in large {
            assert!(matches!(Head::read(&mut head.encode().as_slice()), Err(HeadError::Number(_))));
        }
    }
}
