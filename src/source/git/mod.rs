//! A state file in a git repository: fetched into a bare cache, read as one blob, never checked out.
//!
//! The cache is disposable: whatever is wrong with it, it is thrown away and fetched again. What was accepted is
//! not in it, and nothing here judges.

pub mod credential;
mod fault;
pub mod guard;
mod log;
mod objects;
mod program;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

pub use fault::{Fault, Trouble};
pub use log::{Headline, Logged, headline};
use objects::HEAD;
use program::Git;

use super::STATE_BYTES_MAX;
use crate::config::Repository;
use crate::config::remote::Remote;
use crate::trust::graph::{Bases, Contents, deciding, open_merges};
use crate::trust::{Before, CommitId};

/// Files among the packs of a cache: each fetch with something new adds a few. Then it is fetched afresh.
const PACK_FILES_MAX: usize = 1_000;
/// Commits that must be signed, looked at in one go.
const DECIDING_MAX: usize = 2_000;
/// Merges whose parents disagree, looked at in one go.
const OPEN_MERGES_MAX: usize = 1_000;

/// A state file in a repository.
#[derive(Debug, Clone)]
pub struct GitSource {
    repository: Repository,
    cache: PathBuf,
}

/// What a look compares with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// The last accepted commit.
    pub floor: Option<CommitId>,
    /// The state of the floor is in force, so that there is nothing to read if the branch is still there.
    pub is_in_force: bool,
}

/// What a look found.
#[derive(Debug)]
pub enum Seen {
    /// The branch is where it was when it was accepted.
    Same {
        /// Who said so.
        remote: String,
    },
    /// Something to be judged.
    New(Box<Found>),
}

/// A commit of the branch, and the file in it.
#[derive(Debug, Clone)]
pub struct Found {
    /// Who said so.
    pub remote: String,
    /// The branch's newest commit.
    pub head: CommitId,
    /// The commit that gave the file its content.
    pub changed: CommitId,
    /// The file.
    pub bytes: Vec<u8>,
    /// How the last accepted commit stands to the head.
    pub before: Before,
    /// The commits that decide what the file holds, newest first, as they are signed.
    pub deciding: Vec<(CommitId, Vec<u8>)>,
}

impl GitSource {
    /// The file of this repository; its cache is a directory of landfall's own.
    pub const fn new(repository: Repository, cache: PathBuf) -> Self {
        Self { repository, cache }
    }

    /// Where it is, for people.
    pub fn place(&self) -> String {
        let Repository { remotes, branch, path, .. } = &self.repository;
        format!("{path} of {branch} at {}", remotes[0])
    }

    /// The repository.
    pub const fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The file's own path, for messages about its content.
    pub fn path(&self) -> &Path {
        Path::new(self.repository.path.as_str())
    }

    /// Fetches and reads what is there, compared with this commit.
    pub async fn found(&self, floor: Option<&CommitId>) -> Result<Found, Trouble> {
        match self.look(&Known { floor: floor.cloned(), is_in_force: false }).await? {
            Seen::New(found) => Ok(*found),
            Seen::Same { .. } => unreachable!("nothing is in force, so everything is read"),
        }
    }

    /// Fetches, and reads what is there. The first remote that can be read is believed to be the repository; an
    /// error is the first remote's. Never takes longer than its limits, and can be dropped at any moment.
    pub async fn look(&self, known: &Known) -> Result<Seen, Trouble> {
        let mut first = None;
        for remote in &self.repository.remotes {
            match self.look_at(remote, known).await {
                Ok(seen) => return Ok(seen),
                Err(trouble) => {
                    let elsewhere = trouble.fault.may_be_better_elsewhere();
                    first.get_or_insert(trouble);
                    if !elsewhere {
                        break;
                    }
                }
            }
        }
        Err(first.expect("a repository has an address"))
    }

    async fn look_at(&self, remote: &Remote, known: &Known) -> Result<Seen, Trouble> {
        if !remote.transport().is_private() {
            tracing::warn!(%remote, "`insecure_transport`: whoever is in between can read and change the state");
        }
        let fresh = !self.cache.exists();
        match self.attempt(remote, known).await {
            // A lock that a killed git left, a damaged object, a rewritten file: nothing that counts is in there.
            Err(fault @ (Fault::Cache { .. } | Fault::Refused { .. })) if !fresh => {
                tracing::warn!(%remote, %fault, "the cache of the state repository is fetched again");
                self.discard().map_err(|fault| fault.at(remote))?;
                self.attempt(remote, known).await.map_err(|fault| fault.at(remote))
            }
            // What a git that was ended left there would be in the way of every later one.
            Err(fault @ Fault::TooLarge { .. }) => {
                self.discard().map_err(|fault| fault.at(remote))?;
                Err(fault.at(remote))
            }
            seen => seen.map_err(|fault| fault.at(remote)),
        }
    }

    async fn attempt(&self, remote: &Remote, known: &Known) -> Result<Seen, Fault> {
        let git = Git::find(self.cache.clone())?;
        if self.is_worn() {
            self.discard()?;
        }
        if !self.cache.exists() {
            git.init("sha1").await?;
        }
        let branch = &self.repository.branch;
        let refspec = format!("+refs/heads/{branch}:{HEAD}");
        let mut said = git.fetch(remote, &refspec, &self.repository.access).await?;
        if !said.status.success() && said.words.contains("mismatched algorithms") {
            self.discard()?;
            git.init("sha256").await?;
            said = git.fetch(remote, &refspec, &self.repository.access).await?;
        }
        if !said.status.success() {
            let about_the_cache = said.words.contains(&*self.cache.to_string_lossy());
            return Err(match about_the_cache {
                true => Fault::cache("fetch", &said.words),
                false => Fault::of_fetch(&said.words),
            });
        }
        let head = git.head().await?;
        if known.is_in_force && known.floor.as_ref() == Some(&head) {
            return Ok(Seen::Same { remote: remote.to_string() });
        }
        self.read(&git, remote, head, known).await.map(|found| Seen::New(Box::new(found)))
    }

    async fn read(&self, git: &Git, remote: &Remote, head: CommitId, known: &Known) -> Result<Found, Fault> {
        let bytes = self.file(git, &head).await?;
        let path = self.repository.path.as_str();
        let changed = git.last_change(&head, path).await?.unwrap_or_else(|| head.clone());
        let before = before(git, &head, known.floor.as_ref()).await?;
        let deciding = match (before, &known.floor) {
            (Before::Older | Before::Newer | Before::Apart, Some(floor)) => {
                self.deciding(git, &head, floor).await?
            }
            _ => vec![changed.clone()],
        };
        if deciding.len() > DECIDING_MAX {
            return Err(Fault::TooManyCommits { limit: DECIDING_MAX });
        }
        let mut raw = Vec::new();
        for commit in deciding {
            let bytes = git.raw(&commit).await?;
            raw.push((commit, bytes));
        }
        Ok(Found { remote: remote.to_string(), head, changed, bytes, before, deciding: raw })
    }

    /// The file as it is in a commit: regular, and small enough, which is known before it is read.
    async fn file(&self, git: &Git, head: &CommitId) -> Result<Vec<u8>, Fault> {
        let Repository { branch, path, .. } = &self.repository;
        let (path, branch, head_id) = (path.clone(), branch.clone(), head.short().to_owned());
        let Some(entry) = git.entry(head, path.as_str()).await? else {
            return Err(Fault::NoFile { branch, path, head: head_id });
        };
        let kind = match entry.mode.as_slice() {
            b"100644" | b"100755" => None,
            b"120000" => Some("a symbolic link"),
            b"160000" => Some("a submodule"),
            b"040000" => Some("a directory"),
            _ => Some("something else"),
        };
        if let Some(kind) = kind {
            return Err(Fault::NotAFile { path, kind, head: head_id });
        }
        // Contents that are too large need not even have been fetched; git does not know their size then.
        if entry.bytes.is_none_or(|bytes| bytes > STATE_BYTES_MAX) {
            return Err(Fault::FileTooLarge { path, head: head_id });
        }
        git.blob(&entry.id).await
    }

    /// The commits since the floor that decide what the file holds.
    async fn deciding(&self, git: &Git, head: &CommitId, floor: &CommitId) -> Result<Vec<CommitId>, Fault> {
        let path = self.repository.path.as_str();
        let commits = git.since(head, Some(floor)).await?;
        let all: BTreeSet<CommitId> = commits
            .iter()
            .flat_map(|commit| std::iter::once(&commit.id).chain(&commit.parents))
            .cloned()
            .collect();
        let contents = contents(git, all.into_iter().collect(), path).await?;
        let open = open_merges(&commits, &contents);
        if open.len() > OPEN_MERGES_MAX {
            return Err(Fault::TooManyCommits { limit: OPEN_MERGES_MAX });
        }
        let mut bases = Bases::new();
        for merge in open {
            if let [a, b] = merge.parents.as_slice() {
                let best = git.bases(a, b).await?;
                bases.insert(merge.id.clone(), git.contents(&best, path).await?);
            }
        }
        Ok(deciding(&commits, &contents, &bases).into_iter().cloned().collect())
    }

    /// Whether so many fetches have gone into the cache that it would only get slower.
    fn is_worn(&self) -> bool {
        std::fs::read_dir(self.cache.join("objects/pack")).is_ok_and(|files| files.count() > PACK_FILES_MAX)
    }

    /// Takes the cache away: aside at once, so that a git that still runs in it can do no harm, then for good.
    pub fn discard(&self) -> Result<(), Fault> {
        let aside = self.cache.with_extension(format!("{:08x}.aside", fastrand::u32(..)));
        match std::fs::rename(&self.cache, &aside) {
            Ok(()) => std::fs::remove_dir_all(&aside).map_err(Fault::NotRun),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(Fault::NotRun(error)),
        }
    }

    /// Removes what an agent that was killed while it took a cache away left of it.
    pub fn sweep(&self) {
        let (Some(dir), Some(name)) = (self.cache.parent(), self.cache.file_stem()) else { return };
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let found = entry.file_name();
            let found = found.to_string_lossy();
            if found.starts_with(&*name.to_string_lossy())
                && found.ends_with(".aside")
                && let Err(error) = std::fs::remove_dir_all(entry.path())
            {
                tracing::warn!(path = %entry.path().display(), %error, "an old cache was not removed");
            }
        }
    }
}

async fn contents(git: &Git, commits: Vec<CommitId>, path: &str) -> Result<Contents, Fault> {
    let blobs = git.contents(&commits, path).await?;
    Ok(commits.into_iter().zip(blobs).filter_map(|(commit, blob)| Some((commit, blob?))).collect())
}

async fn before(git: &Git, head: &CommitId, floor: Option<&CommitId>) -> Result<Before, Fault> {
    let Some(floor) = floor else { return Ok(Before::Nothing) };
    if floor == head {
        return Ok(Before::Older);
    }
    if !git.has(floor).await? {
        return Ok(Before::Gone);
    }
    if git.is_ancestor(floor, head).await? {
        return Ok(Before::Older);
    }
    Ok(if git.is_ancestor(head, floor).await? { Before::Newer } else { Before::Apart })
}
