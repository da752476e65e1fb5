//! Apps under a real systemd, brought there by the real agent: deployed, reverted, rolled back, rebooted.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use support::http;
use support::load::{Connections, Load, Request};
use support::site::{INSTALL, PATIENCE, Site};
use support::wait::{wait_for, wait_until};

const UNIT: &str = "landfall-hello..prod..main";
const SERVICE: &str = "/etc/systemd/system/landfall-hello..prod..main.service";

/// Requests a second.
const RATE: u32 = 50;

/// The line that the app prints with each start.
const HELLO: &str = "hello from ";

fn property(site: &Site, name: &str) -> String {
    site.machine.property(UNIT, name)
}

fn hellos(site: &Site) -> usize {
    site.machine.read("var/lib/landfall/apps/hello/prod/logs/main.log").matches(HELLO).count()
}

#[test]
fn systemd_runs_an_app_from_its_first_deploy_through_a_bad_release_to_a_rollback() {
    let site = Site::serving_under("systemd");
    let machine = &site.machine;
    let cwd = || machine.ok(&["readlink", &format!("/proc/{}/cwd", property(&site, "MainPID"))]);
    assert!(cwd().contains("/apps/hello/prod/releases/1.0.0-"), "{}", cwd());
    assert_eq!(property(&site, "User"), "hello");
    assert_eq!(property(&site, "UnitFileState"), "enabled");
    assert_eq!(property(&site, "NRestarts"), "0");
    assert_eq!(site.app_pid().to_string(), property(&site, "MainPID"));
    assert!(machine.ok(&["landfall", "logs", "hello"]).contains("hello from 1.0.0"));
    let verified = machine.run(&["systemd-analyze", "verify", SERVICE]);
    assert_eq!((verified.code, verified.err.as_str()), (Some(0), ""));
    // The agent, its unit and whatever becomes of them are nothing to the app.
    site.untouched("a restart of the agent", |site| {
        drop(site.machine.ok(&["systemctl", "restart", "landfall"]))
    });
    site.untouched("a stop of the agent", |site| drop(site.machine.ok(&["systemctl", "stop", "landfall"])));
    // Nor is another landfall, which may write the unit in other words.
    site.untouched("an upgrade", |site| {
        let upgrade =
            "cd /usr/local/bin && cp landfall .new && echo another build >> .new && mv .new landfall";
        site.machine.ok(&["sh", "-c", upgrade]);
        site.machine.write(SERVICE, &format!("{}# In other words.\n", site.machine.read(SERVICE)));
        site.machine.ok(&["systemctl", "start", "landfall"]);
        site.until_healthy("1.0.0");
        assert_eq!(site.status()["sync"], "Synced");
        site.machine.ok(&["systemctl", "stop", "landfall"]);
    });
    // systemd starts it again by itself.
    let victim = property(&site, "MainPID");
    machine.ok(&["kill", "-9", &victim]);
    wait_until("it serves again", PATIENCE, || site.page().contains("1.0.0"));
    assert_eq!(property(&site, "NRestarts"), "1");
    machine.ok(&["systemctl", "start", "landfall"]);

    // Its log stays bounded while it runs.
    let log = "var/lib/landfall/apps/hello/prod/logs/main.log";
    machine.ok(&["sh", "-c", &format!("head -c 17000000 /dev/zero >> /{log}")]);
    machine.ok(&["landfall", "reconcile", "hello"]);
    wait_until("it is put aside", PATIENCE, || machine.path(&format!("{log}.1")).exists());
    wait_until("it is emptied", PATIENCE, || std::fs::metadata(machine.path(log)).unwrap().len() == 0);
    let victim = property(&site, "MainPID");
    machine.ok(&["kill", "-9", &victim]);
    wait_until("its log goes on", PATIENCE, || machine.read(log).starts_with(HELLO));

    site.pack_with("2.0.0", &site.hello("systemd"));
    site.deploy("2.0.0");
    site.until_healthy("2.0.0");
    assert!(cwd().contains("/2.0.0-"), "{}", cwd());

    site.pack_with("3.0.0", "shell = \"echo cannot; exit 3\"\nmanager = \"systemd\"\n");
    let failed = site.attempt("3.0.0");
    assert_eq!(failed["result"], "Reverted", "{failed:#}");
    let message = failed["failure"]["message"].as_str().unwrap();
    assert!(message.contains("exit status 3"), "{message}");
    assert!(site.page().contains("2.0.0"));
    assert_eq!(property(&site, "ActiveState"), "active");
    let evidence = machine.ok(&["landfall", "describe", "hello"]);
    assert!(evidence.contains("cannot"), "{evidence}");

    site.deploy("1.0.0");
    site.until_healthy("1.0.0");
    assert!(cwd().contains("/1.0.0-"), "{}", cwd());

    // Stopped by somebody, it is started again.
    machine.ok(&["systemctl", "stop", UNIT]);
    wait_until("it is healed", PATIENCE, || site.page().contains("1.0.0"));

    // To direct and back: never two at once, and no unit without an app.
    site.pack("4.0.0");
    site.deploy("4.0.0");
    site.until_healthy("4.0.0");
    assert!(!machine.path(SERVICE).exists());
    assert_eq!(property(&site, "LoadState"), "not-found");
    site.deploy("2.0.0");
    site.until_healthy("2.0.0");
    assert_eq!(property(&site, "ActiveState"), "active");
}

#[test]
fn an_app_that_never_says_it_is_ready_is_reverted_to_the_one_that_did() {
    let site = Site::new();
    let machine = &site.machine;
    machine.ok(&INSTALL);
    let port = site.port.number;
    let start = |say: &str, wait: &str| {
        format!(
            "shell = \"{say} exec /usr/local/bin/landfall hello-server {port}\"\nmanager = \"systemd\"\nready = true\n\
             listen_timeout = \"{wait}\"\n"
        )
    };
    site.pack_with("1.0.0", &start("systemd-notify --ready;", "60s"));
    site.deploy("1.0.0");
    machine.ok(&["landfall", "install", "--now"]);
    site.until_healthy("1.0.0");
    assert_eq!(property(&site, "Type"), "notify");
    site.pack_with("2.0.0", &start("", "2s"));
    let failed = site.attempt("2.0.0");
    assert_eq!(failed["result"], "Reverted", "{failed:#}");
    let message = failed["failure"]["message"].as_str().unwrap();
    assert!(message.contains("did not say within 2s that it is ready"), "{message}");
    site.until_healthy("1.0.0");
}

#[test]
fn users_never_see_a_version_that_cannot_boot_under_systemd_either() {
    let site = Site::new();
    site.machine.ok(&INSTALL);
    let port = site.port.number;
    let pack = |version: &str, script: &str| {
        let start = format!("run = [\"node\", \"-e\", \"{script}\"]\nmanager = \"systemd\"\n");
        let recipe = site.recipe(version, &start).replace("attempts = 60", "attempts = 20");
        let recipe = recipe.replace(&format!(":{port}/health"), ":${PORT}/health");
        let tried = format!("[env]\nset = {{ PORT = \"{port}\" }}\n[preflight]\nenabled = true\n");
        site.pack_recipe(version, &format!("{recipe}{tried}"));
    };
    let answers = |code: u16| {
        format!(
            "require('http').createServer((q, r) => {{ r.statusCode = {code}; r.setHeader('connection', 'close'); \
             r.end(JSON.stringify({{ status: 'ok', LANDFALL_RELEASE: process.env.LANDFALL_RELEASE }})); }})\
             .listen(process.env.PORT)"
        )
    };
    pack("1.0.0", &answers(200));
    site.deploy("1.0.0");
    site.machine.ok(&["landfall", "install", "--now"]);
    site.until_healthy("1.0.0");
    let pid = property(&site, "MainPID");

    let load = Load::begin(port, "/", RATE, Connections::Fresh);
    let bad = [
        ("2.0.0", "process.exit(4)".to_owned(), "ended with status 4"),
        ("3.0.0", "setInterval(() => {}, 1000)".to_owned(), "cannot connect"),
        ("4.0.0", answers(500), "answered 500"),
    ];
    for (version, script, why) in bad {
        pack(version, &script);
        let failed = site.attempt(version);
        assert_eq!(failed["result"], "Failed", "{version}: {failed:#}");
        assert!(failed["failure"]["message"].as_str().unwrap().contains(why), "{version}: {failed:#}");
        assert_eq!(property(&site, "MainPID"), pid, "{version}: what serves was touched");
    }
    let requests = load.end();
    let of = |request: &Request| request.outcome.as_ref().is_ok_and(|name| name.starts_with("1.0.0"));
    assert!(!requests.is_empty() && requests.iter().all(of), "{requests:?}");
}

#[test]
fn a_reboot_brings_the_app_up_once_without_agent_store_and_state() {
    let mut site = Site::serving_under("systemd");
    let before = hellos(&site);
    site.machine.power_off();
    assert!(http::get(site.port.number, "/").is_err(), "the app outlived its machine");
    for name in ["artifacts", "state"] {
        let path = |name: &str| site.machine.path(&format!("srv/{name}"));
        std::fs::rename(path(name), path(&format!("{name}.away"))).unwrap();
    }
    site.machine.power_on();
    wait_until("the app serves again", PATIENCE, || site.page().contains("<h1>1.0.0</h1>"));
    wait_for("it is healthy", PATIENCE, || {
        Some(site.status()).filter(|status| status["health"] == "Healthy" && status["operation"] == "Idle")
    });
    assert_eq!(site.machine.property("landfall", "ActiveState"), "active");
    assert_eq!(hellos(&site), before + 1, "it was started more than once");
    assert_eq!(site.attempts().len(), 1, "the agent took it for something to heal");
    // Without the agent, systemd alone does it.
    site.machine.ok(&["systemctl", "disable", "landfall"]);
    site.machine.power_off();
    site.machine.power_on();
    wait_until("the app serves again", PATIENCE, || site.page().contains("<h1>1.0.0</h1>"));
}

#[test]
fn with_a_socket_neither_a_deploy_nor_a_revert_drops_a_connection() {
    let site = Site::new();
    let machine = &site.machine;
    machine.ok(&INSTALL);
    let port = site.port.number;
    let server = "const server = require('http').createServer((q, r) => { r.setHeader('connection', 'close'); \
        r.end(JSON.stringify({ status: 'ok', LANDFALL_RELEASE: process.env.LANDFALL_RELEASE })); }).listen({ fd: 3 }); \
        process.on('SIGTERM', () => server.close(() => process.exit(0)));";
    let start = |script: &str| {
        format!(
            "run = [\"node\", \"-e\", \"{script}\"]\nmanager = \"systemd\"\nsocket = \"127.0.0.1:{port}\"\n"
        )
    };
    site.pack_with("1.0.0", &start(server));
    site.deploy("1.0.0");
    machine.ok(&["landfall", "install", "--now"]);
    site.until_healthy("1.0.0");

    let load = Load::begin(port, "/", RATE, Connections::Fresh);
    site.pack_with("2.0.0", &start(server));
    site.deploy("2.0.0");
    site.until_healthy("2.0.0");
    site.pack_with("3.0.0", &start("process.exit(4)"));
    let failed = site.attempt("3.0.0");
    assert_eq!(failed["result"], "Reverted", "{failed:#}");
    assert_eq!(failed["failure"]["reason"], "ProcessExited", "{failed:#}");
    site.until_healthy("2.0.0");
    let requests = load.end();
    let failed: Vec<&Request> = requests.iter().filter(|request| request.outcome.is_err()).collect();
    let longest = requests.iter().map(|request| request.took).max().unwrap();
    println!("{} requests, {} failed, longest {} ms", requests.len(), failed.len(), longest.as_millis());
    assert!(failed.is_empty(), "{failed:?}");
    for version in ["1.0.0", "2.0.0"] {
        let of = |request: &Request| request.outcome.as_ref().is_ok_and(|name| name.starts_with(version));
        assert!(requests.iter().any(of), "none of {version}");
    }
}

#[test]
fn what_keeps_an_app_from_systemd_is_said_before_anything_is_touched() {
    let site = Site::new();
    let machine = &site.machine;
    machine.ok(&INSTALL);
    site.pack_with("1.0.0", &site.hello("systemd"));
    // Without systemd, as somebody else.
    let release = "landfall release 1.0.0 --app hello --store /srv/artifacts --env prod --start-mode systemd";
    let unmounted = format!("mount -t tmpfs none /run && {release}");
    for command in [
        &["unshare", "--mount", "sh", "-c", &unmounted][..],
        &["setpriv", "--reuid=65534", "--clear-groups", "sh", "-c", release],
    ] {
        let said = machine.run(command);
        assert_eq!(said.code, Some(2), "{said:?}");
        assert!(said.err.contains("systemd is not available"), "{}", said.err);
    }
    assert!(!machine.path("var/lib/landfall/apps/hello").exists());

    // Somebody's own unit has the port.
    let port = site.port.number.to_string();
    let page = format!("cd /srv/source/1.0.0/site && exec landfall hello-server {port}");
    machine.ok(&["systemd-run", "--quiet", "--unit=legacy", "sh", "-c", &page]);
    wait_until("it serves", PATIENCE, || !site.page().is_empty());
    site.deploy("1.0.0");
    machine.ok(&["landfall", "install", "--now"]);
    let failed = wait_for("an attempt ends", PATIENCE, || site.attempts().first().cloned());
    let message = failed["failure"]["message"].as_str().unwrap();
    assert!(message.contains("legacy.service") && message.contains("landfall adopt hello"), "{message}");
    let doctor = machine.run(&["landfall", "doctor"]);
    assert!(doctor.out.contains("legacy.service"), "{}", doctor.out);
    machine.ok(&["systemctl", "stop", "legacy"]);

    // An agent whose unit is from before there were units of apps.
    machine.write(
        "etc/systemd/system/landfall.service.d/old.conf",
        "[Service]\nReadWritePaths=\nReadOnlyPaths=/etc/systemd/system\n",
    );
    machine.ok(&["systemctl", "daemon-reload"]);
    machine.ok(&["systemctl", "restart", "landfall"]);
    let known = site.attempts().len();
    machine.ok(&["landfall", "reconcile", "hello"]);
    let failed = wait_for("an attempt ends", PATIENCE, || site.attempts().get(known).cloned());
    let message = failed["failure"]["message"].as_str().unwrap();
    assert!(message.contains("landfall install"), "{message}");
    assert!(!machine.path(SERVICE).exists());
    // Mended, the same deploy goes on.
    std::fs::remove_file(machine.path("etc/systemd/system/landfall.service.d/old.conf")).unwrap();
    machine.ok(&["systemctl", "daemon-reload"]);
    machine.ok(&["systemctl", "restart", "landfall"]);
    site.until_healthy("1.0.0");
}

#[test]
fn a_release_without_an_agent_is_left_to_systemd() {
    let site = Site::new();
    let machine = &site.machine;
    machine.ok(&INSTALL);
    site.pack("1.0.0");
    let release =
        ["landfall", "release", "1.0.0", "--app", "hello", "--env", "prod", "--start-mode", "systemd"];
    machine.ok(&release);
    assert!(site.page().contains("1.0.0"));
    assert_eq!(property(&site, "ActiveState"), "active");
    assert_eq!(property(&site, "UnitFileState"), "enabled");
    machine.ok(&release);
    assert_eq!(hellos(&site), 1, "released twice, it is started once");
}
