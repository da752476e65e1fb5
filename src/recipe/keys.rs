//! Every key a recipe may hold, by table. `docs/configuration.md` describes each.

/// The top level.
pub const RECIPE: &[&str] =
    &["app", "version", "build", "layer", "env", "paths", "step", "start", "health", "preflight", "retain"];
/// `version = { … }`.
pub const VERSION: &[&str] = &["file", "command"];
/// `[build]`.
pub const BUILD: &[&str] = &["run", "shell"];
/// `[[layer]]`, with the keys reserved for a later format.
pub const LAYER: &[&str] = &[
    "name",
    "roles",
    "kind",
    "environment",
    "mount",
    "files",
    "exclude",
    "sealed",
    "external_links",
    "perm",
];
/// `files = [{ … }]`.
pub const FILES: &[&str] = &["from", "to"];
/// `[env]`.
pub const ENV: &[&str] = &["environments", "names", "set", "required", "local", "expand"];
/// `[paths]`.
pub const PATHS: &[&str] = &["writable", "shared", "shared_files", "keep", "logs"];
/// `[[step]]`.
pub const STEP: &[&str] =
    &["name", "kind", "run", "shell", "timeout", "writes", "roles", "check", "migrations"];
/// `[start]`.
pub const START: &[&str] = &[
    "name",
    "manager",
    "run",
    "shell",
    "instances",
    "roles",
    "stop",
    "memory_max",
    "mode",
    "ready",
    "listen_timeout",
    "restart_delay",
    "node_args",
    "socket",
];
/// `stop = { … }`.
pub const STOP: &[&str] = &["signal", "grace", "run", "shell"];
/// `[health]`.
pub const HEALTH: &[&str] = &[
    "name",
    "http",
    "tcp",
    "run",
    "body_contains",
    "attempts",
    "interval",
    "timeout",
    "successes",
    "settle",
    "advisory",
    "roles",
];
/// `[preflight]`.
pub const PREFLIGHT: &[&str] = &["name", "enabled", "port_env", "roles"];
/// `[retain]`.
pub const RETAIN: &[&str] = &["releases"];

/// All of them, with the name of their table.
pub const ALL: &[(&str, &[&str])] = &[
    ("recipe", RECIPE),
    ("version", VERSION),
    ("build", BUILD),
    ("layer", LAYER),
    ("layer.files", FILES),
    ("env", ENV),
    ("paths", PATHS),
    ("step", STEP),
    ("start", START),
    ("start.stop", STOP),
    ("health", HEALTH),
    ("preflight", PREFLIGHT),
    ("retain", RETAIN),
];
