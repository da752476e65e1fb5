//! Looking at releases on this host, and mending them when asked: what `describe`, `env` and `verify` see.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use landfall_store::contents::{Contents, PathSet};
use landfall_store::place::{ModeFacts, choose_mode};
use landfall_store::repair::{Installed, Repaired, Tools, repair};
use landfall_store::tag::Precision;
use landfall_store::verify::{self, Depth, Expected, Report, verify};
use landfall_store::{ArtifactId, Tree};

use super::build::ignored;
use super::steps::env_of;
use super::work::Work;
use super::{HostSupply, Inner, failure};
use crate::disk::{Disk, RealDisk};
use crate::effects;
use crate::env::ResolvedEnv;
use crate::layout::ReleaseDir;
use crate::record::content::{Content, NAMED_MAX, Wrong};
use crate::record::journal::{Class, Failure};
use crate::record::release::{Progress, ReleaseRecord};

/// A prepared release and the tree it was prepared as.
#[derive(Debug)]
pub struct Checkable {
    /// What it is.
    pub record: ReleaseRecord,
    dir: PathBuf,
    tree: Tree,
    ignore: PathSet,
}

impl Checkable {
    /// Where it lies.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Compares it with its tree. Makes nothing, so it does not try how exact the file system's times are:
    /// taking them for coarse accepts no more than a time set back on purpose.
    pub fn compare(&self, depth: Depth) -> Result<Report, Failure> {
        let contents = self.contents();
        verify(&self.dir, &self.expected(&contents, Precision::Seconds), depth).map_err(unusable)
    }

    /// Bytes and files of its tree.
    pub fn size(&self) -> (u64, u64) {
        let files = self.tree.entries().iter().filter_map(|entry| match entry.kind {
            landfall_store::Kind::File { size, .. } => Some(size),
            _ => None,
        });
        files.fold((0, 0), |(bytes, count), size| (bytes + size, count + 1))
    }

    fn contents(&self) -> Contents<'_> {
        Contents { layers: vec![&self.tree], ..Contents::default() }
    }

    fn expected<'a>(&'a self, contents: &'a Contents<'a>, precision: Precision) -> Expected<'a> {
        Expected { contents, ignore: &self.ignore, precision }
    }
}

impl HostSupply {
    /// Names of the releases on disk, prepared or not, sorted.
    pub fn releases(&self) -> Result<Vec<String>, Failure> {
        let dir = self.inner.service.dir.releases();
        let names = RealDisk.list(&dir).map_err(|error| {
            failure(Class::Host, "ReleasesUnusable", format!("{}: {error}", dir.display()))
        })?;
        Ok(names.into_iter().filter(|name| !name.starts_with('.')).collect())
    }

    /// The record of a release, whatever its progress.
    pub fn record(&self, name: &str) -> Result<ReleaseRecord, Failure> {
        self.inner.load(name)
    }

    /// A prepared release with its tree.
    pub fn checkable(&self, name: &str) -> Result<Checkable, Failure> {
        let record = self.inner.load(name)?;
        if record.progress != Progress::Prepared {
            let what = format!("release {name} was never prepared to the end; the next deploy makes it anew");
            return Err(failure(Class::Host, "NotPrepared", what));
        }
        let tree = self.inner.prepared_tree(&record)?;
        let ignore = ignored(&record, &self.inner.env_names(&record))?;
        Ok(Checkable { dir: self.inner.release_dir(name).0, record, tree, ignore })
    }

    /// Compares a release with what it was prepared as, without reading contents.
    pub async fn look_over(&self, name: String) -> Result<Content, Failure> {
        self.work(Work::LookOver(name)).await
    }

    /// Keeps what a check of the linked release found, as the agent's own passes do. Only under the lock.
    pub fn keep(&self, release: &str, report: &Report) -> Result<(), Failure> {
        let kept = found(release, report).keep(&RealDisk, &self.inner.service.dir);
        kept.map(drop).map_err(unusable)
    }

    /// Puts right what a check found, out of the host's cache, here and in every other release that has the
    /// same bad content. Files that are in no tree are left: they may be the app's. Only under the lock.
    pub fn mend(
        &self,
        release: &Checkable,
        found: Report,
        others: &[Checkable],
    ) -> Result<Repaired, Failure> {
        let cache = self.inner.cache()?;
        let facts = ModeFacts::observe(cache, &self.inner.service.dir.releases(), self.inner.users())
            .map_err(unusable)?;
        let tools = Tools {
            cache,
            source: None,
            secrets: cache,
            mode: choose_mode(&facts),
            owner: self.inner.owner(),
        };
        let found = Report { extra: Vec::new(), ..found };
        let contents = release.contents();
        let of_others: Vec<Contents<'_>> = others.iter().map(Checkable::contents).collect();
        let installed: Vec<Installed<'_>> = others
            .iter()
            .zip(&of_others)
            .map(|(other, contents)| Installed {
                dir: &other.dir,
                expected: other.expected(contents, cache.precision()),
            })
            .collect();
        let this = Installed { dir: &release.dir, expected: release.expected(&contents, cache.precision()) };
        repair(&tools, &this, &found, &installed).map_err(unusable)
    }

    /// The environment an artifact would get if it were prepared now, with the origin of every value. The
    /// artifact must have been on this host before.
    pub fn resolved(&self, id: &ArtifactId) -> Result<ResolvedEnv, Failure> {
        let artifact = self.inner.kept_artifact(id).ok_or_else(|| {
            failure(Class::Supply, "NotFound", format!("the manifest of {id} is not on this host yet"))
        })?;
        Ok(self.inner.bind(id, &artifact)?.env)
    }

    /// The environment a release was prepared with.
    pub fn env_of_release(&self, name: &str) -> Result<BTreeMap<String, String>, Failure> {
        let path = ReleaseDir(self.inner.service.dir.release(name)).env();
        env_of(&path)
            .map_err(|error| failure(Class::Host, "EnvUnreadable", format!("{}: {error}", path.display())))
    }
}

impl Inner {
    pub(super) fn look_over(&self, name: &str) -> Result<Content, Failure> {
        let record = self.load(name)?;
        let tree = self.prepared_tree(&record)?;
        let report = self.compare(&record, &tree, effects::Depth::Fast)?;
        Ok(found(name, &report))
    }
}

/// What a report says to people and to the status.
fn found(release: &str, report: &Report) -> Content {
    let missing = report.missing.iter().map(|path| (path, "it is missing".to_owned()));
    let damaged = report.damaged.iter().map(|damage| (&damage.path, damage.fault.to_string()));
    let wrong = damaged.chain(missing).map(|(path, fault)| Wrong { path: path.to_string(), fault });
    Content {
        release: release.to_owned(),
        wrong: (report.missing.len() + report.damaged.len()) as u64,
        named: wrong.take(NAMED_MAX).collect(),
        added: report.extra.len() as u64,
        first_added: report.extra.first().map(|path| path.display().to_string()),
    }
}

fn unusable(error: impl std::fmt::Display) -> Failure {
    failure(Class::Host, "ReleaseUnusable", error)
}

/// Whether every packed byte is as it was prepared; files beside them are the app's own business.
pub fn is_intact(report: &verify::Report) -> bool {
    report.missing.is_empty() && report.damaged.is_empty()
}
