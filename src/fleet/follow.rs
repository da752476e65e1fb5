//! A change followed on every host that reports, by what hosts leave in the store. Pure but for the reading.

use std::collections::BTreeMap;

use jiff::Timestamp;
use landfall_store::{ArtifactId, Name, Store, StoreError};

use super::{AppReport, HostReport, history, read};
use crate::record::history::{Entry, Outcome};

/// How a host stands to the artifact that is followed.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// An attempt on it ended.
    Attempt(Box<Entry>),
    /// It runs there already.
    InSync,
    /// It failed there before, and is not tried again.
    Quarantined,
    /// A person suspended or pinned the app there.
    Held(String),
}

/// One host as it was before the change.
#[derive(Debug, Clone)]
struct Before {
    attempt: u64,
    entries: u64,
}

/// Hosts of one environment that report one app, from before a change on.
pub struct FleetFollow<'a> {
    store: &'a Store,
    app: &'a Name,
    environment: &'a Name,
    pending: BTreeMap<Name, Before>,
    /// Hosts that should have reported again by now, and are not waited for.
    pub silent: Vec<Name>,
}

impl<'a> FleetFollow<'a> {
    /// Looks, before the state is changed. `None`: no host of this environment reports the app.
    pub fn begin(
        store: &'a Store,
        app: &'a Name,
        environment: &'a Name,
        now: Timestamp,
    ) -> Result<Option<Self>, StoreError> {
        let hosts: Vec<HostReport> = read::hosts(store)?
            .into_iter()
            .filter_map(|host| host.report.ok())
            .filter(|host| host.environment == *environment)
            .collect();
        // A first deploy is of no app that any host reports yet.
        let knows = |host: &HostReport| host.apps.iter().any(|known| known.app == *app);
        let some = hosts.iter().any(knows);
        let (mut pending, mut silent) = (BTreeMap::new(), Vec::new());
        for host in hosts.iter().filter(|host| !some || knows(host)) {
            // One that reports only when somebody asks it to is not followed: nobody does.
            if host.every_ms == 0 || host.is_overdue(now) {
                silent.push(host.host.clone());
                continue;
            }
            let entries = app_of(host, app).map_or(0, |known| known.history.entries);
            let attempt = history(store, host, app).ok().and_then(|found| Some(found.last()?.attempt));
            pending.insert(host.host.clone(), Before { attempt: attempt.unwrap_or(0), entries });
        }
        let follow = Self { store, app, environment, pending, silent };
        Ok((!follow.pending.is_empty()).then_some(follow))
    }

    /// Hosts without a verdict.
    pub fn pending(&self) -> impl Iterator<Item = &Name> {
        self.pending.keys()
    }

    /// Looks once more; gives back the hosts that have come to a verdict since. A report that cannot be read now is
    /// looked for the next time.
    pub fn look(&mut self, artifact: &ArtifactId) -> Result<Vec<(Name, Verdict)>, StoreError> {
        let mut ended = Vec::new();
        for (host, before) in &self.pending {
            let Some(report) = read::host(self.store, host, self.environment)? else { continue };
            if let Some(verdict) = self.verdict(&report, before, artifact) {
                ended.push((host.clone(), verdict));
            }
        }
        for (host, _) in &ended {
            self.pending.remove(host);
        }
        Ok(ended)
    }

    fn verdict(&self, report: &HostReport, before: &Before, artifact: &ArtifactId) -> Option<Verdict> {
        let app = app_of(report, self.app)?;
        if app.history.entries != before.entries
            && let Ok(history) = history(self.store, report, self.app)
            && let Some(entry) = newest(history.entries(), before.attempt, artifact)
        {
            return Some(Verdict::Attempt(Box::new(entry.clone())));
        }
        standing(app, artifact)
    }
}

fn app_of<'r>(report: &'r HostReport, app: &Name) -> Option<&'r AppReport> {
    report.apps.iter().find(|known| known.app == *app)
}

/// The newest attempt on the artifact since then that came to an end of its own.
fn newest<'e>(entries: &'e [Entry], since: u64, artifact: &ArtifactId) -> Option<&'e Entry> {
    let newer = entries.iter().rev().take_while(|entry| entry.attempt > since);
    let mut ended =
        newer.filter(|entry| entry.target.artifact == *artifact && entry.result != Outcome::Interrupted);
    ended.next()
}

/// What a host says of an artifact that it has read the state about, where no attempt comes of it.
fn standing(app: &AppReport, artifact: &ArtifactId) -> Option<Verdict> {
    for key in ["suspended", "pinned"] {
        if let Some(why) = app.held(key) {
            return Some(Verdict::Held(format!("{key}: {why}")));
        }
    }
    let glance = app.glance()?;
    if glance.desired.as_ref().map(|desired| desired.artifact) != Some(*artifact) {
        return None;
    }
    if app.quarantined.contains(artifact) {
        return Some(Verdict::Quarantined);
    }
    let runs = glance.running.as_ref().is_some_and(|running| running.artifact == *artifact);
    (runs && glance.sync == "Synced" && glance.health == "Healthy").then_some(Verdict::InSync)
}

#[cfg(test)]
mod tests {
    use landfall_store::Digest;
    use serde_json::{Value, json};

    use super::*;
    use crate::fleet::Chain;

    fn app(status: &Value, quarantined: &[&str]) -> AppReport {
        let mut whole =
            json!({"sync": "Synced", "health": "Healthy", "operation": "Idle", "message": "", "next": null});
        for (key, value) in status.as_object().unwrap() {
            whole[key] = value.clone();
        }
        AppReport {
            app: "web".parse().unwrap(),
            status: whole,
            quarantined: quarantined.iter().map(|name| id(name)).collect(),
            history: Chain { entries: 0, last: Digest::of(b"") },
        }
    }

    fn id(name: &str) -> ArtifactId {
        ArtifactId::of(name.as_bytes())
    }

    fn named(name: &str) -> Value {
        json!({"artifact": id(name), "version": "1"})
    }

    #[test]
    fn a_host_that_has_nothing_to_do_says_why_and_one_that_has_not_read_the_state_says_nothing() {
        let says = |status: &Value, quarantined: &[&str]| standing(&app(status, quarantined), &id("new"));
        let runs =
            |desired: &str, running: &str| json!({"desired": named(desired), "running": named(running)});
        assert_eq!(says(&runs("new", "new"), &[]), Some(Verdict::InSync));
        assert_eq!(says(&runs("old", "old"), &[]), None, "the change has not come there");
        assert_eq!(says(&runs("new", "old"), &[]), None, "it is being brought there");
        assert_eq!(says(&runs("new", "old"), &["new"]), Some(Verdict::Quarantined));
        assert_eq!(says(&runs("old", "old"), &["new"]), None, "it gets one more attempt");
        let mut held = runs("old", "old");
        held["suspended"] = json!({"reason": "fair", "by": "lee", "place": "host"});
        assert_eq!(says(&held, &[]), Some(Verdict::Held("suspended: fair (lee)".to_owned())));
        assert_eq!(says(&json!({"sync": 1}), &[]), None, "another form of status");
    }
}
