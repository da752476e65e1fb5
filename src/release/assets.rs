//! `assets`: the files of earlier healthy releases under `[paths] keep`, still reachable beside `current`.
//!
//! A page that a browser loaded before a switch goes on asking for the files it names. `assets` is a link to a
//! union of the retained releases, replaced whole, so that a reader sees the old one or the new one. A union is
//! named by the hash of its tree: the same releases make the same one, and it is not made again.

use landfall_store::contents::Contents;
use landfall_store::materialise::{self, Job, materialise};
use landfall_store::place::{ModeFacts, choose_mode};
use landfall_store::{Tree, remove, union};

use super::build::entry_paths;
use super::{Inner, failure};
use crate::disk::{Disk, RealDisk};
use crate::record::journal::{Class, Failure};
use crate::record::release::Progress;

impl Inner {
    /// Makes `assets` what these releases, newest first, have under the newest one's `keep`. Nothing to keep, or
    /// no release at all: `assets` goes.
    pub(super) fn keep_assets(&self, newest_first: &[String]) -> Result<(), Failure> {
        let mut kept: Vec<(String, Tree)> = Vec::new();
        let mut paths = None;
        for name in newest_first.iter().filter(|name| self.release_dir(name).0.is_dir()) {
            let record = self.load(name)?;
            if record.progress != Progress::Prepared {
                continue;
            }
            if paths.get_or_insert_with(|| record.spec.paths.keep.clone()).is_empty() {
                break;
            }
            kept.push((name.clone(), self.prepared_tree(&record)?));
        }
        let paths = entry_paths(&paths.unwrap_or_default())?.iter().collect();
        let (names, trees): (Vec<String>, Vec<Tree>) = kept.into_iter().unzip();
        if trees.is_empty() {
            return self.drop_assets();
        }
        let tree = union::merged(&trees, &paths).map_err(unusable)?;
        let name = tree.id().to_string()[..UNION_DIGITS].to_owned();
        let unions = self.service.dir.unions();
        RealDisk.create_dir(&unions).map_err(unusable)?;
        if !unions.join(&name).is_dir() {
            for (release, own) in names.iter().zip(&trees) {
                union::take_in(self.cache()?, &self.release_dir(release).0, own, &tree).map_err(unusable)?;
            }
            self.build_union(&tree, &name)?;
        }
        let link = self.service.dir.assets();
        let target = self.service.dir.link_to_union(&name);
        if RealDisk.read_link(&link).map_err(unusable)?.as_deref() != Some(target.as_path()) {
            RealDisk.point(&link, &target).map_err(unusable)?;
        }
        self.drop_unions_but(&name)
    }

    fn build_union(&self, tree: &Tree, name: &str) -> Result<(), Failure> {
        let unions = self.service.dir.unions();
        materialise::clean(&unions).map_err(unusable)?;
        let cache = self.cache()?;
        let facts = ModeFacts::observe(cache, &unions, self.users()).map_err(unusable)?;
        let contents = Contents { layers: vec![tree], ..Contents::default() };
        let job = Job {
            cache,
            contents: &contents,
            secrets: cache,
            mode: choose_mode(&facts),
            owner: None,
            writable: &[],
            releases: &unions,
        };
        materialise(&job).and_then(|staged| staged.publish(name)).map_err(unusable)?;
        Ok(())
    }

    fn drop_assets(&self) -> Result<(), Failure> {
        let dir = &self.service.dir;
        if RealDisk.read_link(&dir.assets()).map_err(unusable)?.is_some() {
            RealDisk.remove(&dir.assets()).map_err(unusable)?;
        }
        self.drop_unions_but("")
    }

    /// Whoever has a file of an older union open goes on reading it.
    fn drop_unions_but(&self, kept: &str) -> Result<(), Failure> {
        let unions = self.service.dir.unions();
        for name in RealDisk.list(&unions).map_err(unusable)? {
            if name != kept && !name.starts_with('.') {
                remove::set_aside(&unions, &name).map_err(unusable)?;
            }
        }
        if unions.is_dir() {
            remove::empty_trash(&unions).map_err(unusable)?;
        }
        Ok(())
    }
}

/// Digits of a tree's id in the name of its union.
const UNION_DIGITS: usize = 16;

fn unusable(error: impl std::fmt::Display) -> Failure {
    failure(Class::Host, "AssetsUnusable", error)
}
