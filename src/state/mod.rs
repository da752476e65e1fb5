//! Desired state: `deploy-state.json`, which artifact each app and environment should run.
//!
//! It holds ids, numbers, names, times and free text, never a command, path, address, user or unit: whoever
//! may write it may choose among artifacts and nothing else. An error inside one app holds that app only.

mod edit;
pub mod keys;
mod lint;
mod model;
mod read;
mod resolve;
mod schema;
mod splice;
mod style;

pub use edit::{EditError, TargetEdit, first_file, set_suspend, set_target};
pub use lint::{Finding, Severity, lint};
pub use model::{AppState, Blocked, EnvironmentState, HealthLimits, Presence, Suspend, Target};
pub use read::{AppError, DesiredState, StateError};
pub use resolve::{Desired, ResolveError};
pub use schema::schema;

/// What `apiVersion` must be.
pub const API_VERSION: &str = "landfall/v1";

/// The file's usual name.
pub const FILE_NAME: &str = "deploy-state.json";

/// Bytes of a state file: thousands of apps fit; more is an attack on the host's memory.
pub const STATE_BYTES_MAX: u64 = 1 << 20;

#[cfg(test)]
mod tests;
