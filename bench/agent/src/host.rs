//! A host in a directory of its own: its configuration, its state file, its store, its agent.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::{proc, wait};

pub const ENVIRONMENT: &str = "prod";
/// The longest that anything of a benchmark takes.
const LIMIT: Duration = Duration::from_secs(300);
/// How often records are looked at while an attempt is awaited.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Dropping it ends everything that was started in it.
#[derive(Debug)]
pub struct Host {
    pub dir: PathBuf,
    program: PathBuf,
    store: PathBuf,
    agent: Option<Child>,
}

impl Host {
    /// A fresh host at `dir`; what an earlier run left there is removed, but for a store elsewhere.
    pub fn new(program: &Path, dir: PathBuf, store: &Path) -> Self {
        std::fs::remove_dir_all(&dir).ok();
        std::fs::create_dir_all(dir.join("state")).unwrap();
        let host = Self { dir, program: program.to_owned(), store: store.to_owned(), agent: None };
        let state = host.state();
        let config = format!(
            "host = \"bench\"\nenvironment = \"{ENVIRONMENT}\"\nstore = {store:?}\n\n[state]\nfile = {state:?}\n"
        );
        std::fs::write(host.dir.join("host.toml"), config).unwrap();
        host.want(&[]);
        host
    }

    pub fn state(&self) -> PathBuf {
        self.dir.join("state/deploy-state.json")
    }

    pub fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    pub fn app(&self, app: &str) -> PathBuf {
        self.root().join("apps").join(app).join(ENVIRONMENT)
    }

    /// `landfall …` on this host.
    pub fn landfall(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments);
        command.arg("--config").arg(self.dir.join("host.toml"));
        command.arg("--root").arg(self.root());
        command.arg("--state").arg(self.state());
        command.current_dir(&self.dir).stdin(Stdio::null());
        command
    }

    /// Runs `landfall …`, which must succeed, and gives what it prints.
    pub fn run(&self, arguments: &[&str]) -> String {
        let output = self.landfall(arguments).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "landfall {arguments:?}: {} {errors}", output.status);
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Packs a directory as a version and gives the artifact's id.
    pub fn pack(&self, source: &Path, version: &str) -> String {
        let (source, store) = (source.to_string_lossy(), self.store.to_string_lossy());
        self.run(&["pack", &source, "--version", version, "--no-build", "--store", &store])
    }

    /// Names the artifacts that apps should run, as an editor saves: another file, renamed over.
    pub fn want(&self, apps: &[(&str, &str)]) {
        let target =
            |artifact: &str| json!({"environments": {ENVIRONMENT: {"target": {"artifact": artifact}}}});
        let apps: serde_json::Map<String, Value> =
            apps.iter().map(|(app, artifact)| ((*app).to_owned(), target(artifact))).collect();
        let state = json!({"apiVersion": "landfall/v1", "apps": apps});
        let new = self.state().with_extension("new");
        std::fs::write(&new, state.to_string()).unwrap();
        std::fs::rename(new, self.state()).unwrap();
    }

    /// Starts the agent; what it logs goes to `agent.log`.
    pub fn start_agent(&mut self) {
        let log = std::fs::File::options().append(true).create(true).open(self.dir.join("agent.log"));
        let mut command = self.landfall(&["watch"]);
        command.stdout(Stdio::null()).stderr(log.unwrap());
        self.agent = Some(command.spawn().unwrap());
    }

    pub fn agent_pid(&self) -> u32 {
        self.agent.as_ref().expect("a running agent").id()
    }

    /// Bytes of an app's history file: it only grows.
    pub fn history_len(&self, app: &str) -> u64 {
        std::fs::metadata(self.app(app).join("history")).map_or(0, |facts| facts.len())
    }

    /// The entries that an app's history has from this byte on.
    pub fn attempts_since(&self, app: &str, from: u64) -> Vec<Value> {
        let bytes = std::fs::read(self.app(app).join("history")).unwrap_or_default();
        let text = std::str::from_utf8(&bytes[from as usize..]).unwrap();
        // A line that is being appended has no end yet.
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        whole.map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Waits for the end of an attempt at this artifact that began after the history had `from` bytes.
    #[track_caller]
    pub fn verdict(&self, app: &str, artifact: &str, from: u64) -> Value {
        wait::wait_for(&format!("an attempt at {artifact} ends"), LOOK_EVERY, LIMIT, || {
            if self.history_len(app) == from {
                return None;
            }
            let attempts = self.attempts_since(app, from);
            attempts.into_iter().find(|entry| entry["target"]["artifact"] == artifact)
        })
    }

    /// Ends the agent as an operator would; the apps go on.
    pub fn stop_agent(&mut self) {
        let mut agent = self.agent.take().expect("a running agent");
        rustix::process::kill_process(
            rustix::process::Pid::from_child(&agent),
            rustix::process::Signal::TERM,
        )
        .unwrap();
        let status = agent.wait().unwrap();
        assert!(status.success(), "the agent ended with {status}");
    }

    /// Ends agent and apps, and removes the directory.
    pub fn end(&mut self) {
        self.kill_all();
        std::fs::remove_dir_all(&self.dir).unwrap();
    }

    fn kill_all(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            agent.kill().ok();
            agent.wait().ok();
        }
        // A supervisor may start one more before its turn comes.
        let deadline = std::time::Instant::now() + LIMIT;
        loop {
            let left = proc::belonging_to(&self.dir);
            if left.is_empty() || std::time::Instant::now() > deadline {
                return;
            }
            for (pid, _) in left {
                let pid = rustix::process::Pid::from_raw(pid as i32).expect("a process id");
                rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.kill_all();
    }
}
