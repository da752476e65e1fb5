//! `landfall logs`: the last lines that the app, or a step, printed; with `-f` every line from now on.

use std::path::{Path, PathBuf};

use clap::Args;
use landfall_store::Name;
use schemars::JsonSchema;
use serde::Serialize;

use super::Outcome;
use super::context::{Context, io as unreadable};
use super::error::CliError;
use super::exit::Exit;
use super::follow_logs::{self, Follow};
use super::look::Looking;
use super::report::{Report, Tone};
use crate::layout::{AppDir, OWN_LOGS};
use crate::tail::{self, Place, SUFFIX, last_lines};

/// Show the last lines that the processes of an app printed.
///
/// The files stand under ROOT/apps/<app>/<env>/logs, one for each process of the recipe's `[start]`, older
/// ones beside them; those that the app writes itself, under the recipe's `[paths] logs`, in files/ there, as far
/// as their names end in .log. Output of the steps of one attempt is kept with the attempt.
///
/// With --follow it goes on with every line that is added, over rotations, restarts and releases, until Ctrl-C
/// (exit status 130) or until nobody reads any more (0). Where there are several processes, each line begins
/// with the name of its own. With --attempt of the attempt in progress, it follows what the steps print.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  landfall logs web                      the last 50 lines of each process
  landfall logs -f web                   and every line from now on
  landfall logs -f -n 0 | grep ERROR     of every app, only what comes
  landfall logs web --process worker -n 200
  landfall logs web --attempt 7          which steps of attempt 7 printed something
  landfall logs web --attempt 7 --step migrate
  landfall logs -f web --attempt 8       what the steps of the running attempt print")]
pub struct LogsArgs {
    /// The app [default: all].
    pub app: Option<Name>,
    /// Go on with what is added.
    #[arg(short, long)]
    pub follow: bool,
    /// One process of the recipe's `[start]` [default: all].
    #[arg(long, value_name = "NAME")]
    pub process: Option<Name>,
    /// How many lines of each; 0: all that is kept, and none of it with --follow [default: 50, 10 with --follow].
    #[arg(short = 'n', long, value_name = "LINES")]
    pub lines: Option<usize>,
    /// Output of the steps of this attempt instead.
    #[arg(long, value_name = "NUMBER", conflicts_with = "process", requires = "app")]
    pub attempt: Option<u64>,
    /// One step of that attempt [default: all].
    #[arg(long, value_name = "NAME", requires = "attempt")]
    pub step: Option<Name>,
    /// The environment, where host.toml does not say.
    #[arg(long, value_name = "ENV")]
    pub env: Option<Name>,
}

/// Lines of each log, where nobody says.
const LINES: usize = 50;
/// The same before following, as tail(1) has it.
const LINES_BEFORE_FOLLOWING: usize = 10;

/// The end of one log.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Log")]
pub struct Item {
    #[schemars(with = "String")]
    app: Name,
    name: String,
    path: PathBuf,
    lines: Vec<String>,
}

/// Runs the command.
pub fn run(args: &LogsArgs, context: &Context) -> Outcome {
    let looking = Looking::new(context, args.env.as_ref())?;
    let apps = looking.chosen(args.app.as_ref())?;
    if args.follow {
        return follow(args, &apps, &looking, context.report);
    }
    let asked = args.process.as_ref().or(args.step.as_ref());
    let mut items = Vec::new();
    for app in &apps {
        let dir = looking.dir(app);
        let places = match args.attempt {
            Some(number) => vec![(String::new(), dir.attempt(number))],
            None => vec![(String::new(), dir.logs()), (format!("{OWN_LOGS}/"), dir.own_logs())],
        };
        for (prefix, place) in places {
            for name in names(&place, asked)? {
                let path = place.join(format!("{name}{SUFFIX}"));
                let lines = last_lines(&path, args.lines.unwrap_or(LINES))
                    .map_err(|error| unreadable(&path, &error))?;
                items.push(Item { app: app.clone(), name: format!("{prefix}{name}"), path, lines });
            }
        }
    }
    if let (true, Some(app)) = (items.is_empty(), &args.app) {
        return Err(none(args, app, &looking.dir(app)));
    }
    context.report.items("LogList", &items, |report| show(report, &items, apps.len() > 1));
    Ok(Exit::Done)
}

fn follow(args: &LogsArgs, apps: &[Name], looking: &Looking, report: Report) -> Outcome {
    let only = args.process.as_ref().or(args.step.as_ref()).map(Name::to_string);
    let of_app = |app: &Name| {
        let dir = looking.dir(app);
        let places = match args.attempt {
            Some(number) => vec![(app.to_string(), dir.attempt(number))],
            None => vec![(app.to_string(), dir.logs()), (format!("{app}/{OWN_LOGS}"), dir.own_logs())],
        };
        places.into_iter().map(|(label, dir)| Place { label, dir, only: only.clone() }).collect::<Vec<_>>()
    };
    let places: Vec<Place> = apps.iter().flat_map(of_app).filter(|place| place.dir.is_dir()).collect();
    if places.is_empty() {
        return match &args.app {
            Some(app) => Err(none(args, app, &looking.dir(app))),
            None => Err(CliError::new(Exit::NotFound, "NoLogs", "no app has a log here")
                .hint("`landfall status` says what should run here")),
        };
    }
    let lines = match args.lines {
        Some(0) => None,
        lines => Some(lines.unwrap_or(LINES_BEFORE_FOLLOWING)),
    };
    follow_logs::until_interrupted(Follow { several_apps: apps.len() > 1, places, lines }, report)
}

/// Names of the logs in a directory: all, or the asked one.
fn names(place: &Path, asked: Option<&Name>) -> Result<Vec<String>, CliError> {
    let names = tail::names(place).map_err(|error| unreadable(place, &error))?;
    Ok(names.into_iter().filter(|name| asked.is_none_or(|asked| asked.as_str() == name)).collect())
}

fn none(args: &LogsArgs, app: &Name, dir: &AppDir) -> CliError {
    let known = |place: &Path| names(place, None).unwrap_or_default().join(", ");
    let (what, hint) = match (args.attempt, args.process.as_ref().or(args.step.as_ref())) {
        (Some(number), Some(step)) => {
            let known = known(&dir.attempt(number));
            let hint = match known.is_empty() {
                true => {
                    format!("no step of it printed anything; `landfall history {app}` lists the attempts")
                }
                false => format!("steps with output: {known}"),
            };
            (format!("attempt {number} of `{app}` has no output of a step `{step}`"), hint)
        }
        (Some(number), None) => (
            format!("no step of attempt {number} of `{app}` printed anything"),
            format!(
                "`landfall history {app}` lists the attempts; `landfall logs {app}` shows the app itself"
            ),
        ),
        (None, Some(process)) if !known(&dir.logs()).is_empty() => (
            format!("`{app}` has no process `{process}` with a log"),
            format!("there are: {}", known(&dir.logs())),
        ),
        (None, _) => (
            format!("no process of `{app}` has a log here"),
            format!("`landfall status {app}` says whether it ever ran"),
        ),
    };
    CliError::new(Exit::NotFound, "NoLogs", what).hint(hint)
}

fn show(report: &Report, items: &[Item], several_apps: bool) {
    for item in items {
        let name = if several_apps { format!("{}/{}", item.app, item.name) } else { item.name.clone() };
        if items.len() > 1 {
            report.line(report.tone(&format!("==> {name} <=="), Tone::Strong));
        }
        item.lines.iter().for_each(|line| report.line(line));
    }
}
