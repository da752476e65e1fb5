//! Compares a release with its recorded tree, and mends what the host cache can mend.

use landfall_store::contents::Contents;
use landfall_store::place::{ModeFacts, choose_mode};
use landfall_store::repair::{Installed, Tools, repair};
use landfall_store::verify::{self, Expected, Report, verify};
use landfall_store::{Tree, TreeId};

use super::build::ignored;
use super::{Inner, failure, is_intact};
use crate::effects::Depth;
use crate::record::journal::{Class, Failure};
use crate::record::release::{Progress, ReleaseRecord, ReleaseRef};

impl Inner {
    /// The record of a prepared release whose files are what it says.
    pub(super) fn check(&self, release: &ReleaseRef, depth: Depth) -> Result<ReleaseRecord, Failure> {
        let record = self.load(&release.name)?;
        if record.release != *release || record.progress != Progress::Prepared {
            return Err(failure(
                Class::Host,
                "ReleaseMissing",
                format!("release {} was never prepared", release.name),
            ));
        }
        let tree = self.prepared_tree(&record)?;
        let report = self.compare(&record, &tree, depth)?;
        note_extra(release, &report);
        if is_intact(&report) {
            return Ok(record);
        }
        self.mend(&record, &tree, report)?;
        let again = self.compare(&record, &tree, depth)?;
        if is_intact(&again) {
            Ok(record)
        } else {
            Err(failure(Class::Host, "ContentChanged", summary(release, &again)))
        }
    }

    pub(super) fn prepared_tree(&self, record: &ReleaseRecord) -> Result<Tree, Failure> {
        let missing = |id: Option<TreeId>| {
            let what =
                id.map_or_else(|| "no tree".to_owned(), |id| format!("tree {id}, which is not on this host"));
            failure(
                Class::Host,
                "TreeMissing",
                format!("release {} was recorded with {what}", record.release.name),
            )
        };
        let id = record.prepared_tree.ok_or_else(|| missing(None))?;
        self.kept_tree(id).ok_or_else(|| missing(Some(id)))
    }

    pub(super) fn compare(
        &self,
        record: &ReleaseRecord,
        tree: &Tree,
        depth: Depth,
    ) -> Result<Report, Failure> {
        let contents = Contents { layers: vec![tree], ..Contents::default() };
        let ignore = ignored(record, &self.env_names(record))?;
        let expected =
            Expected { contents: &contents, ignore: &ignore, precision: self.cache()?.precision() };
        let depth = match depth {
            Depth::Fast => verify::Depth::Fast,
            Depth::Deep => verify::Depth::Deep,
        };
        let dir = self.release_dir(&record.release.name);
        verify(&dir.0, &expected, depth).map_err(|error| failure(Class::Host, "ContentChanged", error))
    }

    fn mend(&self, record: &ReleaseRecord, tree: &Tree, found: Report) -> Result<(), Failure> {
        let unusable =
            |error: &dyn std::fmt::Display| failure(Class::Host, "ContentChanged", error.to_string());
        let contents = Contents { layers: vec![tree], ..Contents::default() };
        let ignore = ignored(record, &self.env_names(record))?;
        let dir = self.release_dir(&record.release.name);
        let expected =
            Expected { contents: &contents, ignore: &ignore, precision: self.cache()?.precision() };
        let users = vec![self.service.account.as_ref().map_or(0, |account| account.uid)];
        let cache = self.cache()?;
        let facts = ModeFacts::observe(cache, &self.service.dir.releases(), users)
            .map_err(|error| unusable(&error))?;
        let tools =
            Tools { cache, source: None, secrets: cache, mode: choose_mode(&facts), owner: self.owner() };
        let found = Report { extra: Vec::new(), ..found };
        let release = Installed { dir: &dir.0, expected };
        let mended = repair(&tools, &release, &found, &[]).map_err(|error| unusable(&error))?;
        tracing::warn!(release = %record.release.name, paths = mended.paths, "files of the release had changed and were put right");
        Ok(())
    }
}

fn note_extra(release: &ReleaseRef, report: &Report) {
    if let Some(first) = report.extra.first() {
        tracing::warn!(
            release = %release.name, count = report.extra.len(), first = %first.display(),
            "files beside the release's own; list paths the app writes under [paths] writable or shared"
        );
    }
}

fn summary(release: &ReleaseRef, report: &Report) -> String {
    let first = report
        .damaged
        .first()
        .map(|damage| format!("`{}`: {}", damage.path, damage.fault))
        .or_else(|| report.missing.first().map(|path| format!("`{path}` is missing")))
        .unwrap_or_default();
    format!(
        "release {} is not what was prepared: {} damaged, {} missing; first {first}",
        release.name,
        report.damaged.len(),
        report.missing.len(),
    )
}
