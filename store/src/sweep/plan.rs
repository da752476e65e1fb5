//! What a run of the collection does: pure, from what was seen. A dry run prints it.

use std::collections::{HashMap, HashSet};
use std::time::SystemTime;

use serde::{Serialize, Serializer};

use super::keep::is_younger;
use super::look::{Facts, Object};
use super::{Family, Policy};
use crate::backend::Key;
use crate::lease::Note;
use crate::limits::TOMBSTONE_KEYS_MAX;

/// Why nothing needs an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Reason {
    /// A version outside the window, and nothing else keeps its artifact.
    OldVersion,
    /// Neither the caller nor a version within the window names the artifact.
    Unnamed,
    /// It belongs to an artifact that goes or is gone.
    OfNoArtifact,
    /// It belongs to a tree that no artifact which stays has.
    OfNoTree,
    /// A pack none of whose contents is needed, or needed from it.
    NotNeeded,
    /// The copy of the directory of a pack that goes or is gone.
    OfNoPack,
}

/// An object, and why nothing needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Item {
    /// Its kind in one word.
    #[serde(rename = "kind", serialize_with = "label")]
    pub family: Family,
    /// Its key.
    #[serde(serialize_with = "text")]
    pub key: Key,
    /// Its size in bytes.
    pub bytes: u64,
    /// Why nothing needs it.
    pub reason: Reason,
}

fn label<S: Serializer>(family: &Family, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(family.label())
}

fn text<S: Serializer>(key: &Key, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(key.as_str())
}

/// What a run does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SweepPlan {
    /// Condemned now; a later run removes it.
    pub condemn: Vec<Item>,
    /// Condemned by an earlier run, and not long enough ago.
    pub waiting: Vec<Item>,
    /// When the first of these may be removed.
    pub ripe_at: Option<SystemTime>,
    /// Condemned long enough ago and still not needed: removed, in this order.
    pub remove: Vec<Item>,
    /// Condemned long enough ago and needed again.
    pub spared: u64,
    /// Tombstones that are done with when `remove` is, and notes that ended long ago.
    pub tidy: Vec<Key>,
    /// Objects that stay.
    pub kept: u64,
    /// Their bytes.
    pub kept_bytes: u64,
    /// A writer who keeps this run from removing anything.
    pub writer: Option<Note>,
}

/// Decides. Whatever is younger than the grace stays; so does whatever is not understood.
pub fn plan(facts: &Facts, policy: &Policy) -> SweepPlan {
    let mut plan = SweepPlan::default();
    let now = facts.now;
    let mut ripe: HashSet<&Key> = HashSet::new();
    let mut unripe: HashSet<&Key> = HashSet::new();
    for tombstone in &facts.tombstones {
        let is_unripe = is_younger(tombstone.written, policy.grace, now);
        match &tombstone.condemned {
            Some(keys) if is_unripe => {
                unripe.extend(keys);
                let at = tombstone.written + policy.grace;
                plan.ripe_at = Some(plan.ripe_at.map_or(at, |first| first.min(at)));
            }
            Some(keys) => {
                ripe.extend(keys);
                plan.tidy.push(tombstone.key.clone());
            }
            None => plan.tidy.push(tombstone.key.clone()),
        }
    }
    for object in &facts.objects {
        let reason = useless(object, facts).filter(|_| !is_younger(object.written, policy.grace, now));
        let Some(reason) = reason else {
            plan.kept += 1;
            plan.kept_bytes += object.size;
            plan.spared += u64::from(ripe.contains(&object.key));
            continue;
        };
        let item = Item { family: object.family, key: object.key.clone(), bytes: object.size, reason };
        if ripe.contains(&object.key) {
            plan.remove.push(item);
        } else if unripe.contains(&object.key) {
            plan.waiting.push(item);
        } else if plan.condemn.len() < TOMBSTONE_KEYS_MAX {
            plan.condemn.push(item);
        }
    }
    let ended = |note: &&Note| !is_younger(note.until, policy.grace, now);
    plan.tidy.extend(facts.leases.iter().chain(&facts.sweeps).filter(ended).map(|note| note.key.clone()));
    plan.writer = facts.leases.iter().find(|lease| lease.is_live(now)).cloned();
    plan
}

/// Why nothing needs an object; `None` if something does.
fn useless(object: &Object, facts: &Facts) -> Option<Reason> {
    let tree = |id, reason| (!facts.trees.contains(&id)).then_some(reason);
    let artifact = |id, reason| (!facts.artifacts.contains_key(&id)).then_some(reason);
    match object.family {
        Family::Ref => artifact(*facts.versions.get(&object.key)?, Reason::OldVersion),
        Family::Hints(id) => artifact(id, Reason::OfNoArtifact),
        Family::Artifact(id) => artifact(id, Reason::Unnamed),
        Family::Delta { to, from } => tree(to, Reason::OfNoTree).or_else(|| tree(from, Reason::OfNoTree)),
        Family::Locator(id) | Family::Segments(id) | Family::Tree(id) => tree(id, Reason::OfNoTree),
        Family::Pack(id) => facts.packs.get(&id).filter(|pack| !pack.needed).map(|_| Reason::NotNeeded),
        Family::Index(id) => match facts.packs.get(&id) {
            Some(pack) => (!pack.needed).then_some(Reason::OfNoPack),
            None => (!facts.unreadable.contains(&crate::layout::pack(&id))).then_some(Reason::OfNoPack),
        },
    }
}

/// Objects and bytes of each kind, in the order of removal.
pub fn totals(items: &[Item]) -> Vec<(&'static str, u64, u64)> {
    let mut found: Vec<(&'static str, u64, u64)> = Vec::new();
    let mut at: HashMap<&'static str, usize> = HashMap::new();
    for item in items {
        let label = item.family.label();
        let index = *at.entry(label).or_insert_with(|| {
            found.push((label, 0, 0));
            found.len() - 1
        });
        found[index].1 += 1;
        found[index].2 += item.bytes;
    }
    found
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::look::PackUse;
    use super::super::{Tombstone, Why};
    use super::*;
    use crate::digest::{ArtifactId, Digest, PackId, TreeId};
    use crate::layout;

    const HOUR: Duration = Duration::from_secs(3600);
    const POLICY: Policy = Policy { versions: 30, age: HOUR, grace: Duration::from_secs(72 * 3600) };

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + HOUR * 100_000
    }

    fn digest(n: u8) -> Digest {
        Digest::from_bytes([n; 32])
    }

    /// One artifact with all its objects, written so long ago.
    fn objects_of(n: u8, ago: Duration) -> Vec<Object> {
        let (artifact, tree, pack) = (ArtifactId(digest(n)), TreeId(digest(n)), PackId(digest(n)));
        [
            (Family::Artifact(artifact), layout::artifact(&artifact)),
            (Family::Locator(tree), layout::locator(&tree)),
            (Family::Tree(tree), layout::tree(&tree)),
            (Family::Index(pack), layout::index(&pack)),
            (Family::Pack(pack), layout::pack(&pack)),
        ]
        .into_iter()
        .map(|(family, key)| Object { family, key, size: 10, written: now() - ago })
        .collect()
    }

    /// Of artifacts 1 and 2, the first stays.
    fn facts(ago: Duration) -> Facts {
        let mut facts = Facts::at(now());
        facts.objects = [objects_of(1, ago), objects_of(2, ago)].concat();
        facts.artifacts.insert(ArtifactId(digest(1)), Why::Root("the state".to_owned()));
        facts.trees.insert(TreeId(digest(1)));
        facts.packs.insert(PackId(digest(1)), PackUse { all: 1, live: 1, needed: true });
        facts.packs.insert(PackId(digest(2)), PackUse { all: 1, live: 0, needed: false });
        facts
    }

    fn tombstone(facts: &Facts, ago: Duration) -> Tombstone {
        let condemned = facts.objects.iter().map(|object| object.key.clone()).collect();
        Tombstone { key: layout::tombstone("1"), written: now() - ago, condemned: Some(condemned) }
    }

    #[test]
    fn what_nothing_needs_is_condemned_and_nothing_is_removed_in_the_same_run() {
        let plan = plan(&facts(HOUR * 100), &POLICY);
        let labels: Vec<_> = plan.condemn.iter().map(|item| item.family.label()).collect();
        assert_eq!(labels, ["artifact", "locator", "tree", "index", "pack"]);
        assert!(plan.remove.is_empty() && plan.waiting.is_empty());
        assert_eq!((plan.kept, plan.kept_bytes), (5, 50));
    }

    #[test]
    fn what_is_younger_than_the_grace_is_not_condemned() {
        assert_eq!(
            plan(&facts(HOUR * 71), &POLICY),
            SweepPlan { kept: 10, kept_bytes: 100, ..SweepPlan::default() }
        );
    }

    #[test]
    fn only_what_was_condemned_a_grace_ago_and_is_still_not_needed_is_removed() {
        let mut facts = facts(HOUR * 200);
        facts.tombstones = vec![tombstone(&facts, HOUR * 71)];
        let early = plan(&facts, &POLICY);
        assert_eq!((early.waiting.len(), early.remove.len(), early.condemn.len()), (5, 0, 0));
        assert_eq!(early.ripe_at, Some(now() + HOUR));
        assert!(early.tidy.is_empty());

        facts.tombstones = vec![tombstone(&facts, HOUR * 72)];
        let ripe = plan(&facts, &POLICY);
        assert_eq!((ripe.remove.len(), ripe.spared, ripe.tidy.len()), (5, 5, 1));
        assert!(ripe.remove.iter().all(|item| item.key.as_str().contains("0202")), "{:?}", ripe.remove);
    }

    #[test]
    fn an_object_that_was_written_anew_after_it_was_condemned_stays() {
        let mut facts = facts(HOUR * 200);
        facts.tombstones = vec![tombstone(&facts, HOUR * 80)];
        for object in &mut facts.objects {
            object.written = now() - HOUR;
        }
        assert!(plan(&facts, &POLICY).remove.is_empty());
    }

    #[test]
    fn a_tombstone_that_cannot_be_understood_condemns_nothing() {
        let mut facts = facts(HOUR * 200);
        facts.tombstones = vec![Tombstone { condemned: None, ..tombstone(&facts, HOUR * 80) }];
        let plan = plan(&facts, &POLICY);
        assert_eq!((plan.remove.len(), plan.condemn.len(), plan.tidy.len()), (0, 5, 1));
    }

    #[test]
    fn a_pack_whose_directory_cannot_be_read_stays_with_its_copy() {
        let mut facts = facts(HOUR * 200);
        facts.packs.remove(&PackId(digest(2)));
        facts.unreadable.push(layout::pack(&PackId(digest(2))));
        let labels: Vec<_> = plan(&facts, &POLICY).condemn.iter().map(|item| item.family.label()).collect();
        assert_eq!(labels, ["artifact", "locator", "tree"]);
    }

    #[test]
    fn a_delta_goes_with_either_of_its_trees() {
        let mut facts = facts(HOUR * 200);
        for (to, from) in [(1, 2), (2, 1), (1, 1)] {
            let (to, from) = (TreeId(digest(to)), TreeId(digest(from)));
            let key = Key::new(format!("deltas/{}/{to}/{from}.lfd", &to.to_string()[..2])).unwrap();
            facts.objects.push(Object {
                family: Family::of(&key).unwrap(),
                key,
                size: 1,
                written: now() - HOUR * 200,
            });
        }
        let plan = plan(&facts, &POLICY);
        assert_eq!(plan.condemn.iter().filter(|item| item.family.label() == "delta").count(), 2);
    }

    #[test]
    fn notes_that_ended_long_ago_are_tidied_and_live_ones_are_heeded() {
        let mut facts = facts(HOUR);
        let note = |name: &str, until| Note { key: layout::lease(name), kind: "push".to_owned(), until };
        facts.leases =
            vec![note("dead", now() - HOUR * 80), note("ended", now() - HOUR), note("live", now() + HOUR)];
        let plan = plan(&facts, &POLICY);
        assert_eq!(plan.tidy, [layout::lease("dead")]);
        assert_eq!(plan.writer.unwrap().key, layout::lease("live"));
    }
}
