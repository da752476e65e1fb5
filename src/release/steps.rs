//! Runs the recipe's steps in a release directory, in order, with the release's own env.

use std::collections::BTreeMap;
use std::future::Future;

use landfall_store::Name;
use serde::{Deserialize, Serialize};

use super::{HostSupply, failure};
use crate::disk::{Disk, RealDisk};
use crate::effects::Stepped;
use crate::layout::EVIDENCE;
use crate::record::journal::{Class, Failure};
use crate::record::release::ReleaseRecord;
use crate::spec::{Command, Millis, StepKind, StepSpec};
use crate::start::Exit;
use crate::step::{self, Run, StepEnd, StepReport};

/// Time for a check to say whether another host has migrated.
const CHECK_TIMEOUT: Millis = Millis(60_000);
/// Lines from the end among which the error is looked for: what stands above them may be of something else.
const TELLING_LINES: usize = 20;
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

/// One command to run for a step.
struct Wanted<'a> {
    step: &'a StepSpec,
    command: &'a Command,
    kind: StepKind,
    timeout: Millis,
    log: String,
}

impl HostSupply {
    /// Runs a step to its end, or until it is to give way.
    pub(super) async fn run_step(
        &self,
        record: &ReleaseRecord,
        step: &StepSpec,
        attempt: u64,
        give_way: impl Future<Output = ()>,
    ) -> Result<Stepped, Failure> {
        let log = format!("{}.log", step.name);
        let wanted = Wanted { step, command: &step.command, kind: step.kind, timeout: step.timeout, log };
        tracing::info!(step = %step.name, attempt, "step");
        let Some(report) = self.run(record, &wanted, attempt, give_way).await? else {
            tracing::info!(step = %step.name, attempt, "step ended: something newer is wanted");
            return Ok(Stepped::GaveWay);
        };
        if report.left_behind > 0 {
            tracing::warn!(step = %step.name, processes = report.left_behind, "the step left processes behind; they were ended");
        }
        let class = match (&report.end, step.kind) {
            (StepEnd::Transient, _) => Class::Transient,
            (_, StepKind::Prepare | StepKind::After) => Class::Prepare,
            (_, StepKind::Migrate) => Class::Migrate,
        };
        let complaint = complaint(&report, step.timeout);
        self.keep_evidence(attempt, step, complaint.is_some().then_some(&report));
        match complaint {
            None => Ok(Stepped::Done),
            Some(what) => Err(failure(class, "StepFailed", format!("step `{}` {what}", step.name))),
        }
    }

    /// What the step that failed last printed. One that works after all leaves nothing of the tries before. A full
    /// disk costs the evidence, and must not have a migration run again.
    fn keep_evidence(&self, attempt: u64, step: &StepSpec, failed: Option<&StepReport>) {
        let path = self.inner.service.dir.attempt(attempt).join(EVIDENCE);
        let kept = match failed {
            Some(report) => {
                let evidence = serde_json::json!({ "step": step.name, "tail": report.tail });
                RealDisk.replace(&path, evidence.to_string().as_bytes())
            }
            None => RealDisk.remove(&path),
        };
        if let Err(error) = kept {
            tracing::warn!(step = %step.name, "{}: {error}", path.display());
        }
    }

    /// Runs a migrate step's check. What it complains of; none: another host has migrated.
    pub(super) async fn run_check(
        &self,
        record: &ReleaseRecord,
        step: &StepSpec,
        attempt: u64,
        give_way: impl Future<Output = ()>,
    ) -> Result<Option<String>, Failure> {
        let Some(command) = &step.check else { return Err(without_check(step)) };
        let timeout = step.timeout.min(CHECK_TIMEOUT);
        let log = format!("{}.check.log", step.name);
        let wanted = Wanted { step, command, kind: StepKind::Prepare, timeout, log };
        let report = self.run(record, &wanted, attempt, give_way).await?;
        Ok(report.map_or_else(|| Some("was ended".to_owned()), |report| complaint(&report, timeout)))
    }

    /// None: it gave way.
    async fn run(
        &self,
        record: &ReleaseRecord,
        wanted: &Wanted<'_>,
        attempt: u64,
        give_way: impl Future<Output = ()>,
    ) -> Result<Option<StepReport>, Failure> {
        let service = &self.inner.service;
        let dir = self.inner.release_dir(&record.release.name);
        let logs = service.dir.attempt(attempt);
        let name = &wanted.step.name;
        let unusable = |path: &std::path::Path, error: String| {
            failure(Class::Host, "StepNotRun", format!("step `{name}`: {}: {error}", path.display()))
        };
        RealDisk.create_dir(&logs).map_err(|error| unusable(&logs, error.to_string()))?;
        let env = env_of(&dir.env()).map_err(|error| unusable(&dir.env(), error))?;
        let run = Run {
            command: wanted.command,
            kind: wanted.kind,
            timeout: wanted.timeout,
            dir: dir.0.clone(),
            env: &env,
            account: service.account.as_ref(),
            log: logs.join(&wanted.log),
        };
        step::run_until(&self.runner, &run, give_way)
            .await
            .map_err(|error| failure(Class::Host, "StepNotRun", format!("step `{name}`: {error}")))
    }
}

/// A host that does not migrate has nothing to wait for.
pub(super) fn without_check(step: &StepSpec) -> Failure {
    let what = format!(
        "host.toml says `migrator = false`, and step `{}` has no `check` by which this host could tell that another has migrated: add one to the recipe, or let this host migrate",
        step.name
    );
    failure(Class::Refused, "MigrateCheckMissing", what)
}

/// What is wrong with how a step ended, and the line that tells most of why.
fn complaint(report: &StepReport, timeout: Millis) -> Option<String> {
    let what = describe(&report.end, timeout)?;
    let line = telling(&report.tail).map(|line| format!(": {line}")).unwrap_or_default();
    Some(format!("{what}{line}"))
}

/// The last line that begins with `error`, which a trace may follow; else the last one that is not blank.
fn telling(tail: &[String]) -> Option<&str> {
    let lines = || tail.iter().rev().map(|line| line.trim()).filter(|line| !line.is_empty());
    let is_error = |line: &&str| line.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("error"));
    lines().take(TELLING_LINES).find(is_error).or_else(|| lines().next())
}

fn describe(end: &StepEnd, timeout: Millis) -> Option<String> {
    match end {
        StepEnd::Ok => None,
        StepEnd::Transient => Some("exited with status 75 (try again later)".to_owned()),
        StepEnd::Failed(Exit::Code(code)) => Some(format!("exited with status {code}")),
        StepEnd::Failed(Exit::Signal(signal)) => Some(format!("was ended by signal {signal}")),
        StepEnd::TimedOut => Some(format!("was ended after {} ms, its timeout", timeout.0)),
        StepEnd::NotStarted(why) => Some(format!("could not be started: {why}")),
    }
}

pub(super) fn env_of(path: &std::path::Path) -> Result<BTreeMap<String, String>, String> {
    let bytes = RealDisk.read(path, ENV_BYTES_MAX).map_err(|error| error.to_string())?;
    let bytes = bytes.ok_or("it is missing")?;
    // The content is secret, so a parser's message, which may quote it, is not passed on.
    serde_json::from_slice(&bytes).map_err(|_| "it is not a JSON object of strings".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_tells_most_is_the_last_error_or_the_last_that_is_not_blank() {
        let of = |text: &str| {
            let tail: Vec<String> = text.lines().map(str::to_owned).collect();
            telling(&tail).map(str::to_owned)
        };
        assert_eq!(
            of("Error: P3009\n\nmigrate found failed migrations\n\n").as_deref(),
            Some("Error: P3009")
        );
        assert_eq!(of("error: a\n  at x.rs:1\nERROR 2: b\n  at y.rs:2").as_deref(), Some("ERROR 2: b"));
        assert_eq!(of("1 file\nthe CDN is down\n \n").as_deref(), Some("the CDN is down"));
        assert_eq!(of(&format!("error: old\n{}", "fine\n".repeat(TELLING_LINES))).as_deref(), Some("fine"));
        assert_eq!(of("\n\n"), None);
    }
}
