//! The release directory: files out of the cache, env files, links to shared paths, and at last the seal.
//!
//! It has its final name before the steps run, so that tools which remember absolute paths remember the right
//! ones; its record says `materialised` until the last step is done, and only `prepared` may become `current`.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use landfall_store::cache::HostCache;
use landfall_store::cache::room_at;
use landfall_store::contents::{Contents, PathSet};
use landfall_store::fsio::Owner;
use landfall_store::materialise::{self, Job, MaterialiseError, materialise};
use landfall_store::place::{Mode, ModeFacts, choose_mode};
use landfall_store::prepared;
use landfall_store::{Entry, EntryPath, Kind, Tree, TreeId, remove};

use super::{Inner, failure};
use crate::disk::{Disk, RealDisk};
use crate::layout::ReleaseDir;
use crate::record::journal::{Class, Failure};
use crate::record::release::{Progress, ReleaseRecord};
use crate::record::sealed;
use crate::spec::{ReleaseSpec, applies};

impl Inner {
    /// Builds the directory afresh, whatever an earlier try left there.
    pub(super) fn build(&self, record: &ReleaseRecord) -> Result<(), Failure> {
        let dir = &self.service.dir;
        for path in dir.to_create() {
            RealDisk.create_dir(&path).map_err(|error| host(&path, error))?;
        }
        let name = &record.release.name;
        self.not_in_service(name)?;
        remove::set_aside(&dir.releases(), name)
            .map_err(|error| failure(Class::Host, "ReleaseInTheWay", error))?;
        let trees = self.layer_trees(record)?;
        let contents = contents(&trees, &record.spec)?;
        let writable = entry_paths(&record.spec.paths.writable)?;
        let releases = dir.releases();
        // What a killed agent left half-built; a living one holds a lock on its own.
        materialise::clean(&releases).map_err(|error| failure(Class::Host, "ReleasesUnusable", error))?;
        let cache = self.cache()?;
        let facts = ModeFacts::observe(cache, &releases, self.users())
            .map_err(|error| failure(Class::Host, "ReleasesUnusable", error))?;
        let mode = choose_mode(&facts);
        room_for(&releases, &trees, mode)?;
        let job = Job {
            cache,
            contents: &contents,
            secrets: cache,
            mode,
            owner: self.owner(),
            writable: &writable,
            releases: &releases,
        };
        let staged = materialise(&job).map_err(built)?;
        self.furnish(&ReleaseDir(staged.path()), record)?;
        staged.publish(name).map_err(built)?;
        if self.has_steps(record) {
            return Ok(());
        }
        // Nothing is run in it: it is finished as it is, while its trees are at hand.
        let dir = self.closed(record)?;
        let (id, tree) = self.as_packed(record, trees)?;
        self.prepared(&dir, record, id, &tree)
    }

    /// Drops a release that was not prepared to its end. One that was stays, and so does what is in service.
    pub(super) fn discard(&self, name: &str) -> Result<(), Failure> {
        if self.load(name).is_ok_and(|record| record.progress == Progress::Prepared) {
            return Ok(());
        }
        self.not_in_service(name)?;
        let releases = self.service.dir.releases();
        remove::set_aside(&releases, name)
            .and_then(|_| remove::empty_trash(&releases))
            .map(drop)
            .map_err(|error| failure(Class::Host, "ReleaseInTheWay", error))
    }

    /// `current` never loses its release to a rebuild of the same one.
    fn not_in_service(&self, name: &str) -> Result<(), Failure> {
        match crate::switch::named(&RealDisk, &self.service.dir) {
            Ok(Some(current)) if current == name => Err(failure(
                Class::Host,
                "ReleaseInService",
                format!(
                    "release {name} is in service and damaged: `landfall verify --repair` mends it in place"
                ),
            )),
            Ok(_) => Ok(()),
            Err(error) => Err(failure(Class::Host, "RecordDamaged", error)),
        }
    }

    /// Everybody who runs the app or a step of it.
    pub(super) fn users(&self) -> Vec<u32> {
        vec![self.service.account.as_ref().map_or_else(own_uid, |account| account.uid)]
    }

    pub(super) fn owner(&self) -> Option<Owner> {
        self.service.account.as_ref().map(|account| Owner { uid: account.uid, gid: account.gid })
    }

    pub(super) fn layer_trees(&self, record: &ReleaseRecord) -> Result<Vec<Tree>, Failure> {
        let kept = |id: &landfall_store::TreeId| {
            self.kept_tree(*id).ok_or_else(|| {
                failure(
                    Class::Supply,
                    "TreeMissing",
                    format!("tree {id} is not on this host; it is fetched again"),
                )
            })
        };
        record.layers.iter().map(kept).collect()
    }

    /// What stands in a release besides its layers.
    fn furnish(&self, dir: &ReleaseDir, record: &ReleaseRecord) -> Result<(), Failure> {
        let artifact = self.kept_artifact(&record.release.artifact).ok_or_else(|| {
            failure(
                Class::Supply,
                "NotFound",
                format!("the manifest of {} is not on this host", record.release.artifact),
            )
        })?;
        let bound = self.bind(&record.release.artifact, &artifact)?;
        if bound.release != record.release {
            let what = "an env file changed while the release was being made; the next try takes the new one";
            return Err(failure(Class::Supply, "EnvChanged", what));
        }
        for (file, layer) in &bound.files {
            self.place_private(&dir.0.join(file), layer.text.as_bytes())?;
        }
        for (file, content) in self.private_files(&artifact)? {
            let path = dir.0.join(file);
            path.parent().map_or(Ok(()), fs::create_dir_all).map_err(|error| host(&path, error))?;
            self.place_private(&path, &content)?;
        }
        self.link_outside(&dir.0, &record.spec)?;
        let own = dir.own();
        fs::create_dir(&own)
            .and_then(|()| fs::set_permissions(&own, fs::Permissions::from_mode(0o755)))
            .map_err(|error| host(&own, error))?;
        let env = serde_json::to_vec(&bound.env.vars()).expect("an env is a map of strings");
        self.place_private(&dir.env(), &env)?;
        let record =
            ReleaseRecord { progress: Progress::Materialised, prepared_tree: None, ..record.clone() };
        sealed::write(&RealDisk, &dir.record(), &record)
            .map_err(|error| failure(Class::Host, "RecordFailed", error))?;
        self.lend_to_steps(&dir.0)
    }

    /// A file that only the service account reads.
    fn place_private(&self, path: &Path, content: &[u8]) -> Result<(), Failure> {
        let placed = RealDisk.replace(path, content).and_then(|()| match &self.service.account {
            Some(account) => chown(path, Some(account.uid), Some(account.gid)),
            None => Ok(()),
        });
        placed.map_err(|error| host(path, error))
    }

    /// Steps may create files at the top of the release while they run.
    fn lend_to_steps(&self, dir: &Path) -> Result<(), Failure> {
        match &self.service.account {
            Some(account) => {
                chown(dir, Some(account.uid), Some(account.gid)).map_err(|error| host(dir, error))
            }
            None => Ok(()),
        }
    }

    /// From now on the app cannot replace a packed file by another of the same name.
    fn take_back(&self, dir: &Path) -> Result<(), Failure> {
        match &self.service.account {
            Some(_) => chown(dir, Some(own_uid()), None).map_err(|error| host(dir, error)),
            None => Ok(()),
        }
    }

    /// Freezes the directory, hashes its tree, and marks it prepared.
    pub(super) fn finish(&self, record: &ReleaseRecord) -> Result<(), Failure> {
        let dir = self.closed(record)?;
        let tree = self.freeze(&dir.0, record, self.cache()?)?;
        self.prepared(&dir, record, tree.id(), &tree)
    }

    /// Whether the release on disk is this one, prepared.
    pub(super) fn is_finished(&self, record: &ReleaseRecord) -> bool {
        let there = self.load(&record.release.name);
        there.is_ok_and(|there| there.release == record.release && there.progress == Progress::Prepared)
    }

    fn has_steps(&self, record: &ReleaseRecord) -> bool {
        record.spec.steps.iter().any(|step| applies(&step.roles, &self.service.roles))
    }

    /// Its directory, in which nothing changes any more.
    fn closed(&self, record: &ReleaseRecord) -> Result<ReleaseDir, Failure> {
        let dir = self.release_dir(&record.release.name);
        self.take_back(&dir.0)?;
        self.still_linked_outside(&dir.0, &record.spec)?;
        Ok(dir)
    }

    fn prepared(
        &self,
        dir: &ReleaseDir,
        record: &ReleaseRecord,
        id: TreeId,
        tree: &Tree,
    ) -> Result<(), Failure> {
        self.keep_tree(id, tree)?;
        let record =
            ReleaseRecord { progress: Progress::Prepared, prepared_tree: Some(id), ..record.clone() };
        sealed::write(&RealDisk, &dir.record(), &record)
            .map_err(|error| failure(Class::Host, "RecordFailed", error))
    }

    /// The tree of a release in which nothing was run.
    fn as_packed(&self, record: &ReleaseRecord, mut trees: Vec<Tree>) -> Result<(TreeId, Tree), Failure> {
        let ignore = ignored(record, &self.env_names(record))?;
        let whole = |tree: &Tree| !tree.entries().iter().any(|entry| ignore.covers(entry.path.as_bytes()));
        if let ([id], [tree]) = (record.layers.as_slice(), trees.as_slice())
            && whole(tree)
        {
            return Ok((*id, trees.remove(0)));
        }
        let tree = union(&trees, &ignore)?;
        Ok((tree.id(), tree))
    }

    fn freeze(&self, dir: &Path, record: &ReleaseRecord, cache: &HostCache) -> Result<Tree, Failure> {
        let ignore = ignored(record, &self.env_names(record))?;
        let tree = prepared::freeze(dir, &ignore, cache)
            .map_err(|error| failure(Class::Prepare, "TreeUnusable", error))?;
        self.only_where_allowed(record, &tree)?;
        Ok(tree)
    }

    /// A step may change packed paths only where the recipe says so.
    fn only_where_allowed(&self, record: &ReleaseRecord, after: &Tree) -> Result<(), Failure> {
        let trees = self.layer_trees(record)?;
        let ignore = ignored(record, &self.env_names(record))?;
        let writes: PathSet = entry_paths(&writes(&record.spec))?.iter().collect();
        for entry in trees.iter().flat_map(Tree::entries) {
            let path = entry.path.as_bytes();
            let free = ignore.covers(path)
                || writes.covers(path)
                || matches!(entry.kind, landfall_store::Kind::EmptyDir);
            if !free && after.get(path).map(|found| &found.kind) != Some(&entry.kind) {
                let what = format!(
                    "a step changed `{}`, which was packed; list it under the step's `writes` if that is intended",
                    entry.path
                );
                return Err(failure(Class::Prepare, "StepChangedFiles", what));
            }
        }
        Ok(())
    }

    /// Names of the env files in this release.
    pub(super) fn env_names(&self, record: &ReleaseRecord) -> Vec<String> {
        use crate::env::{LayerKind, file_name};
        let mut names = [LayerKind::Base, LayerKind::Local]
            .map(|kind| file_name(&record.spec.env, &self.service.environment, kind))
            .to_vec();
        let artifact = self.kept_artifact(&record.release.artifact);
        names.extend(artifact.iter().flat_map(|artifact| self.private_names(artifact)));
        names
    }
}

/// The files of a release, by layer.
fn contents<'a>(trees: &'a [Tree], spec: &ReleaseSpec) -> Result<Contents<'a>, Failure> {
    let mut private = writes(spec);
    private.extend(spec.paths.writable.iter().cloned());
    let private = entry_paths(&private)?.iter().collect();
    Ok(Contents { layers: trees.iter().collect(), env: Vec::new(), private })
}

fn writes(spec: &ReleaseSpec) -> Vec<String> {
    spec.steps.iter().flat_map(|step| step.writes.iter().cloned()).collect()
}

/// Paths that are no part of the prepared tree.
pub(super) fn ignored(record: &ReleaseRecord, env_names: &[String]) -> Result<PathSet, Failure> {
    let paths = &record.spec.paths;
    let all: Vec<String> = paths.writable.iter().chain(paths.outside()).chain(env_names).cloned().collect();
    Ok(entry_paths(&all)?.iter().collect())
}

/// The layers as one tree, without what is ignored.
fn union(trees: &[Tree], ignore: &PathSet) -> Result<Tree, Failure> {
    let kept = |entry: &&Entry| !ignore.covers(entry.path.as_bytes());
    let mut entries: Vec<Entry> = trees.iter().flat_map(Tree::entries).filter(kept).cloned().collect();
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    // What stands below a path follows it directly. One layer's empty directory may be filled by another.
    let mut filled = vec![false; entries.len()];
    let mut next: Option<&Entry> = None;
    for (at, pair) in entries.windows(2).enumerate().rev() {
        if pair[0].path != pair[1].path {
            next = Some(&pair[1]);
        }
        filled[at] = pair[0].kind == Kind::EmptyDir
            && next.is_some_and(|next| next.path.is_at_or_below(pair[0].path.as_bytes()));
    }
    let mut filled = filled.into_iter();
    entries.retain(|_| !filled.next().unwrap_or(false));
    Tree::from_entries(entries).map_err(|error| failure(Class::Refused, "LayersOverlap", error))
}

pub(super) fn entry_paths(paths: &[String]) -> Result<Vec<EntryPath>, Failure> {
    let parse = |path: &String| {
        EntryPath::new(path.as_bytes()).map_err(|error| failure(Class::Refused, "ReleaseUnreadable", error))
    };
    paths.iter().map(parse).collect()
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Refuses before anything is made what would not fit: copies need room, links only names.
fn room_for(releases: &Path, trees: &[Tree], mode: Mode) -> Result<(), Failure> {
    let (bytes, inodes) = match mode {
        Mode::Copy => (trees.iter().map(Tree::bytes).sum(), entries(trees)),
        Mode::Reflink => (0, entries(trees)),
        Mode::Link => (0, 0),
    };
    room_at(releases, bytes, inodes).map_err(|error| failure(Class::Supply, "InsufficientSpace", error))
}

fn entries(trees: &[Tree]) -> u64 {
    trees.iter().map(|tree| tree.entries().len() as u64).sum()
}

fn built(error: MaterialiseError) -> Failure {
    let full = |source: &io::Error| source.kind() == io::ErrorKind::StorageFull;
    let reason = match &error {
        MaterialiseError::Blob { source, .. } if full(source) => "InsufficientSpace",
        MaterialiseError::Fs(error) if full(&error.source) => "InsufficientSpace",
        MaterialiseError::Blob { .. } => "ContentMissing",
        _ => "ReleaseNotBuilt",
    };
    failure(Class::Supply, reason, error)
}

fn host(path: &Path, error: io::Error) -> Failure {
    let path: PathBuf = path.to_path_buf();
    failure(Class::Host, "ReleaseNotBuilt", format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use landfall_store::BlobId;

    fn tree(entries: &[(&str, Option<&str>)]) -> Tree {
        let entry = |(path, content): &(&str, Option<&str>)| Entry {
            path: EntryPath::new(path.as_bytes()).unwrap(),
            kind: content.map_or(Kind::EmptyDir, |text| Kind::File {
                size: text.len() as u64,
                blob: BlobId::of(text.as_bytes()),
                executable: false,
            }),
        };
        Tree::from_entries(entries.iter().map(entry).collect()).unwrap()
    }

    #[test]
    fn an_empty_directory_of_one_layer_is_none_where_another_fills_it() {
        let ignore: PathSet = entry_paths(&["logs".to_owned()]).unwrap().iter().collect();
        let (app, data) = (
            tree(&[("a", None), ("b", None), ("logs/x", Some("x")), ("z", Some("z"))]),
            tree(&[("a/deep/file", Some("1")), ("a.txt", Some("2")), ("c", None)]),
        );
        let both = union(&[app, data], &ignore).unwrap();
        let paths: Vec<String> = both.entries().iter().map(|entry| entry.path.to_string()).collect();
        assert_eq!(paths, ["a/deep/file", "a.txt", "b", "c", "z"]);
    }

    #[test]
    fn two_layers_with_one_path_are_refused() {
        let (one, two) = (tree(&[("a", Some("1"))]), tree(&[("a", Some("2"))]));
        assert_eq!(union(&[one, two], &PathSet::default()).unwrap_err().reason, "LayersOverlap");
    }
}
