//! Orders on one app: given to the agent at its door, or carried out here where no agent holds the lock.

mod commands;
mod local;

use std::time::{Duration, Instant};

use jiff::Timestamp;
use landfall_store::{ArtifactId, Name};
use serde_json::json;

use super::context::{Context, host_error};
use super::error::CliError;
use super::exit::Exit;
use super::look::{Looking, agent_error};
use super::report::{API_VERSION, Format};
use crate::control::{self, Done, Order, OrderError, Records, Word};
use crate::door::{self, Answer, Denied, KnockError, Request};
use crate::host::{Host, HostError};
use crate::watch;

pub use commands::duration;
pub use commands::{Reconcile, Recover, Resume, Retry, Suspend, Unpin};
pub use commands::{reconcile, recover, resume, retry, suspend, unpin};
pub use local::{LocalArgs, Wish as LocalWish, run as roll_back_here};

/// An agent that has just taken the lock opens its door within this time.
const DOOR_LIMIT: Duration = Duration::from_secs(2);
/// Between two knocks until then.
const DOOR_PAUSE: Duration = Duration::from_millis(50);

/// What came of an order, and whether an agent acts on it.
struct Given {
    done: Done,
    by_agent: bool,
}

/// Who gives the order: as typed, else who called sudo, else the account of this process.
fn actor(typed: Option<&str>) -> String {
    let sudo = || std::env::var("SUDO_USER").ok().filter(|user| !user.is_empty());
    let account = || {
        let id = nix::unistd::getuid();
        let user = nix::unistd::User::from_uid(id).ok().flatten();
        user.map_or_else(|| format!("uid {id}"), |user| user.name)
    };
    typed.map(str::to_owned).or_else(sudo).unwrap_or_else(account)
}

/// Gives an order about an app that this host knows.
fn give(looking: &Looking, word: Word) -> Result<Given, CliError> {
    looking.chosen(Some(&word.app))?;
    let host = &looking.shared.host;
    match host.lock() {
        Ok(_lock) => carry_out(looking, &word),
        Err(HostError::Locked { .. }) => {
            ask(host, Request::App(word)).map(|done| Given { done, by_agent: true })
        }
        Err(error) => Err(host_error(error)),
    }
}

/// The same work as the agent does, under the lock.
fn carry_out(looking: &Looking, word: &Word) -> Result<Given, CliError> {
    let block_of = |artifact: &ArtifactId| looking.block_of(&word.app, artifact);
    let dir = looking.dir(&word.app);
    let records = Records { dir: &dir, block_of: &block_of };
    let done = control::carry_out(word, &records, Timestamp::now()).map_err(order_error)?;
    Ok(Given { done, by_agent: false })
}

fn ask(host: &Host, request: Request) -> Result<Done, CliError> {
    let deadline = Instant::now() + DOOR_LIMIT;
    let answer = loop {
        match door::ask(&host.root.door(), request.clone()) {
            Err(KnockError::NoAgent { .. }) if host.is_locked() && Instant::now() < deadline => {
                std::thread::sleep(DOOR_PAUSE);
            }
            other => break other,
        }
    };
    match answer.map_err(knock_error)? {
        Answer::Done(done) => Ok(done),
        Answer::Denied(denied) => Err(denied_error(denied)),
    }
}

/// Takes a commit of the state repository that is refused.
pub fn accept_state(commit: &str, by: Option<&str>, reason: &str, context: &Context) -> super::Outcome {
    if reason.trim().is_empty() {
        return Err(CliError::new(Exit::Usage, "TextInvalid", "an empty reason tells nobody anything"));
    }
    let host = context.host()?;
    let (commit, by, reason) = (commit.to_lowercase(), actor(by), reason.to_owned());
    let given = match host.lock() {
        Ok(_lock) => {
            let source = context.source(host.root.repository())?;
            let taken = watch::accept_without_agent(&source, &host, &commit, &by, &reason);
            let done = super::io_runtime()?.block_on(taken).map_err(denied_error)?;
            Given { done, by_agent: false }
        }
        Err(HostError::Locked { .. }) => {
            let done = ask(&host, Request::AcceptState { commit, by, reason })?;
            Given { done, by_agent: true }
        }
        Err(error) => return Err(host_error(error)),
    };
    tell(None, &given, context);
    Ok(Exit::Done)
}

fn order_error(error: OrderError) -> CliError {
    denied_error(Denied::from(error))
}

fn denied_error(denied: Denied) -> CliError {
    let cli = CliError::new(Exit::of(denied.code), denied.reason, denied.message);
    CliError { hint: denied.hint, ..cli }
}

fn knock_error(error: KnockError) -> CliError {
    match &error {
        KnockError::NoAgent { .. } => CliError::new(Exit::NoAgent, "NoAgent", &error)
            .hint("another landfall may be at work (`watch --once`, `release`): try again when it has ended"),
        KnockError::NotAllowed { .. } => CliError::new(Exit::NoAgent, "PermissionDenied", &error)
            .hint("run it as root or as the account of the agent"),
        KnockError::Silent { .. } => CliError::new(Exit::NoAgent, "NoAnswer", &error)
            .hint("`landfall status` shows whether it was done"),
        KnockError::Io { .. } | KnockError::Nonsense { .. } => {
            CliError::new(Exit::NoAgent, "NoAnswer", &error)
                .hint("agent and command are of different versions? restart the agent")
        }
    }
}

/// Says what was done: a sentence for people, a document for machines.
fn tell(app: Option<&Name>, given: &Given, context: &Context) {
    let Given { done, by_agent } = given;
    if context.report.format() == Format::Table {
        done.message.lines().for_each(|line| context.report.line(line));
        if !by_agent && done.changed {
            context.report.say("no agent is running here; it acts on this when it starts: `landfall watch`");
        }
        return;
    }
    context.report.json(&json!({
        "apiVersion": API_VERSION,
        "kind": "OrderResult",
        "app": app,
        "changed": done.changed,
        "message": done.message,
        "artifact": done.artifact,
        "agent": by_agent,
    }));
}

fn run(looking: &Looking, app: &Name, by: Option<&str>, order: Order) -> Result<Given, CliError> {
    give(looking, Word { app: app.clone(), by: actor(by), order })
}

/// Reconciles one app here and now, under the lock.
fn tick(host: &Host, environment: &Name, app: &Name) -> Result<watch::Report, CliError> {
    let runtime = super::io_runtime()?;
    runtime.block_on(watch::one(host, environment, app)).map_err(agent_error)
}
