//! `landfall exec`: a command in the release that is in service, with exactly its environment.

use std::ffi::OsString;
use std::io::{ErrorKind, IsTerminal};
use std::os::unix::process::CommandExt;
use std::process::Command;

use clap::Args;
use landfall_store::Name;

use super::Outcome;
use super::context::Context;
use super::error::CliError;
use super::exit::Exit;
use super::look::{Looking, record_error};
use crate::disk::RealDisk;
use crate::record::journal::Failure;
use crate::start::Account;
use crate::switch;
use crate::watch::Site;

/// Status of a command that cannot be started, as shells and env(1) have it.
const CANNOT_BE_RUN: Exit = Exit::Own(126);
/// Status of a command that is not there.
const NO_SUCH_COMMAND: Exit = Exit::Own(127);

/// Run a command in the release that is in service, as the app would.
///
/// In the directory of the release that `current` names, with exactly the environment that its processes get
/// (but LANDFALL_START, and with TERM in a terminal), as the app's service account. No shell is between: quote
/// nothing twice, or ask for one with `sh -c`. The command takes the place of landfall: signals, terminal and exit
/// status are its own; 126 means that it could not be run and 127 that it was not found.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  landfall exec web -- node scripts/report.js
  landfall exec web -- sh -c 'psql \"$DATABASE_URL\"'
  landfall exec web -- env                what the app's processes get; secrets included")]
pub struct ExecArgs {
    /// The app.
    pub app: Name,
    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
    /// The environment, where host.toml does not say.
    #[arg(long, value_name = "ENV")]
    pub env: Option<Name>,
}

/// Runs the command.
pub fn run(args: &ExecArgs, context: &Context) -> Outcome {
    let looking = Looking::new(context, args.env.as_ref())?;
    looking.chosen(Some(&args.app))?;
    let site = looking.site(&args.app)?;
    let name = in_service(&args.app, &site)?;
    let account = site.service.account.as_ref();
    may_become(account)?;
    let mut env = site.supply().env_of_release(&name).map_err(unusable)?;
    if let (true, Ok(term)) = (std::io::stdin().is_terminal(), std::env::var("TERM")) {
        env.entry("TERM".to_owned()).or_insert(term);
    }
    close_fds::set_fds_cloexec(3, &[]);
    let (program, arguments) = args.command.split_first().expect("clap requires one");
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(env).current_dir(site.dir.release(&name));
    if let Some(account) = account.filter(|account| account.uid != own_uid()) {
        command.gid(account.gid).uid(account.uid);
    }
    let error = command.exec();
    let exit = if error.kind() == ErrorKind::NotFound { NO_SUCH_COMMAND } else { CANNOT_BE_RUN };
    let what = format!("`{}` in release {name}: {error}", program.to_string_lossy());
    Err(CliError::new(exit, "NotStarted", what)
        .hint("it is looked for on the app's PATH (`landfall env` shows it); a shell line needs `sh -c`"))
}

/// The release that `current` names.
fn in_service(app: &Name, site: &Site) -> Result<String, CliError> {
    let named = switch::named(&RealDisk, &site.dir).map_err(record_error)?;
    named.ok_or_else(|| {
        CliError::new(Exit::NotFound, "NotInService", format!("no release of `{app}` is in service here"))
            .hint(format!("`landfall status {app}` says why"))
    })
}

/// Another account's app can be acted for only by root.
fn may_become(account: Option<&Account>) -> Result<(), CliError> {
    match account {
        Some(account) if account.uid != own_uid() && own_uid() != 0 => {
            let what = format!("the app runs as `{}`, and this is another account", account.name);
            Err(CliError::new(Exit::Error, "PermissionDenied", what)
                .hint(format!("run it as root or as `{}`", account.name)))
        }
        _ => Ok(()),
    }
}

fn unusable(failure: Failure) -> CliError {
    CliError::new(Exit::Error, failure.reason, failure.message)
        .hint("run it as root or as the app's service account")
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}
