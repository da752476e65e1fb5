//! Steps of real attempts: who they are, what they see, what is kept of them, and when they are over.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails, its helpers included")]

mod support;

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use support::source::SLEEPER;
use support::{Host, Source, process, wait};

const LIMIT: Duration = Duration::from_secs(60);
/// What a shell adds to its own environment, and what a start is given beyond its release's.
const OTHERS: [&str; 5] = ["PWD=", "OLDPWD=", "SHLVL=", "_=", "LANDFALL_START="];

/// A host whose app runs as somebody else than landfall, where the test may do that, and may write to `marks`.
fn host() -> Host {
    let is_root = rustix::process::geteuid().is_root();
    let host = Host::new("prod", if is_root { "[apps.web]\nuser = \"nobody\"\n" } else { "" });
    std::fs::create_dir(host.dir.join("marks")).unwrap();
    for (dir, mode) in [(host.dir.clone(), 0o711), (host.dir.join("marks"), 0o777)] {
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    host
}

/// Who runs the app.
fn service_user() -> String {
    if rustix::process::geteuid().is_root() {
        return "nobody".to_owned();
    }
    nix::unistd::User::from_uid(nix::unistd::getuid()).unwrap().unwrap().name
}

/// Sorted lines of `env`, without what belongs to the process that asked.
fn own(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| !OTHERS.iter().any(|other| line.starts_with(other)));
    let mut lines: Vec<String> = lines.map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn steps_of_every_kind_and_the_check_run_as_the_service_user_in_the_release_with_the_env_of_the_app() {
    let host = host();
    let mark = |name: &str| {
        let at = host.dir.join("marks").join(name);
        format!("['sh', '-c', 'id -un >{0}.who; pwd -P >{0}.dir; env >{0}.env']", at.display())
    };
    let recipe = format!(
        "{SLEEPER}\n[[layer]]\nname = \"env\"\nkind = \"env\"\n\n[env]\nenvironments = [\"prod\"]\n\
         set = {{ FROM_SET = \"1\" }}\n\n[[step]]\nname = \"prepare\"\nrun = {}\n\n[[step]]\nname = \"migrate\"\n\
         kind = \"migrate\"\nrun = {}\ncheck = {}\n\n[[step]]\nname = \"after\"\nkind = \"after\"\nrun = {}\n",
        mark("prepare"),
        mark("migrate"),
        mark("check"),
        mark("after")
    );
    let version = |content: &[u8]| {
        Source::new(&recipe)
            .with("app/version.txt", content)
            .with(".env.prod", b"BOTH=base\nBASE=1\n")
            .with(".env.prod.local", b"BOTH=local\n")
    };
    host.deploy_once(&version(b"1")).expect_code(0);
    assert_same(&host, &["prepare", "migrate", "after"]);
    assert!(!host.dir.join("marks/check.who").exists(), "a host that migrates asks nobody");

    let toml = std::fs::read_to_string(host.dir.join("host.toml")).unwrap();
    host.write("host.toml", &format!("migrator = false\n{toml}"));
    std::fs::remove_file(host.dir.join("marks/migrate.who")).unwrap();
    host.deploy_once(&version(b"2")).expect_code(0);
    assert_same(&host, &["prepare", "check", "after"]);
    assert!(!host.dir.join("marks/migrate.who").exists(), "the migration ran here");
}

/// What these left is what `exec` shows of the release in service, which is what the app was started with.
#[track_caller]
fn assert_same(host: &Host, steps: &[&str]) {
    let app = process::working_under(&host.app("web", "prod").join("releases")).remove(0);
    let started: Vec<String> =
        process::started_with(app.pid).into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    let expected = own(&started.join("\n"));
    assert!(expected.contains(&"BOTH=local".to_owned()), "{expected:?}");
    for step in steps {
        let read = |end: &str| std::fs::read_to_string(host.dir.join(format!("marks/{step}.{end}"))).unwrap();
        assert_eq!(read("who").trim(), service_user(), "{step}");
        assert_eq!(Path::new(read("dir").trim()), host.current("web", "prod"), "{step}");
        assert_eq!(own(&read("env")), expected, "{step}");
    }
}

#[test]
fn a_migration_that_hangs_is_ended_at_its_timeout_with_all_it_started_and_what_it_said_is_kept() {
    let host = host();
    host.deploy_once(&Source::sleeper("first")).expect_code(0);
    let before = host.serving("web", "prod");
    let step = "[[step]]\nname = \"schema\"\nkind = \"migrate\"\ntimeout = \"1s\"\n\
                shell = \"echo locking the table; (setsid sleep 54321 &); sleep 54321\"\n";
    host.deploy_once(&Source::sleeper_and(step)).expect_code(7);
    let entry = host.attempts("web").pop().unwrap();
    assert_eq!(entry["failure"]["class"], "Migrate", "{entry}");
    let message = entry["failure"]["message"].as_str().unwrap();
    assert!(message.contains("its timeout") && message.ends_with("locking the table"), "{message}");
    assert_eq!(host.serving("web", "prod"), before, "what runs was not touched, and the step is gone");
    let kept = host.run(&["logs", "web", "--attempt", "2", "--step", "schema"]);
    kept.expect_code(0);
    assert_eq!(kept.out, "locking the table\n");
    let told = host.run(&["describe", "web"]);
    assert!(told.out.contains("step: schema") && told.out.contains("| locking the table"), "{}", told.out);
}

/// Processor time that a process has used, in hundredths of a second.
fn used(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn what_a_step_prints_is_shown_while_it_runs_by_release_and_by_logs() {
    let host = host();
    let go = host.dir.join("marks/go");
    let step = format!(
        "[[step]]\nname = \"install\"\nshell = \"echo fetching; while [ ! -e {} ]; do sleep 0.05; done; echo fetched\"\n",
        go.display()
    );
    let id = host.pack_next(Source::sleeper_and(&step).path());
    let mut release = host.landfall(&["release", &id, "--env", "prod"]);
    let mut release = release.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(release.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(said.any(|line| line.trim() == "install | fetching"), "the release ended without it");

    // Somebody else looks on.
    let mut logs = host.landfall(&["logs", "-f", "web", "--attempt", "1"]);
    let mut logs = logs.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut shown = BufReader::new(logs.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(shown.next().as_deref(), Some("fetching"));
    // Whoever only waits uses no processor.
    let before = [release.id(), logs.id()].map(used);
    std::thread::sleep(Duration::from_secs(1));
    let used = [release.id(), logs.id()].map(used).into_iter().zip(before).map(|(now, before)| now - before);
    assert!(used.clone().all(|used| used < 30), "{:?} hundredths of a second", used.collect::<Vec<_>>());
    std::fs::write(&go, "").unwrap();
    assert_eq!(shown.next().as_deref(), Some("fetched"));
    logs.kill().unwrap();
    logs.wait().unwrap();

    assert!(said.any(|line| line.trim() == "install | fetched"), "it was not shown");
    assert!(said.any(|line| line.contains("Healthy in")), "the verdict comes last");
    let ended = wait::wait_for("the release ends", LIMIT, || release.try_wait().unwrap());
    assert!(ended.success(), "{ended}");
}
