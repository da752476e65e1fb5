//! A host in memory.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "part of a test")]

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;
use landfall::deploy::{App, Asking};
use landfall::disk::Disk;
use landfall::effects::{
    Clock, Depth, Effects, Fetched, Known, Newer, Place, Processes, Setback, Stepped, Supply, Verdict,
};
use landfall::layout::{AppDir, Root};
use landfall::pending::Pending;
use landfall::plan::{Desired, Running};
use landfall::reconcile::{Terms, Tick, reconcile};
use landfall::record::RecordError;
use landfall::record::controls::Controls;
use landfall::record::history::History;
use landfall::record::journal::{Class, Failure, Journal, Target};
use landfall::record::quarantine::Quarantine;
use landfall::record::release::{Progress, ReleaseRecord, ReleaseRef};
use landfall::retry::Patience;
use landfall::spec::{ReleaseSpec, StepKind, StepSpec};
use landfall_store::{ArtifactId, Digest};
use tokio::sync::Notify;

/// What a version is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nature {
    Good,
    BadStep,
    /// Its step never ends by itself.
    HangingStep,
    /// Its step says twice in a row that it may work later.
    BusyStep,
    BadMigration,
    /// Its migration meets a lock twice in a row.
    Locked,
    BadStart,
    Unhealthy,
    /// Well, but what follows its commit fails.
    BadAfter,
}

impl Nature {
    /// Whether it ends up in service.
    pub fn ends_well(self) -> bool {
        matches!(self, Self::Good | Self::BusyStep | Self::Locked | Self::BadAfter)
    }
}

/// When the next crash comes, and how it treats the write it hits.
#[derive(Debug, Clone, Copy)]
struct Crash {
    writes_left: usize,
    torn: usize,
}

#[derive(Default)]
struct Memory {
    files: BTreeMap<PathBuf, Vec<u8>>,
    links: BTreeMap<PathBuf, PathBuf>,
    releases: BTreeMap<String, ReleaseRecord>,
    versions: BTreeMap<String, Nature>,
    serving: Option<String>,
    starts: BTreeMap<String, usize>,
    steps: usize,
    /// Runs of each step of each version.
    runs: BTreeMap<(String, String), usize>,
    writes: usize,
    ever_healthy: bool,
}

#[derive(Default)]
pub struct World {
    memory: RefCell<Memory>,
    crash: Cell<Option<Crash>>,
    crashed: Cell<bool>,
    full_after: Cell<Option<usize>>,
    now: Cell<u64>,
    manager_down: Cell<bool>,
    off_at: Cell<Option<&'static str>>,
    /// The wall clock is anywhere within ten years, each time it is asked.
    wall_jumps: Cell<Option<u64>>,
    wall_asked: Cell<u64>,
    /// At which moment the state is edited, and to what.
    edit: RefCell<Option<(String, Desired)>>,
    /// What the state says by now.
    edited: RefCell<Option<Desired>>,
    edits: Rc<Notify>,
}

fn failure(class: Class, reason: &str) -> Failure {
    Failure { class, reason: reason.to_owned(), message: reason.to_owned() }
}

fn dead() -> io::Error {
    io::Error::other("the machine is off")
}

impl World {
    fn dir(&self) -> AppDir {
        let root = Root::new(Path::new("/sim")).unwrap();
        root.app(&"web".parse().unwrap(), &"prod".parse().unwrap(), None)
    }

    /// Makes a version known; one that is known keeps its nature, which is returned.
    pub fn knows(&self, name: &str, nature: Nature) -> Nature {
        *self.memory.borrow_mut().versions.entry(name.to_owned()).or_insert(nature)
    }

    pub fn becomes(&self, name: &str, nature: Nature) {
        self.memory.borrow_mut().versions.insert(name.to_owned(), nature);
    }

    pub fn nature(&self, name: &str) -> Nature {
        self.memory.borrow().versions[name]
    }

    pub fn target(&self, name: &str) -> Target {
        Target::of(ArtifactId::of(name.as_bytes()))
    }

    pub fn wants(&self, name: &str) -> Desired {
        Desired::Target(self.target(name))
    }

    fn release(&self, name: &str) -> ReleaseRef {
        ReleaseRef::new(ArtifactId::of(name.as_bytes()), Digest::of(name.as_bytes()), name.parse().unwrap())
    }

    pub fn release_name(&self, name: &str) -> String {
        self.release(name).name
    }

    fn by_artifact(&self, artifact: &ArtifactId) -> Option<String> {
        let memory = self.memory.borrow();
        memory.versions.keys().find(|name| ArtifactId::of(name.as_bytes()) == *artifact).cloned()
    }

    fn record(&self, name: &str, progress: Progress) -> ReleaseRecord {
        let nature = self.nature(name);
        let kinds = [
            ("prepare", true),
            ("migrate", matches!(nature, Nature::BadMigration | Nature::Locked) || name == "a"),
            ("after", nature == Nature::BadAfter || name == "a"),
        ];
        let step = |kind: &str| serde_json::json!({ "name": kind, "kind": kind, "command": { "run": [kind] }, "timeout": 1000 });
        let steps: Vec<_> = kinds.iter().filter(|(_, has)| *has).map(|(kind, _)| step(kind)).collect();
        let spec: ReleaseSpec =
            serde_json::from_value(serde_json::json!({ "version": name, "steps": steps })).unwrap();
        ReleaseRecord {
            release: self.release(name),
            app: "web".parse().unwrap(),
            environment: "prod".parse().unwrap(),
            settings: Digest::of(name.as_bytes()),
            roles: vec![],
            progress,
            layers: vec![],
            start: None,
            skipped: Vec::new(),
            prepared_tree: None,
            spec,
            landfall: "sim".to_owned(),
        }
    }

    /// One tick of the agent, which has just read its records.
    pub fn tick(&self, desired: &Desired) -> Result<Tick, RecordError> {
        let dir = self.dir();
        let mut app = App {
            name: "web".parse().unwrap(),
            environment: "prod".parse().unwrap(),
            history: History::read(self, &dir)?,
            quarantine: Quarantine::read(self, &dir)?,
            controls: Controls::read(self, &dir)?,
            dir,
        };
        let effects =
            Effects { disk: self, supply: self, processes: self, clock: self, patience: Patience::Agent };
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(reconcile(
            &mut app,
            effects,
            desired.clone(),
            Terms::default(),
            Asking {
                newer: &|| self.edited.borrow().as_ref().is_some_and(|now| now != desired),
                change: &|| {
                    let edits = Rc::clone(&self.edits);
                    Box::pin(async move { edits.notified().await })
                },
                ..Asking::NOTHING
            },
        ))
    }

    /// The same while somebody edits the state in the middle of it: at this step, pause or stage.
    pub fn tick_with_edit(
        &self,
        desired: &Desired,
        moment: &str,
        then: &Desired,
    ) -> Result<Tick, RecordError> {
        *self.edit.borrow_mut() = Some((moment.to_owned(), then.clone()));
        let tick = self.tick(desired);
        *self.edited.borrow_mut() = None;
        tick
    }

    /// Whether the edit never came, because its moment did not.
    pub fn edit_is_left(&self) -> bool {
        self.edit.borrow_mut().take().is_some()
    }

    /// The machine goes off at this step, pause or stage.
    pub fn power_off_at(&self, moment: &'static str) {
        self.off_at.set(Some(moment));
    }

    fn edit_meanwhile(&self, moment: &str) {
        if self.off_at.get() == Some(moment) {
            self.off_at.set(None);
            self.crashed.set(true);
        }
        let due = self.edit.borrow_mut().take_if(|(at, _)| at == moment);
        if let Some((_, desired)) = due {
            *self.edited.borrow_mut() = Some(desired);
            self.edits.notify_waiters();
        }
    }

    fn ran(&self, version: &str, step: &str) {
        let mut memory = self.memory.borrow_mut();
        memory.steps += 1;
        *memory.runs.entry((version.to_owned(), step.to_owned())).or_default() += 1;
    }

    pub fn runs(&self, version: &str, step: &str) -> usize {
        self.memory.borrow().runs.get(&(version.to_owned(), step.to_owned())).copied().unwrap_or(0)
    }

    /// Busy the first two of every three times.
    fn is_busy(&self, version: &str, kind: StepKind, nature: Nature) -> bool {
        match (kind, nature) {
            (StepKind::Prepare, Nature::BusyStep) => !self.runs(version, "prepare").is_multiple_of(3),
            (StepKind::Migrate, Nature::Locked) => !self.runs(version, "migrate").is_multiple_of(3),
            _ => false,
        }
    }

    pub fn manager_is_down(&self, down: bool) {
        self.manager_down.set(down);
    }

    pub fn wall_clock_jumps(&self, seed: u64) {
        self.wall_jumps.set(Some(seed));
    }

    pub fn has_release(&self, name: &str) -> bool {
        self.memory.borrow().releases.contains_key(&self.release_name(name))
    }

    pub fn crash_after(&self, writes: usize, torn: usize) {
        self.crash.set(Some(Crash { writes_left: writes, torn }));
    }

    pub fn no_crash(&self) {
        self.crash.set(None);
    }

    pub fn has_crashed(&self) -> bool {
        self.crashed.get()
    }

    /// Power on again: what was durable is there, no process runs.
    pub fn reboot(&self) {
        self.crash.set(None);
        if self.crashed.replace(false) {
            self.memory.borrow_mut().serving = None;
        }
    }

    pub fn disk_full_after(&self, writes: usize) {
        self.full_after.set(Some(writes));
    }

    pub fn disk_has_room(&self) {
        self.full_after.set(None);
    }

    pub fn kill(&self) {
        self.memory.borrow_mut().serving = None;
    }

    /// Somebody makes `current` point there, or removes it.
    pub fn moves_current(&self, to: Option<&str>) {
        let link = self.dir().current();
        let links = &mut self.memory.borrow_mut().links;
        match to {
            Some(to) => drop(links.insert(link, to.into())),
            None => drop(links.remove(&link)),
        }
    }

    pub fn current(&self) -> Option<String> {
        let memory = self.memory.borrow();
        let target = memory.links.get(&self.dir().current())?;
        Some(target.file_name().unwrap().to_str().unwrap().to_owned())
    }

    pub fn serving(&self) -> Option<String> {
        self.memory.borrow().serving.clone()
    }

    pub fn is_prepared(&self, release: &str) -> bool {
        self.memory.borrow().releases.get(release).is_some_and(|record| record.progress == Progress::Prepared)
    }

    pub fn ever_healthy(&self) -> bool {
        self.memory.borrow().ever_healthy
    }

    pub fn history(&self) -> History {
        History::read(self, &self.dir()).expect("the history is whole")
    }

    pub fn has_journal(&self) -> bool {
        Journal::read(self, &self.dir()).expect("the journal is whole").is_some()
    }

    /// Whether two attempts at it were cut short in the same stage.
    pub fn is_held(&self, name: &str) -> bool {
        let quarantine = Quarantine::read(self, &self.dir()).expect("the quarantine is whole");
        quarantine.holds(self.target(name).artifact, None).is_some()
    }

    pub fn is_quarantined(&self, name: &str) -> bool {
        let quarantine = Quarantine::read(self, &self.dir()).expect("the quarantine is whole");
        quarantine.forbids(self.release(name).identity).is_some()
    }

    pub fn starts_of(&self, name: &str) -> usize {
        self.memory.borrow().starts.get(&self.release_name(name)).copied().unwrap_or(0)
    }

    pub fn steps(&self) -> usize {
        self.memory.borrow().steps
    }

    pub fn writes(&self) -> usize {
        self.memory.borrow().writes
    }

    /// Runs one write: applied whole, or hit by the crash or the full disk.
    fn write(&self, apply: impl FnOnce(&mut Memory), torn: impl FnOnce(&mut Memory)) -> io::Result<()> {
        self.alive()?;
        if let Some(left) = self.full_after.get() {
            if left == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.full_after.set(Some(left - 1));
        }
        let mut memory = self.memory.borrow_mut();
        if let Some(crash) = self.crash.get() {
            if crash.writes_left == 0 {
                self.crashed.set(true);
                match crash.torn {
                    0 => {}
                    1 => torn(&mut memory),
                    _ => apply(&mut memory),
                }
                return Err(dead());
            }
            self.crash.set(Some(Crash { writes_left: crash.writes_left - 1, ..crash }));
        }
        memory.writes += 1;
        apply(&mut memory);
        Ok(())
    }

    fn alive(&self) -> io::Result<()> {
        if self.crashed.get() { Err(dead()) } else { Ok(()) }
    }

    fn is(&self, name: &str, nature: Nature) -> bool {
        self.memory.borrow().versions.get(name) == Some(&nature)
    }

    fn version_of(&self, record: &ReleaseRecord) -> String {
        record.release.version.to_string()
    }
}

impl Disk for World {
    fn read(&self, path: &Path, _: u64) -> io::Result<Option<Vec<u8>>> {
        self.alive()?;
        Ok(self.memory.borrow().files.get(path).cloned())
    }

    fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        self.write(|memory| drop(memory.files.insert(path.to_owned(), content.to_vec())), |_| ())
    }

    fn append(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let add = |part: &[u8]| {
            let (path, part) = (path.to_owned(), part.to_vec());
            move |memory: &mut Memory| memory.files.entry(path).or_default().extend_from_slice(&part)
        };
        self.write(add(content), add(&content[..content.len() / 2]))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let gone =
            !self.memory.borrow().files.contains_key(path) && !self.memory.borrow().links.contains_key(path);
        if gone {
            return self.alive();
        }
        self.write(
            |memory| {
                memory.files.remove(path);
                memory.links.remove(path);
            },
            |_| (),
        )
    }

    fn read_link(&self, path: &Path) -> io::Result<Option<PathBuf>> {
        self.alive()?;
        Ok(self.memory.borrow().links.get(path).cloned())
    }

    fn point(&self, link: &Path, target: &Path) -> io::Result<()> {
        self.write(|memory| drop(memory.links.insert(link.to_owned(), target.to_owned())), |_| ())
    }

    fn create_dir(&self, _: &Path) -> io::Result<()> {
        self.alive()
    }

    fn list(&self, _: &Path) -> io::Result<Vec<String>> {
        let names: BTreeSet<String> = self.memory.borrow().releases.keys().cloned().collect();
        Ok(names.into_iter().collect())
    }
}

impl Clock for World {
    fn wall(&self) -> Timestamp {
        let years = self.wall_jumps.get().map_or(0, |seed| {
            self.wall_asked.set(self.wall_asked.get() + 1);
            fastrand::Rng::with_seed(seed ^ self.wall_asked.get()).i64(-10..=10)
        });
        Timestamp::from_second(1_800_000_000 + years * 365 * 86_400).unwrap()
    }

    fn monotonic_ms(&self) -> u64 {
        self.now.set(self.now.get() + 1);
        self.now.get()
    }

    fn sleep<'a>(&'a self, pause: Duration) -> Pending<'a, ()> {
        Box::pin(async move {
            self.edit_meanwhile("pause");
            self.now.set(self.now.get() + u64::try_from(pause.as_millis()).unwrap());
        })
    }

    fn booted(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }
}

impl Supply for World {
    fn known<'a>(&'a self, artifact: &'a ArtifactId) -> Pending<'a, Option<Known>> {
        Box::pin(async {
            let name = self.by_artifact(artifact)?;
            Some(Known { release: self.release(&name), settings: Digest::of(name.as_bytes()) })
        })
    }

    fn fetch<'a>(&'a self, artifact: &'a ArtifactId) -> Pending<'a, Result<Fetched, Setback>> {
        Box::pin(async {
            self.edit_meanwhile("fetch");
            self.alive().map_err(|_| failure(Class::Supply, "Off"))?;
            let name = self.by_artifact(artifact).ok_or_else(|| failure(Class::Supply, "NotFound"))?;
            Ok(Fetched { release: self.release(&name), record: self.record(&name, Progress::Materialised) })
        })
    }

    fn place<'a>(&'a self) -> Pending<'a, Place> {
        Box::pin(async { Place::free() })
    }

    fn build<'a>(&'a self, fetched: &'a Fetched) -> Pending<'a, Result<(), Failure>> {
        Box::pin(async {
            let (name, record) = (fetched.release.name.clone(), fetched.record.clone());
            self.write(|memory| drop(memory.releases.insert(name, record)), |_| ())
                .map_err(|_| failure(Class::Host, "Disk"))
        })
    }

    fn step<'a>(
        &'a self,
        record: &'a ReleaseRecord,
        step: &'a StepSpec,
        _: u64,
        give_way: Pending<'a, ()>,
    ) -> Pending<'a, Result<Stepped, Failure>> {
        Box::pin(async move {
            self.edit_meanwhile(step.name.as_str());
            self.alive().map_err(|_| failure(Class::Host, "Off"))?;
            let version = self.version_of(record);
            self.ran(&version, step.name.as_str());
            let class = match (step.kind, self.nature(&version)) {
                (StepKind::Prepare, Nature::HangingStep) => {
                    give_way.await;
                    return Ok(Stepped::GaveWay);
                }
                (StepKind::Prepare, Nature::BadStep) | (StepKind::After, Nature::BadAfter) => Class::Prepare,
                (StepKind::Migrate, Nature::BadMigration) => Class::Migrate,
                (kind, nature) if self.is_busy(&version, kind, nature) => Class::Transient,
                _ => return Ok(Stepped::Done),
            };
            Err(failure(class, "StepFailed"))
        })
    }

    fn migrates(&self) -> bool {
        true
    }

    fn check<'a>(
        &'a self,
        _: &'a ReleaseRecord,
        _: &'a StepSpec,
        _: u64,
        _: Pending<'a, ()>,
    ) -> Pending<'a, Result<Option<String>, Failure>> {
        Box::pin(async { Ok(None) })
    }

    fn discard<'a>(&'a self, release: &'a ReleaseRef) -> Pending<'a, Result<(), Failure>> {
        Box::pin(async {
            if self.is_prepared(&release.name) {
                return Ok(());
            }
            self.write(|memory| drop(memory.releases.remove(&release.name)), |_| ())
                .map_err(|_| failure(Class::Host, "Disk"))
        })
    }

    fn finish<'a>(&'a self, fetched: &'a Fetched) -> Pending<'a, Result<(), Failure>> {
        Box::pin(async {
            let record = ReleaseRecord { progress: Progress::Prepared, ..fetched.record.clone() };
            self.write(|memory| drop(memory.releases.insert(record.release.name.clone(), record)), |_| ())
                .map_err(|_| failure(Class::Host, "Disk"))
        })
    }

    fn load<'a>(&'a self, name: &'a str) -> Pending<'a, Result<ReleaseRecord, Failure>> {
        Box::pin(async {
            self.alive().map_err(|_| failure(Class::Host, "Off"))?;
            self.memory.borrow().releases.get(name).cloned().ok_or_else(|| failure(Class::Host, "Missing"))
        })
    }

    fn verify<'a>(
        &'a self,
        release: &'a ReleaseRef,
        _: Depth,
    ) -> Pending<'a, Result<ReleaseRecord, Failure>> {
        self.load(&release.name)
    }
}

impl Processes for World {
    fn starts_nothing(&self, _: &ReleaseRecord) -> bool {
        false
    }

    fn running<'a>(&'a self, record: &'a ReleaseRecord) -> Pending<'a, Running> {
        let here = self.serving().as_ref() == Some(&record.release.name);
        Box::pin(async move { if here { Running::Yes } else { Running::No } })
    }

    fn ready<'a>(&'a self, _: &'a ReleaseRecord) -> Pending<'a, Result<(), Failure>> {
        Box::pin(async {
            self.edit_meanwhile("ready");
            if self.manager_down.get() { Err(failure(Class::Manager, "ManagerDown")) } else { Ok(()) }
        })
    }

    fn preflight<'a>(&'a self, _: &'a ReleaseRecord, _: u64, _: Newer<'a>) -> Pending<'a, Verdict> {
        Box::pin(async { Verdict::Healthy })
    }

    fn start<'a>(&'a self, record: &'a ReleaseRecord, _: u64) -> Pending<'a, Result<(), Failure>> {
        Box::pin(async {
            self.alive().map_err(|_| failure(Class::Manager, "Off"))?;
            let bad = self.is(&self.version_of(record), Nature::BadStart);
            let mut memory = self.memory.borrow_mut();
            *memory.starts.entry(record.release.name.clone()).or_default() += 1;
            memory.serving = (!bad).then(|| record.release.name.clone());
            if bad { Err(failure(Class::Start, "ProcessExited")) } else { Ok(()) }
        })
    }

    fn verify<'a>(&'a self, record: &'a ReleaseRecord, _: u64, newer: Newer<'a>) -> Pending<'a, Verdict> {
        Box::pin(async move {
            self.edit_meanwhile("verify");
            if newer() {
                return Verdict::Superseded;
            }
            if self.is(&self.version_of(record), Nature::Unhealthy) {
                return Verdict::Unhealthy(failure(Class::Health, "ProbesFailing"));
            }
            self.memory.borrow_mut().ever_healthy = true;
            Verdict::Healthy
        })
    }

    fn stop<'a>(&'a self, _: &'a ReleaseRecord) -> Pending<'a, Result<(), Failure>> {
        Box::pin(async {
            self.memory.borrow_mut().serving = None;
            Ok(())
        })
    }

    fn forget<'a>(&'a self, record: &'a ReleaseRecord) -> Pending<'a, Result<(), Failure>> {
        Box::pin(async {
            self.alive().map_err(|_| failure(Class::Manager, "Off"))?;
            Processes::stop(self, record).await
        })
    }

    fn persist<'a>(&'a self, _: &'a ReleaseRecord) -> Pending<'a, Result<(), Failure>> {
        Box::pin(async { Ok(()) })
    }
}

/// Keeps the compiler honest: the simulated effects are usable exactly as the real ones are.
#[allow(dead_code, reason = "it only has to compile")]
fn as_effects(world: &Rc<World>) -> Effects<'_> {
    Effects {
        disk: world.as_ref(),
        supply: world.as_ref(),
        processes: world.as_ref(),
        clock: world.as_ref(),
        patience: Patience::Agent,
    }
}
