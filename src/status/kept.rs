//! When conditions changed, kept over restarts.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::conditions::{Condition, ConditionStatus, Kind};
use super::{Around, Status, assess, look};
use crate::disk::{Disk, RealDisk};
use crate::layout::AppDir;
use crate::record::RecordError;
use crate::record::sealed::{self, Sealed};
use crate::watch::Site;

/// Conditions as the agent last saw them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptConditions {
    items: Vec<Kept>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    #[serde(rename = "type")]
    kind: Kind,
    status: ConditionStatus,
    reason: String,
    since: Timestamp,
}

impl Sealed for KeptConditions {
    const KIND: &'static str = "conditions";
}

impl KeptConditions {
    /// What was last kept of this app. What cannot be read is only a time that is not known.
    pub(super) fn read(dir: &AppDir) -> Self {
        sealed::read(&RealDisk, &dir.conditions()).ok().flatten().unwrap_or_default()
    }

    /// Since when a condition has this status, if that was kept.
    pub(super) fn since(&self, kind: Kind, status: ConditionStatus) -> Option<Timestamp> {
        self.items.iter().find(|item| item.kind == kind && item.status == status).map(|item| item.since)
    }

    /// What is to be kept now; equal to `self` while no status and no reason changed.
    pub(super) fn after(&self, conditions: &[Condition], now: Timestamp) -> Self {
        let kept = |condition: &Condition| Kept {
            kind: condition.kind,
            status: condition.status,
            reason: condition.reason.clone(),
            since: self.since(condition.kind, condition.status).unwrap_or(now),
        };
        Self { items: conditions.iter().map(kept).collect() }
    }

    fn write(&self, disk: &dyn Disk, dir: &AppDir) -> Result<(), RecordError> {
        sealed::write(disk, &dir.conditions(), self)
    }
}

/// Notes, durably, which conditions changed since the last call. For the agent, after each tick, under the
/// lock; at rest it writes nothing. Returns the status it saw.
pub async fn record(site: &Site, around: &Around) -> Result<Status, RecordError> {
    let view = look(site, around).await?;
    let status = assess(&view);
    let now = view.kept.after(&status.conditions, view.now);
    if now != view.kept {
        now.write(&RealDisk, &site.dir)?;
    }
    Ok(status)
}

/// The same where nothing depends on it: reporting never decides. What cannot be noted is logged.
pub async fn report(site: &Site, around: &Around) {
    if let Err(error) = record(site, around).await {
        tracing::warn!(app = %site.service.app, %error, "the conditions could not be noted; nothing depends on it");
    }
}
