//! The mtime tag: a modification time derived from a content's id.
//!
//! A file with the tag of the content it should have was not written since landfall made it, so one `lstat`
//! verifies it without reading. Any ordinary write sets another time. It is no defence against somebody who
//! sets times on purpose; reading everything is.

use crate::digest::BlobId;

/// 2000-01-01 00:00:00 UTC: tags look like plausible dates of the past to every tool.
const EPOCH_S: i64 = 946_684_800;
/// 20 years of seconds: every tag lies before any landfall was built, so no fresh write can hit one.
const SPAN_S: u32 = 630_720_000;

/// A modification time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag {
    /// Seconds since 1970.
    pub sec: i64,
    /// Nanoseconds, below 10^9.
    pub nsec: u32,
}

impl Tag {
    /// A time with digits in every place, to see which ones a file system keeps.
    pub(crate) const PROBE: Self = Self { sec: EPOCH_S + 1, nsec: 123_456_789 };

    /// The modification time of files with this content.
    pub fn of(blob: &BlobId) -> Self {
        let bytes = blob.0.as_bytes();
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        Self { sec: EPOCH_S + i64::from(word(0) % SPAN_S), nsec: word(4) % 1_000_000_000 }
    }
}

/// How much of a modification time a file system keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// All of it.
    Exact,
    /// Less. Where the nanoseconds read as 0, only seconds are compared.
    Seconds,
}

impl Precision {
    /// Whether `seen` is the tag, as far as this file system can tell.
    pub fn agrees(self, tag: Tag, seen: Tag) -> bool {
        let coarse = self == Self::Seconds && seen.nsec == 0;
        tag.sec == seen.sec && (tag.nsec == seen.nsec || coarse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_is_the_documented_function_of_the_id() {
        let id = "ffffffff010000000000000000000000000000000000000000000000000000ff".parse().unwrap();
        assert_eq!(
            Tag::of(&BlobId(id)),
            Tag { sec: 946_684_800 + i64::from(u32::MAX % 630_720_000), nsec: 1 }
        );
    }

    #[test]
    fn seconds_are_enough_only_where_the_file_system_keeps_no_more() {
        let tag = Tag { sec: 5, nsec: 7 };
        let rounded = Tag { sec: 5, nsec: 0 };
        assert!(Precision::Seconds.agrees(tag, rounded));
        assert!(!Precision::Exact.agrees(tag, rounded));
        assert!(!Precision::Seconds.agrees(tag, Tag { sec: 5, nsec: 8 }));
        assert!(!Precision::Seconds.agrees(tag, Tag { sec: 6, nsec: 0 }));
    }
}
