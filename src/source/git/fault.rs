//! Why a repository was not read, in words that hold no secret.

use std::io;
use std::time::Duration;

use crate::config::remote::{Branch, Remote, RepoPath};

/// What can go wrong with a repository. Which one is said by [`Fault::at`]'s caller.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// There is no git.
    #[error("there is no `git` program on this machine's PATH")]
    NoGit,
    /// It cannot be started or heard.
    #[error("cannot run git: {0}")]
    NotRun(io::Error),
    /// It took too long and was ended.
    #[error("git was ended after {limit:?}: the server does not answer, or too slowly")]
    TooSlow {
        /// The limit.
        limit: Duration,
    },
    /// It stored too much and was ended.
    #[error("the repository is too large: {} MiB were fetched and there was more; at most {} MiB", bytes >> 20, super::program::CACHE_BYTES_MAX >> 20)]
    TooLarge {
        /// Bytes by then.
        bytes: u64,
    },
    /// It said too much.
    #[error("git said more than {limit} bytes")]
    TooMuch {
        /// The limit.
        limit: u64,
    },
    /// The server refused who asked.
    #[error("the server refuses this host: {words}")]
    Auth {
        /// What git said.
        words: String,
    },
    /// The server is not the one that is known.
    #[error("the server's host key is not the known one: {words}")]
    HostKey {
        /// What git said.
        words: String,
    },
    /// There is no such repository or branch there.
    #[error("{what}: {words}")]
    NotFound {
        /// What is missing.
        what: &'static str,
        /// What git said.
        words: String,
    },
    /// Nobody answers.
    #[error("the server cannot be reached: {words}")]
    Unreachable {
        /// What git said.
        words: String,
    },
    /// The server's objects are not what they should be, or git refused for another reason.
    #[error("git {what} failed: {words}")]
    Refused {
        /// What was asked.
        what: &'static str,
        /// What git said.
        words: String,
    },
    /// The branch has no such file.
    #[error("branch `{branch}` has no file `{path}` in its newest commit ({head})")]
    NoFile {
        /// The branch.
        branch: Branch,
        /// The file.
        path: RepoPath,
        /// The commit.
        head: String,
    },
    /// What is there is no regular file.
    #[error("`{path}` is {kind} in commit {head}, not a regular file: it is not followed")]
    NotAFile {
        /// The file.
        path: RepoPath,
        /// What it is.
        kind: &'static str,
        /// The commit.
        head: String,
    },
    /// The file is too large.
    #[error(
        "`{path}` is too large in commit {head}: a state has at most {} bytes",
        super::super::STATE_BYTES_MAX
    )]
    FileTooLarge {
        /// The file.
        path: RepoPath,
        /// The commit.
        head: String,
    },
    /// Too many commits at once.
    #[error("more than {limit} commits came at once: that is not an update but another history")]
    TooManyCommits {
        /// The limit.
        limit: usize,
    },
    /// The cache is not usable. It is thrown away and fetched again; nothing that counts is in it.
    #[error("the cache of the repository cannot be used (git {what}): {words}")]
    Cache {
        /// What was asked.
        what: &'static str,
        /// What git said.
        words: String,
    },
}

impl Fault {
    pub(super) fn cache(what: &'static str, words: &str) -> Self {
        Self::Cache { what, words: scrubbed(words) }
    }

    /// What a failed fetch means.
    pub(super) fn of_fetch(words: &str) -> Self {
        let said = |any: &[&str]| {
            let lower = words.to_lowercase();
            any.iter().any(|part| lower.contains(part))
        };
        let words = scrubbed(words);
        if said(&[
            "host key verification failed",
            "remote host identification has changed",
            "no matching host key",
        ]) {
            return Self::HostKey { words };
        }
        if said(&["couldn't find remote ref"]) {
            return Self::NotFound { what: "the branch is not there", words };
        }
        if said(&[
            "authentication failed",
            "permission denied",
            "could not read username",
            "could not read password",
            "terminal prompts disabled",
            "error: 401",
            "error: 403",
            "access denied",
            "token_file",
        ]) {
            return Self::Auth { words };
        }
        if said(&["dubious ownership"]) {
            return Self::Refused { what: "fetch", words };
        }
        // Before what is not found: git says "could not read from remote repository" after either.
        if said(&[
            "could not resolve",
            "connection refused",
            "connection timed out",
            "connection reset",
            "connection closed",
            "no route to host",
            "network is unreachable",
            "operation timed out",
            "failed to connect",
            "unable to connect",
            "couldn't connect",
            "empty reply",
            "timed out",
            "hung up",
            "early eof",
            "error: 5",
            "ssl",
            "tls",
            "certificate",
        ]) {
            return Self::Unreachable { words };
        }
        if said(&[
            "repository not found",
            "does not appear to be a git repository",
            "does not exist",
            "not exported",
            "error: 404",
            "not found",
            "no such",
        ]) {
            return Self::NotFound { what: "the repository is not there", words };
        }
        Self::Refused { what: "fetch", words }
    }

    /// One word for machines.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Auth { .. } => "AuthenticationFailed",
            Self::HostKey { .. } => "HostKeyUnknown",
            Self::NotFound { .. } => "RefNotFound",
            Self::NoFile { .. } => "FileNotFound",
            Self::NotAFile { .. } | Self::FileTooLarge { .. } => "FileRefused",
            Self::Unreachable { .. } | Self::TooSlow { .. } => "Unreachable",
            Self::TooLarge { .. } | Self::TooMuch { .. } | Self::TooManyCommits { .. } => "TooLarge",
            Self::NoGit | Self::NotRun(_) | Self::Refused { .. } | Self::Cache { .. } => "GitOperationFailed",
        }
    }

    /// What to do about it.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::NoGit => "install git",
            Self::Auth { .. } => {
                "is the deploy key or token of host.toml the one that the server knows? `landfall doctor` tries it"
            }
            Self::HostKey { .. } => {
                "compare the key with the server's own word, then: ssh-keyscan HOST >> the file of `known_hosts`"
            }
            Self::NotFound { .. } | Self::NoFile { .. } => {
                "`git`, `branch` and `path` under [state] say where it should be"
            }
            Self::NotAFile { .. } | Self::FileTooLarge { .. } => {
                "commit the state as a plain file at that path"
            }
            Self::TooLarge { .. } | Self::TooManyCommits { .. } => "give the state a repository of its own",
            Self::Unreachable { .. } | Self::TooSlow { .. } => {
                "the agent tries again; `mirrors` names others to ask"
            }
            Self::TooMuch { .. } | Self::NotRun(_) | Self::Refused { .. } | Self::Cache { .. } => {
                "`landfall doctor` tries it with everything that is configured"
            }
        }
    }

    /// Whether another place with the same content may do better.
    pub(super) const fn may_be_better_elsewhere(&self) -> bool {
        !matches!(self, Self::NoGit | Self::NotRun(_) | Self::Cache { .. })
    }

    /// The same with the place it happened at.
    pub(super) fn at(self, remote: &Remote) -> Trouble {
        Trouble { place: remote.to_string(), fault: self }
    }
}

/// A fault and where it happened.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {fault}")]
pub struct Trouble {
    /// The repository, without user or password.
    pub place: String,
    /// What it was.
    pub fault: Fault,
}

/// Lines of git's own words that are kept.
const WORDS_LINES_MAX: usize = 4;
/// Characters of them.
const WORDS_CHARS_MAX: usize = 400;

/// git's words as they may be shown: no user, no password of any address, no control characters, not too many,
/// on one line.
pub(super) fn scrubbed(words: &str) -> String {
    let tells = |line: &&str| {
        let line = line.trim();
        !line.is_empty()
            && !line.starts_with("warning: filtering not recognized")
            && !line.starts_with("hint:")
    };
    let lines: Vec<String> = words.lines().filter(tells).take(WORDS_LINES_MAX).map(without_users).collect();
    let text: String = lines.join("; ").chars().filter(|c| !c.is_control()).take(WORDS_CHARS_MAX).collect();
    if text.is_empty() { "git gave no reason".to_owned() } else { text }
}

fn without_users(line: &str) -> String {
    let mut rest = line.trim();
    let mut clean = String::new();
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        clean.push_str(before);
        let end = after
            .find(|c: char| c == '/' || c.is_whitespace() || c == '\'' || c == '"')
            .unwrap_or(after.len());
        let (authority, tail) = after.split_at(end);
        clean.push_str(authority.rsplit_once('@').map_or(authority, |(_, host)| host));
        rest = tail;
    }
    clean.push_str(rest);
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_user_and_no_password_of_an_address_is_shown() {
        let words = "fatal: unable to access 'https://me:hunter2@git.example.org/state.git/': 401\n\
                     fatal: ssh://git:hunter2@h:22/x and https://hunter2@h/y\n";
        let clean = scrubbed(words);
        assert!(!clean.contains("hunter2") && !clean.contains("me:"), "{clean}");
        assert!(clean.contains("https://git.example.org/state.git"), "{clean}");
        assert_eq!(scrubbed("\n \n"), "git gave no reason");
        assert!(scrubbed(&"x".repeat(100_000)).len() <= WORDS_CHARS_MAX);
    }

    #[test]
    fn a_failed_fetch_says_what_kind_of_failure_it_is() {
        let reason = |words: &str| Fault::of_fetch(words).reason();
        assert_eq!(
            reason("git@h: Permission denied (publickey).\nfatal: Could not read from remote repository."),
            "AuthenticationFailed"
        );
        assert_eq!(
            reason("fatal: could not read Username for 'https://h': terminal prompts disabled"),
            "AuthenticationFailed"
        );
        assert_eq!(
            reason("fatal: unable to access 'https://h/': The requested URL returned error: 403"),
            "AuthenticationFailed"
        );
        assert_eq!(
            reason("Host key verification failed.\nfatal: Could not read from remote repository."),
            "HostKeyUnknown"
        );
        assert_eq!(reason("fatal: couldn't find remote ref refs/heads/prod"), "RefNotFound");
        assert_eq!(reason("fatal: '/x' does not appear to be a git repository"), "RefNotFound");
        assert_eq!(
            reason(
                "fatal: unable to connect to 127.0.0.1:\n127.0.0.1[0: 127.0.0.1]: errno=Connection refused"
            ),
            "Unreachable"
        );
        assert_eq!(reason("ssh: Could not resolve hostname h: Name or service not known"), "Unreachable");
        assert_eq!(reason("fatal: the remote end hung up unexpectedly"), "Unreachable");
        assert_eq!(
            reason("error: object 123: missingSpaceBeforeDate\nfatal: fsck error"),
            "GitOperationFailed"
        );
    }
}
