//! Runs the recipe's steps in a release directory, in order, with the release's own env.

use std::collections::BTreeMap;
use std::time::Duration;

use landfall_store::Name;
use serde::{Deserialize, Serialize};

use super::{HostSupply, Tries, failure};
use crate::disk::{Disk, RealDisk};
use crate::record::journal::{Class, Failure};
use crate::record::release::ReleaseRecord;
use crate::spec::{StepKind, StepSpec, applies};
use crate::start::Exit;
use crate::step::{self, Run, StepEnd};

/// Tries of the prepare steps, each in a fresh copy of the release (Argo CD's figure).
pub(super) const PREPARE_TRIES: u32 = 3;
/// Pauses between them.
pub(super) const PREPARE_PAUSES: Tries = Tries {
    count: PREPARE_TRIES,
    first_pause: Duration::from_secs(5),
    longest_pause: Duration::from_secs(180),
};
/// Bytes of a release's env file.
const ENV_BYTES_MAX: u64 = 4 << 20;

/// Steps that somebody asked to leave out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skip {
    /// Those that install dependencies.
    pub install: bool,
    /// Migrations.
    pub migration: bool,
}

impl Skip {
    /// Names of the steps that are left out.
    pub(super) fn among(self, steps: &[StepSpec]) -> Vec<Name> {
        let left_out = |step: &&StepSpec| match step.kind {
            StepKind::Migrate => self.migration,
            StepKind::Prepare => self.install && crate::recipe::installs_dependencies(step),
            StepKind::After => false,
        };
        steps.iter().filter(left_out).map(|step| step.name.clone()).collect()
    }
}

impl HostSupply {
    /// Runs every step of this kind that applies here; stops at the first that fails.
    pub(super) async fn run_steps(
        &self,
        record: &ReleaseRecord,
        kind: StepKind,
        attempt: u64,
    ) -> Result<(), Failure> {
        let roles = &self.inner.service.roles;
        let due = |step: &&StepSpec| {
            step.kind == kind && applies(&step.roles, roles) && !record.skipped.contains(&step.name)
        };
        for step in record.spec.steps.iter().filter(due) {
            self.run_step(record, step, attempt).await?;
        }
        Ok(())
    }

    async fn run_step(&self, record: &ReleaseRecord, step: &StepSpec, attempt: u64) -> Result<(), Failure> {
        let service = &self.inner.service;
        let dir = self.inner.release_dir(&record.release.name);
        let logs = service.dir.attempt(attempt);
        let class = match step.kind {
            StepKind::Prepare | StepKind::After => Class::Prepare,
            StepKind::Migrate => Class::Migrate,
        };
        let unusable = |path: &std::path::Path, error: String| {
            failure(Class::Host, "StepNotRun", format!("step `{}`: {}: {error}", step.name, path.display()))
        };
        RealDisk.create_dir(&logs).map_err(|error| unusable(&logs, error.to_string()))?;
        let env = env_of(&dir.env()).map_err(|error| unusable(&dir.env(), error))?;
        let run = Run {
            command: &step.command,
            kind: step.kind,
            timeout: step.timeout,
            dir: dir.0.clone(),
            env: &env,
            account: service.account.as_ref(),
            log: logs.join(format!("{}.log", step.name)),
        };
        tracing::info!(step = %step.name, attempt, "step");
        let report = step::run(&self.runner, &run)
            .await
            .map_err(|error| failure(Class::Host, "StepNotRun", format!("step `{}`: {error}", step.name)))?;
        if report.left_behind > 0 {
            tracing::warn!(step = %step.name, processes = report.left_behind, "the step left processes behind; they were ended");
        }
        match describe(&report.end, step) {
            None => Ok(()),
            Some(what) => {
                let last = report.tail.last().map(|line| format!(": {line}")).unwrap_or_default();
                Err(failure(class, "StepFailed", format!("step `{}` {what}{last}", step.name)))
            }
        }
    }
}

fn describe(end: &StepEnd, step: &StepSpec) -> Option<String> {
    match end {
        StepEnd::Ok => None,
        StepEnd::Transient => Some("exited with status 75 (try again later)".to_owned()),
        StepEnd::Failed(Exit::Code(code)) => Some(format!("exited with status {code}")),
        StepEnd::Failed(Exit::Signal(signal)) => Some(format!("was ended by signal {signal}")),
        StepEnd::TimedOut => Some(format!("was ended after {} ms, its timeout", step.timeout.0)),
        StepEnd::NotStarted(why) => Some(format!("could not be started: {why}")),
    }
}

pub(super) fn env_of(path: &std::path::Path) -> Result<BTreeMap<String, String>, String> {
    let bytes = RealDisk.read(path, ENV_BYTES_MAX).map_err(|error| error.to_string())?;
    let bytes = bytes.ok_or("it is missing")?;
    // The content is secret, so a parser's message, which may quote it, is not passed on.
    serde_json::from_slice(&bytes).map_err(|_| "it is not a JSON object of strings".to_owned())
}
