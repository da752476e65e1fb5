//! Release identities that failed on this host and are not tried again until something changes.

use jiff::Timestamp;
use landfall_store::{ArtifactId, Digest};
use serde::{Deserialize, Serialize};

use super::RecordError;
use super::history::{Entry, History, Outcome};
use super::journal::{Failure, Stage};
use super::release::ReleaseRef;
use super::sealed::{self, Sealed};
use crate::disk::Disk;
use crate::layout::AppDir;

/// Failed releases that are remembered after the state has left them.
const LEFT_KEPT: usize = 20;

/// One failed release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// Which release.
    pub release: ReleaseRef,
    /// The attempt that failed; its evidence is kept under that number.
    pub attempt: u64,
    /// Why.
    pub failure: Failure,
    /// When, by the wall clock; only shown.
    pub since: Timestamp,
    /// The state has named something else since: naming this again is a new decision, and gets one attempt.
    pub left: bool,
}

/// Two attempts in a row at the same artifact that were cut short in the same stage: the stage itself may be
/// what brings the agent or the machine down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interrupted {
    /// On the way to which artifact.
    pub artifact: ArtifactId,
    /// The release of it, if that was known by then.
    pub identity: Option<Digest>,
    /// In which stage.
    pub stage: Stage,
    /// The second of the two attempts.
    pub attempt: u64,
}

/// All of an app's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantine {
    /// Newest last.
    pub items: Vec<Quarantined>,
    /// What is held because it was cut short twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interrupted: Option<Interrupted>,
}

impl Sealed for Quarantine {
    const KIND: &'static str = "quarantine";
}

impl Quarantine {
    /// What is quarantined in this app.
    pub fn read(disk: &dyn Disk, dir: &AppDir) -> Result<Self, RecordError> {
        Ok(sealed::read(disk, &dir.quarantine())?.unwrap_or_default())
    }

    /// Makes it durable.
    pub fn write(&self, disk: &dyn Disk, dir: &AppDir) -> Result<(), RecordError> {
        sealed::write(disk, &dir.quarantine(), self)
    }

    /// What the history knows of failures: releases whose last verdict was that they failed, by their own fault.
    pub fn of(entries: &[Entry]) -> Self {
        let mut judged = std::collections::HashSet::new();
        let mut items: Vec<Quarantined> = entries.iter().rev().filter_map(Self::judged).collect();
        items.retain(|item| judged.insert(item.release.identity));
        let healthy: std::collections::HashSet<_> =
            History::healthy_in(entries).iter().map(|r| r.identity).collect();
        items.retain(|item| !healthy.contains(&item.release.identity));
        items.reverse();
        Self { items, interrupted: None }
    }

    fn judged(entry: &Entry) -> Option<Quarantined> {
        let failure = entry.failure.clone().filter(|failure| failure.class.blames_the_release())?;
        let before_the_switch = entry.result == Outcome::Failed && entry.stage < Stage::Switching;
        (before_the_switch || entry.verdict() == Some(false)).then_some(())?;
        Some(Quarantined {
            release: entry.release.clone()?,
            attempt: entry.attempt,
            failure,
            since: entry.started,
            left: false,
        })
    }

    /// The entry that forbids this identity, if any.
    pub fn forbids(&self, identity: Digest) -> Option<&Quarantined> {
        self.items.iter().find(|item| item.release.identity == identity && !item.left)
    }

    /// The hold on this artifact, unless its release here is another one by now.
    pub fn holds(&self, artifact: ArtifactId, identity: Option<Digest>) -> Option<&Interrupted> {
        let changed =
            |held: &Interrupted| matches!((held.identity, identity), (Some(then), Some(now)) if then != now);
        self.interrupted.as_ref().filter(|held| held.artifact == artifact && !changed(held))
    }

    /// Adds a failed release, in place of what was known of it. Of those the state has left, which forbid nothing,
    /// the oldest are forgotten.
    pub fn add(&mut self, item: Quarantined) {
        self.items.retain(|old| old.release.identity != item.release.identity);
        self.items.push(item);
        let mut surplus = self.items.iter().filter(|item| item.left).count().saturating_sub(LEFT_KEPT);
        self.items.retain(|item| {
            let goes = item.left && surplus > 0;
            surplus -= usize::from(goes);
            !goes
        });
    }

    /// Those that are refused now.
    pub fn in_force(&self) -> impl Iterator<Item = &Quarantined> {
        self.items.iter().filter(|item| !item.left)
    }

    /// Notes that the state now names `desired`. Entries for other artifacts are left behind.
    /// Returns whether anything changed.
    pub fn moved_to(&mut self, desired: ArtifactId) -> bool {
        let interrupted = self.interrupted.take_if(|held| held.artifact != desired);
        let mut changed = interrupted.is_some();
        for item in &mut self.items {
            if item.release.artifact != desired && !item.left {
                item.left = true;
                changed = true;
            }
        }
        changed
    }

    /// Forgets a release that has proved healthy. Returns whether anything changed.
    pub fn lift(&mut self, identity: Digest) -> bool {
        let before = self.items.len();
        self.items.retain(|item| item.release.identity != identity);
        let interrupted = self.interrupted.take_if(|held| held.identity == Some(identity));
        self.items.len() != before || interrupted.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::journal::Class;

    fn failed(name: &str, attempt: u64) -> Quarantined {
        let hash = Digest::of(name.as_bytes());
        Quarantined {
            release: ReleaseRef::new(ArtifactId(hash), hash, "1".parse().unwrap()),
            attempt,
            failure: Failure { class: Class::Health, reason: "Unhealthy".to_owned(), message: String::new() },
            since: Timestamp::UNIX_EPOCH,
            left: false,
        }
    }

    #[test]
    fn what_the_state_has_left_is_forgotten_at_last_and_what_is_refused_never_is() {
        let mut quarantine = Quarantine::default();
        for attempt in 1..=100 {
            quarantine.add(failed(&attempt.to_string(), attempt));
            quarantine.moved_to(ArtifactId(Digest::of(b"something else")));
        }
        quarantine.add(failed("the newest", 101));
        let left: Vec<u64> =
            quarantine.items.iter().filter(|item| item.left).map(|item| item.attempt).collect();
        assert_eq!(left, (81..=100).collect::<Vec<u64>>());
        assert!(quarantine.forbids(Digest::of(b"the newest")).is_some());
    }
}
