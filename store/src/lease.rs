//! Who writes into a store and who sweeps it: notes with an end, which keep the two apart without a lock.
//!
//! A writer leaves a *lease* and then looks for sweeps; a sweep leaves its own note and then looks for leases.
//! Whichever order the two come in, at least one of them sees the other: a writer waits, a sweep gives up. A
//! note counts until `expires_s` after it was last written, by the store's own clock alone, so what a killed
//! process left ends by itself, and no clock of any other machine matters.
//!
//! A process that slept longer than its note lasts (a suspended laptop) must not go on as if nothing had been.
//! So a note is renewed only together with a proof that it had not ended before, and whoever holds one asks
//! the store's clock again right before and right after what must not happen without it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use crate::backend::{BackendError, Key, Listed};
use crate::error::StoreError;
use crate::layout;
use crate::limits::RECORD_BYTES_MAX;
use crate::store::{Store, random_uuid};

/// How long a lease lasts that nobody renews: longer than any single request, short enough that a killed push
/// does not keep a nightly collection away.
pub const LEASE_TERM: Duration = Duration::from_secs(3600);
/// How long a sweep's note lasts: pushes wait at most this long for a collector that was killed.
pub const SWEEP_TERM: Duration = Duration::from_secs(600);
/// A note cannot bind others for longer than this, whatever it says.
const TERM_MAX: Duration = Duration::from_secs(24 * 3600);
/// Its holder ends a note this much earlier than everybody else: times in stores are rounded to seconds, and
/// `Date` and `Last-Modified` may come from different machines of one service.
pub(crate) const SLACK: Duration = Duration::from_secs(30);
/// Between two looks at a sweep that is waited for.
const POLL: Duration = Duration::from_secs(1);
/// How long sweeps are waited for in all; each is bounded by its own term.
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// How long notes last, and how time passes on this machine. Tests have their own.
#[derive(Clone, Copy)]
pub struct Pace<'a> {
    /// How long the lease lasts when it is not renewed.
    pub term: Duration,
    /// This machine's monotonic clock.
    pub elapsed: &'a (dyn Fn() -> Duration + Sync),
    /// Waits.
    pub pause: &'a (dyn Fn(Duration) + Sync),
}

impl Pace<'_> {
    /// The real one.
    pub const REAL: Pace<'static> =
        Pace { term: LEASE_TERM, elapsed: &monotonic, pause: &std::thread::sleep };
}

fn monotonic() -> Duration {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

/// What stands in a note.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Terms {
    /// Who: `push`, `repack`, `sweep`.
    pub(crate) kind: String,
    /// When it began, in seconds since 1970 by the store's clock; for people.
    pub(crate) started: u64,
    /// How long it lasts after it was last written.
    pub(crate) expires_s: u64,
}

/// Whether bytes have the form of a note.
pub(crate) fn check_note(bytes: &[u8]) -> Result<(), String> {
    serde_json::from_slice::<Terms>(bytes).map(drop).map_err(|error| error.to_string())
}

/// Somebody's note, as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Its key.
    pub key: Key,
    /// Who left it.
    pub kind: String,
    /// When it ends, by the store's clock.
    pub until: SystemTime,
}

impl Note {
    /// Whether it still binds others.
    pub fn is_live(&self, now: SystemTime) -> bool {
        self.until > now
    }
}

/// A note of one's own. Taken away when it is dropped, as far as the store can be reached.
pub(crate) struct Claim<'a> {
    store: &'a Store,
    key: Key,
    text: Vec<u8>,
    term: Duration,
    pace: Pace<'a>,
    held: Mutex<Held>,
}

struct Held {
    /// When the store says it was last written.
    written: SystemTime,
    /// When that was here.
    renewed: Duration,
}

impl<'a> Claim<'a> {
    /// Leaves a lease.
    pub(crate) fn lease(store: &'a Store, kind: &str, pace: Pace<'a>) -> Result<Self, StoreError> {
        let uuid = random_uuid().map_err(|source| BackendError::Io {
            action: "make an id for",
            key: "leases".to_owned(),
            at: store.location(),
            source,
        })?;
        Self::leave(store, layout::lease(&uuid), kind, pace.term, pace)
    }

    /// Leaves the note of a sweep.
    pub(crate) fn sweep(store: &'a Store, run: &str, pace: Pace<'a>) -> Result<Self, StoreError> {
        Self::leave(store, layout::sweeping(run), "sweep", pace.term.min(SWEEP_TERM), pace)
    }

    fn leave(
        store: &'a Store,
        key: Key,
        kind: &str,
        term: Duration,
        pace: Pace<'a>,
    ) -> Result<Self, StoreError> {
        let started = store.backend().now()?.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let terms = Terms { kind: kind.to_owned(), started: started.as_secs(), expires_s: term.as_secs() };
        let text = serde_json::to_vec(&terms).map_err(|error| store.damaged(&key, error))?;
        // From the moment before it is written: what is written late is older than it looks from here.
        let renewed = (pace.elapsed)();
        store.backend().replace(&key, &text)?;
        let mut claim = Self {
            store,
            key,
            text,
            term,
            pace,
            held: Mutex::new(Held { written: SystemTime::UNIX_EPOCH, renewed }),
        };
        let written = claim.written()?.ok_or_else(|| claim.lapsed())?;
        claim.held.get_mut().unwrap_or_else(PoisonError::into_inner).written = written;
        Ok(claim)
    }

    /// Renews it when a quarter of its term has passed here.
    pub(crate) fn keep(&self) -> Result<(), StoreError> {
        let since = (self.pace.elapsed)().saturating_sub(self.held().renewed);
        if since < self.term / 4 { Ok(()) } else { self.renew() }
    }

    /// Writes it again. An error if it had ended before: then others may have acted as if it were not there.
    fn renew(&self) -> Result<(), StoreError> {
        let mut held = self.held();
        let renewed = (self.pace.elapsed)();
        self.store.backend().replace(&self.key, &self.text)?;
        let written = self.written()?.ok_or_else(|| self.lapsed())?;
        if written >= held.written + self.own_term() {
            return Err(self.lapsed());
        }
        *held = Held { written, renewed };
        Ok(())
    }

    /// An error if it has ended, by the store's clock.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        let end = self.held().written + self.own_term();
        if self.store.backend().now()? < end { Ok(()) } else { Err(self.lapsed()) }
    }

    /// Its term as its holder counts it.
    fn own_term(&self) -> Duration {
        self.term.saturating_sub(SLACK)
    }

    fn written(&self) -> Result<Option<SystemTime>, StoreError> {
        let beside = self.key.parent().unwrap_or_else(|| self.key.clone());
        let listed = self.store.backend().list(&beside)?;
        Ok(listed.into_iter().find(|item| item.key == self.key).map(|item| item.modified))
    }

    fn lapsed(&self) -> StoreError {
        StoreError::Lapsed { at: self.store.location(), term_s: self.term.as_secs() }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.store.backend().delete(&self.key) {
            tracing::debug!(note = %self.key, %error, "it stays until it ends by itself");
        }
    }
}

/// Every lease, live or not.
pub(crate) fn leases(store: &Store) -> Result<Vec<Note>, StoreError> {
    notes(store, store.backend().list(&layout::leases())?)
}

/// Every sweep's note, live or not.
pub(crate) fn sweeps(store: &Store) -> Result<Vec<Note>, StoreError> {
    let listed = store.backend().list(&layout::runs())?;
    notes(store, listed.into_iter().filter(|item| layout::is_sweeping(&item.key)).collect())
}

fn notes(store: &Store, listed: Vec<Listed>) -> Result<Vec<Note>, StoreError> {
    let read = |item: Listed| -> Result<Option<Note>, StoreError> {
        let found = store.backend().find(&item.key, RECORD_BYTES_MAX);
        let bytes = match found {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(None),
            Err(BackendError::TooLarge { .. }) => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        // What cannot be understood binds for as long as anything may.
        let terms = serde_json::from_slice(&bytes).unwrap_or_else(|_| Terms {
            kind: "unknown".to_owned(),
            started: 0,
            expires_s: TERM_MAX.as_secs(),
        });
        let term = Duration::from_secs(terms.expires_s).min(TERM_MAX);
        Ok(Some(Note { key: item.key, kind: terms.kind, until: item.modified + term }))
    };
    listed.into_iter().filter_map(|item| read(item).transpose()).collect()
}

/// Waits until nobody sweeps. To be called with a lease left already.
pub(crate) fn wait_for_sweeps(
    lease: &Claim<'_>,
    cancel: &(dyn Fn() -> bool + Sync),
) -> Result<(), StoreError> {
    let (store, pace) = (lease.store, lease.pace);
    let begun = (pace.elapsed)();
    let mut told = false;
    loop {
        let sweeps = sweeps(store)?;
        if sweeps.is_empty() {
            return Ok(());
        }
        let now = store.backend().now()?;
        let Some(sweep) =
            sweeps.into_iter().filter(|sweep| sweep.is_live(now)).max_by_key(|sweep| sweep.until)
        else {
            return Ok(());
        };
        if !told {
            told = true;
            let most = sweep.until.duration_since(now).unwrap_or_default().as_secs();
            tracing::warn!(
                store = store.location(),
                "a collection is removing objects; waiting, at most {most} s"
            );
        }
        if (cancel)() {
            return Err(StoreError::Cancelled);
        }
        if (pace.elapsed)().saturating_sub(begun) > WAIT_MAX {
            return Err(StoreError::Sweeping { at: store.location() });
        }
        (pace.pause)(POLL);
        lease.keep()?;
    }
}
