//! What is said at the door.

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::control::{Done, OrderError, Word};

/// The version of what is said. A landfall that does not know it refuses, and says so.
pub const VERSION: u32 = 1;

/// Bytes of a line: a thousand characters of reason, several times over.
pub const LINE_BYTES_MAX: usize = 64 << 10;

/// What a command says: one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Letter {
    /// [`VERSION`].
    pub landfall: u32,
    /// What is wanted.
    pub request: Request,
}

/// What can be wanted of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Request {
    /// Something about one app.
    App(Word),
    /// The same as `Reconcile` of every app.
    ReconcileAll {
        /// Who says it.
        by: String,
        /// Why.
        reason: Option<String>,
    },
    /// A commit of the state's repository is taken although it was refused.
    AcceptState {
        /// Which one: its id, or the first digits of it.
        commit: String,
        /// Who says it.
        by: String,
        /// Why.
        reason: String,
    },
}

/// What the agent says: one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// It is durable, and the agent acts on it.
    Done(Done),
    /// It was not done; nothing was changed.
    Denied(Denied),
}

/// Why something was not done, in the terms of `docs/cli.md`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denied {
    /// The exit code.
    pub code: u8,
    /// One word for machines.
    pub reason: String,
    /// What happened, to which thing, why.
    pub message: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Denied {
    /// Without a hint.
    pub fn new(code: u8, reason: &str, message: impl ToString) -> Self {
        Self { code, reason: reason.to_owned(), message: message.to_string(), hint: None }
    }
}

impl From<OrderError> for Denied {
    fn from(error: OrderError) -> Self {
        let (code, reason) = error.code();
        Self { hint: error.hint(), ..Self::new(code, reason, &error) }
    }
}

/// A request that waits for the loop.
#[derive(Debug)]
pub struct Knock {
    /// What is wanted.
    pub request: Request,
    /// Where the answer goes. The caller may have left.
    pub answer: oneshot::Sender<Answer>,
}
