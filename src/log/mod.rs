//! landfall's own log, on stderr, and how much it says.

mod journal;

use std::io::IsTerminal;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use tracing_subscriber::filter::{EnvFilter, LevelFilter};

/// What was asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Log {
    /// The level where `RUST_LOG` says nothing: `error`, `warn`, `info`, `debug`.
    pub level: String,
    /// JSON lines instead of text.
    pub json: bool,
}

static CHOSEN: OnceLock<Log> = OnceLock::new();

/// What this process logs; before [`init`], warnings.
pub fn chosen() -> Log {
    CHOSEN.get().cloned().unwrap_or_else(|| Log { level: "warn".to_owned(), json: false })
}

/// Begins to log. Only the first call counts.
pub fn init(log: Log) {
    let log = CHOSEN.get_or_init(|| log);
    let default = log.level.parse().unwrap_or_else(|_| LevelFilter::WARN.into());
    let filter = EnvFilter::builder().with_default_directive(default).from_env_lossy();
    let coloured = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let subscriber =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(coloured);
    // An error says that this process logs already.
    let _ = match (log.json, journal::has_stderr()) {
        (true, _) => subscriber.json().try_init(),
        (false, true) => subscriber.event_format(journal::ForJournal::new()).try_init(),
        (false, false) => subscriber.with_target(false).compact().try_init(),
    };
}
