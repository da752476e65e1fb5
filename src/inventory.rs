//! The releases on this host: which artifact each directory holds.

use std::path::{Path, PathBuf};

use landfall_store::{ArtifactId, Digest, Name, Version};
use schemars::JsonSchema;
use serde::Serialize;

use crate::config::HostConfig;
use crate::disk::RealDisk;
use crate::layout::{AppDir, ReleaseDir, Root};
use crate::record::RecordError;
use crate::record::release::{Progress, ReleaseRecord};
use crate::record::sealed;
use crate::spec::ReleaseSpec;
use crate::switch;

/// One release directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Installed {
    /// Its app.
    pub app: Name,
    /// Its environment.
    pub environment: Name,
    /// The directory's name.
    pub release: String,
    /// The artifact it was made of.
    pub artifact: ArtifactId,
    /// The version people call it by.
    pub version: Version,
    /// The release identity.
    pub identity: Digest,
    /// How far it got.
    pub progress: Progress,
    /// Whether `current` leads to it.
    pub current: bool,
    /// The directory.
    pub path: PathBuf,
}

/// Every release under this root, and the records that cannot be read.
pub fn releases(root: &Root, config: &HostConfig) -> std::io::Result<(Vec<Installed>, Vec<RecordError>)> {
    let (mut found, mut damaged) = (Vec::new(), Vec::new());
    for app in names(&root.apps())? {
        let dir = config.apps.as_ref().and_then(|apps| apps.get(&app)?.dir.clone());
        for environment in names(&root.apps().join(app.as_str()))? {
            let place = root.app(&app, &environment, dir.as_deref());
            for release in of_app(&place)? {
                match release {
                    Ok(release) => found.push(release),
                    Err(error) => damaged.push(error),
                }
            }
        }
    }
    Ok((found, damaged))
}

/// What acts on hosts, of the release that is linked; `None`: there is none, or its record cannot be read.
pub fn current_spec(dir: &AppDir) -> Option<ReleaseSpec> {
    let name = switch::named(&RealDisk, dir).ok().flatten()?;
    record(dir, &name).map(|record| record.spec)
}

/// The same of a release that was made of this artifact.
pub fn spec_of(dir: &AppDir, artifact: &ArtifactId) -> Option<ReleaseSpec> {
    let mut records = entries(&dir.releases()).ok()?.into_iter().filter_map(|name| record(dir, &name));
    records.find(|record| record.release.artifact == *artifact).map(|record| record.spec)
}

fn record(dir: &AppDir, name: &str) -> Option<ReleaseRecord> {
    sealed::read(&RealDisk, &ReleaseDir(dir.release(name)).record()).ok().flatten()
}

fn of_app(dir: &AppDir) -> std::io::Result<Vec<Result<Installed, RecordError>>> {
    let current = switch::named(&RealDisk, dir).ok().flatten();
    let mut found = Vec::new();
    for name in entries(&dir.releases())? {
        let path = dir.release(&name);
        match sealed::read::<ReleaseRecord>(&RealDisk, &ReleaseDir(path.clone()).record()) {
            Ok(None) => {}
            Ok(Some(record)) => found.push(Ok(installed(record, path, current.as_deref()))),
            Err(error) => found.push(Err(error)),
        }
    }
    Ok(found)
}

fn installed(record: ReleaseRecord, path: PathBuf, current: Option<&str>) -> Installed {
    Installed {
        app: record.app,
        environment: record.environment,
        current: current == Some(record.release.name.as_str()),
        release: record.release.name,
        artifact: record.release.artifact,
        version: record.release.version,
        identity: record.release.identity,
        progress: record.progress,
        path,
    }
}

fn names(dir: &Path) -> std::io::Result<Vec<Name>> {
    Ok(entries(dir)?.iter().filter_map(|name| name.parse().ok()).collect())
}

/// Names in a directory, sorted; what is hidden is being built or removed. None if there is no directory.
fn entries(dir: &Path) -> std::io::Result<Vec<String>> {
    let listed = match std::fs::read_dir(dir) {
        Ok(listed) => listed,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in listed {
        found.extend(entry?.file_name().into_string().ok().filter(|name| !name.starts_with('.')));
    }
    found.sort();
    Ok(found)
}
