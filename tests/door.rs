//! Whatever is said at the agent's door: it answers, or hangs up, and goes on with its work.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use support::wait::wait_until;
use support::{Host, Source};

const LIMIT: Duration = Duration::from_secs(60);

/// A host with one healthy app and an agent.
fn world() -> Host {
    let mut host = Host::new("prod", "");
    host.deploy_once(&Source::sleeper("one")).expect_code(0);
    host.start_agent();
    wait_until("the door is open", LIMIT, || door(&host).exists());
    host
}

fn door(host: &Host) -> PathBuf {
    host.root().join("agent.sock")
}

fn knock(host: &Host) -> UnixStream {
    let stream = UnixStream::connect(door(host)).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
}

/// What is answered to these bytes; `None`: the agent hung up.
fn say(host: &Host, bytes: &[u8]) -> Option<Value> {
    let mut stream = knock(host);
    // The agent may hang up before it has read everything.
    stream.write_all(bytes).ok();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).ok()?;
    (!line.is_empty()).then(|| serde_json::from_str(&line).unwrap())
}

fn reason(answer: Option<Value>) -> String {
    answer.unwrap()["Denied"]["reason"].as_str().unwrap().to_owned()
}

/// The agent still does what is asked.
fn is_well(host: &Host) {
    host.run(&["suspend", "web", "--reason", "a test"]).expect_code(0);
    host.run(&["resume", "web"]).expect_code(0);
}

#[test]
fn garbage_half_lines_and_endless_ones_are_refused_and_the_agent_goes_on() {
    let host = world();
    assert_eq!(reason(say(&host, b"\xff\xfe\0\n")), "NotUnderstood");
    assert_eq!(reason(say(&host, b"\n")), "NotUnderstood");
    assert_eq!(reason(say(&host, b"{\"landfall\":1,\"request\":\"Launch\"}\n")), "NotUnderstood");
    let unknown =
        json!({"landfall": 1, "request": {"ReconcileAll": {"by": "x", "reason": null, "force": 1}}});
    assert_eq!(reason(say(&host, format!("{unknown}\n").as_bytes())), "NotUnderstood");
    let newer = json!({"landfall": 2, "request": {"ReconcileAll": {"by": "x", "reason": null}}});
    assert_eq!(reason(say(&host, format!("{newer}\n").as_bytes())), "OtherVersion");
    let elsewhere = json!({"landfall": 1, "request": {"App": {"app": "web2", "by": "x", "order": {"Retry": {"reason": null}}}}});
    assert_eq!(reason(say(&host, format!("{elsewhere}\n").as_bytes())), "NoApp");
    let nobody = json!({"landfall": 1, "request": {"App": {"app": "web", "by": "", "order": {"Retry": {"reason": null}}}}});
    assert_eq!(reason(say(&host, format!("{nobody}\n").as_bytes())), "TextInvalid");
    // More than any line may hold, and no end of it.
    let answer = say(&host, &vec![b'x'; 1 << 20]);
    assert!(answer.is_none_or(|answer| answer["Denied"]["reason"] == "NotALine"));
    // Half a line, and gone.
    let mut half = knock(&host);
    half.write_all(b"{\"landfall\":1,\"req").unwrap();
    drop(half);
    is_well(&host);
}

#[test]
fn callers_that_say_nothing_hold_nobody_up_for_long() {
    let host = world();
    let silent: Vec<UnixStream> = (0..100).map(|_| knock(&host)).collect();
    // Those beyond the room are sent away at once; the others after their time.
    let mut sent_away = 0;
    for mut stream in silent {
        let mut text = String::new();
        stream.read_to_string(&mut text).ok();
        sent_away += usize::from(text.contains("Busy"));
    }
    assert!(sent_away > 0, "nobody was told to come again");
    wait_until("the agent answers again", LIMIT, || {
        host.run(&["suspend", "web", "--reason", "a test"]).code == Some(0)
    });
    is_well(&host);
}

/// What the agent answers another account. The kernel keeps accounts by thread; this one ends with its account.
fn as_nobody(host: &Host) -> std::io::Result<String> {
    let path = door(host);
    let speak = move || {
        rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(65_534))?;
        let mut stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(LIMIT))?;
        let request = json!({"landfall": 1, "request": {"ReconcileAll": {"by": "nobody", "reason": null}}});
        // It is refused without being heard.
        stream.write_all(format!("{request}\n").as_bytes()).ok();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        Ok(line)
    };
    std::thread::spawn(speak).join().unwrap()
}

#[test]
fn the_door_is_private_and_other_accounts_are_refused_even_where_it_is_not() {
    let host = world();
    let mode = std::fs::metadata(door(&host)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(rustix::process::geteuid().is_root(), "this test speaks as another account: run it as root");
    let open = |path: PathBuf, mode: u32| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    for dir in door(&host).ancestors().skip(1).take_while(|dir| dir.starts_with(&host.dir)) {
        open(dir.to_owned(), 0o755);
    }
    let closed = as_nobody(&host).unwrap_err();
    assert_eq!(closed.kind(), std::io::ErrorKind::PermissionDenied);
    open(door(&host), 0o666);
    let answer: Value = serde_json::from_str(&as_nobody(&host).unwrap()).unwrap();
    assert_eq!(answer["Denied"]["reason"], "PermissionDenied", "another account gave an order");
    is_well(&host);
}

#[test]
fn a_socket_that_a_dead_agent_left_is_replaced_and_a_clean_end_leaves_none() {
    let mut host = world();
    host.stop_agent();
    assert!(!door(&host).exists());
    drop(std::os::unix::net::UnixListener::bind(door(&host)).unwrap());
    assert!(door(&host).exists(), "the socket file of a dead agent");
    host.run(&["reconcile"]).expect_code(15);
    host.run(&["suspend", "web", "--reason", "a test"]).expect_code(0);
    host.start_agent();
    wait_until("the new agent answers", LIMIT, || host.run(&["reconcile"]).code == Some(0));
    host.run(&["resume", "web"]).expect_code(0);
    is_well(&host);
}

#[test]
fn the_door_opens_however_deep_the_root_lies() {
    let host = Host::new("prod", "");
    let deep = host.dir.join("d".repeat(120));
    std::fs::create_dir_all(&deep).unwrap();
    std::os::unix::fs::symlink(&deep, host.dir.join("short")).unwrap();
    std::fs::create_dir_all(host.root().parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(deep.join("root"), host.root()).unwrap();
    std::fs::create_dir_all(deep.join("root")).unwrap();
    host.deploy_once(&Source::sleeper("one")).expect_code(0);
    let root = deep.join("root").to_string_lossy().into_owned();
    let mut agent = host.program(env!("CARGO_BIN_EXE_landfall"));
    let (config, state) = (host.dir.join("host.toml"), host.state());
    agent.args(["watch", "--root", &root, "--config"]).arg(&config).arg("--state").arg(&state);
    let mut agent = agent.stderr(std::process::Stdio::null()).spawn().unwrap();
    let mut order = host.program(env!("CARGO_BIN_EXE_landfall"));
    order.args(["reconcile", "--root", &root, "--config"]).arg(&config).arg("--state").arg(&state);
    order.stderr(std::process::Stdio::null()).stdout(std::process::Stdio::null());
    wait_until("it is answered", LIMIT, || order.status().is_ok_and(|status| status.success()));
    agent.kill().unwrap();
    agent.wait().unwrap();
}
