//! `landfall doctor`: everything that is missing on this host, each with what mends it.

mod agent;
mod app;
mod disk;
mod examine;
mod kernel;
mod programs;
mod repository;
mod root;
mod servers;
mod supply;
mod systemd;

use std::path::Path;

use clap::Args;
use landfall_store::Name;

use super::Outcome;
use super::context::Context;
use super::error::CliError;
use super::exit::Exit;
use super::report::{Report, Tone};
use super::text::wrap;
use crate::config::{HostConfig, StateLocation};
use crate::disk::{Disk, RealDisk};
use crate::host::Host;
use crate::state::{DesiredState, STATE_BYTES_MAX, Severity, lint};
use crate::trust::Signers;
pub use examine::Finding;
use examine::{Level, Patient};

const CONFIG: &str = "config";
const STATE: &str = "state";
const TRUST: &str = "trust";

/// Say everything that is missing on this host, each with what mends it.
///
/// Looks at host.toml, accounts, the root and its disk, the store, the state, and for every app that the state
/// or host.toml names: artifact, env layers and required keys, the programs its steps and processes need, the
/// databases and queues that its env names, its port, its health check, a pm2 beside landfall's own, whether systemd
/// can run what it should. Then at the agent, its service, the clock and the limits.
///
/// Run it as the account of the agent. It needs no agent and changes nothing. Exit status: 0 nothing must be
/// mended (there may be warnings), 1 something must.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sudo landfall doctor          before the first deploy, and when something is odd
  landfall doctor -q            problems and warnings only
  landfall doctor -o json       for provisioning: check, level, app, message, fix")]
pub struct DoctorArgs {
    /// The environment, where host.toml does not say.
    #[arg(long, value_name = "ENV")]
    pub env: Option<Name>,
}

/// Runs the command.
pub fn run(args: &DoctorArgs, context: &Context) -> Outcome {
    let mut found = examine::machine();
    match context.host().and_then(|host| Ok((context.environment(&host, args.env.as_ref())?, host))) {
        Ok((environment, host)) => found.extend(examined(context, &host, &environment)),
        Err(error) => {
            found.insert(0, told(CONFIG, &error, "correct host.toml, or name another: --config FILE"))
        }
    }
    // The host first, then its apps by name; in each the order of the checks.
    found.sort_by(|a, b| a.app.cmp(&b.app));
    context.report.items("DoctorList", &found, |report| show(report, &found));
    let sick = found.iter().any(|finding| finding.level == Level::Problem);
    Ok(if sick { Exit::Differs } else { Exit::Done })
}

fn examined(context: &Context, host: &Host, environment: &Name) -> Vec<Finding> {
    let mut found = vec![match super::watch::startable(&host.config) {
        Ok(()) => Finding::good(CONFIG, format!("host `{}`, environment `{environment}`", host.config.host)),
        Err(error) => told(CONFIG, &error, "correct host.toml"),
    }];
    let (state, of_state) = state(context, host);
    found.extend(of_state);
    found.extend(trust(&host.config));
    found.extend(examine::host(&Patient { host, environment, state: state.as_ref() }));
    found
}

/// An error of another command as a finding.
fn told(check: &'static str, error: &CliError, fix: &str) -> Finding {
    Finding::problem(check, &error.message, error.hint.as_deref().unwrap_or(fix))
}

/// Reads and lints the state as the agent will.
fn state(context: &Context, host: &Host) -> (Option<DesiredState>, Vec<Finding>) {
    if context.global.state.is_none()
        && let Some(StateLocation::Git(repository)) = host.config.state.as_ref().map(|state| &state.location)
    {
        return repository::findings(repository, host);
    }
    let path = match context.state_file() {
        Ok(path) => path,
        Err(error) => return (None, vec![told(STATE, &error, "set `[state] file` in host.toml")]),
    };
    let missing = "set `[state] file` in host.toml, or write one: landfall deploy <app> <env> <version>";
    let bytes = match RealDisk.read(&path, STATE_BYTES_MAX) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => {
            let what = format!("there is no state file {}", path.display());
            return (None, vec![Finding::problem(STATE, what, missing)]);
        }
        Err(error) => {
            let what = format!("{}: {error}", path.display());
            return (
                None,
                vec![Finding::problem(
                    STATE,
                    what,
                    "run it as the account of the agent, or correct its mode",
                )],
            );
        }
    };
    judged(&bytes, &path, path.display().to_string())
}

/// What is wrong with a state, or that nothing is.
fn judged(bytes: &[u8], path: &Path, good: String) -> (Option<DesiredState>, Vec<Finding>) {
    let text = String::from_utf8_lossy(bytes);
    let mut found: Vec<Finding> = lint(&text, path).into_iter().map(linted).collect();
    let state = DesiredState::parse_bytes(bytes, path);
    if found.is_empty() {
        found.push(match &state {
            Ok(_) => Finding::good(STATE, good),
            Err(error) => Finding::problem(STATE, error.to_string(), "landfall state lint"),
        });
    }
    (state.ok(), found)
}

/// Whether those who may sign are known.
fn trust(config: &HostConfig) -> Option<Finding> {
    let path = config.trust.allowed_signers.as_ref()?;
    Some(match Signers::read(path) {
        Ok(signers) => Finding::good(TRUST, format!("{}: {} keys may sign", path.display(), signers.len())),
        Err(error) => {
            Finding::problem(TRUST, error.to_string(), "correct the file of [trust] allowed_signers")
        }
    })
}

fn linted(finding: crate::state::Finding) -> Finding {
    let fix = finding.hint.unwrap_or_else(|| "landfall state lint".to_owned());
    let told = match finding.severity {
        Severity::Error => Finding::problem(STATE, finding.message, fix),
        Severity::Warning => Finding::warning(STATE, finding.message, fix),
    };
    Finding { app: finding.app, ..told }
}

/// Columns before what is said.
const INDENT: usize = 14;

fn show(report: &Report, found: &[Finding]) {
    let mut about: Option<&Finding> = None;
    for finding in found.iter().filter(|finding| finding.level != Level::Good || !report.is_quiet()) {
        if finding.app.is_some() && about.is_none_or(|last| last.app != finding.app) {
            let name = finding.app.as_ref().map(Name::as_str).unwrap_or_default();
            report.line(report.tone(name, Tone::Strong));
        }
        about = Some(finding);
        lines(report, finding).iter().for_each(|line| report.line(line));
    }
    report.say(summary(found));
}

fn lines(report: &Report, finding: &Finding) -> Vec<String> {
    let (mark, tone) = match finding.level {
        Level::Good => (report.marks().good, Tone::Good),
        Level::Warning => (report.marks().look, Tone::Changing),
        Level::Problem => (report.marks().bad, Tone::Bad),
    };
    let indent = " ".repeat(INDENT);
    let mut lines = wrap(&finding.message, &indent, report.width());
    if let Some(first) = lines.first_mut() {
        let said = first.trim_start().to_owned();
        *first = format!("{} {:<width$}{said}", report.tone(mark, tone), finding.check, width = INDENT - 2);
    }
    let fix = finding.fix.iter().flat_map(|fix| wrap(&format!("mend: {fix}"), &indent, report.width()));
    lines.extend(fix);
    lines
}

fn summary(found: &[Finding]) -> String {
    let count = |level| found.iter().filter(|finding| finding.level == level).count();
    let several = |count: usize, what: &str| match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    };
    match (count(Level::Problem), count(Level::Warning)) {
        (0, 0) => "nothing is missing.".to_owned(),
        (0, warnings) => format!("nothing must be mended; {}.", several(warnings, "warning")),
        (problems, 0) => format!("{} to mend.", several(problems, "problem")),
        (problems, warnings) => {
            format!("{} to mend, {}.", several(problems, "problem"), several(warnings, "warning"))
        }
    }
}
