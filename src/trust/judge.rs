//! The verdict on a state from a repository. Pure: no clock, no disk, no git.

use jiff::Timestamp;

use super::serial::{SerialFault, follows};
use super::signature::{Unsigned, signer};
use super::{CommitId, Signers};
use crate::config::History;

/// What was accepted here before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Floor {
    /// Nothing ever.
    Nothing,
    /// Something, and what it was cannot be read any more.
    Lost(String),
    /// This.
    At {
        /// The commit; none if the state came from elsewhere.
        commit: Option<CommitId>,
        /// Its serial.
        serial: Option<u64>,
    },
}

impl Floor {
    /// The commit that a new one must come after.
    pub const fn commit(&self) -> Option<&CommitId> {
        match self {
            Self::At { commit: Some(commit), .. } => Some(commit),
            Self::Nothing | Self::Lost(_) | Self::At { commit: None, .. } => None,
        }
    }

    const fn serial(&self) -> Option<u64> {
        match self {
            Self::At { serial, .. } => *serial,
            Self::Nothing | Self::Lost(_) => None,
        }
    }
}

/// How the last accepted commit stands to the new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// There is none.
    Nothing,
    /// It is the new one, or before it.
    Older,
    /// The new one is before it: the branch was set back.
    Newer,
    /// They have parted.
    Apart,
    /// The repository does not have it.
    Gone,
}

/// Everything the verdict rests on.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The branch's newest commit.
    pub head: &'a CommitId,
    /// What was accepted before.
    pub floor: &'a Floor,
    /// How that stands to the head.
    pub before: Before,
    /// Which histories are accepted.
    pub history: History,
    /// The commits that decide what the file holds, as they are signed.
    pub deciding: &'a [(CommitId, Vec<u8>)],
    /// Who may sign; none: nobody is asked to.
    pub signers: Option<&'a Signers>,
    /// Which of them; empty: all.
    pub operators: &'a [String],
    /// The state's own number.
    pub serial: Option<u64>,
    /// Now.
    pub now: Timestamp,
}

/// Who stands behind an accepted state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signed {
    /// Nobody was asked to sign.
    NotAsked,
    /// Nothing about the file changed since the last accepted commit.
    Unchanged,
    /// This principal signed the newest change.
    By(String),
}

/// It may be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Whose word it is.
    pub signed: Signed,
}

/// It may not, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody knows what came before.
    #[error("commit {head} cannot be compared with what was accepted before: {why}")]
    FloorLost {
        /// The head.
        head: CommitId,
        /// What is known.
        why: String,
    },
    /// The branch was set back.
    #[error("the branch was set back to {head}, which is before {floor}, accepted here already")]
    SetBack {
        /// The head.
        head: CommitId,
        /// The accepted commit.
        floor: CommitId,
    },
    /// Its history was rewritten.
    #[error("commit {head} does not come after {floor}, which was accepted here: the branch was rewritten")]
    Rewritten {
        /// The head.
        head: CommitId,
        /// The accepted commit.
        floor: CommitId,
    },
    /// A commit that decides what the file holds is not signed as it must be.
    #[error("commit {commit} changes the state, and {why}")]
    Unsigned {
        /// The head.
        head: CommitId,
        /// Which commit.
        commit: CommitId,
        /// What is wrong.
        why: Unsigned,
    },
    /// Nobody gave the file its content.
    #[error("no commit is known that gave the state its content in {head}")]
    NoSource {
        /// The head.
        head: CommitId,
    },
    /// The state's own number.
    #[error("commit {head}: {fault}")]
    Serial {
        /// The head.
        head: CommitId,
        /// What is wrong.
        fault: SerialFault,
    },
}

impl Refusal {
    /// The commit that is refused.
    pub const fn head(&self) -> &CommitId {
        match self {
            Self::FloorLost { head, .. }
            | Self::SetBack { head, .. }
            | Self::Rewritten { head, .. }
            | Self::Unsigned { head, .. }
            | Self::NoSource { head }
            | Self::Serial { head, .. } => head,
        }
    }

    /// One word for machines.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::FloorLost { .. } => "FloorLost",
            Self::SetBack { .. }
            | Self::Rewritten { .. }
            | Self::Serial { fault: SerialFault::Lower { .. } | SerialFault::Missing { .. }, .. } => {
                "NonFastForward"
            }
            Self::Serial { fault: SerialFault::Jump { .. }, .. } => "SerialJump",
            Self::Unsigned { why, .. } => why.reason(),
            Self::NoSource { .. } => "SignatureMissing",
        }
    }

    /// Whether it is about who signed.
    pub const fn is_about_signatures(&self) -> bool {
        matches!(self, Self::Unsigned { .. } | Self::NoSource { .. })
    }
}

/// Judges.
pub fn judge(facts: &Facts<'_>) -> Result<Verdict, Refusal> {
    ancestry(facts)?;
    let signed = signatures(facts)?;
    let fault = |fault| Refusal::Serial { head: facts.head.clone(), fault };
    follows(facts.serial, facts.floor.serial()).map_err(fault)?;
    Ok(Verdict { signed })
}

fn ancestry(facts: &Facts<'_>) -> Result<(), Refusal> {
    let head = facts.head.clone();
    let floor = match facts.floor {
        Floor::Lost(why) => return Err(Refusal::FloorLost { head, why: why.clone() }),
        Floor::Nothing | Floor::At { commit: None, .. } => return Ok(()),
        Floor::At { commit: Some(floor), .. } => floor.clone(),
    };
    match (facts.before, facts.history) {
        (Before::Older | Before::Nothing, _) | (_, History::Any) => Ok(()),
        (Before::Newer, History::FastForward) => Err(Refusal::SetBack { head, floor }),
        (Before::Apart | Before::Gone, History::FastForward) => Err(Refusal::Rewritten { head, floor }),
    }
}

fn signatures(facts: &Facts<'_>) -> Result<Signed, Refusal> {
    let Some(signers) = facts.signers else { return Ok(Signed::NotAsked) };
    let mut newest = None;
    for (commit, raw) in facts.deciding {
        let by = signer(commit, raw, signers, facts.operators, facts.now)
            .map_err(|why| Refusal::Unsigned { head: facts.head.clone(), commit: commit.clone(), why })?;
        newest.get_or_insert(by);
    }
    match newest {
        Some(by) => Ok(Signed::By(by)),
        None if facts.before == Before::Older => Ok(Signed::Unchanged),
        // Somebody must stand behind what is taken for the first time.
        None => Err(Refusal::NoSource { head: facts.head.clone() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(digit: char) -> CommitId {
        CommitId::parse(&digit.to_string().repeat(40)).unwrap()
    }

    fn at(serial: Option<u64>) -> Floor {
        Floor::At { commit: Some(id('a')), serial }
    }

    fn said(
        floor: &Floor,
        before: Before,
        history: History,
        serial: Option<u64>,
    ) -> Result<(), &'static str> {
        let head = id('b');
        let facts = Facts {
            head: &head,
            floor,
            before,
            history,
            deciding: &[],
            signers: None,
            operators: &[],
            serial,
            now: Timestamp::UNIX_EPOCH,
        };
        judge(&facts).map(drop).map_err(|refusal| refusal.reason())
    }

    #[test]
    fn only_what_comes_after_the_accepted_commit_is_taken() {
        use History::{Any, FastForward};
        for history in [FastForward, Any] {
            assert_eq!(said(&Floor::Nothing, Before::Nothing, history, None), Ok(()));
            assert_eq!(said(&at(None), Before::Older, history, None), Ok(()));
            assert_eq!(said(&Floor::Lost("gone".into()), Before::Nothing, history, None), Err("FloorLost"));
        }
        for before in [Before::Newer, Before::Apart, Before::Gone] {
            assert_eq!(said(&at(None), before, FastForward, None), Err("NonFastForward"));
            assert_eq!(said(&at(None), before, Any, None), Ok(()));
        }
    }

    #[test]
    fn a_history_that_may_be_rewritten_still_may_not_take_the_serial_back() {
        assert_eq!(said(&at(Some(7)), Before::Apart, History::Any, Some(6)), Err("NonFastForward"));
        assert_eq!(said(&at(Some(7)), Before::Older, History::FastForward, Some(7)), Ok(()));
        assert_eq!(said(&at(Some(7)), Before::Older, History::FastForward, None), Err("NonFastForward"));
        assert_eq!(said(&at(Some(7)), Before::Older, History::FastForward, Some(1 << 40)), Err("SerialJump"));
    }

    #[test]
    fn with_signers_somebody_must_stand_behind_what_is_taken_first() {
        let key = "m ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";
        let signers = Signers::parse(key, std::path::Path::new("s")).unwrap();
        let head = id('b');
        let said = |floor: &Floor, before, deciding: &[(CommitId, Vec<u8>)]| {
            let facts = Facts {
                head: &head,
                floor,
                before,
                history: History::FastForward,
                deciding,
                signers: Some(&signers),
                operators: &[],
                serial: None,
                now: Timestamp::UNIX_EPOCH,
            };
            judge(&facts).map_err(|refusal| refusal.reason())
        };
        assert_eq!(said(&Floor::Nothing, Before::Nothing, &[]), Err("SignatureMissing"));
        assert_eq!(said(&at(None), Before::Older, &[]), Ok(Verdict { signed: Signed::Unchanged }));
        let unsigned = [(id('c'), b"tree 1\n\nsubject\n".to_vec())];
        assert_eq!(said(&at(None), Before::Older, &unsigned), Err("SignatureMissing"));
        // Ancestry is asked first, the state's own words last.
        assert_eq!(said(&at(None), Before::Apart, &unsigned), Err("NonFastForward"));
    }
}
