//! What of a release lives outside it: `shared` paths, and the directory of the app's own logs.

use std::path::{Path, PathBuf};

use landfall_store::EntryPath;
use landfall_store::outside::{self, OutsideError, Wanted};

use super::build::entry_paths;
use super::{Inner, failure};
use crate::disk::{Disk, RealDisk};
use crate::record::journal::{Class, Failure};
use crate::spec::ReleaseSpec;

/// One path of a release that leads out of it.
struct Outside {
    /// In the release.
    path: EntryPath,
    /// The directory it leads to, of landfall's own.
    top: PathBuf,
    /// Where in that directory.
    at: EntryPath,
    wanted: Wanted,
}

impl Outside {
    fn target(&self) -> PathBuf {
        self.top.join(self.at.as_path())
    }
}

impl Inner {
    /// Makes what is missing outside, and the links to it in a release that is being built.
    pub(super) fn link_outside(&self, dir: &Path, spec: &ReleaseSpec) -> Result<(), Failure> {
        for outside in self.outside(spec)? {
            RealDisk
                .create_dir(&outside.top)
                .map_err(|error| unusable(format!("{}: {error}", outside.top.display())))?;
            outside::ensure(&outside.top, &outside.at, outside.wanted, self.owner())
                .and_then(|()| outside::link(dir, &outside.path, &outside.target()))
                .map_err(|error| in_the_way(&error))?;
        }
        Ok(())
    }

    /// Steps may have put something else there, which the next release would not have.
    pub(super) fn still_linked_outside(&self, dir: &Path, spec: &ReleaseSpec) -> Result<(), Failure> {
        for outside in self.outside(spec)? {
            let linked = outside::is_linked(dir, &outside.path, &outside.target());
            if !linked.map_err(|error| in_the_way(&error))? {
                let what = format!(
                    "a step replaced `{}`, which leads to {}: let it write into that, or take it out of [paths]",
                    outside.path,
                    outside.target().display()
                );
                return Err(failure(Class::Prepare, "StepChangedFiles", what));
            }
        }
        Ok(())
    }

    fn outside(&self, spec: &ReleaseSpec) -> Result<Vec<Outside>, Failure> {
        let shared = self.service.dir.shared();
        let logs = self.service.dir.own_logs();
        let mut found = Vec::new();
        for (paths, wanted) in
            [(&spec.paths.shared, Wanted::Directory), (&spec.paths.shared_files, Wanted::File)]
        {
            for path in entry_paths(paths)? {
                found.push(Outside { at: path.clone(), path, top: shared.clone(), wanted });
            }
        }
        if let (Some(path), Some(top), Some(name)) = (&spec.paths.logs, logs.parent(), logs.file_name()) {
            let path = entry_paths(std::slice::from_ref(path))?.remove(0);
            let at = entry_paths(&[name.to_string_lossy().into_owned()])?.remove(0);
            found.push(Outside { path, top: top.to_owned(), at, wanted: Wanted::Directory });
        }
        Ok(found)
    }
}

fn in_the_way(error: &OutsideError) -> Failure {
    unusable(error.to_string())
}

fn unusable(message: String) -> Failure {
    failure(Class::Host, "SharedUnusable", message)
}
