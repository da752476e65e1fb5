//! Records of an app that cannot be read: found, kept aside, and replaced by what can be proved, never by a guess.
//!
//! What runs is not touched. A history goes on from the entries whose chain holds; a quarantine is made again
//! from the history; of an unreadable attempt only its number is used up. Where nobody can tell any more what an
//! operator had decided, the app stays suspended until one says so again.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::desired::{Place, Suspension};
use crate::disk::{Disk, RealDisk};
use crate::layout::{AppDir, ReleaseDir};
use crate::record::RecordError;
use crate::record::controls::{Act, Controls, Decision};
use crate::record::history::{Entry, History, Outcome, RECOVERED};
use crate::record::journal::{Class, Failure, Journal, Target};
use crate::record::quarantine::Quarantine;
use crate::record::release::ReleaseRecord;
use crate::record::sealed;
use crate::switch;

/// Bytes of a record that is copied: as many as a history may have.
const RECORD_BYTES_MAX: u64 = 1 << 30;

/// A record that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Which one.
    pub record: Which,
    /// The file.
    pub path: PathBuf,
    /// How it shows.
    pub why: String,
}

/// The records of an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// What operators decided.
    Controls,
    /// Every attempt there was.
    History,
    /// What failed here.
    Quarantine,
    /// The attempt in progress.
    Journal,
}

/// Looks at every record. One that a newer landfall wrote, or that the system refuses to read, is an error: it
/// is not damaged.
pub fn find(dir: &AppDir) -> Result<Vec<Damage>, RecordError> {
    let mut found = Vec::new();
    let mut look = |record: Which, read: Result<(), RecordError>| match read {
        Ok(()) => Ok(()),
        Err(RecordError::Damaged { path, why }) => {
            found.push(Damage { record, path, why });
            Ok(())
        }
        Err(other) => Err(other),
    };
    look(Which::Controls, Controls::read(&RealDisk, dir).map(drop))?;
    look(Which::History, History::read(&RealDisk, dir).map(drop))?;
    look(Which::Quarantine, Quarantine::read(&RealDisk, dir).map(drop))?;
    look(Which::Journal, Journal::read(&RealDisk, dir).map(drop))?;
    Ok(found)
}

/// Sets aside what cannot be read and puts what is known in its place. Says what it did; nothing if all is well.
pub(super) fn set_aside(
    dir: &AppDir,
    by: &str,
    reason: &str,
    now: Timestamp,
) -> Result<Vec<String>, RecordError> {
    let damages = find(dir)?;
    if damages.is_empty() {
        return Ok(Vec::new());
    }
    let recovery = Recovery { dir, by, reason, now };
    let mut told = Vec::new();
    for damage in &damages {
        let kept = recovery.keep(damage)?;
        told.push(format!("{}: {}; kept as {}", damage.path.display(), damage.why, kept.display()));
    }
    let damaged = |record: Which| damages.iter().any(|damage| damage.record == record);
    let number = recovery.next_attempt()?;
    if damaged(Which::Controls) {
        told.push(recovery.suspend_until_told()?);
    }
    if damaged(Which::History) {
        told.push(recovery.go_on_with_what_is_proved()?);
    }
    if damaged(Which::Quarantine) {
        told.push(recovery.quarantine_again()?);
    }
    if damaged(Which::History) || damaged(Which::Journal) {
        recovery.mark(number, &told)?;
        Journal::clear(&RealDisk, dir)?;
        told.push("`current` was not touched; the next tick decides from what it finds".to_owned());
    }
    recovery.note(&damages)?;
    Ok(told)
}

struct Recovery<'a> {
    dir: &'a AppDir,
    by: &'a str,
    reason: &'a str,
    now: Timestamp,
}

impl Recovery<'_> {
    /// Copies the file, and with a history its head, to where nothing is ever overwritten.
    fn keep(&self, damage: &Damage) -> Result<PathBuf, RecordError> {
        let aside = self.dir.aside();
        RealDisk.create_dir(&aside).map_err(RecordError::io(&aside))?;
        let kept = self.copy(&damage.path, &aside)?;
        if damage.record == Which::History {
            for beside in [self.dir.history(), self.dir.history_head()] {
                if beside != damage.path {
                    self.copy(&beside, &aside)?;
                }
            }
        }
        Ok(kept)
    }

    fn copy(&self, from: &Path, aside: &Path) -> Result<PathBuf, RecordError> {
        let name = from.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let time = self.now.strftime("%Y%m%dT%H%M%S%.3fZ");
        let free = |number: u32| {
            let to = aside.join(format!("{name}.{time}.{number}"));
            (!to.exists()).then_some(to)
        };
        let to = (1..).find_map(free).unwrap_or_else(|| aside.join(&name));
        if let Some(bytes) = RealDisk.read(from, RECORD_BYTES_MAX).map_err(RecordError::io(from))? {
            RealDisk.replace(&to, &bytes).map_err(RecordError::io(&to))?;
        }
        Ok(to)
    }

    /// A number that no attempt ever had: their evidence stays apart.
    fn next_attempt(&self) -> Result<u64, RecordError> {
        let (entries, lost) = History::salvage(&RealDisk, self.dir)?;
        let known = entries.last().map_or(0, |entry| entry.attempt) + lost as u64;
        let attempts = self.dir.attempts();
        let names = RealDisk.list(&attempts).map_err(RecordError::io(&attempts))?;
        let evidence = names.iter().filter_map(|name| name.parse().ok()).max().unwrap_or(0);
        // The attempt in the journal has a number of its own.
        let journal = u64::from(self.dir.journal().exists());
        Ok(known.max(History::headed(&RealDisk, self.dir)).max(evidence) + journal + 1)
    }

    fn suspend_until_told(&self) -> Result<String, RecordError> {
        let why = Suspension {
            reason: format!("it cannot be read any more what operators had decided here; {}", self.reason),
            by: self.by.to_owned(),
            since: Some(self.now),
            until: None,
            place: Place::Host,
        };
        let controls = Controls { suspend: Some(why), ..Controls::default() };
        sealed::write(&RealDisk, &self.dir.controls(), &controls)?;
        Ok("whether the app was suspended or pinned cannot be read any more: it is suspended until \
            `landfall resume`"
            .to_owned())
    }

    fn go_on_with_what_is_proved(&self) -> Result<String, RecordError> {
        let (entries, lost) = History::salvage(&RealDisk, self.dir)?;
        let count = entries.len();
        History::replace(&RealDisk, self.dir, entries)?;
        Ok(format!(
            "the history goes on from {count} entries whose chain holds; {lost} lines after them do not count"
        ))
    }

    fn quarantine_again(&self) -> Result<String, RecordError> {
        let (entries, _) = History::salvage(&RealDisk, self.dir)?;
        let quarantine = Quarantine::of(&entries);
        quarantine.write(&RealDisk, self.dir)?;
        Ok(format!("the quarantine was made again from the history: {} releases", quarantine.items.len()))
    }

    /// An entry that says why numbers are missing. Without any artifact to name there is none to write.
    fn mark(&self, number: u64, told: &[String]) -> Result<(), RecordError> {
        let mut history = History::read(&RealDisk, self.dir)?;
        let Some(artifact) = self.artifact(&history) else { return Ok(()) };
        let target = Target {
            by: Some(self.by.to_owned()),
            why: Some(self.reason.to_owned()),
            ..Target::of(artifact)
        };
        let failure = Failure { class: Class::Host, reason: RECOVERED.to_owned(), message: told.join("; ") };
        let (app, environment) = (self.dir.app().clone(), self.dir.environment().clone());
        let journal = Journal::new(app, environment, number, target, self.now);
        let entry = Entry::ending(&journal, Outcome::Interrupted, Some(failure), 0, history.last_hash());
        history.append(&RealDisk, self.dir, entry)
    }

    fn artifact(&self, history: &History) -> Option<landfall_store::ArtifactId> {
        let linked = switch::named(&RealDisk, self.dir).ok().flatten().and_then(|name| {
            let record = ReleaseDir(self.dir.release(&name)).record();
            sealed::read::<ReleaseRecord>(&RealDisk, &record).ok().flatten()
        });
        let last = || history.last().map(|entry| entry.target.artifact);
        linked.map(|record| record.release.artifact).or_else(last)
    }

    fn note(&self, damages: &[Damage]) -> Result<(), RecordError> {
        let files: Vec<String> = damages
            .iter()
            .filter_map(|damage| Some(damage.path.file_name()?.to_string_lossy().into()))
            .collect();
        Controls::change(&RealDisk, self.dir, |controls| {
            controls.decide(Decision {
                at: self.now,
                what: Act::Recover,
                by: self.by.to_owned(),
                reason: Some(self.reason.to_owned()),
                until: None,
                about: Some(files.join(", ")),
            });
        })?;
        Ok(())
    }
}
