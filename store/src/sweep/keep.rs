//! Which artifacts stay: pure, from versions, the caller's roots, ages and the policy.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::digest::ArtifactId;
use crate::name::{Name, Version};

/// How much of the past stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Of each app, the versions pushed last stay.
    pub versions: usize,
    /// So does every version pushed within this time.
    pub age: Duration,
    /// What is younger is never condemned, and what is condemned is not removed before this has passed.
    pub grace: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        Self { versions: 30, age: DAY * 90, grace: DAY * 3 }
    }
}

/// A version in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Its app.
    pub app: Name,
    /// The version.
    pub version: Version,
    /// What it names.
    pub artifact: ArtifactId,
    /// Higher is later.
    pub seq: u64,
    /// When it was last pushed, by the store's clock.
    pub written: SystemTime,
}

/// Why an artifact stays.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Why {
    /// The caller names it: what, in words.
    Root(String),
    /// A version within the window names it.
    Version {
        /// The app.
        app: Name,
        /// The version.
        version: Version,
    },
    /// It was pushed within the grace.
    Young,
}

/// The artifacts that stay, each with its strongest reason. Roots that the store does not hold are left out.
pub(super) fn keep(
    versions: &[Named],
    roots: &BTreeMap<ArtifactId, String>,
    artifacts: &HashMap<ArtifactId, SystemTime>,
    policy: &Policy,
    now: SystemTime,
) -> BTreeMap<ArtifactId, Why> {
    let mut kept = BTreeMap::new();
    let mut keep = |id: ArtifactId, why: Why| {
        kept.entry(id)
            .and_modify(|old: &mut Why| {
                if why < *old {
                    *old = why.clone();
                }
            })
            .or_insert(why);
    };
    for (id, what) in roots.iter().filter(|(id, _)| artifacts.contains_key(id)) {
        keep(*id, Why::Root(what.clone()));
    }
    for named in within(versions, policy, now) {
        keep(named.artifact, Why::Version { app: named.app.clone(), version: named.version.clone() });
    }
    for (id, _) in artifacts.iter().filter(|(_, written)| is_younger(**written, policy.grace, now)) {
        keep(*id, Why::Young);
    }
    kept
}

/// The versions inside the window: the last of each app, and the young ones.
fn within<'a>(versions: &'a [Named], policy: &Policy, now: SystemTime) -> Vec<&'a Named> {
    let mut newest: Vec<&Named> = versions.iter().collect();
    newest.sort_by_key(|named| (&named.app, std::cmp::Reverse((named.seq, named.written))));
    let mut of_app: HashMap<&Name, HashSet<ArtifactId>> = HashMap::new();
    newest.retain(|named| {
        let seen = of_app.entry(&named.app).or_default();
        // Two versions of one artifact are one.
        let counted = seen.len() < policy.versions || seen.contains(&named.artifact);
        if counted {
            seen.insert(named.artifact);
        }
        counted || is_younger(named.written, policy.age, now)
    });
    newest
}

/// Whether something was written within `age`. What is written in the future is.
pub(super) fn is_younger(written: SystemTime, age: Duration, now: SystemTime) -> bool {
    now.duration_since(written).map_or(true, |since| since < age)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + DAY * 1000
    }

    fn id(n: u64) -> ArtifactId {
        ArtifactId(Digest::of(&n.to_le_bytes()))
    }

    fn named(app: &str, seq: u64, days_ago: u32) -> Named {
        Named {
            app: app.parse().unwrap(),
            version: format!("1.{seq}").parse().unwrap(),
            artifact: id(seq),
            seq,
            written: now() - DAY * days_ago,
        }
    }

    fn kept(versions: &[Named], roots: &[u64], policy: &Policy) -> Vec<u64> {
        let artifacts = versions.iter().map(|named| (named.artifact, named.written)).collect();
        let roots = roots.iter().map(|n| (id(*n), "state".to_owned())).collect();
        let kept = keep(versions, &roots, &artifacts, policy, now());
        let mut kept: Vec<u64> =
            versions.iter().map(|named| named.seq).filter(|seq| kept.contains_key(&id(*seq))).collect();
        kept.dedup();
        kept
    }

    #[test]
    fn the_last_versions_stay_however_old_and_the_young_ones_however_many() {
        let versions: Vec<Named> = (1..=10).map(|seq| named("web", seq, 400 - seq as u32)).collect();
        let policy = Policy { versions: 3, ..Policy::default() };
        assert_eq!(kept(&versions, &[], &policy), [8, 9, 10]);
        let young: Vec<Named> = (1..=10).map(|seq| named("web", seq, 89)).collect();
        assert_eq!(kept(&young, &[], &policy).len(), 10);
        let edge = [named("web", 1, 90), named("web", 2, 500), named("web", 3, 500), named("web", 4, 500)];
        assert_eq!(kept(&edge, &[], &policy), [2, 3, 4], "90 days and older than three others");
    }

    #[test]
    fn each_app_has_its_own_window() {
        let versions = [named("web", 1, 400), named("api", 2, 400), named("api", 3, 400)];
        let policy = Policy { versions: 1, ..Policy::default() };
        assert_eq!(kept(&versions, &[], &policy), [1, 3]);
    }

    #[test]
    fn what_the_state_names_stays_whatever_its_age() {
        let versions: Vec<Named> = (1..=5).map(|seq| named("web", seq, 400)).collect();
        let policy = Policy { versions: 1, ..Policy::default() };
        assert_eq!(kept(&versions, &[2], &policy), [2, 5]);
        assert_eq!(kept(&versions, &[77], &policy), [5], "a root that is not here keeps nothing");
    }

    #[test]
    fn an_artifact_younger_than_the_grace_stays_without_a_version() {
        let artifacts = [(id(1), now() - DAY * 2), (id(2), now() - DAY * 3), (id(3), now() + DAY)].into();
        let kept = keep(&[], &BTreeMap::new(), &artifacts, &Policy::default(), now());
        assert_eq!(kept.keys().copied().collect::<std::collections::BTreeSet<_>>(), [id(1), id(3)].into());
    }
}
