//! Every key the state may hold, by object. `docs/configuration.md` describes each.

/// The top level.
pub const STATE: &[&str] = &["apiVersion", "serial", "not_after", "apps"];
/// `apps.<app>`.
pub const APP: &[&str] = &["environments", "blocked", "state"];
/// `apps.<app>.environments.<env>`.
pub const ENVIRONMENT: &[&str] = &["target", "suspend", "reconcileRequestedAt", "retain", "health", "state"];
/// `target`.
pub const TARGET: &[&str] = &["artifact", "version", "reason", "by"];
/// `suspend`.
pub const SUSPEND: &[&str] = &["reason", "by", "until"];
/// `blocked[]`.
pub const BLOCKED: &[&str] = &["artifact", "reason", "by"];
/// `health`.
pub const HEALTH: &[&str] = &["attempts", "interval", "timeout", "successes", "settle"];

/// All of them, with the name of their object.
pub const ALL: &[(&str, &[&str])] = &[
    ("state", STATE),
    ("app", APP),
    ("environment", ENVIRONMENT),
    ("target", TARGET),
    ("suspend", SUSPEND),
    ("blocked", BLOCKED),
    ("health", HEALTH),
];
