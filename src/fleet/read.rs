//! Reading what hosts left, and checking it.

use landfall_store::reports::{self, Document};
use landfall_store::{Digest, Name, Store, StoreError};

use super::{Chain, HostReport, SEGMENT_ENTRIES};
use crate::record::history::History;

/// A host that left a report; an error says why it cannot be used.
#[derive(Debug)]
pub struct Reported {
    /// The host, as its place says.
    pub host: Name,
    /// Its environment.
    pub environment: Name,
    /// What it says.
    pub report: Result<HostReport, ReadError>,
}

/// Why a report is not believed.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It cannot be had.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is no report, or another host's.
    #[error("its report cannot be read: {0}")]
    Unreadable(String),
    /// Its acceptances are no chain.
    #[error("what operators accepted there cannot be believed: {0}")]
    Acceptances(String),
    /// A history that does not hold what the report says it does.
    #[error("the reported history of `{app}` is broken: {why}")]
    Broken {
        /// Which app.
        app: Name,
        /// What is wrong with it.
        why: String,
    },
}

/// Every host that reports, in order of names.
pub fn hosts(store: &Store) -> Result<Vec<Reported>, StoreError> {
    let mut found = Vec::new();
    for document in reports::list(store)? {
        let Document::Host { host, environment } = &document else { continue };
        let report = match reports::get(store, &document) {
            Ok(Some(bytes)) => parse(&bytes, host, environment),
            // Removed since it was listed.
            Ok(None) => continue,
            Err(error) => Err(error.into()),
        };
        found.push(Reported { host: host.clone(), environment: environment.clone(), report });
    }
    Ok(found)
}

/// What a host left, if it can be used.
pub(super) fn host(store: &Store, host: &Name, environment: &Name) -> Result<Option<HostReport>, StoreError> {
    let place = Document::Host { host: host.clone(), environment: environment.clone() };
    Ok(reports::get(store, &place)?.and_then(|bytes| parse(&bytes, host, environment).ok()))
}

fn parse(bytes: &[u8], host: &Name, environment: &Name) -> Result<HostReport, ReadError> {
    let report: HostReport =
        serde_json::from_slice(bytes).map_err(|error| ReadError::Unreadable(error.to_string()))?;
    if report.host != *host || report.environment != *environment {
        let why = format!("it is of {} in {}", report.host, report.environment);
        return Err(ReadError::Unreadable(why));
    }
    Ok(report)
}

/// The history of one app, with every link of its chain checked, and up to the entry that the report names at
/// least.
pub fn history(store: &Store, report: &HostReport, app: &Name) -> Result<History, ReadError> {
    let Some(chain) = report.apps.iter().find(|known| known.app == *app).map(|known| known.history) else {
        return Ok(History::default());
    };
    let broken = |why: String| ReadError::Broken { app: app.clone(), why };
    let mut bytes = Vec::new();
    let entries = usize::try_from(chain.entries).map_err(|_| broken("its length is absurd".to_owned()))?;
    for number in 0..entries.div_ceil(SEGMENT_ENTRIES) {
        let document = report.segment(app, number);
        let part = reports::get(store, &document)?;
        bytes.extend(part.ok_or_else(|| broken(format!("{} is missing", document.key())))?);
    }
    let history = History::parse(&bytes).map_err(broken)?;
    reaches(chain, history.hashes()).map_err(broken)?;
    Ok(history)
}

/// Whether a chain goes as far as it was said to. It may go further: the report is written after it.
fn reaches(chain: Chain, hashes: &[Digest]) -> Result<(), String> {
    let entries = usize::try_from(chain.entries).unwrap_or(usize::MAX);
    match entries.checked_sub(1).map(|last| hashes.get(last)) {
        None => Ok(()),
        Some(Some(hash)) if *hash == chain.last => Ok(()),
        Some(Some(_)) => Err(format!("entry {entries} is not the one that the report names")),
        Some(None) => Err(format!("{} entries are left of {entries}", hashes.len())),
    }
}
