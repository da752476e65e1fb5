//! `[report]`: whether this host leaves word of itself in the store.

use std::path::{Path, PathBuf};

use super::{keys, relative_to};
use crate::document::{Problem, Value};
use crate::spec::Millis;

/// Time between two reports without any news: a dashboard that is five minutes old is still one.
const EVERY: Millis = Millis(300_000);
/// Below this a thousand hosts are a load on their store.
const EVERY_MS_MIN: u64 = 10_000;

/// How this host reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportConfig {
    /// After how long it reports again at the latest; after every attempt it does so at once.
    pub every: Millis,
    /// A file with the token that an HTTP store asks of whoever writes below `status/`.
    pub token_file: Option<PathBuf>,
}

/// `None`: it does not report.
pub(super) fn read(value: &Value<'_>, base: &Path) -> Result<Option<ReportConfig>, Problem> {
    let table = value.table(keys::REPORT)?;
    let to = table.need("to")?;
    let config = ReportConfig {
        every: table.read("every", every)?.unwrap_or(EVERY),
        token_file: table.read("token_file", |file| relative_to(base, file))?,
    };
    match to.text()? {
        "store" => Ok(Some(config)),
        "off" => Ok(None),
        _ => Err(to.invalid("a host reports to its \"store\", or reporting is \"off\"")),
    }
}

fn every(value: &Value<'_>) -> Result<Millis, Problem> {
    let every = value.duration()?;
    if every.0 < EVERY_MS_MIN {
        return Err(value.invalid("the shortest time between two reports is 10s"));
    }
    Ok(every)
}
