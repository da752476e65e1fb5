//! `landfall adopt`: an app that runs already becomes the release that a first deploy goes back to.

use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};
use landfall_store::{Name, Version};
use serde_json::json;

use super::context::{Context, host_error};
use super::error::CliError;
use super::exit::Exit;
use super::look::record_error;
use super::report::{Format, Report, Tone};
use super::watch::agent_error;
use super::{Outcome, io_runtime};
use crate::adopt::{self, AdoptError, Plan, Request, Whence, Wishes};
use crate::proc::Holder;
use crate::recipe::Recipe;
use crate::record::history::{self, Entry};
use crate::retry::Patience;
use crate::spec::{Check, Command, ManagerKind};
use crate::start::pm2::foreign;
use crate::watch::{Shared, Tuning};

/// Put an app that runs already on record, as the release that a first deploy goes back to.
///
/// For a host where the app was started by other means: by hand, by somebody's pm2, behind a `current` link of
/// Capistrano's kind. Its tree is copied into a release; how it is started is read from its process or from its pm2;
/// its environment is kept as an env layer is, and never shown. A check must be answered by its own processes.
///
/// Nothing of the running app is changed, stopped or restarted. The first deploy ends it at the moment the new release
/// is started, and goes back to the adopted one, started by landfall, if that fails.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("whence").required(true)), after_help = "Examples:
  landfall adopt web --env prod --pid 4711 --dry-run       what it would do
  landfall adopt web --env prod --pm2 web                  under the pm2 of this account
  landfall adopt web --env prod --pm2 web --pm2-home /home/deploy/.pm2
  landfall adopt web --env prod --dir /srv/web             with /srv/web/current and /srv/web/releases
  landfall adopt web --env prod --pid 4711 --http http://127.0.0.1:3000/health -- node server.js")]
pub struct AdoptArgs {
    /// The app.
    pub app: Name,
    /// A process of it.
    #[arg(long, value_name = "PID", group = "whence")]
    pub pid: Option<u32>,
    /// Its name under pm2.
    #[arg(long, value_name = "NAME", group = "whence")]
    pub pm2: Option<String>,
    /// A directory with `current` and `releases/`; what runs in `current` is meant.
    #[arg(long, value_name = "DIR", group = "whence")]
    pub dir: Option<PathBuf>,
    /// The PM2_HOME of that pm2 [default: PM2_HOME, else ~/.pm2].
    #[arg(long, value_name = "DIR", requires = "pm2")]
    pub pm2_home: Option<PathBuf>,
    /// How it is started, stopped and checked, from a landfall.toml [default: as its process tells].
    #[arg(long, value_name = "FILE")]
    pub recipe: Option<PathBuf>,
    /// What it is asked, at once and after every start by landfall [default: whether it accepts a connection].
    #[arg(long, value_name = "URL", conflicts_with = "recipe")]
    pub http: Option<String>,
    /// A directory of its tree that stays where it is, for this release and the running app alike.
    #[arg(long, value_name = "PATH")]
    pub shared: Vec<String>,
    /// A file or directory of its tree that is no part of the release.
    #[arg(long, value_name = "PATH")]
    pub exclude: Vec<String>,
    /// Its version [default: that of its package.json, or the name of its directory, with `+adopted`].
    #[arg(long, value_name = "VERSION")]
    pub version: Option<Version>,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// The environment, where host.toml does not say.
    #[arg(long, value_name = "ENV")]
    pub env: Option<Name>,
    /// How it is started, where its process does not tell.
    #[arg(last = true, value_name = "COMMAND", conflicts_with = "recipe")]
    pub command: Vec<String>,
}

/// Runs the command.
pub fn run(args: &AdoptArgs, context: &Context) -> Outcome {
    close_fds::set_fds_cloexec(3, &[]);
    let host = context.host()?;
    let environment = context.environment(&host, args.env.as_ref())?;
    let request = request(args)?;
    let lock = if args.dry_run { None } else { Some(host.lock().map_err(host_error)?) };
    let secret = match &lock {
        Some(_) => host.secret_or_new().map_err(host_error)?,
        None => host.secret().map_err(host_error)?.unwrap_or_default(),
    };
    let shared = Shared::with_secret(host.clone(), environment.clone(), secret, Patience::Once)
        .map_err(agent_error)?;
    let site = shared.site(&args.app, Tuning::default()).map_err(agent_error)?;
    let app = site.app().map_err(record_error)?;
    if let Some(left) = app.history.left() {
        let release = left.name.clone();
        return Err(adopt_error(AdoptError::RunsAlready { app: args.app.clone(), release }));
    }
    io_runtime()?.block_on(async {
        let plan = adopt::plan(&site, &host, &request).await.map_err(adopt_error)?;
        tell(&plan, context.report);
        adopt::prove(&plan, &site).await.map_err(adopt_error)?;
        if args.dry_run {
            context.report.say("nothing was done (--dry-run)");
            document(&plan, None, context.report);
            return Ok(Exit::Done);
        }
        let by = Some(crate::commit::author(Path::new(".")));
        let entry = adopt::record(&plan, &host, &environment, by).await.map_err(adopt_error)?;
        told(&entry, context.report);
        document(&plan, Some(&entry), context.report);
        Ok(Exit::Done)
    })
}

fn request(args: &AdoptArgs) -> Result<Request, CliError> {
    let whence = match (&args.pid, &args.pm2, &args.dir) {
        (Some(pid), ..) => Whence::Pid(*pid),
        (_, Some(name), _) => Whence::Pm2 { home: pm2_home(args)?, name: name.clone() },
        (.., Some(dir)) => Whence::Dir(dir.clone()),
        (None, None, None) => unreachable!("clap requires one of them"),
    };
    let recipe = args.recipe.as_deref().map(Recipe::read).transpose().map_err(|error| {
        let cli = CliError::new(Exit::Invalid, "RecipeInvalid", &error);
        match error.hint() {
            Some(hint) => cli.hint(hint),
            None => cli,
        }
    })?;
    let plain = |paths: &[String]| paths.iter().map(|path| path.trim_matches('/').to_owned()).collect();
    Ok(Request {
        app: args.app.clone(),
        whence,
        version: args.version.clone(),
        recipe,
        command: args.command.clone(),
        http: args.http.clone(),
        wishes: Wishes { exclude: plain(&args.exclude), shared: plain(&args.shared) },
    })
}

fn pm2_home(args: &AdoptArgs) -> Result<PathBuf, CliError> {
    let own = |key: &str| std::env::var_os(key).map(PathBuf::from);
    let home = args.pm2_home.clone().or_else(|| own("PM2_HOME"));
    home.or_else(|| own("HOME").map(|home| home.join(".pm2"))).ok_or_else(|| {
        CliError::new(Exit::Usage, "NoPm2Home", "neither PM2_HOME nor HOME is set")
            .hint("--pm2-home names the directory")
    })
}

/// Exactly what is and what will be done.
fn tell(plan: &Plan, report: Report) {
    let row = |name: &str, text: String| report.say(format!("  {name:<12}{text}"));
    report.say(format!("adopting {} as it runs", report.tone_err(plan.spec.version.as_ref(), Tone::Strong)));
    for holder in plan.found.processes.iter().filter_map(|id| Holder::of(*id)) {
        row("process", holder.to_string());
    }
    let ports: Vec<String> = plan.adopted.ports.iter().map(u16::to_string).collect();
    if !ports.is_empty() {
        row("ports", ports.join(", "));
    }
    row("tree", plan.found.tree.display().to_string());
    for (path, target) in &plan.sorted.shared {
        row("stays", format!("{path} → {}", target.display()));
    }
    for path in &plan.sorted.outputs {
        row("left out", format!("{path}: its output; landfall keeps the app's logs itself"));
    }
    if !plan.sorted.private.is_empty() {
        row(
            "private",
            format!("{} files: .env files, and what not everybody may read", plan.sorted.private.len()),
        );
    }
    row("environment", format!("{} keys, kept like an env layer, never shown", plan.captured.vars.len()));
    if !plan.captured.left_out.is_empty() {
        row("", format!("without {}: no env file can carry them", plan.captured.left_out.join(", ")));
    }
    if !plan.bound.is_empty() {
        row("", format!("{} go on naming the old tree", plan.bound.join(", ")));
    }
    for start in &plan.spec.start {
        let manager = match start.manager {
            ManagerKind::Direct => "direct",
            ManagerKind::Pm2 => "pm2",
            ManagerKind::Systemd => "systemd",
        };
        let command = match &start.command {
            Command::Run(argv) => argv.join(" "),
            Command::Shell(line) => line.clone(),
        };
        row("start", format!("{manager}, {} × {command}", start.instances));
    }
    match plan.spec.health.first().map(|health| &health.check) {
        Some(Check::Http(url)) => row("check", url.clone()),
        Some(Check::Tcp(address)) => row("check", format!("tcp {address}")),
        Some(Check::Run(argv)) => row("check", argv.join(" ")),
        None => row("check", "none: it listens nowhere; running is all that is proved".to_owned()),
    }
    report.say(at_the_first_deploy(plan));
    if let Some(unit) = &plan.found.unit {
        report.say(format!(
            "note: it belongs to {unit}, which may start it again then: set Restart=no for it, and disable it"
        ));
    }
}

fn at_the_first_deploy(plan: &Plan) -> String {
    match &plan.adopted.pm2 {
        Some(entry) => {
            let saved = match foreign::is_saved(&entry.home, &entry.name) {
                true => " and saves what is left there",
                false => "",
            };
            format!(
                "the first deploy deletes `{}` from the pm2 in {}{saved}, where it starts its own release",
                entry.name,
                entry.home.display()
            )
        }
        None => format!(
            "the first deploy ends {} with {}, where it starts its own release",
            plan.found.processes.iter().map(|id| format!("pid {}", id.pid)).collect::<Vec<_>>().join(", "),
            plan.adopted.stop.signal
        ),
    }
}

fn told(entry: &Entry, report: Report) {
    let release = entry.release.as_ref().map(|release| release.name.clone()).unwrap_or_default();
    let word = report.tone_err(&history::Outcome::Adopted.to_string(), Tone::Good);
    report.say(format!("{word}: release {release}; the app runs on as it did"));
}

fn document(plan: &Plan, entry: Option<&Entry>, report: Report) {
    if report.format() == Format::Table {
        return;
    }
    let pids: Vec<u32> = plan.found.processes.iter().map(|id| id.pid).collect();
    report.json(&json!({
        "version": plan.spec.version,
        "tree": plan.found.tree,
        "pids": pids,
        "ports": plan.adopted.ports,
        "start": plan.spec.start,
        "health": plan.spec.health,
        "keys": plan.captured.vars.keys().collect::<Vec<_>>(),
        "entry": entry,
    }));
}

fn adopt_error(error: AdoptError) -> CliError {
    let hint = error.hint();
    let (exit, reason) = match &error {
        AdoptError::NoProcess(_)
        | AdoptError::NoEntry { .. }
        | AdoptError::NoPm2(_)
        | AdoptError::NothingRuns(_) => (Exit::NotFound, "NotFound"),
        AdoptError::RunsAlready { .. } => (Exit::Conflict, "RunsAlready"),
        AdoptError::NotProved(_) => (Exit::Differs, "NotProved"),
        AdoptError::Io { .. } | AdoptError::Record(_) | AdoptError::Agent(_) | AdoptError::Store(_) => {
            (Exit::Error, "IoError")
        }
        AdoptError::Release(failure) => (Exit::Error, failure.reason.as_str()),
        _ => (Exit::Invalid, "CannotAdopt"),
    };
    let cli = CliError::new(exit, reason, &error);
    match hint {
        Some(hint) => cli.hint(hint),
        None => cli,
    }
}
