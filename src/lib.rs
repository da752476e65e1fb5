//! landfall: deploys backends to plain hosts the git-ops way.
//!
//! Data flows one way: [`recipe`](crate::spec) and files → artifact → store; desired state → accepted →
//! observe → decide → plan → fetch → release → switch → start → health → record.

pub mod adopt;
pub mod adopted;
pub mod archive;
pub mod audit;
pub mod changes;
pub mod cli;
pub mod commit;
pub mod config;
pub mod control;
pub mod deploy;
pub mod desired;
pub mod diff;
pub mod disk;
pub mod document;
pub mod door;
pub mod effects;
pub mod env;
pub mod failpoint;
pub mod fleet;
pub mod follow;
pub mod gc;
pub mod health;
pub mod host;
pub mod install;
pub mod inventory;
pub mod layout;
pub mod log;
pub mod observe;
pub mod outlook;
mod own_logs;
pub mod pack;
pub mod pending;
pub mod plan;
pub mod preview;
pub mod proc;
pub mod processes;
pub mod quickstart;
pub mod recipe;
pub mod reconcile;
pub mod record;
pub mod recover;
pub mod release;
pub mod retry;
pub mod serve;
pub mod source;
pub mod spec;
pub mod start;
pub mod state;
pub mod status;
pub mod step;
pub mod switch;
mod systemd;
pub mod tail;
pub mod watch;
