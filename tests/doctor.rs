//! `landfall doctor` finds what is missing before the first deploy does, and says what mends it: each finding is
//! provoked for real.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod support;

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::Value;
use support::json::items;
use support::{Host, Source, process, wait};

/// A recipe that needs a key and a program; and a port, if there is one.
fn recipe(step: &str, port: Option<u16>) -> String {
    let check =
        port.map_or_else(|| "run = [\"true\"]".to_owned(), |port| format!("tcp = \"127.0.0.1:{port}\""));
    support::source::SLEEPER.replace("run = [\"true\"]", &check)
        + &format!(
            "\n[[layer]]\nname = \"env\"\nkind = \"env\"\n\n[env]\nenvironments = [\"prod\"]\nlocal = \"optional\"\n\
             required = [\"DATABASE_URL\"]\n\n[[step]]\nname = \"build\"\nrun = [\"{step}\", \"x\"]\n"
        )
}

fn whoami() -> String {
    nix::unistd::User::from_uid(nix::unistd::getuid()).unwrap().unwrap().name
}

/// A host whose app and state are in order, unless the test takes something away.
fn host(step: &str, port: Option<u16>) -> Host {
    let host = Host::new("prod", &format!("[apps.web]\nuser = {:?}\n", whoami()));
    let source = Source::new(&recipe(step, port))
        .with("app/data", b"1")
        .with(".env.prod", b"DATABASE_URL=file:shop.db\n");
    let id = host.pack_version(source.path(), "1.0.0");
    host.want("web", &id);
    host
}

/// What it found by name of the check, of the app or of the host.
#[track_caller]
fn found(host: &Host, arguments: &[&str]) -> (Option<i32>, Vec<Value>) {
    let said = host.run(&[&["doctor", "-o", "json"], arguments].concat());
    let document = serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {said:?}"));
    (said.code, items(&document).to_vec())
}

#[track_caller]
fn finding<'a>(found: &'a [Value], check: &str, level: &str) -> &'a Value {
    let mut these = found.iter().filter(|finding| finding["check"] == check);
    these
        .find(|finding| finding["level"] == level)
        .unwrap_or_else(|| panic!("no {level} {check}: {found:#?}"))
}

/// The finding is a problem, says this, and is mended by this.
#[track_caller]
fn problem(host: &Host, check: &str, message: &str, fix: &str) {
    let (code, found) = found(host, &[]);
    let finding = finding(&found, check, "Problem");
    assert!(finding["message"].as_str().unwrap().contains(message), "{finding:#}");
    assert!(finding["fix"].as_str().unwrap().contains(fix), "{finding:#}");
    assert_eq!(code, Some(1));
}

#[test]
fn a_host_that_lacks_nothing_is_told_so_and_nothing_is_touched() {
    let host = host("true", None);
    let before = process::belonging_to(&host.dir).len();
    let (code, found) = found(&host, &[]);
    let problems: Vec<_> = found.iter().filter(|finding| finding["level"] == "Problem").collect();
    assert!(problems.is_empty() && code == Some(0), "{problems:#?}");
    for check in ["config", "state", "store", "artifact", "env", "programs", "account"] {
        finding(&found, check, if check == "account" && whoami() == "root" { "Warning" } else { "Good" });
    }
    assert!(!host.root().join("apps").exists(), "looking makes nothing");
    assert_eq!(process::belonging_to(&host.dir).len(), before);
    let said = host.run(&["doctor"]);
    assert!(said.out.contains("landfall watch"), "no agent runs: {}", said.out);
    assert!(said.out.lines().all(|line| line.chars().count() <= 80 || !line.contains(' ')), "{}", said.out);
}

#[test]
fn a_host_toml_that_is_none_is_told_with_its_place() {
    let host = host("true", None);
    let toml = std::fs::read_to_string(host.dir.join("host.toml")).unwrap();
    host.write("host.toml", &toml.replace("environment =", "enviroment ="));
    problem(&host, "config", "host.toml", "environment");
    host.write("host.toml", &toml.replace("environment = \"prod\"", ""));
    problem(&host, "config", "no environment", "environment = \"prod\"");
}

#[test]
fn an_account_that_does_not_exist_is_made_by_the_command_given() {
    let host = host("true", None);
    let toml = std::fs::read_to_string(host.dir.join("host.toml")).unwrap();
    host.write("host.toml", &toml.replace(&format!("user = {:?}", whoami()), "user = \"nobody-here\""));
    problem(&host, "account", "there is no user `nobody-here`", "useradd --system --create-home");
}

#[test]
fn a_root_that_others_can_write_is_a_problem() {
    let host = host("true", None);
    std::fs::set_permissions(host.root(), std::fs::Permissions::from_mode(0o777)).unwrap();
    problem(&host, "root", "can be written by others", "chmod go-w");
}

#[test]
fn a_store_that_is_away_or_lacks_the_artifact_is_a_problem() {
    let host = host("true", None);
    let manifest = host.root().join("store");
    std::fs::rename(&manifest, host.dir.join("away")).unwrap();
    problem(&host, "store", "store", "landfall pack . --store");
    problem(&host, "artifact", "is not on this host", "landfall push b3:");
    std::fs::rename(host.dir.join("away"), &manifest).unwrap();
    host.want("web", &format!("b3:{}", "7".repeat(64)));
    problem(&host, "artifact", "7777", "landfall push b3:");
}

#[test]
fn a_state_that_is_missing_or_wrong_is_a_problem_and_an_app_it_does_not_name_a_warning() {
    let host = host("true", None);
    host.write("state/deploy-state.json", "{\"apiVersion\": \"landfall/v1\", \"apps\": {}}");
    let (_, unnamed) = found(&host, &[]);
    assert_eq!(finding(&unnamed, "desired", "Warning")["fix"], "landfall deploy web prod <version>");
    host.write("state/deploy-state.json", "{\"apiVersion\": \"landfall/v1\", \"app\": {}}");
    problem(&host, "state", "unknown key `app`", "apps");
    std::fs::remove_file(host.state()).unwrap();
    problem(&host, "state", "there is no state file", "landfall deploy");
}

#[test]
fn a_required_key_that_no_layer_sets_is_named() {
    let host = host("true", None);
    let env = host.dir.join("env");
    std::fs::create_dir(&env).unwrap();
    let toml = std::fs::read_to_string(host.dir.join("host.toml")).unwrap();
    host.write("host.toml", &format!("{toml}env_dir = {env:?}\n"));
    host.write("env/.env.prod", "OTHER=1\n");
    problem(&host, "env", "DATABASE_URL", env.to_str().unwrap());
    host.write("env/.env.prod", "DATABASE_URL=file:secret.db\n");
    let said = host.run(&["doctor"]);
    said.expect_code(0);
    assert!(!said.out.contains("secret"), "{}", said.out);
}

#[test]
fn a_program_that_a_step_needs_and_the_path_lacks_is_named_with_the_step() {
    let host = host("no-such-program", None);
    problem(&host, "programs", "step `build` needs it", "install no-such-program");
}

#[test]
fn node_pm2_and_the_package_manager_are_each_named_with_what_needs_them() {
    let host = Host::new("prod", &format!("[apps.web]\nuser = {:?}\n", whoami()));
    let recipe = support::source::SLEEPER
        .replace("manager = \"direct\"", "manager = \"pm2\"")
        .replace("[\"sleep\", \"100000\"]", "[\"node\", \"app/main.js\"]")
        + "\n[[step]]\nname = \"install\"\nrun = [\"pnpm\", \"install\", \"--prod\"]\n";
    let id = host.pack_version(Source::new(&recipe).with("app/main.js", b"1").path(), "1.0.0");
    host.want("web", &id);
    let said =
        host.landfall(&["doctor", "-o", "json"]).env("PATH", host.dir.join("nothing")).output().unwrap();
    let document: Value = serde_json::from_slice(&said.stdout).unwrap();
    let missing: Vec<&str> = items(&document)
        .iter()
        .filter(|finding| finding["check"] == "programs" && finding["level"] == "Problem")
        .map(|finding| finding["message"].as_str().unwrap())
        .collect();
    for (program, by) in [("pm2", "process `main`"), ("node", "process `main`"), ("pnpm", "step `install`")] {
        let told = format!("`{program}` is not on the PATH of the agent; {by} needs it");
        assert!(missing.iter().any(|message| message.starts_with(&told)), "{told}: {missing:#?}");
    }
    assert_eq!(said.status.code(), Some(1));
}

#[test]
fn a_database_that_does_not_answer_is_named_by_its_key_without_its_password() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let host = host("true", None);
    let env = host.dir.join("env");
    std::fs::create_dir(&env).unwrap();
    let toml = std::fs::read_to_string(host.dir.join("host.toml")).unwrap();
    host.write("host.toml", &format!("{toml}env_dir = {env:?}\n"));
    let url = format!("postgresql://shop:hunter2@127.0.0.1:{port}/shop");
    host.write("env/.env.prod", &format!("DATABASE_URL={url}\n"));
    let (code, seen) = found(&host, &[]);
    let good = finding(&seen, "server", "Good")["message"].as_str().unwrap().to_owned();
    assert!(good.contains(&format!("DATABASE_URL: 127.0.0.1:{port} answers")) && code == Some(0), "{good}");

    drop(server);
    problem(&host, "server", &format!("DATABASE_URL: 127.0.0.1:{port} does not answer"), "DATABASE_URL");
    // What is not required may be meant for another day.
    host.write("env/.env.prod", &format!("DATABASE_URL=none\nCACHE={url}\n"));
    let (code, seen) = found(&host, &[]);
    assert!(finding(&seen, "server", "Warning")["message"].as_str().unwrap().contains("CACHE"));
    assert_eq!(code, Some(0));
    assert!(!host.run(&["doctor"]).out.contains("hunter2"));
}

#[test]
fn a_host_that_does_not_migrate_and_could_not_see_a_migration_is_told() {
    let host = Host::new("prod", &format!("[apps.web]\nuser = {:?}\n", whoami()));
    let toml = std::fs::read_to_string(host.dir.join("host.toml")).unwrap();
    host.write("host.toml", &format!("migrator = false\n{toml}"));
    let migrate = |check: &str| {
        let step = format!(
            "[[step]]\nname = \"schema\"\nkind = \"migrate\"\nrun = [\"no-such-migrator\"]\n{check}\n"
        );
        let id = host.pack_next(Source::sleeper_and(&step).path());
        host.want("web", &id);
    };
    migrate("");
    problem(&host, "migrations", "step `schema` has no `check`", "check = [");
    migrate("check = [\"no-such-check\"]");
    problem(&host, "programs", "`no-such-check` is not on the PATH", "install no-such-check");
    migrate("check = [\"true\"]");
    let (code, seen) = found(&host, &[]);
    assert_eq!(code, Some(0), "what this host never runs need not be there: {seen:#?}");
}

#[test]
fn a_port_that_a_stranger_holds_is_told_with_who_and_how_to_adopt_him() {
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = host("true", Some(held.local_addr().unwrap().port()));
    let own = format!("pid {}", std::process::id());
    problem(&host, "port", &own, "landfall adopt web");
    drop(held);
}

#[test]
fn an_app_without_a_health_check_is_a_warning() {
    let host = Host::new("prod", &format!("[apps.web]\nuser = {:?}\n", whoami()));
    let recipe = support::source::SLEEPER.split("[health]").next().unwrap().to_owned();
    let id = host.pack_version(Source::new(&recipe).with("app/data", b"1").path(), "1.0.0");
    host.want("web", &id);
    let (code, found) = found(&host, &[]);
    assert!(finding(&found, "health", "Warning")["fix"].as_str().unwrap().contains("[health]"));
    assert_eq!(code, Some(0), "a warning is not a problem");
}

#[test]
fn a_running_agent_is_found_with_its_pid_and_one_whose_program_was_replaced_is_told() {
    let mut host = host("true", None);
    host.start_agent();
    host.wait_for_agent();
    let (_, seen) = found(&host, &[]);
    let said = finding(&seen, "agent", "Good")["message"].as_str().unwrap().to_owned();
    assert!(said.contains(&format!("pid {}", host.agent_pid())), "{said}");
    assert!(host.stop_agent().success());

    // A copy of the program, so that it can be replaced. Made by a process of its own: a file that this one has
    // open for writing may be open in a child of another test when it is to be run.
    let copy = host.dir.join("landfall-old");
    let made = Command::new("cp").arg(env!("CARGO_BIN_EXE_landfall")).arg(&copy).status().unwrap();
    assert!(made.success());
    let mut old = Command::new(&copy);
    old.arg("watch").arg("--config").arg(host.dir.join("host.toml")).arg("--root").arg(host.root());
    let mut old = old.stderr(std::process::Stdio::null()).spawn().unwrap();
    host.wait_for_agent();
    std::fs::remove_file(&copy).unwrap();
    let told = wait::wait_for("the replaced agent is seen", std::time::Duration::from_secs(60), || {
        let (_, found) = found(&host, &[]);
        found.into_iter().find(|finding| finding["check"] == "agent" && finding["level"] == "Warning")
    });
    old.kill().unwrap();
    old.wait().unwrap();
    assert!(told["message"].as_str().unwrap().contains("replaced"), "{told:#}");
}

#[test]
fn few_open_files_are_a_warning() {
    let host = host("true", None);
    let program = host.landfall(&["doctor", "-o", "json"]);
    let line = std::iter::once(program.get_program()).chain(program.get_args());
    let line: Vec<String> = line.map(|part| format!("'{}'", part.to_string_lossy())).collect();
    let run =
        host.program("sh").args(["-c", &format!("ulimit -n 200; {}", line.join(" "))]).output().unwrap();
    let document: Value = serde_json::from_slice(&run.stdout).unwrap();
    assert!(finding(items(&document), "limits", "Warning")["message"].as_str().unwrap().contains("200"));
}
