//! The kinds of objects that are collected.

use crate::backend::Key;
use crate::digest::{ArtifactId, Digest, PackId, TreeId};
use crate::layout;

/// What a key names. The order is that of removal: the reverse of that in which a push writes, so that
/// nothing is ever removed before what refers to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// A version.
    Ref,
    /// Hints of an artifact.
    Hints(ArtifactId),
    /// An artifact.
    Artifact(ArtifactId),
    /// A tree's locator.
    Locator(TreeId),
    /// A delta between two trees.
    Delta {
        /// The tree it makes.
        to: TreeId,
        /// The tree it needs.
        from: TreeId,
    },
    /// A tree's segments.
    Segments(TreeId),
    /// A tree.
    Tree(TreeId),
    /// The copy of a pack's directory.
    Index(PackId),
    /// A pack.
    Pack(PackId),
}

impl Family {
    /// Where objects are that are collected.
    pub const DIRECTORIES: [&'static str; 8] =
        ["refs", "hints", "artifacts", "loc", "deltas", "segments", "trees", "packs"];

    /// What a key names; `None` for what is none of the collection's business, which it never touches.
    pub fn of(key: &Key) -> Option<Self> {
        let mut parts = key.as_str().split('/');
        let (top, second, third, fourth) = (parts.next()?, parts.next()?, parts.next()?, parts.next());
        let id = |suffix| layout::digest_of(key, suffix).filter(|id| sharded(id, second));
        match (top, fourth) {
            ("refs", None) => third.strip_suffix(".json").map(|_| Self::Ref),
            ("hints", None) => id("json").map(|id| Self::Hints(ArtifactId(id))),
            ("artifacts", None) => id("json").map(|id| Self::Artifact(ArtifactId(id))),
            ("loc", None) => id("json.zst").map(|id| Self::Locator(TreeId(id))),
            ("segments", None) => id("list").map(|id| Self::Segments(TreeId(id))),
            ("trees", None) => id("zst").map(|id| Self::Tree(TreeId(id))),
            ("packs", None) => id("lfp")
                .map(|id| Self::Pack(PackId(id)))
                .or_else(|| id("idx").map(|id| Self::Index(PackId(id)))),
            ("deltas", Some(_)) => {
                let to: Digest = third.parse().ok().filter(|to| sharded(to, second))?;
                let from = layout::digest_of(key, "lfd")?;
                Some(Self::Delta { to: TreeId(to), from: TreeId(from) })
            }
            _ => None,
        }
    }

    /// In one word, for people and machines.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Ref => "version",
            Self::Hints(_) => "hints",
            Self::Artifact(_) => "artifact",
            Self::Locator(_) => "locator",
            Self::Delta { .. } => "delta",
            Self::Segments(_) => "segments",
            Self::Tree(_) => "tree",
            Self::Index(_) => "index",
            Self::Pack(_) => "pack",
        }
    }
}

/// Whether an object stands in the directory of its first two digits.
fn sharded(id: &Digest, directory: &str) -> bool {
    id.to_hex().starts_with(directory) && directory.len() == 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_push_writes_is_collected() {
        let hex = "ab".repeat(32);
        for (key, label) in [
            ("refs/web/1.0.json".to_owned(), "version"),
            (format!("hints/ab/{hex}.json"), "hints"),
            (format!("artifacts/ab/{hex}.json"), "artifact"),
            (format!("loc/ab/{hex}.json.zst"), "locator"),
            (format!("deltas/ab/{hex}/{hex}.lfd"), "delta"),
            (format!("segments/ab/{hex}.list"), "segments"),
            (format!("trees/ab/{hex}.zst"), "tree"),
            (format!("packs/ab/{hex}.idx"), "index"),
            (format!("packs/ab/{hex}.lfp"), "pack"),
        ] {
            assert_eq!(
                Family::of(&Key::new(&*key).unwrap()).map(|family| family.label()),
                Some(label),
                "{key}"
            );
        }
        for key in [
            "landfall-store.json".to_owned(),
            "leases/x.json".to_owned(),
            "gc/1/tomb.json.zst".to_owned(),
            "refs/web".to_owned(),
            "README/a/b".to_owned(),
            format!("packs/cd/{hex}.lfp"),
            format!("packs/ab/{hex}.bak"),
            format!("trees/ab/{}.zst", &hex[2..]),
        ] {
            assert_eq!(Family::of(&Key::new(&*key).unwrap()), None, "{key}");
        }
    }

    #[test]
    fn removal_is_the_reverse_of_a_push() {
        let id = Digest::of(b"x");
        let pushed = [
            Family::Pack(PackId(id)),
            Family::Index(PackId(id)),
            Family::Tree(TreeId(id)),
            Family::Locator(TreeId(id)),
            Family::Artifact(ArtifactId(id)),
            Family::Ref,
        ];
        assert!(pushed.windows(2).all(|pair| pair[0] > pair[1]));
    }
}
