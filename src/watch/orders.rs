//! What commands order at the door, carried out by the loop: at once, durably, and then looked at.

use jiff::Timestamp;
use landfall_store::{ArtifactId, Name};
use tokio::time::Instant;
use tracing::info;

use super::accept::Accepted;
use super::agent::Agent;
use crate::control::{self, Done, Order, Records, Word};
use crate::door::{Answer, Denied, Knock, Request};

impl Agent {
    /// Carries a request out and answers. Gives the moment to look at the state again, if it could not be read.
    pub(super) fn answer(&mut self, knock: Knock) -> Option<Instant> {
        let Knock { request, answer } = knock;
        let reads_the_state = match &request {
            Request::App(word) => matches!(word.order, Order::Reconcile { .. }),
            Request::ReconcileAll { .. } => true,
            Request::AcceptState { .. } => false,
        };
        let look_again = if reads_the_state { self.look() } else { None };
        if reads_the_state {
            self.feed.hurry();
        }
        let told = match request {
            Request::App(word) => self.carry_out(&word),
            Request::ReconcileAll { by, reason } => self.reconcile_all(&by, reason.as_deref()),
            Request::AcceptState { commit, by, reason } => self.accept_refused(&commit, &by, &reason),
        };
        // Whoever asked may have left; it is done all the same.
        drop(answer.send(told.map_or_else(Answer::Denied, Answer::Done)));
        look_again
    }

    fn carry_out(&mut self, word: &Word) -> Result<Done, Denied> {
        self.know_apps();
        let Some(app) = self.apps.get(&word.app) else {
            return Err(Denied::new(4, "NoApp", format!("there is no app `{}` on this host", word.app)));
        };
        if app.busy && matches!(word.order, Order::Recover { .. }) {
            let what = format!("an attempt of `{}` is in progress", word.app);
            return Err(Denied {
                hint: Some(format!("`landfall wait {} --for idle` first", word.app)),
                ..Denied::new(12, "Busy", what)
            });
        }
        let (dir, environment) = (self.dir(&word.app), self.settings.environment.clone());
        let accepted = self.accepted.clone();
        let block_of = |artifact: &ArtifactId| {
            accepted.as_ref().and_then(|accepted| block_of(accepted, &word.app, &environment, artifact))
        };
        let done = control::carry_out(word, &Records { dir: &dir, block_of: &block_of }, Timestamp::now())?;
        info!(app = %word.app, by = %word.by, "{}", done.message);
        self.know_apps();
        if let Some(app) = self.apps.get_mut(&word.app) {
            app.hurry();
        }
        Ok(done)
    }

    fn reconcile_all(&mut self, by: &str, reason: Option<&str>) -> Result<Done, Denied> {
        let names: Vec<Name> = self.apps.keys().cloned().collect();
        let mut told = Vec::new();
        for app in names {
            let order = Order::Reconcile { reason: reason.map(str::to_owned) };
            told.push(self.carry_out(&Word { app, by: by.to_owned(), order })?.message);
        }
        if told.is_empty() {
            told.push("the state was looked at; it names no app of this host".to_owned());
        }
        Ok(Done { message: told.join("\n"), changed: true, artifact: None })
    }
}

/// Why the state blocks an artifact, if it does.
pub fn block_of(
    accepted: &Accepted,
    app: &Name,
    environment: &Name,
    artifact: &ArtifactId,
) -> Option<String> {
    let found = accepted.state.resolve(app, environment).ok()?;
    found.block_of(artifact).map(|block| format!("{} (by {})", block.reason, block.by))
}
