//! The stages of an attempt as they come, for whoever waits for it in the same process.

use std::future::Future;

use notify::{RecursiveMode, Watcher};
use tokio::sync::mpsc::channel;

use super::error::CliError;
use super::exit::Exit;
use super::report::Report;
use super::wait::tell_stage;
use crate::disk::{Disk, RealDisk};
use crate::layout::AppDir;
use crate::record::journal::Journal;

/// Tells of every stage that the journal names while something is done.
pub async fn told<T>(
    dir: &AppDir,
    report: Report,
    work: impl Future<Output = Result<T, CliError>>,
) -> Result<T, CliError> {
    let (changed, mut changes) = channel(1);
    let mut watcher = notify::recommended_watcher(move |_| {
        // One waiting event says all there is to say: look again.
        let _ = changed.try_send(());
    })
    .map_err(unwatched)?;
    let journal = dir.journal();
    let own = journal.parent().expect("the journal stands in the app's directory");
    RealDisk.create_dir(own).map_err(|error| super::context::io(own, &error))?;
    watcher.watch(own, RecursiveMode::NonRecursive).map_err(unwatched)?;
    let mut work = std::pin::pin!(work);
    let mut told = None;
    loop {
        tokio::select! {
            done = &mut work => return done,
            Some(()) = changes.recv() => {}
        }
        let Ok(Some(journal)) = Journal::read(&RealDisk, dir) else { continue };
        let stage = (journal.attempt, journal.stage);
        if told.replace(stage) != Some(stage) {
            tell_stage(&journal, report);
        }
    }
}

fn unwatched(error: notify::Error) -> CliError {
    CliError::new(Exit::Error, "WatchFailed", error)
        .hint("raise fs.inotify.max_user_instances if the limit is reached")
}
