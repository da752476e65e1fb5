//! The proof of a process that nobody manages: the checks one after the other, by the same judge.

use std::time::Instant;

use tokio::time::sleep;

use super::evidence::excerpt;
use super::judge::{Judgement, Policy, Sample, Unhealthy, judge};
use super::probe::{Asking, Tried, try_once};
use crate::spec::{HEALTH_SETTLE, HealthSpec};

/// What came of a trial.
#[derive(Debug)]
pub(crate) enum Trial {
    /// Every check was satisfied; without any, the settle time is over.
    Passed,
    /// One was not.
    Failed { why: String, status: Option<u16>, body: Option<String> },
    /// Something newer is wanted.
    Superseded,
}

/// Tries the checks. That the process lives on is for the caller to watch.
pub(crate) async fn try_out(
    asking: &Asking<'_>,
    checks: &[&HealthSpec],
    stop_early: impl Fn() -> bool,
) -> Trial {
    if checks.is_empty() {
        sleep(HEALTH_SETTLE.duration()).await;
    }
    for spec in checks {
        match satisfy(asking, spec, &stop_early).await {
            Trial::Passed => (),
            other => return other,
        }
    }
    Trial::Passed
}

async fn satisfy(asking: &Asking<'_>, spec: &HealthSpec, stop_early: &impl Fn() -> bool) -> Trial {
    let policy = Policy::of(spec);
    let began = Instant::now();
    let mut samples: Vec<Sample> = Vec::new();
    loop {
        if stop_early() {
            return Trial::Superseded;
        }
        let at = began.elapsed();
        let tried = try_once(spec, asking).await;
        let outcome = tried.outcome.clone();
        samples.push(Sample { at, outcome });
        match judge(&policy, &samples, None, began.elapsed()) {
            Judgement::Healthy => return Trial::Passed,
            Judgement::Unhealthy(why) => return failed(spec, &tried, why),
            Judgement::Again(pause) => sleep(pause).await,
        }
    }
}

fn failed(spec: &HealthSpec, tried: &Tried, why: Unhealthy) -> Trial {
    let said = match why {
        Unhealthy::NoGoodAnswer(said) => said,
        Unhealthy::Trouble(trouble) => trouble.to_string(),
    };
    Trial::Failed {
        why: format!("health check `{}` failed: {said}", spec.name),
        status: tried.status,
        body: excerpt(&tried.body),
    }
}
