//! What to ask for next, for one layer: pure, from what is known of it. Everything that can be asked for at
//! once is, so the number of calls until nothing is left is the number of round trips.
//!
//! | round trip | asked for |
//! |---|---|
//! | 1 | manifest, hints |
//! | 2 | the delta; without one the list of segments, or the tree, and the locator |
//! | 3 | the segments that are lacking |
//! | last | packs |

use crate::delta::Base;
use crate::segments::Span;

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ask {
    /// A delta, read up to its tree. It brings the contents too.
    Delta(Base),
    /// Which segments the tree has.
    List,
    /// A range of the stored tree.
    Span(Span),
    /// The whole tree.
    Tree,
    /// Where the tree's contents are.
    Locator,
}

/// How a tree that is not here may come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    /// Whole: it is small or secret, nothing here is like it, or another way failed.
    Whole,
    /// In segments, of which no list was read yet.
    Listed,
    /// In these ranges.
    Spans(Vec<Span>),
}

/// What is known of a layer.
#[derive(Debug, Clone)]
pub(super) struct Known {
    /// Whether its tree is here.
    pub(super) tree: bool,
    /// How it may come if not.
    pub(super) way: Way,
    /// Bytes of its contents that are lacking, uncompressed; of no meaning without the tree.
    pub(super) lacking: u64,
    /// A delta to it from a tree that is here, that was not tried yet.
    pub(super) delta: Option<Base>,
    /// Whether a delta is open that will bring its contents.
    pub(super) coming: bool,
    /// Whether its locator was asked for.
    pub(super) located: bool,
}

/// What to ask for next; nothing when the tree is here, and all that is needed to get its contents.
pub(super) fn asks(known: &Known) -> Vec<Ask> {
    if known.coming || (known.tree && known.lacking == 0) {
        return Vec::new();
    }
    // Where less is lacking than the delta has, packs are nearer: a fetch that was cut late, a damaged file.
    if let Some(base) = known.delta
        && (!known.tree || known.lacking > base.bytes)
    {
        return vec![Ask::Delta(base)];
    }
    let mut asks = Vec::new();
    if !known.tree {
        match &known.way {
            Way::Whole => asks.push(Ask::Tree),
            Way::Listed => asks.push(Ask::List),
            Way::Spans(spans) => asks.extend(spans.iter().cloned().map(Ask::Span)),
        }
    }
    if !known.located {
        asks.push(Ask::Locator);
    }
    asks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::TreeId;

    fn known() -> Known {
        Known { tree: false, way: Way::Listed, lacking: 0, delta: None, coming: false, located: false }
    }

    fn base() -> Base {
        Base { tree: TreeId::of(b"base"), bytes: 1_000 }
    }

    #[test]
    fn what_is_here_whole_is_not_asked_for() {
        assert_eq!(asks(&Known { tree: true, ..known() }), []);
        assert_eq!(asks(&Known { tree: true, delta: Some(base()), ..known() }), []);
    }

    #[test]
    fn with_a_delta_neither_tree_nor_locator_is_asked_for() {
        assert_eq!(asks(&Known { delta: Some(base()), ..known() }), [Ask::Delta(base())]);
        assert_eq!(asks(&Known { tree: true, coming: true, lacking: 9_000, ..known() }), []);
    }

    #[test]
    fn a_delta_that_is_larger_than_what_is_lacking_is_left_alone() {
        let known = Known { tree: true, delta: Some(base()), ..known() };
        assert_eq!(asks(&Known { lacking: 1_001, ..known.clone() }), [Ask::Delta(base())]);
        assert_eq!(asks(&Known { lacking: 1_000, ..known }), [Ask::Locator]);
    }

    #[test]
    fn without_a_delta_list_and_locator_come_together_then_the_segments() {
        assert_eq!(asks(&known()), [Ask::List, Ask::Locator]);
        let spans: Vec<Span> =
            [0, 9].map(|offset| Span { offset, length: 5, wanted: vec![offset as usize] }).into();
        let listed = Known { way: Way::Spans(spans.clone()), located: true, ..known() };
        assert_eq!(asks(&listed), spans.into_iter().map(Ask::Span).collect::<Vec<_>>());
    }

    #[test]
    fn a_small_tree_comes_whole_beside_its_locator() {
        assert_eq!(asks(&Known { way: Way::Whole, ..known() }), [Ask::Tree, Ask::Locator]);
        let failed = Known { way: Way::Whole, located: true, ..known() };
        assert_eq!(asks(&failed), [Ask::Tree], "a list that was no use costs the tree and nothing else");
    }

    #[test]
    fn a_tree_that_is_here_without_its_contents_takes_the_locator_alone() {
        assert_eq!(asks(&Known { tree: true, lacking: 1, ..known() }), [Ask::Locator]);
    }
}
