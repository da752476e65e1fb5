//! What follows a tick: old releases go, `assets` is brought up to date, an app that was removed leaves nothing.
//!
//! Trouble with any of it never changes a verdict. What was done is on record, so that what a crash or a full
//! disk left undone is done after a later tick, and nothing is done twice.

use serde::{Deserialize, Serialize};

use super::service::Site;
use crate::deploy::App;
use crate::disk::RealDisk;
use crate::reconcile::Tick;
use crate::record::history::Outcome;
use crate::record::sealed::{self, Sealed};
use crate::release::{Needed, clear, empty_trash, forget, sweep};
use crate::spec::RETAIN_RELEASES;

/// What the last cleaning knew of, and what hindered it.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Tidied {
    /// The newest attempt.
    attempt: u64,
    /// How many healthy releases were to stay, where the state says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retain: Option<u32>,
    /// Why it was not done to the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hindered: Option<String>,
}

impl Sealed for Tidied {
    const KIND: &'static str = "tidied";
}

impl Site {
    /// Cleans up after a tick, as far as it is due.
    pub(super) async fn tidy(&self, app: &App, tick: &Tick) {
        if matches!(tick, Tick::Attempted(_))
            && let Err(error) = forget(&self.dir, &app.quarantine)
        {
            tracing::warn!(app = %app.name, %error, "the evidence of old attempts was not removed");
        }
        match tick {
            Tick::Attempted(entry) if entry.result == Outcome::Removed => self.clear(app),
            Tick::Removed => self.clear(app),
            Tick::Attempted(_) | Tick::InSync { .. } => self.clean(app).await,
            _ => {}
        }
        self.supply.rotate_logs();
    }

    /// After every attempt, a failed one too: bad versions in a row must not fill the disk.
    async fn clean(&self, app: &App) {
        let Some(last) = app.history.last() else { return };
        let before: Option<Tidied> = sealed::read(&RealDisk, &self.dir.tidied()).unwrap_or_default();
        let done = Tidied { attempt: last.attempt, retain: self.retain, hindered: None };
        if before.as_ref() == Some(&done) {
            return;
        }
        let hindered = self.clean_now(app).await.err();
        if let Some(why) = &hindered
            && before.as_ref().is_none_or(|before| before.hindered.as_ref() != Some(why))
        {
            tracing::warn!(app = %app.name, %why, "old releases were not cleaned up");
        }
        let now = Tidied { hindered, ..done };
        if before.as_ref() != Some(&now)
            && let Err(error) = sealed::write(&RealDisk, &self.dir.tidied(), &now)
        {
            tracing::warn!(app = %app.name, %error, "the cleaning is not on record and is done again");
        }
    }

    async fn clean_now(&self, app: &App) -> Result<(), String> {
        // What is in service says how many stay, not one that failed.
        let (_, in_service) = crate::observe::current(app, self.effects()).await;
        let spec = in_service.map(|record| record.spec);
        let retain = self.retain.or(spec.as_ref().and_then(|spec| spec.retain)).unwrap_or(RETAIN_RELEASES);
        let needed = Needed::of(&self.dir, &app.history).map_err(|error| error.to_string())?;
        let gone =
            sweep(&self.dir, &app.history, retain as usize, &needed).map_err(|error| error.to_string())?;
        if !gone.is_empty() {
            tracing::info!(app = %app.name, releases = ?gone, "old releases removed");
        }
        let keeps = spec.is_some_and(|spec| !spec.paths.keep.is_empty()) || self.dir.unions().is_dir();
        let kept = if keeps {
            let healthy = app.history.healthy().iter().map(|release| release.name.clone()).collect();
            self.supply.keep_assets(healthy).await.map_err(|failure| failure.message)
        } else {
            Ok(())
        };
        self.delete_in_the_background();
        self.supply.collect_if_due().await;
        kept
    }

    /// Every release of an app that the state removed goes, once nothing of it is in service.
    fn clear(&self, app: &App) {
        match clear(&self.dir) {
            Ok(gone) if gone.is_empty() => {}
            Ok(gone) => {
                let kept = self.dir.shared();
                tracing::info!(app = %app.name, releases = ?gone, kept = %kept.display(), "removed, as the state asks");
                self.delete_in_the_background();
            }
            Err(error) => tracing::warn!(app = %app.name, %error, "its releases were not removed"),
        }
    }

    /// What was set aside is deleted on a thread of its own; what a dying agent leaves of it, the next cleaning takes.
    fn delete_in_the_background(&self) {
        let dir = self.dir.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = empty_trash(&dir) {
                tracing::warn!(%error, "what was set aside was not deleted; the next cleaning tries again");
            }
        });
    }
}
