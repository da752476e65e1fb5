//! What a command says when it cannot do what was asked.

use serde_json::{Value, json};

use super::exit::Exit;

/// An error for people and scripts: code, reason, message, hint.
#[derive(Debug)]
pub struct CliError {
    /// The exit code.
    pub exit: Exit,
    /// One word for machines.
    pub reason: String,
    /// What happened, to which thing, why.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl CliError {
    /// An error without a hint.
    pub fn new(exit: Exit, reason: impl Into<String>, message: impl ToString) -> Self {
        Self { exit, reason: reason.into(), message: message.to_string(), hint: None }
    }

    /// The same with what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The form of `-o json`.
    pub fn to_json(&self) -> Value {
        let mut object = json!({
            "apiVersion": super::report::API_VERSION,
            "kind": "Error",
            "code": self.exit.code(),
            "reason": self.reason,
            "message": self.message,
        });
        if let Some(hint) = &self.hint {
            object["hint"] = json!(hint);
        }
        object
    }
}
