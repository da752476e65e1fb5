//! The types of the state file. Their schema is what `landfall state schema` publishes.

use std::collections::BTreeMap;

use jiff::Timestamp;
use landfall_store::{ArtifactId, Name, Version};
use schemars::JsonSchema;
use serde::{Serialize, Serializer};

use super::schema::{artifact_id, duration, version};
use crate::document::units::write_duration;
use crate::spec::Millis;

/// One app.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct AppState {
    /// What each environment should run.
    #[schemars(with = "BTreeMap<String, EnvironmentState>")]
    #[schemars(default)]
    pub environments: BTreeMap<Name, EnvironmentState>,
    /// Artifacts that nobody may deploy anywhere.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    pub blocked: Vec<Blocked>,
    /// `absent` removes the app from every host; leaving it out of the file removes nothing.
    #[serde(skip_serializing_if = "Presence::is_present")]
    #[schemars(default)]
    pub state: Presence,
}

/// One app in one environment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub struct EnvironmentState {
    /// What should run; there unless the state is `absent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// Nothing is applied or healed while this is here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspend: Option<Suspend>,
    /// A new time asks for one fresh attempt, also of a quarantined release.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reconcile_requested_at: Option<Timestamp>,
    /// Healthy releases kept on each host, instead of the recipe's number.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub retain: Option<u32>,
    /// Health limits instead of the recipe's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthLimits>,
    /// `absent` removes the app from the hosts of this environment.
    #[serde(skip_serializing_if = "Presence::is_present")]
    #[schemars(default)]
    pub state: Presence,
}

/// Which artifact, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Target {
    /// The artifact's full id.
    #[schemars(schema_with = "artifact_id")]
    pub artifact: ArtifactId,
    /// For people; must equal the artifact's own version.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "version", default)]
    pub version: Option<Version>,
    /// Why this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who chose it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// A pause, with its reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Suspend {
    /// Why.
    pub reason: String,
    /// Who.
    pub by: String,
    /// When it ends by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// An artifact nobody may deploy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Blocked {
    /// The artifact's full id.
    #[schemars(schema_with = "artifact_id")]
    pub artifact: ArtifactId,
    /// Why.
    pub reason: String,
    /// Who.
    pub by: String,
}

/// Limits of health checks; each replaces the recipe's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct HealthLimits {
    /// Tries until the first good answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub attempts: Option<u32>,
    /// Longest pause between two tries.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_text")]
    #[schemars(schema_with = "duration", default)]
    pub interval: Option<Millis>,
    /// Time for one try.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_text")]
    #[schemars(schema_with = "duration", default)]
    pub timeout: Option<Millis>,
    /// Good answers in a row.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub successes: Option<u32>,
    /// Time it must stay well.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_text")]
    #[schemars(schema_with = "duration", default)]
    pub settle: Option<Millis>,
}

/// Whether something is wanted at all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Presence {
    /// It is.
    #[default]
    Present,
    /// It is to be removed from the hosts.
    Absent,
}

impl Presence {
    fn is_present(&self) -> bool {
        *self == Self::Present
    }
}

fn as_text<S: Serializer>(span: &Option<Millis>, serializer: S) -> Result<S::Ok, S::Error> {
    span.map(write_duration).serialize(serializer)
}
