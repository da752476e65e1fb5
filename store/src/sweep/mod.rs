//! Collection of a store: what nothing needs any more is condemned by one run and removed by a later one.
//!
//! 1. Every run looks at the whole store ([`Facts`]) and decides ([`plan()`], pure). A dry run ends here.
//! 2. What an earlier run condemned at least a grace ago, and what is still not needed, is removed. For that the
//!    run leaves a note, gives up if anybody holds a lease, and looks and decides *again*, so that nothing which
//!    was pushed in between is missed. Objects go in the reverse of the order in which a push writes them.
//! 3. What is not needed and not condemned yet is condemned: a tombstone is written, and nothing else happens.
//!
//! Needed is: what the caller's roots name, versions within a window, everything younger than the grace, and
//! whatever these reach. Ages are judged by the store's clock. A root that cannot be read stops the run with
//! nothing removed. A crash anywhere leaves tombstones and notes, with which the next run goes on.
//!
//! What remains possible without conditional deletes: a collector that is suspended between asking the store's
//! clock and the one request that follows, for longer than its note lasts, removes that one object late, and a
//! push may have written it anew meanwhile. `landfall store verify` finds that, and the next push heals it.

mod family;
mod keep;
mod look;
mod plan;
mod repack;
mod tombstone;

use std::collections::BTreeMap;
use std::time::SystemTime;

pub use family::Family;
pub use keep::{Named, Policy, Why};
pub use look::{Facts, Object, PackUse};
pub use plan::{Item, Reason, SweepPlan, plan, totals};
pub use repack::Repacked;
pub use tombstone::Tombstone;
pub(crate) use tombstone::{Condemned, check as check_tombstone};

use crate::digest::ArtifactId;
use crate::error::StoreError;
use crate::fetch::Watch;
use crate::lease::{self, Claim, Note, Pace};
use crate::push::LEVEL;
use crate::store::{Store, random_uuid};

/// What a run of the collection is asked to do.
#[derive(Clone)]
pub struct Request<'a> {
    /// Artifacts that stay whatever their age, and in words what names each.
    pub roots: &'a BTreeMap<ArtifactId, String>,
    /// How much of the past stays.
    pub policy: Policy,
    /// Whether packs of which most is not needed are written anew.
    pub repack: bool,
    /// The zstd level of new packs.
    pub level: i32,
    /// Asked whether to stop.
    pub watch: Watch<'a>,
    /// How long notes last.
    pub pace: Pace<'a>,
}

impl<'a> Request<'a> {
    /// The usual one.
    pub fn new(roots: &'a BTreeMap<ArtifactId, String>) -> Self {
        Self {
            roots,
            policy: Policy::default(),
            repack: false,
            level: LEVEL,
            watch: Watch::NOBODY,
            pace: Pace::REAL,
        }
    }
}

/// What a run did.
#[derive(Debug, Clone)]
pub struct Collected {
    /// What it saw at its end.
    pub facts: Facts,
    /// What it decided, with `condemn` and `remove` done unless there is a `writer`.
    pub plan: SweepPlan,
    /// Whose lease kept it from removing anything.
    pub writer: Option<Note>,
    /// What was packed anew.
    pub repacked: Repacked,
}

/// Looks and decides; changes nothing.
pub fn preview(store: &Store, request: &Request<'_>) -> Result<(Facts, SweepPlan), StoreError> {
    let facts = look::look(store, request.roots, &request.policy, &|| stop(request))?;
    let plan = plan(&facts, &request.policy);
    Ok((facts, plan))
}

/// One run: removes what is ripe, condemns what is not needed.
pub fn collect(store: &Store, request: &Request<'_>) -> Result<Collected, StoreError> {
    store.check_writable()?;
    let (mut facts, mut decided) = preview(store, request)?;
    if facts.sweeps.iter().any(|sweep| sweep.is_live(facts.now)) {
        return Err(StoreError::Sweeping { at: store.location() });
    }
    let run = run_id(store, facts.now)?;
    let mut writer = None;
    if !decided.remove.is_empty() {
        match sweep(store, request, &run)? {
            Swept::Done(now, plan) => (facts, decided) = (*now, plan),
            Swept::Writer(note) => writer = Some(note),
        }
    }
    let mut repacked = Repacked::default();
    if request.repack {
        repacked = repack::repack(store, request, &facts)?;
        if repacked.packs > 0 {
            let removed = std::mem::take(&mut decided.remove);
            (facts, decided) = preview(store, request)?;
            decided.remove = removed;
        }
    }
    if !decided.condemn.is_empty() {
        stop(request)?;
        tombstone::write(store, &run, &decided.condemn)?;
    }
    // What a tombstone of the past condemned is gone or was spared, unless a writer kept this run from it.
    for key in decided.tidy.iter().filter(|_| writer.is_none()) {
        store.backend().delete(key)?;
    }
    Ok(Collected { facts, plan: decided, writer, repacked })
}

enum Swept {
    Done(Box<Facts>, SweepPlan),
    Writer(Note),
}

/// Removes what is ripe, seen anew under a note, unless somebody writes.
fn sweep(store: &Store, request: &Request<'_>, run: &str) -> Result<Swept, StoreError> {
    let claim = Claim::sweep(store, run, request.pace)?;
    let now = store.backend().now()?;
    if let Some(writer) = lease::leases(store)?.into_iter().find(|lease| lease.is_live(now)) {
        return Ok(Swept::Writer(writer));
    }
    let tick = || stop(request).and_then(|()| claim.keep());
    let facts = look::look(store, request.roots, &request.policy, &tick)?;
    let decided = plan(&facts, &request.policy);
    let same_kind = |a: &Item, b: &Item| a.family.label() == b.family.label();
    for kind in decided.remove.chunk_by(same_kind) {
        remove(store, kind, &claim, &tick)?;
    }
    Ok(Swept::Done(Box::new(facts), decided))
}

/// Removes objects of one kind, some at a time.
fn remove(store: &Store, items: &[Item], claim: &Claim<'_>, tick: &look::Tick<'_>) -> Result<(), StoreError> {
    let workers = store.backend().cost().parallel.clamp(1, items.len());
    let work = |items: &[Item]| -> Result<(), StoreError> {
        for item in items {
            tick()?;
            // Nothing may stand between this question and the request that follows it.
            claim.check()?;
            store.backend().delete(&item.key)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let handles: Vec<_> =
            items.chunks(items.len().div_ceil(workers)).map(|part| scope.spawn(move || work(part))).collect();
        handles.into_iter().try_for_each(|handle| match handle.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })
}

fn stop(request: &Request<'_>) -> Result<(), StoreError> {
    if (request.watch.cancel)() { Err(StoreError::Cancelled) } else { Ok(()) }
}

/// A name for a run that no other has: the store's time, so that they sort, and something random.
fn run_id(store: &Store, now: SystemTime) -> Result<String, StoreError> {
    let uuid = random_uuid().map_err(|source| crate::backend::BackendError::Io {
        action: "make an id for",
        key: "gc".to_owned(),
        at: store.location(),
        source,
    })?;
    let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    Ok(format!("{seconds}-{}", &uuid[..8]))
}
