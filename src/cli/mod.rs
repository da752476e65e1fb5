//! The command line: what was typed, what it means, one file per command.

pub mod context;
mod copy;
pub mod error;
pub mod exit;
pub mod report;

mod adopt;
mod archive;
mod attached;
mod audit;
mod change;
mod completions;
mod deploy;
mod describe;
mod diff;
mod doctor;
mod env;
mod exec;
mod follow_logs;
mod gc;
mod history;
mod init;
mod install;
mod logs;
mod look;
mod ls;
mod order;
mod pack;
mod pause;
mod plan;
mod progress;
mod promote;
mod push;
mod quickstart;
mod release;
mod report_host;
mod rollback;
mod schema;
mod serve;
mod show;
mod stages;
mod state;
mod status;
mod store;
mod text;
mod verdict;
mod verify;
mod wait;
mod wait_fleet;
mod wait_for;
mod watch;

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand};

use context::Context;
use error::CliError;
use exit::Exit;
use report::{Format, Report};

use crate::log::Log;

/// What a command came to.
pub type Outcome = Result<Exit, CliError>;

/// landfall deploys backends to plain hosts the git-ops way.
///
/// A version is packed once into a content-addressed artifact. `deploy-state.json`, in a git repository, names
/// the artifact each app should run in each environment. On every host `landfall watch` fetches what the host
/// lacks, runs the release steps, switches `current`, starts the app, proves it healthy, and otherwise goes
/// back to the last healthy release.
///
/// New here? Run `landfall quickstart`.
#[derive(Debug, Parser)]
#[command(name = "landfall", version, max_term_width = 100, propagate_version = false)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// This host's configuration [default: /etc/landfall/host.toml if there is one].
    #[arg(long, global = true, value_name = "FILE", env = "LANDFALL_CONFIG")]
    pub config: Option<PathBuf>,
    /// Where landfall keeps everything on this machine [default: /var/lib/landfall if there is a
    /// host.toml in /etc/landfall, else ./.landfall].
    #[arg(long, global = true, value_name = "DIR", env = "LANDFALL_ROOT")]
    pub root: Option<PathBuf>,
    /// The store of artifacts [default: the one in host.toml, else ROOT/store].
    #[arg(long, global = true, value_name = "STORE", env = "LANDFALL_STORE")]
    pub store: Option<String>,
    /// A file whose first line is the token of an HTTP store [default: the one in host.toml, for its store].
    #[arg(long, global = true, value_name = "FILE", env = "LANDFALL_STORE_TOKEN_FILE")]
    pub store_token_file: Option<PathBuf>,
    /// The desired state [default: the one in host.toml, else ./deploy-state.json].
    #[arg(long, global = true, value_name = "FILE", env = "LANDFALL_STATE")]
    pub state: Option<PathBuf>,
    /// How data is printed.
    #[arg(short, long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Format,
    /// Say less: data and errors only.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say more; `RUST_LOG` says it in detail.
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// Write landfall's own log as JSON lines.
    #[arg(long, global = true, env = "LANDFALL_LOG_JSON")]
    pub log_json: bool,
}

/// Every command.
#[derive(Debug, Subcommand)]
#[allow(missing_docs, reason = "the help of a command stands with its arguments")]
pub enum Command {
    /// Write a first landfall.toml from what a directory holds.
    Init(init::Init),
    /// Make an artifact of a directory and put it into the store.
    ///
    /// `landfall.toml` says what goes into which layer. Runs `[build]` first, with the env layers of --env in its
    /// environment, then prints the artifact's id.
    #[command(alias = "build")]
    Pack(pack::Pack),
    /// Copy artifacts to another store: only what is missing there, every byte verified.
    Push(push::Push),
    Serve(serve::Serve),
    /// Make an artifact of an archive and put it into the store.
    ///
    /// Takes .tar, .tgz and .tar.zst, found by content. Every byte is checked, nothing of it is used as a path.
    /// Prints the artifact's id.
    Import(archive::Import),
    /// Write an artifact as an archive.
    Export(archive::Export),
    /// List the artifacts of the store, or the releases on this host.
    Ls(ls::Ls),
    /// Show an artifact: its layers, and what hosts do with it.
    Show(show::Show),
    /// Compare two artifacts, file by file.
    ///
    /// Names the dependencies that changed, from lockfiles or package.json. Exit status: 0 equal, 1 different.
    Diff(diff::Diff),
    /// Reconcile this host with the desired state, and go on doing so.
    #[command(alias = "agent")]
    Watch(watch::Watch),
    /// Pack an example app, deploy it, break it, watch it revert, roll it back.
    Quickstart(quickstart::Quickstart),
    Status(status::StatusArgs),
    History(history::HistoryArgs),
    Audit(audit::Audit),
    /// Say which artifact an app should run: edits the state and commits it.
    ///
    /// The hosts of the environment follow by themselves. The rest of the state file stays as it is, byte for
    /// byte. In a git work tree the edit is committed alone, if the file had no other changes.
    Deploy(deploy::Deploy),
    /// Say that an app should run an older artifact again: the last that proved healthy, or the one named.
    ///
    /// The same edit of the state as a deploy. Without --to it goes to the artifact that proved healthy on this
    /// host most recently, other than the one that should run now; on a machine that never ran the app, to the
    /// one that the state's git log names before it.
    Rollback(rollback::Rollback),
    /// Say that one environment should run what another should.
    ///
    /// The same edit of the state as a deploy: one target, one commit. What is taken is what the state asks for in
    /// the other environment. An artifact that was packed for that environment alone is refused (3), and so is one
    /// that the state blocks or that failed there on this host (10).
    Promote(promote::Promote),
    Plan(plan::Plan),
    Suspend(order::Suspend),
    Resume(order::Resume),
    Retry(order::Retry),
    Reconcile(order::Reconcile),
    Unpin(order::Unpin),
    Recover(order::Recover),
    Wait(wait_for::WaitFor),
    /// Check, explain and describe the state file.
    #[command(subcommand)]
    State(state::State),
    Describe(describe::DescribeArgs),
    Logs(logs::LogsArgs),
    Exec(exec::ExecArgs),
    Release(release::ReleaseArgs),
    Adopt(adopt::AdoptArgs),
    Env(env::EnvArgs),
    Report(report_host::ReportArgs),
    Verify(verify::VerifyArgs),
    Gc(gc::Gc),
    /// Collect and check a store.
    #[command(subcommand)]
    Store(store::StoreCommand),
    Install(install::Install),
    Uninstall(install::Uninstall),
    Doctor(doctor::DoctorArgs),
    Completions(completions::Completions),
    Man(completions::Man),
}

/// Runs what was typed and says how it ended.
pub fn main() -> Exit {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // clap prints help to stdout and mistakes to stderr; if that fails there is nobody to tell.
            drop(error.print());
            return if error.use_stderr() { Exit::Usage } else { Exit::Done };
        }
    };
    let report = Report::new(cli.global.output, cli.global.quiet);
    init_log(&cli);
    let context = Context::new(cli.global, report);
    match run(cli.command, &context) {
        Ok(exit) => exit,
        Err(error) => {
            report.error(&error);
            error.exit
        }
    }
}

fn run(command: Command, context: &Context) -> Outcome {
    match command {
        Command::Init(args) => init::run(&args, context),
        Command::Pack(args) => pack::run(&args, context),
        Command::Push(args) => push::run(&args, context),
        Command::Serve(args) => serve::run(&args, context),
        Command::Import(args) => archive::import(&args, context),
        Command::Export(args) => archive::export(&args, context),
        Command::Ls(args) => ls::run(&args, context),
        Command::Show(args) => show::run(&args, context),
        Command::Diff(args) => diff::run(&args, context),
        Command::Watch(args) => watch::run(&args, context),
        Command::Quickstart(args) => quickstart::run(&args, context),
        Command::Status(args) => status::run(&args, context),
        Command::History(args) => history::run(&args, context),
        Command::Audit(args) => audit::run(&args, context),
        Command::Deploy(args) => deploy::run(&args, context),
        Command::Rollback(args) => rollback::run(&args, context),
        Command::Promote(args) => promote::run(&args, context),
        Command::Plan(args) => plan::run(&args, context),
        Command::Suspend(args) => order::suspend(&args, context),
        Command::Resume(args) => order::resume(&args, context),
        Command::Retry(args) => order::retry(&args, context),
        Command::Reconcile(args) => order::reconcile(&args, context),
        Command::Unpin(args) => order::unpin(&args, context),
        Command::Recover(args) => order::recover(&args, context),
        Command::Wait(args) => wait_for::run(&args, context),
        Command::State(command) => state::run(&command, context),
        Command::Describe(args) => describe::run(&args, context),
        Command::Logs(args) => logs::run(&args, context),
        Command::Exec(args) => exec::run(&args, context),
        Command::Release(args) => release::run(&args, context),
        Command::Adopt(args) => adopt::run(&args, context),
        Command::Env(args) => env::run(&args, context),
        Command::Report(args) => report_host::run(&args, context),
        Command::Verify(args) => verify::run(&args, context),
        Command::Gc(args) => gc::run(&args, context),
        Command::Store(command) => store::run(&command, context),
        Command::Install(args) => install::install(&args, context),
        Command::Uninstall(args) => install::uninstall(&args, context),
        Command::Doctor(args) => doctor::run(&args, context),
        Command::Completions(args) => completions::completions(&args, context),
        Command::Man(args) => completions::man(&args, context),
    }
}

/// Begins landfall's own log, at the level that `-v`, `-q` and `RUST_LOG` ask for. Only the agent and the server talk
/// through it by default; other commands print their own words.
fn init_log(cli: &Cli) {
    let quiet_by_nature = !matches!(cli.command, Command::Watch(_) | Command::Serve(_));
    let level = match (cli.global.quiet, cli.global.verbose, quiet_by_nature) {
        (true, ..) => "error",
        (_, true, _) => "debug",
        (_, _, true) => "warn",
        _ => "info",
    };
    crate::log::init(Log { level: level.to_owned(), json: cli.global.log_json });
}

/// The command line as clap knows it, for help pages and completions.
pub fn definition() -> clap::Command {
    Cli::command()
}

/// The JSON Schema of what `-o json` prints: every kind of document.
pub fn output_schema() -> serde_json::Value {
    schema::schema()
}

/// The one-threaded runtime of commands that wait for processes and files.
fn io_runtime() -> Result<tokio::runtime::Runtime, CliError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        CliError::new(Exit::Error, "Runtime", format!("the system gave no event queue: {error}"))
    })
}
