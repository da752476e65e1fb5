//! When something that failed is tried again: every schedule of landfall's attempts, as data, and pure
//! functions over it. Nothing else decides about tries and pauses.
//!
//! Some failures are tried again inside the attempt ([`within`]): a fetch, a prepare step, a migration that
//! met a lock. What is left after that ends the attempt; failures that are not the release's own fault then
//! lead to another attempt after a longer pause ([`between`]), for ever. A failure that is the release's own
//! is quarantined instead, and no clock lifts that.

use std::time::Duration;

use crate::failpoint::hastened;
use crate::record::journal::{Class, Stage};

/// Tries of one thing, and the pauses between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// Tries in all.
    pub tries: u32,
    /// The pause after the first; each later one is twice as long.
    pub first: Duration,
    /// No pause is longer.
    pub longest: Duration,
}

const fn schedule(tries: u32, first_s: u64, longest_s: u64) -> Schedule {
    Schedule { tries, first: Duration::from_secs(first_s), longest: Duration::from_secs(longest_s) }
}

/// No second try.
const ONCE: Schedule = schedule(1, 0, 0);
/// A store that is gone, a hash that does not match, a full disk.
const SUPPLY: Schedule = schedule(5, 2, 60);
/// A prepare step, each try in a fresh copy of the release (Argo CD's figures).
const PREPARE: Schedule = schedule(3, 5, 180);
/// A migration that says by exit status 75 that it met a lock: another host may be migrating.
const LOCK: Schedule = schedule(3, 10, 10);

/// Questions to a migration's check, on a host that waits for another to migrate: until the step's timeout.
pub const AWAIT: Schedule = schedule(u32::MAX, 2, 30);

/// Looks at a state repository that cannot be read: for ever, and never so rarely that a push goes unseen for long.
pub const SOURCE: Schedule = schedule(u32::MAX, 5, 300);

/// Attempts after one that failed for what lies outside the host: every 10 minutes, for ever.
const OUTSIDE: Schedule = schedule(u32::MAX, 600, 600);
/// Attempts after one that failed for this host's own trouble: soon at first.
const HERE: Schedule = schedule(u32::MAX, 10, 600);

/// No server is left alone for longer than this, whatever it asks for.
const ASKED_MAX: Duration = Duration::from_secs(3600);

/// A pause is drawn from its length ± 20 %, so that a fleet does not act in step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Jitter(f64);

impl Jitter {
    /// The shortest, the middle and the longest that is drawn.
    pub const BOUNDS: [Self; 3] = [Self(0.8), Self(1.0), Self(1.2)];

    /// A fresh draw.
    pub fn draw() -> Self {
        Self(0.8 + 0.4 * fastrand::f64())
    }

    /// A pause of about this length.
    pub fn spread(self, pause: Duration) -> Duration {
        pause.mul_f64(self.0)
    }

    /// A pause of at least this length: whoever asked for it is not asked earlier, nor by everybody at once.
    fn beyond(self, asked: Duration) -> Duration {
        asked.min(ASKED_MAX).mul_f64(self.0 + 1.0 - Self::BOUNDS[0].0)
    }
}

impl Schedule {
    /// The pause after the try number `failed` failed too; none: that was the last. Pure.
    pub fn pause(&self, failed: u32, jitter: Jitter) -> Option<Duration> {
        if failed >= self.tries {
            return None;
        }
        let doubled = self.first.saturating_mul(1 << failed.saturating_sub(1).min(16));
        Some(hastened(jitter.spread(doubled.min(self.longest))))
    }
}

impl Schedule {
    /// The same where whoever failed asked to be left alone: at least for so long, and none if that is longer
    /// than any pause here. Pure.
    pub fn pause_of(&self, failed: u32, asked: Option<Duration>, jitter: Jitter) -> Option<Duration> {
        let pause = self.pause(failed, jitter)?;
        match asked {
            Some(asked) if asked > self.longest => None,
            asked => Some(pause.max(hastened(jitter.beyond(asked.unwrap_or_default())))),
        }
    }
}

/// How patient whoever asked for an attempt is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// An agent: nobody waits.
    Agent,
    /// Somebody waits who can try again: what lies outside the release is tried once.
    Once,
}

/// Tries inside one attempt of what failed like this in this stage. Failures of other classes are counted
/// apart. Pure.
pub const fn within(class: Class, stage: Stage, patience: Patience) -> Schedule {
    match (class, stage, patience) {
        (Class::Supply | Class::Transient, _, Patience::Once) => ONCE,
        (Class::Supply, Stage::Fetching | Stage::Preparing, _) => SUPPLY,
        (Class::Transient, Stage::Preparing, _) | (Class::Prepare, Stage::Preparing, _) => PREPARE,
        (Class::Transient, Stage::Migrating, _) => LOCK,
        _ => ONCE,
    }
}

/// The pause between an attempt that failed like this, `in_a_row` times by now, and the next one; none: only
/// something new leads to another attempt. `asked`: how long whoever failed asked to be left alone. Pure.
pub fn between(class: Class, in_a_row: u32, asked: Option<Duration>, jitter: Jitter) -> Option<Duration> {
    let schedule = match class {
        Class::Supply | Class::Transient | Class::Refused => OUTSIDE,
        Class::Host | Class::Manager => HERE,
        Class::Prepare | Class::Migrate | Class::Start | Class::Health => ONCE,
    };
    let pause = schedule.pause(in_a_row.clamp(1, u32::MAX - 1), jitter)?;
    Some(pause.max(hastened(jitter.beyond(asked.unwrap_or_default()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXACT: Jitter = Jitter::BOUNDS[1];

    fn pauses(schedule: Schedule) -> Vec<u64> {
        (1..).map_while(|failed| schedule.pause(failed, EXACT)).map(|pause| pause.as_secs()).collect()
    }

    #[test]
    fn a_supply_failure_is_tried_five_times_a_prepare_step_and_a_lock_three_times_all_else_once() {
        let agent = |class, stage| pauses(within(class, stage, Patience::Agent));
        assert_eq!(agent(Class::Supply, Stage::Fetching), [2, 4, 8, 16]);
        assert_eq!(agent(Class::Supply, Stage::Preparing), [2, 4, 8, 16]);
        assert_eq!(agent(Class::Prepare, Stage::Preparing), [5, 10]);
        assert_eq!(agent(Class::Transient, Stage::Preparing), [5, 10]);
        assert_eq!(agent(Class::Transient, Stage::Migrating), [10, 10]);
        for class in
            [Class::Migrate, Class::Start, Class::Health, Class::Refused, Class::Host, Class::Manager]
        {
            for stage in [Stage::Fetching, Stage::Preparing, Stage::Migrating, Stage::Verifying] {
                assert_eq!(agent(class, stage), Vec::<u64>::new(), "{class:?} in {stage}");
            }
        }
    }

    #[test]
    fn whoever_waits_at_a_terminal_gets_one_try_of_what_lies_outside_the_release() {
        let once = |class, stage| within(class, stage, Patience::Once).tries;
        assert_eq!(once(Class::Supply, Stage::Fetching), 1);
        assert_eq!(once(Class::Transient, Stage::Migrating), 1);
        assert_eq!(once(Class::Prepare, Stage::Preparing), 3, "three failures are what quarantines");
    }

    #[test]
    fn what_is_outside_is_asked_every_ten_minutes_and_the_host_itself_soon_at_first() {
        let secs = |class, row| between(class, row, None, EXACT).map(|pause| pause.as_secs());
        for row in [1, 2, 1_000_000] {
            for class in [Class::Supply, Class::Transient, Class::Refused] {
                assert_eq!(secs(class, row), Some(600), "{class:?}");
            }
        }
        let host: Vec<_> = (1..9).map(|row| secs(Class::Manager, row).unwrap()).collect();
        assert_eq!(host, [10, 20, 40, 80, 160, 320, 600, 600]);
        assert_eq!(secs(Class::Host, u32::MAX), Some(600));
    }

    #[test]
    fn whoever_asks_to_be_left_alone_is_for_at_least_so_long_and_not_for_ever() {
        let secs = |asked: u64, jitter| {
            let asked = Some(Duration::from_secs(asked));
            SUPPLY.pause_of(1, asked, jitter).map(|pause| pause.as_secs())
        };
        assert_eq!(secs(0, EXACT), Some(2));
        for jitter in Jitter::BOUNDS {
            assert!((40..60).contains(&secs(40, jitter).unwrap()), "{jitter:?}");
            assert_eq!(secs(61, jitter), None, "longer than an attempt waits: another attempt comes then");
            let next = |asked| {
                let pause = between(Class::Supply, 1, Some(Duration::from_secs(asked)), jitter);
                pause.unwrap().as_secs()
            };
            assert!((480..=720).contains(&next(40)));
            assert!((900..=1_260).contains(&next(900)));
            assert!((3_600..=5_040).contains(&next(86_400 * 365)), "not for ever");
        }
    }

    #[test]
    fn no_clock_lifts_a_quarantine() {
        for class in [Class::Prepare, Class::Migrate, Class::Start, Class::Health] {
            assert!(class.blames_the_release());
            assert_eq!(between(class, 1, None, EXACT), None, "{class:?}");
        }
    }

    #[test]
    fn pauses_stay_within_a_fifth_of_their_length() {
        for jitter in (0..1_000).map(|_| Jitter::draw()) {
            let pause = SUPPLY.pause(1, jitter).unwrap();
            assert!(
                (Duration::from_millis(1_600)..=Duration::from_millis(2_400)).contains(&pause),
                "{pause:?}"
            );
        }
    }
}
