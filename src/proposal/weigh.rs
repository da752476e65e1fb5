//! What a change would do: what the store knows of both artifacts, and what hosts that report say.

use jiff::Timestamp;
use landfall_store::backend::{BackendError, Meter};
use landfall_store::fetch::{self, Session, Watch};
use landfall_store::{Artifact, ArtifactId, Name, Store, StoreError, Version, refs};

use super::changes::Change;
use super::imagined::{Imagined, layers_for};
use super::{Action, Conflict, Fetch, Path, Proposed, hosts};
use crate::diff::{self, Change as PathChange, FileChange, Shape};
use crate::fleet::{Called, HostReport};
use crate::migrations;
use crate::preview::Files;
use crate::spec::ReleaseSpec;
use crate::state::{Suspend, Target};

/// What a change is weighed with.
pub struct Scales<'a> {
    /// The store.
    pub store: &'a Store,
    /// The same one, read through this meter: a fetch is planned there and nothing else.
    pub metered: (&'a Store, &'a Meter),
    /// Hosts that report.
    pub hosts: &'a [HostReport],
    /// The time.
    pub now: Timestamp,
}

/// An artifact with its id and what acts on hosts.
pub(super) struct Known {
    pub(super) id: ArtifactId,
    artifact: Artifact,
    spec: Option<ReleaseSpec>,
}

impl Known {
    pub(super) fn read(store: &Store, id: ArtifactId) -> Result<Self, StoreError> {
        let artifact = fetch::artifact(store, &id)?;
        let spec = serde_json::from_value(serde_json::Value::Object(artifact.release.clone())).ok();
        Ok(Self { id, artifact, spec })
    }

    fn called(&self) -> Called {
        Called { artifact: self.id, version: refs::version_of(&self.artifact) }
    }
}

/// Why an artifact may not be a target of this app in this environment; `None`: it may.
pub fn misfit(
    artifact: &Artifact,
    id: &ArtifactId,
    app: &Name,
    environment: &Name,
    version: Option<&Version>,
) -> Option<String> {
    if artifact.app != *app {
        return Some(format!("{id} is an artifact of `{}`", artifact.app));
    }
    if let Some(only) = artifact.environment.as_ref().filter(|only| *only != environment) {
        return Some(format!("{id} was packed for `{only}`"));
    }
    let own = refs::version_of(artifact);
    match version {
        Some(version) if own.as_ref() != Some(version) => {
            let own = own.map_or_else(|| "none".to_owned(), |own| own.to_string());
            Some(format!("the state calls {id} version {version}; its own is {own}"))
        }
        _ => None,
    }
}

/// Weighs one change.
pub fn weigh(change: &Change, scales: &Scales<'_>) -> Proposed {
    let called = |target: &Target| Called { artifact: target.artifact, version: target.version.clone() };
    // Of a target that stays, who chose it and why is no news.
    let said = change.to.as_ref().filter(|_| changes_artifact(change) || change.settings.contains(&"target"));
    let mut proposed = Proposed {
        app: change.app.clone(),
        environment: change.environment.clone(),
        action: change.action,
        from: change.from.as_ref().map(called),
        to: change.to.as_ref().map(called),
        by: said.and_then(|target| target.by.clone()),
        why: said.and_then(|target| target.reason.clone()),
        settings: change.settings.clone(),
        files: None,
        paths: Vec::new(),
        dependencies: Vec::new(),
        migrations: Vec::new(),
        release: Vec::new(),
        fetch: None,
        rollback_target: None,
        conflicts: Vec::new(),
        hosts: Vec::new(),
        unknown: Vec::new(),
    };
    note_state(&mut proposed, change, scales.now);
    let old = change.from.as_ref().and_then(|target| match Known::read(scales.store, target.artifact) {
        Ok(known) => Some(known),
        Err(error) => {
            proposed.unknown.push(format!("what is before, and whether it can be gone back to: {error}"));
            None
        }
    });
    if let Some(old) = &old {
        proposed.from = Some(old.called());
    }
    let new = change.to.as_ref().and_then(|target| target_of(&mut proposed, change, target, scales));
    if let (Some(new), true) = (&new, changes_artifact(change)) {
        look_inside(&mut proposed, old.as_ref(), new, change.from.is_none(), scales);
    }
    if !change.from_is_blocked && changes_artifact(change) {
        proposed.rollback_target = old.as_ref().map(Known::called);
    }
    hosts::ask(&mut proposed, new.as_ref(), scales);
    proposed
}

fn changes_artifact(change: &Change) -> bool {
    let artifact = |target: &Option<Target>| target.as_ref().map(|target| target.artifact);
    artifact(&change.from) != artifact(&change.to)
}

pub(super) fn conflict(proposed: &mut Proposed, reason: &'static str, host: Option<&Name>, message: String) {
    proposed.conflicts.push(Conflict { reason, host: host.cloned(), message });
}

/// What the state itself has against it.
fn note_state(proposed: &mut Proposed, change: &Change, now: Timestamp) {
    if let Some(why) = &change.invalid {
        conflict(proposed, "Invalid", None, why.clone());
    }
    if let Some(block) = &change.blocked {
        let message = format!("the state blocks this artifact: {} ({})", block.reason, block.by);
        conflict(proposed, "Blocked", None, message);
        proposed.action = Action::Refuse;
    }
    let lasts = |suspend: &&Suspend| suspend.until.is_none_or(|until| until > now);
    if let Some(suspend) = change.suspended.as_ref().filter(lasts) {
        let until = suspend.until.map_or_else(String::new, |until| format!(" until {until:.0}"));
        let message = format!("suspended{until}: hosts apply nothing ({}, {})", suspend.reason, suspend.by);
        conflict(proposed, "Suspended", None, message);
    }
}

/// The artifact that should run, if it is one that may.
fn target_of(
    proposed: &mut Proposed,
    change: &Change,
    target: &Target,
    scales: &Scales<'_>,
) -> Option<Known> {
    let new = match Known::read(scales.store, target.artifact) {
        Ok(new) => new,
        Err(error) => {
            let absent = matches!(error, StoreError::Backend(BackendError::NotFound { .. }));
            let what = if absent {
                format!("the store does not have {}", target.artifact)
            } else {
                error.to_string()
            };
            conflict(proposed, "NotInStore", None, what);
            if proposed.action == Action::Deploy {
                proposed.action = Action::Unavailable;
            }
            return None;
        }
    };
    let (app, environment) = (&change.app, &change.environment);
    if let Some(why) = misfit(&new.artifact, &new.id, app, environment, target.version.as_ref()) {
        conflict(proposed, "Invalid", None, why);
        proposed.action = Action::Refuse;
        return None;
    }
    proposed.to = Some(new.called());
    Some(new)
}

fn look_inside(
    proposed: &mut Proposed,
    old: Option<&Known>,
    new: &Known,
    is_first: bool,
    scales: &Scales<'_>,
) {
    if old.is_none() && !is_first {
        // Every file would look new.
        return;
    }
    match &new.spec {
        Some(spec) => {
            let before = old.map(|old| old.spec.as_ref());
            match before {
                Some(None) => proposed
                    .unknown
                    .push("migrations: what acts on hosts before is of a newer landfall".to_owned()),
                before => proposed.migrations = migrations::compare(before.flatten(), spec),
            }
        }
        None => proposed.unknown.push("what acts on hosts is of a newer landfall".to_owned()),
    }
    let compared = match old {
        Some(old) => differences(proposed, old, new, scales.store),
        None => all_new(proposed, new, scales.store),
    };
    if let Err(error) = compared {
        proposed.unknown.push(format!("files: {error}"));
    }
    match fetch_of(scales, old, new, &proposed.environment, None) {
        Ok(fetch) => proposed.fetch = Some(fetch),
        Err(error) => proposed.unknown.push(format!("bytes to fetch: {error}")),
    }
}

fn differences(proposed: &mut Proposed, old: &Known, new: &Known, store: &Store) -> Result<(), StoreError> {
    let difference = diff::compare(store, &old.id, &new.id)?;
    let own = |layer: &&diff::LayerDifference| {
        layer.environment.as_ref().is_none_or(|only| *only == proposed.environment)
    };
    let layers: Vec<_> = difference.layers.iter().filter(own).collect();
    let paths: Vec<Path> = layers
        .iter()
        .flat_map(|layer| {
            layer.files.iter().filter(|file| is_file(file)).map(|file| path_of(&layer.name, file))
        })
        .collect();
    proposed.files = Some(count(&paths));
    proposed.paths = paths;
    proposed.dependencies = difference.dependencies;
    proposed.release = difference.release.into_iter().filter(|key| key != "version").collect();
    Ok(())
}

fn all_new(proposed: &mut Proposed, new: &Known, store: &Store) -> Result<(), StoreError> {
    let mut paths = Vec::new();
    for layer in layers_for(&new.artifact, &proposed.environment, None) {
        let files = diff::added(&fetch::tree(store, &layer.tree)?);
        paths.extend(files.iter().filter(|file| is_file(file)).map(|file| path_of(&layer.name, file)));
    }
    proposed.files = Some(count(&paths));
    proposed.paths = paths;
    Ok(())
}

/// That a directory is empty is no file.
fn is_file(change: &FileChange) -> bool {
    let shapes = [&change.from, &change.to];
    shapes.into_iter().flatten().any(|shape| !matches!(shape, Shape::Directory))
}

fn path_of(layer: &Name, file: &FileChange) -> Path {
    Path { layer: layer.clone(), change: file.change, path: file.path.clone() }
}

fn count(paths: &[Path]) -> Files {
    let of = |change| paths.iter().filter(|path| path.change == change).count() as u64;
    Files { added: of(PathChange::Added), changed: of(PathChange::Changed), removed: of(PathChange::Removed) }
}

/// What a host of these roles fetches that has the old artifact and nothing else: the fetch that its agent would
/// make, planned to the end and not made.
pub(super) fn fetch_of(
    scales: &Scales<'_>,
    old: Option<&Known>,
    new: &Known,
    environment: &Name,
    roles: Option<&[Name]>,
) -> Result<Fetch, StoreError> {
    let host = match old {
        Some(old) => Imagined::with(scales.store, &layers_for(&old.artifact, environment, roles))?,
        None => Imagined::default(),
    };
    let (store, meter) = scales.metered;
    let before = meter.bytes();
    let mut session = Session::new(store, &host, Watch::NOBODY);
    let artifact = session.manifest(&new.id)?;
    session.documents(&new.id, &layers_for(&artifact, environment, roles))?;
    let estimate = session.estimate()?;
    let documents = meter.bytes() - before;
    Ok(Fetch {
        bytes: documents + estimate.moved,
        documents,
        contents: estimate.blobs,
        unpacked: estimate.unpacked,
        deltas: estimate.deltas,
    })
}
