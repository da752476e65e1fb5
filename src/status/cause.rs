//! The one thing that explains a status: conditions, sentence and hint all follow from it.

use std::path::PathBuf;

use jiff::Timestamp;

use super::{SourceView, View};
use crate::desired::Suspension;
use crate::plan::{Current, Desired, Facts, Hold, Plan, Refusal, decide};
use crate::record::content::Content;
use crate::record::controls::Pin;
use crate::record::history::{Entry, Outcome};
use crate::record::journal::{Drift, Failure, Journal, Stage};
use crate::record::quarantine::Interrupted;
use crate::record::release::ReleaseRef;
use crate::record::source::Wrong;

/// Why an app is as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cause {
    /// What should run runs.
    Fine {
        /// With env files that were edited since.
        env_changed: bool,
    },
    /// What should run runs, and files of its release are not as they were prepared.
    ContentChanged(Content),
    /// An attempt is in progress.
    Attempt(Journal),
    /// An attempt was begun and there is no agent to end it.
    CutShort(Journal),
    /// A person suspended the app.
    Suspended(Suspension),
    /// A person went back to the release that runs; what the state asks waits.
    Pinned(Box<Pin>),
    /// The state does not name it.
    NotInState,
    /// The state's words are wrong, all of them or those about this app.
    StateInvalid(String),
    /// The state is not to be trusted.
    StateRefused(Wrong),
    /// The repository has not answered for too long.
    SourceSilent(Timestamp),
    /// The state is past its own `not_after`.
    StateStale(Timestamp),
    /// The state cannot be read.
    SourceUnreachable(Wrong),
    /// The state blocks what it asks for.
    Blocked(String),
    /// What is wanted failed here.
    Quarantined { attempt: u64, release: ReleaseRef, failure: Failure },
    /// `current` is not as landfall left it.
    CurrentBroken(String),
    /// What is linked stopped and does not come back.
    WillNotRun(ReleaseRef),
    /// Two attempts in a row were cut short in the same stage.
    Interrupted(Interrupted),
    /// The host differs from what landfall left, and is about to be put right.
    Drifted(ReleaseRef, Drift),
    /// The last attempt failed, and not because of the release.
    Failed(Entry),
    /// There is something to do, and no room to write it down.
    NoRoom(PathBuf),
    /// What is wanted is not here yet.
    Pending,
    /// The app is to go, and does in a moment.
    Leaving(ReleaseRef),
    /// The app is gone, as the state asks.
    Removed,
}

/// Finds it. Pure.
pub(super) fn cause(view: &View) -> Cause {
    if let Current::Broken(why) = &view.facts.current {
        return Cause::CurrentBroken(why.clone());
    }
    match &view.journal {
        Some(journal) if view.agent => return Cause::Attempt(journal.clone()),
        Some(journal) => return Cause::CutShort(journal.clone()),
        None => {}
    }
    let facts = Facts { desired: view.wanted.clone(), ..view.facts.clone() };
    let plan = decide(&facts);
    if let (Some(full), true) = (&view.full, acts(&plan)) {
        return Cause::NoRoom(full.clone());
    }
    match plan {
        Plan::InSync { env_changed } => in_sync(view, env_changed),
        Plan::Hold(hold) => held(view, hold),
        Plan::Refuse(Refusal::Blocked(reason)) => Cause::Blocked(reason),
        Plan::Refuse(Refusal::Quarantined { attempt, release, failure }) => {
            Cause::Quarantined { attempt, release, failure }
        }
        Plan::Restart { release, heals, .. } => Cause::Drifted(release, heals),
        Plan::Remove { release } => match &view.last {
            Some(last) if last.stage == Stage::Removing && last.failure.is_some() => {
                Cause::Failed(last.clone())
            }
            _ => Cause::Leaving(release),
        },
        Plan::Removed => Cause::Removed,
        Plan::Deploy { target, .. } => match &view.last {
            Some(last) if last.target.artifact == target.artifact && is_no_fault_of_the_release(last) => {
                Cause::Failed(last.clone())
            }
            _ => Cause::Pending,
        },
    }
}

/// Whether the plan writes anything down.
const fn acts(plan: &Plan) -> bool {
    match plan {
        Plan::Deploy { .. } | Plan::Restart { .. } | Plan::Remove { .. } => true,
        Plan::InSync { .. } | Plan::Hold(_) | Plan::Refuse(_) | Plan::Removed => false,
    }
}

/// A failure that is tried again. One that is the release's own is quarantined; if it is not refused now, then
/// because something changed, and a fresh attempt follows.
fn is_no_fault_of_the_release(entry: &Entry) -> bool {
    entry.failure.as_ref().is_some_and(|failure| !failure.class.blames_the_release())
}

fn in_sync(view: &View, env_changed: bool) -> Cause {
    if let Some(last) = failed_on_current(view) {
        return Cause::Failed(last.clone());
    }
    match &view.source {
        SourceView::Invalid(why) => Cause::StateInvalid(why.clone()),
        SourceView::Unreachable(why) => Cause::SourceUnreachable(why.clone()),
        SourceView::Refused(why) => Cause::StateRefused(why.clone()),
        SourceView::Stale(end) => Cause::StateStale(*end),
        SourceView::Ready | SourceView::Unknown => {
            let silent = view.origin.as_ref().and_then(|origin| origin.stale_since(view.now));
            match (silent, &view.content) {
                (Some(since), _) => Cause::SourceSilent(since),
                (None, Some(content)) => Cause::ContentChanged(content.clone()),
                (None, None) => Cause::Fine { env_changed },
            }
        }
    }
}

fn held(view: &View, hold: Hold) -> Cause {
    match (hold, &view.source) {
        (Hold::Suspended(why), _) => Cause::Suspended(why),
        (Hold::Pinned(pin), _) => Cause::Pinned(pin),
        (Hold::NotInState, SourceView::Invalid(why)) => Cause::StateInvalid(why.clone()),
        (Hold::NotInState, SourceView::Unreachable(why)) => Cause::SourceUnreachable(why.clone()),
        (Hold::NotInState, SourceView::Refused(why)) => Cause::StateRefused(why.clone()),
        (Hold::NotInState, _) => Cause::NotInState,
        (Hold::Invalid(why), _) => Cause::StateInvalid(why),
        (Hold::CurrentBroken(why), _) => Cause::CurrentBroken(why),
        (Hold::WillNotRun(release), _) => Cause::WillNotRun(release),
        (Hold::Interrupted(held), _) => Cause::Interrupted(held),
    }
}

/// The last attempt, if it failed while or after the release that is linked now was put into service.
pub(super) fn failed_on_current(view: &View) -> Option<&Entry> {
    let current = view.facts.current.release()?;
    let last = view.last.as_ref().filter(|last| last.result == Outcome::Failed)?;
    let on_trial = last.release.as_ref() == Some(current) && last.stage >= Stage::Switching;
    (on_trial || is_revert_failed(last)).then_some(last)
}

/// Whether going back failed as well.
pub(super) fn is_revert_failed(entry: &Entry) -> bool {
    entry.failure.as_ref().is_some_and(|failure| failure.reason == "RevertFailed")
}

/// Whether the release that is linked and proved is the one wanted.
pub(super) fn is_synced(view: &View) -> bool {
    if view.wanted == Desired::Absent {
        return view.facts.current == Current::Absent;
    }
    let Some(target) = view.wanted.target() else { return false };
    let facts = Facts {
        desired: Desired::Target(target.clone()),
        running: crate::plan::Running::Yes,
        ..view.facts.clone()
    };
    matches!(decide(&facts), Plan::InSync { .. })
}
