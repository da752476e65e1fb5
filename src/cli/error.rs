//! What a command says when it cannot do what was asked.

use schemars::JsonSchema;
use serde::Serialize;
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
        json!(Document {
            api_version: super::report::API_VERSION,
            kind: "Error",
            code: self.exit.code(),
            reason: &self.reason,
            message: &self.message,
            hint: self.hint.as_deref(),
        })
    }
}

/// An error in the form machines rely on.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Error")]
pub struct Document<'a> {
    #[schemars(extend("const" = super::report::API_VERSION))]
    api_version: &'static str,
    #[schemars(extend("const" = "Error"))]
    kind: &'static str,
    /// The exit code.
    code: u8,
    /// One word for machines.
    reason: &'a str,
    /// What happened, to which thing, why.
    message: &'a str,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
}
