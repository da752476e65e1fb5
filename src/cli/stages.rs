//! The stages of an attempt as they come, for whoever waits for it.

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

/// Tells of every stage that the journal names while something is done.
pub async fn told<T>(
    dir: &AppDir,
    report: Report,
    work: impl Future<Output = Result<T, CliError>>,
) -> Result<T, CliError> {
    let (changed, mut changes) = channel(1);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // One waiting event says all there is to say: look again.
        if is_a_change(&event) {
            let _ = changed.try_send(());
        }
    })
    .map_err(unwatched)?;
    let journal = dir.journal();
    let own = journal.parent().expect("the journal stands in the app's directory");
    RealDisk.create_dir(own).map_err(|error| super::context::io(own, &error))?;
    watcher.watch(own, RecursiveMode::NonRecursive).map_err(unwatched)?;
    let mut work = std::pin::pin!(work);
    let mut stages = Stages::new(dir, report);
    let mut told = None;
    loop {
        tokio::select! {
            done = &mut work => return done,
            Some(()) = changes.recv() => {}
        }
        let Ok(Some(journal)) = Journal::read(&RealDisk, dir) else { continue };
        let stage = (journal.attempt, journal.stage);
        if told.replace(stage) != Some(stage) {
            stages.tell(&journal);
        }
    }
}

fn unwatched(error: notify::Error) -> CliError {
    CliError::new(Exit::Error, "WatchFailed", error)
        .hint("raise fs.inotify.max_user_instances if the limit is reached")
}
