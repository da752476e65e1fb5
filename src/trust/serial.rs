//! The state's own number. Pure.

/// How far a `serial` may grow at once. A larger step would let one bad commit make every later state look old.
pub const SERIAL_STEP_MAX: u64 = 1 << 20;

/// Why a serial does not follow the accepted one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SerialFault {
    /// It went down.
    #[error("its serial is {found}, and {accepted} was accepted here already")]
    Lower {
        /// The new one.
        found: u64,
        /// The accepted one.
        accepted: u64,
    },
    /// There was one, and there is none any more.
    #[error("its serial is missing, and {accepted} was accepted here already")]
    Missing {
        /// The accepted one.
        accepted: u64,
    },
    /// It jumps.
    #[error("its serial is {found}, more than {SERIAL_STEP_MAX} above the accepted {accepted}")]
    Jump {
        /// The new one.
        found: u64,
        /// The accepted one.
        accepted: u64,
    },
}

/// Whether a state with this serial may follow an accepted one.
pub const fn follows(found: Option<u64>, accepted: Option<u64>) -> Result<(), SerialFault> {
    match (found, accepted) {
        (_, None) => Ok(()),
        (None, Some(accepted)) => Err(SerialFault::Missing { accepted }),
        (Some(found), Some(accepted)) if found < accepted => Err(SerialFault::Lower { found, accepted }),
        (Some(found), Some(accepted)) if found - accepted > SERIAL_STEP_MAX => {
            Err(SerialFault::Jump { found, accepted })
        }
        (Some(_), Some(_)) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_never_goes_down_never_is_left_out_again_and_never_jumps() {
        assert_eq!(follows(None, None), Ok(()));
        assert_eq!(follows(Some(u64::MAX), None), Ok(()));
        assert_eq!(follows(Some(7), Some(7)), Ok(()), "an edit need not raise it");
        assert_eq!(follows(Some(8), Some(7)), Ok(()));
        assert_eq!(follows(Some(6), Some(7)), Err(SerialFault::Lower { found: 6, accepted: 7 }));
        assert_eq!(follows(None, Some(7)), Err(SerialFault::Missing { accepted: 7 }));
        assert_eq!(follows(Some(7 + SERIAL_STEP_MAX), Some(7)), Ok(()));
        let found = 8 + SERIAL_STEP_MAX;
        assert_eq!(follows(Some(found), Some(7)), Err(SerialFault::Jump { found, accepted: 7 }));
    }
}
