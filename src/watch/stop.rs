//! An agent that was told to stop says so in the journal of every attempt it leaves behind. The next one goes on
//! with them and does not take the stop for a crash, which would count against the release on trial.

use landfall_store::Name;
use tracing::{info, warn};

use crate::disk::{Disk, RealDisk};
use crate::host::Host;
use crate::layout::AppDir;
use crate::record::RecordError;
use crate::record::journal::Journal;

/// Notes it, as far as that can be done.
pub(super) fn note(host: &Host, environment: &Name) {
    let names = RealDisk.list(&host.root.apps()).unwrap_or_default();
    for app in names.iter().filter_map(|name| name.parse::<Name>().ok()) {
        let config = host.config.app(&app).unwrap_or_default();
        match mark(&host.root.app(&app, environment, config.dir.as_deref())) {
            Ok(Some(journal)) => {
                info!(%app, attempt = journal.attempt, stage = %journal.stage, "left to the next agent");
            }
            Ok(None) => {}
            Err(error) => warn!(%app, %error, "the next agent will take this stop for a crash"),
        }
    }
}

fn mark(dir: &AppDir) -> Result<Option<Journal>, RecordError> {
    let Some(journal) = Journal::read(&RealDisk, dir)? else { return Ok(None) };
    let journal = Journal { stopped: true, ..journal };
    journal.write(&RealDisk, dir)?;
    Ok(Some(journal))
}
