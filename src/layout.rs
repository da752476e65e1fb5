//! Where everything lives on a host. The only place that joins these paths.

use std::path::{Path, PathBuf};

use landfall_store::Name;
use serde::{Deserialize, Serialize};

/// `<root>`: everything landfall keeps on this host.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Root(PathBuf);

impl Root {
    /// The root at this directory; made absolute, so that links and records never depend on where a
    /// command was typed.
    pub fn new(path: &Path) -> std::io::Result<Self> {
        Ok(Self(std::path::absolute(path)?))
    }

    /// The directory itself: host cache (`objects/`, `incoming/`, `trees/`) and the rest below.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Held by the one landfall that changes this root.
    pub fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }

    /// The default store.
    pub fn store(&self) -> PathBuf {
        self.0.join("store")
    }

    /// What packing remembers of files it has read. Disposable.
    pub fn scan_cache(&self) -> PathBuf {
        self.0.join("cache").join("scan")
    }

    /// Where an archive's contents wait, without names, until the whole archive is read.
    pub fn spool(&self) -> PathBuf {
        self.0.join("cache")
    }

    /// Key of the env fingerprints; never leaves the host.
    pub fn secret(&self) -> PathBuf {
        self.0.join("secret")
    }

    /// Where commands reach the agent.
    pub fn door(&self) -> PathBuf {
        self.0.join("agent.sock")
    }

    /// Its time is that of the last collection.
    pub fn collected(&self) -> PathBuf {
        self.0.join("collected")
    }

    /// Why the agent did not take the host.toml it read last.
    pub fn refused(&self) -> PathBuf {
        self.0.join("refused")
    }

    /// The state that was last accepted.
    pub fn accepted(&self) -> PathBuf {
        self.0.join("accepted")
    }

    /// Commits of the state that operators took although they had been refused.
    pub fn acceptances(&self) -> PathBuf {
        self.0.join("acceptances")
    }

    /// How the state repository was last found.
    pub fn source(&self) -> PathBuf {
        self.0.join("source")
    }

    /// The state repository as far as it was fetched. Disposable.
    pub fn repository(&self) -> PathBuf {
        self.0.join("cache").join("state.git")
    }

    /// Artifacts known to this host, by id.
    pub fn artifacts(&self) -> PathBuf {
        self.0.join("artifacts")
    }

    /// Canonical trees of installed layers and prepared releases, by id.
    pub fn trees(&self) -> PathBuf {
        self.0.join("trees")
    }

    /// pm2's home directories, one per service account.
    pub fn pm2(&self) -> PathBuf {
        self.0.join("pm2")
    }

    /// The directory of every app.
    pub fn apps(&self) -> PathBuf {
        self.0.join("apps")
    }

    /// One app in one environment. `dir` from `host.toml` moves what the app sees (`releases`, `current`,
    /// `shared`) elsewhere; landfall's records stay here.
    pub fn app(&self, app: &Name, environment: &Name, dir: Option<&Path>) -> AppDir {
        let own = self.apps().join(app.as_str()).join(environment.as_str());
        let visible = dir.map_or_else(|| own.clone(), Path::to_path_buf);
        AppDir { visible, own, app: app.clone(), environment: environment.clone() }
    }
}

/// The directory of the logs that an app writes itself, beside those of its processes.
pub const OWN_LOGS: &str = "files";

/// What explains the failure of an attempt, beside the output of its steps.
pub const EVIDENCE: &str = "evidence.json";

/// The directories and files of one app in one environment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AppDir {
    own: PathBuf,
    visible: PathBuf,
    app: Name,
    environment: Name,
}

impl AppDir {
    /// Whose they are.
    pub const fn app(&self) -> &Name {
        &self.app
    }

    /// In which environment.
    pub const fn environment(&self) -> &Name {
        &self.environment
    }

    /// Releases by name.
    pub fn releases(&self) -> PathBuf {
        self.visible.join("releases")
    }

    /// The link to the release that runs.
    pub fn current(&self) -> PathBuf {
        self.visible.join("current")
    }

    /// Paths that outlive releases.
    pub fn shared(&self) -> PathBuf {
        self.visible.join("shared")
    }

    /// Files of earlier releases that stay reachable: a link to one of [`AppDir::unions`].
    pub fn assets(&self) -> PathBuf {
        self.visible.join("assets")
    }

    /// What `assets` has been, by the hash of its tree.
    pub fn unions(&self) -> PathBuf {
        self.visible.join(".assets")
    }

    /// What `assets` holds to point at a union.
    pub fn link_to_union(&self, name: &str) -> PathBuf {
        Path::new(".assets").join(name)
    }

    /// One release.
    pub fn release(&self, name: &str) -> PathBuf {
        self.releases().join(name)
    }

    /// What `current` holds to point at a release.
    pub fn link_to(&self, name: &str) -> PathBuf {
        Path::new("releases").join(name)
    }

    /// Records of process managers, and env layers as fetched.
    pub fn run(&self) -> PathBuf {
        self.own.join("run")
    }

    /// The directory that holds [`AppDir::run`] and all other records of landfall's own.
    pub fn own(&self) -> &Path {
        &self.own
    }

    /// Output of the app's processes.
    pub fn logs(&self) -> PathBuf {
        self.own.join("logs")
    }

    /// Logs that the app itself writes under `[paths] logs`.
    pub fn own_logs(&self) -> PathBuf {
        self.logs().join(OWN_LOGS)
    }

    /// Output of steps and evidence of attempts.
    pub fn attempts(&self) -> PathBuf {
        self.own.join("attempts")
    }

    /// The same of one attempt.
    pub fn attempt(&self, number: u64) -> PathBuf {
        self.attempts().join(number.to_string())
    }

    /// Intent of the attempt in progress.
    pub fn journal(&self) -> PathBuf {
        self.own.join("journal")
    }

    /// How far the fetch of the attempt in progress is.
    pub fn fetching(&self) -> PathBuf {
        self.own.join("fetching")
    }

    /// Every attempt there was.
    pub fn history(&self) -> PathBuf {
        self.own.join("history")
    }

    /// Length and last hash of the history, so that a cut is noticed.
    pub fn history_head(&self) -> PathBuf {
        self.own.join("history.head")
    }

    /// Release identities that failed here.
    pub fn quarantine(&self) -> PathBuf {
        self.own.join("quarantine")
    }

    /// What operators decided about the app on this host.
    pub fn controls(&self) -> PathBuf {
        self.own.join("controls")
    }

    /// Records that could not be read, set aside by `landfall recover`.
    pub fn aside(&self) -> PathBuf {
        self.own.join("aside")
    }

    /// Conditions as last reported, with the times they changed.
    pub fn conditions(&self) -> PathBuf {
        self.own.join("conditions")
    }

    /// What the last cleaning of releases knew of.
    pub fn tidied(&self) -> PathBuf {
        self.own.join("tidied")
    }

    /// The directory that holds what the app sees: releases, `current`, `shared`.
    pub fn visible(&self) -> &Path {
        &self.visible
    }

    /// What the last pass over the release's files found wrong.
    pub fn content(&self) -> PathBuf {
        self.own.join("content")
    }

    /// Directories that must exist before anything else.
    pub fn to_create(&self) -> [PathBuf; 4] {
        [self.releases(), self.shared(), self.run(), self.logs()]
    }
}

/// Files landfall adds to a release, in a directory no layer can hold.
#[derive(Debug, Clone)]
pub struct ReleaseDir(pub PathBuf);

impl ReleaseDir {
    /// The directory of landfall's own files.
    pub fn own(&self) -> PathBuf {
        self.0.join(".landfall")
    }

    /// What this release is.
    pub fn record(&self) -> PathBuf {
        self.own().join("release.json")
    }

    /// The environment its processes get, 0600.
    pub fn env(&self) -> PathBuf {
        self.own().join("env.json")
    }
}
