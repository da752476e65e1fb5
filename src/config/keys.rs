//! Every key host.toml may hold, by table. `docs/configuration.md` describes each.

/// The top level.
pub const HOST: &[&str] = &[
    "host",
    "environment",
    "roles",
    "store",
    "store_mirrors",
    "store_token_file",
    "state",
    "cache",
    "trust",
    "webhook",
    "report",
    "migrator",
    "apps",
];
/// `[state]`.
pub const STATE: &[&str] = &[
    "git",
    "file",
    "branch",
    "poll",
    "path",
    "history",
    "mirrors",
    "ssh_key",
    "known_hosts",
    "token_file",
    "insecure_transport",
];
/// `[webhook]`.
pub const WEBHOOK: &[&str] = &["listen", "secret_file"];
/// `[cache]`.
pub const CACHE: &[&str] = &["max_bytes"];
/// `[trust]`.
pub const TRUST: &[&str] = &["operators", "builders", "allowed_signers"];
/// `[report]`.
pub const REPORT: &[&str] = &["to", "every", "token_file"];
/// `[apps.<app>]`.
pub const APP: &[&str] = &["dir", "user", "env_dir", "env", "start", "on_env_change", "enabled"];
/// `[apps.<app>] start = { … }`.
pub const START: &[&str] = &["manager", "mode", "instances", "memory_max"];

/// All of them, with the name of their table.
pub const ALL: &[(&str, &[&str])] = &[
    ("host", HOST),
    ("state", STATE),
    ("cache", CACHE),
    ("trust", TRUST),
    ("webhook", WEBHOOK),
    ("report", REPORT),
    ("apps.<app>", APP),
    ("apps.<app>.start", START),
];
