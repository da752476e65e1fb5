//! The commits that changed a file, with the file as each left it.

use std::ffi::OsStr;
use std::path::Path;

use super::file::{FileError, StateFile};
use super::git::{self, GitError};

/// A commit, and the file after it; `None`: the commit removed it, or it is no text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogCommit {
    /// What git knows of it.
    pub facts: Facts,
    /// The file.
    pub text: Option<String>,
}

/// What git knows of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Its hash.
    pub id: String,
    /// Who made it: `Name <address>`.
    pub author: String,
    /// When it was committed, in seconds since 1970, by the clock of whoever did.
    pub time: i64,
    /// The first line of its message.
    pub subject: String,
    /// git's letter for its signature (`%G?`).
    pub signature: String,
    /// The signer's name, if the signature is good (`%GS`).
    pub signer: String,
}

/// Why a log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
    /// Git.
    #[error(transparent)]
    Git(#[from] GitError),
}

const FIELDS: usize = 6;
const FORMAT: &str = "--format=%H%x00%an <%ae>%x00%ct%x00%s%x00%G?%x00%GS%x00";

/// The newest commits that changed the file, oldest first. `signers`: whose signatures are good.
pub fn commits_of(file: &Path, limit: usize, signers: Option<&Path>) -> Result<Vec<LogCommit>, HistoryError> {
    let file = StateFile::hold(file)?;
    let name = file.path().file_name().unwrap_or_default();
    let facts = facts(file.dir(), name, limit, signers)?;
    let objects: Vec<String> =
        facts.iter().map(|facts| format!("{}:./{}", facts.id, name.to_string_lossy())).collect();
    let texts = git::contents(file.dir(), &objects)?;
    Ok(facts.into_iter().zip(texts).map(|(facts, text)| LogCommit { facts, text }).collect())
}

fn facts(dir: &Path, name: &OsStr, limit: usize, signers: Option<&Path>) -> Result<Vec<Facts>, GitError> {
    let text = git::log(dir, name, limit, FORMAT, signers)?;
    let fields: Vec<&str> = text.split('\0').collect();
    let commits = fields.chunks_exact(FIELDS).filter_map(|fields| {
        let [id, author, time, subject, signature, signer] = fields else { return None };
        Some(Facts {
            // Each record begins behind the newline that ends the one before.
            id: id.trim_start().to_owned(),
            author: (*author).to_owned(),
            time: time.parse().ok()?,
            subject: (*subject).to_owned(),
            signature: (*signature).to_owned(),
            signer: (*signer).to_owned(),
        })
    });
    let mut commits: Vec<Facts> = commits.collect();
    commits.reverse();
    Ok(commits)
}
