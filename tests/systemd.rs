//! The agent as a service of a real systemd: installed, started, killed, upgraded, hung, reloaded, rebooted. What
//! every test holds to: whatever happens to the agent, the app goes on as the same process.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use support::container::Container;
use support::host::Said;
use support::http;
use support::port::Port;
use support::wait::{wait_for, wait_until};

/// Far more than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const UNIT: &str = "/etc/systemd/system/landfall.service";
const INSTALL: [&str; 8] = [
    "landfall",
    "install",
    "--environment",
    "prod",
    "--store",
    "/srv/artifacts",
    "--state",
    "/srv/state/deploy-state.json",
];

/// One machine at a time: a boot takes all a small machine has.
static ONE: Mutex<()> = Mutex::new(());

/// A machine with an app to deploy.
struct Site {
    machine: Container,
    port: Port,
    _turn: MutexGuard<'static, ()>,
}

impl Site {
    /// Booted, with accounts for an agent and an app, an empty state, and nothing installed.
    fn new() -> Self {
        let turn = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let machine = Container::boot();
        for user in ["hello", "deployer"] {
            machine.ok(&["useradd", "--system", "--no-create-home", user]);
        }
        machine.write("srv/state/deploy-state.json", "{\"apiVersion\": \"landfall/v1\", \"apps\": {}}\n");
        Self { machine, port: Port::free(), _turn: turn }
    }

    /// The same with the agent installed and running, and the app in version 1.0.0 under its own account.
    fn serving() -> Self {
        let site = Self::new();
        site.machine.ok(&INSTALL);
        let config = site.machine.read("etc/landfall/host.toml");
        site.machine.write("etc/landfall/host.toml", &format!("{config}\n[apps.hello]\nuser = \"hello\"\n"));
        site.pack("1.0.0");
        site.deploy("1.0.0");
        site.machine.ok(&["landfall", "install", "--now"]);
        site.until_healthy("1.0.0");
        site
    }

    fn pack(&self, version: &str) {
        let dir = format!("srv/source/{version}");
        let port = self.port.number;
        let page = format!("<h1>{version}</h1>\n");
        self.machine.write(&format!("{dir}/site/page.html"), &page);
        self.machine.write(&format!("{dir}/site/health"), "ok");
        let recipe = format!(
            r#"
app = "hello"
version = "{version}"
[[layer]]
name = "site"
files = [{{ from = "site", to = "" }}]
[start]
run = ["/usr/local/bin/landfall", "hello-server", "{port}"]
stop = {{ signal = "SIGTERM", grace = "2s" }}
manager = "direct"
[health]
http = "http://127.0.0.1:{port}/health"
body_contains = '"status":"ok"'
attempts = 60
interval = "500ms"
settle = "300ms"
"#
        );
        self.machine.write(&format!("{dir}/landfall.toml"), &recipe);
        self.machine.ok(&["landfall", "pack", &format!("/{dir}"), "--no-build", "--store", "/srv/artifacts"]);
    }

    fn deploy(&self, version: &str) {
        self.machine.ok(&["landfall", "deploy", "hello", "prod", version, "-m", "a test"]);
    }

    fn status(&self) -> Value {
        let said = self.machine.ok(&["landfall", "status", "-o", "json"]);
        serde_json::from_str::<Value>(&said).unwrap()["items"][0].take()
    }

    #[track_caller]
    fn until_healthy(&self, version: &str) {
        let mut status = Value::Null;
        wait_until(&format!("{version} is healthy"), PATIENCE, || {
            status = self.status();
            status["running"]["version"] == version
                && status["health"] == "Healthy"
                && status["operation"] == "Idle"
        });
        assert!(self.page().contains(version));
    }

    fn page(&self) -> String {
        http::get(self.port.number, "/").map(|answer| answer.body).unwrap_or_default()
    }

    /// The app's main process, as the machine counts.
    fn app_pid(&self) -> u64 {
        self.status()["running"]["pid"].as_u64().expect("a running app")
    }

    fn agent_pid(&self) -> String {
        self.machine.property("landfall", "MainPID")
    }

    /// Waits until systemd has the agent running as another process than `before`.
    #[track_caller]
    fn until_another_agent(&self, before: &str) {
        wait_until("another agent is active", PATIENCE, || {
            let pid = self.agent_pid();
            pid != "0" && pid != before && self.machine.property("landfall", "ActiveState") == "active"
        });
    }

    /// Runs something, and proves that the app went through it as the same process, serving.
    #[track_caller]
    fn untouched(&self, what: &str, act: impl FnOnce(&Self)) {
        let before = self.app_pid();
        act(self);
        assert_eq!(self.app_pid(), before, "{what} restarted the app");
        assert!(self.page().contains("<h1>"), "{what}: the app does not serve");
    }

    /// Messages of the agent in the journal, oldest first.
    fn journal(&self, more: &[&str]) -> Vec<String> {
        let command = ["journalctl", "--no-pager", "-o", "cat", "-t", "landfall", "-u", "landfall"];
        let text = self.machine.ok(&[&command[..], more].concat());
        text.lines().map(str::to_owned).collect()
    }
}

#[track_caller]
fn refused(said: &Said, code: i32, words: &[&str]) {
    said.expect_code(code);
    for word in words {
        assert!(said.err.contains(word), "{word:?} is not in: {}", said.err);
    }
}

#[test]
fn an_installation_is_idempotent_keeps_what_people_edited_and_goes_without_a_trace_of_itself() {
    let site = Site::new();
    let machine = &site.machine;
    // Nothing is guessed, and nothing is done for show.
    refused(&machine.run(&["landfall", "install"]), 2, &["--environment was not given", "hint:"]);
    let shown = machine.ok(&[&INSTALL[..], &["--dry-run"]].concat());
    assert!(shown.contains("KillMode=process") && shown.contains("environment = \"prod\""), "{shown}");
    assert!(!machine.path(UNIT).exists() && !machine.path("etc/landfall").exists());

    machine.ok(&INSTALL);
    let verified = machine.run(&["systemd-analyze", "verify", UNIT]);
    verified.expect_code(0);
    assert_eq!(verified.err, "", "systemd-analyze has something to say");
    assert_eq!(machine.ok(&["stat", "-c", "%U:%G %a", "/var/lib/landfall"]), "root:root 755\n");
    assert_eq!(machine.property("landfall", "ActiveState"), "inactive", "started without being asked to");
    let again = machine.run(&INSTALL);
    assert_eq!((again.code, again.out.as_str()), (Some(0), ""), "{again:?}");
    refused(
        &machine.run(&["landfall", "install", "--environment", "dev"]),
        12,
        &["environment is `prod` there and `dev` was asked for"],
    );

    // A unit that somebody edited.
    let edited = machine.read(UNIT).replace("RestartSec=2", "RestartSec=9");
    machine.write(UNIT, &edited);
    let said = machine.run(&INSTALL);
    refused(&said, 12, &["was edited by somebody", "systemctl edit landfall"]);
    assert!(said.out.contains("-RestartSec=9") && said.out.contains("+RestartSec=2"), "{}", said.out);
    assert_eq!(machine.read(UNIT), edited);
    refused(&machine.run(&["landfall", "uninstall"]), 12, &["was edited by somebody"]);
    machine.ok(&["landfall", "install", "--force", "--now"]);
    assert_eq!(machine.property("landfall", "RestartUSec"), "2s");
    assert_eq!(machine.ok(&["systemctl", "is-enabled", "landfall"]), "enabled\n");

    let said = machine.run(&["landfall", "uninstall"]);
    said.expect_code(0);
    assert!(said.err.contains("stays: /etc/landfall/host.toml"), "{}", said.err);
    assert!(said.err.contains("stays: /var/lib/landfall"), "{}", said.err);
    assert!(!machine.path(UNIT).exists());
    assert_eq!(machine.property("landfall", "LoadState"), "not-found");
    assert!(machine.path("etc/landfall/host.toml").exists() && machine.path("var/lib/landfall").exists());
    machine.ok(&["landfall", "uninstall"]);

    // Without systemd, without root, with a program that others could replace.
    let no_systemd =
        "mount -t tmpfs none /run && exec landfall install --environment prod --state /srv/s.json";
    refused(&machine.run(&["unshare", "--mount", "sh", "-c", no_systemd]), 4, &["systemd", "landfall watch"]);
    let as_nobody = ["setpriv", "--reuid=65534", "--clear-groups", "landfall", "install"];
    refused(&machine.run(&as_nobody), 20, &["only root"]);
    machine.ok(&["sh", "-c", "mkdir -m 777 /srv/open && cp /usr/local/bin/landfall /srv/open/"]);
    refused(&machine.run(&["/srv/open/landfall", "install"]), 13, &["/srv/open", "/usr/local/bin"]);
}

#[test]
fn whatever_happens_to_the_agent_the_app_goes_on_as_the_same_process() {
    let site = Site::serving();
    let machine = &site.machine;
    // Active is said only of an agent that holds its root and has looked.
    assert!(landfall::host::is_locked(&machine.path("var/lib/landfall/lock")));
    let owner = machine.ok(&["ps", "-o", "user=", "-p", &site.app_pid().to_string()]);
    assert_eq!(owner.trim(), "hello", "the hardening keeps landfall from starting apps as their account");

    site.untouched("systemctl restart", |site| drop(site.machine.ok(&["systemctl", "restart", "landfall"])));
    site.untouched("kill -9", |site| {
        let agent = site.agent_pid();
        site.machine.ok(&["kill", "-9", &agent]);
        site.until_another_agent(&agent);
    });
    site.untouched("an upgrade", |site| {
        // Another program at the same path: the same code, and bytes behind it that the loader passes over.
        let upgrade =
            "cd /usr/local/bin && cp landfall .new && echo another build >> .new && mv .new landfall";
        site.machine.ok(&["sh", "-c", upgrade]);
        // The old agent still works, with helpers of its own version.
        site.pack("2.0.0");
        site.machine.ok(&["systemctl", "restart", "landfall"]);
        let agent = site.agent_pid();
        let runs = site.machine.ok(&["readlink", &format!("/proc/{agent}/exe")]);
        assert_eq!(runs.trim(), "/usr/local/bin/landfall", "the agent runs the old program");
        let shim = site.machine.ok(&["sh", "-c", "readlink /proc/[0-9]*/exe | grep -c 'landfall (deleted)'"]);
        assert_ne!(shim.trim(), "0", "the supervisor of the app was replaced");
    });
    // The new agent works with what the old one's supervisor runs.
    site.deploy("2.0.0");
    site.until_healthy("2.0.0");
    site.untouched("a stop", |site| {
        site.machine.ok(&["systemctl", "stop", "landfall"]);
        assert_eq!(site.machine.property("landfall", "ActiveState"), "inactive");
    });
    site.untouched("a start", |site| drop(site.machine.ok(&["systemctl", "start", "landfall"])));
}

#[test]
fn a_hung_agent_is_killed_and_started_again_by_its_watchdog() {
    let site = Site::serving();
    site.machine.write("etc/systemd/system/landfall.service.d/test.conf", "[Service]\nWatchdogSec=3\n");
    site.machine.ok(&["systemctl", "daemon-reload"]);
    site.machine.ok(&["systemctl", "restart", "landfall"]);
    let agent = site.agent_pid();
    site.untouched("the watchdog", |site| {
        site.machine.ok(&["kill", "-STOP", &agent]);
        site.until_another_agent(&agent);
    });
    let said = site.machine.ok(&["journalctl", "--no-pager", "-u", "landfall"]);
    assert!(said.contains("Watchdog timeout"), "{said}");
}

#[test]
fn an_agent_that_cannot_have_its_root_is_not_active_and_is_once_it_can() {
    let site = Site::new();
    let machine = &site.machine;
    machine.ok(&INSTALL);
    machine.ok(&["systemd-run", "--quiet", "--unit=other", "landfall", "watch"]);
    let lock = machine.path("var/lib/landfall/lock");
    wait_until("another landfall works on the root", PATIENCE, || landfall::host::is_locked(&lock));
    assert_ne!(machine.run(&["systemctl", "start", "landfall"]).code, Some(0));
    assert_ne!(machine.property("landfall", "ActiveState"), "active");
    assert!(site.journal(&[]).concat().contains("another landfall works on"), "{:?}", site.journal(&[]));
    machine.ok(&["systemctl", "stop", "other"]);
    site.until_another_agent("0");
}

#[test]
fn an_agent_without_root_deploys_as_its_own_account() {
    let site = Site::new();
    let machine = &site.machine;
    machine.ok(&[&INSTALL[..], &["--user", "deployer", "--now"]].concat());
    assert_eq!(machine.ok(&["stat", "-c", "%U %a", "/var/lib/landfall"]), "deployer 755\n");
    site.pack("1.0.0");
    machine.ok(&["chown", "-R", "deployer", "/srv/artifacts"]);
    site.deploy("1.0.0");
    site.until_healthy("1.0.0");
    let pids = [site.app_pid().to_string(), site.agent_pid()];
    for pid in &pids {
        assert_eq!(machine.ok(&["ps", "-o", "user=", "-p", pid]).trim(), "deployer");
    }
    site.untouched("a restart", |site| drop(site.machine.ok(&["systemctl", "restart", "landfall"])));
}

#[test]
fn the_journal_has_one_line_for_each_event_with_its_priority() {
    let site = Site::serving();
    site.machine.write("srv/state/deploy-state.json", "{\n  \"apps\":\n");
    wait_until("the broken state is complained about", PATIENCE, || {
        site.journal(&["-p", "err"]).iter().any(|line| line.contains("the state cannot be used"))
    });
    let lines = site.journal(&[]);
    let level =
        |line: &String| ["INFO", "WARN", "ERROR"].iter().any(|level| line.trim_start().starts_with(level));
    assert!(lines.len() >= 8, "{lines:#?}");
    assert!(lines.iter().all(level), "{lines:#?}");
    let errors = site.journal(&["-p", "err"]);
    assert!(errors.iter().all(|line| line.contains("ERROR")), "{errors:#?}");
    assert!(site.journal(&["-p", "info"]).iter().any(|line| line.contains("Healthy")), "{lines:#?}");
    let status = site.machine.property("landfall", "StatusText");
    assert!(status.contains("the last accepted state stays in force"), "{status}");
}

#[test]
fn after_a_reboot_without_store_and_state_the_last_healthy_release_comes_up() {
    let mut site = Site::serving();
    let first = site.app_pid();
    site.machine.power_off();
    assert!(http::get(site.port.number, "/").is_err(), "the app outlived its machine");
    for name in ["artifacts", "state"] {
        std::fs::rename(
            site.machine.path(&format!("srv/{name}")),
            site.machine.path(&format!("srv/{name}.away")),
        )
        .unwrap();
    }
    site.machine.power_on();
    wait_until("the app serves again", PATIENCE, || site.page().contains("<h1>1.0.0</h1>"));
    let status = wait_for("it is healthy", PATIENCE, || {
        Some(site.status()).filter(|status| status["health"] == "Healthy")
    });
    assert_eq!(status["running"]["version"], "1.0.0", "{status}");
    assert_ne!(first, 0);
    assert_eq!(site.machine.property("landfall", "ActiveState"), "active");
}
