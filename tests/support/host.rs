//! A host in a temporary directory: its root, its store, its state in a git work tree, its agent.
//!
//! Dropping it ends everything that was started in it, also when a test panics.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::process::{self, Process};
use super::{tools, wait};

/// Time for an agent to be there.
const AGENT_START_LIMIT: Duration = Duration::from_secs(60);
/// Time for an agent to end after SIGTERM.
const AGENT_STOP_LIMIT: Duration = Duration::from_secs(60);

/// Looks for processes that are left over, before giving up on them.
const KILL_ROUNDS: usize = 50;
/// Between two of them: the kernel needs a moment to end a process.
const KILL_PAUSE: Duration = Duration::from_millis(20);

/// A host, its files, and the programs it finds.
pub struct Host {
    temporary: TempDir,
    /// The temporary directory with every link resolved, as `/proc` shows it.
    pub dir: PathBuf,
    environment: String,
    programs: Vec<PathBuf>,
    packed: std::cell::Cell<u32>,
    agent: Option<Child>,
}

impl Host {
    /// A host of `environment` whose `[apps]` are as given (TOML), with an empty state.
    pub fn new(environment: &str, apps: &str) -> Self {
        let temporary =
            tempfile::Builder::new().prefix("landfall-host-").tempdir().expect("a temporary directory");
        let dir = temporary.path().canonicalize().expect("a real path");
        let host = Self {
            temporary,
            dir,
            environment: environment.to_owned(),
            programs: Vec::new(),
            packed: 0.into(),
            agent: None,
        };
        for name in ["state", "home"] {
            std::fs::create_dir(host.dir.join(name)).expect("a directory");
        }
        host.write("host.toml", &host.toml(environment, apps));
        host.write("state/deploy-state.json", "{\n  \"apiVersion\": \"landfall/v1\",\n  \"apps\": {}\n}\n");
        host.commit_first_state();
        host
    }

    /// Lets the host's programs be found in this directory, before the system's own.
    pub fn with_programs(mut self, dir: PathBuf) -> Self {
        self.programs.push(dir);
        self
    }

    fn toml(&self, environment: &str, apps: &str) -> String {
        let state = self.state();
        format!("host = \"test\"\nenvironment = \"{environment}\"\n\n[state]\nfile = {state:?}\n\n{apps}")
    }

    fn commit_first_state(&self) {
        for arguments in [&["init", "--quiet"][..], &["add", "."], &["commit", "--quiet", "-m", "Begin"]] {
            let status = self.program("git").args(arguments).current_dir(self.dir.join("state")).status();
            assert!(status.expect("git is needed for this test").success(), "git {arguments:?}");
        }
    }

    /// Writes a file below the host's directory.
    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.dir.join(name), text).expect("a file of the host");
    }

    pub fn state(&self) -> PathBuf {
        self.dir.join("state/deploy-state.json")
    }

    pub fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    /// What an app has in its environment on this host.
    pub fn app(&self, app: &str, environment: &str) -> PathBuf {
        self.root().join("apps").join(app).join(environment)
    }

    /// The release that `current` names, resolved.
    pub fn current(&self, app: &str, environment: &str) -> PathBuf {
        self.app(app, environment).join("current").canonicalize().expect("current resolves")
    }

    /// A program with the environment of this host and nothing else.
    pub fn program(&self, name: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(name);
        command
            .env_clear()
            .env("PATH", self.search_path())
            .env("HOME", self.dir.join("home"))
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_AUTHOR_NAME", "Operator")
            .env("GIT_AUTHOR_EMAIL", "operator@example.org")
            .env("GIT_COMMITTER_NAME", "Operator")
            .env("GIT_COMMITTER_EMAIL", "operator@example.org")
            .current_dir(&self.dir)
            .stdin(Stdio::null());
        command
    }

    fn search_path(&self) -> OsString {
        let system = std::env::var_os("PATH").expect("PATH");
        let dirs = self.programs.iter().cloned().chain(std::env::split_paths(&system));
        std::env::join_paths(dirs).expect("a search path")
    }

    /// `landfall …` on this host.
    pub fn landfall(&self, arguments: &[&str]) -> Command {
        let state = self.state();
        self.landfall_of_host_toml(&[&["--state", &state.to_string_lossy()], arguments].concat())
    }

    /// The same with the state where host.toml says it is.
    pub fn landfall_of_host_toml(&self, arguments: &[&str]) -> Command {
        let mut command = self.program(env!("CARGO_BIN_EXE_landfall"));
        // First: after `--` everything belongs to somebody else.
        command.arg("--config").arg(self.dir.join("host.toml"));
        command.arg("--root").arg(self.root());
        command.args(arguments);
        command
    }

    /// Runs `landfall …` to its end.
    pub fn run(&self, arguments: &[&str]) -> Said {
        Said::of(self.landfall(arguments).output().expect("the landfall program"))
    }

    /// Runs `landfall … -o json`, which must succeed.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        let said = self.run(&[arguments, &["-o", "json"]].concat());
        said.expect_code(0);
        serde_json::from_str(&said.out)
            .unwrap_or_else(|error| panic!("{arguments:?}: {error} in {}", said.out))
    }

    /// Packs what is built in a directory, with the env layers of an environment.
    #[track_caller]
    pub fn pack(&self, source: &Path, environment: &str) -> String {
        self.packed_by(&["pack", &source.to_string_lossy(), "--env", environment, "--no-build"])
    }

    /// Packs a directory without env layers, as this version.
    #[track_caller]
    pub fn pack_version(&self, source: &Path, version: &str) -> String {
        self.packed_by(&["pack", &source.to_string_lossy(), "--version", version, "--no-build"])
    }

    #[track_caller]
    fn packed_by(&self, arguments: &[&str]) -> String {
        let said = self.run(arguments);
        said.expect_code(0);
        let id = said.out.trim().to_owned();
        assert!(id.starts_with("b3:") && id.len() == 67, "pack prints an id alone: {}", said.out);
        id
    }

    /// Packs a directory as a version that no other pack of this host had.
    pub fn pack_next(&self, source: &Path) -> String {
        self.packed.set(self.packed.get() + 1);
        self.pack_version(source, &format!("0.0.{}", self.packed.get()))
    }

    /// Names the one artifact of the state, as an editor does: another file, renamed over.
    pub fn want(&self, app: &str, artifact: &str) {
        let target = serde_json::json!({"target": {"artifact": artifact}});
        let apps = serde_json::json!({app: {"environments": {&self.environment: target}}});
        let state = serde_json::json!({"apiVersion": "landfall/v1", "apps": apps});
        let new = self.state().with_extension("new");
        std::fs::write(&new, state.to_string()).expect("a new state");
        std::fs::rename(new, self.state()).expect("the state");
    }

    /// The attempts of an app, oldest first, as its history file has them.
    pub fn attempts(&self, app: &str) -> Vec<Value> {
        let path = self.app(app, &self.environment).join("history");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        // A line that is being appended has no end yet.
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        whole.map(|line| serde_json::from_str(line).expect("an entry")).collect()
    }

    /// Waits until the newest attempt, after `known` older ones, has ended.
    #[track_caller]
    pub fn wait_for_attempt(&self, app: &str, known: usize, limit: Duration) -> Value {
        wait::wait_for("an attempt ends", limit, || self.attempts(app).get(known).cloned())
    }

    /// The record of the release that `current` names.
    pub fn current_record(&self, app: &str) -> Value {
        let path = self.current(app, &self.environment).join(".landfall/release.json");
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        // The seal comes first.
        let json = text.find('{').expect("a document");
        serde_json::from_str(&text[json..]).expect("a release record")
    }

    /// Starts the agent; what it logs goes to `agent.log`.
    pub fn start_agent(&mut self) {
        self.start_agent_as(self.landfall(&["watch"]));
    }

    /// Starts the agent by a command of the test's own.
    pub fn start_agent_as(&mut self, mut command: Command) {
        let log = std::fs::File::options().append(true).create(true).open(self.dir.join("agent.log"));
        command.stdout(Stdio::null()).stderr(log.expect("the agent's log"));
        self.agent = Some(command.spawn().expect("the agent"));
    }

    /// Waits until the agent has taken its root.
    pub fn wait_for_agent(&self) {
        let lock = self.root().join("lock");
        let held = || landfall::host::is_locked(&lock);
        wait::wait_until("the agent holds its root", AGENT_START_LIMIT, held);
    }

    /// Packs a source, names it in the state, and lets one reconciliation run to its verdict.
    pub fn deploy_once(&self, source: &super::Source) -> Said {
        self.want("web", &self.pack_next(source.path()));
        self.run(&["watch", "--once"])
    }

    /// The agent's process id.
    pub fn agent_pid(&self) -> u32 {
        self.agent.as_ref().expect("a running agent").id()
    }

    /// Ends the agent as an operator would, and gives its exit status.
    pub fn stop_agent(&mut self) -> std::process::ExitStatus {
        let mut agent = self.agent.take().expect("a running agent");
        let pid = rustix::process::Pid::from_child(&agent);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("a live agent");
        wait::wait_for("the agent ends after SIGTERM", AGENT_STOP_LIMIT, || agent.try_wait().expect("wait"))
    }

    /// Ends the agent as a crash does.
    pub fn kill_agent(&mut self) {
        let mut agent = self.agent.take().expect("a running agent");
        agent.kill().expect("a live agent");
        agent.wait().expect("its end");
    }

    /// Ends everything of this host at once, as a power cut does: the agent, supervisors, pm2, the apps.
    pub fn power_cut(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            agent.kill().expect("a live agent");
            agent.wait().expect("its end");
        }
        self.kill_the_rest();
    }

    /// What the agent logged so far.
    pub fn agent_log(&self) -> String {
        std::fs::read_to_string(self.dir.join("agent.log")).unwrap_or_default()
    }

    /// Live processes that run in a release of an app.
    pub fn serving(&self, app: &str, environment: &str) -> Vec<Process> {
        process::working_under(&self.app(app, environment).join("releases"))
    }

    /// Every file of this host that pm2 wrote.
    pub fn pm2_homes(&self) -> Vec<PathBuf> {
        let below_root = std::fs::read_dir(self.root().join("pm2")).into_iter().flatten();
        let own = below_root.filter_map(|entry| Some(entry.ok()?.path()));
        own.chain([self.dir.join("home/.pm2")]).filter(|dir| dir.is_dir()).collect()
    }

    #[expect(clippy::print_stderr, reason = "the harness shows it with the failure")]
    fn show_agent_log(&self) {
        eprintln!("--- agent.log\n{}", self.agent_log());
    }

    fn kill_pm2(&self) {
        for home in self.pm2_homes() {
            let mut command = self.program("pm2");
            command
                .arg("kill")
                .env("PM2_HOME", home)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .ok();
        }
    }

    /// Whatever is left: supervisors detach what they start, but each process names this directory. A supervisor
    /// may start one more before its turn comes, so this looks until there is none.
    fn kill_the_rest(&self) {
        for _ in 0..KILL_ROUNDS {
            let left = process::belonging_to(&self.dir);
            if left.is_empty() {
                return;
            }
            left.iter().for_each(|process| process::kill(process.pid));
            std::thread::sleep(KILL_PAUSE);
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            agent.kill().ok();
            agent.wait().ok();
        }
        self.kill_pm2();
        self.kill_the_rest();
        if std::thread::panicking() {
            self.show_agent_log();
        }
    }
}

/// What a command said, and how it ended.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Said {
    pub fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Fails the test unless the command ended with this code.
    #[track_caller]
    pub fn expect_code(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.out, self.err);
        self
    }
}

/// Lets a test that needs pm2 have the pinned one.
pub fn with_pm2(host: Host) -> Host {
    host.with_programs(tools::pm2())
}
