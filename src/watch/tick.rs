//! One tick of one app, as the loop starts it.

use std::rc::Rc;

use super::apps::Wanted;
use super::service::Site;
use crate::deploy::Asking;
use crate::disk::RealDisk;
use crate::layout::AppDir;
use crate::pending::Pending;
use crate::plan::Desired;
use crate::reconcile::Tick;
use crate::record::RecordError;
use crate::record::journal::{Journal, Stage};
use crate::source::Source;
use crate::status::Around;

/// One tick, and the conditions it leaves.
pub(super) async fn tick(
    site: &Site,
    wanted: &Rc<Wanted>,
    source: &Source,
    around: Around,
) -> Result<Tick, RecordError> {
    let asked = wanted.now.borrow().clone();
    let newer = || supersedes(&wanted.now.borrow(), &asked, || is_untouched(&site.dir));
    let change = || -> Pending<'static, ()> {
        let wanted = Rc::clone(wanted);
        Box::pin(async move { wanted.change.notified().await })
    };
    let commit = || -> Pending<'static, Option<String>> {
        let source = source.clone();
        Box::pin(async move { source.commit().await })
    };
    let asking = Asking { newer: &newer, change: &change, commit: &commit };
    let tick = site.tick(asked.clone(), asking).await?;
    crate::status::report(site, &around).await;
    Ok(tick)
}

/// Whether what is wanted now makes an attempt at what was asked pointless. Another artifact does, a pin, and a
/// block of this one; words about it do not. A suspension ends it as long as what runs is untouched: afterwards
/// a verdict is needed.
fn supersedes(now: &Desired, asked: &Desired, is_untouched: impl FnOnce() -> bool) -> bool {
    match (asked, now) {
        (_, Desired::Suspended { .. }) => is_untouched(),
        (_, Desired::Blocked { .. } | Desired::Absent) => true,
        (Desired::Pinned { pin: asked, .. }, Desired::Pinned { pin: now, .. }) => {
            asked.release != now.release
        }
        (_, Desired::Pinned { .. }) | (Desired::Pinned { .. }, Desired::Target(_)) => true,
        (Desired::Target(asked), Desired::Target(now)) => asked.artifact != now.artifact,
        (_, Desired::Target(_) | Desired::NotInState | Desired::Invalid(_)) => false,
    }
}

/// Whether the attempt in progress has not come to the switch yet.
fn is_untouched(dir: &AppDir) -> bool {
    matches!(Journal::read(&RealDisk, dir), Ok(Some(journal)) if journal.stage < Stage::Switching)
}
