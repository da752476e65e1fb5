//! A trial run of one process of a release on a port of its own, before anything that runs is touched.
//!
//! The process has the release as its directory, the same environment but for the port and
//! `LANDFALL_PREFLIGHT=1`, and no manager: whatever it starts ends with it. One that is given a listening socket
//! is given another one here, on that port.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::shim::order::Listen;
use super::{Account, argv, listens};
use crate::env::EnvError;
use crate::health::{Answerer, Asking, Trial, try_out};
use crate::proc;
use crate::spec::{Check, HEALTH_SETTLE, HealthSpec, Millis, StartSpec};
use crate::start::Exit;
use crate::step::{Attached, End, Job, OnAgentDeath, Runner, StepError};

/// Environment key that tells an app it is only tried.
pub const PREFLIGHT_KEY: &str = "LANDFALL_PREFLIGHT";

/// What is tried.
#[derive(Debug, Clone, Copy)]
pub struct Preflight<'a> {
    /// The process.
    pub spec: &'a StartSpec,
    /// The key that carries its port.
    pub port_env: &'a str,
    /// The release.
    pub release_dir: &'a Path,
    /// The complete environment it will have.
    pub env: &'a BTreeMap<String, String>,
    /// The account it runs as; none: landfall's own.
    pub account: Option<&'a Account>,
    /// The checks that apply; those that name neither the port's key nor the port of its socket are left out (they
    /// would ask what runs now).
    pub checks: &'a [HealthSpec],
    /// Runs it.
    pub runner: &'a Runner,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tryout {
    /// It answered, or without checks ran through the settle time.
    Passed,
    /// It did not, and why.
    Failed(Box<PreflightFailure>),
    /// Something newer is wanted; nothing was decided.
    Superseded,
}

/// Why a release failed before anything was touched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("preflight on port {port}: {why}")]
pub struct PreflightFailure {
    /// The port it was given.
    pub port: u16,
    /// What happened.
    pub why: String,
    /// How it ended by itself, if it did.
    pub exit: Option<Exit>,
    /// Its last lines.
    pub tail: Vec<String>,
    /// The status of the last answer.
    pub status: Option<u16>,
    /// The beginning of the last answer.
    pub body: Option<String>,
}

/// The trial itself was impossible: no fault of the release.
#[derive(Debug, thiserror::Error)]
pub enum PreflightError {
    /// The runner.
    #[error(transparent)]
    Runner(#[from] StepError),
    /// No port.
    #[error("no free port on 127.0.0.1 for the preflight: {0}")]
    NoPort(std::io::Error),
    /// A `${KEY}` of the command.
    #[error(transparent)]
    Missing(#[from] EnvError),
    /// The address of its socket.
    #[error("{0}")]
    NoAddress(String),
}

/// Tries a release. Bounded by its checks' budgets and the grace of its stop.
pub async fn preflight(of: &Preflight<'_>, stop_early: impl Fn() -> bool) -> Result<Tryout, PreflightError> {
    let socket = listens(of.spec, of.env).map_err(PreflightError::NoAddress)?;
    let port = free_port(socket).map_err(PreflightError::NoPort)?;
    let env = environment(of, port);
    let since_ticks = proc::now_ticks();
    let beside = socket.map(|socket| SocketAddr::new(socket.ip(), port));
    let mut attached = Attached::begin(of.runner, &job(of, &env, beside)?).await?;
    let asking = asking(of, &env, since_ticks);
    let checks = aimed(of, socket, port);
    let checks: Vec<&HealthSpec> = checks.iter().collect();
    let trial = tokio::select! {
        trial = try_out(&asking, &checks, stop_early) => trial,
        report = attached.wait() => {
            let report = report?;
            let exit = exit_of(&report.end);
            let why = ended(report.end);
            return Ok(Tryout::Failed(Box::new(failure(port, why, exit, report.tail, None))));
        }
    };
    let tail = attached.stop().await?.tail;
    Ok(match trial {
        Trial::Passed => Tryout::Passed,
        Trial::Superseded => Tryout::Superseded,
        Trial::Failed { why, status, body } => {
            Tryout::Failed(Box::new(failure(port, why, None, tail, Some((status, body)))))
        }
    })
}

type LastAnswer = (Option<u16>, Option<String>);

fn failure(
    port: u16,
    why: String,
    exit: Option<Exit>,
    tail: Vec<String>,
    last: Option<LastAnswer>,
) -> PreflightFailure {
    let (status, body) = last.unwrap_or_default();
    PreflightFailure { port, why, exit, tail, status, body }
}

fn exit_of(end: &End) -> Option<Exit> {
    match end {
        End::Exited(exit) => Some(*exit),
        End::TimedOut | End::Stopped | End::NotStarted(_) => None,
    }
}

fn ended(end: End) -> String {
    match end {
        End::Exited(Exit::Code(code)) => format!("the process ended with status {code}"),
        End::Exited(Exit::Signal(signal)) => format!("the process was ended by signal {signal}"),
        End::NotStarted(why) => format!("the process did not start: {why}"),
        End::TimedOut | End::Stopped => "the process was stopped".to_owned(),
    }
}

/// Asked of the kernel and given back: the app binds it a moment later.
fn free_port(socket: Option<SocketAddr>) -> std::io::Result<u16> {
    let ip = socket.map_or(Ipv4Addr::LOCALHOST.into(), |socket| socket.ip());
    Ok(TcpListener::bind((ip, 0))?.local_addr()?.port())
}

fn environment(of: &Preflight<'_>, port: u16) -> BTreeMap<String, String> {
    let mut env = of.env.clone();
    env.insert(of.port_env.to_owned(), port.to_string());
    env.insert(PREFLIGHT_KEY.to_owned(), "1".to_owned());
    env
}

fn job(
    of: &Preflight<'_>,
    env: &BTreeMap<String, String>,
    socket: Option<SocketAddr>,
) -> Result<Job, EnvError> {
    let listen = |address| Listen { address, name: of.spec.name.to_string(), from: None };
    Ok(Job {
        argv: command(of, env)?,
        dir: of.release_dir.to_owned(),
        env: env.clone(),
        run_as: of.account.map(Into::into),
        timeout: Some(Millis(bound(of.checks))),
        stop_signal: of.spec.stop.signal.clone(),
        grace: of.spec.stop.grace,
        log: None,
        on_agent_death: OnAgentDeath::End,
        listen: socket.map(listen),
    })
}

/// node's own arguments are given to pm2 apart from the command: here they come back to their place.
fn command(of: &Preflight<'_>, env: &BTreeMap<String, String>) -> Result<Vec<String>, EnvError> {
    let mut argv = argv(&of.spec.command, env)?;
    let is_node =
        argv.first().is_some_and(|program| Path::new(program).file_name().is_some_and(|name| name == "node"));
    if is_node {
        argv.splice(1..1, of.spec.node_args.iter().cloned());
    }
    Ok(argv)
}

/// Far beyond what the checks take: the trial ends itself, this only bounds a forgotten one.
fn bound(checks: &[HealthSpec]) -> u64 {
    let of = |spec: &HealthSpec| {
        let tries = spec.interval.0.saturating_mul(u64::from(spec.attempts));
        tries.saturating_add(spec.settle.0).saturating_add(spec.timeout.0)
    };
    let longest = checks.iter().map(of).fold(HEALTH_SETTLE.0, u64::saturating_add);
    longest.saturating_add(EXTRA_MS)
}

/// For scheduling on a loaded host.
const EXTRA_MS: u64 = 60_000;

/// The checks as they ask the side port. Those that ask elsewhere would ask what runs now.
fn aimed(of: &Preflight<'_>, socket: Option<SocketAddr>, port: u16) -> Vec<HealthSpec> {
    let by_key = format!("${{{}}}", of.port_env);
    let fixed = socket.map(|socket| format!(":{}", socket.port()));
    let here = |text: &String| match &fixed {
        _ if text.contains(&by_key) => Some(text.clone()),
        Some(fixed) => at_port(text, fixed, port),
        None => None,
    };
    let aim = |spec: &HealthSpec| {
        let check = match &spec.check {
            Check::Http(url) => Check::Http(here(url)?),
            Check::Tcp(address) => Check::Tcp(here(address)?),
            Check::Run(argv) => {
                Check::Run(argv.iter().any(|part| part.contains(&by_key)).then(|| argv.clone())?)
            }
        };
        Some(HealthSpec { check, ..spec.clone() })
    };
    of.checks.iter().filter(|spec| !spec.advisory).filter_map(aim).collect()
}

/// An address with this port, written out, with the side port in its place.
fn at_port(text: &str, fixed: &str, port: u16) -> Option<String> {
    let (before, after) = text.split_once(fixed)?;
    let whole = after.chars().next().is_none_or(|next| !next.is_ascii_digit());
    whole.then(|| format!("{before}:{port}{after}"))
}

fn asking<'a>(of: &Preflight<'a>, env: &'a BTreeMap<String, String>, since_ticks: u64) -> Asking<'a> {
    let answerer = Answerer {
        start_id: env.get("LANDFALL_START").cloned().unwrap_or_default(),
        release_dir: of.release_dir.to_owned(),
        since_ticks,
    };
    Asking {
        answerers: vec![answerer],
        beside: Vec::new(),
        supervisors: Vec::new(),
        env,
        release_dir: of.release_dir,
        account: of.account,
        runner: of.runner,
    }
}
