//! Gathers a view. Looks, changes nothing, needs no lock and no agent.

use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use landfall_store::cache::CacheError;
use landfall_store::{ArtifactId, Name, Version};

use super::conditions::ended;
use super::{KeptConditions, Origin, Serving, SourceView, View};
use crate::control;
use crate::deploy::App;
use crate::disk::RealDisk;
use crate::layout::AppDir;
use crate::observe;
use crate::plan::{Desired, Facts};
use crate::proc;
use crate::record::RecordError;
use crate::record::content::Content;
use crate::record::history::Outcome;
use crate::record::journal::Journal;
use crate::record::release::{ReleaseRecord, ReleaseRef};
use crate::start::{ProcessId, SlotFacts};
use crate::watch::Site;

/// What a look needs to know from outside the app's own records.
#[derive(Debug, Clone)]
pub struct Around {
    /// This host's name.
    pub host: Name,
    /// What the state says of the app.
    pub wanted: Desired,
    /// How its source is.
    pub source: SourceView,
    /// The same, where it is a repository.
    pub origin: Option<Origin>,
    /// The commit that holds the state.
    pub state_commit: Option<String>,
    /// Whether an agent works on this root.
    pub agent: bool,
}

/// Looks at one app.
pub async fn look(site: &Site, around: &Around) -> Result<View, RecordError> {
    let mut app = site.app()?;
    let now = Timestamp::now();
    let wanted = around.wanted.clone().under(&app.controls, now);
    let fresh = control::foresee(&mut app, &wanted, site.terms().requested, now);
    let journal = Journal::read(&RealDisk, &app.dir)?;
    let deploy_env_changes = site.terms().deploy_env_changes;
    let facts = observe::facts(&app, site.effects(), comparable(&wanted), fresh, deploy_env_changes).await;
    let serving = serving(site, &app, &facts).await;
    let linked = facts.current.release();
    let content = linked.and_then(|linked| Content::of(&RealDisk, &app.dir, &linked.name));
    Ok(View {
        host: around.host.clone(),
        app: app.name.clone(),
        environment: app.environment.clone(),
        data: app.dir.shared(),
        wanted_version: wanted_version(&app, &facts, &wanted),
        wanted,
        facts,
        journal,
        last: app.history.last().cloned(),
        serving,
        content,
        source: around.source.clone(),
        origin: around.origin.clone(),
        state_commit: around.state_commit.clone(),
        full: full(&app.dir),
        agent: around.agent,
        kept: KeptConditions::read(&app.dir),
        now,
    })
}

/// Bytes and files that one tick writes down, at most.
const RECORDS: (u64, u64) = (64 << 10, 8);

/// The directory of the records, if not even they fit: then nothing that goes wrong can be written down, and
/// this is the only place that tells.
fn full(dir: &AppDir) -> Option<PathBuf> {
    let place = dir.journal().ancestors().skip(1).find(|place| place.is_dir())?.to_owned();
    let (bytes, files) = RECORDS;
    let no_room = landfall_store::cache::room_at(&place, bytes, files);
    matches!(no_room, Err(CacheError::NoSpace { .. } | CacheError::NoInodes { .. })).then_some(place)
}

/// A target that is suspended, blocked or waits behind a pin can still be compared with what runs.
fn comparable(wanted: &Desired) -> Desired {
    wanted.target().map_or_else(|| wanted.clone(), |target| Desired::Target(target.clone()))
}

fn wanted_version(app: &App, facts: &Facts, wanted: &Desired) -> Option<Version> {
    let target = wanted.target()?;
    let candidate = facts.candidate.as_ref().map(|candidate| candidate.release.version.clone());
    candidate.or_else(|| target.version.clone()).or_else(|| version_in_history(app, &target.artifact))
}

fn version_in_history(app: &App, artifact: &ArtifactId) -> Option<Version> {
    let releases = app.history.entries().iter().rev().filter_map(|entry| entry.release.as_ref());
    releases.into_iter().find(|release| release.artifact == *artifact).map(|release| release.version.clone())
}

async fn serving(site: &Site, app: &App, facts: &Facts) -> Serving {
    let Some(linked) = facts.current.release() else { return Serving::default() };
    let Ok(record) = site.effects().supply.load(&linked.name).await else { return Serving::default() };
    let slots = slots(site, &record).await;
    if site.processes().starts(&record).is_empty() {
        let since = proved(app, linked);
        return Serving { release: Some(linked.clone()), since, attested: true, ..Serving::default() };
    }
    let expected = site.processes().starts(&record).iter().map(|start| start.instances).sum();
    let processes: Vec<ProcessId> = slots.iter().flat_map(|slot| slot.processes.clone()).collect();
    let alive = slots.iter().find(|slot| !slot.processes.is_empty());
    let dir = alive.and_then(|slot| slot.release_dir.clone());
    let release = match &dir {
        Some(dir) => release_at(site, dir).await,
        None => None,
    };
    Serving {
        attested: dir.is_some_and(|dir| processes.iter().all(|id| works_in(*id, &dir))),
        release,
        expected,
        since: processes.first().and_then(|id| started_at(*id)),
        pids: processes.iter().map(|id| id.pid).collect(),
    }
}

async fn slots(site: &Site, record: &ReleaseRecord) -> Vec<SlotFacts> {
    let mut slots = Vec::new();
    for start in site.processes().starts(record) {
        let slot = site.processes().slot(&start.name);
        let Ok(manager) = site.processes().manager(start.manager) else { continue };
        slots.push(manager.inspect(&slot).await.unwrap_or_default());
    }
    slots
}

async fn release_at(site: &Site, dir: &Path) -> Option<ReleaseRef> {
    let name = dir.file_name()?.to_str()?;
    site.effects().supply.load(name).await.ok().map(|record| record.release)
}

/// Whether the process works in this directory, which still is where it was.
fn works_in(id: ProcessId, dir: &Path) -> bool {
    let Ok(dir) = dir.canonicalize() else { return false };
    proc::cwd(id.pid).is_some_and(|cwd| !cwd.deleted && cwd.path.starts_with(&dir)) && proc::is_alive(id)
}

/// When a process started, by the wall clock, to the second.
fn started_at(id: ProcessId) -> Option<Timestamp> {
    let ticks = proc::now_ticks().saturating_sub(id.started_ticks);
    let ago = ticks.saturating_mul(1000) / rustix::param::clock_ticks_per_second();
    let ago = SignedDuration::from_millis(i64::try_from(ago).ok()?);
    Timestamp::now().checked_sub(ago).ok()?.round(jiff::Unit::Second).ok()
}

/// When a release last went into service: the best that can be said of one without processes.
fn proved(app: &App, release: &ReleaseRef) -> Option<Timestamp> {
    let of_it = |entry: &&crate::record::history::Entry| match entry.result {
        Outcome::Healthy => entry.release.as_ref() == Some(release),
        Outcome::Reverted => entry.previous.as_ref() == Some(release),
        _ => false,
    };
    app.history.entries().iter().rev().find(of_it).map(ended)
}
