//! `landfall watch`: the agent in the foreground.

use std::ffi::OsString;

use clap::Args;
use landfall_store::Name;

use super::context::{Context, host_error};
use super::error::CliError;
use super::exit::Exit;
use super::{Outcome, io_runtime};
use crate::config::HostConfig;
use crate::hook::Secret;
use crate::source::Source;
use crate::trust::Signers;
use crate::watch::{self, AgentError, Report, Reporting, Settings, StateProblem};

/// Reconcile this host with the desired state, and go on doing so.
///
/// Stays in the foreground and logs to stderr. SIGTERM and SIGINT end it cleanly; the apps go on.
#[derive(Debug, Args)]
pub struct Watch {
    /// Reconcile once and exit with the code of the result.
    #[arg(long)]
    pub once: bool,
    /// The environment, where host.toml does not say.
    #[arg(long, value_name = "ENV")]
    pub env: Option<Name>,
}

/// Runs the command.
pub fn run(args: &Watch, context: &Context) -> Outcome {
    // A pm2 daemon started from here lives on; it must not hold what this process was given.
    close_fds::set_fds_cloexec(3, &[]);
    let settings = settings(args, context)?;
    let runtime = io_runtime()?;
    if !args.once {
        let read_again = || self::settings(args, context).map_err(|error| error.message);
        let watching = watch::watch(settings, &read_again);
        return runtime.block_on(watching).map(|()| Exit::Done).map_err(agent_error);
    }
    let reports = runtime.block_on(watch::once(settings)).map_err(agent_error)?;
    for report in &reports {
        if let Err(error) = &report.tick {
            context.report.say(format!("{}: nothing is done: {error}", report.app));
        }
    }
    Ok(reports.iter().map(code_of).max_by_key(|exit| rank(*exit)).unwrap_or(Exit::Done))
}

/// What host.toml and the command line say.
fn settings(args: &Watch, context: &Context) -> Result<Settings, CliError> {
    let host = context.host()?;
    startable(&host.config)?;
    let environment = context.environment(&host, args.env.as_ref())?;
    let source = context.source(host.root.repository())?;
    verifiable(&host.config, &source)?;
    let reporting = reporting(&host.config, &environment, context);
    Ok(Settings { host, environment, source, reporting })
}

/// The same words for the process that reports.
fn reporting(config: &HostConfig, environment: &Name, context: &Context) -> Option<Reporting> {
    let every = config.report.as_ref()?.every.duration();
    let global = &context.global;
    let mut arguments: Vec<OsString> =
        vec!["report".into(), "--quiet".into(), "--env".into(), environment.as_str().into()];
    let options = [
        ("--config", global.config.clone().map(OsString::from)),
        ("--root", global.root.clone().map(OsString::from)),
        ("--state", global.state.clone().map(OsString::from)),
        ("--store", global.store.clone().map(OsString::from)),
    ];
    for (option, value) in options {
        arguments.extend(value.into_iter().flat_map(|value| [option.into(), value]));
    }
    Some(Reporting { arguments, every })
}

/// What host.toml asks of an agent and this one cannot do: it does not start rather than do half of it.
pub fn startable(config: &HostConfig) -> Result<(), CliError> {
    if !config.trust.builders.is_empty() {
        return Err(CliError::new(
            Exit::Trust,
            "TrustNotBuilt",
            "host.toml asks for signatures of artifacts (`builders` under [trust]), and this landfall cannot verify \
             any: it does not start",
        )
        .hint("remove `builders` from host.toml to run without, or wait for a landfall that verifies"));
    }
    if !config.trust.operators.is_empty() && config.trust.allowed_signers.is_none() {
        let what =
            "host.toml names `operators` under [trust] and no `allowed_signers`: nobody knows their keys";
        return Err(CliError::new(Exit::Trust, "SignersMissing", what)
            .hint("allowed_signers = \"/etc/landfall/allowed_signers\", the file of git's SSH signing"));
    }
    let Some(signers) = config.trust.allowed_signers.as_deref() else { return Ok(()) };
    let signers = Signers::read(signers).map_err(|error| {
        CliError::new(Exit::Trust, "SignersUnreadable", error)
            .hint("a line is: principal [namespaces=\"git\"] ssh-ed25519 AAAA…; only root may write the file")
    })?;
    match signers.without_key(&config.trust.operators).first() {
        None => Ok(()),
        Some(name) => {
            let what =
                format!("`{name}` is among the `operators`, and no line of `allowed_signers` is about them");
            Err(CliError::new(Exit::Trust, "SignersMissing", what).hint("correct the name, or add their key"))
        }
    }
}

/// A file of this host carries no signature that could be asked for.
pub fn verifiable(config: &HostConfig, source: &Source) -> Result<(), CliError> {
    if let Some(webhook) = &config.webhook {
        if matches!(source, Source::File(_)) {
            let what = "host.toml has [webhook], and the state is a file, which is watched";
            return Err(CliError::new(Exit::Invalid, "ConfigInvalid", what).hint("remove [webhook]"));
        }
        Secret::read(&webhook.secret_file).map_err(|error| {
            CliError::new(Exit::Invalid, "SecretInvalid", error)
                .hint("openssl rand -hex 32 > it, mode 0600, and the same text at the git server")
        })?;
    }
    if config.trust.allowed_signers.is_none() || matches!(source, Source::Git(_)) {
        return Ok(());
    }
    let what = format!(
        "host.toml asks for signatures under [trust], and the state is a file, which has none: {}",
        source.place()
    );
    Err(CliError::new(Exit::Trust, "NotSigned", what)
        .hint("[state] git = …, or remove [trust] to run without"))
}

/// Of several apps, the worst result is the host's.
const fn rank(exit: Exit) -> u8 {
    match exit {
        Exit::Done => 0,
        Exit::Down => u8::MAX,
        other => other.code(),
    }
}

fn code_of(report: &Report) -> Exit {
    use crate::reconcile::Tick;
    match &report.tick {
        Ok(Tick::InSync { .. } | Tick::Removed) => Exit::Done,
        Ok(Tick::Refused(_)) => Exit::Refused,
        Ok(Tick::Held(hold)) => super::verdict::code_of_hold(hold),
        Ok(Tick::Attempted(entry)) => super::verdict::code_of(entry),
        Err(_) => Exit::Error,
    }
}

/// How a state that cannot be taken is told.
pub fn state_problem(problem: &StateProblem) -> CliError {
    let exit = match problem {
        StateProblem::Refused(refusal) if refusal.is_about_signatures() => Exit::Trust,
        StateProblem::Signers(_) => Exit::Trust,
        StateProblem::Invalid(_) => Exit::Invalid,
        _ => Exit::Source,
    };
    let wrong = problem.wrong();
    CliError::new(exit, wrong.reason, wrong.message).hint(wrong.hint)
}

pub fn agent_error(error: AgentError) -> CliError {
    match error {
        AgentError::Host(error) => host_error(error),
        AgentError::State(StateProblem::Invalid(error)) => {
            let cli = CliError::new(Exit::Invalid, "StateInvalid", &error);
            match error.hint() {
                Some(hint) => cli.hint(hint),
                None => cli,
            }
        }
        AgentError::State(problem @ StateProblem::Serial { .. }) => {
            CliError::new(Exit::Source, "Rewound", problem).hint(
                "somebody put an older state back? the last accepted one stays in force; a newer state has a \
                 higher `serial`",
            )
        }
        AgentError::State(StateProblem::Record(error)) => CliError::new(Exit::Error, "RecordFailed", error),
        AgentError::State(
            problem @ (StateProblem::Repository(_) | StateProblem::Refused(_) | StateProblem::Signers(_)),
        ) => state_problem(&problem),
        AgentError::State(StateProblem::Source(error)) | AgentError::Source(error) => {
            CliError::new(Exit::Source, "SourceUnreachable", error)
                .hint("`landfall deploy <app> <env> <version>` writes one; --state names another file")
        }
        AgentError::Watch(error) => CliError::new(Exit::Source, "WatchFailed", error)
            .hint("raise fs.inotify.max_user_instances if the limit is reached"),
        AgentError::Record(error) => CliError::new(Exit::Error, "RecordFailed", error),
        AgentError::Setup(failure) => CliError::new(Exit::Error, failure.reason, failure.message),
        AgentError::Signals(error) => CliError::new(Exit::Error, "Signals", error),
    }
}
