//! The stages of an attempt and what its steps print, as they come, for whoever waits for it.

use std::future::Future;

use notify::{RecursiveMode, Watcher};
use tokio::sync::mpsc::channel;

use super::error::CliError;
use super::exit::Exit;
use super::progress::Progress;
use super::report::{Report, Tone};
use crate::changes::is_a_change;
use crate::disk::{Disk, RealDisk};
use crate::layout::AppDir;
use crate::record::fetching::Fetching;
use crate::record::journal::{Journal, Stage};
use crate::tail::{Place, TailError, Tails};

/// Tells of stages, and in a terminal how far a fetch is.
pub struct Stages<'a> {
    dir: &'a AppDir,
    report: Report,
    fetch: Option<Progress>,
}

impl<'a> Stages<'a> {
    /// Of an app on this host.
    pub const fn new(dir: &'a AppDir, report: Report) -> Self {
        Self { dir, report, fetch: None }
    }

    /// A stage that has begun.
    pub fn tell(&mut self, journal: &Journal) {
        // The line of the fetch goes before the next stage is written where it stood.
        self.fetch = None;
        let (word, release) = match journal.stage {
            Stage::Reverting => (" to", &journal.healthy),
            _ => ("", &journal.to),
        };
        let name = release.as_ref().map_or_else(String::new, |release| format!("{word} {}", release.version));
        let stage = self.report.tone_err(&journal.stage.to_string(), Tone::Changing);
        self.report.say(format!("  {stage}{name}"));
        if journal.stage == Stage::Fetching {
            let dir = self.dir.clone();
            let look = move || Fetching::read(&dir).map(|now| (now.files, now.bytes, now.bytes_total));
            self.fetch = Some(Progress::following(&self.report, "  fetching", look));
        }
    }
}

/// Tells of every stage that the journal names, and of every line that a step prints, while something is done.
pub async fn told<T>(
    dir: &AppDir,
    report: Report,
    work: impl Future<Output = Result<T, CliError>>,
) -> Result<T, CliError> {
    let (changed, mut changes) = channel(1);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // One waiting event says all there is to say: look again. Reading the journal is an event, too.
        if is_a_change(&event) {
            let _ = changed.try_send(());
        }
    })
    .map_err(unwatched)?;
    let journal = dir.journal();
    let own = journal.parent().expect("the journal stands in the app's directory");
    RealDisk.create_dir(own).map_err(|error| super::context::io(own, &error))?;
    // Steps make a directory of their attempt in this one.
    let attempts = dir.attempts();
    RealDisk.create_dir(&attempts).map_err(|error| super::context::io(&attempts, &error))?;
    for watched in [own, &attempts] {
        watcher.watch(watched, RecursiveMode::NonRecursive).map_err(unwatched)?;
    }
    let mut work = std::pin::pin!(work);
    let mut stages = Stages::new(dir, report);
    let mut told = None;
    let mut steps = Steps::of(dir, report);
    loop {
        tokio::select! {
            () = steps.changed() => steps.tell(),
            Some(()) = changes.recv() => {
                let Ok(Some(journal)) = Journal::read(&RealDisk, dir) else { continue };
                let stage = (journal.attempt, journal.stage);
                // What the stage before it printed comes first.
                steps.tell();
                if told.replace(stage) != Some(stage) {
                    stages.tell(&journal);
                }
                steps.follow(journal.attempt);
            }
            done = &mut work => {
                // Steps may have ended before the word of their directory came.
                if let Some((attempt, _)) = told {
                    steps.follow(attempt);
                }
                steps.tell();
                return done;
            }
        }
    }
}

/// What the steps of the attempt in progress print. Trouble with it costs the lines, never the attempt.
struct Steps<'a> {
    dir: &'a AppDir,
    report: Report,
    attempt: Option<u64>,
    tails: Option<Tails>,
}

impl<'a> Steps<'a> {
    const fn of(dir: &'a AppDir, report: Report) -> Self {
        Self { dir, report, attempt: None, tails: None }
    }

    /// Turns to the output of this attempt, as soon as there is some.
    fn follow(&mut self, attempt: u64) {
        let place = self.dir.attempt(attempt);
        if self.report.is_quiet() || self.attempt == Some(attempt) || !place.is_dir() {
            return;
        }
        self.attempt = Some(attempt);
        let place = Place { label: String::new(), dir: place, only: None };
        let report = self.report;
        let begun =
            Tails::begin(vec![place], Some(usize::MAX), &mut |_, step, line| tell_line(report, step, line));
        self.keep(begun);
    }

    /// Ends when a step may have printed something.
    async fn changed(&mut self) {
        match &mut self.tails {
            Some(tails) => tails.changed().await,
            None => std::future::pending().await,
        }
    }

    fn tell(&mut self) {
        if let Some(mut tails) = self.tails.take() {
            let report = self.report;
            let read = tails.read(&mut |_, step, line| tell_line(report, step, line));
            self.keep(read.map(|()| tails));
        }
    }

    fn keep(&mut self, tails: Result<Tails, TailError>) {
        match tails {
            Ok(tails) => self.tails = Some(tails),
            Err(error) => self.report.say(format!("    what the steps print is not shown here: {error}")),
        }
    }
}

fn tell_line(report: Report, step: &str, line: &[u8]) {
    let line = String::from_utf8_lossy(line);
    report.say(format!("    {} {}", report.tone_err(&format!("{step} |"), Tone::Quiet), line.trim_end()));
}

fn unwatched(error: notify::Error) -> CliError {
    CliError::new(Exit::Error, "WatchFailed", error)
        .hint("raise fs.inotify.max_user_instances if the limit is reached")
}
