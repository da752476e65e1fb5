//! A change of the state that nobody acts on yet: two states compared, and what each difference would do. It needs
//! the store and what hosts left there, and no host.

mod changes;
mod hosts;
mod imagined;
mod weigh;

use jiff::Timestamp;
use landfall_store::{ArtifactId, Name};
use schemars::JsonSchema;
use serde::Serialize;

use crate::diff::{Change as PathChange, DependencyChange};
use crate::fleet::Called;
use crate::migrations::MigrationChange;
use crate::preview::Files;

pub use changes::{Change, changes};
pub use weigh::{Scales, misfit, weigh};

/// What a change does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "ProposedAction")]
pub enum Action {
    /// Another artifact should run.
    Deploy,
    /// The app is to be removed from the hosts.
    Remove,
    /// The state does not name it any more: what runs stays.
    Forget,
    /// Only what is said about it changes: a suspension, limits, a reason.
    Settings,
    /// Hosts would refuse it.
    Refuse,
    /// The store does not have it.
    Unavailable,
}

/// One app in one environment, and what a change of the state would do to it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Proposed {
    /// Which app.
    pub app: Name,
    /// In which environment.
    pub environment: Name,
    /// What would happen.
    pub action: Action,
    /// What should run before.
    pub from: Option<Called>,
    /// What should run then.
    pub to: Option<Called>,
    /// Who chose it; absent where the choice stays.
    pub by: Option<String>,
    /// Why; absent where the choice stays.
    pub why: Option<String>,
    /// Keys of its part of the state that change besides.
    pub settings: Vec<&'static str>,
    /// Packed files that differ, counted.
    pub files: Option<Files>,
    /// The same one by one, in the order of layers and trees.
    pub paths: Vec<Path>,
    /// Dependencies whose versions differ.
    pub dependencies: Vec<DependencyChange>,
    /// Migrations that only one of the two has.
    pub migrations: Vec<MigrationChange>,
    /// Keys of the release part that differ: `start`, `health`, ….
    pub release: Vec<String>,
    /// What a host of every role fetches that has the one before and nothing else.
    pub fetch: Option<Fetch>,
    /// The one before, if it can be gone back to: the store has it, and nobody blocks it.
    pub rollback_target: Option<Called>,
    /// What stands in the way, or did before.
    pub conflicts: Vec<Conflict>,
    /// Hosts of this environment that report.
    pub hosts: Vec<OnHost>,
    /// What could not be found out, and why.
    pub unknown: Vec<String>,
}

/// A packed path that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "ProposedPath")]
pub struct Path {
    /// Its layer.
    pub layer: Name,
    /// What happened to it.
    pub change: PathChange,
    /// The path, escaped as in a tree.
    pub path: String,
}

/// What a host reads of the store, as the library plans its fetch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "ProposedFetch")]
pub struct Fetch {
    /// Bytes in all, compressed.
    pub bytes: u64,
    /// Of these, documents: manifest, trees, where contents are.
    pub documents: u64,
    /// Contents that the host lacks.
    pub contents: u64,
    /// Their bytes, not compressed.
    pub unpacked: u64,
    /// Layers that come by a delta.
    pub deltas: u64,
}

/// What stands in the way of a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "ProposedConflict")]
pub struct Conflict {
    /// In one word: `Blocked`, `Invalid`, `NotInStore`, `Suspended`, `Quarantined`, `Pinned`.
    pub reason: &'static str,
    /// The host that says so; absent: the state or the store.
    pub host: Option<Name>,
    /// In a sentence.
    pub message: String,
}

/// One host that reports.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "ProposedOnHost")]
pub struct OnHost {
    /// Which host.
    pub host: Name,
    /// Its roles.
    pub roles: Vec<Name>,
    /// When it reported, by its own clock.
    pub reported: Timestamp,
    /// It should have reported again by now.
    pub overdue: bool,
    /// What runs there.
    pub running: Option<Called>,
    /// What it would fetch, with what runs there and nothing else.
    pub fetch: Option<Fetch>,
    /// Where it goes back to by itself if the new one fails there: what proved healthy there last.
    pub revert_target: Option<ArtifactId>,
}
