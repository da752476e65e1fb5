//! Facts about one app on this host. Looks, changes nothing.

use crate::deploy::App;
use crate::effects::{Clock, Effects};
use crate::plan::{Candidate, Current, Desired, Facts, HEAL_WINDOW, Recent, Running};
use crate::record::controls::Fresh;
use crate::record::history::{Entry, Outcome};
use crate::record::journal::{Class, Stage, Target};
use crate::record::release::{Progress, ReleaseRecord, ReleaseRef};
use crate::switch::{self, Linked};

/// What `current` is, and the record of the release it names.
pub async fn current(app: &App, effects: Effects<'_>) -> (Current, Option<ReleaseRecord>) {
    let name = match switch::found(effects.disk, &app.dir) {
        Ok(Linked::Nothing) => return (Current::Absent, None),
        Ok(Linked::Release(name)) => name,
        Ok(Linked::Elsewhere(target)) => {
            let why = format!("it points to {}, not to a release of this app", target.display());
            return (Current::Moved(why), None);
        }
        Err(error) => return (Current::Broken(error.to_string()), None),
    };
    match effects.supply.load(&name).await {
        Ok(record) if record.progress == Progress::Prepared => {
            (Current::Release(record.release.clone()), Some(record))
        }
        Ok(_) => (Current::Moved(format!("it names `{name}`, which was never prepared")), None),
        Err(failure) => (Current::Moved(format!("it names `{name}`: {}", failure.message)), None),
    }
}

/// Everything the decision looks at.
pub async fn facts(
    app: &App,
    effects: Effects<'_>,
    desired: Desired,
    fresh: Fresh,
    deploy_env_changes: bool,
) -> Facts {
    let (current, record) = current(app, effects).await;
    let running = match &record {
        Some(record) => effects.processes.running(record).await,
        None => Running::No,
    };
    let candidate = match &desired {
        Desired::Target(target) => candidate(effects, target, record.as_ref()).await,
        _ => None,
    };
    Facts {
        recent: recent(app, effects.clock, &desired, &current),
        desired,
        left: app.history.left().cloned(),
        current,
        running,
        candidate,
        healthy: healthy_on_disk(app, effects).await,
        quarantine: app.quarantine.clone(),
        deploy_env_changes: deploy_env_changes || fresh.env,
        fresh,
    }
}

async fn candidate(
    effects: Effects<'_>,
    target: &Target,
    current: Option<&ReleaseRecord>,
) -> Option<Candidate> {
    let known = effects.supply.known(&target.artifact).await?;
    let prepared = match effects.supply.load(&known.release.name).await {
        Ok(record) => record.progress == Progress::Prepared && record.release == known.release,
        Err(_) => false,
    };
    let only_env_differs = current.is_some_and(|current| {
        current.settings == known.settings && current.release.identity != known.release.identity
    });
    Some(Candidate { release: known.release, prepared, only_env_differs })
}

/// Releases that proved healthy and are still there to go back to, most recently proved first.
pub async fn healthy_on_disk(app: &App, effects: Effects<'_>) -> Vec<ReleaseRef> {
    let mut found = Vec::new();
    for release in app.history.healthy() {
        if let Ok(record) = effects.supply.load(&release.name).await
            && record.progress == Progress::Prepared
            && record.release == *release
        {
            found.push(release.clone());
        }
    }
    found
}

fn recent(app: &App, clock: &dyn Clock, desired: &Desired, current: &Current) -> Recent {
    let entries = app.history.entries();
    let not_supplied = entries.last().is_some_and(|entry| {
        let class = entry.failure.as_ref().map(|failure| failure.class);
        matches!(desired, Desired::Target(target) if target.artifact == entry.target.artifact)
            && matches!(class, Some(Class::Supply | Class::Transient | Class::Manager | Class::Host))
    });
    // What an operator forgave does not count any more.
    let counts = |entry: &&Entry| entry.attempt > app.controls.forgiven;
    let booted = clock.booted();
    let failed_restarts = entries.iter().rev().take_while(counts).take_while(|entry| {
        entry.result == Outcome::Failed
            && matches!(entry.stage, Stage::Starting | Stage::Verifying)
            && entry.release.as_ref() == current.release()
            && entry.started >= booted
            // A manager that is down says nothing about the release.
            && entry.failure.as_ref().is_none_or(|failure| failure.class.blames_the_release())
    });
    let now = clock.wall();
    let heals = entries.iter().rev().take_while(counts).take_while(|entry| {
        entry.heals.is_some()
            && entry.release.as_ref() == app.history.left()
            && now.duration_since(entry.started).abs() < HEAL_WINDOW
    });
    Recent { not_supplied, failed_restarts: counted(failed_restarts), heals: counted(heals) }
}

fn counted<T>(items: impl Iterator<Item = T>) -> u32 {
    u32::try_from(items.count()).unwrap_or(u32::MAX)
}
