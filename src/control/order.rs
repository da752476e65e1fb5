//! An order on one app, carried out on its records. Only under the lock of the host.

use jiff::Timestamp;
use landfall_store::{ArtifactId, Name};
use serde::{Deserialize, Serialize};

use super::choose::{self, ChoiceError, OnDisk};
use super::recover;
use crate::desired::{Place, Suspension};
use crate::disk::{Disk, RealDisk};
use crate::layout::AppDir;
use crate::record::RecordError;
use crate::record::controls::{Act, Controls, Decision, Fresh, Pin};

/// Characters of a reason or a name of a person: what fits a status line several times over.
const TEXT_CHARS_MAX: usize = 1_000;

/// What an operator wants of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Word {
    /// Which app.
    pub app: Name,
    /// Who says it.
    pub by: String,
    /// What.
    pub order: Order,
}

/// What can be wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Order {
    /// Nothing is applied or healed.
    Suspend {
        /// Why.
        reason: String,
        /// When it ends by itself.
        until: Option<Timestamp>,
    },
    /// The host's own suspension ends.
    Resume {
        /// Why.
        reason: Option<String>,
    },
    /// Back to a release that proved healthy here, and stay there.
    Pin {
        /// Its version, artifact or directory; the last healthy one other than the current if absent.
        to: Option<String>,
        /// Why.
        reason: String,
        /// When it ends by itself.
        until: Timestamp,
    },
    /// The state counts again.
    Unpin {
        /// Why.
        reason: Option<String>,
    },
    /// What failed here is tried again.
    Retry {
        /// Why.
        reason: Option<String>,
    },
    /// The state is looked at now, and an edited env file is deployed.
    Reconcile {
        /// Why.
        reason: Option<String>,
    },
    /// Records that cannot be read are set aside.
    Recover {
        /// Why.
        reason: String,
    },
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// In words.
    pub message: String,
    /// Whether anything is different now.
    pub changed: bool,
    /// The artifact that is brought into service because of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<ArtifactId>,
}

/// Why it was not carried out. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// Free text that is none.
    #[error("the {what}: {why}")]
    Text {
        /// Which text.
        what: &'static str,
        /// Which rule it breaks.
        why: &'static str,
    },
    /// An end that has passed.
    #[error("{until:.0} has passed")]
    Past {
        /// The end.
        until: Timestamp,
    },
    /// A suspended app is not rolled back.
    #[error("`{app}` is suspended: {why}")]
    Suspended {
        /// Which app.
        app: Name,
        /// Why.
        why: Box<Suspension>,
    },
    /// There is no such release to go back to.
    #[error(transparent)]
    Choice(#[from] ChoiceError),
    /// The records.
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl OrderError {
    /// Exit code and reason, as `docs/cli.md` has them.
    pub const fn code(&self) -> (u8, &'static str) {
        match self {
            Self::Text { .. } => (2, "TextInvalid"),
            Self::Past { .. } => (2, "TimeHasPassed"),
            Self::Suspended { .. } => (11, "Suspended"),
            Self::Choice(ChoiceError::Nothing) => (4, "NoRollbackTarget"),
            Self::Choice(ChoiceError::Unknown(_) | ChoiceError::Ambiguous { .. }) => (4, "ReleaseUnknown"),
            Self::Choice(ChoiceError::NotHealthy { .. }) => (10, "NotHealthy"),
            Self::Choice(ChoiceError::Blocked { .. }) => (10, "Blocked"),
            Self::Record(RecordError::Damaged { .. }) => (6, "RecordDamaged"),
            Self::Record(_) => (20, "RecordFailed"),
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Suspended { app, why } => match why.place {
                Place::Host => format!("`landfall resume {app}` first"),
                Place::State => format!("take `suspend` of `{app}` out of the state first"),
            },
            Self::Choice(ChoiceError::Nothing | ChoiceError::Unknown(_) | ChoiceError::Ambiguous { .. }) => {
                "`landfall ls --releases` shows the releases of this host".to_owned()
            }
            Self::Choice(ChoiceError::NotHealthy { .. } | ChoiceError::Blocked { .. }) => {
                "name another with --to; `landfall history` shows which proved healthy".to_owned()
            }
            Self::Record(RecordError::Damaged { .. }) => {
                "`landfall recover <app> --dry-run` shows what can be kept".to_owned()
            }
            Self::Record(RecordError::Newer { .. }) => {
                "use the landfall that wrote it, or a newer one".to_owned()
            }
            Self::Text { .. } | Self::Past { .. } | Self::Record(RecordError::Io { .. }) => return None,
        })
    }
}

/// An app's records, and what the state forbids.
pub struct Records<'a> {
    /// Where they are.
    pub dir: &'a AppDir,
    /// Why the state blocks an artifact, if it does.
    pub block_of: &'a dyn Fn(&ArtifactId) -> Option<String>,
}

/// Carries an order out: durably, or not at all.
pub fn carry_out(word: &Word, records: &Records<'_>, now: Timestamp) -> Result<Done, OrderError> {
    check_text("actor", &word.by)?;
    let order = Carrying { word, dir: records.dir, now };
    match &word.order {
        Order::Suspend { reason, until } => order.suspend(reason, *until),
        Order::Resume { reason } => order.resume(reason.as_deref()),
        Order::Pin { to, reason, until } => order.pin(to.as_deref(), reason, *until, records),
        Order::Unpin { reason } => order.unpin(reason.as_deref()),
        Order::Retry { reason } => {
            order.fresh(Act::Retry, Fresh { retry: true, env: false }, reason.as_deref())
        }
        Order::Reconcile { reason } => {
            order.fresh(Act::Reconcile, Fresh { retry: false, env: true }, reason.as_deref())
        }
        Order::Recover { reason } => order.recover(reason),
    }
}

struct Carrying<'a> {
    word: &'a Word,
    dir: &'a AppDir,
    now: Timestamp,
}

impl Carrying<'_> {
    fn decision(&self, what: Act, reason: Option<&str>) -> Decision {
        Decision {
            at: self.now,
            what,
            by: self.word.by.clone(),
            reason: reason.map(str::to_owned),
            until: None,
            about: None,
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Controls) -> T) -> Result<T, OrderError> {
        for dir in self.dir.to_create() {
            RealDisk.create_dir(&dir).map_err(RecordError::io(&dir))?;
        }
        let change = |controls: &mut Controls| {
            controls.end_what_is_over(self.now);
            change(controls)
        };
        Ok(Controls::change(&RealDisk, self.dir, change)?.1)
    }

    fn suspend(&self, reason: &str, until: Option<Timestamp>) -> Result<Done, OrderError> {
        check_text("reason", reason)?;
        self.check_end(until)?;
        let why = Suspension {
            reason: reason.to_owned(),
            by: self.word.by.clone(),
            since: Some(self.now),
            until,
            place: Place::Host,
        };
        let told = format!("{} is suspended: {why}; nothing is applied or healed", self.word.app);
        self.change(|controls| {
            controls.suspend = Some(why);
            controls.decide(Decision { until, ..self.decision(Act::Suspend, Some(reason)) });
        })?;
        Ok(Done { message: told, changed: true, artifact: None })
    }

    fn resume(&self, reason: Option<&str>) -> Result<Done, OrderError> {
        check_optional(reason)?;
        let ended = self.change(|controls| {
            let ended = controls.suspend.take();
            if ended.is_some() {
                controls.decide(self.decision(Act::Resume, reason));
            }
            ended
        })?;
        let app = &self.word.app;
        Ok(match ended {
            Some(why) => done(format!("{app} goes on; it was suspended: {why}"), true),
            None => done(format!("{app} is not suspended on this host; nothing was changed"), false),
        })
    }

    fn pin(
        &self,
        to: Option<&str>,
        reason: &str,
        until: Timestamp,
        records: &Records<'_>,
    ) -> Result<Done, OrderError> {
        check_text("reason", reason)?;
        self.check_end(Some(until))?;
        let controls = Controls::read(&RealDisk, self.dir)?;
        if let Some(why) = controls.suspension(self.now) {
            return Err(OrderError::Suspended { app: self.word.app.clone(), why: Box::new(why.clone()) });
        }
        let release = choose::choose(&OnDisk::read(self.dir)?, to, records.block_of)?;
        let pin =
            Pin { release, reason: reason.to_owned(), by: self.word.by.clone(), since: self.now, until };
        let artifact = Some(pin.release.artifact);
        let message = format!("{} is pinned on this host to {pin}", self.word.app);
        self.change(|controls| {
            let about = Some(pin.release.name.clone());
            controls.pin = Some(pin);
            controls.decide(Decision { until: Some(until), about, ..self.decision(Act::Pin, Some(reason)) });
        })?;
        Ok(Done { message, changed: true, artifact })
    }

    fn unpin(&self, reason: Option<&str>) -> Result<Done, OrderError> {
        check_optional(reason)?;
        let ended = self.change(|controls| {
            let ended = controls.pin.take();
            if let Some(pin) = &ended {
                let about = Some(pin.release.name.clone());
                controls.decide(Decision { about, ..self.decision(Act::Unpin, reason) });
            }
            ended
        })?;
        let app = &self.word.app;
        Ok(match ended {
            Some(pin) => done(format!("the state counts for {app} again; it was pinned to {pin}"), true),
            None => done(format!("{app} is not pinned; nothing was changed"), false),
        })
    }

    fn fresh(&self, act: Act, asked: Fresh, reason: Option<&str>) -> Result<Done, OrderError> {
        check_optional(reason)?;
        let why = self.change(|controls| {
            controls.fresh.retry |= asked.retry;
            controls.fresh.env |= asked.env;
            controls.decide(self.decision(act, reason));
            controls.suspension(self.now).cloned()
        })?;
        let app = &self.word.app;
        let what = match act {
            Act::Retry => "what failed here is tried again",
            _ => "the state is looked at now",
        };
        Ok(match why {
            Some(why) => done(format!("{app} is suspended: {why}; {what} when it goes on"), true),
            None => done(format!("{app}: {what}"), true),
        })
    }

    fn recover(&self, reason: &str) -> Result<Done, OrderError> {
        check_text("reason", reason)?;
        let recovered = recover::set_aside(self.dir, &self.word.by, reason, self.now)?;
        Ok(match recovered.is_empty() {
            true => {
                done(format!("every record of {} can be read; nothing was changed", self.word.app), false)
            }
            false => done(recovered.join("\n"), true),
        })
    }

    fn check_end(&self, until: Option<Timestamp>) -> Result<(), OrderError> {
        match until.filter(|until| *until <= self.now) {
            Some(until) => Err(OrderError::Past { until }),
            None => Ok(()),
        }
    }
}

const fn done(message: String, changed: bool) -> Done {
    Done { message, changed, artifact: None }
}

fn check_optional(reason: Option<&str>) -> Result<(), OrderError> {
    reason.map_or(Ok(()), |reason| check_text("reason", reason))
}

/// Free text: something, not too much, and nothing that rewrites a terminal.
fn check_text(what: &'static str, text: &str) -> Result<(), OrderError> {
    let why = if text.trim().is_empty() {
        "it is empty"
    } else if text.chars().count() > TEXT_CHARS_MAX {
        "it has more than 1,000 characters"
    } else if text.chars().any(char::is_control) {
        "it holds a control character"
    } else {
        return Ok(());
    };
    Err(OrderError::Text { what, why })
}
