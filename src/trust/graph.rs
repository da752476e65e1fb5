//! Which commits of a piece of history must be signed: those that decide what the file holds. Pure.
//!
//! A commit decides if the file in it is not what would stand there without anybody's word:
//!
//! - one without parents: if it has the file;
//! - one with one parent: if the file differs from the parent's;
//! - a merge of two, unless the file is the same in both and in it, or it is what one parent has while the other
//!   parent still has exactly what their last common ancestor had (git merges that without a question);
//! - a merge of more than two: if the file differs from any parent's.
//!
//! The rule looks at a commit and its ancestors only, so every host comes to the same answer about it.

use std::collections::BTreeMap;

use super::{BlobId, CommitId};

/// A commit and its parents, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Its id.
    pub id: CommitId,
    /// Its parents.
    pub parents: Vec<CommitId>,
}

/// What commits hold at the path of the state; absent: nothing that could be a state.
pub type Contents = BTreeMap<CommitId, BlobId>;

/// What must be known of a merge whose parents disagree: the contents at all best common ancestors.
pub type Bases = BTreeMap<CommitId, Vec<Option<BlobId>>>;

/// Merges for which [`Bases`] are needed: two parents that differ, and the merge has what one of them has.
pub fn open_merges<'a>(commits: &'a [Commit], contents: &Contents) -> Vec<&'a Commit> {
    let open = |commit: &&Commit| match commit.parents.as_slice() {
        [a, b] => {
            let (own, a, b) = (contents.get(&commit.id), contents.get(a), contents.get(b));
            a != b && (own == a || own == b)
        }
        _ => false,
    };
    commits.iter().filter(open).collect()
}

/// The commits that decide what the file holds, in the order given.
pub fn deciding<'a>(commits: &'a [Commit], contents: &Contents, bases: &Bases) -> Vec<&'a CommitId> {
    commits.iter().filter(|commit| decides(commit, contents, bases)).map(|commit| &commit.id).collect()
}

fn decides(commit: &Commit, contents: &Contents, bases: &Bases) -> bool {
    let own = contents.get(&commit.id);
    match commit.parents.as_slice() {
        [] => own.is_some(),
        [a, b] if contents.get(a) != contents.get(b) => {
            let (a, b) = (contents.get(a), contents.get(b));
            let untouched = if own == a {
                b
            } else if own == b {
                a
            } else {
                return true;
            };
            // Unknown or several bases that disagree: nothing goes without saying.
            let Some(bases) = bases.get(&commit.id).filter(|bases| !bases.is_empty()) else { return true };
            bases.iter().any(|base| base.as_ref() != untouched)
        }
        parents => parents.iter().any(|parent| contents.get(parent) != own),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashSet};

    use proptest::prelude::*;

    use super::*;

    fn id(number: usize) -> CommitId {
        CommitId::parse(&format!("{number:040x}")).unwrap()
    }

    fn blob(number: u8) -> BlobId {
        BlobId::parse(&format!("{number:040x}")).unwrap()
    }

    /// A random history: each commit has up to three earlier parents, and a content.
    #[derive(Debug, Clone)]
    struct World(Vec<(Vec<usize>, Option<u8>)>);

    impl World {
        fn ancestors(&self, of: usize) -> BTreeSet<usize> {
            let mut seen = BTreeSet::new();
            let mut open = vec![of];
            while let Some(next) = open.pop() {
                if seen.insert(next) {
                    open.extend(&self.0[next].0);
                }
            }
            seen
        }

        /// Best common ancestors: common ones that are no ancestors of other common ones.
        fn bases(&self, a: usize, b: usize) -> Vec<usize> {
            let common: Vec<usize> = self.ancestors(a).intersection(&self.ancestors(b)).copied().collect();
            let is_best = |one: &usize| {
                !common.iter().any(|other| other != one && self.ancestors(*other).contains(one))
            };
            common.iter().copied().filter(is_best).collect()
        }

        /// The rule once more, by what would stand there without anybody's word.
        fn needs_a_signature(&self, of: usize) -> bool {
            let (parents, own) = &self.0[of];
            let content = |at: usize| self.0[at].1;
            let unasked = match parents.as_slice() {
                [] => vec![None],
                [one] => vec![content(*one)],
                [a, b] if content(*a) == content(*b) => vec![content(*a)],
                [a, b] => {
                    let bases: HashSet<Option<u8>> = self.bases(*a, *b).into_iter().map(content).collect();
                    let still = |one: usize| bases.len() == 1 && bases.contains(&content(one));
                    let mut unasked = Vec::new();
                    if still(*b) {
                        unasked.push(content(*a));
                    }
                    if still(*a) {
                        unasked.push(content(*b));
                    }
                    unasked
                }
                many => {
                    let all: HashSet<Option<u8>> = many.iter().map(|one| content(*one)).collect();
                    if all.len() == 1 { all.into_iter().collect() } else { vec![] }
                }
            };
            !unasked.contains(own)
        }
    }

    fn world() -> impl Strategy<Value = World> {
        let commit = (
            proptest::collection::vec(any::<prop::sample::Index>(), 0..4),
            proptest::option::weighted(0.8, 0_u8..3),
        );
        proptest::collection::vec(commit, 1..14).prop_map(|raw| {
            let commits = raw.iter().enumerate().map(|(at, (parents, content))| {
                let mut chosen: Vec<usize> = match at {
                    0 => vec![],
                    at => parents.iter().map(|parent| parent.index(at)).collect(),
                };
                let mut seen = HashSet::new();
                chosen.retain(|parent| seen.insert(*parent));
                (chosen, *content)
            });
            World(commits.collect())
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 3_000, ..ProptestConfig::default() })]

        #[test]
        fn what_must_be_signed_is_what_a_naive_model_says(world in world()) {
            let commits: Vec<Commit> = world.0.iter().enumerate()
                .map(|(at, (parents, _))| Commit { id: id(at), parents: parents.iter().map(|parent| id(*parent)).collect() })
                .collect();
            let contents: Contents = world.0.iter().enumerate()
                .filter_map(|(at, (_, content))| Some((id(at), blob((*content)?)))).collect();
            let open: BTreeSet<CommitId> = open_merges(&commits, &contents).into_iter().map(|commit| commit.id.clone()).collect();
            let bases: Bases = world.0.iter().enumerate().filter(|(at, _)| open.contains(&id(*at)))
                .map(|(at, (parents, _))| {
                    let bases = world.bases(parents[0], parents[1]);
                    (id(at), bases.into_iter().map(|base| contents.get(&id(base)).cloned()).collect())
                }).collect();
            let deciding: BTreeSet<&CommitId> = deciding(&commits, &contents, &bases).into_iter().collect();
            for at in 0..commits.len() {
                prop_assert_eq!(deciding.contains(&id(at)), world.needs_a_signature(at), "commit {} of {:?}", at, &world);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 3_000, ..ProptestConfig::default() })]

        /// What this is all for: whatever is accepted after a floor holds what the floor held, or what a commit
        /// brought that had to be signed.
        #[test]
        fn no_content_comes_in_that_nobody_had_to_sign(world in world(), floor in any::<prop::sample::Index>()) {
            let head = world.0.len() - 1;
            let before = world.ancestors(head);
            let candidates: Vec<usize> = before.iter().copied().collect();
            let floor = candidates[floor.index(candidates.len())];
            let old = world.ancestors(floor);
            let content = |at: usize| world.0[at].1;
            let signed = before.difference(&old).filter(|at| world.needs_a_signature(**at)).map(|at| content(*at));
            let allowed: HashSet<Option<u8>> = signed.chain([content(floor)]).collect();
            prop_assert!(allowed.contains(&content(head)), "head holds {:?}, floor {floor} of {:?}", content(head), &world);
        }
    }

    #[test]
    fn a_merge_never_brings_back_what_was_accepted_before() {
        // 0 (old) ← 1 (new, accepted); 2 merges 1 with 0 and takes the old content.
        let commits = [Commit { id: id(2), parents: vec![id(1), id(0)] }];
        let contents: Contents = [(id(0), blob(0)), (id(1), blob(1)), (id(2), blob(0))].into();
        let bases: Bases = [(id(2), vec![Some(blob(0))])].into();
        assert_eq!(deciding(&commits, &contents, &bases), [&id(2)]);
        // The same merge that keeps the new content decides nothing.
        let contents: Contents = [(id(0), blob(0)), (id(1), blob(1)), (id(2), blob(1))].into();
        assert_eq!(deciding(&commits, &contents, &bases), Vec::<&CommitId>::new());
    }
}
