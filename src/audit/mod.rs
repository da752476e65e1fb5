//! What ran where, from when to when, and who asked for it: hosts' histories joined with the log of the state
//! repository. Pure; whoever asks brings both.

mod join;
mod log;
mod runs;

use jiff::Timestamp;
use landfall_store::{ArtifactId, Name, Version};
use schemars::JsonSchema;
use serde::Serialize;

use crate::record::acceptances::{Acceptance, Chained};
use crate::record::history::Outcome;

pub use join::join;
pub use log::{Naming, Noted, log, log_of};
pub use runs::runs;

/// One attempt on one host, and the time in which what it brought was in service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "AuditEntry")]
pub struct Run {
    /// Which app.
    pub app: Name,
    /// In which environment.
    pub environment: Name,
    /// On which host; absent: the state asked for it, and no host reports having tried.
    pub host: Option<Name>,
    /// Which artifact.
    pub artifact: ArtifactId,
    /// What people call it.
    pub version: Option<Version>,
    /// The attempt's number on its host.
    pub attempt: Option<u64>,
    /// How it ended.
    pub result: Option<Outcome>,
    /// Why it failed, in one word; for a release that landfall went back to, that it did.
    pub reason: Option<String>,
    /// When it came into service, by its host's clock; absent: it never did.
    pub from: Option<Timestamp>,
    /// When it went out of service; absent beside a `from`: it still is.
    pub until: Option<Timestamp>,
    /// When the attempt began.
    pub tried: Option<Timestamp>,
    /// Who asked for it, as the state says.
    pub by: Option<String>,
    /// Why, as the state says.
    pub why: Option<String>,
    /// The commit of the state that its host read.
    pub state_commit: Option<String>,
    /// The commit that asked for it.
    pub commit: Option<Commit>,
    /// The hash of the entry in its host's history.
    pub entry: Option<String>,
    /// An operator of its host took the state it came with, although the host had refused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted: Option<Acceptance>,
}

/// A commit that an operator of a host took although the host had refused it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "AcceptedOnHost")]
pub struct AcceptedOn {
    /// Which host.
    pub host: Name,
    /// What, by whom, why, and its place in the host's chain.
    #[serde(flatten)]
    pub accepted: Chained,
}

/// Marks the runs that came with a commit which an operator took, and gives the acceptances back in the order in
/// which they happened.
pub fn accept(runs: &mut [Run], mut all: Vec<AcceptedOn>) -> Vec<AcceptedOn> {
    for run in runs {
        let mut of_it = all.iter().filter(|one| {
            let acceptance = &one.accepted.acceptance;
            Some(&one.host) == run.host.as_ref()
                && run.state_commit.as_ref() == Some(&acceptance.state_commit)
        });
        run.accepted = of_it.next_back().map(|one| one.accepted.acceptance.clone());
    }
    all.sort_by(|a, b| (a.accepted.acceptance.at, &a.host).cmp(&(b.accepted.acceptance.at, &b.host)));
    all
}

impl Run {
    /// Whether it was in service at a moment.
    pub fn covers(&self, moment: Timestamp) -> bool {
        self.from.is_some_and(|from| from <= moment) && self.until.is_none_or(|until| moment < until)
    }

    /// When it came into being, for the order of a list.
    pub fn when(&self) -> Option<Timestamp> {
        let committed = self.commit.as_ref().map(|commit| commit.time);
        self.from.or(self.tried).or(committed)
    }
}

/// A commit of the state repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "StateCommit")]
pub struct Commit {
    /// Its hash.
    pub id: String,
    /// Who made it, by name and address.
    pub author: String,
    /// When it was committed, by the clock of whoever did.
    pub time: Timestamp,
    /// The first line of its message.
    pub subject: String,
    /// Whether it is signed, and by whom.
    pub signature: Signature,
}

/// What git says of a commit's signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "state", content = "by")]
pub enum Signature {
    /// There is none.
    None,
    /// It is good, and its key is this person's.
    Good(String),
    /// It is good, and nobody said whose key it is.
    UnknownSigner,
    /// It is bad, expired or revoked.
    Bad,
    /// It was not checked: no list of allowed signers was given.
    NotChecked,
}

impl std::fmt::Display for Signature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => f.write_str("unsigned"),
            Self::Good(by) => write!(f, "signed by {by}"),
            Self::UnknownSigner => f.write_str("signed by an unknown key"),
            Self::Bad => f.write_str("BAD SIGNATURE"),
            Self::NotChecked => f.write_str("signature not checked"),
        }
    }
}
