//! What one object has cost so far, and whether it is worth another try.

use std::time::Duration;

use super::patience::{Patience, drawn};
use super::request::Fault;

/// Bytes after which a stream that was cut has all its tries again.
const PROGRESS_BYTES: u64 = 1 << 20;
/// Times that a server may be too slow about one object.
const SLOW_MAX: u32 = 2;

/// Tries and waiting of one object.
pub(super) struct Effort {
    failed: u32,
    slow: u32,
    gained: u64,
    /// Time spent waiting for the server.
    pub(super) waited: Duration,
    /// How much of that there may be.
    pub(super) allowed: Duration,
}

impl Effort {
    pub(super) const fn new(allowed: Duration) -> Self {
        Self { failed: 0, slow: 0, gained: 0, waited: Duration::ZERO, allowed }
    }

    /// Bytes arrived.
    pub(super) const fn progress(&mut self, bytes: usize) {
        self.gained += bytes as u64;
        if self.gained >= PROGRESS_BYTES {
            self.gained = 0;
            self.failed = 0;
        }
    }

    /// Pauses before the next try; the fault itself if there is none.
    pub(super) fn wait(&mut self, fault: Fault, patience: &Patience) -> Result<(), Fault> {
        let pause = self.pause(fault, patience)?;
        self.waited += pause;
        std::thread::sleep(pause);
        Ok(())
    }

    fn pause(&mut self, fault: Fault, patience: &Patience) -> Result<Duration, Fault> {
        self.failed += 1;
        let (why, after) = match fault {
            Fault::Slow(why) => {
                self.slow += 1;
                if self.slow >= SLOW_MAX {
                    return Err(Fault::Slow(why));
                }
                (why, None)
            }
            Fault::Passing { why, after } => (why, after),
            other => return Err(other),
        };
        let given_up = |because: String| Fault::Passing { why: because, after };
        if self.failed >= patience.tries {
            return Err(given_up(format!("{why}, {} times in a row", self.failed)));
        }
        let Some(pause) = patience.pause_after(self.failed, after, drawn) else {
            let asked = after.unwrap_or_default();
            return Err(given_up(format!("{why}, and it asks to be left alone for {} s", asked.as_secs())));
        };
        if self.waited + pause > self.allowed {
            return Err(given_up(format!("{why}, after {} s of waiting", self.waited.as_secs())));
        }
        tracing::debug!(why, ?pause, "asking again");
        Ok(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patience() -> Patience {
        Patience { pause: Duration::ZERO, tries: 3, ..Patience::default() }
    }

    fn effort() -> Effort {
        Effort::new(Duration::from_secs(60))
    }

    fn passing() -> Fault {
        Fault::passing("503")
    }

    #[test]
    fn tries_end_and_progress_brings_them_back() {
        let mut effort = effort();
        assert!(effort.pause(passing(), &patience()).is_ok());
        assert!(effort.pause(passing(), &patience()).is_ok());
        effort.progress(PROGRESS_BYTES as usize);
        assert!(effort.pause(passing(), &patience()).is_ok());
        effort.progress(1);
        assert!(effort.pause(passing(), &patience()).is_ok());
        let Err(Fault::Passing { why, .. }) = effort.pause(passing(), &patience()) else { panic!() };
        assert_eq!(why, "503, 3 times in a row");
    }

    #[test]
    fn a_slow_server_has_a_second_chance_and_no_third() {
        let mut effort = effort();
        assert!(effort.pause(Fault::Slow("slow".to_owned()), &patience()).is_ok());
        assert!(effort.pause(Fault::Slow("slow".to_owned()), &patience()).is_err());
    }

    #[test]
    fn what_is_missing_or_denied_is_not_asked_for_again() {
        assert!(effort().pause(Fault::Missing, &patience()).is_err());
        assert!(effort().pause(Fault::Denied("403".to_owned()), &patience()).is_err());
        assert!(effort().pause(Fault::Final("x".to_owned()), &patience()).is_err());
    }

    #[test]
    fn all_waiting_together_is_bounded() {
        let mut effort = effort();
        effort.waited = Duration::from_secs(61);
        let Err(Fault::Passing { why, .. }) = effort.pause(passing(), &patience()) else { panic!() };
        assert_eq!(why, "503, after 61 s of waiting");
    }
}
