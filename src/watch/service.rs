//! From configuration to the effects of one app: what a tick works with.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use landfall_store::Name;
use tokio::sync::Semaphore;

use super::{AgentError, Settings, Tuning};
use crate::config::{OnEnvChange, StartOverride};
use crate::deploy::{App, Asking};
use crate::disk::{Disk, RealDisk};
use crate::effects::{Effects, SystemClock};
use crate::host::{Host, Secret};
use crate::layout::AppDir;
use crate::plan::{Desired, Running};
use crate::processes::{AppProcesses, Living, Managers, Service};
use crate::reconcile::{Terms, Tick, reconcile};
use crate::record::RecordError;
use crate::record::controls::Controls;
use crate::record::history::History;
use crate::record::journal::{Class, Failure, Journal};
use crate::record::quarantine::Quarantine;
use crate::release::{EnvFiles, HostSupply, Skip};
use crate::retry::Patience;
use crate::spec::ManagerKind;
use crate::start::direct::Direct;
use crate::start::pm2::Pm2;
use crate::start::systemd::Systemd;
use crate::start::{Account, Manager};
use crate::step::Runner;

/// What all apps of this host share.
pub struct Shared {
    /// The host.
    pub host: Host,
    /// Its environment.
    pub environment: Name,
    secret: Secret,
    direct: Rc<dyn Manager>,
    runner: Runner,
    patience: Patience,
    /// Releases that are prepared at once: what they do is mostly computing.
    places: Arc<Semaphore>,
    looks_only: bool,
}

/// What a command line says of one release, above host.toml.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// The base env layer's file.
    pub env_base: Option<PathBuf>,
    /// The local env layer's file.
    pub env_local: Option<PathBuf>,
    /// Who runs its processes.
    pub manager: Option<ManagerKind>,
    /// Steps that are left out.
    pub skip: Skip,
    /// What an edited env file does, instead of what host.toml says.
    pub on_env_change: Option<OnEnvChange>,
}

/// One app of this host, with its effects.
pub struct Site {
    /// Its directories.
    pub dir: AppDir,
    /// What it is made of.
    pub service: Service,
    pub(super) supply: HostSupply,
    processes: AppProcesses,
    clock: SystemClock,
    patience: Patience,
    pub(super) retain: Option<u32>,
    terms: Terms,
}

impl Shared {
    /// Everything but the apps. Only under the lock: it may make the host's secret.
    pub fn new(settings: &Settings, patience: Patience) -> Result<Self, AgentError> {
        let host = settings.host.clone();
        let secret = host.secret_or_new()?;
        Self::with_secret(host, settings.environment.clone(), secret, patience)
    }

    /// The same for a command that only looks: it makes nothing, and needs neither lock nor agent.
    pub fn looking(host: Host, environment: Name) -> Result<Self, AgentError> {
        // Without a secret there is no release whose identity could be compared.
        let secret = host.secret()?.unwrap_or_default();
        Ok(Self { looks_only: true, ..Self::with_secret(host, environment, secret, Patience::Once)? })
    }

    /// The same where the secret is known to exist.
    pub fn with_secret(
        host: Host,
        environment: Name,
        secret: Secret,
        patience: Patience,
    ) -> Result<Self, AgentError> {
        let direct: Rc<dyn Manager> = Rc::new(Direct::of_this_program());
        let runner = Runner::of_this_program();
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let places = Arc::new(Semaphore::new(processors));
        Ok(Self { host, environment, secret, direct, runner, patience, places, looks_only: false })
    }

    /// The managers of apps that run as this account. pm2 has one home, and so one daemon, for each.
    fn managers(&self, account: Option<&Account>) -> Managers {
        let user = account.map_or("self", |account| account.name.as_str());
        let path = self.host.clean_env(account).remove("PATH").unwrap_or_default();
        let home = self.host.root.pm2().join(user);
        let pm2 = match self.looks_only {
            // What pm2 runs is read from /proc; whoever looks need not have pm2 on their own PATH.
            true => Pm2::with_program("pm2".into(), home, &path),
            false => Pm2::on_path(home, &path),
        };
        Managers {
            direct: Rc::clone(&self.direct),
            systemd: Rc::new(Systemd),
            pm2: pm2.map(|pm2| Rc::new(pm2) as Rc<dyn Manager>).map_err(|error| error.to_string()),
        }
    }

    /// Apps with records on this host, in this environment.
    pub fn apps_on_disk(&self) -> Result<BTreeSet<Name>, RecordError> {
        let apps = self.host.root.apps();
        let names = RealDisk.list(&apps).map_err(RecordError::io(&apps))?;
        let here = |name: &Name| apps.join(name.as_str()).join(self.environment.as_str()).is_dir();
        Ok(names.iter().filter_map(|name| name.parse().ok()).filter(here).collect())
    }

    /// One app.
    pub fn site(&self, app: &Name, tuning: Tuning) -> Result<Site, AgentError> {
        self.site_with(app, tuning, &Overrides::default())
    }

    /// One app, with what was said on a command line.
    pub fn site_with(&self, app: &Name, tuning: Tuning, overrides: &Overrides) -> Result<Site, AgentError> {
        let config = self.host.config.app(app).unwrap_or_default();
        let dir = self.host.root.app(app, &self.environment, config.dir.as_deref());
        let account = self.host.account(app, config.user.as_deref())?;
        let service = Service {
            managers: self.managers(account.as_ref()),
            app: app.clone(),
            environment: self.environment.clone(),
            dir: dir.clone(),
            roles: self.host.config.roles.clone(),
            account,
            start: StartOverride { manager: overrides.manager.or(config.start.manager), ..config.start },
            limits: tuning.limits,
            runner: self.runner.clone(),
        };
        let (base, local) = (overrides.env_base.clone(), overrides.env_local.clone());
        let on_env_change = overrides.on_env_change.unwrap_or(config.on_env_change);
        let env_files = EnvFiles { base, local, dir: config.env_dir, host: config.env };
        let places = Arc::clone(&self.places);
        let supply =
            HostSupply::new(&self.host, self.secret, &service, env_files, places).without(overrides.skip);
        Ok(Site {
            dir,
            processes: AppProcesses::new(service.clone()),
            service,
            supply,
            clock: SystemClock::default(),
            patience: self.patience,
            retain: tuning.retain,
            terms: Terms {
                deploy_env_changes: on_env_change == OnEnvChange::Deploy,
                requested: tuning.requested,
            },
        })
    }
}

impl Site {
    /// What a deploy of this app does to the world.
    pub fn effects(&self) -> Effects<'_> {
        Effects {
            disk: &RealDisk,
            supply: &self.supply,
            processes: &self.processes,
            clock: &self.clock,
            patience: self.patience,
        }
    }

    /// The releases of this app.
    pub const fn supply(&self) -> &HostSupply {
        &self.supply
    }

    /// The processes of this app.
    pub const fn processes(&self) -> &AppProcesses {
        &self.processes
    }

    /// On what terms the state is applied here.
    pub const fn terms(&self) -> Terms {
        self.terms
    }

    /// The app, with what is remembered of it.
    pub fn app(&self) -> Result<App, RecordError> {
        Ok(App {
            name: self.service.app.clone(),
            environment: self.service.environment.clone(),
            history: History::read(&RealDisk, &self.dir)?,
            quarantine: Quarantine::read(&RealDisk, &self.dir)?,
            controls: Controls::read(&RealDisk, &self.dir)?,
            dir: self.dir.clone(),
        })
    }

    /// Ends every process of the linked release, as before another one is started.
    pub async fn stop(&self) -> Result<(), Failure> {
        let (_, record) = crate::observe::current(
            &self.app().map_err(|error| crate::release::failure(Class::Host, "RecordFailed", error))?,
            self.effects(),
        )
        .await;
        match record {
            Some(record) => self.effects().processes.stop(&record).await,
            None => Ok(()),
        }
    }

    /// What lives of the linked release.
    pub async fn living(&self) -> Living {
        let nothing = Living { ids: Vec::new(), running: Running::No };
        let Ok(app) = self.app() else { return nothing };
        match crate::observe::current(&app, self.effects()).await {
            (_, Some(record)) => self.processes.living(&record).await,
            _ => nothing,
        }
    }

    /// Looks over the files of the linked release, and keeps what differs. True: that is news.
    pub async fn look_over(&self) -> Result<bool, Failure> {
        let own = |error: RecordError| crate::release::failure(Class::Host, "RecordFailed", error);
        let linked = || crate::switch::named(&RealDisk, &self.dir).map_err(own);
        let Some(name) = linked()? else { return Ok(false) };
        let found = self.supply.look_over(name.clone()).await?;
        // An attempt may have begun meanwhile: what it leaves is looked at next time.
        if linked()? != Some(name) || Journal::read(&RealDisk, &self.dir).map_err(own)?.is_some() {
            return Ok(false);
        }
        let news = found.keep(&RealDisk, &self.dir).map_err(own)?;
        if news {
            tracing::warn!(app = %self.service.app, release = %found.release, "looked over the files of the release: {found}");
        }
        Ok(news)
    }

    /// One tick.
    pub async fn tick(&self, wanted: Desired, asking: Asking<'_>) -> Result<Tick, RecordError> {
        if !matches!(wanted, Desired::Absent) {
            for dir in self.dir.to_create() {
                RealDisk.create_dir(&dir).map_err(RecordError::io(&dir))?;
            }
        }
        let mut app = self.app()?;
        let span =
            tracing::info_span!("app", name = %self.service.app, environment = %self.service.environment);
        let tick = reconcile(&mut app, self.effects(), wanted, self.terms, asking);
        let tick = tracing::Instrument::instrument(tick, span).await?;
        self.tidy(&app, &tick).await;
        Ok(tick)
    }
}
