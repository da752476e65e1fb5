//! The agent as a service of a real systemd: installed, started, killed, upgraded, hung, reloaded, rebooted. What
//! every test holds to: whatever happens to the agent, the app goes on as the same process.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use support::host::Said;
use support::http;
use support::site::{INSTALL, PATIENCE, Site};
use support::wait::{wait_for, wait_until};

const UNIT: &str = "/etc/systemd/system/landfall.service";

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
