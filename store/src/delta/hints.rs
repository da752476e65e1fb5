//! Hints: which deltas lead to an artifact's trees. Advisory, as a locator is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::TreeId;
use crate::limits::{HINTS_BASES_MAX, HINTS_BYTES_MAX};

const VERSION: u32 = 1;

/// The deltas that lead to the trees of an artifact. Readers ignore keys they do not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hints {
    v: u32,
    /// By the tree they lead to, then by the tree they start from: their bytes.
    deltas: BTreeMap<TreeId, BTreeMap<TreeId, u64>>,
}

impl Default for Hints {
    fn default() -> Self {
        Self { v: VERSION, deltas: BTreeMap::new() }
    }
}

/// A delta that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// The tree it starts from.
    pub tree: TreeId,
    /// Its bytes, all of them.
    pub bytes: u64,
}

impl Hints {
    /// Reads hints; what cannot be read hints at nothing.
    pub fn decode(bytes: &[u8]) -> Self {
        if bytes.len() as u64 > HINTS_BYTES_MAX {
            return Self::default();
        }
        serde_json::from_slice(bytes).ok().filter(|hints: &Self| hints.v == VERSION).unwrap_or_default()
    }

    /// The bytes to store.
    pub fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    /// Every delta to `tree`.
    pub fn to(&self, tree: &TreeId) -> impl Iterator<Item = Base> {
        let bases = self.deltas.get(tree).into_iter().flatten();
        bases.map(|(tree, bytes)| Base { tree: *tree, bytes: *bytes })
    }

    /// The smallest delta to `tree` from one that `has` says is here.
    pub fn best(&self, tree: &TreeId, mut has: impl FnMut(&TreeId) -> bool) -> Option<Base> {
        self.to(tree).filter(|base| has(&base.tree)).min_by_key(|base| (base.bytes, base.tree))
    }

    /// Whether they hint at nothing.
    pub fn is_empty(&self) -> bool {
        self.deltas.is_empty()
    }

    /// Adds a delta to `tree`, unless there are as many as hints may hold. Says whether it is there now.
    pub fn add(&mut self, tree: TreeId, base: Base) -> bool {
        let bases = self.deltas.entry(tree).or_default();
        if bases.len() >= HINTS_BASES_MAX && !bases.contains_key(&base.tree) {
            return false;
        }
        bases.insert(base.tree, base.bytes);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> TreeId {
        TreeId::of(text.as_bytes())
    }

    fn base(text: &str, bytes: u64) -> Base {
        Base { tree: tree(text), bytes }
    }

    #[test]
    fn the_smallest_delta_from_what_is_here_is_chosen() {
        let mut hints = Hints::default();
        for (name, bytes) in [("a", 30), ("b", 10), ("c", 20)] {
            assert!(hints.add(tree("to"), base(name, bytes)));
        }
        assert_eq!(hints.best(&tree("to"), |_| true), Some(base("b", 10)));
        assert_eq!(hints.best(&tree("to"), |id| *id != tree("b")), Some(base("c", 20)));
        assert_eq!(hints.best(&tree("to"), |_| false), None);
        assert_eq!(hints.best(&tree("other"), |_| true), None);
        assert_eq!(Hints::decode(&hints.encode().unwrap()), hints);
    }

    #[test]
    fn hints_that_cannot_be_read_hint_at_nothing() {
        let more = format!(r#"{{"v":1,"deltas":{{}},"more":[1]}}{}"#, " ".repeat(10));
        assert_eq!(Hints::decode(more.as_bytes()), Hints::default());
        for text in ["", "{}", "[]", r#"{"v":2,"deltas":{}}"#, r#"{"v":1,"deltas":{"x":{}}}"#, "\u{0}"] {
            assert!(Hints::decode(text.as_bytes()).is_empty(), "{text}");
        }
        assert!(Hints::decode(&vec![b' '; HINTS_BYTES_MAX as usize + 1]).is_empty());
    }

    #[test]
    fn hints_are_bounded() {
        let mut hints = Hints::default();
        for index in 0..HINTS_BASES_MAX {
            assert!(hints.add(tree("to"), base(&index.to_string(), 1)));
        }
        assert!(!hints.add(tree("to"), base("one more", 1)));
        assert!(hints.add(tree("to"), base("0", 2)), "one that is there may change");
    }
}
