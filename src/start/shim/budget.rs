//! When a process that died is started again: a pure decision.

use std::collections::VecDeque;
use std::time::Duration;

use super::limits::{RESTART_DELAY_FIRST, RESTART_DELAY_MAX, RESTART_WINDOW, RESTARTS_MAX};

/// What to do after a death.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Start again after this pause.
    Restart(Duration),
    /// The budget is used up.
    GiveUp,
}

/// The restarts of the last [`RESTART_WINDOW`].
#[derive(Debug, Default)]
pub(super) struct Budget {
    spent: VecDeque<Duration>,
    first_delay: Option<Duration>,
}

impl Budget {
    /// A budget whose first pause is the recipe's, if it names one.
    pub(super) fn new(first_delay: Option<Duration>) -> Self {
        Self { spent: VecDeque::new(), first_delay }
    }

    /// Counts a death at `now` (since any fixed moment).
    pub(super) fn after_death(&mut self, now: Duration) -> Next {
        self.spent.retain(|at| now.saturating_sub(*at) < RESTART_WINDOW);
        if self.spent.len() >= RESTARTS_MAX {
            return Next::GiveUp;
        }
        let doublings = u32::try_from(self.spent.len()).unwrap_or(u32::MAX);
        self.spent.push_back(now);
        let first = self.first_delay.unwrap_or(RESTART_DELAY_FIRST);
        let pause = first.saturating_mul(2u32.saturating_pow(doublings));
        Next::Restart(pause.min(RESTART_DELAY_MAX.max(first)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deaths(seconds: &[u64]) -> Vec<Next> {
        let mut budget = Budget::default();
        let at = |second: &u64| Duration::from_secs(*second);
        seconds.iter().map(|second| budget.after_death(at(second))).collect()
    }

    #[test]
    fn the_sixth_death_in_five_minutes_is_the_last() {
        let next = deaths(&[0, 1, 2, 3, 4, 299]);
        assert_eq!(next[5], Next::GiveUp);
        assert!(next[..5].iter().all(|next| matches!(next, Next::Restart(_))));
    }

    #[test]
    fn deaths_long_ago_are_forgiven() {
        let next = deaths(&[0, 1, 2, 3, 4, 304, 305]);
        assert!(next.iter().all(|next| *next != Next::GiveUp), "{next:?}");
    }

    #[test]
    fn the_pause_doubles_and_is_bounded() {
        let mut budget = Budget::new(Some(Duration::from_secs(4)));
        let pauses: Vec<Next> = (0..3).map(|_| budget.after_death(Duration::ZERO)).collect();
        let seconds = |s| Next::Restart(Duration::from_secs(s));
        assert_eq!(pauses, [seconds(4), seconds(8), seconds(10)]);
    }
}
