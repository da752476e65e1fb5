//! One tick of one app, as the loop starts it.

use std::rc::Rc;

use super::apps::Wanted;
use super::service::Site;
use crate::deploy::Asking;
use crate::pending::Pending;
use crate::plan::Desired;
use crate::reconcile::Tick;
use crate::record::RecordError;
use crate::source::file::FileSource;
use crate::status::Around;

/// One tick, and the conditions it leaves.
pub(super) async fn tick(
    site: &Site,
    wanted: &Rc<Wanted>,
    source: &FileSource,
    around: Around,
) -> Result<Tick, RecordError> {
    let asked = wanted.now.borrow().clone();
    let newer = || supersedes(&wanted.now.borrow(), &asked);
    let change = || -> Pending<'static, ()> {
        let wanted = Rc::clone(wanted);
        Box::pin(async move { wanted.change.notified().await })
    };
    let asking = Asking { newer: &newer, change: &change, commit: &|| source.commit() };
    let tick = site.tick(asked.clone(), asking).await?;
    crate::status::record(site, &around).await?;
    Ok(tick)
}

/// Whether what is wanted now makes an attempt at what was asked pointless. Another artifact does, and a block
/// of this one; words about it do not, and an attempt in flight is finished when the app is suspended.
fn supersedes(now: &Desired, asked: &Desired) -> bool {
    match (asked, now) {
        (Desired::Target(asked), Desired::Target(now)) => asked.artifact != now.artifact,
        (_, Desired::Blocked { .. } | Desired::Absent { suspended: None }) => true,
        (
            _,
            Desired::Target(_)
            | Desired::Suspended { .. }
            | Desired::Absent { .. }
            | Desired::NotInState
            | Desired::Invalid(_),
        ) => false,
    }
}
