//! One artifact, several kinds of hosts: each runs its processes, runs its steps and fetches its layers, no others.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod support;

use std::path::{Path, PathBuf};
use std::time::Duration;

use support::process::Process;
use support::{Host, Source, wait};

const LIMIT: Duration = Duration::from_secs(60);

fn host(roles: &[&str]) -> Host {
    let host = Host::new("prod", "");
    give(&host, roles);
    host
}

/// Makes these the roles of a host.
fn give(host: &Host, roles: &[&str]) {
    let toml = std::fs::read_to_string(host.dir.join("host.toml")).unwrap();
    let others = toml.lines().filter(|line| !line.starts_with("roles ="));
    let all: Vec<String> =
        std::iter::once(format!("roles = {roles:?}")).chain(others.map(str::to_owned)).collect();
    host.write("host.toml", &all.join("\n"));
}

/// `[[start]]` of a process that is known by an argument of its own.
fn process(name: &str, roles: &str, seconds: u32) -> String {
    let run = format!("run = [\"sleep\", \"{seconds}\"]");
    format!(
        "\n[[start]]\nname = \"{name}\"\nroles = [{roles}]\n{run}\nstop = {{ signal = \"SIGTERM\", grace = \"1s\" }}\n"
    )
}

fn health(name: &str, roles: &str, command: &str) -> String {
    format!(
        "\n[[health]]\nname = \"{name}\"\nroles = [{roles}]\nrun = {command}\nattempts = 5\ninterval = \"100ms\"\nsuccesses = 1\nsettle = \"300ms\"\n"
    )
}

/// A web process, a worker, and a site of files alone, each with a layer of its own.
fn shop(version: &str, processes: &str, more: &str) -> Source {
    let layer = |name: &str| {
        format!(
            "\n[[layer]]\nname = \"{name}\"\nroles = [\"{name}\"]\nfiles = [{{ from = \"{name}\", to = \"{name}\" }}]\n"
        )
    };
    let layers: String = ["web", "worker", "static"].map(layer).concat();
    let content = |name: &str| format!("{name} {version} {}", name.repeat(1_000)).into_bytes();
    Source::new(&format!("app = \"web\"\nversion = \"1\"\n{layers}{processes}{more}"))
        .with("web/file", &content("web"))
        .with("worker/file", &content("worker"))
        .with("static/index.html", &content("static"))
}

fn both() -> String {
    process("web", "\"web\"", 100_001) + &process("worker", "\"worker\"", 100_002)
}

/// The processes of the app, by what they sleep.
fn sleeping(host: &Host) -> Vec<String> {
    let mut found: Vec<String> = host.serving("web", "prod").iter().filter_map(seconds).collect();
    found.sort();
    found
}

fn seconds(process: &Process) -> Option<String> {
    process.command.strip_prefix("sleep ").map(str::to_owned)
}

/// Every object on the host, by size.
fn fetched(host: &Host) -> Vec<u64> {
    let mut sizes: Vec<u64> =
        files_below(&host.root().join("objects")).iter().map(|it| it.metadata().unwrap().len()).collect();
    sizes.sort_unstable();
    sizes
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files_below(&path)) } else { found.push(path) }
    }
    found
}

#[test]
fn a_host_runs_the_processes_of_its_roles_and_fetches_their_layers_alone() {
    let size = |name: &str| (format!("{name} 1 ").len() + name.len() * 1_000) as u64;
    let cases: [(&[&str], &[&str], &[&str]); 4] = [
        (&["web"], &["100001"], &["web"]),
        (&["worker"], &["100002"], &["worker"]),
        (&["web", "worker"], &["100001", "100002"], &["web", "worker"]),
        (&["static"], &[], &["static"]),
    ];
    for (roles, running, layers) in cases {
        let host = host(roles);
        let checks = health("web", "\"web\"", "[\"test\", \"-f\", \"web/file\"]")
            + &health("worker", "\"worker\"", "[\"test\", \"-f\", \"worker/file\"]");
        host.deploy_once(&shop("1", &both(), &checks)).expect_code(0);
        assert_eq!(sleeping(&host), running, "{roles:?}");
        let mut sizes: Vec<u64> = layers.iter().map(|name| size(name)).collect();
        sizes.sort_unstable();
        assert_eq!(fetched(&host), sizes, "{roles:?}: what was fetched");
        let current = host.current("web", "prod");
        for name in ["web", "worker", "static"] {
            assert_eq!(current.join(name).is_dir(), layers.contains(&name), "{roles:?}: {name}");
        }
        let status = host.json(&["status"]);
        assert_eq!(status["items"][0]["health"], "Healthy", "{roles:?}");
        host.run(&["verify"]).expect_code(0);
    }
}

#[test]
fn a_host_without_processes_proves_every_byte_before_it_says_healthy() {
    let host = host(&["static"]);
    host.deploy_once(&shop("1", &both(), "")).expect_code(0);
    // A step that lies about what it leaves: same size and time, other bytes; the cache has no such content.
    let step = "\n[[step]]\nname = \"render\"\nshell = \"echo right > static/made\"\nwrites = [\"static\"]\n";
    let artifact = host.pack_next(shop("2", &both(), step).path());
    host.want("web", &artifact);
    host.run(&["watch", "--once"]).expect_code(0);
    let second = host.current("web", "prod");
    host.deploy_once(&shop("1", &both(), "")).expect_code(0);
    let third = host.current("web", "prod");
    let made = second.join("static/made");
    let times = std::fs::metadata(&made).unwrap().modified().unwrap();
    let mode = std::fs::metadata(&made).unwrap().permissions();
    std::fs::remove_file(&made).unwrap();
    std::fs::write(&made, "wrong\n").unwrap();
    std::fs::set_permissions(&made, mode).unwrap();
    std::fs::File::open(&made).unwrap().set_modified(times).unwrap();
    // Back to the second release: it is on disk, so it is switched to as it is.
    host.want("web", &artifact);
    host.run(&["watch", "--once"]);
    let last = host.attempts("web").pop().unwrap();
    assert_eq!(last["result"], "Reverted", "{last:#}");
    assert!(last["failure"]["message"].as_str().unwrap().contains("static/made"), "{last:#}");
    assert_eq!(host.current("web", "prod"), third);
}

#[test]
fn a_failure_of_any_process_reverts_all_of_them() {
    let host = host(&["web", "worker"]);
    host.deploy_once(&shop("1", &both(), "")).expect_code(0);
    let first = host.current("web", "prod");
    let dies = process("web", "\"web\"", 100_003)
        + "\n[[start]]\nname = \"worker\"\nroles = [\"worker\"]\nrun = [\"false\"]\n";
    host.deploy_once(&shop("2", &dies, "")).expect_code(8);
    assert_eq!(sleeping(&host), ["100001", "100002"]);
    assert_eq!(host.current("web", "prod"), first);
    let unhealthy = process("web", "\"web\"", 100_003) + &process("worker", "\"worker\"", 100_004);
    let check = health("worker", "\"worker\"", "[\"false\"]");
    host.deploy_once(&shop("3", &unhealthy, &check)).expect_code(8);
    assert_eq!(sleeping(&host), ["100001", "100002"]);
    assert!(host.serving("web", "prod").iter().all(|process| process.cwd == first));
}

#[test]
fn a_process_that_a_release_no_longer_has_is_stopped_and_a_new_one_started() {
    let host = host(&["web", "worker"]);
    host.deploy_once(&shop("1", &both(), "")).expect_code(0);
    let web_alone = process("web", "\"web\"", 100_005) + &process("mailer", "\"worker\"", 100_006);
    host.deploy_once(&shop("2", &web_alone, "")).expect_code(0);
    assert_eq!(sleeping(&host), ["100005", "100006"]);
    host.deploy_once(&shop("3", "", "")).expect_code(0);
    wait::wait_until("nothing is left", LIMIT, || sleeping(&host).is_empty());
    host.deploy_once(&shop("4", &both(), "")).expect_code(0);
    assert_eq!(sleeping(&host), ["100001", "100002"]);
}

#[test]
fn steps_run_on_the_hosts_of_their_roles_only() {
    let step = |name: &str| {
        format!("\n[[step]]\nname = \"{name}\"\nroles = [\"{name}\"]\nrun = [\"touch\", \"{name}-ran\"]\n")
    };
    for roles in [&["web"][..], &["web", "worker"]] {
        let host = host(roles);
        host.deploy_once(&shop("1", &both(), &(step("web") + &step("worker")))).expect_code(0);
        let current = host.current("web", "prod");
        for name in ["web", "worker"] {
            assert_eq!(
                current.join(format!("{name}-ran")).exists(),
                roles.contains(&name),
                "{roles:?} {name}"
            );
        }
    }
}

#[test]
fn env_files_are_for_the_hosts_of_their_roles_and_no_other_needs_or_gets_them() {
    let env = "\n[[layer]]\nname = \"env\"\nkind = \"env\"\nroles = [\"web\"]\n\n[env]\nenvironments = [\"prod\"]\n\
               required = [\"TOKEN\", \"URL\"]\n";
    let source = || {
        shop("1", &both(), env)
            .with(".env.prod", b"TOKEN=canary-8d1f\n")
            .with(".env.prod.local", b"URL=http://127.0.0.1:1/\n")
    };
    let has_secret = |host: &Host| {
        let mut grep = std::process::Command::new("grep");
        grep.args(["-rqF", "canary-8d1f", "apps", "objects", "run"]).current_dir(host.root());
        grep.stderr(std::process::Stdio::null()).status().unwrap().success()
    };
    for (roles, gets) in
        [(&["web"][..], true), (&["static"], false), (&["worker"], false), (&["static", "web"], true)]
    {
        let host = host(roles);
        host.deploy_once(&source()).expect_code(0);
        let current = host.current("web", "prod");
        assert_eq!(current.join(".env.prod").exists(), gets, "{roles:?}");
        assert_eq!(has_secret(&host), gets, "{roles:?}");
        let doctor = host.run(&["doctor"]);
        assert!(!doctor.out.contains("TOKEN"), "{roles:?}: {}", doctor.out);
        host.run(&["env", "web"]).expect_code(0);
    }
    // Who runs it needs what the recipe says.
    let host = host(&["web"]);
    let without = shop("2", &both(), env).with(".env.prod", b"TOKEN=x\n").with(".env.prod.local", b"");
    host.deploy_once(&without).expect_code(3);
}

#[test]
fn doctor_asks_for_an_account_and_a_port_only_where_something_starts() {
    let set = "\n[env]\nset = { PORT = \"4999\" }\n";
    for (roles, starts) in [(&["static"][..], false), (&["static", "web"], true)] {
        let host = host(roles);
        host.deploy_once(&shop("1", &both(), set)).expect_code(0);
        let doctor = host.run(&["doctor"]).out;
        assert_eq!(doctor.contains("4999"), starts, "{roles:?}: {doctor}");
        let as_root = rustix::process::geteuid().is_root();
        assert_eq!(doctor.contains("run as root"), starts && as_root, "{roles:?}: {doctor}");
    }
}

#[test]
fn a_trial_run_is_made_on_the_hosts_of_its_roles_only() {
    let tried = "\n[[preflight]]\nname = \"web\"\nroles = [\"canary\"]\n";
    let line = "test -z \"$LANDFALL_PREFLIGHT\" && exec sleep 100001; exit 1";
    let web = format!("\n[[start]]\nname = \"web\"\nroles = [\"web\"]\nshell = '{line}'\n");
    let source = || shop("1", &(web.clone() + &process("worker", "\"worker\"", 100_002)), tried);
    let calm = host(&["web"]);
    calm.deploy_once(&source()).expect_code(0);
    assert_eq!(sleeping(&calm), ["100001"]);
    let canary = host(&["canary", "web"]);
    canary.deploy_once(&source()).expect_code(7);
    assert_eq!(canary.attempts("web")[0]["failure"]["reason"], "PreflightFailed");
}

#[test]
fn a_host_that_gains_or_loses_a_role_gets_and_stops_its_part_with_the_next_reconciliation() {
    let host = host(&["static"]);
    host.deploy_once(&shop("1", &both(), "")).expect_code(0);
    assert_eq!(sleeping(&host), [""; 0]);
    for (roles, running) in [
        (&["static", "web"][..], &["100001"][..]),
        (&["web", "worker"], &["100001", "100002"]),
        (&["worker"], &["100002"]),
        (&["static"], &[]),
    ] {
        give(&host, roles);
        host.run(&["watch", "--once"]).expect_code(0);
        assert_eq!(sleeping(&host), running, "{roles:?}");
        let current = host.current("web", "prod");
        for name in ["web", "worker", "static"] {
            assert_eq!(current.join(name).is_dir(), roles.contains(&name), "{roles:?}: {name}");
        }
        host.run(&["verify", "--deep"]).expect_code(0);
    }
}

/// A node process under a manager.
fn node(manager: &str, version: &str) -> Source {
    let recipe = format!(
        "app = \"web\"\nversion = \"1\"\n\n[[layer]]\nname = \"app\"\nfiles = [{{ from = \"app\", to = \"app\" }}]\n\n\
         [start]\nmanager = \"{manager}\"\nrun = [\"node\", \"app/server.js\"]\nstop = {{ signal = \"SIGINT\", grace = \"2s\" }}\n{}",
        health("main", "", "[\"true\"]").replace("roles = []\n", "")
    );
    Source::new(&recipe)
        .with("app/server.js", format!("setInterval(() => {{}}, 1000); // {version}").as_bytes())
}

#[test]
fn the_manager_may_change_with_a_release_and_back_and_nothing_of_the_other_is_left() {
    let host = support::host::with_pm2(Host::new("prod", ""));
    let direct = |host: &Host| {
        let serving = host.serving("web", "prod");
        serving.iter().filter(|process| process.command.starts_with("node app/server.js")).count()
    };
    for (turn, manager) in ["direct", "pm2", "direct", "pm2"].into_iter().enumerate() {
        host.deploy_once(&node(manager, &turn.to_string())).expect_code(0);
        let serving = host.serving("web", "prod");
        assert_eq!(serving.len(), 1, "{manager}: {serving:?}");
        assert_eq!(direct(&host), usize::from(manager == "direct"), "{manager}: {serving:?}");
        let current = host.current("web", "prod");
        assert!(serving[0].cwd.starts_with(&current), "{manager}: {serving:?}");
    }
}
