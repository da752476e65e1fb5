//! `landfall exec` and `landfall logs -f` on real processes.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails, its helpers included")]

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use support::{Host, Source, process, wait};

/// Generous: the machine may be busy.
const LIMIT: Duration = Duration::from_secs(60);

/// A host that runs the sleeper, with two env values of its own.
fn running() -> Host {
    let host = Host::new("prod", "[apps.web]\nenv = { GREETING = \"a b  c\", EMPTY = \"\" }\n");
    host.deploy_once(&Source::sleeper("1")).expect_code(0);
    host
}

fn stop(mut child: Child, signal: Signal) -> std::process::ExitStatus {
    kill_process(Pid::from_child(&child), signal).unwrap();
    wait::wait_for("it ends after the signal", LIMIT, || child.try_wait().unwrap())
}

#[test]
fn a_command_gets_the_directory_and_exactly_the_environment_of_the_app() {
    let host = running();
    let app = &host.serving("web", "prod")[0];
    let mut wanted = process::started_with(app.pid);
    assert!(wanted.remove("LANDFALL_START").is_some());
    let said = host.run(&["exec", "web", "--", "env", "-0"]);
    said.expect_code(0);
    let got: BTreeMap<String, String> = said
        .out
        .split_terminator('\0')
        .map(|pair| pair.split_once('=').unwrap())
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    assert_eq!(got, wanted);
    assert_eq!(got["GREETING"], "a b  c");
    let said = host.run(&["exec", "web", "--", "pwd", "-P"]);
    assert_eq!(Path::new(said.out.trim_end()), host.current("web", "prod"));
}

#[test]
fn arguments_reach_the_command_as_they_are_and_its_exit_status_is_the_commands_own() {
    let host = running();
    let said = host.run(&["exec", "web", "--", "printf", "%s|", "$HOME", "a  b", "--env", "*"]);
    assert_eq!(said.out, "$HOME|a  b|--env|*|");
    host.run(&["exec", "web", "--", "sh", "-c", "exit 7"]).expect_code(7);
    host.run(&["exec", "web", "--", "no-such-command"]).expect_code(127);
    host.run(&["exec", "web", "--", "./app/version.txt"]).expect_code(126);
    host.run(&["exec", "other", "--", "true"]).expect_code(4);
    host.run(&["exec", "web"]).expect_code(2);
}

#[test]
fn a_signal_reaches_the_command_and_ends_landfall_as_it_ends_the_command() {
    let host = running();
    let mut command = host.landfall(&["exec", "web", "--", "sh", "-c", "echo here; exec sleep 1000"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "here\n");
    assert_eq!(stop(child, Signal::TERM).signal(), Some(15));
}

#[test]
fn a_command_keeps_the_terminal() {
    let host = running();
    let line = format!(
        "{} exec web --config {} --root {} --state {} -- sh -c 'test -t 0 && test -t 1 && echo $TERM'",
        env!("CARGO_BIN_EXE_landfall"),
        host.dir.join("host.toml").display(),
        host.root().display(),
        host.state().display(),
    );
    let output = host
        .program("script")
        .args(["-qec", &line, "/dev/null"])
        .env("TERM", "vt100")
        .stdin(Stdio::null())
        .output()
        .expect("script(1) of util-linux is needed for this test");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("vt100"), "{said}");
}

#[test]
fn without_a_release_in_service_there_is_nothing_to_run_a_command_in() {
    let host = Host::new("prod", "");
    host.want(
        "web",
        &host.pack_next(
            Source::sleeper_and("[[step]]\nname = \"no\"\nrun = [\"false\"]\nkind = \"migrate\"\n").path(),
        ),
    );
    host.run(&["watch", "--once"]).expect_code(7);
    let said = host.run(&["exec", "web", "--", "true"]);
    said.expect_code(4);
    assert!(said.err.contains("no release of `web` is in service"), "{}", said.err);
}

/// `landfall logs -f …` and the lines it prints.
struct Following {
    child: Child,
    lines: Receiver<String>,
}

impl Following {
    fn new(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let (send, lines) = channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || out.lines().map_while(Result::ok).all(|line| send.send(line).is_ok()));
        Self { child, lines }
    }

    #[track_caller]
    fn next(&self) -> String {
        self.lines.recv_timeout(LIMIT).expect("a line")
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// An app that prints what is appended to `feed` in the host's directory.
fn fed(host: &Host, name: &str) -> String {
    format!(
        "[[start]]\nname = \"{name}\"\nmanager = \"direct\"\nshell = \"exec tail -n +1 -F {}/{name}\"\n",
        host.dir.display()
    )
}

fn feeding(processes: &[&str]) -> (Host, Source) {
    let host = Host::new("prod", "");
    let starts: String = processes.iter().map(|name| fed(&host, name)).collect();
    for name in processes {
        host.write(name, "");
    }
    let recipe = format!(
        "app = \"web\"\nversion = \"1\"\n\n[[layer]]\nname = \"app\"\nfiles = [{{ from = \"app\", to = \"app\" }}]\n\n{starts}\n[health]\nrun = [\"true\"]\nattempts = 3\ninterval = \"100ms\"\nsuccesses = 1\nsettle = \"100ms\"\n"
    );
    let source = Source::new(&recipe).with("app/version.txt", b"1");
    host.deploy_once(&source).expect_code(0);
    (host, source)
}

#[test]
fn following_goes_over_rotations_and_into_the_next_release_without_losing_a_line() {
    let (host, source) = feeding(&["main"]);
    host.write("main", "first\n");
    let following = Following::new(&mut host.landfall(&["logs", "-f", "web"]));
    assert_eq!(following.next(), "first");
    // More than one file of 16 MiB.
    let many: String = (0..20_000).map(|number| format!("{number:01000}\n")).collect();
    let feed = host.dir.join("main");
    let mut file = std::fs::File::options().append(true).open(&feed).unwrap();
    std::io::Write::write_all(&mut file, many.as_bytes()).unwrap();
    for number in 0..20_000 {
        assert_eq!(following.next().parse::<u32>().unwrap(), number);
    }
    assert!(host.app("web", "prod").join("logs/main.log.1").exists(), "it was rotated");
    host.write("main", "");
    let source = source.with("app/version.txt", b"2");
    host.deploy_once(&source).expect_code(0);
    std::io::Write::write_all(
        &mut std::fs::File::options().append(true).open(&feed).unwrap(),
        b"of the next\n",
    )
    .unwrap();
    while following.next() != "of the next" {}
}

#[test]
fn lines_of_several_processes_begin_with_their_names() {
    let (host, _source) = feeding(&["web", "worker"]);
    host.write("web", "one\n");
    host.write("worker", "two\n");
    wait::wait_until("both are logged", LIMIT, || {
        let said = host.run(&["logs", "web"]);
        said.out.contains("one") && said.out.contains("two")
    });
    let following = Following::new(&mut host.landfall(&["logs", "-f", "web"]));
    let mut lines = [following.next(), following.next()];
    lines.sort();
    assert!(lines.iter().any(|line| line.ends_with("| two") && line.starts_with("worker")), "{lines:?}");
    let only = Following::new(&mut host.landfall(&["logs", "-f", "web", "--process", "worker"]));
    assert_eq!(only.next(), "two");
    let json = Following::new(&mut host.landfall(&["logs", "-f", "-o", "json", "--process", "web"]));
    let document: serde_json::Value = serde_json::from_str(&json.next()).unwrap();
    assert_eq!(document, serde_json::json!({"app": "web", "name": "web", "line": "one"}));
}

#[test]
fn following_ends_with_ctrl_c_and_when_nobody_reads_a_quiet_log_any_more() {
    let (host, _source) = feeding(&["main"]);
    host.write("main", "first\n");
    let mut following = Following::new(&mut host.landfall(&["logs", "-f", "web"]));
    assert_eq!(following.next(), "first");
    kill_process(Pid::from_child(&following.child), Signal::INT).unwrap();
    let status = wait::wait_for("it ends", LIMIT, || following.child.try_wait().unwrap());
    assert_eq!(status.code(), Some(130));
    let mut command = host.landfall(&["logs", "-f", "web"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    drop(out);
    let status = wait::wait_for("it ends with its reader", LIMIT, || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
}
