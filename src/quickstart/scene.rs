//! The quickstart's directory: the example app, a state repository, a host.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use notify::{RecursiveMode, Watcher};

use super::{QuickstartError, program};
use crate::changes::is_a_change;
use crate::config::HostConfig;
use crate::host::Host;
use crate::layout::Root;
use crate::watch::{Shared, Tuning};

const RECIPE: &str = include_str!("../../examples/hello/landfall.toml");
const PAGE: &str = include_str!("../../examples/hello/site/page.html");
/// The agent's start, and the page's answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A set-up scene.
pub(super) struct Scene {
    pub dir: PathBuf,
    executable: PathBuf,
    port: u16,
}

impl Scene {
    /// Lays everything out in a new directory.
    pub fn set(dir: PathBuf) -> Result<Self, QuickstartError> {
        let executable = std::env::current_exe().map_err(|source| program("landfall", source))?;
        let port = free_port().map_err(|source| program("a free port", source))?;
        let scene = Self { dir, executable, port };
        scene.make_dir("")?;
        scene.lay_out_app()?;
        scene.lay_out_state()?;
        scene.lay_out_host()?;
        Ok(scene)
    }

    fn lay_out_app(&self) -> Result<(), QuickstartError> {
        self.make_dir("app/bin")?;
        self.make_dir("app/site")?;
        let hello = self.dir.join("app/bin/hello");
        fs_extra::file::copy(&self.executable, &hello, &fs_extra::file::CopyOptions::new())
            .map_err(|error| io(&hello, std::io::Error::other(error)))?;
        fs::set_permissions(&hello, fs::Permissions::from_mode(0o755))
            .map_err(|source| io(&hello, source))?;
        self.write("app/landfall.toml", RECIPE)?;
        self.write("app/site/health", "ok\n")?;
        self.write("app/.env.prod", "GREETING=hello from the base layer\nPORT=80\n")?;
        self.write("app/.env.prod.local", &format!("GREETING=hello\nPORT={}\n", self.port))?;
        self.change_page("1.0.0")
    }

    fn lay_out_state(&self) -> Result<(), QuickstartError> {
        self.make_dir("state")?;
        for arguments in [
            &["init", "--quiet"][..],
            &["config", "user.name", "quickstart"],
            &["config", "user.email", "quickstart@example.invalid"],
            &["config", "commit.gpgsign", "false"],
        ] {
            let done = self.git().args(arguments).output().map_err(|source| program("git", source))?;
            if !done.status.success() {
                let why = String::from_utf8_lossy(&done.stderr).into_owned();
                return Err(program("git", std::io::Error::other(why)));
            }
        }
        Ok(())
    }

    fn lay_out_host(&self) -> Result<(), QuickstartError> {
        let config = "host = \"quickstart\"\nenvironment = \"prod\"\nstore = \"store\"\n\n\
                      [state]\nfile = \"state/deploy-state.json\"\n";
        self.write("host.toml", config)
    }

    /// Gives the app a new version with a page that says so.
    pub fn change_page(&self, version: &str) -> Result<(), QuickstartError> {
        self.write("app/VERSION", &format!("{version}\n"))?;
        self.write(
            "app/site/page.html",
            &PAGE.replace("{{GREETING}}", &format!("{{{{GREETING}}}}, {version}")),
        )
    }

    /// The next version will say that it is not well.
    pub fn break_health(&self) -> Result<(), QuickstartError> {
        self.write("app/site/health", "out of order\n")
    }

    /// This binary, working on the scene's host.
    pub fn landfall(&self) -> Command {
        let mut command = Command::new(&self.executable);
        command.current_dir(&self.dir).env("LANDFALL_CONFIG", "host.toml").env_remove("LANDFALL_STORE");
        command.env_remove("LANDFALL_STATE").env_remove("LANDFALL_ROOT");
        command
    }

    /// git in the state's work tree.
    pub fn git(&self) -> Command {
        let mut command = Command::new("git");
        command.arg("-C").arg(self.dir.join("state")).stdin(Stdio::null());
        command
    }

    pub fn log_file(&self) -> Result<fs::File, QuickstartError> {
        let path = self.dir.join("agent.log");
        fs::File::create(&path).map_err(|source| io(&path, source))
    }

    /// Waits until the agent holds the lock of the root.
    pub fn wait_for_agent(&self) -> Result<(), QuickstartError> {
        let root = self.dir.join(".landfall");
        let (changed, changes) = mpsc::channel();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // The receiver is gone once the wait is over.
            if is_a_change(&event) {
                let _ = changed.send(());
            }
        });
        let mut watcher = watcher.map_err(|error| QuickstartError::CleanUp(error.to_string()))?;
        watcher
            .watch(&self.dir, RecursiveMode::Recursive)
            .map_err(|error| QuickstartError::CleanUp(error.to_string()))?;
        let deadline = Instant::now() + PATIENCE;
        let host = self.host()?;
        while !host.is_locked() {
            let left = deadline.saturating_duration_since(Instant::now());
            if changes.recv_timeout(left).is_err() {
                let log = fs::read_to_string(self.dir.join("agent.log")).unwrap_or_default();
                let why = format!("the agent did not take {} within {PATIENCE:?}: {log}", root.display());
                return Err(QuickstartError::CleanUp(why));
            }
        }
        Ok(())
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    pub fn fetch_page(&self) -> Result<String, QuickstartError> {
        let get = || -> std::io::Result<String> {
            let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
            client.set_read_timeout(Some(PATIENCE))?;
            client.write_all(b"GET / HTTP/1.1\r\nhost: quickstart\r\n\r\n")?;
            client.shutdown(std::net::Shutdown::Write)?;
            let mut answer = String::new();
            client.read_to_string(&mut answer)?;
            Ok(answer)
        };
        get().map_err(|source| program(&format!("curl {}", self.url()), source))
    }

    fn host(&self) -> Result<Host, QuickstartError> {
        let path = self.dir.join("host.toml");
        let config =
            HostConfig::read(&path).map_err(|error| io(&path, std::io::Error::other(error.to_string())))?;
        let root = Root::new(&self.dir.join(".landfall")).map_err(|source| io(&self.dir, source))?;
        let store = config.store.clone().ok_or_else(|| io(&path, std::io::ErrorKind::NotFound.into()))?;
        Ok(Host { root, config, store: store.into() })
    }

    /// Ends the app itself, as the agent would before it starts another release.
    pub fn stop_app(&self) -> Result<(), QuickstartError> {
        let failed =
            |what: &dyn std::fmt::Display| QuickstartError::CleanUp(format!("the app may still run: {what}"));
        let host = self.host()?;
        let prod = "prod".parse().expect("`prod` is a name");
        let app = "hello".parse().expect("`hello` is a name");
        let shared = Shared::looking(host, prod).map_err(|error| failed(&error))?;
        let site = shared.site(&app, Tuning::default()).map_err(|error| failed(&error))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| failed(&error))?;
        runtime.block_on(async { site.stop().await }).map_err(|failure| failed(&failure.message))
    }

    fn make_dir(&self, name: &str) -> Result<(), QuickstartError> {
        let path = self.dir.join(name);
        fs::create_dir_all(&path).map_err(|source| io(&path, source))
    }

    fn write(&self, name: &str, text: &str) -> Result<(), QuickstartError> {
        let path = self.dir.join(name);
        fs::write(&path, text).map_err(|source| io(&path, source))
    }
}

/// Asks a process to end.
pub(super) fn terminate(child: &Child) {
    let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        // A process that ended by itself needs no signal.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
}

/// Waits for a process to end, and ends it if it does not.
pub(super) fn wait(child: &mut Child, limit: Duration) -> Result<(), QuickstartError> {
    let pid = child.id();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = runtime.map(|runtime| match crate::proc::identity(pid) {
        Some(id) => runtime.block_on(crate::proc::exited_within(id, limit)),
        None => true,
    });
    if !ended.is_ok_and(|ended| ended) {
        child.kill().map_err(|source| program("kill", source))?;
    }
    child.wait().map(drop).map_err(|source| program("landfall watch", source))
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn io(path: &Path, source: std::io::Error) -> QuickstartError {
    QuickstartError::Io { path: path.to_owned(), source }
}
