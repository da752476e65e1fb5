//! Whether an app that landfall did not start answers, and answers itself.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use super::attest::Answerer;
use super::judge::Outcome;
use super::probe::{Asking, port, try_once};
use crate::spec::HealthSpec;
use crate::start::Account;
use crate::step::Runner;

/// How long it is asked: it runs already, so it need not come up.
const LIMIT: Duration = Duration::from_secs(10);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(100);

/// A question to whatever works in a directory.
pub struct Answering<'a> {
    /// What is asked.
    pub check: &'a HealthSpec,
    /// For `${KEY}` in it.
    pub env: &'a BTreeMap<String, String>,
    /// Only processes that work here may answer.
    pub dir: &'a Path,
    /// The account that `run` checks run as.
    pub account: Option<&'a Account>,
    /// Runs them.
    pub runner: &'a Runner,
}

impl Answering<'_> {
    /// Asks until there is one good answer.
    pub async fn try_for_a_while(&self) -> Result<(), String> {
        let here = Answerer { start_id: String::new(), release_dir: self.dir.to_owned(), since_ticks: 0 };
        let asking = Asking {
            answerers: vec![here],
            beside: Vec::new(),
            supervisors: Vec::new(),
            env: self.env,
            release_dir: self.dir,
            account: self.account,
            runner: self.runner,
        };
        let deadline = Instant::now() + LIMIT;
        loop {
            match try_once(self.check, &asking).await.outcome {
                Outcome::Good => return Ok(()),
                Outcome::Bad(why) if Instant::now() >= deadline => return Err(why),
                Outcome::Bad(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}

/// The ports that checks ask on this host.
pub(crate) fn ports(checks: &[HealthSpec], asking: &Asking<'_>) -> BTreeSet<u16> {
    checks.iter().filter_map(|check| port(check, asking)).collect()
}
