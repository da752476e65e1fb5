//! What a release directory is: its artifact, its identity, how far it got.

use landfall_store::{ArtifactId, Digest, Name, TreeId, Version};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::sealed::Sealed;
use crate::config::StartOverride;
use crate::spec::{ReleaseSpec, StepKind, StepSpec, applies};

/// A release, by every name it has. What the journal and the history speak of.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct ReleaseRef {
    /// Its directory under `releases/`.
    pub name: String,
    /// The artifact it was made of.
    pub artifact: ArtifactId,
    /// Artifact + run settings + env fingerprint: what is compared to decide that something changed.
    pub identity: Digest,
    /// The version people call it by.
    pub version: Version,
}

impl ReleaseRef {
    /// The release of this identity. The directory name carries 12 digits of the identity, so two
    /// identities never share one.
    pub fn new(artifact: ArtifactId, identity: Digest, version: Version) -> Self {
        Self { name: format!("{version}-{}", identity.short()), artifact, identity, version }
    }
}

/// How far a release directory got. Only a prepared one may become `current`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Progress {
    /// Files are in place, steps may be half done.
    Materialised,
    /// Every step finished; the tree is hashed.
    Prepared,
}

/// The record inside a release directory (`.landfall/release.json`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseRecord {
    /// Which release.
    pub release: ReleaseRef,
    /// Which app.
    pub app: Name,
    /// In which environment.
    pub environment: Name,
    /// Everything of the identity but the env fingerprint.
    pub settings: Digest,
    /// For a host with these roles.
    pub roles: Vec<Name>,
    /// How far it got.
    pub progress: Progress,
    /// Trees of the layers it was made of.
    pub layers: Vec<TreeId>,
    /// The tree after the last step, without env files, writable and shared paths: what verify compares with.
    pub prepared_tree: Option<TreeId>,
    /// What the artifact said about steps, start and health.
    pub spec: ReleaseSpec,
    /// What this host, or whoever released it, changed about its start. Absent in older records: as host.toml says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<StartOverride>,
    /// Steps that were left out when it was prepared, because somebody asked for that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<Name>,
    /// The landfall that made it.
    pub landfall: String,
}

impl ReleaseRecord {
    /// The steps of this kind that run here, in order.
    pub fn steps(&self, kind: StepKind) -> impl Iterator<Item = &StepSpec> {
        let due = move |step: &&StepSpec| {
            step.kind == kind && applies(&step.roles, &self.roles) && !self.skipped.contains(&step.name)
        };
        self.spec.steps.iter().filter(due)
    }
}

impl Sealed for ReleaseRecord {
    const KIND: &'static str = "release";
}
