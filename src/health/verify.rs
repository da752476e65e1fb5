//! Gathers samples and facts until they are decided.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::attest::Answerer;
use super::evidence::{Evidence, excerpt, last_lines};
use super::judge::{Judgement, Outcome, Policy, Sample, Trouble, Unhealthy, judge};
use super::limits::{EXIT_WAIT, FACTS_INTERVAL, FIRST_PAUSE};
use super::others::{mixed, port_holders};
use super::probe::{Asking, Tried, try_once};
use crate::proc::{self, Holder};
use crate::spec::{HealthSpec, ManagerKind};
use crate::start::{Account, Exit, Launch, Manager, ProcessId, StartError};
use crate::step::Runner;

/// A process of this start.
#[derive(Clone, Copy)]
pub struct Started<'a> {
    /// Who started it.
    pub manager: &'a dyn Manager,
    /// As what.
    pub launch: &'a Launch,
    /// [`proc::now_ticks`] read before the manager was asked.
    pub since_ticks: u64,
}

/// A release to be proved.
#[derive(Clone, Copy)]
pub struct Verification<'a> {
    /// What was started; none: answers may come from anybody (a release of files only).
    pub started: &'a [Started<'a>],
    /// The checks that apply to this host.
    pub checks: &'a [HealthSpec],
    /// The resolved environment, for `${KEY}` in checks and for commands.
    pub env: &'a BTreeMap<String, String>,
    /// The release.
    pub release_dir: &'a Path,
    /// The account that `run` checks run as.
    pub account: Option<&'a Account>,
    /// Runs `run` checks.
    pub runner: &'a Runner,
}

impl<'a> Verification<'a> {
    fn asking(&self) -> Asking<'a> {
        Asking {
            answerers: self.started.iter().map(answerer).collect(),
            beside: Vec::new(),
            supervisors: Vec::new(),
            env: self.env,
            release_dir: self.release_dir,
            account: self.account,
            runner: self.runner,
        }
    }
}

/// What came of a verification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Proved.
    Healthy(Proof),
    /// Refuted.
    Unhealthy {
        /// Why.
        reason: Reason,
        /// What was seen.
        evidence: Box<Evidence>,
    },
    /// Something newer is wanted; nothing was decided.
    Superseded,
}

/// What a healthy release has shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// Tries of all checks together.
    pub samples: u32,
    /// Milliseconds from the first try to the verdict.
    pub took_ms: u64,
    /// What the advisory checks said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub advice: Vec<Advice>,
}

/// What an advisory check said: never part of a decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advice {
    /// Which check.
    pub check: String,
    /// What is wrong; none: all is well.
    pub complaint: Option<String>,
}

/// Why a release is not healthy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A process of it.
    #[error("{0}")]
    Process(Trouble),
    /// Somebody else has its port.
    #[error("port {port} is held by {holder}: {what}")]
    PortHeld {
        /// Which port.
        port: u16,
        /// By whom.
        holder: Holder,
        /// What that led to.
        what: String,
    },
    /// A check.
    #[error("health check `{check}` failed: {last}")]
    Check {
        /// Which.
        check: String,
        /// What its last try saw.
        last: String,
    },
}

/// Proves or refutes a release. `stop_early` is asked between probes. Bounded by the checks' own budgets.
///
/// # Errors
/// When a manager cannot be asked: that says nothing about the release.
pub async fn verify(of: &Verification<'_>, stop_early: impl Fn() -> bool) -> Result<Verdict, StartError> {
    let mut driver = Driver::new(of);
    loop {
        if stop_early() {
            return Ok(Verdict::Superseded);
        }
        if let Some(verdict) = driver.step().await? {
            return Ok(verdict);
        }
    }
}

/// One check that decides, and what it has seen.
struct Course<'a> {
    /// None: it only has to run.
    spec: Option<&'a HealthSpec>,
    policy: Policy,
    samples: Vec<Sample>,
    last: Option<Tried>,
    due: Duration,
    proved: bool,
}

impl<'a> Course<'a> {
    fn new(spec: Option<&'a HealthSpec>) -> Self {
        Self {
            spec,
            policy: spec.map_or_else(Policy::running, Policy::of),
            samples: Vec::new(),
            last: None,
            due: Duration::ZERO,
            proved: false,
        }
    }

    fn name(&self) -> String {
        self.spec.map_or_else(|| "running".to_owned(), |spec| spec.name.to_string())
    }
}

struct Driver<'a> {
    of: &'a Verification<'a>,
    asking: Asking<'a>,
    courses: Vec<Course<'a>>,
    /// Processes seen running, for each start: one that is gone was restarted or died.
    seen: Vec<HashSet<ProcessId>>,
    /// Those that its manager named last, for each start.
    named: Vec<Vec<ProcessId>>,
    began: Instant,
}

impl<'a> Driver<'a> {
    fn new(of: &'a Verification<'a>) -> Self {
        let required = of.checks.iter().filter(|spec| !spec.advisory);
        let mut courses: Vec<Course<'a>> = required.map(|spec| Course::new(Some(spec))).collect();
        if courses.is_empty() && !of.started.is_empty() {
            courses.push(Course::new(None));
        }
        Self {
            of,
            asking: of.asking(),
            courses,
            seen: vec![HashSet::new(); of.started.len()],
            named: vec![Vec::new(); of.started.len()],
            began: Instant::now(),
        }
    }

    /// Tries the check that is due next, or waits for it.
    async fn step(&mut self) -> Result<Option<Verdict>, StartError> {
        let trouble = self.trouble().await?;
        if let Some(trouble) = &trouble {
            let index = self.courses.iter().position(|course| !course.proved).unwrap_or(0);
            return Ok(Some(self.unhealthy(index, Unhealthy::Trouble(trouble.clone()))));
        }
        let Some(index) = self.next() else {
            return Ok(Some(self.healthy().await));
        };
        let wait = self.courses[index].due.saturating_sub(self.began.elapsed());
        if !wait.is_zero() {
            self.wait(wait.min(FACTS_INTERVAL)).await;
            return Ok(None);
        }
        self.sample(index).await;
        Ok(self.judged(index))
    }

    /// Proved checks go on being sampled until all are proved: a late failure of one still counts.
    fn next(&self) -> Option<usize> {
        if self.courses.iter().all(|course| course.proved) {
            return None;
        }
        (0..self.courses.len()).min_by_key(|index| self.courses[*index].due)
    }

    /// A try that was broken off because a process ended is none: the trouble is found next.
    async fn sample(&mut self, index: usize) {
        let at = self.began.elapsed();
        let (outcome, tried) = match self.courses[index].spec {
            None => (Outcome::Good, None),
            Some(spec) => match self.probe(spec).await {
                Some(tried) => (tried.outcome.clone(), Some(tried)),
                None => return,
            },
        };
        let outcome = match outcome {
            Outcome::Good => self.only_this_release().map_or(Outcome::Good, Outcome::Bad),
            bad @ Outcome::Bad(_) => bad,
        };
        let course = &mut self.courses[index];
        course.samples.push(Sample { at, outcome });
        course.last = tried;
    }

    /// A probe that hangs does not hide that the process died.
    async fn probe(&self, spec: &HealthSpec) -> Option<Tried> {
        tokio::select! {
            tried = try_once(spec, &self.asking) => Some(tried),
            () = self.somebody_ends() => None,
        }
    }

    fn judged(&mut self, index: usize) -> Option<Verdict> {
        let elapsed = self.began.elapsed();
        let course = &mut self.courses[index];
        let judgement = judge(&course.policy, &course.samples, None, elapsed);
        course.proved = judgement == Judgement::Healthy;
        match judgement {
            Judgement::Again(pause) => course.due = elapsed + pause,
            Judgement::Healthy => course.due = elapsed + course.policy.interval,
            Judgement::Unhealthy(why) => return Some(self.unhealthy(index, why)),
        }
        None
    }

    /// The end of a process is seen sooner than its manager has written down how: it is given a moment.
    async fn trouble(&mut self) -> Result<Option<Trouble>, StartError> {
        let deadline = Instant::now() + EXIT_WAIT;
        loop {
            let trouble = self.trouble_now().await?;
            let explained = trouble.as_ref().is_none_or(|trouble| trouble.exit().is_some());
            if explained || Instant::now() >= deadline {
                return Ok(trouble);
            }
            tokio::time::sleep(FIRST_PAUSE).await;
        }
    }

    async fn trouble_now(&mut self) -> Result<Option<Trouble>, StartError> {
        self.asking.beside.clear();
        self.asking.supervisors.clear();
        let known = self.seen.iter_mut().zip(&mut self.named);
        for (started, (seen, named)) in self.of.started.iter().zip(known) {
            let facts = started.manager.inspect(&started.launch.slot).await?;
            seen.extend(facts.processes.iter().copied());
            named.clone_from(&facts.processes);
            self.asking.beside.extend(facts.beside);
            self.asking.supervisors.extend(facts.supervisor);
            let all_live = seen.iter().all(|id| proc::is_alive(*id));
            let launch = started.launch;
            let trouble = Trouble::of(&launch.slot.process, launch.spec.instances, &facts, all_live);
            if trouble.is_some() {
                return Ok(trouble);
            }
        }
        Ok(None)
    }

    /// pm2 may leave workers of another release behind, or fewer of this one: then a good answer proves
    /// nothing of the next.
    fn only_this_release(&self) -> Option<String> {
        let by_pm2 = |started: &Started<'_>| started.launch.spec.manager == ManagerKind::Pm2;
        let starts = self.of.started.iter().zip(&self.named);
        let mut starts = starts.filter(|(started, _)| by_pm2(started));
        starts.find_map(|(started, named)| mixed(started, named))
    }

    async fn wait(&self, pause: Duration) {
        tokio::select! {
            () = tokio::time::sleep(pause) => (),
            () = self.somebody_ends() => (),
        }
    }

    async fn somebody_ends(&self) {
        let mut watched = JoinSet::new();
        for id in self.seen.iter().flatten() {
            watched.spawn(proc::exited(*id));
        }
        if watched.join_next().await.is_none() {
            std::future::pending::<()>().await;
        }
    }

    async fn healthy(&self) -> Verdict {
        let samples: usize = self.courses.iter().map(|course| course.samples.len()).sum();
        let mut advice = Vec::new();
        for spec in self.of.checks.iter().filter(|spec| spec.advisory) {
            advice.push(Advice {
                check: spec.name.to_string(),
                complaint: match try_once(spec, &self.asking).await.outcome {
                    Outcome::Good => None,
                    Outcome::Bad(why) => Some(why),
                },
            });
        }
        Verdict::Healthy(Proof {
            samples: u32::try_from(samples).unwrap_or(u32::MAX),
            took_ms: u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            advice,
        })
    }

    fn unhealthy(&self, index: usize, why: Unhealthy) -> Verdict {
        let course = self.courses.get(index);
        let holders = port_holders(self.of.checks, &self.asking);
        let evidence = Evidence {
            check: course.map(Course::name),
            tries: course.map_or(0, |course| u32::try_from(course.samples.len()).unwrap_or(u32::MAX)),
            status: course.and_then(|course| course.last.as_ref()?.status),
            body: course.and_then(|course| excerpt(&course.last.as_ref()?.body)),
            exit: exit(&why),
            port_holders: holders.iter().map(|(_, holder)| holder.clone()).collect(),
            logs: self.logs(),
        };
        Verdict::Unhealthy {
            reason: reason(evidence.check.clone().unwrap_or_default(), why, holders),
            evidence: Box::new(evidence),
        }
    }

    fn logs(&self) -> BTreeMap<String, Vec<String>> {
        let lines = |started: &Started<'_>| {
            let slot = &started.launch.slot;
            (slot.process.to_string(), last_lines(&slot.log_path()))
        };
        self.of.started.iter().map(lines).collect()
    }
}

pub(super) fn answerer(started: &Started<'_>) -> Answerer {
    Answerer {
        start_id: started.launch.start_id.clone(),
        release_dir: started.launch.release_dir.clone(),
        since_ticks: started.since_ticks,
    }
}

fn exit(why: &Unhealthy) -> Option<Exit> {
    match why {
        Unhealthy::Trouble(trouble) => trouble.exit(),
        Unhealthy::NoGoodAnswer(_) => None,
    }
}

/// A port held by somebody else is the cause; what the process or the check said is its effect.
fn reason(check: String, why: Unhealthy, holders: Vec<(u16, Holder)>) -> Reason {
    let reason = match why {
        Unhealthy::Trouble(trouble) => Reason::Process(trouble),
        Unhealthy::NoGoodAnswer(last) => Reason::Check { check, last },
    };
    match holders.into_iter().next() {
        Some((port, holder)) => Reason::PortHeld { port, holder, what: reason.to_string() },
        None => reason,
    }
}
