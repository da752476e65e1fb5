//! The processes that run an app outside landfall, from `/proc`. Nothing is asked of them.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::AdoptError;
use crate::proc::{self, Stat};
use crate::processes::foreign_unit;
use crate::start::ProcessId;
use crate::start::pm2::foreign;

/// How the app is pointed at.
#[derive(Debug, Clone)]
pub enum Whence {
    /// By a process.
    Pid(u32),
    /// By its name under a pm2.
    Pm2 {
        /// The `PM2_HOME`.
        home: PathBuf,
        /// The entry's name.
        name: String,
    },
    /// By a directory with `releases/` and `current`.
    Dir(PathBuf),
}

/// What runs, and from where.
#[derive(Debug, Clone)]
pub struct Found {
    /// Main processes.
    pub processes: Vec<ProcessId>,
    /// Where they work.
    pub tree: PathBuf,
    /// Other names of that directory.
    pub aliases: Vec<PathBuf>,
    /// Where linked directories may be: `shared/` beside `releases/`.
    pub shared: Option<PathBuf>,
    /// The account they run as.
    pub user: u32,
    /// The pm2 entry they are workers of: its home and name.
    pub pm2: Option<(PathBuf, String)>,
    /// The systemd unit they belong to.
    pub unit: Option<String>,
}

impl Found {
    /// Main processes and everything below them.
    pub fn family(&self) -> Vec<ProcessId> {
        let below = self.processes.iter().flat_map(|id| proc::descendants(id.pid));
        let below: Vec<ProcessId> = below.filter(Stat::is_live).map(|stat| stat.id).collect();
        self.processes.iter().copied().chain(below).collect()
    }

    /// TCP ports that the family listens on; under pm2 cluster its daemon listens for it, on what PORT says.
    pub fn ports(&self, env_port: Option<&str>) -> Vec<u16> {
        let own = proc::listening(&self.family());
        let hinted = env_port.and_then(|port| port.parse().ok());
        let daemon = self.pm2.as_ref().and_then(|(home, _)| foreign::daemon(home));
        match (own.is_empty(), hinted, daemon) {
            (true, Some(port), Some(daemon)) if proc::listening(&[daemon]).contains(&port) => vec![port],
            _ => own,
        }
    }
}

/// Finds them, or says precisely why there is nothing to adopt.
pub fn find(whence: &Whence) -> Result<Found, AdoptError> {
    match whence {
        Whence::Pid(pid) => by_pid(*pid),
        Whence::Pm2 { home, name } => by_entry(home, name),
        Whence::Dir(dir) => by_dir(dir),
    }
}

fn by_pid(pid: u32) -> Result<Found, AdoptError> {
    let id = proc::identity(pid).ok_or(AdoptError::NoProcess(pid))?;
    match foreign::entry_of(pid) {
        Some((home, name)) => by_entry(&home, &name),
        None => found(vec![id], None),
    }
}

fn by_entry(home: &Path, name: &str) -> Result<Found, AdoptError> {
    let home = home.canonicalize().unwrap_or_else(|_| home.to_owned());
    if foreign::daemon(&home).is_none() {
        return Err(AdoptError::NoPm2(home));
    }
    let workers = foreign::workers(&home, name);
    if workers.is_empty() {
        return Err(AdoptError::NoEntry { name: name.to_owned(), home });
    }
    found(workers, Some((home, name.to_owned())))
}

fn by_dir(dir: &Path) -> Result<Found, AdoptError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| AdoptError::Io { path, source }
    };
    let current = dir.join("current");
    let tree = current.canonicalize().map_err(io(&current))?;
    let service = |stat: &Stat| !stat.has_terminal;
    let here: Vec<Stat> = proc::working_under(&tree).into_iter().filter(service).collect();
    let pids: HashSet<u32> = here.iter().map(|stat| stat.id.pid).collect();
    let mains = here.iter().filter(|stat| !pids.contains(&stat.parent)).map(|stat| stat.id);
    let mains: Vec<ProcessId> = mains.collect();
    let Some(first) = mains.first() else { return Err(AdoptError::NothingRuns(tree)) };
    let mut found = match foreign::entry_of(first.pid) {
        Some((home, name)) => by_entry(&home, &name)?,
        None => found(mains, None)?,
    };
    if found.tree != tree {
        return Err(AdoptError::Elsewhere { current: tree, runs: found.tree });
    }
    found.aliases.push(std::path::absolute(&current).map_err(io(&current))?);
    let shared = dir.join("shared");
    found.shared = shared.is_dir().then(|| shared.canonicalize()).transpose().map_err(io(&shared))?;
    Ok(found)
}

fn found(processes: Vec<ProcessId>, pm2: Option<(PathBuf, String)>) -> Result<Found, AdoptError> {
    let first = *processes.first().expect("whoever calls has one");
    let works = |id: &ProcessId| proc::cwd(id.pid).ok_or(AdoptError::Unreadable(id.pid));
    let cwd = works(&first)?;
    if cwd.deleted {
        return Err(AdoptError::TreeRemoved { pid: first.pid, tree: cwd.path });
    }
    for id in &processes {
        let other = works(id)?.path;
        if other != cwd.path {
            return Err(AdoptError::Elsewhere { current: cwd.path, runs: other });
        }
    }
    let user = proc::user(first.pid).ok_or(AdoptError::Unreadable(first.pid))?;
    let unit = foreign_unit(first.pid);
    Ok(Found { processes, tree: cwd.path, aliases: Vec::new(), shared: None, user, pm2, unit })
}
