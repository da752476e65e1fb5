//! `landfall completions` and `landfall man`: the command line as shells and `man` know it, from its definition.

use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;

use super::Outcome;
use super::context::{Context, io};
use super::error::CliError;
use super::exit::Exit;

/// Print the completions of a shell.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  landfall completions bash > /etc/bash_completion.d/landfall
  landfall completions zsh > /usr/local/share/zsh/site-functions/_landfall
  landfall completions fish > ~/.config/fish/completions/landfall.fish")]
pub struct Completions {
    /// The shell.
    pub shell: Shell,
}

/// Print the manual page, or write the pages of all commands into a directory.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  landfall man | man -l -                          read it
  landfall man --dir /usr/local/share/man/man1     install all; then `man landfall-deploy`")]
pub struct Man {
    /// Write `landfall.1`, `landfall-deploy.1`, … here.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// Prints completions.
pub fn completions(args: &Completions, context: &Context) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::definition(), "landfall", &mut script);
    context.report.raw(&script);
    Ok(Exit::Done)
}

/// Prints or writes manual pages.
pub fn man(args: &Man, context: &Context) -> Outcome {
    match &args.dir {
        Some(dir) => {
            std::fs::create_dir_all(dir).map_err(|error| io(dir, &error))?;
            clap_mangen::generate_to(super::definition(), dir).map_err(|error| io(dir, &error))?;
            context.report.say(format!("manual pages written to {}", dir.display()));
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(super::definition()).render(&mut page).map_err(|error| {
                CliError::new(Exit::Error, "ManFailed", format!("the page could not be made: {error}"))
            })?;
            context.report.raw(&page);
        }
    }
    Ok(Exit::Done)
}
