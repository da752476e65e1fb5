//! From a view to a status. Pure: equal views, equal statuses.

use landfall_store::ArtifactId;

use super::cause::{Cause, cause, failed_on_current, is_synced};
use super::conditions::conditions;
use super::sentence::sentence;
use super::{Health, LastAttempt, Operation, Pinned, Running, SourceView, Status, Sync, View, Wanted};
use crate::plan::{Current, Desired, revert_target};
use crate::record::journal::Stage;

/// Judges.
pub fn assess(view: &View) -> Status {
    let cause = cause(view);
    let (sync, health) = (sync(view), health(view, &cause));
    let (message, next) = sentence(view, &cause, health);
    Status {
        app: view.app.clone(),
        environment: view.environment.clone(),
        host: view.host.clone(),
        sync,
        health,
        operation: operation(&cause),
        removed: cause == Cause::Removed,
        desired: view.wanted.target().map(|target| Wanted {
            artifact: target.artifact,
            version: view.wanted_version.clone(),
            by: target.by.clone(),
            why: target.why.clone(),
        }),
        running: running(view),
        last_healthy: view.facts.healthy.first().map(|release| release.artifact),
        rollback_target: rollback_target(view),
        state_commit: view.state_commit.clone(),
        source: view.origin.clone(),
        last_attempt: view.last.as_ref().map(LastAttempt::from),
        suspended: match &view.wanted {
            Desired::Suspended { why, .. } => Some(why.clone()),
            _ => None,
        },
        pinned: match &view.wanted {
            Desired::Pinned { pin, .. } => Some(Pinned::from(&**pin)),
            _ => None,
        },
        conditions: conditions(view, &cause, sync, health, &message),
        message,
        next,
        agent: view.agent,
    }
}

fn sync(view: &View) -> Sync {
    let says_nothing = matches!(view.wanted, Desired::NotInState | Desired::Invalid(_));
    let unknown = says_nothing || matches!(view.source, SourceView::Invalid(_) | SourceView::Refused(_));
    match (unknown, is_synced(view)) {
        (true, _) => Sync::Unknown,
        (false, true) => Sync::Synced,
        (false, false) => Sync::OutOfSync,
    }
}

fn health(view: &View, cause: &Cause) -> Health {
    if matches!(view.wanted, Desired::Suspended { .. }) {
        return Health::Suspended;
    }
    match cause {
        Cause::CurrentBroken(_) => return Health::Degraded,
        Cause::Attempt(journal) if journal.stage >= Stage::Switching => return Health::Progressing,
        Cause::CutShort(journal) if journal.stage >= Stage::Switching => return Health::Unknown,
        _ => {}
    }
    let current = match &view.facts.current {
        Current::Release(current) => current,
        Current::Absent | Current::Moved(_) | Current::Broken(_) if matches!(cause, Cause::Attempt(_)) => {
            return Health::Progressing;
        }
        Current::Absent | Current::Moved(_) | Current::Broken(_) => return Health::Missing,
    };
    if !view.facts.running.is_whole() || failed_on_current(view).is_some() {
        return Health::Degraded;
    }
    match view.facts.healthy.first() == Some(current) {
        // What a person holds back from the state is never shown as if all were well.
        true if matches!(view.wanted, Desired::Pinned { .. }) => Health::Suspended,
        true => Health::Healthy,
        false => Health::Unknown,
    }
}

const fn operation(cause: &Cause) -> Operation {
    match cause {
        Cause::Attempt(journal) => Operation::In(journal.stage),
        _ => Operation::Idle,
    }
}

fn running(view: &View) -> Option<Running> {
    let serving = &view.serving;
    let release = serving.release.as_ref()?;
    Some(Running {
        artifact: release.artifact,
        version: release.version.clone(),
        pid: serving.pids.first().copied(),
        pids: serving.pids.clone(),
        since: serving.since,
        attested: serving.attested,
    })
}

fn rollback_target(view: &View) -> Option<ArtifactId> {
    revert_target(&view.facts.healthy, view.facts.current.release()).map(|release| release.artifact)
}
