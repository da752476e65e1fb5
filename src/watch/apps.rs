//! What the loop knows of each app: whether a tick runs, is due, or must wait.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{error, warn};

use super::Report;
use crate::plan::Desired;
use crate::reconcile::Tick;

/// Pause after landfall could not keep its own records.
pub(super) const RECORD_PAUSE: Duration = Duration::from_secs(10);

/// What the state asks for, and word of its changes.
pub(super) struct Wanted {
    pub(super) now: RefCell<Desired>,
    pub(super) change: tokio::sync::Notify,
}

/// What the loop knows of one app.
pub(super) struct AppState {
    /// What the state asks for now; an attempt in progress asks here whether it is superseded.
    pub(super) wanted: Rc<Wanted>,
    pub(super) busy: bool,
    pub(super) due: bool,
    pub(super) not_before: Option<Instant>,
    /// Something was ordered while a tick was under way: another follows it without a pause.
    pub(super) hurried: bool,
    pub(super) said: Option<String>,
}

impl AppState {
    pub(super) fn new() -> Self {
        let now = RefCell::new(Desired::NotInState);
        let wanted = Rc::new(Wanted { now, change: tokio::sync::Notify::new() });
        Self { wanted, busy: false, due: true, not_before: None, hurried: false, said: None }
    }

    /// What is wanted now. A change is due at once.
    pub(super) fn want(&mut self, wanted: Desired) {
        if *self.wanted.now.borrow() != wanted {
            self.wanted.now.replace(wanted);
            self.wanted.change.notify_waiters();
            self.hurry();
        }
    }

    /// Due at once, whatever it was waiting for.
    pub(super) fn hurry(&mut self) {
        self.due = true;
        self.hurried = self.busy;
        self.not_before = None;
        self.said = None;
    }

    /// The time for a look has come. A tick under way decides by its end when the next one is due.
    pub(super) fn remind(&mut self, now: Instant) {
        self.not_before = self.not_before.filter(|at| *at > now);
        self.due |= !self.busy && self.not_before.is_none();
    }

    /// Says something once, until something else is to be said.
    pub(super) fn say(&mut self, say: impl FnOnce(), what: &str) {
        if self.said.as_deref() != Some(what) {
            say();
            self.said = Some(what.to_owned());
        }
    }

    /// What an ended tick means for the next one.
    pub(super) fn note(&mut self, report: &Report, now: Instant) {
        self.busy = false;
        match &report.tick {
            Ok(Tick::Attempted(entry)) => {
                // The schedule is `crate::retry`'s; the entry says when.
                match entry.retry_in_ms {
                    Some(pause) => self.not_before = Some(now + Duration::from_millis(pause)),
                    None => self.due = true,
                }
            }
            Ok(Tick::Refused(refusal)) => {
                self.say(|| warn!(app = %report.app, %refusal, "not tried"), &refusal.to_string());
            }
            Ok(Tick::Held(hold)) => {
                self.say(|| warn!(app = %report.app, %hold, "nothing is done"), &hold.to_string())
            }
            Ok(Tick::InSync { env_changed: true }) => {
                let what = "an env file was edited since the start; the next deploy takes it";
                self.say(|| warn!(app = %report.app, "{what}"), what);
            }
            Ok(Tick::InSync { env_changed: false } | Tick::Removed) => self.said = None,
            Err(error) => {
                self.not_before = Some(now + jittered(RECORD_PAUSE));
                let what = "landfall could not keep its records; what runs is left alone";
                self.say(|| error!(app = %report.app, %error, "{what}"), &error.to_string());
            }
        }
        if std::mem::take(&mut self.hurried) {
            self.hurry();
        }
    }
}

/// ± 20 %, so that a fleet does not act in step.
pub(super) fn jittered(span: Duration) -> Duration {
    crate::retry::Jitter::draw().spread(span)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::RecordError;

    #[test]
    fn a_reminder_during_an_attempt_does_not_shorten_the_pause_after_it() {
        let mut app = AppState::new();
        let begin = Instant::now();
        (app.busy, app.due) = (true, false);
        app.remind(begin);
        let full = RecordError::Damaged { path: "journal".into(), why: "a full disk".to_owned() };
        app.note(&Report { app: "web".parse().unwrap(), tick: Err(full) }, begin);
        assert!(!app.due);
        app.remind(begin);
        assert!(!app.due);
        app.remind(begin + RECORD_PAUSE * 2);
        assert!(app.due);
    }

    #[test]
    fn what_is_ordered_during_an_attempt_follows_it_without_a_pause() {
        let mut app = AppState::new();
        let begin = Instant::now();
        (app.busy, app.due) = (true, false);
        app.hurry();
        let full = RecordError::Damaged { path: "journal".into(), why: "a full disk".to_owned() };
        app.note(&Report { app: "web".parse().unwrap(), tick: Err(full) }, begin);
        assert!(app.due);
    }
}
