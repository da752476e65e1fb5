//! This host: its root, its configuration, its secret, and the one lock on all of it.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use landfall_store::Name;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use landfall_store::location::StoreAddress;

use crate::config::HostConfig;
use crate::disk::{Disk, RealDisk};
use crate::layout::{AppDir, Root};
use crate::start::Account;

/// Why this host cannot be used as asked.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The system refused.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another landfall works here.
    #[error("another landfall works on {root}")]
    Locked {
        /// The root.
        root: PathBuf,
    },
    /// The key of the env fingerprints is damaged.
    #[error("{path} is damaged: it must hold 32 bytes; releases made with it cannot be told apart any more")]
    Secret {
        /// Which file.
        path: PathBuf,
    },
    /// The service account does not exist.
    #[error("app `{app}`: there is no user `{user}` on this host")]
    NoUser {
        /// The app.
        app: Name,
        /// The account's name.
        user: String,
    },
}

/// Key of the env fingerprints.
pub type Secret = [u8; 32];

/// A host as far as it is configured.
#[derive(Debug, Clone)]
pub struct Host {
    /// Where everything lives.
    pub root: Root,
    /// What it is and allows.
    pub config: HostConfig,
    /// Where artifacts come from.
    pub store: StoreAddress,
}

/// Held as long as this landfall may change the root. The kernel lets go of it when the process ends, however
/// it ends; the file itself is never removed.
///
/// It is a lock of the open file description (`F_OFD_SETLK`, fcntl_locking(2)): unlike with flock(2), whether
/// somebody holds it can be asked without holding it for an instant oneself.
#[derive(Debug)]
pub struct Lock(File);

impl Drop for Lock {
    /// Closing is not enough: a child between its fork and its exec has the same description open.
    fn drop(&mut self) {
        let unlocked = fcntl(&self.0, FcntlArg::F_OFD_SETLK(&whole_file(libc::F_UNLCK)));
        if let Err(error) = unlocked {
            tracing::warn!(%error, "the lock of this host was not given back before its file was closed");
        }
    }
}

impl Host {
    /// Takes the lock, creating the root. At once, or not at all.
    pub fn lock(&self) -> Result<Lock, HostError> {
        let path = self.root.lock();
        let io = |source| HostError::Io { path: path.clone(), source };
        RealDisk.create_dir(self.root.path()).map_err(io)?;
        let open =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = open.map_err(io)?;
        match fcntl(&file, FcntlArg::F_OFD_SETLK(&whole_file(libc::F_WRLCK))) {
            Ok(_) => Ok(Lock(file)),
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EACCES) => {
                Err(HostError::Locked { root: self.root.path().to_path_buf() })
            }
            Err(error) => Err(io(error.into())),
        }
    }

    /// The directories of one app.
    pub fn app_dir(&self, app: &Name, environment: &Name) -> AppDir {
        let config = self.config.app(app).unwrap_or_default();
        self.root.app(app, environment, config.dir.as_deref())
    }

    /// Whether a landfall holds the lock now.
    pub fn is_locked(&self) -> bool {
        is_locked(&self.root.lock())
    }

    /// The key of the env fingerprints, if this host ever made one.
    pub fn secret(&self) -> Result<Option<Secret>, HostError> {
        let path = self.root.secret();
        let read = RealDisk.read(&path, 64).map_err(|source| HostError::Io { path: path.clone(), source })?;
        read.map(|bytes| bytes.try_into().map_err(|_| HostError::Secret { path })).transpose()
    }

    /// The key of the env fingerprints, made on first use. Only under the lock.
    pub fn secret_or_new(&self) -> Result<Secret, HostError> {
        if let Some(secret) = self.secret()? {
            return Ok(secret);
        }
        let path = self.root.secret();
        let io = |source| HostError::Io { path: path.clone(), source };
        let mut secret = Secret::default();
        File::open("/dev/urandom")
            .and_then(|mut random| io::Read::read_exact(&mut random, &mut secret))
            .map_err(io)?;
        RealDisk.replace(&path, &secret).map_err(io)?;
        Ok(secret)
    }

    /// The account an app runs as; `None`: landfall's own.
    pub fn account(&self, app: &Name, user: Option<&str>) -> Result<Option<Account>, HostError> {
        let Some(user) = user else { return Ok(None) };
        let missing = || HostError::NoUser { app: app.clone(), user: user.to_owned() };
        let found = nix::unistd::User::from_name(user).map_err(|_| missing())?.ok_or_else(missing)?;
        Ok(Some(Account {
            name: found.name,
            uid: found.uid.as_raw(),
            gid: found.gid.as_raw(),
            home: found.dir,
        }))
    }

    /// The environment landfall itself lends to steps and apps, and nothing else of its own.
    pub fn clean_env(&self, account: Option<&Account>) -> BTreeMap<String, String> {
        const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let own = |key: &str| std::env::var(key).ok();
        let home = account.map(|account| account.home.to_string_lossy().into_owned()).or_else(|| own("HOME"));
        [
            ("PATH", own("PATH").or_else(|| Some(PATH.to_owned()))),
            ("HOME", home),
            ("LANG", own("LANG")),
            ("TZ", own("TZ")),
        ]
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?)))
        .collect()
    }

    /// Where this host leaves its reports: its store, with the right to write there.
    pub fn reports_to(&self) -> StoreAddress {
        let token_file = self.config.report.as_ref().and_then(|report| report.token_file.clone());
        let token_file = token_file.or_else(|| self.store.token_file.clone());
        StoreAddress { mirrors: Vec::new(), token_file, location: self.store.location.clone() }
    }

    /// The directory of a store on this machine, if that is where artifacts come from.
    pub fn store_dir(&self) -> Option<&Path> {
        self.store.dir()
    }
}

/// Whether a landfall holds this lock file now.
pub fn is_locked(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return false };
    let mut lock = whole_file(libc::F_RDLCK);
    let asked = fcntl(&file, FcntlArg::F_OFD_GETLK(&mut lock));
    asked.is_ok() && lock.l_type != lock_type(libc::F_UNLCK)
}

fn whole_file(kind: libc::c_int) -> libc::flock {
    libc::flock { l_type: lock_type(kind), l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 }
}

/// The constants are narrower in the structure than by themselves.
#[expect(clippy::cast_possible_truncation, reason = "they are 0, 1 and 2")]
const fn lock_type(kind: libc::c_int) -> libc::c_short {
    kind as libc::c_short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(root: &Path) -> Host {
        let config = HostConfig::default_for(root).unwrap();
        let store = landfall_store::location::StoreLocation::Dir(root.join("store")).into();
        Host { root: Root::new(root).unwrap(), config, store }
    }

    #[test]
    fn one_landfall_at_a_time_and_the_next_gets_the_lock_at_once() {
        let root = tempfile::tempdir().unwrap();
        let host = host(root.path());
        let lock = host.lock().unwrap();
        assert!(matches!(host.lock(), Err(HostError::Locked { .. })));
        assert!(host.is_locked());
        drop(lock);
        assert!(!host.is_locked());
        host.lock().unwrap();
    }

    #[test]
    fn looking_whether_somebody_holds_the_lock_never_keeps_an_agent_from_taking_it() {
        use std::sync::atomic::{AtomicBool, Ordering};
        let root = tempfile::tempdir().unwrap();
        let host = host(root.path());
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        host.is_locked();
                    }
                });
            }
            let refused = (0..2_000).filter(|_| host.lock().is_err()).count();
            done.store(true, Ordering::Relaxed);
            assert_eq!(refused, 0);
        });
    }

    #[test]
    fn the_secret_is_made_once_and_kept_private() {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::tempdir().unwrap();
        let host = host(root.path());
        assert_eq!(host.secret().unwrap(), None);
        let secret = host.secret_or_new().unwrap();
        assert_eq!(host.secret_or_new().unwrap(), secret);
        let mode = std::fs::metadata(host.root.secret()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::write(host.root.secret(), b"short").unwrap();
        assert!(matches!(host.secret(), Err(HostError::Secret { .. })));
    }
}
