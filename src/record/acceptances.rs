//! Commits of the state that operators took although this host had refused them: who, when, why, from which commit
//! to which. Part of the host's history: each names its parent by hash, and none is ever dropped.

use jiff::Timestamp;
use landfall_store::{Digest, json};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::RecordError;
use super::history::NO_PARENT;
use super::sealed::{self, Sealed};
use crate::disk::Disk;
use crate::layout::Root;

const CONTEXT: &str = "landfall 2026-11-30 acceptance v1";

/// One commit that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Acceptance {
    /// The commit, which was the newest of its branch.
    pub commit: String,
    /// The commit that gave the state the content it has there: what attempts name.
    pub state_commit: String,
    /// The commit that counted before; absent: none was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Why it had been refused.
    pub refusal: String,
    /// Who took it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When, by the wall clock of the host.
    pub at: Timestamp,
}

/// The same in its chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Chained {
    /// What was taken.
    #[serde(flatten)]
    pub acceptance: Acceptance,
    /// The hash of the one before; 64 zeros in the first.
    #[schemars(with = "String")]
    pub parent: Digest,
    /// Its own hash.
    #[schemars(with = "String")]
    pub entry: Digest,
}

impl Chained {
    fn after(last: Option<&Self>, acceptance: Acceptance) -> Self {
        let parent = last.map_or(NO_PARENT, |last| last.entry);
        let entry = hash(&acceptance, parent);
        Self { acceptance, parent, entry }
    }
}

fn hash(acceptance: &Acceptance, parent: Digest) -> Digest {
    let bytes = json::encode(&(acceptance, parent)).expect("it holds only text");
    Digest::derived(CONTEXT, &bytes)
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    entries: Vec<Chained>,
}

impl Sealed for Kept {
    const KIND: &'static str = "acceptances";
}

/// Whether a chain holds from its first link on; an error says where it does not.
pub fn check(entries: &[Chained]) -> Result<(), String> {
    let mut last = NO_PARENT;
    for (number, chained) in entries.iter().enumerate() {
        if chained.entry != hash(&chained.acceptance, chained.parent) {
            return Err(format!("acceptance {} was changed: its hash does not fit", number + 1));
        }
        if chained.parent != last {
            return Err(format!("acceptance {} does not follow the one before it", number + 1));
        }
        last = chained.entry;
    }
    Ok(())
}

/// Every acceptance of this host, oldest first, each link of the chain checked.
pub fn read(disk: &dyn Disk, root: &Root) -> Result<Vec<Chained>, RecordError> {
    let path = root.acceptances();
    let entries = sealed::read::<Kept>(disk, &path)?.unwrap_or_default().entries;
    check(&entries).map_err(|why| RecordError::Damaged { path, why })?;
    Ok(entries)
}

/// Adds one, durably: on return it survives a power cut.
pub fn append(disk: &dyn Disk, root: &Root, acceptance: Acceptance) -> Result<(), RecordError> {
    let mut entries = read(disk, root)?;
    entries.push(Chained::after(entries.last(), acceptance));
    sealed::write(disk, &root.acceptances(), &Kept { entries })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    fn acceptance(reason: &str) -> Acceptance {
        Acceptance {
            commit: "b".repeat(40),
            state_commit: "c".repeat(40),
            from: Some("a".repeat(40)),
            refusal: "it was rewritten".to_owned(),
            by: "maria".to_owned(),
            reason: reason.to_owned(),
            at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn each_names_the_one_before_and_cut_changed_reordered_and_dropped_ones_are_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::new(dir.path()).unwrap();
        assert_eq!(read(&RealDisk, &root).unwrap(), []);
        for reason in ["one", "two", "three"] {
            append(&RealDisk, &root, acceptance(reason)).unwrap();
        }
        let whole = read(&RealDisk, &root).unwrap();
        assert_eq!(
            whole.iter().map(|one| one.acceptance.reason.as_str()).collect::<Vec<_>>(),
            ["one", "two", "three"]
        );
        let mut changed = whole.clone();
        changed[1].acceptance.reason = "another".to_owned();
        let (mut reordered, mut dropped) = (whole.clone(), whole.clone());
        reordered.swap(0, 1);
        dropped.remove(1);
        for broken in [changed, reordered, dropped, whole[1..].to_vec()] {
            assert!(check(&broken).is_err());
            sealed::write(&RealDisk, &root.acceptances(), &Kept { entries: broken }).unwrap();
            assert!(matches!(read(&RealDisk, &root), Err(RecordError::Damaged { .. })));
        }
        // A cut at the end breaks the seal of the file.
        let text = std::fs::read_to_string(root.acceptances()).unwrap();
        std::fs::write(root.acceptances(), &text[..text.len() - 10]).unwrap();
        assert!(read(&RealDisk, &root).is_err());
    }
}
