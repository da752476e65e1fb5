//! What to do about an attempt that a crash cut short: a pure decision over the journal and the disk.

use crate::plan::Current;
use crate::record::history::Entry;
use crate::record::journal::{Journal, Stage};
use crate::record::release::ReleaseRef;

/// How an interrupted attempt goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovery {
    /// Its entry is in the history; only the journal was left.
    ClearJournal,
    /// Nothing that runs was touched: note the interruption and decide afresh.
    Abandon,
    /// `current` is switched: start it, verify it from zero.
    Resume {
        /// The release on trial.
        release: ReleaseRef,
    },
    /// The verdict was healthy; only its entry is missing.
    Commit {
        /// The release that proved healthy.
        release: ReleaseRef,
    },
    /// The app is gone; only the entry that says so is missing.
    Removed,
    /// It had failed, or crashed the agent twice: finish going back first.
    Revert {
        /// Why, if the journal does not say.
        crashed_again: bool,
    },
    /// The disk is not what the journal can explain: change nothing, say so.
    Hold(String),
}

/// Crashes survived after the switch before the release counts as unhealthy.
const RESUMES_MAX: u32 = 1;

/// Decides. Pure.
pub fn recover(journal: &Journal, current: &Current, last: Option<&Entry>) -> Recovery {
    if last.is_some_and(|entry| entry.attempt >= journal.attempt) {
        return Recovery::ClearJournal;
    }
    if let Current::Broken(why) = current {
        return Recovery::Hold(format!("`current` is not as landfall left it: {why}"));
    }
    let named = current.release();
    let switched = named.is_some() && named.map(|r| r.identity) == journal.to.as_ref().map(|r| r.identity);
    match (journal.stage, &journal.to) {
        (Stage::Fetching | Stage::Preparing | Stage::Migrating | Stage::Preflight, _) => Recovery::Abandon,
        // Every part of a removal can be done again, and the state may have changed its mind.
        (Stage::Removing, _) if named.is_some() => Recovery::Abandon,
        (Stage::Removing, _) => Recovery::Removed,
        (Stage::Reverting, _) => Recovery::Revert { crashed_again: false },
        (Stage::Switching | Stage::Starting | Stage::Verifying | Stage::Committing, None) => {
            Recovery::Hold(format!("the journal is in {} and names no release", journal.stage))
        }
        (Stage::Switching, Some(_)) if !switched => Recovery::Abandon,
        (Stage::Starting | Stage::Verifying | Stage::Committing, Some(to)) if !switched => Recovery::Hold(
            format!("`current` is {}, the journal in {} says {}", elsewhere(current), journal.stage, to.name),
        ),
        (Stage::Committing, Some(to)) => Recovery::Commit { release: to.clone() },
        (Stage::Switching | Stage::Starting | Stage::Verifying, Some(to)) => {
            if journal.resumed < RESUMES_MAX || journal.stopped {
                Recovery::Resume { release: to.clone() }
            } else if journal.heals.is_some() {
                // It proved healthy before: there is nothing to go back from. Healing begins anew if it must.
                Recovery::Abandon
            } else {
                Recovery::Revert { crashed_again: true }
            }
        }
    }
}

fn elsewhere(current: &Current) -> &str {
    match current {
        Current::Absent => "absent",
        Current::Release(release) => &release.name,
        Current::Moved(why) | Current::Broken(why) => why,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::journal::{Drift, Target};
    use jiff::Timestamp;
    use landfall_store::{ArtifactId, Digest};

    fn release(name: &str) -> ReleaseRef {
        ReleaseRef::new(ArtifactId::of(name.as_bytes()), Digest::of(name.as_bytes()), name.parse().unwrap())
    }

    fn journal(stage: Stage) -> Journal {
        Journal {
            app: "web".parse().unwrap(),
            environment: "prod".parse().unwrap(),
            attempt: 2,
            target: Target::of(release("b").artifact),
            to: Some(release("b")),
            from: Some(release("a")),
            healthy: Some(release("a")),
            stage,
            resumed: 0,
            heals: None,
            failure: None,
            started: Timestamp::UNIX_EPOCH,
            stages: vec![],
            waiting: None,
            stopped: false,
            after: None,
        }
    }

    fn at(name: &str) -> Current {
        Current::Release(release(name))
    }

    #[test]
    fn before_the_switch_nothing_that_runs_was_touched() {
        for stage in [Stage::Fetching, Stage::Preparing, Stage::Migrating, Stage::Preflight, Stage::Switching]
        {
            assert_eq!(recover(&journal(stage), &at("a"), None), Recovery::Abandon, "{stage}");
            assert_eq!(recover(&journal(stage), &Current::Absent, None), Recovery::Abandon, "{stage}");
        }
    }

    #[test]
    fn after_the_switch_the_release_is_verified_from_zero_once() {
        for stage in [Stage::Switching, Stage::Starting, Stage::Verifying] {
            let first = journal(stage);
            assert_eq!(
                recover(&first, &at("b"), None),
                Recovery::Resume { release: release("b") },
                "{stage}"
            );
            let second = Journal { resumed: 1, ..first };
            assert_eq!(recover(&second, &at("b"), None), Recovery::Revert { crashed_again: true }, "{stage}");
        }
    }

    #[test]
    fn an_agent_that_was_stopped_in_an_orderly_way_counts_as_no_crash() {
        let crashed_before = Journal { resumed: 1, stopped: true, ..journal(Stage::Verifying) };
        let expected = Recovery::Resume { release: release("b") };
        assert_eq!(recover(&crashed_before, &at("b"), None), expected);
    }

    #[test]
    fn a_healing_that_crashed_twice_reverts_nothing() {
        let twice = Journal { resumed: 1, heals: Some(Drift::ProcessMissing), ..journal(Stage::Verifying) };
        assert_eq!(recover(&twice, &at("b"), None), Recovery::Abandon);
    }

    #[test]
    fn a_begun_revert_is_finished_wherever_current_is() {
        for current in [at("a"), at("b"), Current::Absent] {
            let found = recover(&journal(Stage::Reverting), &current, None);
            assert_eq!(found, Recovery::Revert { crashed_again: false });
        }
    }

    #[test]
    fn a_removal_is_begun_again_until_the_link_is_gone() {
        assert_eq!(recover(&journal(Stage::Removing), &at("a"), None), Recovery::Abandon);
        assert_eq!(recover(&journal(Stage::Removing), &Current::Absent, None), Recovery::Removed);
    }

    #[test]
    fn a_verdict_that_was_reached_is_not_reached_again() {
        assert_eq!(
            recover(&journal(Stage::Committing), &at("b"), None),
            Recovery::Commit { release: release("b") }
        );
    }

    #[test]
    fn what_the_journal_cannot_explain_is_left_alone() {
        for (stage, current) in [
            (Stage::Verifying, at("z")),
            (Stage::Starting, Current::Absent),
            (Stage::Switching, Current::Broken("a file".into())),
        ] {
            assert!(matches!(recover(&journal(stage), &current, None), Recovery::Hold(_)), "{stage}");
        }
        let nameless = Journal { to: None, ..journal(Stage::Starting) };
        assert!(matches!(recover(&nameless, &at("a"), None), Recovery::Hold(_)));
    }
}
