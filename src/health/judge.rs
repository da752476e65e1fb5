//! The decision, from samples and facts alone: no clock, no process, no socket.

use std::time::Duration;

use landfall_store::Name;
use serde::{Deserialize, Serialize};

use super::limits::FIRST_PAUSE;
use crate::spec::{HEALTH_SETTLE, HealthSpec};
use crate::start::{Exit, SlotFacts};

/// What a check asks for, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Time to the first of the good samples.
    pub budget: Duration,
    /// Longest pause between two tries.
    pub interval: Duration,
    /// Good samples in a row.
    pub successes: usize,
    /// Time it must stay well after those.
    pub settle: Duration,
}

impl Policy {
    /// The policy of a check.
    pub fn of(spec: &HealthSpec) -> Self {
        let interval = spec.interval.duration().max(FIRST_PAUSE);
        Self {
            budget: spec.interval.duration().saturating_mul(spec.attempts),
            interval,
            successes: usize::try_from(spec.successes.max(1)).unwrap_or(usize::MAX),
            settle: spec.settle.duration(),
        }
    }

    /// The proof of an app that has no check: it runs, through the default settle time.
    pub fn running() -> Self {
        Self {
            budget: HEALTH_SETTLE.duration(),
            interval: HEALTH_SETTLE.duration(),
            successes: 1,
            settle: HEALTH_SETTLE.duration(),
        }
    }
}

/// One try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// When it began, since the start of the verification.
    pub at: Duration,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A good answer by this start of this release.
    Good,
    /// Anything else, and what.
    Bad(String),
}

/// What is known of the processes: each of these ends a verification at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// Fewer run than should.
    #[error("`{process}` is not running{}", .exit.map(ended).unwrap_or_default())]
    Died {
        /// Which process.
        process: Name,
        /// How it ended, if that is known.
        exit: Option<Exit>,
    },
    /// It died and was started again.
    #[error("`{process}` died and was started again{}", .exit.map(ended).unwrap_or_default())]
    Restarted {
        /// Which process.
        process: Name,
        /// How it ended, if that is known.
        exit: Option<Exit>,
    },
    /// Its manager no longer tries.
    #[error("`{process}` died too often and is no longer started{}", .exit.map(ended).unwrap_or_default())]
    GaveUp {
        /// Which process.
        process: Name,
        /// How it ended, if that is known.
        exit: Option<Exit>,
    },
}

fn ended(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!(" (exit status {code})"),
        Exit::Signal(signal) => format!(" (signal {signal})"),
    }
}

impl Trouble {
    /// How the process ended, if that is known.
    pub fn exit(&self) -> Option<Exit> {
        match self {
            Self::Died { exit, .. } | Self::Restarted { exit, .. } | Self::GaveUp { exit, .. } => *exit,
        }
    }

    /// What is wrong with a slot that should run this many instances; `seen_alive` is false when a process
    /// that ran earlier in this verification is gone.
    pub fn of(process: &Name, instances: u32, facts: &SlotFacts, seen_alive: bool) -> Option<Self> {
        let (process, exit) = (process.clone(), facts.last_exit);
        let enough = u32::try_from(facts.processes.len()).is_ok_and(|live| live >= instances);
        if facts.gave_up {
            Some(Self::GaveUp { process, exit })
        } else if facts.restarts > 0 {
            Some(Self::Restarted { process, exit })
        } else if !enough {
            Some(Self::Died { process, exit })
        } else {
            (!seen_alive).then_some(Self::Restarted { process, exit })
        }
    }
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// Try again after this pause.
    Again(Duration),
    /// Proved.
    Healthy,
    /// Not to be expected any more.
    Unhealthy(Unhealthy),
}

/// Why a check failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unhealthy {
    /// The processes themselves.
    Trouble(Trouble),
    /// No good answers in time; what the last try saw.
    NoGoodAnswer(String),
}

/// Judges one check. `elapsed` is the time since the verification began.
pub fn judge(policy: &Policy, samples: &[Sample], trouble: Option<&Trouble>, elapsed: Duration) -> Judgement {
    if let Some(trouble) = trouble {
        return Judgement::Unhealthy(Unhealthy::Trouble(trouble.clone()));
    }
    let Some(last) = samples.last() else {
        return Judgement::Again(Duration::ZERO);
    };
    let streak = streak(samples);
    match streak.first() {
        Some(first) if first.at <= policy.budget => settled(policy, streak, last, elapsed),
        _ => not_yet(policy, samples, last, elapsed),
    }
}

/// The good samples since the last bad one.
fn streak(samples: &[Sample]) -> &[Sample] {
    let bad = |sample: &Sample| sample.outcome != Outcome::Good;
    let from = samples.iter().rposition(bad).map_or(0, |at| at + 1);
    &samples[from..]
}

fn settled(policy: &Policy, streak: &[Sample], last: &Sample, elapsed: Duration) -> Judgement {
    let Some(proof) = streak.get(policy.successes - 1) else {
        return Judgement::Again(pause(policy, streak.len()));
    };
    // Settled is what was seen well after the time, not what was merely not looked at.
    let until = proof.at + policy.settle;
    if last.at >= until {
        return Judgement::Healthy;
    }
    Judgement::Again(policy.interval.min(until.saturating_sub(elapsed)))
}

fn not_yet(policy: &Policy, samples: &[Sample], last: &Sample, elapsed: Duration) -> Judgement {
    let left = policy.budget.saturating_sub(elapsed);
    if left.is_zero() {
        return Judgement::Unhealthy(Unhealthy::NoGoodAnswer(match &last.outcome {
            Outcome::Bad(why) => why.clone(),
            Outcome::Good => "the first good answer came too late".to_owned(),
        }));
    }
    Judgement::Again(pause(policy, samples.len()).min(left))
}

fn pause(policy: &Policy, tries: usize) -> Duration {
    let doublings = u32::try_from(tries.saturating_sub(1)).unwrap_or(u32::MAX);
    let pause = FIRST_PAUSE.saturating_mul(2u32.saturating_pow(doublings));
    pause.min(policy.interval)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const POLICY: Policy = Policy {
        budget: Duration::from_secs(60),
        interval: Duration::from_secs(2),
        successes: 2,
        settle: Duration::from_secs(3),
    };

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn samples(of: &[(u64, bool)]) -> Vec<Sample> {
        let sample = |(at, good): &(u64, bool)| Sample {
            at: ms(*at),
            outcome: if *good { Outcome::Good } else { Outcome::Bad("refused".into()) },
        };
        of.iter().map(sample).collect()
    }

    fn verdict(of: &[(u64, bool)], elapsed: u64) -> Judgement {
        judge(&POLICY, &samples(of), None, ms(elapsed))
    }

    fn died() -> Trouble {
        Trouble::Died { process: "main".parse().unwrap(), exit: Some(Exit::Code(1)) }
    }

    #[test]
    fn the_first_try_is_made_at_once() {
        assert_eq!(verdict(&[], 0), Judgement::Again(Duration::ZERO));
    }

    #[test]
    fn tries_are_quick_at_first_and_no_slower_than_the_interval() {
        let mut tried = Vec::new();
        let mut pauses = Vec::new();
        for at in 0..12 {
            tried.push((at, false));
            let Judgement::Again(pause) = verdict(&tried, at) else { panic!() };
            pauses.push(pause.as_millis());
        }
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 640, 1280, 2000, 2000, 2000, 2000]);
    }

    #[test]
    fn two_good_samples_are_not_enough_before_it_has_settled() {
        assert_eq!(verdict(&[(0, true)], 1), Judgement::Again(ms(10)));
        assert_eq!(verdict(&[(0, true), (10, true)], 11), Judgement::Again(ms(2000)));
        assert_eq!(verdict(&[(0, true), (10, true), (2012, true)], 2012), Judgement::Again(ms(998)));
        assert_eq!(verdict(&[(0, true), (10, true), (3010, true)], 3011), Judgement::Healthy);
    }

    #[test]
    fn p18_one_bad_sample_starts_the_count_anew() {
        let flaps = [(0, true), (10, true), (2000, false), (3100, true)];
        assert!(matches!(verdict(&flaps, 3101), Judgement::Again(_)));
    }

    #[test]
    fn p18_a_process_that_died_fails_at_once_whatever_was_sampled() {
        let good = samples(&[(0, true), (10, true), (3010, true)]);
        let verdict = judge(&POLICY, &good, Some(&died()), ms(3011));
        assert_eq!(verdict, Judgement::Unhealthy(Unhealthy::Trouble(died())));
    }

    #[test]
    fn the_budget_bounds_the_first_good_sample_and_settling_comes_after() {
        assert_eq!(
            verdict(&[(60_000, false)], 60_000),
            Judgement::Unhealthy(Unhealthy::NoGoodAnswer("refused".into()))
        );
        let late = [(59_999, true), (60_010, true), (63_010, true)];
        assert_eq!(verdict(&late, 63_011), Judgement::Healthy);
        let too_late = [(60_000, false), (60_001, true)];
        assert!(matches!(verdict(&too_late, 60_002), Judgement::Unhealthy(_)));
    }

    #[test]
    fn the_last_try_is_made_when_the_budget_ends() {
        assert_eq!(verdict(&[(59_000, false); 9], 59_500), Judgement::Again(ms(500)));
    }

    #[test]
    fn a_restart_is_trouble_even_when_all_instances_run() {
        let process: Name = "main".parse().unwrap();
        let id = crate::start::ProcessId { pid: 1, started_ticks: 1 };
        let mut facts = SlotFacts { processes: vec![id], ..SlotFacts::default() };
        assert_eq!(Trouble::of(&process, 1, &facts, true), None);
        assert!(Trouble::of(&process, 1, &facts, false).is_some());
        assert!(Trouble::of(&process, 2, &facts, true).is_some());
        facts.restarts = 1;
        assert!(Trouble::of(&process, 1, &facts, true).is_some());
    }

    proptest! {
        #[test]
        fn healthy_always_means_enough_good_samples_in_a_row_over_the_settle_time(
            good in prop::collection::vec(any::<bool>(), 1..40),
            gaps in prop::collection::vec(0u64..4_000, 40),
            successes in 1usize..5,
        ) {
            let policy = Policy { successes, ..POLICY };
            let mut at = 0;
            let mut tried = Vec::new();
            for (good, gap) in good.iter().zip(gaps) {
                at += gap;
                tried.push((at, *good));
            }
            let judgement = judge(&policy, &samples(&tried), None, ms(at));
            let run: Vec<u64> = tried.iter().rev().take_while(|(_, good)| *good).map(|(at, _)| *at).collect();
            let deserved = run.len() >= successes
                && *run.last().unwrap() <= 60_000
                && run[0] >= run[run.len() - successes] + 3_000;
            prop_assert_eq!(judgement == Judgement::Healthy, deserved);
        }

        #[test]
        fn a_bad_app_is_always_given_up_within_the_budget(took in 0u64..2_000) {
            let mut at = 0;
            let mut tried = Vec::new();
            loop {
                tried.push((at, false));
                at += took;
                match verdict(&tried, at) {
                    Judgement::Again(pause) => at += u64::try_from(pause.as_millis()).unwrap(),
                    Judgement::Healthy => prop_assert!(false),
                    Judgement::Unhealthy(_) => break,
                }
            }
            prop_assert!((60_000..=62_000).contains(&at), "{}", at);
        }
    }
}
