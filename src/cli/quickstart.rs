//! `landfall quickstart`: the main job in half a minute.

use std::path::PathBuf;

use clap::Args;

use super::Outcome;
use super::context::Context;
use super::error::CliError;
use super::exit::Exit;
use super::report::{Report, Tone};
use crate::quickstart::{self, Stage};

/// Pack an example app, deploy it, break it, watch it revert, roll it back — on this machine.
///
/// Uses the same commands and code paths that you would, in a directory of its own, and prints every command as
/// it goes. Needs git; takes half a minute; leaves nothing running.
#[derive(Debug, Args)]
pub struct Quickstart {
    /// Where to play; must not exist yet [default: a new directory in the system's temporary one].
    #[arg(value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &Quickstart, context: &Context) -> Outcome {
    let dir = match &args.dir {
        Some(dir) => std::path::absolute(dir).map_err(|error| super::context::io(dir, &error))?,
        None => std::env::temp_dir().join(format!("landfall-quickstart-{:08x}", fastrand::u32(..))),
    };
    if dir.exists() {
        let what =
            format!("{} exists already; the quickstart only plays in a directory of its own", dir.display());
        return Err(CliError::new(Exit::Usage, "Exists", what).hint("give another directory, or none"));
    }
    quickstart::run(dir, &Told(context.report)).map(|()| Exit::Done).map_err(|error| {
        CliError::new(Exit::Error, "QuickstartFailed", error)
            .hint("agent.log in its directory has the agent's words")
    })
}

struct Told(Report);

impl Stage for Told {
    fn heading(&self, text: &str) {
        self.0.line("");
        self.0.line(self.0.tone(text, Tone::Strong));
    }

    fn say(&self, text: &str) {
        self.0.line(text);
    }

    fn command(&self, line: &str) {
        self.0.line(format!("  {} {}", self.0.tone("$", Tone::Quiet), self.0.tone(line, Tone::Changing)));
    }

    fn output(&self, line: &str) {
        self.0.line(format!("    {line}"));
    }
}
