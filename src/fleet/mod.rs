//! What hosts say of themselves, left beside the artifacts: a status and the history of every app. With it one
//! machine that can read the store sees every host, without any server in between.
//!
//! Reporting decides nothing: a host that cannot report works as before, and is not shown as reporting. What a
//! host says is believed as far as its histories prove it: each is a chain of hashes.

mod follow;
mod publish;
mod read;

use jiff::{SignedDuration, Timestamp};
use landfall_store::reports::Document;
use landfall_store::{ArtifactId, Digest, Name, Version};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::record::acceptances::Chained;

pub use follow::{FleetFollow, Verdict};
pub use publish::{Published, publish};
pub use read::{ReadError, Reported, history, hosts};

/// History entries in one document: about 256 KiB, so that an attempt costs one small write.
const SEGMENT_ENTRIES: usize = 256;
/// A host that has missed so many of its own reports is not reporting any more.
const MISSED_MAX: i32 = 3;

/// One host in one environment, as it saw itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostReport {
    /// `landfall/v1`.
    #[serde(rename = "apiVersion")]
    pub api_version: String,
    /// `HostReport`.
    pub kind: String,
    /// Which host.
    pub host: Name,
    /// Its environment.
    pub environment: Name,
    /// Which parts of apps run there.
    pub roles: Vec<Name>,
    /// The landfall that wrote this.
    pub landfall: String,
    /// When, by the host's own clock.
    pub reported: Timestamp,
    /// After how many milliseconds it reports again at the latest; 0: it reports when somebody asks for it.
    pub every_ms: u64,
    /// Every app of that host.
    pub apps: Vec<AppReport>,
    /// Commits of the state that operators took there although they had been refused; a chain of hashes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub acceptances: Vec<Chained>,
}

/// One app on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AppReport {
    /// Which app.
    pub app: Name,
    /// The same document as `status -o json` prints there.
    pub status: serde_json::Value,
    /// Artifacts that failed there and are not tried again.
    pub quarantined: Vec<ArtifactId>,
    /// Its history, which stands in documents of its own.
    pub history: Chain,
}

/// How far a history goes: what a reader must find, at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// Entries.
    pub entries: u64,
    /// The hash of the last.
    pub last: Digest,
}

/// The part of a status that a list of hosts shows. Other versions of landfall may say more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Glance {
    /// Does what should run, run?
    pub sync: String,
    /// Is what runs well?
    pub health: String,
    /// What is being done?
    pub operation: String,
    /// What should run.
    pub desired: Option<Called>,
    /// What runs.
    pub running: Option<Called>,
    /// The state asks for the app to be gone, and it is.
    #[serde(default)]
    pub removed: bool,
    /// The commit of the state that says what is desired.
    pub state_commit: Option<String>,
    /// All of it in a sentence.
    pub message: String,
    /// What to type there, where a person has something to do.
    pub next: Option<String>,
}

/// An artifact and what people call it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Called {
    /// Which artifact.
    pub artifact: ArtifactId,
    /// Its version.
    pub version: Option<Version>,
}

impl AppReport {
    /// What a list shows of it; `None`: its landfall writes another form of status.
    pub fn glance(&self) -> Option<Glance> {
        serde_json::from_value(self.status.clone()).ok()
    }

    /// An artifact that its status names under this key.
    pub fn artifact(&self, key: &str) -> Option<ArtifactId> {
        serde_json::from_value(self.status.get(key)?.clone()).ok()
    }

    /// Why somebody suspended or pinned it on that host, by this key of its status; `None`: nobody did.
    pub fn held(&self, key: &str) -> Option<String> {
        let held = self.status.get(key).filter(|held| held.is_object())?;
        let word = |key: &str| held.get(key).and_then(serde_json::Value::as_str).unwrap_or("?");
        if word("place") == "state" {
            return None;
        }
        Some(format!("{} ({})", word("reason"), word("by")))
    }
}

impl HostReport {
    /// Whether it should have reported again by now.
    pub fn is_overdue(&self, now: Timestamp) -> bool {
        let every = SignedDuration::from_millis(i64::try_from(self.every_ms).unwrap_or(i64::MAX));
        self.every_ms > 0 && now.duration_since(self.reported) > every.saturating_mul(MISSED_MAX)
    }

    fn place(&self) -> Document {
        Document::Host { host: self.host.clone(), environment: self.environment.clone() }
    }

    /// A part of the history of one of its apps.
    fn segment(&self, app: &Name, number: usize) -> Document {
        Document::History {
            host: self.host.clone(),
            environment: self.environment.clone(),
            app: app.clone(),
            // A billion attempts: no history has them.
            number: u32::try_from(number).unwrap_or(u32::MAX),
        }
    }
}
