//! What this host's agent would do next for one app, found out without doing it.

use jiff::Timestamp;
use landfall_store::Name;

use crate::config::OnEnvChange;
use crate::control;
use crate::disk::RealDisk;
use crate::host::{Host, Secret};
use crate::observe;
use crate::plan::{Current, Desired, Facts, Plan, Recent, Running, decide};
use crate::record::controls::Fresh;
use crate::record::journal::Journal;
use crate::record::quarantine::Quarantine;
use crate::record::release::ReleaseRecord;
use crate::retry::Patience;
use crate::watch::{Accepted, AgentError, Shared, desired};

/// The decision, and all it rests on.
#[derive(Debug)]
pub struct Outlook {
    /// What was seen.
    pub facts: Facts,
    /// What the agent would do.
    pub plan: Plan,
    /// The release that is linked now, in full.
    pub current: Option<ReleaseRecord>,
    /// The attempt in progress, or cut short: it comes first.
    pub journal: Option<Journal>,
    /// No landfall ever worked here, so identities of releases are not known yet.
    pub new_host: bool,
}

/// Looks, as often as asked, at what the state means here.
pub async fn outlook(
    host: &Host,
    environment: &Name,
    accepted: &Accepted,
    app: &Name,
) -> Result<Outlook, AgentError> {
    let wanted = desired(accepted, app, environment);
    let Some(secret) = host.secret()?.filter(|_| has_cache(host)) else {
        return Ok(on_a_new_host(wanted));
    };
    on_a_known_host(host, environment, accepted, app, wanted, secret).await
}

/// Opening a cache makes one; looking must not.
fn has_cache(host: &Host) -> bool {
    host.root.path().join("objects").is_dir()
}

fn on_a_new_host(wanted: Desired) -> Outlook {
    let facts = Facts {
        desired: wanted,
        current: Current::Absent,
        left: None,
        running: Running::No,
        candidate: None,
        healthy: Vec::new(),
        quarantine: Quarantine::default(),
        recent: Recent::default(),
        deploy_env_changes: false,
        fresh: Fresh::default(),
    };
    Outlook { plan: decide(&facts), facts, current: None, journal: None, new_host: true }
}

async fn on_a_known_host(
    host: &Host,
    environment: &Name,
    accepted: &Accepted,
    app: &Name,
    wanted: Desired,
    secret: Secret,
) -> Result<Outlook, AgentError> {
    let shared = Shared::with_secret(host.clone(), environment.clone(), secret, Patience::Once)?;
    let site = shared.site(app, accepted.tuning(app, environment))?;
    let mut seen = site.app()?;
    let now = Timestamp::now();
    let wanted = wanted.under(&seen.controls, now);
    let fresh = control::foresee(&mut seen, &wanted, site.terms().requested, now);
    // As the agent will: what the state has left behind gets one more attempt.
    if let Desired::Target(target) = &wanted {
        seen.quarantine.moved_to(target.artifact);
    }
    let config = host.config.app(app).unwrap_or_default();
    let deploys_env = config.on_env_change == OnEnvChange::Deploy;
    let facts = observe::facts(&seen, site.effects(), wanted, fresh, deploys_env).await;
    let (_, current) = observe::current(&seen, site.effects()).await;
    let journal = Journal::read(&RealDisk, &site.dir)?;
    Ok(Outlook { plan: decide(&facts), facts, current, journal, new_host: false })
}
