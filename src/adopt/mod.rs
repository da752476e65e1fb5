//! Adopting: an app that runs already, started by other means, becomes the release that a first deploy goes back to.
//!
//! [`plan`] looks at the running app and decides; [`prove`] asks it, as a health check would; [`record`] copies its
//! tree into a release. None of them changes, stops or restarts anything of it. How the processes end when landfall
//! takes over is in [`crate::adopted`].

mod command;
mod find;
mod tree;

use std::collections::BTreeMap;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};

use landfall_store::blob::BlobSource;
use landfall_store::location::StoreLocation;
use landfall_store::push::{LayerContent, PushOptions, push};
use landfall_store::scan::{LayerSource, Mapping, ScanError, ScanOptions, scan};
use landfall_store::{
    Artifact, BlobId, Entry, EntryPath, Kind, Layer, Name, Store, StoreError, Tree, Version,
};

use crate::adopted::{Adopted, Pm2Entry};
use crate::deploy;
use crate::disk::{Disk, RealDisk};
use crate::env::{self, LayerKind};
use crate::health;
use crate::host::Host;
use crate::proc::user_name;
use crate::recipe::Recipe;
use crate::record::RecordError;
use crate::record::history;
use crate::record::journal::{Failure, Target};
use crate::retry::Patience;
use crate::spec::{
    Check, EnvSpec, HEALTH_ATTEMPTS, HEALTH_INTERVAL, HEALTH_SETTLE, HEALTH_SUCCESSES, HEALTH_TIMEOUT,
    HealthSpec, PathsSpec, ReleaseSpec,
};
use crate::start::Account;
use crate::start::pm2::foreign;
use crate::watch::{AgentError, Shared, Site, Tuning};

pub use command::Captured;
pub use find::{Found, Whence};
pub use tree::{Sorted, Wishes};

/// The layer that holds an adopted tree.
const LAYER: &str = "app";

/// Why a running app cannot be adopted. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// Nothing has this pid.
    #[error("there is no process {0}")]
    NoProcess(u32),
    /// Another account's process.
    #[error("process {0} may not be looked at by this account")]
    Unreadable(u32),
    /// That pm2 does not run.
    #[error("no pm2 daemon lives for PM2_HOME {}", .0.display())]
    NoPm2(PathBuf),
    /// That pm2 runs nothing of this name.
    #[error("no process runs under the name `{name}` in the pm2 of {}", .home.display())]
    NoEntry {
        /// The name.
        name: String,
        /// Its `PM2_HOME`.
        home: PathBuf,
    },
    /// That pm2 did not tell.
    #[error("pm2 in {}: {why}", .home.display())]
    Pm2 {
        /// Its `PM2_HOME`.
        home: PathBuf,
        /// What it said.
        why: String,
    },
    /// A tree without a process.
    #[error("no process works in {}", .0.display())]
    NothingRuns(PathBuf),
    /// Processes of two directories.
    #[error("what runs works in {}, not in {}", .runs.display(), .current.display())]
    Elsewhere {
        /// The one that was meant.
        current: PathBuf,
        /// The other.
        runs: PathBuf,
    },
    /// There is nothing left to copy.
    #[error("process {pid} works in {}, which was removed", .tree.display())]
    TreeRemoved {
        /// The process.
        pid: u32,
        /// Where it worked.
        tree: PathBuf,
    },
    /// A directory of everything.
    #[error("{} is no directory of one app", .0.display())]
    NotAnApp(PathBuf),
    /// Its arguments are a title.
    #[error("process {0} has overwritten its arguments: how it was started cannot be read")]
    Untold(u32),
    /// The release would run with other rights.
    #[error("the app runs as `{runs}`, and landfall would run it as `{would}`")]
    OtherUser {
        /// The account it runs as.
        runs: String,
        /// That of host.toml, else landfall's own.
        would: String,
    },
    /// Some of them, as `link → target`.
    #[error("links lead out of the tree: {}", .0.join(", "))]
    LinksOutside(Vec<String>),
    /// A copy would be torn, and read-only in a release.
    #[error("process {pid} has `{path}` open for writing in its tree")]
    Writes {
        /// The process.
        pid: u32,
        /// The file.
        path: String,
    },
    /// How many.
    #[error("{0} files of the tree may not be read by everybody; as private files they are too many")]
    TooManyPrivate(usize),
    /// Which file.
    #[error("`{0}` may not be read by everybody, and is too large for a private file")]
    PrivateTooLarge(String),
    /// A shared path.
    #[error("{} is not a directory", .0.display())]
    NotADirectory(PathBuf),
    /// What the check saw.
    #[error("what runs does not answer for itself: {0}")]
    NotProved(String),
    /// There is nothing to adopt.
    #[error("landfall runs `{app}` here already, in release {release}")]
    RunsAlready {
        /// The app.
        app: Name,
        /// Its release.
        release: String,
    },
    /// The system refused.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Its tree.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// The copy of it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// landfall's own records.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// This host.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// Its release could not be made.
    #[error("{}", .0.message)]
    Release(Failure),
    /// Its files make no artifact.
    #[error("{0}")]
    Artifact(String),
}

impl AdoptError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoProcess(_) | Self::NothingRuns(_) => {
                "start the app as it was always started, or point at it with --pid".to_owned()
            }
            Self::Unreadable(_) => "run it as root or as the account of the app".to_owned(),
            Self::NoPm2(_) | Self::NoEntry { .. } => {
                "`pm2 ls`, as the account that runs the app, shows the names; --pm2-home names its directory".to_owned()
            }
            Self::Elsewhere { .. } => "adopt what runs: --pid, or restart it from `current` first".to_owned(),
            Self::TreeRemoved { .. } | Self::NotAnApp(_) => {
                "restart the app from a directory of its own first".to_owned()
            }
            Self::Untold(_) => "say it: `landfall adopt … -- node server.js`".to_owned(),
            Self::OtherUser { runs, .. } => {
                format!("set `user = \"{runs}\"` under [apps.<app>] in host.toml, and run landfall as root")
            }
            Self::LinksOutside(_) => {
                "--shared PATH for a directory that stays where it is; --exclude PATH to leave it out".to_owned()
            }
            Self::Writes { .. } => {
                "--shared DIR for a directory that stays where it is, so that both use it; --exclude PATH to leave it out".to_owned()
            }
            Self::TooManyPrivate(_) => {
                "`chmod -R o+rX` what is no secret: releases may be read by everybody on the host".to_owned()
            }
            Self::PrivateTooLarge(_) => "--exclude PATH, or make it readable if it is no secret".to_owned(),
            Self::NotProved(_) => "--http URL says what to ask it; is it the process that serves?".to_owned(),
            Self::RunsAlready { app, .. } => format!("`landfall status {app}` shows it"),
            _ => return None,
        })
    }
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Request {
    /// The app.
    pub app: Name,
    /// Which processes.
    pub whence: Whence,
    /// Its version; absent: from its package.json or its directory.
    pub version: Option<Version>,
    /// How it is started and checked; absent: as its processes tell.
    pub recipe: Option<Recipe>,
    /// How it is started, where its processes do not tell.
    pub command: Vec<String>,
    /// What it is asked.
    pub http: Option<String>,
    /// What becomes of some paths.
    pub wishes: Wishes,
}

/// What an adoption will do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What runs.
    pub found: Found,
    /// Its environment.
    pub captured: Captured,
    /// Its tree.
    pub sorted: Sorted,
    /// The release it becomes.
    pub spec: ReleaseSpec,
    /// What is remembered of its processes.
    pub adopted: Adopted,
    /// Keys whose values go on naming the old tree.
    pub bound: Vec<String>,
    app: Name,
}

/// Looks at the running app and decides what its adoption will do.
pub async fn plan(site: &Site, host: &Host, request: &Request) -> Result<Plan, AdoptError> {
    let found = find::find(&request.whence)?;
    may_be_one_app(&found.tree, host)?;
    same_user(&found, site.service.account.as_ref())?;
    let path = host.clean_env(None).remove("PATH").unwrap_or_default();
    let pm2 = found.pm2.clone().map(|(home, name)| entry(home, name, found.user, &path)).transpose()?;
    let described = match &pm2 {
        Some(entry) => {
            let told = foreign::describe(entry).await;
            Some(told.map_err(|why| AdoptError::Pm2 { home: entry.home.clone(), why })?)
        }
        None => None,
    };
    let captured = command::environment(&found, described.as_ref());
    let sorted = tree::sort(&found, &request.wishes)?;
    let ports = found.ports(captured.vars.get("PORT").map(String::as_str));
    let spec = spec(site, request, &found, described.as_ref(), &captured, &sorted, &ports)?;
    let stop = spec.start.first().map(|start| start.stop.clone());
    let adopted = Adopted {
        processes: found.processes.clone(),
        user: found.user,
        ports,
        pm2,
        stop: stop.ok_or(AdoptError::Untold(found.processes[0].pid))?,
    };
    let bound = command::bound_to_the_tree(&found, &captured);
    Ok(Plan { found, captured, sorted, spec, adopted, bound, app: request.app.clone() })
}

fn may_be_one_app(tree: &Path, host: &Host) -> Result<(), AdoptError> {
    let root = host.root.path().canonicalize().unwrap_or_else(|_| host.root.path().to_owned());
    match tree.parent().is_none() || root.starts_with(tree) {
        true => Err(AdoptError::NotAnApp(tree.to_owned())),
        false => Ok(()),
    }
}

fn same_user(found: &Found, account: Option<&Account>) -> Result<(), AdoptError> {
    let own = rustix::process::geteuid().as_raw();
    let would = account.map_or(own, |account| account.uid);
    match found.user == would {
        true => Ok(()),
        false => Err(AdoptError::OtherUser { runs: user_name(found.user), would: user_name(would) }),
    }
}

fn entry(home: PathBuf, name: String, user: u32, path: &str) -> Result<Pm2Entry, AdoptError> {
    let program = foreign::program(path).ok_or_else(|| AdoptError::Pm2 {
        home: home.clone(),
        why: format!("there is no `pm2` on PATH ({path}) to take the entry from it later"),
    })?;
    let other = user != rustix::process::geteuid().as_raw();
    let known = nix::unistd::User::from_uid(user.into()).ok().flatten().filter(|_| other);
    let account = known.map(|user| Account {
        name: user.name,
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
        home: user.dir,
    });
    Ok(Pm2Entry { home, name, program, path: path.to_owned(), account })
}

fn spec(
    site: &Site,
    request: &Request,
    found: &Found,
    pm2: Option<&foreign::Described>,
    captured: &Captured,
    sorted: &Sorted,
    ports: &[u16],
) -> Result<ReleaseSpec, AdoptError> {
    let version = match &request.version {
        Some(version) => version.clone(),
        None => version_of(&found.tree)?,
    };
    let mut spec = match &request.recipe {
        Some(recipe) => recipe.release_spec(version),
        None => ReleaseSpec {
            version,
            requires: Vec::new(),
            env: EnvSpec::default(),
            paths: PathsSpec::default(),
            steps: Vec::new(),
            start: vec![command::start(found, pm2, &request.command, captured)?],
            health: checks(request.http.as_deref(), ports),
            preflight: Vec::new(),
            retain: None,
        },
    };
    // Its steps have run where it runs; its trial would take the port of what runs.
    spec.steps = Vec::new();
    spec.preflight = Vec::new();
    // What its process was started with is its environment: nothing is added to it or asked of it.
    let environment = site.service.environment.clone();
    spec.env = EnvSpec {
        environments: vec![environment.clone()],
        names: BTreeMap::from([(environment, command::ENV_NAME.to_owned())]),
        local_optional: true,
        ..EnvSpec::default()
    };
    // Links to what stays where it is are made by hand, so no verification expects anything there.
    spec.paths = PathsSpec {
        writable: sorted.shared.iter().map(|(path, _)| path.clone()).chain(spec.paths.writable).collect(),
        ..PathsSpec::default()
    };
    Ok(spec)
}

fn checks(http: Option<&str>, ports: &[u16]) -> Vec<HealthSpec> {
    let tcp = || ports.first().map(|port| Check::Tcp(format!("127.0.0.1:{port}")));
    let check = http.map(|url| Check::Http(url.to_owned())).or_else(tcp);
    let health = |check| HealthSpec {
        name: "main".parse().expect("it is a name"),
        check,
        body_contains: None,
        attempts: HEALTH_ATTEMPTS,
        interval: HEALTH_INTERVAL,
        timeout: HEALTH_TIMEOUT,
        successes: HEALTH_SUCCESSES,
        settle: HEALTH_SETTLE,
        advisory: false,
        roles: Vec::new(),
    };
    check.into_iter().map(health).collect()
}

/// Never the version of a packed artifact: it is another one.
fn version_of(tree: &Path) -> Result<Version, AdoptError> {
    let manifest = std::fs::read(tree.join("package.json")).unwrap_or_default();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap_or_default();
    let own = manifest["version"].as_str().map(str::to_owned);
    let name = || tree.file_name().map(|name| name.to_string_lossy().into_owned());
    let found = [own, name()].into_iter().flatten().find_map(|text| format!("{text}+adopted").parse().ok());
    Ok(found.unwrap_or_else(|| "0+adopted".parse().expect("it is a version")))
}

/// Asks the running app what its release will be asked, and believes only its own processes.
pub async fn prove(plan: &Plan, site: &Site) -> Result<(), AdoptError> {
    for check in &plan.spec.health {
        let asked = health::Answering {
            check,
            env: &plan.captured.vars,
            dir: &plan.found.tree,
            account: site.service.account.as_ref(),
            runner: &site.service.runner,
        };
        asked.try_for_a_while().await.map_err(AdoptError::NotProved)?;
    }
    let gone = plan.found.processes.iter().find(|id| !crate::proc::is_alive(**id));
    gone.map_or(Ok(()), |id| Err(AdoptError::NotProved(format!("process {} has ended", id.pid))))
}

/// Copies the tree into a release and puts it on record as the one to go back to. Only under the lock.
pub async fn record(
    plan: &Plan,
    host: &Host,
    environment: &Name,
    by: Option<String>,
) -> Result<history::Entry, AdoptError> {
    let scratch = Scratch::new(host)?;
    let artifact = store(plan, environment, &scratch)?;
    let id = artifact.id().map_err(|error| AdoptError::Artifact(error.to_string()))?;
    let host = Host { store: StoreLocation::Dir(scratch.0.clone()).into(), ..host.clone() };
    let secret = host.secret_or_new().map_err(AgentError::Host)?;
    let shared = Shared::with_secret(host, environment.clone(), secret, Patience::Once)?;
    let site = shared.site(&plan.app, Tuning::default())?;
    let mut app = site.app()?;
    for dir in site.dir.to_create() {
        RealDisk.create_dir(&dir).map_err(RecordError::io(&dir))?;
    }
    let effects = site.effects();
    let fetched = effects.supply.fetch(&id).await.map_err(|setback| AdoptError::Release(setback.failure))?;
    if effects.supply.verify(&fetched.release, crate::effects::Depth::Deep).await.is_err() {
        effects.supply.build(&fetched).await.map_err(AdoptError::Release)?;
        link(plan, &site.dir.release(&fetched.release.name))?;
        effects.supply.finish(&fetched).await.map_err(AdoptError::Release)?;
    }
    plan.adopted.write(&site.dir)?;
    let target =
        Target { by, why: Some(format!("it ran in {}", plan.found.tree.display())), ..Target::of(id) };
    Ok(deploy::adopt(&mut app, effects, target, fetched.release)?)
}

/// What stays where it is, is linked.
fn link(plan: &Plan, release: &Path) -> Result<(), AdoptError> {
    for (path, target) in &plan.sorted.shared {
        let link = release.join(path);
        // As a path that is written to it was made empty; only an empty directory is taken away.
        let made = match std::fs::remove_dir(&link) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => link.parent().map_or(Ok(()), std::fs::create_dir_all),
        };
        made.and_then(|()| std::os::unix::fs::symlink(target, &link))
            .map_err(|source| AdoptError::Io { path: link, source })?;
    }
    Ok(())
}

fn store(plan: &Plan, environment: &Name, scratch: &Scratch) -> Result<Artifact, AdoptError> {
    let files = scan(
        &LayerSource {
            name: LAYER.parse().expect("it is a name"),
            root: plan.found.tree.clone(),
            files: vec![Mapping { from: plan.found.tree.clone(), to: String::new() }],
            exclude: plan.sorted.exclude.iter().map(|path| pattern(path)).collect(),
            env: false,
            env_files: Vec::new(),
        },
        &ScanOptions::default(),
    )?;
    let secrets = Secrets::of(plan)?;
    let layers = vec![
        layer(LAYER, None, &files.tree),
        layer(landfall_store::artifact::ENV_LAYER, Some(environment), &secrets.tree),
    ];
    let artifact = Artifact::new(plan.app.clone(), Some(environment.clone()), layers, plan.spec.to_map())
        .map_err(|error| AdoptError::Artifact(error.to_string()))?;
    let contents =
        [files.content(), LayerContent { id: secrets.tree.id(), tree: &secrets.tree, source: &secrets }];
    push(&Store::create(&scratch.0)?, &artifact, &contents, &PushOptions::default())?;
    Ok(artifact)
}

/// The path itself, as a pattern.
fn pattern(path: &str) -> String {
    let escaped: String =
        path.chars().flat_map(|c| "\\*?[]!# ".contains(c).then_some('\\').into_iter().chain([c])).collect();
    format!("/{escaped}")
}

fn layer(name: &str, environment: Option<&Name>, tree: &Tree) -> Layer {
    Layer {
        bytes: tree.bytes(),
        environment: environment.cloned(),
        files: tree.files(),
        mount: String::new(),
        name: name.parse().expect("it is a name"),
        roles: Vec::new(),
        tree: tree.id(),
    }
}

/// The env file and the private files, never in a directory of their own.
struct Secrets {
    tree: Tree,
    contents: BTreeMap<BlobId, Vec<u8>>,
}

impl Secrets {
    fn of(plan: &Plan) -> Result<Self, AdoptError> {
        let environment = plan.spec.env.environments.first().expect("an adopted spec has one");
        let env_name = env::file_name(&plan.spec.env, environment, LayerKind::Base);
        let mut files = vec![(env_name, command::env_file(&plan.captured).into_bytes())];
        for private in &plan.sorted.private {
            files.push((private.path.clone(), private.read()?));
        }
        let mut contents = BTreeMap::new();
        let mut entries = Vec::new();
        for (path, bytes) in files {
            let blob = BlobId::of(&bytes);
            let path =
                EntryPath::new(path.as_bytes()).map_err(|error| AdoptError::Artifact(error.to_string()))?;
            entries
                .push(Entry { path, kind: Kind::File { size: bytes.len() as u64, blob, executable: false } });
            contents.insert(blob, bytes);
        }
        let tree = Tree::from_entries(entries).map_err(|error| AdoptError::Artifact(error.to_string()))?;
        Ok(Self { tree, contents })
    }
}

impl BlobSource for Secrets {
    fn open(&self, blob: &BlobId, _: u64) -> io::Result<Box<dyn Read + '_>> {
        let bytes = self.contents.get(blob).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(Cursor::new(bytes)))
    }
}

/// A store of one artifact, private, gone when the release is there.
struct Scratch(PathBuf);

impl Scratch {
    fn new(host: &Host) -> Result<Self, AdoptError> {
        use std::os::unix::fs::DirBuilderExt;
        let parent = host.root.spool();
        let path = parent.join("adopting");
        let at = |source| AdoptError::Io { path: path.clone(), source };
        RealDisk.create_dir(&parent).map_err(at)?;
        match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(error)),
            _ => {}
        }
        std::fs::DirBuilder::new().mode(0o700).create(&path).map_err(at)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "it holds secrets: remove it");
        }
    }
}
