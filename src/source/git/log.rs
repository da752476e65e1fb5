//! The log of the state file as the cache has it: nothing is fetched, and nothing but full ids is asked for.

use jiff::Timestamp;

use super::GitSource;
use super::fault::Fault;
use super::objects::HEAD;
use super::program::Git;
use crate::trust::CommitId;

/// Commits asked for in one breath: their answers fit into what git may say.
const COMMITS_AT_ONCE: usize = 100;
/// Files asked for in one breath: each may have a mebibyte.
const FILES_AT_ONCE: usize = 12;

/// A commit that changed the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// Which commit.
    pub id: CommitId,
    /// The commit as it is hashed and signed.
    pub raw: Vec<u8>,
    /// The file after it; `None`: it removed the file, or it is no text, or too large to have been fetched.
    pub text: Option<String>,
}

/// What a commit says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Headline {
    /// `Name <address>`.
    pub author: String,
    /// When it was committed, by the clock of whoever did.
    pub time: Timestamp,
    /// The first line of its message.
    pub subject: String,
}

impl GitSource {
    /// The newest commits that changed the file, oldest first; `None`: nothing was ever fetched.
    pub async fn log(&self, limit: usize) -> Result<Option<Vec<Logged>>, Fault> {
        if !self.cache.exists() {
            return Ok(None);
        }
        let git = Git::find(self.cache.clone())?;
        let path = self.repository.path.as_str();
        let mut ids = git.changes(HEAD, path, limit).await?;
        ids.reverse();
        let mut logged: Vec<Logged> = Vec::new();
        for ids in ids.chunks(COMMITS_AT_ONCE) {
            let names: Vec<String> = ids.iter().map(ToString::to_string).collect();
            let raws = git.objects(&names).await?;
            logged.extend(
                ids.iter()
                    .zip(raws)
                    .filter_map(|(id, raw)| Some(Logged { id: id.clone(), raw: raw?, text: None })),
            );
        }
        for commits in logged.chunks_mut(FILES_AT_ONCE) {
            let names: Vec<String> = commits.iter().map(|commit| format!("{}:{path}", commit.id)).collect();
            for (commit, file) in commits.iter_mut().zip(git.objects(&names).await?) {
                commit.text = file.and_then(|bytes| String::from_utf8(bytes).ok());
            }
        }
        Ok(Some(logged))
    }
}

/// Reads what a commit says of itself; what cannot be read is left empty.
pub fn headline(raw: &[u8]) -> Headline {
    let text = String::from_utf8_lossy(raw);
    let (head, message) = text.split_once("\n\n").unwrap_or((&text, ""));
    let line = |key: &str| head.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
    // `Name <address> seconds zone`.
    let person = |line: &str| line.rsplitn(3, ' ').nth(2).unwrap_or_default().to_owned();
    let seconds = line("committer ").rsplit(' ').nth(1).and_then(|seconds| seconds.parse().ok());
    Headline {
        author: person(line("author ")),
        time: seconds.and_then(|seconds| Timestamp::from_second(seconds).ok()).unwrap_or_default(),
        subject: message.trim_start().lines().next().unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_says_who_when_and_what_and_nonsense_says_nothing() {
        let raw = b"tree 1\nauthor Maria Q <m@a.example> 1763000000 +0100\ncommitter Ci <ci@a.example> 1763000060 +0000\ngpgsig -----BEGIN\n author no <no> 1 +0\n\nDeploy web\n\nbecause\n";
        let found = headline(raw);
        assert_eq!((found.author.as_str(), found.subject.as_str()), ("Maria Q <m@a.example>", "Deploy web"));
        assert_eq!(found.time, Timestamp::from_second(1_763_000_060).unwrap());
        for nonsense in [&b""[..], b"author", b"\xff\xfe\n\n", b"author x\ncommitter y z\n"] {
            assert_eq!(headline(nonsense).time, Timestamp::UNIX_EPOCH);
        }
    }
}
