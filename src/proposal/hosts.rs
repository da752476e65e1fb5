//! What hosts that report say to a change.

use std::collections::HashMap;

use landfall_store::{ArtifactId, Name, StoreError};

use super::weigh::{Known, Scales, conflict, fetch_of};
use super::{Action, Fetch, OnHost, Proposed};
use crate::fleet::{AppReport, Glance, HostReport};

/// Fetches that were planned, by what runs and by roles: hosts are much alike.
type Planned = HashMap<(Option<ArtifactId>, Vec<Name>), Fetch>;

/// Asks every host of this environment that reports the app.
pub(super) fn ask(proposed: &mut Proposed, new: Option<&Known>, scales: &Scales<'_>) {
    let environment = proposed.environment.clone();
    let mut planned = Planned::new();
    for host in scales.hosts.iter().filter(|host| host.environment == environment) {
        let Some(app) = host.apps.iter().find(|app| app.app == proposed.app) else { continue };
        let Some(glance) = app.glance() else {
            let name = &host.host;
            proposed.unknown.push(format!("{name}: it reports in the form of another version of landfall"));
            continue;
        };
        if let Some(new) = new {
            note_conflicts(proposed, &host.host, app, new);
        }
        let fetch = match new.filter(|_| proposed.action == Action::Deploy) {
            None => None,
            Some(new) => match plan(&mut planned, host, &glance, new, scales) {
                Ok(fetch) => Some(fetch),
                Err(error) => {
                    proposed.unknown.push(format!("{}: bytes to fetch: {error}", host.host));
                    None
                }
            },
        };
        let is_other = |healthy: &ArtifactId| new.is_none_or(|new| new.id != *healthy);
        proposed.hosts.push(OnHost {
            host: host.host.clone(),
            roles: host.roles.clone(),
            reported: host.reported,
            overdue: host.is_overdue(scales.now),
            running: glance.running,
            fetch,
            revert_target: app.artifact("last_healthy").filter(is_other),
        });
    }
}

fn plan(
    planned: &mut Planned,
    host: &HostReport,
    glance: &Glance,
    new: &Known,
    scales: &Scales<'_>,
) -> Result<Fetch, StoreError> {
    let running = glance.running.as_ref().map(|running| running.artifact);
    let key = (running, host.roles.clone());
    if let Some(fetch) = planned.get(&key) {
        return Ok(*fetch);
    }
    let running = running.map(|running| Known::read(scales.store, running)).transpose()?;
    let fetch = fetch_of(scales, running.as_ref(), new, &host.environment, Some(&host.roles))?;
    planned.insert(key, fetch);
    Ok(fetch)
}

fn note_conflicts(proposed: &mut Proposed, host: &Name, app: &AppReport, new: &Known) {
    if app.quarantined.contains(&new.id) {
        let message = match proposed.action {
            Action::Deploy => "it failed there before; a change of the target lets it have one more attempt",
            _ => "it failed there, and is not tried again",
        };
        conflict(proposed, "Quarantined", Some(host), message.to_owned());
    }
    for (key, reason) in [("suspended", "Suspended"), ("pinned", "Pinned")] {
        if let Some(why) = app.held(key) {
            conflict(proposed, reason, Some(host), format!("{key} on that host: {why}"));
        }
    }
}
