//! A machine with a real systemd and an app to deploy on it.

use std::time::Duration;

use serde_json::Value;

use super::container::Container;
use super::http;
use super::port::Port;
use super::wait::{wait_for, wait_until};

/// Far more than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);
pub const INSTALL: [&str; 8] = [
    "landfall",
    "install",
    "--environment",
    "prod",
    "--store",
    "/srv/artifacts",
    "--state",
    "/srv/state/deploy-state.json",
];

/// A machine with an app to deploy.
pub struct Site {
    pub machine: Container,
    pub port: Port,
}

impl Site {
    /// Booted, with accounts for an agent and an app, an empty state, and nothing installed.
    pub fn new() -> Self {
        let machine = Container::boot();
        for user in ["hello", "deployer"] {
            machine.ok(&["useradd", "--system", "--no-create-home", user]);
        }
        machine.write("srv/state/deploy-state.json", "{\"apiVersion\": \"landfall/v1\", \"apps\": {}}\n");
        Self { machine, port: Port::free() }
    }

    /// The same with the agent installed and running, and the app in version 1.0.0 under its own account.
    pub fn serving() -> Self {
        Self::serving_under("direct")
    }

    /// The same under this manager.
    pub fn serving_under(manager: &str) -> Self {
        let site = Self::new();
        site.machine.ok(&INSTALL);
        let config = site.machine.read("etc/landfall/host.toml");
        site.machine.write("etc/landfall/host.toml", &format!("{config}\n[apps.hello]\nuser = \"hello\"\n"));
        site.pack_with("1.0.0", &site.hello(manager));
        site.deploy("1.0.0");
        site.machine.ok(&["landfall", "install", "--now"]);
        site.until_healthy("1.0.0");
        site
    }

    /// A version of the app under the direct manager.
    pub fn pack(&self, version: &str) {
        self.pack_with(version, &self.hello("direct"));
    }

    /// What `[start]` says of the app itself.
    pub fn hello(&self, manager: &str) -> String {
        let port = self.port.number;
        format!(
            "run = [\"/usr/local/bin/landfall\", \"hello-server\", \"{port}\"]\nmanager = \"{manager}\"\n"
        )
    }

    /// A version with these lines under `[start]`.
    pub fn pack_with(&self, version: &str, start: &str) {
        self.pack_recipe(version, &self.recipe(version, start));
    }

    /// A version with this recipe.
    pub fn pack_recipe(&self, version: &str, recipe: &str) {
        let dir = format!("srv/source/{version}");
        let page = format!("<h1>{version}</h1>\n");
        self.machine.write(&format!("{dir}/site/page.html"), &page);
        self.machine.write(&format!("{dir}/site/health"), "ok");
        self.machine.write(&format!("{dir}/landfall.toml"), recipe);
        self.machine.ok(&["landfall", "pack", &format!("/{dir}"), "--no-build", "--store", "/srv/artifacts"]);
    }

    /// A recipe with these lines under `[start]`.
    pub fn recipe(&self, version: &str, start: &str) -> String {
        let port = self.port.number;
        format!(
            r#"
app = "hello"
version = "{version}"
[[layer]]
name = "site"
files = [{{ from = "site", to = "" }}]
[start]
{start}
stop = {{ signal = "SIGTERM", grace = "2s" }}
[health]
http = "http://127.0.0.1:{port}/health"
body_contains = '"status":"ok"'
attempts = 60
interval = "500ms"
settle = "300ms"
"#
        )
    }

    pub fn deploy(&self, version: &str) {
        self.machine.ok(&["landfall", "deploy", "hello", "prod", version, "-m", "a test"]);
    }

    pub fn status(&self) -> Value {
        let said = self.machine.ok(&["landfall", "status", "-o", "json"]);
        serde_json::from_str::<Value>(&said).expect("JSON")["items"][0].take()
    }

    #[track_caller]
    pub fn until_healthy(&self, version: &str) {
        let mut status = Value::Null;
        wait_until(&format!("{version} is healthy"), PATIENCE, || {
            status = self.status();
            status["running"]["version"] == version
                && status["health"] == "Healthy"
                && status["operation"] == "Idle"
        });
        assert!(self.page().contains(version));
    }

    /// Every attempt that has ended, oldest first.
    pub fn attempts(&self) -> Vec<Value> {
        let path = self.machine.path("var/lib/landfall/apps/hello/prod/history");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        whole.map(|line| serde_json::from_str(line).expect("an entry")).collect()
    }

    /// Deploys a version, and waits for what comes of it.
    #[track_caller]
    pub fn attempt(&self, version: &str) -> Value {
        let known = self.attempts().len();
        self.deploy(version);
        wait_for("an attempt ends", PATIENCE, || self.attempts().get(known).cloned())
    }

    pub fn page(&self) -> String {
        http::get(self.port.number, "/").map(|answer| answer.body).unwrap_or_default()
    }

    /// The app's main process, as the machine counts.
    pub fn app_pid(&self) -> u64 {
        self.status()["running"]["pid"].as_u64().expect("a running app")
    }

    pub fn agent_pid(&self) -> String {
        self.machine.property("landfall", "MainPID")
    }

    /// Waits until systemd has the agent running as another process than `before`.
    #[track_caller]
    pub fn until_another_agent(&self, before: &str) {
        wait_until("another agent is active", PATIENCE, || {
            let pid = self.agent_pid();
            pid != "0" && pid != before && self.machine.property("landfall", "ActiveState") == "active"
        });
    }

    /// Runs something, and proves that the app went through it as the same process, serving.
    #[track_caller]
    pub fn untouched(&self, what: &str, act: impl FnOnce(&Self)) {
        let before = self.app_pid();
        act(self);
        assert_eq!(self.app_pid(), before, "{what} restarted the app");
        assert!(self.page().contains("<h1>"), "{what}: the app does not serve");
    }

    /// Messages of the agent in the journal, oldest first.
    pub fn journal(&self, more: &[&str]) -> Vec<String> {
        let command = ["journalctl", "--no-pager", "-o", "cat", "-t", "landfall", "-u", "landfall"];
        let text = self.machine.ok(&[&command[..], more].concat());
        text.lines().map(str::to_owned).collect()
    }
}
