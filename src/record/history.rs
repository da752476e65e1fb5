//! The history: one entry per attempt, append-only, each naming its parent by hash.
//!
//! `history.head` holds the length and the last hash, so that a cut at the end is noticed too. A crash
//! between the two writes leaves one entry more than the head says: that is a whole, chained entry, and the
//! next append carries the head on.

use jiff::Timestamp;
use landfall_store::{Digest, Name, json};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::RecordError;
use super::journal::{After, Drift, Failure, Journal, Stage, StageTime, Target};
use super::release::ReleaseRef;
use super::sealed::{self, Sealed};
use crate::disk::Disk;
use crate::layout::AppDir;

const CONTEXT: &str = "landfall 2026-11-20 history entry v1";
/// Bytes of a history: a million attempts.
pub const HISTORY_BYTES_MAX: u64 = 1 << 30;

/// Why an entry stands for attempts whose records could not be read.
pub const RECOVERED: &str = "RecordsRecovered";

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Outcome {
    /// The release proved healthy.
    Healthy,
    /// It failed, and the last healthy one runs again, proved healthy.
    Reverted,
    /// It failed; before the switch what ran is untouched, after it nothing healthy runs.
    Failed,
    /// A newer state came first.
    Superseded,
    /// The agent died in it.
    Interrupted,
    /// It was not begun: quarantined, blocked, for another environment.
    Refused,
    /// The app was taken off this host, as the state asked.
    Removed,
    /// It ran here before landfall did; from then on it is a release to go back to.
    Adopted,
    /// It was switched to and not started, as asked: nothing is known of it.
    Unverified,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Healthy => "Healthy",
            Self::Reverted => "Reverted",
            Self::Failed => "Failed",
            Self::Superseded => "Superseded",
            Self::Interrupted => "Interrupted",
            Self::Refused => "Refused",
            Self::Removed => "Removed",
            Self::Adopted => "Adopted",
            Self::Unverified => "Unverified",
        })
    }
}

/// One attempt, as it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its number, ascending in one app and environment.
    pub attempt: u64,
    /// Which app.
    pub app: Name,
    /// In which environment.
    pub environment: Name,
    /// What was asked, by whom, why.
    pub target: Target,
    /// The release, if it got that far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseRef>,
    /// How it ended.
    pub result: Outcome,
    /// The last stage it was in.
    pub stage: Stage,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// What it healed; none: it brought what the state asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heals: Option<Drift>,
    /// What ran before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<ReleaseRef>,
    /// When it began, by the wall clock; shown, and compared only to bound how often is healed.
    pub started: Timestamp,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// How long each stage took, in their order. Absent in entries of an older landfall; a stage that a crash
    /// cut short is missing, and one that was entered again after it stands there again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<StageTime>,
    /// After how many milliseconds an agent tries the same again if nothing changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_in_ms: Option<u64>,
    /// An interruption that was no crash: the agent was stopped in an orderly way.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stopped: bool,
    /// What became of the `after` steps; absent: nothing is to be said of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<After>,
    /// The hash of the entry before; 64 zeros in the first.
    pub parent: Digest,
}

impl Entry {
    /// The entry's own hash.
    pub fn hash(&self) -> Digest {
        let bytes = json::encode(self).expect("entries hold only integers JSON can say exactly");
        Digest::derived(CONTEXT, &bytes)
    }

    /// When it ended, by the wall clock; only shown.
    pub fn ended(&self) -> Timestamp {
        later(self.started, self.took_ms)
    }

    /// When an agent that goes on running tries the same again if nothing changes; only shown.
    pub fn next_try(&self) -> Option<Timestamp> {
        self.retry_in_ms.map(|pause| later(self.ended(), pause))
    }

    /// Whether the attempt proved its release healthy or not; `None` if it says nothing of that: what failed
    /// before the switch, was cut short, or was a restart of a release that had proved healthy before.
    pub fn verdict(&self) -> Option<bool> {
        match (self.result, self.stage) {
            (Outcome::Healthy | Outcome::Adopted, _) => Some(true),
            (Outcome::Reverted, _) | (Outcome::Failed, Stage::Reverting) => Some(false),
            (
                Outcome::Failed
                | Outcome::Superseded
                | Outcome::Interrupted
                | Outcome::Refused
                | Outcome::Removed
                | Outcome::Unverified,
                _,
            ) => None,
        }
    }

    /// Whether it stands for attempts whose records could not be read.
    pub fn is_recovery(&self) -> bool {
        self.failure.as_ref().is_some_and(|failure| failure.reason == RECOVERED)
    }

    /// The entry that ends this attempt.
    pub fn ending(
        journal: &Journal,
        result: Outcome,
        failure: Option<Failure>,
        took_ms: u64,
        parent: Digest,
    ) -> Self {
        Self {
            attempt: journal.attempt,
            app: journal.app.clone(),
            environment: journal.environment.clone(),
            target: journal.target.clone(),
            release: journal.to.clone(),
            result,
            stage: journal.stage,
            failure,
            heals: journal.heals,
            previous: journal.from.clone(),
            started: journal.started,
            took_ms,
            stages: journal.stages.clone(),
            retry_in_ms: None,
            stopped: journal.stopped && result == Outcome::Interrupted,
            after: journal.after.clone().filter(|after| *after != After::Done),
            parent,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Line {
    #[serde(flatten)]
    entry: Entry,
    #[serde(rename = "entry")]
    hash: Digest,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    entries: u64,
    last: Digest,
}

impl Sealed for Head {
    const KIND: &'static str = "history-head";
}

/// Parent of the first entry.
pub const NO_PARENT: Digest = Digest::from_bytes([0; 32]);

/// The whole history of one app in one environment, checked.
#[derive(Debug, Clone, Default)]
pub struct History {
    entries: Vec<Entry>,
    /// The hash of each entry, as its line has it.
    hashes: Vec<Digest>,
    /// Bytes of the whole lines in the file.
    whole: usize,
    /// The last line was cut by a crash before it was durable.
    torn: bool,
    /// Entries the head record speaks of: all, or after a crash all but the last.
    headed: u64,
}

impl History {
    /// Reads and checks every link of the chain.
    pub fn read(disk: &dyn Disk, dir: &AppDir) -> Result<Self, RecordError> {
        let path = dir.history();
        // The head first: an entry that an agent appends between the two reads is one more than the head says,
        // which is what a crash may leave, too; the other way round it would look cut.
        let head: Option<Head> = sealed::read(disk, &dir.history_head())?;
        let bytes = disk.read(&path, HISTORY_BYTES_MAX).map_err(RecordError::io(&path))?.unwrap_or_default();
        let damaged = |why: String| RecordError::Damaged { path: path.clone(), why };
        let mut history = Self::parse(&bytes).map_err(damaged)?;
        history.check_head(head.as_ref()).map_err(damaged)?;
        history.headed = head.map_or(0, |head| head.entries);
        Ok(history)
    }

    /// The entries of these lines, every link of their chain checked from the first on. That nothing is missing at
    /// the end is for the head record to say. An error says what is wrong with which entry.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let (mut history, mut last) = (Self::default(), NO_PARENT);
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            if !line.ends_with(b"\n") {
                history.torn = true;
                break;
            }
            let number = history.entries.len() + 1;
            let Line { entry, hash } =
                serde_json::from_slice(line).map_err(|error| format!("entry {number}: {error}"))?;
            if hash_of(line) != Some(hash) {
                return Err(format!("entry {number} was changed: its hash does not fit"));
            }
            if entry.parent != last {
                return Err(format!("entry {number} does not follow the one before it"));
            }
            last = hash;
            history.entries.push(entry);
            history.hashes.push(hash);
            history.whole += line.len();
        }
        Ok(history)
    }

    /// The hash of each entry, oldest first.
    pub fn hashes(&self) -> &[Digest] {
        &self.hashes
    }

    /// The entries from the first on whose chain holds, whatever follows them, and how many lines do follow.
    pub fn salvage(disk: &dyn Disk, dir: &AppDir) -> Result<(Vec<Entry>, usize), RecordError> {
        let path = dir.history();
        let bytes = disk.read(&path, HISTORY_BYTES_MAX).map_err(RecordError::io(&path))?.unwrap_or_default();
        let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
        let mut history = Self::default();
        for line in &lines {
            match serde_json::from_slice::<Line>(line) {
                Ok(Line { entry, hash })
                    if line.ends_with(b"\n")
                        && entry.hash() == hash
                        && entry.parent == history.last_hash() =>
                {
                    history.entries.push(entry);
                    history.hashes.push(hash);
                }
                _ => break,
            }
        }
        let lost = lines.len() - history.entries.len();
        Ok((history.entries, lost))
    }

    /// How many entries the head record speaks of; 0 where it cannot be read.
    pub fn headed(disk: &dyn Disk, dir: &AppDir) -> u64 {
        let head = sealed::read::<Head>(disk, &dir.history_head());
        head.ok().flatten().map_or(0, |head| head.entries)
    }

    /// Puts these entries, which must chain, in place of everything there is.
    pub fn replace(disk: &dyn Disk, dir: &AppDir, entries: Vec<Entry>) -> Result<(), RecordError> {
        let whole: String = entries.iter().map(line_of).collect();
        disk.replace(&dir.history(), whole.as_bytes()).map_err(RecordError::io(dir.history()))?;
        let hashes = entries.iter().map(Entry::hash).collect();
        let mut history = Self { entries, hashes, whole: whole.len(), torn: false, headed: 0 };
        history.carry_head_on(disk, dir)
    }

    fn check_head(&self, head: Option<&Head>) -> Result<(), String> {
        let Some(head) = head else {
            return if self.entries.len() > 1 {
                Err("its head record is missing".to_owned())
            } else {
                Ok(())
            };
        };
        let known = usize::try_from(head.entries).map_err(|_| "its head record is absurd".to_owned())?;
        let reached = match known {
            0 => Some(NO_PARENT),
            _ => self.hashes.get(known - 1).copied(),
        };
        match reached {
            Some(hash) if hash == head.last && self.entries.len() <= known + 1 => Ok(()),
            Some(_) => Err(format!("entry {known} is not the one its head record names")),
            None => Err(format!("{} entries are left of {known}", self.entries.len())),
        }
    }

    /// Adds an entry, durably: on return it survives a power cut.
    pub fn append(&mut self, disk: &dyn Disk, dir: &AppDir, entry: Entry) -> Result<(), RecordError> {
        if self.torn {
            self.rewrite(disk, dir)?;
        }
        // The head may lag by one entry, never by two: otherwise a cut of two could not be told from a crash.
        if self.headed < self.entries.len() as u64 {
            self.carry_head_on(disk, dir)?;
        }
        let line = line_of(&entry);
        if let Err(error) = disk.append(&dir.history(), line.as_bytes()) {
            // Some of the line may be there; the next append starts from what is known to be whole.
            self.torn = true;
            return Err(RecordError::io(dir.history())(error));
        }
        self.hashes.push(entry.hash());
        self.whole += line.len();
        self.entries.push(entry);
        self.carry_head_on(disk, dir)
    }

    fn carry_head_on(&mut self, disk: &dyn Disk, dir: &AppDir) -> Result<(), RecordError> {
        let head = Head { entries: self.entries.len() as u64, last: self.last_hash() };
        sealed::write(disk, &dir.history_head(), &head)?;
        self.headed = head.entries;
        Ok(())
    }

    /// Drops a torn last line, which nobody was ever told about.
    fn rewrite(&mut self, disk: &dyn Disk, dir: &AppDir) -> Result<(), RecordError> {
        let path = dir.history();
        let bytes = disk.read(&path, HISTORY_BYTES_MAX).map_err(RecordError::io(&path))?.unwrap_or_default();
        // The lines as they are: a newer landfall may have written keys that this one does not know.
        let Some(whole) = bytes.get(..self.whole) else {
            return Err(RecordError::Damaged { path, why: "it became shorter while it was used".to_owned() });
        };
        disk.replace(&path, whole).map_err(RecordError::io(&path))?;
        self.torn = false;
        Ok(())
    }

    /// All entries, oldest first.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The newest entry.
    pub fn last(&self) -> Option<&Entry> {
        self.entries.last()
    }

    /// The hash the next entry names as its parent.
    pub fn last_hash(&self) -> Digest {
        self.hashes.last().copied().unwrap_or(NO_PARENT)
    }

    /// The number of the next attempt.
    pub fn next_attempt(&self) -> u64 {
        self.last().map_or(1, |entry| entry.attempt + 1)
    }

    /// Releases whose last verdict here was healthy, most recently proved first. A revert proves nothing new:
    /// its target stands where its own entry put it; what it reverted is out until it proves itself again.
    pub fn healthy(&self) -> Vec<&ReleaseRef> {
        Self::healthy_in(&self.entries)
    }

    /// The same of entries alone.
    pub fn healthy_in(entries: &[Entry]) -> Vec<&ReleaseRef> {
        let mut judged = std::collections::HashSet::new();
        entries
            .iter()
            .rev()
            .filter_map(|entry| Some((entry.release.as_ref()?, entry.verdict()?)))
            .filter(|(release, _)| judged.insert(release.identity))
            .filter_map(|(release, healthy)| healthy.then_some(release))
            .collect()
    }

    /// Releases that were switched to and never judged since, because whoever released them starts and proves them
    /// himself: the newest first.
    pub fn unproved(&self) -> Vec<&ReleaseRef> {
        let mut seen = std::collections::HashSet::new();
        let says = |entry: &&Entry| entry.verdict().is_some() || entry.result == Outcome::Unverified;
        let last = self.entries.iter().rev().filter(says);
        let last = last.filter_map(|entry| Some((entry.release.as_ref()?, entry)));
        last.filter(|(release, _)| seen.insert(release.identity))
            .filter_map(|(release, entry)| (entry.result == Outcome::Unverified).then_some(release))
            .collect()
    }

    /// The proved release that landfall left linked. None: no release ever proved healthy, or what the last
    /// attempt to touch `current` left there is not known to be one that did.
    pub fn left(&self) -> Option<&ReleaseRef> {
        let proved = self.healthy().into_iter().next()?;
        let of_it = |entry: &Entry| entry.release.as_ref() == Some(proved);
        let touched = |entry: &Entry| !of_it(entry) && entry.stage >= Stage::Switching;
        let says = |entry: &&Entry| of_it(entry) || touched(entry) || entry.is_recovery();
        match self.entries.iter().rev().find(says) {
            // What was linked meanwhile stands in no record that can be read.
            Some(entry) if entry.is_recovery() => None,
            Some(entry) if entry.stage == Stage::Removing => None,
            // It runs outside landfall: nothing is linked.
            Some(entry) if entry.result == Outcome::Adopted => None,
            // An interruption is noted as an attempt's end only where `current` had not been switched.
            Some(entry) if of_it(entry) => Some(proved),
            Some(entry) if matches!(entry.result, Outcome::Reverted | Outcome::Interrupted) => Some(proved),
            _ => None,
        }
    }
}

fn later(from: Timestamp, ms: u64) -> Timestamp {
    let span = jiff::SignedDuration::from_millis(i64::try_from(ms).unwrap_or(i64::MAX));
    from.checked_add(span).unwrap_or(from)
}

/// The hash over a line's keys, those that this landfall does not know included.
fn hash_of(line: &[u8]) -> Option<Digest> {
    let mut keys: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(line).ok()?;
    keys.remove("entry");
    let bytes = json::encode(&keys).ok()?;
    Some(Digest::derived(CONTEXT, &bytes))
}

fn line_of(entry: &Entry) -> String {
    let line = Line { entry: entry.clone(), hash: entry.hash() };
    let mut json = serde_json::to_string(&line).expect("records hold only what JSON can say");
    json.push('\n');
    json
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;
    use crate::layout::Root;
    use landfall_store::ArtifactId;

    fn app_dir(root: &std::path::Path) -> AppDir {
        let dir = Root::new(root).unwrap().app(&"web".parse().unwrap(), &"prod".parse().unwrap(), None);
        for path in dir.to_create() {
            std::fs::create_dir_all(path).unwrap();
        }
        dir
    }

    fn entry(history: &History, result: Outcome, artifact: &str) -> Entry {
        let artifact = ArtifactId::of(artifact.as_bytes());
        Entry {
            attempt: history.next_attempt(),
            app: "web".parse().unwrap(),
            environment: "prod".parse().unwrap(),
            target: Target::of(artifact),
            release: Some(ReleaseRef::new(artifact, artifact.0, "1.0".parse().unwrap())),
            result,
            stage: Stage::Committing,
            failure: None,
            heals: None,
            previous: None,
            started: Timestamp::UNIX_EPOCH,
            took_ms: 5,
            stages: vec![],
            retry_in_ms: None,
            stopped: false,
            after: None,
            parent: history.last_hash(),
        }
    }

    fn three(dir: &AppDir) -> History {
        let mut history = History::read(&RealDisk, dir).unwrap();
        for (result, name) in [(Outcome::Healthy, "a"), (Outcome::Healthy, "b"), (Outcome::Reverted, "c")] {
            history.append(&RealDisk, dir, entry(&history, result, name)).unwrap();
        }
        history
    }

    #[test]
    fn an_entry_of_an_older_landfall_without_times_of_stages_keeps_its_hash() {
        let root = tempfile::tempdir().unwrap();
        let dir = app_dir(root.path());
        let mut history = three(&dir);
        assert!(!std::fs::read_to_string(dir.history()).unwrap().contains("stages"));
        let stages = vec![StageTime { stage: Stage::Fetching, ms: 7 }];
        let timed = Entry { stages, ..entry(&history, Outcome::Healthy, "d") };
        history.append(&RealDisk, &dir, timed.clone()).unwrap();
        assert_eq!(History::read(&RealDisk, &dir).unwrap().last(), Some(&timed));
    }

    #[test]
    fn the_last_healthy_release_is_the_last_that_proved_healthy_not_the_last_tried() {
        let root = tempfile::tempdir().unwrap();
        let history = three(&app_dir(root.path()));
        let healthy: Vec<_> = history.healthy().iter().map(|release| release.artifact).collect();
        assert_eq!(healthy, [ArtifactId::of(b"b"), ArtifactId::of(b"a")]);
    }

    #[test]
    fn a_release_that_failed_after_it_was_healthy_is_no_place_to_go_back_to() {
        let root = tempfile::tempdir().unwrap();
        let dir = app_dir(root.path());
        let mut history = three(&dir);
        history.append(&RealDisk, &dir, entry(&history, Outcome::Reverted, "a")).unwrap();
        let healthy: Vec<_> = history.healthy().iter().map(|release| release.artifact).collect();
        assert_eq!(healthy, [ArtifactId::of(b"b")]);
    }

    #[test]
    fn what_was_not_started_is_unproved_until_it_is_judged_the_newest_first() {
        let root = tempfile::tempdir().unwrap();
        let dir = app_dir(root.path());
        let mut history = three(&dir);
        let tried = [
            (Outcome::Unverified, "b"),
            (Outcome::Unverified, "d"),
            (Outcome::Unverified, "e"),
            (Outcome::Unverified, "f"),
            (Outcome::Unverified, "d"),
            (Outcome::Healthy, "e"),
            (Outcome::Reverted, "f"),
            (Outcome::Failed, "d"),
        ];
        for (result, name) in tried {
            history.append(&RealDisk, &dir, entry(&history, result, name)).unwrap();
        }
        let unproved: Vec<_> = history.unproved().iter().map(|release| release.artifact).collect();
        assert_eq!(unproved, [ArtifactId::of(b"d"), ArtifactId::of(b"b")]);
    }

    #[test]
    fn b34_dropped_reordered_changed_and_cut_entries_are_noticed() {
        let root = tempfile::tempdir().unwrap();
        let dir = app_dir(root.path());
        three(&dir);
        let good = std::fs::read_to_string(dir.history()).unwrap();
        let lines: Vec<&str> = good.split_inclusive('\n').collect();
        let forged = [
            [lines[1], lines[2]].concat(),
            [lines[0], lines[2]].concat(),
            [lines[0], lines[1]].concat(),
            [lines[1], lines[0], lines[2]].concat(),
            [lines[0], lines[1], lines[1], lines[2]].concat(),
            good.replace("\"took_ms\":5", "\"took_ms\":6"),
            String::new(),
        ];
        for text in forged {
            std::fs::write(dir.history(), &text).unwrap();
            assert!(History::read(&RealDisk, &dir).is_err(), "accepted: {text}");
        }
    }

    #[test]
    fn what_was_left_linked_is_what_proved_itself_last_unless_something_else_may_be_linked() {
        let with = |more: &[(Outcome, Stage, &str)]| {
            let mut history = History::default();
            for (result, stage, artifact) in [&[(Outcome::Healthy, Stage::Committing, "a")], more].concat() {
                let entry = Entry { stage, ..entry(&history, result, artifact) };
                history.entries.push(entry);
            }
            history.left().map(|release| release.artifact == ArtifactId::of(b"a"))
        };
        assert_eq!(History::default().left(), None);
        assert_eq!(with(&[]), Some(true));
        assert_eq!(with(&[(Outcome::Failed, Stage::Migrating, "b")]), Some(true));
        assert_eq!(with(&[(Outcome::Reverted, Stage::Reverting, "b")]), Some(true));
        assert_eq!(with(&[(Outcome::Interrupted, Stage::Switching, "b")]), Some(true));
        assert_eq!(with(&[(Outcome::Failed, Stage::Starting, "a")]), Some(true), "a restart that failed");
        assert_eq!(with(&[(Outcome::Healthy, Stage::Committing, "b")]), Some(false));
        assert_eq!(with(&[(Outcome::Superseded, Stage::Verifying, "b")]), None, "b is linked, and unproved");
        assert_eq!(with(&[(Outcome::Failed, Stage::Reverting, "b")]), None, "either may be linked");
        assert_eq!(with(&[(Outcome::Removed, Stage::Removing, "a")]), None, "it was taken away");
    }

    #[test]
    fn every_flipped_byte_of_the_history_is_noticed() {
        let root = tempfile::tempdir().unwrap();
        let dir = app_dir(root.path());
        three(&dir);
        let good = std::fs::read(dir.history()).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(dir.history(), &bad).unwrap();
            assert!(History::read(&RealDisk, &dir).is_err(), "byte {at} of {}", good.len());
        }
    }

    #[test]
    fn a_line_torn_by_a_crash_is_dropped_and_the_history_goes_on() {
        let root = tempfile::tempdir().unwrap();
        let dir = app_dir(root.path());
        let written = three(&dir);
        RealDisk.append(&dir.history(), b"{\"attempt\":4,\"app\":\"we").unwrap();
        let mut history = History::read(&RealDisk, &dir).unwrap();
        assert_eq!(history.entries(), written.entries());
        history.append(&RealDisk, &dir, entry(&history, Outcome::Healthy, "d")).unwrap();
        assert_eq!(History::read(&RealDisk, &dir).unwrap().entries().len(), 4);
    }

    #[test]
    fn an_entry_with_keys_of_a_newer_landfall_is_read_and_kept_as_it_is() {
        let root = tempfile::tempdir().unwrap();
        let dir = app_dir(root.path());
        let written = three(&dir);
        // A fourth entry, as a later landfall of the same format writes it.
        let next = entry(&written, Outcome::Healthy, "d");
        let mut keys = serde_json::json!(next);
        keys["weather"] = "fine".into();
        let hash = Digest::derived(CONTEXT, &json::encode(&keys).unwrap());
        keys["entry"] = serde_json::json!(hash);
        let line = format!("{keys}\n");
        RealDisk.append(&dir.history(), line.as_bytes()).unwrap();
        RealDisk.append(&dir.history(), b"{\"attempt\":5,\"app\":\"we").unwrap();
        let mut history = History::read(&RealDisk, &dir).unwrap();
        assert_eq!(history.last_hash(), hash);
        history.append(&RealDisk, &dir, entry(&history, Outcome::Healthy, "e")).unwrap();
        let text = std::fs::read_to_string(dir.history()).unwrap();
        assert!(text.contains(&line), "the newer landfall's entry was rewritten: {text}");
        assert_eq!(History::read(&RealDisk, &dir).unwrap().entries().len(), 5);
        std::fs::write(dir.history(), text.replace("fine", "foul")).unwrap();
        assert!(History::read(&RealDisk, &dir).is_err(), "an unknown key may be changed unnoticed");
    }

    #[test]
    fn a_crash_between_entry_and_head_loses_nothing() {
        let root = tempfile::tempdir().unwrap();
        let dir = app_dir(root.path());
        let mut history = three(&dir);
        let head = std::fs::read(dir.history_head()).unwrap();
        history.append(&RealDisk, &dir, entry(&history, Outcome::Healthy, "d")).unwrap();
        std::fs::write(dir.history_head(), head).unwrap();
        assert_eq!(History::read(&RealDisk, &dir).unwrap().entries().len(), 4);
    }
}
