//! Which release a rollback on this host goes back to. Needs neither store nor state.

use landfall_store::ArtifactId;

use crate::disk::{Disk, RealDisk};
use crate::layout::{AppDir, ReleaseDir};
use crate::record::RecordError;
use crate::record::history::History;
use crate::record::quarantine::Quarantine;
use crate::record::release::{Progress, ReleaseRecord, ReleaseRef};
use crate::record::sealed;
use crate::switch;

/// Hex digits of an artifact that are enough to name it.
const DIGITS_MIN: usize = 8;

/// What there is to choose from.
#[derive(Debug)]
pub struct OnDisk {
    /// Releases that proved healthy here and are still on disk, most recently proved first.
    pub healthy: Vec<ReleaseRef>,
    /// Every other prepared release on disk.
    pub others: Vec<ReleaseRef>,
    /// What is linked.
    pub current: Option<ReleaseRef>,
    /// What failed here.
    pub quarantine: Quarantine,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum ChoiceError {
    /// Nothing else was ever healthy here.
    #[error("no other release that proved healthy is on this host")]
    Nothing,
    /// No release is called so.
    #[error("no release on this host is called `{0}`")]
    Unknown(String),
    /// More than one is.
    #[error("`{asked}` names more than one release on this host: {}", found.join(", "))]
    Ambiguous {
        /// What was typed.
        asked: String,
        /// Their directories.
        found: Vec<String>,
    },
    /// It never proved healthy, or failed since.
    #[error("{release} did not prove healthy on this host: {why}")]
    NotHealthy {
        /// Its directory.
        release: String,
        /// What is known.
        why: String,
    },
    /// The state blocks it.
    #[error("the state blocks {release}: {why}")]
    Blocked {
        /// Its directory.
        release: String,
        /// Why.
        why: String,
    },
}

impl OnDisk {
    /// Looks.
    pub fn read(dir: &AppDir) -> Result<Self, RecordError> {
        let quarantine = Quarantine::read(&RealDisk, dir)?;
        let history = History::read(&RealDisk, dir)?;
        let mut prepared = Vec::new();
        let releases = dir.releases();
        for name in RealDisk.list(&releases).map_err(RecordError::io(&releases))? {
            let record = ReleaseDir(dir.release(&name)).record();
            // A release that cannot be read is none to go back to; it stays where it is.
            if let Ok(Some(record)) = sealed::read::<ReleaseRecord>(&RealDisk, &record)
                && record.progress == Progress::Prepared
                && record.release.name == name
            {
                prepared.push(record.release);
            }
        }
        let linked = switch::named(&RealDisk, dir).ok().flatten();
        let current = prepared.iter().find(|release| Some(&release.name) == linked.as_ref()).cloned();
        let healthy: Vec<ReleaseRef> =
            history.healthy().into_iter().filter(|release| prepared.contains(release)).cloned().collect();
        prepared.retain(|release| !healthy.contains(release));
        Ok(Self { healthy, others: prepared, current, quarantine })
    }
}

/// Chooses. Pure.
pub fn choose(
    on_disk: &OnDisk,
    to: Option<&str>,
    block_of: &dyn Fn(&ArtifactId) -> Option<String>,
) -> Result<ReleaseRef, ChoiceError> {
    let blocked = |release: &ReleaseRef| block_of(&release.artifact);
    let Some(asked) = to else {
        let usable = |release: &&ReleaseRef| {
            Some(*release) != on_disk.current.as_ref()
                && blocked(release).is_none()
                && on_disk.quarantine.forbids(release.identity).is_none()
        };
        return on_disk.healthy.iter().find(usable).cloned().ok_or(ChoiceError::Nothing);
    };
    let all = || on_disk.healthy.iter().chain(&on_disk.others);
    let found: Vec<&ReleaseRef> = match all().find(|release| release.name == asked) {
        Some(exact) => vec![exact],
        None => all().filter(|release| is_called(release, asked)).collect(),
    };
    let release = match found[..] {
        [] => return Err(ChoiceError::Unknown(asked.to_owned())),
        [release] => release,
        _ => {
            let found = found.iter().map(|release| release.name.clone()).collect();
            return Err(ChoiceError::Ambiguous { asked: asked.to_owned(), found });
        }
    };
    let named = || release.name.clone();
    if let Some(why) = blocked(release) {
        return Err(ChoiceError::Blocked { release: named(), why });
    }
    if let Some(item) = on_disk.quarantine.forbids(release.identity) {
        let why = format!("it failed in attempt {}: {}", item.attempt, item.failure.message);
        return Err(ChoiceError::NotHealthy { release: named(), why });
    }
    if !on_disk.healthy.contains(release) {
        let why = "no attempt says so".to_owned();
        return Err(ChoiceError::NotHealthy { release: named(), why });
    }
    Ok(release.clone())
}

fn is_called(release: &ReleaseRef, asked: &str) -> bool {
    let digits = asked.strip_prefix("b3:").unwrap_or(asked);
    release.version.as_str() == asked
        || digits.len() >= DIGITS_MIN && release.artifact.0.to_string().starts_with(digits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::journal::{Class, Failure};
    use crate::record::quarantine::Quarantined;
    use jiff::Timestamp;
    use landfall_store::Digest;

    fn release(name: &str, version: &str) -> ReleaseRef {
        ReleaseRef::new(
            ArtifactId::of(name.as_bytes()),
            Digest::of(name.as_bytes()),
            version.parse().unwrap(),
        )
    }

    fn on_disk() -> OnDisk {
        OnDisk {
            healthy: vec![release("c", "3"), release("b", "2"), release("a", "1")],
            others: vec![release("d", "4"), release("b2", "2")],
            current: Some(release("c", "3")),
            quarantine: Quarantine::default(),
        }
    }

    const FREE: &dyn Fn(&ArtifactId) -> Option<String> = &|_| None;

    #[test]
    fn without_a_name_it_is_the_last_healthy_release_that_does_not_run() {
        assert_eq!(choose(&on_disk(), None, FREE).unwrap(), release("b", "2"));
        let blocked = |id: &ArtifactId| (*id == ArtifactId::of(b"b")).then(|| "leaks".to_owned());
        assert_eq!(choose(&on_disk(), None, &blocked).unwrap(), release("a", "1"));
        let alone = OnDisk { healthy: vec![release("c", "3")], ..on_disk() };
        assert!(matches!(choose(&alone, None, FREE), Err(ChoiceError::Nothing)));
    }

    #[test]
    fn a_release_is_named_by_version_artifact_or_directory_and_never_guessed() {
        let by = |asked: &str| choose(&on_disk(), Some(asked), FREE);
        assert_eq!(by("1").unwrap(), release("a", "1"));
        assert_eq!(by(&release("a", "1").artifact.to_string()).unwrap(), release("a", "1"));
        assert_eq!(by(&release("a", "1").artifact.0.to_string()[..8]).unwrap(), release("a", "1"));
        assert_eq!(by(&release("b", "2").name).unwrap(), release("b", "2"));
        assert!(matches!(by("2"), Err(ChoiceError::Ambiguous { found, .. }) if found.len() == 2));
        assert!(matches!(by("9"), Err(ChoiceError::Unknown(_))));
        assert!(matches!(by(""), Err(ChoiceError::Unknown(_))));
    }

    #[test]
    fn what_never_proved_healthy_failed_since_or_is_blocked_is_no_place_to_go_back_to() {
        assert!(matches!(choose(&on_disk(), Some("4"), FREE), Err(ChoiceError::NotHealthy { .. })));
        let failed = Quarantined {
            release: release("a", "1"),
            attempt: 9,
            failure: Failure { class: Class::Health, reason: "x".into(), message: "x".into() },
            since: Timestamp::UNIX_EPOCH,
            left: false,
        };
        let failed =
            OnDisk { quarantine: Quarantine { items: vec![failed], interrupted: None }, ..on_disk() };
        assert!(matches!(choose(&failed, Some("1"), FREE), Err(ChoiceError::NotHealthy { .. })));
        let blocked = |_: &ArtifactId| Some("leaks".to_owned());
        assert!(matches!(choose(&on_disk(), Some("1"), &blocked), Err(ChoiceError::Blocked { .. })));
    }
}
