//! `landfall release`: one release on this host, without a state: brought, prepared, switched to, started, proved,
//! and reverted if it does not prove healthy. The same attempt that the agent makes.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use landfall_store::{ArtifactId, Name, Version, fetch, refs};
use serde_json::json;

use super::attached::{self, Interrupts};
use super::context::{Context, host_error, store_error};
use super::error::CliError;
use super::exit::Exit;
use super::look::record_error;
use super::progress::Progress;
use super::report::{Format, Report};
use super::watch::{agent_error, startable};
use super::{Outcome, archive, io_runtime, stages, verdict, wait};
use crate::archive::ImportRequest;
use crate::config::OnEnvChange;
use crate::deploy::Asking;
use crate::host::{Host, HostError};
use crate::plan::Desired;
use crate::reconcile::Tick;
use crate::record::history::Entry;
use crate::record::journal::Target;
use crate::release::{Skip, spec_of};
use crate::retry::Patience;
use crate::spec::ManagerKind;
use crate::start::systemd;
use crate::status::{Around, SourceView};
use crate::watch::{self, Overrides, Shared, Site};

/// Release an artifact on this host, without a state repository.
///
/// Takes an archive (as `import` does) or an artifact of the store through the same stages as the agent: fetch,
/// prepare, migrate, switch, start, prove; a failure goes back to the last release that proved healthy here. Exit
/// status: 0 healthy or nothing to do, 7 failed before the switch, 8 reverted, 9 nothing healthy runs, 12 an agent
/// works here or the state wants something else.
///
/// With --start-mode direct it stays attached to the app: its output is shown, Ctrl-C stops it, and the exit status
/// is the app's own. Ctrl-C before the switch ends the attempt at its next safe point; a second one ends landfall.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  landfall release --archive backend-v1.2.0-11-20-14-05.tgz --env prod
  landfall release --archive app.tgz --env dev --start-mode direct      in the foreground, until Ctrl-C
  landfall release 1.1.0 --app backend --env prod                       back to what the store has
  landfall release --archive app.tgz --env prod --skip-migration --env-local-file /etc/app/prod.local")]
pub struct ReleaseArgs {
    /// An artifact of the store: its id, at least 8 digits of it, or its version.
    #[arg(value_name = "ARTIFACT", required_unless_present = "archive", conflicts_with = "archive")]
    pub artifact: Option<String>,
    /// An archive instead.
    #[arg(long, value_name = "PATH")]
    pub archive: Option<PathBuf>,
    /// The environment, where host.toml does not say.
    #[arg(long, value_name = "ENV")]
    pub env: Option<Name>,
    /// The app, where the archive does not say or several have such a version.
    #[arg(long, value_name = "APP")]
    pub app: Option<Name>,
    /// The version of an archive that does not say its own.
    #[arg(long, value_name = "VERSION", requires = "archive")]
    pub version: Option<Version>,
    /// Take the version from the artifact that has it.
    #[arg(long, requires = "archive")]
    pub move_version: bool,
    /// Who runs the processes, instead of what recipe and host.toml say.
    #[arg(long, value_name = "MODE")]
    pub start_mode: Option<StartMode>,
    /// The base env layer, instead of the one in env_dir or in the artifact.
    #[arg(long, value_name = "FILE")]
    pub env_file: Option<PathBuf>,
    /// The local env layer, instead of the one in env_dir or in the artifact.
    #[arg(long, value_name = "FILE")]
    pub env_local_file: Option<PathBuf>,
    /// Leave out the steps that install dependencies; they stand on record.
    #[arg(long)]
    pub skip_install: bool,
    /// Leave out the migrate steps; they stand on record.
    #[arg(long)]
    pub skip_migration: bool,
    /// Switch, but start nothing: the result is `Unverified`, and nothing ever reverts to it.
    #[arg(long, conflicts_with_all = ["start_mode", "detach"])]
    pub skip_pm2: bool,
    /// With --start-mode direct: leave the app to its supervisor after the verdict.
    #[arg(long, requires = "start_mode")]
    pub detach: bool,
}

/// `--start-mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StartMode {
    /// pm2, through landfall's launcher.
    Pm2,
    /// landfall's own supervisor.
    Direct,
    /// A systemd unit.
    Systemd,
}

/// Runs the command.
pub fn run(args: &ReleaseArgs, context: &Context) -> Outcome {
    // A pm2 daemon started from here lives on; it must not hold what this process was given.
    close_fds::set_fds_cloexec(3, &[]);
    let asked = args.start_mode.map(manager);
    if asked == Some(ManagerKind::Systemd) {
        systemd::able().map_err(|error| {
            CliError::new(Exit::Usage, "ManagerDown", error).hint(
                "--start-mode direct, and an agent as a service, brings the app up after a reboot as well",
            )
        })?;
    }
    let host = context.host()?;
    startable(&host.config)?;
    let environment = context.environment(&host, args.env.as_ref())?;
    let (env_base, env_local) = (
        args.env_file.as_deref().map(env_file).transpose()?,
        args.env_local_file.as_deref().map(env_file).transpose()?,
    );
    let _lock = host.lock().map_err(locked)?;
    let (app, artifact) = artifact(args, context)?;
    agrees(&host, &app, &environment, artifact)?;
    let overrides = Overrides {
        env_base,
        env_local,
        manager: match asked {
            Some(manager) if runs_under(manager, &host, &app, &artifact, context)? => None,
            asked => asked,
        },
        skip: Skip { install: args.skip_install, migration: args.skip_migration },
        // Whoever releases by hand means what the files say now.
        on_env_change: Some(OnEnvChange::Deploy),
    };
    let secret = host.secret_or_new().map_err(host_error)?;
    let around = Around {
        host: host.config.host.clone(),
        wanted: Desired::NotInState,
        source: SourceView::Unknown,
        origin: None,
        state_commit: None,
        agent: false,
    };
    let shared =
        Shared::with_secret(host, environment.clone(), secret, Patience::Once).map_err(agent_error)?;
    let site = shared.site_with(&app, watch::Tuning::default(), &overrides).map_err(agent_error)?;
    let target = Target {
        by: Some(crate::commit::author(Path::new("."))),
        why: args.archive.as_ref().map(|path| format!("landfall release --archive {}", path.display())),
        unstarted: args.skip_pm2,
        ..Target::of(artifact)
    };
    let attach = asked == Some(ManagerKind::Direct) && !args.detach;
    io_runtime()?.block_on(async {
        let release = Release { site: &site, target, around, report: context.report };
        let exit = release.to_the_verdict().await?;
        match exit {
            Exit::Done if attach => attached::until_it_ends(&site, context.report).await,
            exit => Ok(exit),
        }
    })
}

const fn manager(mode: StartMode) -> ManagerKind {
    match mode {
        StartMode::Pm2 => ManagerKind::Pm2,
        StartMode::Direct => ManagerKind::Direct,
        StartMode::Systemd => ManagerKind::Systemd,
    }
}

/// Whether everything runs under this manager anyway: saying so makes no other release.
fn runs_under(
    manager: ManagerKind,
    host: &Host,
    app: &Name,
    artifact: &ArtifactId,
    context: &Context,
) -> Result<bool, CliError> {
    let of_host = host.config.app(app).unwrap_or_default().start.manager;
    let artifact = fetch::artifact(&context.open_store()?, artifact).map_err(store_error)?;
    // What cannot be read is refused by the attempt, with its reason.
    let Ok(spec) = spec_of(&artifact) else { return Ok(false) };
    Ok(of_host.is_none() && spec.start.iter().all(|start| start.manager == manager))
}

/// A file that was named must be there, whatever runs already.
fn env_file(path: &Path) -> Result<PathBuf, CliError> {
    std::fs::File::open(path).and_then(|_| std::path::absolute(path)).map_err(|error| {
        CliError::new(Exit::Invalid, "EnvInvalid", format!("{}: {error}", path.display()))
            .hint("leave the option out to take the layer from env_dir or from the artifact")
    })
}

fn locked(error: HostError) -> CliError {
    let is_held = matches!(error, HostError::Locked { .. });
    let cli = host_error(error);
    if is_held {
        cli.hint(
            "an agent follows the state here and would undo this: `landfall deploy <app> <env> <version>` tells it; \
             or stop it first",
        )
    } else {
        cli
    }
}

/// The artifact, in the store. Nothing is stored of an archive that could not run.
fn artifact(args: &ReleaseArgs, context: &Context) -> Result<(Name, ArtifactId), CliError> {
    let Some(path) = &args.archive else {
        let asked = args.artifact.as_deref().unwrap_or_default();
        let store = context.open_store()?;
        let id = refs::resolve(&store, args.app.as_ref(), asked).map_err(store_error)?;
        let app = fetch::artifact(&store, &id).map_err(store_error)?.app;
        return Ok((app, id));
    };
    let (store, spool_dir) = (context.store()?, context.root()?.spool());
    let progress = Progress::new(&context.report);
    progress.step(format!("importing {}", path.display()));
    let imported = crate::archive::import(&ImportRequest {
        archive: path,
        app: args.app.as_ref(),
        version: args.version.as_ref(),
        environment: None,
        store: &store,
        spool_dir: &spool_dir,
        move_version: args.move_version,
        must_start: true,
    })
    .map_err(archive::archive_error)?;
    drop(progress);
    Ok((imported.app, imported.artifact))
}

/// A host that follows a state is released to by its state: whatever else runs here, the next agent would replace.
fn agrees(host: &Host, app: &Name, environment: &Name, artifact: ArtifactId) -> Result<(), CliError> {
    if host.config.app(app).is_none() {
        let what = format!("`{app}` is not among the apps of this host's host.toml");
        return Err(CliError::new(Exit::Invalid, "OtherApps", what)
            .hint(format!("add [apps.{app}] to host.toml, or give another --config")));
    }
    let Some(accepted) = watch::last(host).map_err(record_error)? else { return Ok(()) };
    let hint = format!(
        "change the state instead: `landfall deploy {app} {environment} <version>`; the next agent follows it"
    );
    match watch::desired(&accepted, app, environment) {
        Desired::Target(target) if target.artifact != artifact => {
            let what = format!(
                "the state that this host follows names {} for `{app}` in `{environment}`: an agent would go back to it",
                target.artifact.short()
            );
            Err(CliError::new(Exit::Conflict, "StateDisagrees", what).hint(hint))
        }
        Desired::Absent => {
            let what = format!("the state that this host follows removes `{app}` from `{environment}`");
            Err(CliError::new(Exit::Conflict, "StateDisagrees", what).hint(hint))
        }
        Desired::Suspended { why, .. } => {
            let what =
                format!("the state suspends `{app}` in `{environment}`: {} (by {})", why.reason, why.by);
            Err(CliError::new(Exit::Suspended, "Suspended", what).hint("resume it first"))
        }
        Desired::Blocked { target, reason } if target.artifact == artifact => {
            let what = format!("the state blocks {}: {reason}", artifact.short());
            Err(CliError::new(Exit::Refused, "Blocked", what).hint("release another artifact"))
        }
        _ => Ok(()),
    }
}

struct Release<'a> {
    site: &'a Site,
    target: Target,
    around: Around,
    report: Report,
}

impl Release<'_> {
    /// One attempt, after the one that was cut short before it, if there is one.
    async fn to_the_verdict(&self) -> Outcome {
        let interrupts = Interrupts::listen(&self.site.dir, self.report)?;
        let told = stages::told(&self.site.dir, self.report, self.attempts(&interrupts));
        let tick = tokio::select! {
            tick = told => tick?,
            () = interrupts.twice() => return Ok(Exit::Interrupted),
        };
        crate::status::record(self.site, &self.around).await.map_err(record_error)?;
        let exit = self.tell(tick)?;
        Ok(if interrupts.once() && exit == Exit::Differs { Exit::Interrupted } else { exit })
    }

    async fn attempts(&self, interrupts: &Interrupts) -> Result<Tick, CliError> {
        let newer = || interrupts.before_the_switch();
        let change = || interrupts.next();
        let asking = Asking { newer: &newer, change: &change, ..Asking::NOTHING };
        let wanted = Desired::Target(self.target.clone());
        let tick = self.site.tick(wanted.clone(), asking).await.map_err(record_error)?;
        match &tick {
            Tick::Attempted(entry) if entry.target.artifact != self.target.artifact => {
                self.site.tick(wanted, asking).await.map_err(record_error)
            }
            _ => Ok(tick),
        }
    }

    fn tell(&self, tick: Tick) -> Outcome {
        match tick {
            Tick::InSync { .. } => {
                self.report.say("it runs already: nothing to do.");
                self.document(&json!({ "result": "InSync" }));
                Ok(Exit::Done)
            }
            // Only a state takes an app away.
            Tick::Removed => Ok(Exit::Done),
            Tick::Attempted(entry) => {
                wait::tell_verdict(&entry, self.report);
                self.tell_skipped(&entry);
                self.document(&json!(entry));
                Ok(verdict::code_of(&entry))
            }
            Tick::Refused(refusal) => {
                Err(CliError::new(Exit::Refused, "Refused", format!("it is not tried: {refusal}"))
                    .hint("release another artifact, or change its env"))
            }
            Tick::Held(hold) => {
                let what = format!("nothing is done: {hold}");
                Err(CliError::new(verdict::code_of_hold(&hold), "Held", what))
            }
        }
    }

    fn tell_skipped(&self, entry: &Entry) {
        let record = entry.release.as_ref().and_then(|release| self.site.supply().record(&release.name).ok());
        let skipped = record.map(|record| record.skipped).unwrap_or_default();
        if !skipped.is_empty() {
            let names: Vec<&str> = skipped.iter().map(Name::as_str).collect();
            self.report.say(format!("  steps left out: {}", names.join(", ")));
        }
    }

    fn document(&self, document: &serde_json::Value) {
        if self.report.format() != Format::Table {
            self.report.json(document);
        }
    }
}
