//! The text of a state file into [`DesiredState`].

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use jiff::Timestamp;
use landfall_store::{ArtifactId, Name};

use super::model::{AppState, Blocked, EnvironmentState, HealthLimits, Presence, Suspend, Target};
use super::{API_VERSION, STATE_BYTES_MAX, keys};
use crate::document::{Document, Notation, Problem, ProblemKind, Table, Value, parse_json};

/// Characters of a reason or a name of a person: what fits a status line several times over.
const TEXT_CHARS_MAX: usize = 1_000;
/// The largest whole number every JSON reader holds exactly.
const SERIAL_MAX: u64 = (1 << 53) - 1;
/// Releases a state may keep.
const RETAIN_MAX: u32 = 1_000;

/// Why one app's part is refused. It holds that app and no other.
pub type AppError = Problem;

/// Why there is no desired state at all.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The text is not a state, whichever app is asked about.
    #[error(transparent)]
    Invalid(#[from] Problem),
    /// No such file.
    #[error("{path}: there is no state file here")]
    Missing {
        /// Which file.
        path: PathBuf,
    },
    /// Too large to be one.
    #[error("{path}: {bytes} bytes are no state: at most {STATE_BYTES_MAX}")]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// How large it is.
        bytes: u64,
    },
    /// Bytes that are not text.
    #[error("{path}: the state is not UTF-8")]
    NotUtf8 {
        /// Which file.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl StateError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Invalid(problem) => problem.hint(),
            Self::Missing { .. } => Some("`landfall deploy` writes one"),
            Self::TooLarge { .. } | Self::NotUtf8 { .. } | Self::Unreadable { .. } => None,
        }
    }
}

/// What every app should run.
#[derive(Debug, Clone)]
pub struct DesiredState {
    /// Never goes down between two accepted states.
    pub serial: Option<u64>,
    /// After this time the state is reported as stale; nothing stops for it.
    pub not_after: Option<Timestamp>,
    /// Every app of the file, or why its part is refused.
    pub apps: BTreeMap<Name, Result<AppState, AppError>>,
}

impl DesiredState {
    /// Parses a state. `path` is only named in problems.
    pub fn parse(text: &str, path: &Path) -> Result<Self, StateError> {
        if text.len() as u64 > STATE_BYTES_MAX {
            return Err(StateError::TooLarge { path: path.to_owned(), bytes: text.len() as u64 });
        }
        let root = parse_json(text, path)?;
        let document = Document { file: path, text, notation: Notation::Json };
        Ok(state(&document.root(&root))?)
    }

    /// Parses the bytes of a state file.
    pub fn parse_bytes(bytes: &[u8], path: &Path) -> Result<Self, StateError> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::parse(text, path),
            Err(_) => Err(StateError::NotUtf8 { path: path.to_owned() }),
        }
    }

    /// Reads and parses a state file.
    pub fn read(path: &Path) -> Result<Self, StateError> {
        Self::parse_bytes(&read_bytes(path)?, path)
    }
}

fn state(root: &Value<'_>) -> Result<DesiredState, Problem> {
    // The version first: of a newer file nothing else can be judged.
    api_version(root.map()?.need("apiVersion")?)?;
    let table = root.table(keys::STATE)?;
    Ok(DesiredState {
        serial: table.read("serial", |serial| serial.integer(0, SERIAL_MAX))?,
        not_after: table.read("not_after", time)?,
        apps: apps(&table.need("apps")?)?,
    })
}

fn api_version(value: Value<'_>) -> Result<(), Problem> {
    let text = value.text()?;
    if text == API_VERSION {
        return Ok(());
    }
    let number = |text: &str| text.strip_prefix("landfall/v")?.parse::<u32>().ok();
    let reads = format!("landfall {} reads {API_VERSION}", env!("CARGO_PKG_VERSION"));
    let what = match number(text) {
        Some(newer) if newer > 1 => format!("`{text}` is newer than this program: {reads}"),
        _ => format!("`{text}` is not a format of this file: {reads}"),
    };
    let hint = match number(text) {
        Some(newer) if newer > 1 => {
            format!("upgrade landfall on this machine to one that reads {text}; nothing was changed")
        }
        _ => format!("\"apiVersion\": \"{API_VERSION}\""),
    };
    Err(value.problem(ProblemKind::Version, what).with_hint(hint))
}

fn apps(value: &Value<'_>) -> Result<BTreeMap<Name, Result<AppState, AppError>>, Problem> {
    let mut apps = BTreeMap::new();
    for (key, value) in value.map()?.entries() {
        apps.insert(name(key, &value, "app")?, app(&value));
    }
    if apps.is_empty() {
        return Err(value
            .invalid("there is no app in it")
            .with_hint("an app is removed from hosts by \"state\": \"absent\", never by leaving it out"));
    }
    Ok(apps)
}

fn name(key: &str, value: &Value<'_>, kind: &str) -> Result<Name, Problem> {
    key.parse()
        .map_err(|error: landfall_store::name::NameError| value.invalid(format!("the {kind}: {error}")))
}

fn app(value: &Value<'_>) -> Result<AppState, AppError> {
    let table = value.table(keys::APP)?;
    let state = table.read("state", presence)?.unwrap_or_default();
    let environments = match (table.get("environments"), state) {
        (None, Presence::Absent) => BTreeMap::new(),
        (None, Presence::Present) => {
            return Err(table.need("environments").err().unwrap_or_else(|| value.invalid("no environments")));
        }
        (Some(environments), _) => read_environments(&environments)?,
    };
    let blocked = table.read("blocked", |list| list.list()?.iter().map(read_blocked).collect())?;
    Ok(AppState { environments, blocked: blocked.unwrap_or_default(), state })
}

fn read_environments(value: &Value<'_>) -> Result<BTreeMap<Name, EnvironmentState>, Problem> {
    let mut environments = BTreeMap::new();
    for (key, value) in value.map()?.entries() {
        environments.insert(name(key, &value, "environment")?, environment(&value)?);
    }
    Ok(environments)
}

fn environment(value: &Value<'_>) -> Result<EnvironmentState, Problem> {
    let table = value.table(keys::ENVIRONMENT)?;
    let state = table.read("state", presence)?.unwrap_or_default();
    if state == Presence::Present {
        table.need("target")?;
    }
    Ok(EnvironmentState {
        target: table.read("target", target)?,
        suspend: table.read("suspend", suspend)?,
        reconcile_requested_at: table.read("reconcileRequestedAt", time)?,
        retain: table.read("retain", |retain| retain.count(1, RETAIN_MAX))?,
        health: table.read("health", health)?,
        state,
    })
}

fn target(value: &Value<'_>) -> Result<Target, Problem> {
    let table = value.table(keys::TARGET)?;
    Ok(Target {
        artifact: artifact(&table.need("artifact")?)?,
        version: table.read("version", Value::parse)?,
        reason: table.read("reason", words)?,
        by: table.read("by", words)?,
    })
}

fn artifact(value: &Value<'_>) -> Result<ArtifactId, Problem> {
    let text = value.text()?;
    text.parse().map_err(|error: <ArtifactId as FromStr>::Err| {
        let hex = text.strip_prefix("b3:").unwrap_or(text);
        let abbreviated = hex.len() < 64 && !hex.is_empty() && hex.chars().all(|c| c.is_ascii_hexdigit());
        if abbreviated {
            value
                .invalid(format!("`{text}` is an abbreviated id; the state names artifacts in full"))
                .with_hint(
                    "`landfall deploy` takes a prefix and writes the full id; `landfall show` prints it",
                )
        } else {
            value.invalid(error.to_string())
        }
    })
}

fn suspend(value: &Value<'_>) -> Result<Suspend, Problem> {
    let table = value.table(keys::SUSPEND)?;
    Ok(Suspend {
        reason: words(&table.need("reason")?)?,
        by: words(&table.need("by")?)?,
        until: table.read("until", time)?,
    })
}

fn read_blocked(value: &Value<'_>) -> Result<Blocked, Problem> {
    let table = value.table(keys::BLOCKED)?;
    Ok(Blocked {
        artifact: artifact(&table.need("artifact")?)?,
        reason: words(&table.need("reason")?)?,
        by: words(&table.need("by")?)?,
    })
}

fn health(value: &Value<'_>) -> Result<HealthLimits, Problem> {
    let table: Table<'_> = value.table(keys::HEALTH)?;
    Ok(HealthLimits {
        attempts: table.read("attempts", |n| n.count(1, 10_000))?,
        interval: table.read("interval", Value::duration)?,
        timeout: table.read("timeout", Value::duration)?,
        successes: table.read("successes", |n| n.count(1, 1_000))?,
        settle: table.read("settle", Value::duration)?,
    })
}

fn presence(value: &Value<'_>) -> Result<Presence, Problem> {
    match value.text()? {
        "present" => Ok(Presence::Present),
        "absent" => Ok(Presence::Absent),
        other => Err(value.invalid(format!("`{other}` is neither `present` nor `absent`"))),
    }
}

/// Free text: something, not too much, and nothing that rewrites a terminal.
fn words(value: &Value<'_>) -> Result<String, Problem> {
    let text = value.text()?;
    if text.trim().is_empty() {
        return Err(value.invalid("the text is empty"));
    }
    if text.chars().count() > TEXT_CHARS_MAX {
        return Err(value.invalid(format!("more than {TEXT_CHARS_MAX} characters")));
    }
    if text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
        return Err(value.invalid("the text holds a control character"));
    }
    Ok(text.to_owned())
}

fn time(value: &Value<'_>) -> Result<Timestamp, Problem> {
    parsed(value, value.text()?)
        .map_err(|problem| problem.with_hint("a time is written \"2026-11-20T09:00:00Z\""))
}

fn parsed<T: FromStr<Err: Display>>(value: &Value<'_>, text: &str) -> Result<T, Problem> {
    text.parse().map_err(|error: T::Err| value.invalid(error.to_string()))
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, StateError> {
    let unreadable = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::NotFound => StateError::Missing { path: path.to_owned() },
        _ => StateError::Unreadable { path: path.to_owned(), source },
    };
    let bytes = std::fs::metadata(path).map_err(unreadable)?.len();
    if bytes > STATE_BYTES_MAX {
        return Err(StateError::TooLarge { path: path.to_owned(), bytes });
    }
    std::fs::read(path).map_err(unreadable)
}
