//! From a host's history to the times in which each release was in service. Pure.

use jiff::{SignedDuration, Timestamp};
use landfall_store::Name;

use super::Run;
use crate::record::history::{Entry, Outcome};
use crate::record::journal::Stage;
use crate::record::release::ReleaseRef;

/// Word for a release that landfall went back to.
const WENT_BACK: &str = "WentBack";

/// Every attempt of one app on one host, oldest first. What was only put right again, as after a crash, is the same
/// run going on.
pub fn runs(host: &Name, entries: &[Entry]) -> Vec<Run> {
    let mut tape = Tape { host, runs: Vec::new(), serving: None };
    for entry in entries {
        tape.add(entry);
    }
    tape.runs
}

struct Tape<'a> {
    host: &'a Name,
    runs: Vec<Run>,
    /// The run that is in service.
    serving: Option<usize>,
}

impl Tape<'_> {
    fn add(&mut self, entry: &Entry) {
        if entry.is_recovery() {
            // What was in service meanwhile stands in no record.
            self.stop(entry.started);
            return;
        }
        let switched = switched(entry);
        match entry.result {
            Outcome::Healthy if entry.heals.is_some() => {
                if !self.serves(entry.release.as_ref()) {
                    self.start(entry, switched);
                }
            }
            Outcome::Healthy | Outcome::Unverified => self.start(entry, switched),
            Outcome::Adopted => self.start(entry, entry.started),
            Outcome::Reverted => {
                self.start(entry, switched);
                self.stop(entry.ended());
                self.go_back(entry);
            }
            Outcome::Failed if entry.stage >= Stage::Switching && entry.heals.is_none() => {
                self.start(entry, switched);
                self.stop(entry.ended());
            }
            Outcome::Failed if entry.heals.is_some() => {
                self.stop(entry.ended());
                self.runs.push(self.row(entry));
            }
            Outcome::Removed => {
                self.stop(entry.ended());
                self.runs.push(self.row(entry));
            }
            Outcome::Failed | Outcome::Superseded | Outcome::Interrupted | Outcome::Refused => {
                self.runs.push(self.row(entry));
            }
        }
    }

    fn serves(&self, release: Option<&ReleaseRef>) -> bool {
        let serving = self.serving.and_then(|at| self.runs.get(at));
        serving.zip(release).is_some_and(|(run, release)| run.artifact == release.artifact)
    }

    fn start(&mut self, entry: &Entry, when: Timestamp) {
        self.stop(when);
        self.serving = Some(self.runs.len());
        self.runs.push(Run { from: Some(when), ..self.row(entry) });
    }

    fn stop(&mut self, when: Timestamp) {
        if let Some(run) = self.serving.take().and_then(|at| self.runs.get_mut(at)) {
            run.until = Some(when);
        }
    }

    /// The release before is in service again once the attempt has ended.
    fn go_back(&mut self, entry: &Entry) {
        let Some(previous) = &entry.previous else { return };
        let asked =
            self.runs.iter().rev().find(|run| run.artifact == previous.artifact && run.from.is_some());
        let asked = asked.cloned();
        self.serving = Some(self.runs.len());
        self.runs.push(Run {
            artifact: previous.artifact,
            version: Some(previous.version.clone()),
            result: Some(Outcome::Healthy),
            reason: Some(WENT_BACK.to_owned()),
            from: Some(entry.ended()),
            until: None,
            by: asked.as_ref().and_then(|run| run.by.clone()),
            why: asked.as_ref().and_then(|run| run.why.clone()),
            state_commit: asked.as_ref().and_then(|run| run.state_commit.clone()),
            ..self.row(entry)
        });
    }

    fn row(&self, entry: &Entry) -> Run {
        Run {
            app: entry.app.clone(),
            environment: entry.environment.clone(),
            host: Some(self.host.clone()),
            artifact: entry.release.as_ref().map_or(entry.target.artifact, |release| release.artifact),
            version: entry
                .release
                .as_ref()
                .map(|release| release.version.clone())
                .or_else(|| entry.target.version.clone()),
            attempt: Some(entry.attempt),
            result: Some(entry.result),
            reason: entry.failure.as_ref().map(|failure| failure.reason.clone()),
            from: None,
            until: None,
            tried: Some(entry.started),
            by: entry.target.by.clone(),
            why: entry.target.why.clone(),
            state_commit: entry.target.state_commit.clone(),
            commit: None,
            entry: Some(entry.hash().to_string()),
            accepted: None,
        }
    }
}

/// When `current` was switched: after the stages that come before. Entries without stages know only their end.
fn switched(entry: &Entry) -> Timestamp {
    if entry.stages.is_empty() {
        return entry.ended();
    }
    let before = entry.stages.iter().take_while(|time| time.stage < Stage::Switching).map(|time| time.ms);
    let before = SignedDuration::from_millis(i64::try_from(before.sum::<u64>()).unwrap_or(i64::MAX));
    entry.started.checked_add(before).unwrap_or(entry.started)
}

#[cfg(test)]
mod tests {
    use landfall_store::{ArtifactId, Digest};

    use super::*;
    use crate::record::history::NO_PARENT;
    use crate::record::journal::{Class, Drift, Failure, StageTime, Target};

    fn release(name: &str) -> ReleaseRef {
        let hash = Digest::of(name.as_bytes());
        ReleaseRef::new(ArtifactId(hash), hash, name.parse().unwrap())
    }

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(1_763_000_000 + minute * 60).unwrap()
    }

    /// An attempt that took a minute, half of it before the switch.
    fn entry(minute: i64, name: &str, result: Outcome, previous: Option<&str>) -> Entry {
        let release = release(name);
        Entry {
            attempt: minute as u64,
            app: "web".parse().unwrap(),
            environment: "prod".parse().unwrap(),
            target: Target { by: Some(format!("{name}@a")), ..Target::of(release.artifact) },
            release: Some(release),
            result,
            stage: if result == Outcome::Reverted { Stage::Reverting } else { Stage::Committing },
            failure: (result == Outcome::Reverted || result == Outcome::Failed).then(|| Failure {
                class: Class::Health,
                reason: "HealthCheckFailed".to_owned(),
                message: String::new(),
            }),
            heals: None,
            previous: previous.map(self::release),
            started: at(minute),
            took_ms: 60_000,
            stages: vec![
                StageTime { stage: Stage::Fetching, ms: 30_000 },
                StageTime { stage: Stage::Switching, ms: 30_000 },
            ],
            retry_in_ms: None,
            stopped: false,
            after: None,
            parent: NO_PARENT,
        }
    }

    /// `version from..until` of what was in service, in half minutes.
    fn told(entries: &[Entry]) -> Vec<String> {
        let halves = |when: Timestamp| when.duration_since(at(0)).as_secs() / 30;
        let until = |run: &Run| run.until.map_or_else(String::new, |when| halves(when).to_string());
        let host = "h1".parse().unwrap();
        let runs = runs(&host, entries);
        let served = runs.iter().filter_map(|run| Some((run, run.from?)));
        served
            .map(|(run, from)| format!("{} {}..{}", run.version.as_ref().unwrap(), halves(from), until(run)))
            .collect()
    }

    #[test]
    fn a_release_serves_from_its_switch_to_the_next() {
        let entries = [entry(0, "1", Outcome::Healthy, None), entry(10, "2", Outcome::Healthy, Some("1"))];
        assert_eq!(told(&entries), ["1 1..21", "2 21.."]);
    }

    #[test]
    fn a_reverted_release_served_until_its_revert_and_the_one_before_serves_again() {
        let entries = [
            entry(0, "1", Outcome::Healthy, None),
            entry(10, "2", Outcome::Reverted, Some("1")),
            entry(20, "3", Outcome::Healthy, Some("1")),
        ];
        assert_eq!(told(&entries), ["1 1..21", "2 21..22", "1 22..41", "3 41.."]);
        let runs = runs(&"h1".parse().unwrap(), &entries);
        assert_eq!(runs[2].reason.as_deref(), Some(WENT_BACK));
        assert_eq!(runs[2].by.as_deref(), Some("1@a"), "who asked for it is who asked for it then");
    }

    #[test]
    fn what_failed_before_the_switch_never_served() {
        let failed = Entry { stage: Stage::Preparing, ..entry(10, "2", Outcome::Failed, Some("1")) };
        let refused = Entry { stage: Stage::Fetching, ..entry(11, "3", Outcome::Refused, Some("1")) };
        let entries = [entry(0, "1", Outcome::Healthy, None), failed, refused];
        assert_eq!(told(&entries), ["1 1.."]);
        assert_eq!(runs(&"h1".parse().unwrap(), &entries).len(), 3, "that it was tried is told");
    }

    #[test]
    fn a_restart_after_a_crash_is_the_same_run_going_on() {
        let healed =
            Entry { heals: Some(Drift::ProcessMissing), ..entry(10, "1", Outcome::Healthy, Some("1")) };
        assert_eq!(told(&[entry(0, "1", Outcome::Healthy, None), healed]), ["1 1.."]);
    }

    #[test]
    fn a_removed_app_serves_no_more() {
        let removed = Entry { stage: Stage::Removing, ..entry(10, "1", Outcome::Removed, Some("1")) };
        assert_eq!(told(&[entry(0, "1", Outcome::Healthy, None), removed]), ["1 1..22"]);
    }
}
