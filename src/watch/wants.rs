//! What is wanted of every app: the accepted state under what operators decided here.

use std::time::Duration;

use jiff::Timestamp;
use landfall_store::Name;
use tokio::time::Instant;
use tracing::error;

use super::accept::desired;
use super::agent::{Agent, INTERVAL, SETTLE};
use super::apps;
use super::apps::AppState;
use crate::disk::RealDisk;
use crate::layout::AppDir;
use crate::plan::Desired;
use crate::record::controls::Controls;

impl Agent {
    /// Brings what is known of each app up to the accepted state; what changed is due at once.
    pub(super) fn know_apps(&mut self) {
        let apps = match apps(&self.shared, self.accepted.as_deref()) {
            Ok(apps) => apps,
            Err(error) => return error!(%error, "the apps of this host cannot be listed"),
        };
        let mut ends = Vec::new();
        for app in apps {
            let wanted = self.wanted(&app);
            ends.extend(end_of(&wanted));
            self.apps.entry(app).or_insert_with(AppState::new).want(wanted);
        }
        self.wake = ends.into_iter().min().map(moment_of);
    }

    /// The state's word under what operators decided here.
    fn wanted(&self, app: &Name) -> Desired {
        let word = match &self.accepted {
            Some(accepted) => desired(accepted, app, &self.settings.environment),
            None => Desired::NotInState,
        };
        let (dir, now) = (self.dir(app), Timestamp::now());
        let change = Controls::change(&RealDisk, &dir, |controls| controls.end_what_is_over(now));
        match change {
            Ok((controls, ())) => word.under(&controls, now),
            // The tick says so, and changes nothing.
            Err(_) => word,
        }
    }

    pub(super) fn dir(&self, app: &Name) -> AppDir {
        self.settings.host.app_dir(app, &self.settings.environment)
    }
}

/// When what is wanted changes by itself.
fn end_of(wanted: &Desired) -> Option<Timestamp> {
    match wanted {
        Desired::Suspended { why, .. } => why.until,
        Desired::Pinned { pin, .. } => Some(pin.until),
        _ => None,
    }
}

/// A moment of the wall clock on the clock that never jumps. It is looked at again then, so that a clock that was
/// set in between ends nothing early; one that is set forward is noticed with the next look at everything.
fn moment_of(end: Timestamp) -> Instant {
    let left = Duration::try_from(end.duration_since(Timestamp::now())).unwrap_or_default();
    Instant::now() + left.clamp(SETTLE, INTERVAL)
}
