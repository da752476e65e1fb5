//! Which attempts keep their evidence: step output, probes, last log lines. The history keeps every attempt.

use std::collections::BTreeSet;

use landfall_store::remove;

use crate::disk::{Disk, RealDisk};
use crate::layout::AppDir;
use crate::record::RecordError;
use crate::record::quarantine::Quarantine;

/// Newest attempts whose evidence stays. A step's output is at most 1 MiB, most is a few lines.
pub const ATTEMPTS_KEPT: usize = 100;

/// Attempts whose evidence goes, of those that have some. Pure.
pub fn outdated(on_disk: &BTreeSet<u64>, keep: usize, needed: &BTreeSet<u64>) -> Vec<u64> {
    let newest: BTreeSet<&u64> = on_disk.iter().rev().take(keep).collect();
    on_disk.iter().filter(|attempt| !newest.contains(attempt) && !needed.contains(attempt)).copied().collect()
}

/// Removes evidence that is outdated. What says why a release is refused stays as long as it is.
pub fn forget(dir: &AppDir, quarantine: &Quarantine) -> Result<(), RecordError> {
    let attempts = dir.attempts();
    let names = RealDisk.list(&attempts).map_err(RecordError::io(&attempts))?;
    let on_disk = names.iter().filter_map(|name| name.parse().ok()).collect();
    let needed = quarantine.in_force().map(|item| item.attempt).collect();
    for attempt in outdated(&on_disk, ATTEMPTS_KEPT, &needed) {
        remove::remove(&attempts, &attempt.to_string())
            .map_err(|error| RecordError::io(dir.attempt(attempt))(std::io::Error::other(error)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_attempts_keep_their_evidence_and_so_does_what_a_quarantine_rests_on() {
        let on_disk: BTreeSet<u64> = (1..=10).collect();
        assert_eq!(outdated(&on_disk, 3, &BTreeSet::from([2])), [1, 3, 4, 5, 6, 7]);
        assert!(outdated(&on_disk, 10, &BTreeSet::new()).is_empty());
    }

    #[test]
    fn a_thousand_attempts_leave_the_evidence_of_a_hundred() {
        let root = tempfile::tempdir().unwrap();
        let root = crate::layout::Root::new(root.path()).unwrap();
        let dir = root.app(&"web".parse().unwrap(), &"prod".parse().unwrap(), None);
        forget(&dir, &Quarantine::default()).unwrap();
        for attempt in 1..=1_000 {
            RealDisk.create_dir(&dir.attempt(attempt)).unwrap();
        }
        std::fs::write(dir.attempt(7).join("step.log"), "why").unwrap();
        forget(&dir, &Quarantine::default()).unwrap();
        let left = RealDisk.list(&dir.attempts()).unwrap();
        assert_eq!(left.len(), ATTEMPTS_KEPT);
        assert!(dir.attempt(1_000).is_dir() && !dir.attempt(7).exists());
    }
}
