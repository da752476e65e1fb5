//! The processes of one app as one thing: every `[start]` of a release on this host, started, judged and
//! stopped together. A failure of any of them is a failure of the release.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;

use landfall_store::Name;
use serde::{Deserialize, Serialize};

use crate::adopted::{Adopted, TakeOverError};
use crate::config::StartOverride;
use crate::disk::{Disk, RealDisk};
use crate::effects::{Newer, Processes, Verdict};
use crate::health::{self, Started, Verification};
use crate::layout::{AppDir, EVIDENCE, ReleaseDir};
use crate::pending::Pending;
use crate::plan::Running;
use crate::proc::{self, Holder};
use crate::record::RecordError;
use crate::record::journal::{Class, Failure};
use crate::record::release::ReleaseRecord;
use crate::record::sealed::{self, Sealed};
use crate::spec::{HealthSpec, ManagerKind, StartSpec, applies};
use crate::start::preflight::{Preflight, Tryout, preflight};
use crate::start::shim::signals;
use crate::start::strangers::{end, strangers};
use crate::start::{Account, Launch, Manager, ProcessId, Slot, StartError};
use crate::start::{argv, listens};
use crate::state::HealthLimits;
use crate::step::Runner;

/// The managers this landfall can drive.
#[derive(Clone)]
pub struct Managers {
    /// landfall's own shim.
    pub direct: Rc<dyn Manager>,
    /// pm2 of the service account; or why there is none.
    pub pm2: Result<Rc<dyn Manager>, String>,
    /// The systemd that runs this machine.
    pub systemd: Rc<dyn Manager>,
}

/// Environment key of the random id of a start.
const START_KEY: &str = "LANDFALL_START";
/// Bytes of a release's env file.
const ENV_BYTES_MAX: u64 = 4 << 20;

/// One app in one environment on this host, as configuration and state describe it.
#[derive(Clone)]
pub struct Service {
    /// The app.
    pub app: Name,
    /// Its environment.
    pub environment: Name,
    /// Its directories.
    pub dir: AppDir,
    /// Roles of this host.
    pub roles: Vec<Name>,
    /// The service account; none: landfall's own.
    pub account: Option<Account>,
    /// What host.toml changes about starting.
    pub start: StartOverride,
    /// What the state changes about health.
    pub limits: Option<HealthLimits>,
    /// Who runs processes.
    pub managers: Managers,
    /// Runs checks that are commands.
    pub runner: Runner,
}

/// The processes of one service.
pub struct AppProcesses {
    service: Service,
    launches: RefCell<Vec<(Launch, u64)>>,
}

/// Processes whose end is worth a look: those of the app, and those that would start them again.
#[derive(Debug, Clone)]
pub struct Living {
    /// Which.
    pub ids: Vec<ProcessId>,
    /// How the app runs.
    pub running: Running,
}

/// What was last started, so that a process a later release no longer has can be stopped by the manager that
/// runs it.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Slots {
    processes: Vec<StartSpec>,
}

impl Sealed for Slots {
    const KIND: &'static str = "slots";
}

impl AppProcesses {
    /// The processes of this service.
    pub fn new(service: Service) -> Self {
        Self { service, launches: RefCell::default() }
    }

    /// The processes of a release that belong on this host, with what host.toml changes about them.
    pub fn starts(&self, record: &ReleaseRecord) -> Vec<StartSpec> {
        record
            .spec
            .start
            .iter()
            .filter(|start| applies(&start.roles, &self.service.roles))
            .map(|start| record.start.unwrap_or(self.service.start).apply(start))
            .collect()
    }

    /// The checks of a release that apply on this host, within the limits of the state.
    pub fn checks(&self, record: &ReleaseRecord) -> Vec<HealthSpec> {
        let applying = record.spec.health.iter().filter(|health| applies(&health.roles, &self.service.roles));
        applying.map(|health| limited(health.clone(), self.service.limits.as_ref())).collect()
    }

    /// The slot of one process.
    pub fn slot(&self, process: &Name) -> Slot {
        Slot {
            app: self.service.app.clone(),
            environment: self.service.environment.clone(),
            process: process.clone(),
            run_dir: self.service.dir.run(),
            logs_dir: self.service.dir.logs(),
            releases_dir: self.service.dir.releases(),
            current: self.service.dir.current(),
            account: self.service.account.clone(),
        }
    }

    /// Who runs this kind of process.
    pub fn manager(&self, kind: ManagerKind) -> Result<&dyn Manager, Failure> {
        match kind {
            ManagerKind::Direct => Ok(self.service.managers.direct.as_ref()),
            ManagerKind::Pm2 => match &self.service.managers.pm2 {
                Ok(pm2) => Ok(pm2.as_ref()),
                Err(why) => Err(Failure {
                    class: Class::Manager,
                    reason: "ManagerDown".to_owned(),
                    message: why.clone(),
                }),
            },
            ManagerKind::Systemd => Ok(self.service.managers.systemd.as_ref()),
        }
    }

    fn release_dir(&self, record: &ReleaseRecord) -> ReleaseDir {
        ReleaseDir(self.service.dir.release(&record.release.name))
    }

    fn env(&self, record: &ReleaseRecord) -> Result<BTreeMap<String, String>, Failure> {
        let path = self.release_dir(record).env();
        let broken = |why: String| Failure {
            class: Class::Host,
            reason: "EnvUnreadable".to_owned(),
            message: format!("{}: {why}", path.display()),
        };
        let bytes = RealDisk.read(&path, ENV_BYTES_MAX).map_err(|error| broken(error.to_string()))?;
        let bytes = bytes.ok_or_else(|| broken("it is missing".to_owned()))?;
        // The content is secret, so a parser's message, which may quote it, is not passed on.
        serde_json::from_slice(&bytes).map_err(|_| broken("it is not a JSON object of strings".to_owned()))
    }

    fn launch(&self, record: &ReleaseRecord, spec: StartSpec) -> Result<Launch, Failure> {
        let start_id = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
        let mut env = self.env(record)?;
        env.insert(START_KEY.to_owned(), start_id.clone());
        let slot = self.slot(&spec.name);
        Ok(Launch { slot, spec, release_dir: self.release_dir(record).0, env, start_id })
    }

    fn slots_record(&self) -> PathBuf {
        self.service.dir.run().join("slots")
    }

    /// Stops what ran before and has no place in this release.
    async fn stop_leftovers(&self, starts: &[StartSpec]) -> Result<(), Failure> {
        let before: Slots = sealed::read(&RealDisk, &self.slots_record()).map_err(host)?.unwrap_or_default();
        for old in before.processes {
            let stays = starts.iter().any(|new| new.name == old.name && new.manager == old.manager);
            if !stays {
                self.forget_one(&old).await?;
            }
        }
        let slots = Slots { processes: starts.to_vec() };
        sealed::write(&RealDisk, &self.slots_record(), &slots).map_err(host)
    }

    async fn stop_one(&self, start: &StartSpec) -> Result<(), Failure> {
        let slot = self.slot(&start.name);
        self.manager(start.manager)?.stop(&slot, &start.stop).await.map_err(refused)
    }

    async fn forget_one(&self, start: &StartSpec) -> Result<(), Failure> {
        let slot = self.slot(&start.name);
        self.manager(start.manager)?.forget(&slot, &start.stop).await.map_err(refused)
    }

    /// Everything that was ever started and not stopped since, and what this release would have started.
    async fn forget_all(&self, record: &ReleaseRecord) -> Result<(), Failure> {
        for start in self.starts(record) {
            self.forget_one(&start).await?;
        }
        self.stop_leftovers(&[]).await
    }

    async fn start_all(&self, record: &ReleaseRecord) -> Result<(), Failure> {
        for spec in self.make_way(record).await? {
            let launch = self.launch(record, spec)?;
            self.start_one(launch).await?;
        }
        Ok(())
    }

    /// What goes on serving beside the failed release is kept; the rest is started again.
    async fn keep_or_start_all(&self, record: &ReleaseRecord) -> Result<(), Failure> {
        for spec in self.make_way(record).await? {
            let mut launch = self.launch(record, spec)?;
            match self.manager(launch.spec.manager)?.keep(&launch).await.map_err(refused)? {
                Some(kept) => {
                    launch.env.insert(START_KEY.to_owned(), kept.start_id.clone());
                    launch.start_id = kept.start_id;
                    self.launches.borrow_mut().push((launch, kept.since_ticks));
                }
                None => self.start_one(launch).await?,
            }
        }
        Ok(())
    }

    /// Ends what has no place beside this release. Returns what belongs to it.
    async fn make_way(&self, record: &ReleaseRecord) -> Result<Vec<StartSpec>, Failure> {
        let starts = self.starts(record);
        self.launches.borrow_mut().clear();
        Adopted::take_over(&self.service.dir).await.map_err(not_taken_over)?;
        self.stop_leftovers(&starts).await?;
        Ok(starts)
    }

    async fn start_one(&self, launch: Launch) -> Result<(), Failure> {
        let since = proc::now_ticks();
        self.manager(launch.spec.manager)?.start(&launch).await.map_err(refused)?;
        self.launches.borrow_mut().push((launch, since));
        Ok(())
    }

    /// Ends what served beside the last start of each process.
    async fn settle_all(&self) -> Result<(), Failure> {
        let started: Slots = sealed::read(&RealDisk, &self.slots_record()).map_err(host)?.unwrap_or_default();
        for start in started.processes {
            let slot = self.slot(&start.name);
            self.manager(start.manager)?.settle(&slot).await.map_err(refused)?;
        }
        Ok(())
    }

    async fn judge(
        &self,
        record: &ReleaseRecord,
        attempt: u64,
        newer: Newer<'_>,
    ) -> Result<Verdict, Failure> {
        let launches = self.launches.borrow().clone();
        let mut started = Vec::with_capacity(launches.len());
        for (launch, since_ticks) in &launches {
            let manager = self.manager(launch.spec.manager)?;
            started.push(Started { manager, launch, since_ticks: *since_ticks });
        }
        let env = self.env(record)?;
        let checks = self.checks(record);
        let verification = Verification {
            started: &started,
            checks: &checks,
            env: &env,
            release_dir: &self.release_dir(record).0,
            account: self.service.account.as_ref(),
            runner: &self.service.runner,
        };
        Ok(match health::verify(&verification, newer).await.map_err(refused)? {
            health::Verdict::Healthy(_) => Verdict::Healthy,
            health::Verdict::Superseded => Verdict::Superseded,
            health::Verdict::Unhealthy { reason, evidence } => {
                self.keep_evidence(attempt, &evidence)?;
                Verdict::Unhealthy(self.unhealthy(&reason))
            }
        })
    }

    /// Evidence belongs to the failure it explains: a later verification of the same attempt (the revert's)
    /// does not replace it.
    fn keep_evidence(&self, attempt: u64, evidence: &impl Serialize) -> Result<(), Failure> {
        let dir = self.service.dir.attempt(attempt);
        let path = dir.join(EVIDENCE);
        if path.exists() {
            return Ok(());
        }
        let json = serde_json::to_vec_pretty(evidence).expect("evidence holds only what JSON can say");
        RealDisk.create_dir(&dir).and_then(|()| RealDisk.replace(&path, &json)).map_err(|error| Failure {
            class: Class::Host,
            reason: "EvidenceNotKept".to_owned(),
            message: format!("{}: {error}", path.display()),
        })
    }

    /// Tries every process that the recipe wants tried, one after the other.
    async fn try_out(
        &self,
        record: &ReleaseRecord,
        attempt: u64,
        newer: Newer<'_>,
    ) -> Result<Verdict, Failure> {
        let env = self.env(record)?;
        let checks = self.checks(record);
        let starts = self.starts(record);
        for wanted in record.spec.preflight.iter().filter(|preflight| preflight.enabled) {
            let start = starts.iter().find(|start| start.name == wanted.name);
            let Some(spec) = start.filter(|_| applies(&wanted.roles, &self.service.roles)) else { continue };
            let trial = Preflight {
                spec,
                port_env: &wanted.port_env,
                release_dir: &self.release_dir(record).0,
                env: &env,
                account: self.service.account.as_ref(),
                checks: &checks,
                runner: &self.service.runner,
            };
            match preflight(&trial, newer).await {
                Ok(Tryout::Passed) => {}
                Ok(Tryout::Superseded) => return Ok(Verdict::Superseded),
                Ok(Tryout::Failed(failed)) => {
                    self.keep_evidence(attempt, &failed)?;
                    return Err(preflight_failure(Class::Start, failed));
                }
                // The trial was impossible here; that says nothing about the release.
                Err(error) => return Err(preflight_failure(Class::Host, error)),
            }
        }
        Ok(Verdict::Healthy)
    }

    async fn how_all_run(&self, record: &ReleaseRecord) -> Result<Running, Failure> {
        let release_dir = self.release_dir(record).0;
        let mut all = Running::Yes;
        for start in self.starts(record) {
            let slot = self.slot(&start.name);
            let facts = self.manager(start.manager)?.inspect(&slot).await.map_err(refused)?;
            all = all.and(facts.running(&release_dir, start.instances));
        }
        match self.others(record).await?.is_empty() {
            true => Ok(all),
            false => Ok(Running::Elsewhere),
        }
    }

    /// Processes of other releases of this app that nobody landfall knows has started.
    async fn others(&self, record: &ReleaseRecord) -> Result<Vec<ProcessId>, Failure> {
        let releases = self.service.dir.releases();
        let mut found = strangers(&releases, &self.release_dir(record).0, |name| self.commands(name));
        if found.is_empty() {
            return Ok(found);
        }
        for start in self.starts(record) {
            let slot = self.slot(&start.name);
            let facts = self.manager(start.manager)?.inspect(&slot).await.map_err(refused)?;
            let beside = facts.beside.map(|shim| proc::descendants(shim.pid)).unwrap_or_default();
            found.retain(|id| beside.iter().all(|known| known.id != *id));
        }
        Ok(found)
    }

    /// How the processes of a release are started, as far as that can be known now.
    fn commands(&self, release: &str) -> Vec<Vec<String>> {
        let path = ReleaseDir(self.service.dir.release(release)).record();
        let Ok(Some(record)) = sealed::read::<ReleaseRecord>(&RealDisk, &path) else { return Vec::new() };
        let Ok(env) = self.env(&record) else { return Vec::new() };
        self.starts(&record).iter().filter_map(|start| argv(&start.command, &env).ok()).collect()
    }

    async fn end_all_others(&self, record: &ReleaseRecord) -> Result<(), Failure> {
        let others = self.others(record).await?;
        for id in &others {
            let what = proc::Holder::of(*id).map(|holder| holder.to_string());
            tracing::warn!(app = %self.service.app, process = what, "ending a process of another release");
        }
        let Some(start) = self.starts(record).into_iter().next() else { return Ok(()) };
        let signal = signals::named(&start.stop.signal).unwrap_or(rustix::process::Signal::TERM);
        match end(&others, signal, start.stop.grace.duration()).await.first() {
            None => Ok(()),
            Some(left) => Err(Failure {
                class: Class::Start,
                reason: "StartFailed".to_owned(),
                message: format!("pid {} of another release is still alive after it was killed", left.pid),
            }),
        }
    }

    /// What lives of a release now.
    pub async fn living(&self, record: &ReleaseRecord) -> Living {
        let release_dir = self.release_dir(record).0;
        let mut living = Living { ids: Vec::new(), running: Running::Yes };
        for start in self.starts(record) {
            let Ok(manager) = self.manager(start.manager) else { continue };
            let facts = manager.inspect(&self.slot(&start.name)).await.unwrap_or_default();
            living.running = living.running.and(facts.running(&release_dir, start.instances));
            living.ids.extend(facts.processes.into_iter().chain(facts.supervisor));
        }
        living
    }
}

impl Processes for AppProcesses {
    fn starts_nothing(&self, record: &ReleaseRecord) -> bool {
        self.starts(record).is_empty()
    }

    fn running<'a>(&'a self, record: &'a ReleaseRecord) -> Pending<'a, Running> {
        Box::pin(async {
            self.how_all_run(record).await.unwrap_or_else(|failure| {
                tracing::warn!(app = %self.service.app, %failure.message, "cannot tell whether it runs");
                Running::No
            })
        })
    }

    fn ready<'a>(&'a self, record: &'a ReleaseRecord) -> Pending<'a, Result<(), Failure>> {
        Box::pin(async {
            for start in self.starts(record) {
                let slot = self.slot(&start.name);
                self.manager(start.manager)?.ready(&slot).await.map_err(refused)?;
                listens(&start, &self.env(record)?).map_err(no_address)?;
            }
            self.unobstructed(record)
        })
    }

    fn end_others<'a>(&'a self, record: &'a ReleaseRecord) -> Pending<'a, Result<(), Failure>> {
        Box::pin(self.end_all_others(record))
    }

    fn preflight<'a>(
        &'a self,
        record: &'a ReleaseRecord,
        attempt: u64,
        newer: Newer<'a>,
    ) -> Pending<'a, Verdict> {
        Box::pin(async move { self.try_out(record, attempt, newer).await.unwrap_or_else(Verdict::Unhealthy) })
    }

    fn start<'a>(&'a self, record: &'a ReleaseRecord, _: u64) -> Pending<'a, Result<(), Failure>> {
        Box::pin(self.start_all(record))
    }

    fn go_back<'a>(&'a self, record: &'a ReleaseRecord, _: u64) -> Pending<'a, Result<(), Failure>> {
        Box::pin(self.keep_or_start_all(record))
    }

    fn settle<'a>(&'a self) -> Pending<'a, Result<(), Failure>> {
        Box::pin(self.settle_all())
    }

    fn verify<'a>(
        &'a self,
        record: &'a ReleaseRecord,
        attempt: u64,
        newer: Newer<'a>,
    ) -> Pending<'a, Verdict> {
        Box::pin(async move { self.judge(record, attempt, newer).await.unwrap_or_else(Verdict::Unhealthy) })
    }

    fn stop<'a>(&'a self, record: &'a ReleaseRecord) -> Pending<'a, Result<(), Failure>> {
        Box::pin(async {
            for start in self.starts(record) {
                self.stop_one(&start).await?;
            }
            Ok(())
        })
    }

    fn forget<'a>(&'a self, record: &'a ReleaseRecord) -> Pending<'a, Result<(), Failure>> {
        Box::pin(self.forget_all(record))
    }

    fn persist<'a>(&'a self, record: &'a ReleaseRecord) -> Pending<'a, Result<(), Failure>> {
        Box::pin(async {
            for start in self.starts(record) {
                let slot = self.slot(&start.name);
                self.manager(start.manager)?.persist(&slot).await.map_err(refused)?;
            }
            Ok(())
        })
    }
}

fn host(error: RecordError) -> Failure {
    Failure { class: Class::Host, reason: "RecordFailed".to_owned(), message: error.to_string() }
}

/// Said before anything is touched.
fn no_address(message: String) -> Failure {
    Failure { class: Class::Refused, reason: "SocketInvalid".to_owned(), message }
}

/// What runs outside landfall goes on; that says nothing of the release.
fn not_taken_over(error: TakeOverError) -> Failure {
    Failure { class: Class::Manager, reason: "NotTakenOver".to_owned(), message: error.to_string() }
}

fn refused(error: StartError) -> Failure {
    let (class, reason) = match &error {
        StartError::ManagerDown { .. } => (Class::Manager, "ManagerDown"),
        StartError::Io { .. } => (Class::Host, "RecordFailed"),
        StartError::Refused { .. } | StartError::WouldNotDie { .. } => (Class::Start, "StartFailed"),
    };
    Failure { class, reason: reason.to_owned(), message: error.to_string() }
}

fn preflight_failure(class: Class, what: impl ToString) -> Failure {
    Failure { class, reason: "PreflightFailed".to_owned(), message: what.to_string() }
}

impl AppProcesses {
    /// Before landfall starts an app here for the first time, its ports are free, or held by what was adopted. Anything
    /// else goes on running: it may be the app itself.
    fn unobstructed(&self, record: &ReleaseRecord) -> Result<(), Failure> {
        let slots: Option<Slots> = sealed::read(&RealDisk, &self.slots_record()).map_err(host)?;
        let adopted = Adopted::read(&self.service.dir).map_err(host)?;
        if slots.is_some_and(|slots| !slots.processes.is_empty()) && adopted.is_none() {
            return Ok(());
        }
        let (env, checks) = (self.env(record)?, self.checks(record));
        let asking = health::Asking {
            answerers: Vec::new(),
            beside: Vec::new(),
            supervisors: Vec::new(),
            env: &env,
            release_dir: &self.release_dir(record).0,
            account: self.service.account.as_ref(),
            runner: &self.service.runner,
        };
        let known = adopted.as_ref().map(Adopted::living).unwrap_or_default();
        let own = |holder: &Holder| {
            let adopted = known.iter().any(|id| id.pid == holder.pid);
            // Under pm2 cluster its daemon listens for its workers.
            adopted || holder.command.starts_with("PM2") || self.works_in_a_release(holder)
        };
        let held = health::ports(&checks, &asking)
            .into_iter()
            .find_map(|port| Some((port, proc::listeners(port).into_iter().find(|by| !own(by))?)));
        let Some((port, holder)) = held else { return Ok(()) };
        Err(Failure {
            class: Class::Refused,
            reason: "PortHeld".to_owned(),
            message: format!(
                "port {port} is held by {holder}, and landfall did not start it{}",
                self.to_adopt(&holder)
            ),
        })
    }

    fn works_in_a_release(&self, holder: &Holder) -> bool {
        let releases = self.service.dir.releases();
        let releases = releases.canonicalize().unwrap_or(releases);
        holder.cwd.as_ref().is_some_and(|cwd| cwd.starts_with(releases))
    }

    fn to_adopt(&self, holder: &Holder) -> String {
        let (app, pid) = (&self.service.app, holder.pid);
        let way = of_systemd(app, pid).unwrap_or_else(|| {
            format!(
                "if that is the app, started by other means: `landfall adopt {app} --pid {pid}`; else stop it"
            )
        });
        format!("; {way}")
    }

    /// Somebody else's process on the app's port may be the app itself, started by other means.
    fn unhealthy(&self, reason: &health::Reason) -> Failure {
        let mut failure = unhealthy(reason);
        if let health::Reason::PortHeld { holder, .. } = reason
            && !self.works_in_a_release(holder)
        {
            failure.message.push_str(&self.to_adopt(holder));
        }
        failure
    }
}

/// The unit of a process, if it is not that of this agent, below which apps live as well.
pub(crate) fn foreign_unit(pid: u32) -> Option<String> {
    proc::unit(pid).filter(|unit| proc::unit(std::process::id()).as_ref() != Some(unit))
}

/// What to do about a process that holds a port and that systemd has started, or is.
pub(crate) fn of_systemd(app: &Name, pid: u32) -> Option<String> {
    if pid == proc::INIT {
        return Some("a socket unit of systemd listens there: `systemctl list-sockets` names it".to_owned());
    }
    foreign_unit(pid).map(|unit| {
        format!(
            "it belongs to the systemd unit {unit}: if that is the app, `landfall adopt {app} --pid {pid}` and then \
             `systemctl disable {unit}`, with Restart=no in it; else `systemctl disable --now {unit}`"
        )
    })
}

fn unhealthy(reason: &health::Reason) -> Failure {
    let word = match reason {
        health::Reason::Process(_) => "ProcessExited",
        health::Reason::PortHeld { .. } => "PortHeld",
        health::Reason::Check { .. } => "HealthCheckFailed",
    };
    Failure { class: Class::Health, reason: word.to_owned(), message: reason.to_string() }
}

/// The state may change limits, never what is asked.
fn limited(mut health: HealthSpec, limits: Option<&HealthLimits>) -> HealthSpec {
    let Some(limits) = limits else { return health };
    health.attempts = limits.attempts.unwrap_or(health.attempts);
    health.interval = limits.interval.unwrap_or(health.interval);
    health.timeout = limits.timeout.unwrap_or(health.timeout);
    health.successes = limits.successes.unwrap_or(health.successes);
    health.settle = limits.settle.unwrap_or(health.settle);
    health
}
