//! SIGHUP: the configuration read again, and taken as a whole or not at all.

use std::rc::Rc;

use tokio::time::Instant;
use tracing::{error, info};

use super::accept;
use super::agent::Agent;
use super::feed::Feed;
use super::service::Shared;
use super::{AgentError, ReadAgain, Settings};
use crate::disk::RealDisk;
use crate::record::refused::Refused;
use crate::retry::Patience;

impl Agent {
    /// Reads host.toml again and looks at everything. What cannot be used changes nothing.
    pub(super) fn reload(&mut self, read_again: ReadAgain<'_>) -> Result<Option<Instant>, AgentError> {
        let taken = read_again().and_then(|settings| self.take(settings));
        match &taken {
            Ok(()) => info!("host.toml was read again"),
            Err(why) => error!(%why, "host.toml is refused; the one that was read before stays in force"),
        }
        if let Err(error) = Refused::note(&RealDisk, &self.settings.host.root, taken.err()) {
            error!(%error, "`status` cannot tell whether host.toml was refused");
        }
        self.feed.follow()?;
        let look_again = self.look();
        self.all_due();
        Ok(look_again)
    }

    /// Everything that can fail comes first.
    fn take(&mut self, new: Settings) -> Result<(), String> {
        fixed(&self.settings, &new)?;
        let shared = Shared::new(&new, Patience::Agent).map_err(|error| error.to_string())?;
        let known = accept::known(&self.floor, self.accepted.as_deref());
        let feed = Feed::new(&new.source, new.poll(), known, self.changed.clone());
        let feed = feed.map_err(|error| error.to_string())?;
        self.feed = feed;
        self.shared = Rc::new(shared);
        self.settings = new;
        self.reporter.set(self.settings.reporting.clone());
        let config = &self.settings.host.config;
        // An attempt in progress is brought to its end with what it began with.
        self.apps.retain(|name, app| app.busy || config.app(name).is_some());
        for app in self.apps.values_mut() {
            app.hurry();
        }
        Ok(())
    }
}

/// What only a start may change: records and processes hang on it.
fn fixed(old: &Settings, new: &Settings) -> Result<(), String> {
    if old.environment != new.environment {
        let (old, new) = (&old.environment, &new.environment);
        return Err(format!("`environment` was `{old}` and is `{new}` now: restart the agent for that"));
    }
    if old.host.root.path() != new.host.root.path() {
        return Err("the root is another one now: restart the agent for that".to_owned());
    }
    let moved = |app: &landfall_store::Name| {
        let dir = |settings: &Settings| settings.host.config.app(app).map(|config| config.dir);
        matches!((dir(old), dir(new)), (Some(old), Some(new)) if old != new)
    };
    let named = new.host.config.apps.iter().flat_map(|apps| apps.keys());
    match named.into_iter().find(|app| moved(app)) {
        Some(app) => {
            Err(format!("`dir` of `{app}` is another one now: move what is there and restart the agent"))
        }
        None => Ok(()),
    }
}
