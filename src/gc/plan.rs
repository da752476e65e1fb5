//! Which contents and documents go: a pure decision over what is there and what is needed.

use std::path::PathBuf;

use landfall_store::collect::Object;
use serde::{Deserialize, Serialize};

use super::{Collected, Facts};

/// Seconds for which something that nothing needs stays all the same: the next deploy may want it back.
const YOUNG_SECS: i64 = 24 * 60 * 60;
/// A cache without a bound of its own may always take this much beyond what is needed.
const SPARE_BYTES: u64 = 1 << 30;

/// How far a collection goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes the cache may take. None: twice what is needed, or that and 1 GiB, whichever is more.
    pub max_bytes: Option<u64>,
    /// What nothing needs goes whatever its age: a person asked, or the disk is short.
    pub young_too: bool,
}

impl Limits {
    /// Bytes the cache may take, where this many are needed.
    pub fn bytes(&self, needed: u64) -> u64 {
        let spare = needed.max(SPARE_BYTES);
        self.max_bytes.unwrap_or_else(|| needed.saturating_add(spare))
    }
}

/// A tree, a manifest or an env file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Where.
    pub path: PathBuf,
    /// How large.
    pub bytes: u64,
    /// When it last changed, in seconds since 1970.
    pub changed: i64,
    /// Something needs it.
    pub needed: bool,
}

/// What goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Contents, those let go of longest ago first.
    pub objects: Vec<Object>,
    /// Documents.
    pub documents: Vec<Document>,
}

/// Decides. Pure: never anything that is needed, and no more contents than the bound asks for.
pub fn plan(facts: &Facts, limits: &Limits) -> Plan {
    let old = |changed: i64| limits.young_too || facts.now.saturating_sub(changed) >= YOUNG_SECS;
    let total: u64 = facts.objects.iter().map(|object| object.want.size).sum();
    let mut over = total.saturating_sub(limits.bytes(facts.needed_bytes()));
    let mut loose: Vec<Object> =
        facts.objects.iter().filter(|object| !facts.needs(object) && old(object.changed)).copied().collect();
    loose.sort_unstable_by_key(|object| (object.changed, object.want.blob, object.want.executable));
    let mut objects = Vec::new();
    for object in loose {
        if over == 0 {
            break;
        }
        over = over.saturating_sub(object.want.size);
        objects.push(object);
    }
    let gone = |document: &&Document| !document.needed && old(document.changed);
    Plan { objects, documents: facts.documents.iter().filter(gone).cloned().collect() }
}

impl Plan {
    /// The same in numbers.
    pub fn summary(&self, facts: &Facts, limits: &Limits) -> Collected {
        let needed_bytes = facts.needed_bytes();
        Collected {
            cache_bytes: facts.objects.iter().map(|object| object.want.size).sum(),
            needed_bytes,
            max_bytes: limits.bytes(needed_bytes),
            contents: self.objects.len() as u64,
            content_bytes: self.objects.iter().map(|object| object.want.size).sum(),
            documents: self.documents.len() as u64,
            document_bytes: self.documents.iter().map(|document| document.bytes).sum(),
            removed: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use landfall_store::BlobId;
    use landfall_store::blob::Want;
    use proptest::prelude::*;

    const NOW: i64 = 1_000_000_000;

    fn object(number: u32, size: u64, age: i64) -> Object {
        let want =
            Want { blob: BlobId::of(&number.to_le_bytes()), size, executable: number.is_multiple_of(5) };
        Object { want, changed: NOW - age }
    }

    fn facts(objects: &[(u64, i64, bool)]) -> Facts {
        let objects: Vec<(Object, bool)> = (0..)
            .zip(objects)
            .map(|(number, (size, age, needed))| (object(number, *size, *age), *needed))
            .collect();
        Facts {
            needed: objects.iter().filter(|(_, needed)| *needed).map(|(it, _)| it.want.blob).collect(),
            objects: objects.into_iter().map(|(object, _)| object).collect(),
            documents: Vec::new(),
            now: NOW,
        }
    }

    #[test]
    fn what_was_let_go_of_longest_ago_goes_first_and_no_more_than_the_bound_asks_for() {
        let facts =
            facts(&[(10, 200_000, false), (10, 300_000, false), (10, 100_000, false), (10, 900_000, true)]);
        let gone = plan(&facts, &Limits { max_bytes: Some(25), young_too: false });
        assert_eq!(gone.objects, [facts.objects[1], facts.objects[0]]);
        assert!(plan(&facts, &Limits { max_bytes: Some(40), young_too: false }).objects.is_empty());
        assert!(plan(&facts, &Limits::default()).objects.is_empty());
    }

    #[test]
    fn what_is_young_stays_unless_somebody_needs_the_room() {
        let facts = facts(&[(10, 60, false), (10, 60, true)]);
        let limits = Limits { max_bytes: Some(0), young_too: false };
        assert!(plan(&facts, &limits).objects.is_empty());
        assert_eq!(plan(&facts, &Limits { young_too: true, ..limits }).objects, [facts.objects[0]]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 10_000, ..ProptestConfig::default() })]

        #[test]
        fn p10_a_plan_never_holds_what_is_needed_and_stops_at_the_bound(
            objects in prop::collection::vec((1_u64..100, 0_i64..400_000, any::<bool>()), 0..40),
            max_bytes in prop::option::of(0_u64..2_000),
            young_too: bool,
        ) {
            let facts = facts(&objects);
            let limits = Limits { max_bytes, young_too };
            let gone = plan(&facts, &limits);
            prop_assert!(gone.objects.iter().all(|object| !facts.needed.contains(&object.want.blob)));
            prop_assert!(gone.objects.windows(2).all(|pair| pair[0].changed <= pair[1].changed));
            let total: u64 = facts.objects.iter().map(|object| object.want.size).sum();
            let freed: u64 = gone.objects.iter().map(|object| object.want.size).sum();
            let left = total - freed;
            let bound = limits.bytes(facts.needed_bytes());
            // The last one that goes is one too many to keep.
            if let Some(last) = gone.objects.last() {
                prop_assert!(left + last.want.size > bound);
            }
            // Above the bound only what is needed or too young stays.
            let stays = |object: &&Object| !gone.objects.contains(object);
            let may_go = |object: &&Object| !facts.needs(object) && (young_too || NOW - object.changed >= YOUNG_SECS);
            prop_assert!(left <= bound || facts.objects.iter().filter(stays).filter(may_go).count() == 0);
        }
    }
}
