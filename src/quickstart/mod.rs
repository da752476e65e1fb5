//! The main job in half a minute, on this machine: pack, deploy, break, revert, roll back.
//!
//! Every step is a landfall command as a user would type it, run by this same binary in a directory of its
//! own; only the example's files and the clean-up at the end are the quickstart's.

pub mod hello;
mod scene;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use scene::Scene;

/// Why the quickstart stopped.
#[derive(Debug, thiserror::Error)]
pub enum QuickstartError {
    /// The system refused.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A program that it needs does not run.
    #[error("`{program}` does not run: {source}")]
    Program {
        /// Which program.
        program: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A command ended otherwise than the story has it.
    #[error("`{command}` ended with {got}, not with {want}")]
    Unexpected {
        /// The command.
        command: String,
        /// Its exit code.
        got: String,
        /// What was expected.
        want: i32,
    },
    /// The app's page did not say what it should.
    #[error("the page at {url} does not hold `{want}`: {got}")]
    Page {
        /// Where.
        url: String,
        /// What was expected.
        want: String,
        /// What came.
        got: String,
    },
    /// The agent or the app could not be stopped.
    #[error("{0}")]
    CleanUp(String),
}

/// Where the story is told.
pub trait Stage {
    /// A heading.
    fn heading(&self, text: &str);
    /// A sentence.
    fn say(&self, text: &str);
    /// A command as a user types it.
    fn command(&self, line: &str);
    /// A line that a command printed.
    fn output(&self, line: &str);
}

/// Tells the whole story in `dir`, which must not exist yet.
pub fn run(dir: PathBuf, stage: &dyn Stage) -> Result<(), QuickstartError> {
    let began = Instant::now();
    let scene = Scene::set(dir)?;
    stage.heading("A directory store, a state file in a git work tree, an app with two env layers");
    stage.say("To type along in another terminal:");
    stage.command(&format!("cd {}", scene.dir.display()));
    stage.command("export LANDFALL_CONFIG=host.toml");
    let mut play = Play { scene, stage, agent: None };
    let told = play.tell();
    let cleaned = play.clear_away();
    told?;
    cleaned?;
    stage.heading(&format!("Done in {:.1} s; nothing is left running", began.elapsed().as_secs_f64()));
    stage.say(&format!("The files stay in {} until you remove them.", play.scene.dir.display()));
    stage.say("Next, with an app of your own:");
    stage.command("landfall init          # writes landfall.toml from what it finds");
    stage.command("landfall pack");
    stage.command("landfall deploy <app> <env> <version>");
    stage.command("landfall watch --env <env>");
    stage.say("docs/configuration.md has every key, docs/operations.md what to do when something fails.");
    Ok(())
}

struct Play<'a> {
    scene: Scene,
    stage: &'a dyn Stage,
    agent: Option<std::process::Child>,
}

impl Play<'_> {
    fn tell(&mut self) -> Result<(), QuickstartError> {
        let stage = self.stage;
        stage.heading("Version 1.0.0: packed once, deployed by naming it in the state");
        self.landfall(&["pack", "app"], 0)?;
        self.watch()?;
        self.landfall(&["deploy", "hello", "prod", "1.0.0", "-m", "first release", "--wait"], 0)?;
        self.page("hello, 1.0.0")?;

        stage.heading("Version 2.0.0: one page changed, so little is stored and moved");
        self.scene.change_page("2.0.0")?;
        self.landfall(&["pack", "app"], 0)?;
        self.landfall(&["diff", "1.0.0", "2.0.0"], 1)?;
        self.landfall(&["deploy", "hello", "prod", "2.0.0", "-m", "a new page", "--wait"], 0)?;
        self.page("hello, 2.0.0")?;

        stage.heading("Version 3.0.0: its health check fails, and landfall goes back by itself");
        self.scene.change_page("3.0.0")?;
        self.scene.break_health()?;
        self.landfall(&["pack", "app"], 0)?;
        self.landfall(&["deploy", "hello", "prod", "3.0.0", "-m", "looks fine to me", "--wait"], 8)?;
        self.page("hello, 2.0.0")?;
        self.landfall(&["status", "hello"], 0)?;

        stage.heading("Roll back to 1.0.0: an edit of the state");
        let began = Instant::now();
        self.landfall(
            &["rollback", "hello", "prod", "--to", "1.0.0", "-m", "2.0.0 has a typo", "--wait"],
            0,
        )?;
        stage.say(&format!(
            "{:.1} s from the command to the verdict, 1 s of them settling as the recipe asks.",
            began.elapsed().as_secs_f64()
        ));
        self.page("hello, 1.0.0")?;

        stage.heading("What ran here, by hash");
        self.landfall(&["history", "hello"], 0)?;
        self.git(&["log", "--format=%h %s"])
    }

    /// Starts the agent, as a user would in another terminal.
    fn watch(&mut self) -> Result<(), QuickstartError> {
        self.stage.command("landfall watch &");
        let log = self.scene.log_file()?;
        let mut command = self.scene.landfall();
        command.arg("watch").stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let agent = command.spawn().map_err(|source| program("landfall watch", source))?;
        self.agent = Some(agent);
        self.scene.wait_for_agent()
    }

    /// Runs a command and shows what it printed.
    fn landfall(&self, arguments: &[&str], want: i32) -> Result<(), QuickstartError> {
        let mut command = self.scene.landfall();
        command.args(arguments);
        self.show(&format!("landfall {}", quoted(arguments)), command, want)
    }

    fn git(&self, arguments: &[&str]) -> Result<(), QuickstartError> {
        let mut command = self.scene.git();
        command.args(arguments);
        self.show(&format!("git {}", quoted(arguments)), command, 0)
    }

    fn show(&self, line: &str, mut command: Command, want: i32) -> Result<(), QuickstartError> {
        self.stage.command(line);
        let output = command.stdin(Stdio::null()).output().map_err(|source| program(line, source))?;
        for bytes in [&output.stderr, &output.stdout] {
            String::from_utf8_lossy(bytes).lines().for_each(|line| self.stage.output(line));
        }
        if output.status.code() == Some(want) {
            return Ok(());
        }
        let got = output.status.code().map_or_else(|| output.status.to_string(), |code| code.to_string());
        Err(QuickstartError::Unexpected { command: line.to_owned(), got, want })
    }

    fn page(&self, want: &str) -> Result<(), QuickstartError> {
        let url = self.scene.url();
        self.stage.command(&format!("curl {url}"));
        let got = self.scene.fetch_page()?;
        for line in got.lines().filter(|line| line.starts_with("<h1>") || line.starts_with("<p>")) {
            self.stage.output(line);
        }
        if got.contains(want) {
            Ok(())
        } else {
            Err(QuickstartError::Page { url, want: want.to_owned(), got })
        }
    }

    /// Stops the agent, then the app, which would otherwise go on without it.
    fn clear_away(&mut self) -> Result<(), QuickstartError> {
        if let Some(mut agent) = self.agent.take() {
            scene::terminate(&agent);
            scene::wait(&mut agent, Duration::from_secs(60))?;
        }
        self.scene.stop_app()
    }
}

fn program(program: &str, source: std::io::Error) -> QuickstartError {
    QuickstartError::Program { program: program.to_owned(), source }
}

/// As a shell would need it.
fn quoted(arguments: &[&str]) -> String {
    let quote = |argument: &&str| {
        if argument.contains([' ', '%']) { format!("'{argument}'") } else { (*argument).to_owned() }
    };
    arguments.iter().map(quote).collect::<Vec<_>>().join(" ")
}
