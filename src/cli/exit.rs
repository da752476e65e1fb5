//! Exit codes: a table scripts rely on (`docs/cli.md`). A revert is never 0.

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done, or nothing to do.
    Done,
    /// A difference was found, or it is not (yet) in the asked state.
    Differs,
    /// Wrong usage.
    Usage,
    /// State file, recipe, archive or host config invalid.
    Invalid,
    /// Not found.
    NotFound,
    /// State source unreachable.
    Source,
    /// Artifact unavailable or not what its hash says.
    Supply,
    /// A step failed before the switch; what ran is untouched.
    Step,
    /// The new release failed; the old one runs again and is healthy.
    Reverted,
    /// The new release failed and nothing healthy runs.
    Down,
    /// Refused: quarantined or blocked.
    Refused,
    /// Refused: suspended or pinned.
    Suspended,
    /// Somebody changed the same entry, or another landfall holds the lock.
    Conflict,
    /// Signature or trust failure.
    Trust,
    /// Waiting ran out of time.
    TimedOut,
    /// The agent cannot be reached.
    NoAgent,
    /// Any other error.
    Error,
    /// Interrupted.
    Interrupted,
    /// The status of a program that the command ran for its caller.
    Own(u8),
}

impl Exit {
    /// The status the process ends with.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Differs => 1,
            Self::Usage => 2,
            Self::Invalid => 3,
            Self::NotFound => 4,
            Self::Source => 5,
            Self::Supply => 6,
            Self::Step => 7,
            Self::Reverted => 8,
            Self::Down => 9,
            Self::Refused => 10,
            Self::Suspended => 11,
            Self::Conflict => 12,
            Self::Trust => 13,
            Self::TimedOut => 14,
            Self::NoAgent => 15,
            Self::Error => 20,
            Self::Interrupted => 130,
            Self::Own(code) => code,
        }
    }
}

impl Exit {
    /// The meaning of a status that another landfall gave.
    pub const fn of(code: u8) -> Self {
        match code {
            0 => Self::Done,
            1 => Self::Differs,
            2 => Self::Usage,
            3 => Self::Invalid,
            4 => Self::NotFound,
            5 => Self::Source,
            6 => Self::Supply,
            7 => Self::Step,
            8 => Self::Reverted,
            9 => Self::Down,
            10 => Self::Refused,
            11 => Self::Suspended,
            12 => Self::Conflict,
            13 => Self::Trust,
            14 => Self::TimedOut,
            15 => Self::NoAgent,
            130 => Self::Interrupted,
            _ => Self::Error,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
