//! Word of processes that ended, from the kernel: while all live, nothing wakes up.

use std::collections::BTreeMap;
use std::time::Duration;

use landfall_store::Name;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::{AbortHandle, JoinSet, spawn_local};
use tokio::time::sleep;

use crate::plan::Running;
use crate::processes::Living;
use crate::start::ProcessId;

/// Between an end and the look at it: a supervisor has the first word, and a whole group ends in one go.
const PAUSE: Duration = Duration::from_millis(300);
/// Between two looks at an app whose supervisor is about to start it again.
const RETURN_PAUSE: Duration = Duration::from_secs(1);

/// Follows the processes of every app.
pub(super) struct Departures {
    word: UnboundedSender<Name>,
    followed: BTreeMap<Name, AbortHandle>,
}

impl Departures {
    /// `word` gets the name of an app whenever it should be looked at.
    pub(super) const fn new(word: UnboundedSender<Name>) -> Self {
        Self { word, followed: BTreeMap::new() }
    }

    /// Follows these processes of an app, and no longer those it had before.
    pub(super) fn follow(&mut self, app: &Name, living: Living) {
        let (word, name) = (self.word.clone(), app.clone());
        let task = spawn_local(async move {
            match living.running {
                Running::Returning => sleep(RETURN_PAUSE).await,
                _ => {
                    first_end(living.ids).await;
                    sleep(PAUSE).await;
                }
            }
            // Nobody listens any more: the agent is stopping.
            drop(word.send(name));
        });
        if let Some(before) = self.followed.insert(app.clone(), task.abort_handle()) {
            before.abort();
        }
    }
}

/// Returns when the first of these has ended; never, if there is none.
async fn first_end(ids: Vec<ProcessId>) {
    let mut ends = JoinSet::new();
    for id in ids {
        ends.spawn_local(crate::proc::exited(id));
    }
    if ends.join_next().await.is_none() {
        std::future::pending().await
    }
}
