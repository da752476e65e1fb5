//! Exit codes: a table scripts rely on (`docs/cli.md`). A revert is never 0.

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done, or nothing to do.
    Done = 0,
    /// A difference was found, or it is not (yet) in the asked state.
    Differs = 1,
    /// Wrong usage.
    Usage = 2,
    /// State file, recipe, archive or host config invalid.
    Invalid = 3,
    /// Not found.
    NotFound = 4,
    /// State source unreachable.
    Source = 5,
    /// Artifact unavailable or not what its hash says.
    Supply = 6,
    /// A step failed before the switch; what ran is untouched.
    Step = 7,
    /// The new release failed; the old one runs again and is healthy.
    Reverted = 8,
    /// The new release failed and nothing healthy runs.
    Down = 9,
    /// Refused: quarantined or blocked.
    Refused = 10,
    /// Refused: suspended or pinned.
    Suspended = 11,
    /// Somebody changed the same entry, or another landfall holds the lock.
    Conflict = 12,
    /// Signature or trust failure.
    Trust = 13,
    /// Waiting ran out of time.
    TimedOut = 14,
    /// The agent cannot be reached.
    NoAgent = 15,
    /// Any other error.
    Error = 20,
    /// Interrupted.
    Interrupted = 130,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
