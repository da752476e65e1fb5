//! `landfall install` and `landfall uninstall`: the agent as a service of systemd.

use std::path::{Path, PathBuf};

use clap::Args;
use landfall_store::Name;
use landfall_store::location::StoreLocation;
use schemars::JsonSchema;
use serde::Serialize;
use similar::TextDiff;

use super::Outcome;
use super::context::{Context, INSTALLED_ROOT, config_error, host_error, io, parse_store};
use super::error::CliError;
use super::exit::Exit;
use super::report::{Format, Report};
use crate::config::{self, AppConfig};
use crate::host::HostError;
use crate::install::host_toml::Said;
use crate::install::plan::{self, Act, Facts, Owner, Plan, Refusal, Wish};
use crate::install::unit::Unit;
use crate::install::{self, InstallError};

const EXAMPLES: &str = "\
Examples:
  landfall install --environment prod --store /srv/artifacts \\
                   --state /srv/state/deploy-state.json --now
  landfall install --dry-run            show what would be written
  systemctl edit landfall               change the unit without editing it

Run it again after an upgrade: what is right already is left alone. Restarting the agent restarts no app.";

/// Make the agent a service of systemd.
///
/// Writes a hardened unit (read it: each line says why), a first /etc/landfall/host.toml if there is none, and
/// makes the root. An edited unit is shown with its differences and kept, unless --force is given.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Install {
    /// The environment of a first host.toml.
    #[arg(long, visible_alias = "env", value_name = "ENV")]
    pub environment: Option<Name>,
    /// Account of the agent, and then of every app [default: root, and each app its own].
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
    /// Start the agent with the host from now on.
    #[arg(long)]
    pub enable: bool,
    /// The same, and start it now; one that runs with an older unit is restarted.
    #[arg(long)]
    pub now: bool,
    /// Print what would be done, and do nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Replace a unit that somebody edited.
    #[arg(long)]
    pub force: bool,
}

/// Remove the agent's unit.
///
/// Stops and disables the agent and removes what `landfall install` wrote for systemd. Configuration, releases,
/// records and running apps stay, and are named.
#[derive(Debug, Args)]
pub struct Uninstall {
    /// Print what would be done, and do nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Remove a unit that somebody edited.
    #[arg(long)]
    pub force: bool,
}

/// One change, as `-o json` has it.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Change {
    /// `MakeDir`, `Tighten`, `Write`, `Remove` or `Systemctl`.
    act: &'static str,
    /// The file or directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<PathBuf>,
    /// Its mode, in octal.
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<String>,
    /// Its content.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// Arguments of systemctl.
    #[serde(skip_serializing_if = "Option::is_none")]
    arguments: Option<Vec<String>>,
}

impl From<&Act> for Change {
    fn from(act: &Act) -> Self {
        let bare = Self { act: "", path: None, mode: None, text: None, arguments: None };
        let at = |path: &Path| Some(path.to_owned());
        let octal = |mode: &u32| Some(format!("{:o}", mode & 0o7777));
        match act {
            Act::MakeDir { path, mode, .. } => {
                Self { act: "MakeDir", path: at(path), mode: octal(mode), ..bare }
            }
            Act::Tighten { path, mode } => Self { act: "Tighten", path: at(path), mode: octal(mode), ..bare },
            Act::Write { path, text, mode, .. } => {
                Self { act: "Write", path: at(path), mode: octal(mode), text: Some(text.clone()), ..bare }
            }
            Act::Remove(path) => Self { act: "Remove", path: at(path), ..bare },
            Act::Systemctl(arguments) => {
                let arguments = Some(arguments.iter().map(|word| (*word).to_owned()).collect());
                Self { act: "Systemctl", arguments, ..bare }
            }
        }
    }
}

/// Runs `landfall install`.
pub fn install(args: &Install, context: &Context) -> Outcome {
    let report = &context.report;
    let (config, root) = places(context)?;
    let program = std::env::current_exe().map_err(|error| io(Path::new("/proc/self/exe"), &error))?;
    if !args.dry_run {
        may_change_the_system()?;
        install::check_program(&program).map_err(install_error)?;
    }
    let facts = look(&config, &root)?;
    let wish = Wish {
        owner: owner(context, args.user.as_deref())?,
        said: said(args, context)?,
        unit: Unit { program, config, root, user: args.user.clone(), app_dirs: app_dirs(&facts) },
        unit_path: unit_path(),
        force: args.force,
        enable: args.enable,
        start: args.now,
    };
    let plan = plan::install(&wish, &facts).map_err(|refusal| refused(refusal, report))?;
    carry_out(&plan, args.dry_run, report)
}

/// Runs `landfall uninstall`.
pub fn uninstall(args: &Uninstall, context: &Context) -> Outcome {
    let report = &context.report;
    let (config, root) = places(context)?;
    if !args.dry_run {
        may_change_the_system()?;
    }
    let facts = look(&config, &root)?;
    let plan =
        plan::uninstall(&unit_path(), &facts, args.force).map_err(|refusal| refused(refusal, report))?;
    let exit = carry_out(&plan, args.dry_run, report)?;
    let drop_ins = unit_path().with_extension("service.d");
    let stays = [
        (config, "this host's configuration"),
        (drop_ins, "somebody's changes of the unit"),
        (root, "releases, records, logs, and the default store"),
    ];
    for (path, what) in stays.iter().filter(|(path, _)| path.exists()) {
        report.say(format!("stays: {} ({what})", path.display()));
    }
    report.say("apps that run go on; nothing starts them again after a reboot");
    Ok(exit)
}

fn unit_path() -> PathBuf {
    Path::new(install::UNIT_DIR).join(install::UNIT)
}

/// Where host.toml and the root of an installed agent are.
fn places(context: &Context) -> Result<(PathBuf, PathBuf), CliError> {
    let absolute = |path: &Path| std::path::absolute(path).map_err(|error| io(path, &error));
    let config = context.global.config.as_deref().unwrap_or(Path::new(config::DEFAULT_PATH));
    let root = context.global.root.as_deref().unwrap_or(Path::new(INSTALLED_ROOT));
    Ok((absolute(config)?, absolute(root)?))
}

fn may_change_the_system() -> Result<(), CliError> {
    let systemd = install::has_systemd().map_err(|error| io(Path::new("/run/systemd/system"), &error))?;
    if !systemd {
        return Err(CliError::new(Exit::NotFound, "NoSystemd", "this system is not run by systemd").hint(
            "let your own supervisor keep `landfall watch` running: it stays in the foreground, logs to \
             stderr, ends on SIGTERM, looks again on SIGHUP; a stop must end that one process, never \
             its group, or the apps end with it. `landfall install --dry-run` prints the unit to go by",
        ));
    }
    if !rustix::process::geteuid().is_root() {
        let what = "only root can install a service";
        return Err(CliError::new(Exit::Error, "NotRoot", what).hint("run it with sudo"));
    }
    Ok(())
}

fn look(config: &Path, root: &Path) -> Result<Facts, CliError> {
    install::look(&unit_path(), config, root).map_err(install_error)
}

fn owner(context: &Context, user: Option<&str>) -> Result<Owner, CliError> {
    let Some(user) = user else { return Ok(Owner { uid: 0, gid: 0 }) };
    match nix::unistd::User::from_name(user) {
        Ok(Some(found)) => Ok(Owner { uid: found.uid.as_raw(), gid: found.gid.as_raw() }),
        _ => {
            let what = format!("there is no user `{user}` on this host");
            let hint = format!("make one: useradd --system --home-dir /var/lib/landfall {user}");
            context.report.say("the agent's own account needs no shell and no home");
            Err(CliError::new(Exit::Invalid, "NoUser", what).hint(hint))
        }
    }
}

fn said(args: &Install, context: &Context) -> Result<Said, CliError> {
    let absolute = |path: &Path| std::path::absolute(path).map_err(|error| io(path, &error));
    let store = match &context.global.store {
        None => None,
        Some(text) => Some(match parse_store(text)? {
            StoreLocation::Dir(dir) => StoreLocation::Dir(absolute(&dir)?),
            network => network,
        }),
    };
    let state = context.global.state.as_deref().map(absolute).transpose()?;
    Ok(Said { environment: args.environment.clone(), store, state })
}

fn app_dirs(facts: &Facts) -> Vec<PathBuf> {
    let apps = facts.config.iter().flat_map(|config| &config.apps).flat_map(|apps| apps.values());
    apps.filter_map(|app: &AppConfig| app.dir.clone()).collect()
}

fn carry_out(plan: &Plan, dry_run: bool, report: &Report) -> Outcome {
    let changes: Vec<Change> = plan.acts.iter().map(Change::from).collect();
    if dry_run {
        report.items("ChangeList", &changes, |report| plan.acts.iter().for_each(|act| preview(act, report)));
        if plan.acts.is_empty() {
            report.say("nothing to do");
        }
        return Ok(Exit::Done);
    }
    let table = report.format() == Format::Table;
    install::apply(plan, &mut |act| {
        if table {
            report.line(told(act));
        }
    })
    .map_err(install_error)?;
    if !table {
        report.items("ChangeList", &changes, |_| ());
    }
    if plan.acts.is_empty() {
        report.say("nothing to do: everything is as it should be");
    }
    plan.notes.iter().for_each(|note| report.say(note));
    Ok(Exit::Done)
}

/// A change that was made.
fn told(act: &Act) -> String {
    match act {
        Act::MakeDir { path, mode, .. } => format!("made     {} ({mode:o})", path.display()),
        Act::Tighten { path, mode } => {
            format!("closed   {} to writers other than its owner ({:o})", path.display(), mode & 0o7777)
        }
        Act::Write { path, before: None, .. } => format!("wrote    {}", path.display()),
        Act::Write { path, .. } => format!("replaced {}", path.display()),
        Act::Remove(path) => format!("removed  {}", path.display()),
        Act::Systemctl(arguments) => format!("ran      systemctl {}", arguments.join(" ")),
    }
}

/// A change that would be made, in full.
fn preview(act: &Act, report: &Report) {
    match act {
        Act::MakeDir { path, mode, .. } => report.line(format!("make     {} ({mode:o})", path.display())),
        Act::Tighten { path, mode } => {
            report.line(format!("close    {} to other writers ({:o})", path.display(), mode & 0o7777));
        }
        Act::Write { path, text, before, .. } => {
            report.line(format!("write    {}", path.display()));
            match before {
                None => text.lines().for_each(|line| report.line(format!("    {line}").trim_end())),
                Some(before) => report.raw(difference(before, text, path).as_bytes()),
            }
        }
        Act::Remove(path) => report.line(format!("remove   {}", path.display())),
        Act::Systemctl(arguments) => report.line(format!("run      systemctl {}", arguments.join(" "))),
    }
}

fn difference(has: &str, wants: &str, path: &Path) -> String {
    let name = path.to_string_lossy();
    TextDiff::from_lines(has, wants).unified_diff().header(&name, "what landfall would write").to_string()
}

fn refused(refusal: Refusal, report: &Report) -> CliError {
    let (exit, reason, hint) = match &refusal {
        Refusal::UnitEdited { path, has, wants } => {
            if report.format() == Format::Table && !wants.is_empty() {
                report.raw(difference(has, wants, path).as_bytes());
            }
            let hint = "move the changes into a drop-in (`systemctl edit landfall`), then give --force";
            (Exit::Conflict, "UnitEdited", hint)
        }
        Refusal::Unsaid { .. } => {
            let hint = "landfall install --environment prod --store /srv/artifacts --state \
                        /srv/state/deploy-state.json";
            (Exit::Usage, "HostTomlUnsaid", hint)
        }
        Refusal::Contradicts { .. } => {
            (Exit::Conflict, "HostTomlDiffers", "edit the file, or leave the options out")
        }
        Refusal::RootOfAnother { .. } => {
            let hint = "install with that account (--user), give another --root, or, with the agent stopped, \
                        change the owner of everything in it";
            (Exit::Conflict, "RootOfAnother", hint)
        }
    };
    CliError::new(exit, reason, refusal).hint(hint)
}

fn install_error(error: InstallError) -> CliError {
    match error {
        InstallError::Config(error) => config_error(error),
        InstallError::Io { path, source } => host_error(HostError::Io { path, source }),
        InstallError::Systemctl { .. } => CliError::new(Exit::Error, "SystemctlFailed", error)
            .hint("`journalctl -u landfall -n 50` has the agent's own words"),
        InstallError::Replaceable { .. } => CliError::new(Exit::Trust, "ProgramReplaceable", error)
            .hint("install -o root -m 0755 landfall /usr/local/bin/landfall, then run that one"),
    }
}
