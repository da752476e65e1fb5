//! What a deploy does to the world, behind few traits, so that the flow itself can be read and simulated.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use landfall_store::{ArtifactId, Digest};
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;

use crate::disk::Disk;
use crate::pending::Pending;
use crate::plan::Running;
use crate::record::journal::Failure;
use crate::record::release::{ReleaseRecord, ReleaseRef};
use crate::retry::Patience;
use crate::spec::StepSpec;

/// An artifact brought to this host and bound to its env: everything needed to build its release.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// Which release it will be.
    pub release: ReleaseRef,
    /// What it will be recorded as, and how it is started and judged.
    pub record: ReleaseRecord,
}

impl Fetched {
    /// The artifact whose release will be recorded as this.
    pub fn of(record: ReleaseRecord) -> Self {
        Self { release: record.release.clone(), record }
    }
}

/// A try that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setback {
    /// Why.
    pub failure: Failure,
    /// For how long whoever is to blame wants to be left alone, if it said so.
    #[serde(default)]
    pub retry_after: Option<Duration>,
}

impl From<Failure> for Setback {
    fn from(failure: Failure) -> Self {
        Self { failure, retry_after: None }
    }
}

/// How thoroughly a release is compared with its recorded tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Depth {
    /// Names, types, modes, sizes and content tags, without reading contents.
    Fast,
    /// Every byte hashed again.
    Deep,
}

/// What an artifact would be on this host with today's env, as far as that is known without fetching.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Which release.
    pub release: ReleaseRef,
    /// Everything of its identity but the env fingerprint.
    pub settings: Digest,
}

/// Brings artifacts to the host and makes releases of them.
pub trait Supply {
    /// What the artifact would be, if its manifest and env layers are on the host and its env resolves.
    fn known<'a>(&'a self, artifact: &'a ArtifactId) -> Pending<'a, Option<Known>>;
    /// Moves what the host lacks and resolves the env: one try. May be dropped at any moment.
    fn fetch<'a>(&'a self, artifact: &'a ArtifactId) -> Pending<'a, Result<Fetched, Setback>>;
    /// Waits for a place among the releases that are prepared at once on this host.
    fn place<'a>(&'a self) -> Pending<'a, Place>;
    /// Builds the release directory afresh, whatever an earlier try left there.
    fn build<'a>(&'a self, fetched: &'a Fetched) -> Pending<'a, Result<(), Failure>>;
    /// Runs one step to its end, or until `give_way` ends: then everything it started is ended first.
    fn step<'a>(
        &'a self,
        record: &'a ReleaseRecord,
        step: &'a StepSpec,
        attempt: u64,
        give_way: Pending<'a, ()>,
    ) -> Pending<'a, Result<Stepped, Failure>>;
    /// Whether this host runs migrate steps; if not, it waits for their checks.
    fn migrates(&self) -> bool;
    /// Runs a migrate step's check once. What it complains of; none: another host has migrated.
    fn check<'a>(
        &'a self,
        record: &'a ReleaseRecord,
        step: &'a StepSpec,
        attempt: u64,
        give_way: Pending<'a, ()>,
    ) -> Pending<'a, Result<Option<String>, Failure>>;
    /// Drops a release that was not prepared to its end. One that was stays.
    fn discard<'a>(&'a self, release: &'a ReleaseRef) -> Pending<'a, Result<(), Failure>>;
    /// Freezes the directory, hashes its tree, and marks it prepared, durably.
    fn finish<'a>(&'a self, fetched: &'a Fetched) -> Pending<'a, Result<(), Failure>>;
    /// Reads what the release directory of this name is, without comparing its files.
    fn load<'a>(&'a self, name: &'a str) -> Pending<'a, Result<ReleaseRecord, Failure>>;
    /// Reads the record of a prepared release and compares its files with it; damage is repaired from the
    /// host cache where that holds the bytes, and is a failure where not.
    fn verify<'a>(
        &'a self,
        release: &'a ReleaseRef,
        depth: Depth,
    ) -> Pending<'a, Result<ReleaseRecord, Failure>>;
}

/// A place among the releases that are prepared at once; dropping it frees it.
#[derive(Debug)]
pub struct Place(#[expect(dead_code, reason = "held, never read")] Option<OwnedSemaphorePermit>);

impl Place {
    /// One of a bounded number.
    pub const fn one_of_few(permit: OwnedSemaphorePermit) -> Self {
        Self(Some(permit))
    }

    /// One of any number.
    pub const fn free() -> Self {
        Self(None)
    }
}

/// How a step ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stepped {
    /// It ran to its end.
    Done,
    /// It was ended because something newer is wanted.
    GaveWay,
}

/// What watching a started release ended in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Proved healthy.
    Healthy,
    /// Not; the evidence is kept with the attempt.
    Unhealthy(Failure),
    /// A newer state came while it was watched.
    Superseded,
}

/// Says at a safe point whether a newer state has come.
pub type Newer<'a> = &'a dyn Fn() -> bool;

/// Starts, watches and stops the processes of one app on this host.
pub trait Processes {
    /// Whether this host runs no process of this release: its files are all there is.
    fn starts_nothing(&self, record: &ReleaseRecord) -> bool;
    /// How the processes of this release run.
    fn running<'a>(&'a self, record: &'a ReleaseRecord) -> Pending<'a, Running>;
    /// Ends processes of other releases that nobody landfall knows has started.
    fn end_others<'a>(&'a self, _: &'a ReleaseRecord) -> Pending<'a, Result<(), Failure>> {
        Box::pin(async { Ok(()) })
    }
    /// Whether the managers of this release can be asked to start it. Asked before the switch, so that one that
    /// is down costs nothing that runs.
    fn ready<'a>(&'a self, record: &'a ReleaseRecord) -> Pending<'a, Result<(), Failure>>;
    /// A trial run beside the running release.
    fn preflight<'a>(
        &'a self,
        record: &'a ReleaseRecord,
        attempt: u64,
        newer: Newer<'a>,
    ) -> Pending<'a, Verdict>;
    /// Hands every process of the release to its manager, and stops those it no longer has.
    fn start<'a>(&'a self, record: &'a ReleaseRecord, attempt: u64) -> Pending<'a, Result<(), Failure>>;
    /// Hands every process of a release that proved healthy before to its manager, after another has failed: what
    /// still runs of it beside that one is kept as it is.
    fn go_back<'a>(&'a self, record: &'a ReleaseRecord, attempt: u64) -> Pending<'a, Result<(), Failure>> {
        self.start(record, attempt)
    }
    /// The last start is proved: ends what served beside it.
    fn settle<'a>(&'a self) -> Pending<'a, Result<(), Failure>> {
        Box::pin(async { Ok(()) })
    }
    /// Watches this start until it is proved healthy or not.
    fn verify<'a>(
        &'a self,
        record: &'a ReleaseRecord,
        attempt: u64,
        newer: Newer<'a>,
    ) -> Pending<'a, Verdict>;
    /// Ends every process of the release, whole groups.
    fn stop<'a>(&'a self, record: &'a ReleaseRecord) -> Pending<'a, Result<(), Failure>>;
    /// Ends every process of the app, whichever release started it, so that no manager brings one back.
    fn forget<'a>(&'a self, record: &'a ReleaseRecord) -> Pending<'a, Result<(), Failure>>;
    /// Makes the running set survive a reboot, where managers do that themselves.
    fn persist<'a>(&'a self, record: &'a ReleaseRecord) -> Pending<'a, Result<(), Failure>>;
}

/// Time: the wall for records, a monotonic one for durations.
pub trait Clock {
    /// Now by the wall clock; only ever shown.
    fn wall(&self) -> Timestamp;
    /// Milliseconds on a clock that never jumps.
    fn monotonic_ms(&self) -> u64;
    /// Waits, on the clock that never jumps.
    fn sleep<'a>(&'a self, pause: Duration) -> Pending<'a, ()>;
    /// When the machine came up, by the wall clock as it is now.
    fn booted(&self) -> Timestamp;
}

/// The system's clocks.
#[derive(Debug)]
pub struct SystemClock(std::time::Instant);

impl Default for SystemClock {
    fn default() -> Self {
        Self(std::time::Instant::now())
    }
}

impl Clock for SystemClock {
    fn wall(&self) -> Timestamp {
        Timestamp::now()
    }

    fn monotonic_ms(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn sleep<'a>(&'a self, pause: Duration) -> Pending<'a, ()> {
        Box::pin(tokio::time::sleep(pause))
    }

    fn booted(&self) -> Timestamp {
        let up = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let up = SignedDuration::from_secs(up.tv_sec);
        Timestamp::now().checked_sub(up).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

/// All of it.
#[derive(Clone, Copy)]
pub struct Effects<'a> {
    /// Records and `current`.
    pub disk: &'a dyn Disk,
    /// Artifacts and releases.
    pub supply: &'a dyn Supply,
    /// The app's processes.
    pub processes: &'a dyn Processes,
    /// Time.
    pub clock: &'a dyn Clock,
    /// How often what lies outside the release is tried.
    pub patience: Patience,
}
