//! The pm2 manager against real pm2.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails, its helpers included")]

mod procs;
#[path = "procs/pm2.rs"]
mod real;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;

use landfall::health::{Started, Verdict, Verification, verify};
use landfall::proc;
use landfall::spec::{Check, Command, HealthSpec, ManagerKind, Millis, Pm2Mode};
use landfall::start::pm2::Pm2;
use landfall::start::{Launch, Manager, StartError};
use landfall::step::Runner;
use procs::{App, block_on, eventually, landfall, shell, stop_spec, working_under};
use real::Daemon;
use rustix::process::Signal;

const SECRET: &str = "canary-271828";

struct Site {
    app: App,
    daemon: Daemon,
    manager: Pm2,
    port: u16,
    account: Option<landfall::start::Account>,
}

impl Site {
    fn new() -> Self {
        let app = App::new();
        for release in ["a", "b"] {
            let dir = app.release(release);
            fs::write(dir.join("server.js"), include_str!("procs/worker.js")).unwrap();
            fs::write(dir.join("code.js"), format!("module.exports = '{release}';")).unwrap();
        }
        let daemon = Daemon::new();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self { app, manager: daemon.manager(), daemon, port, account: None }
    }

    fn launch(&self, release: &str, command: &[&str]) -> Launch {
        let command = Command::Run(command.iter().map(|part| (*part).to_owned()).collect());
        let mut launch = self.app.launch(release, command);
        launch.spec.manager = ManagerKind::Pm2;
        launch.spec.instances = 2;
        launch.spec.ready = true;
        launch.spec.stop = landfall::spec::StopSpec { signal: "SIGINT".into(), ..stop_spec(2_000) };
        launch.env.insert("PORT".into(), self.port.to_string());
        launch.env.insert("TOKEN".into(), SECRET.into());
        launch
    }

    fn server(&self, release: &str) -> Launch {
        self.launch(release, &["node", "server.js", "--tell", "all"])
    }

    /// What the agent does before a start: the release's own environment, and the switch.
    fn switch(&self, launch: &Launch) {
        let dir = launch.release_dir.join(".landfall");
        fs::create_dir_all(&dir).unwrap();
        let lasting: BTreeMap<_, _> = launch.env.iter().filter(|(key, _)| *key != "LANDFALL_START").collect();
        fs::write(dir.join("env.json"), serde_json::to_vec(&lasting).unwrap()).unwrap();
        if let Some(account) = &self.account {
            std::os::unix::fs::chown(dir.join("env.json"), Some(account.uid), None).unwrap();
        }
        let new = self.app.root.join("current.new");
        std::os::unix::fs::symlink(&launch.release_dir, &new).unwrap();
        fs::rename(new, self.app.root.join("current")).unwrap();
    }

    fn start(&self, launch: &Launch) -> u64 {
        self.switch(launch);
        let since = proc::now_ticks();
        block_on(self.manager.start(launch)).unwrap();
        since
    }

    fn verify(&self, launch: &Launch, since: u64) -> Verdict {
        let started = [Started { manager: &self.manager, launch, since_ticks: since }];
        let of = Verification {
            started: &started,
            checks: &[self.check()],
            env: &launch.env,
            release_dir: &launch.release_dir,
            account: None,
            runner: &Runner::with_executable(landfall()),
        };
        block_on(verify(&of, || false)).unwrap()
    }

    fn check(&self) -> HealthSpec {
        HealthSpec {
            name: "main".parse().unwrap(),
            check: Check::Http("http://127.0.0.1:${PORT}/".into()),
            body_contains: None,
            attempts: 20,
            interval: Millis(200),
            timeout: Millis(1_000),
            successes: 2,
            settle: Millis(300),
            advisory: false,
            roles: Vec::new(),
        }
    }

    fn facts(&self) -> landfall::start::SlotFacts {
        block_on(self.manager.inspect(&self.app.slot())).unwrap()
    }

    fn worker_dirs(&self) -> Vec<PathBuf> {
        self.facts().processes.iter().map(|id| proc::cwd(id.pid).unwrap().path).collect()
    }

    fn ask(&self) -> serde_json::Value {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    fn stop(&self) {
        block_on(self.manager.stop(&self.app.slot(), &stop_spec(2_000))).unwrap();
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = block_on(self.manager.stop(&self.app.slot(), &stop_spec(0)));
        for left in working_under(&self.app.root) {
            proc::signal(left.id, Signal::KILL);
        }
    }
}

fn assert_healthy(verdict: Verdict) {
    assert!(matches!(verdict, Verdict::Healthy(_)), "{verdict:#?}");
}

/// What the app sees is what the launch says, and pm2's instance number.
fn assert_exact(seen: &serde_json::Value, launch: &Launch, release: &str) {
    let mut env: BTreeMap<String, String> = serde_json::from_value(seen["env"].clone()).unwrap();
    assert!(env.remove("NODE_APP_INSTANCE").is_some());
    assert_eq!(env, launch.env);
    assert_eq!(seen["code"], release);
    assert_eq!(seen["cwd"], launch.release_dir.to_str().unwrap());
    assert_eq!(seen["main"], true);
    let entry = launch.release_dir.join("server.js");
    assert_eq!(seen["argv"], serde_json::json!([entry, "--tell", "all"]));
}

#[test]
fn cluster_workers_have_code_directory_and_environment_of_each_release_there_and_back() {
    let site = Site::new();
    let mut a = site.server("a");
    a.env.insert("ONLY_IN_A".into(), "1".into());
    let since = site.start(&a);
    assert_healthy(site.verify(&a, since));
    assert_exact(&site.ask(), &a, "a");
    let first = site.facts().processes;

    let b = site.server("b");
    let since = site.start(&b);
    assert_healthy(site.verify(&b, since));
    assert_exact(&site.ask(), &b, "b");
    assert_eq!(site.worker_dirs(), [site.app.release("b"), site.app.release("b")]);
    assert!(first.iter().all(|id| !proc::is_alive(*id)));

    let mut back = site.server("a");
    back.env.insert("ONLY_IN_A".into(), "2".into());
    let since = site.start(&back);
    assert_healthy(site.verify(&back, since));
    assert_exact(&site.ask(), &back, "a");
    assert_eq!(site.facts().start_id, Some(back.start_id.clone()));
    let before = site.facts().processes;
    block_on(site.manager.start(&back)).unwrap();
    assert_eq!(site.facts().processes, before, "the same start twice is one start");
}

#[test]
fn p22_no_secret_is_in_pm2s_dump_or_in_the_environment_of_any_process() {
    let site = Site::new();
    site.start(&site.server("a"));
    block_on(site.manager.persist(&site.app.slot())).unwrap();
    let dump = fs::read_to_string(site.daemon.home.join("dump.pm2")).unwrap();
    assert!(dump.contains("web-prod") && !dump.contains(SECRET), "{dump}");
    assert_eq!(mode(&site.daemon.home.join("dump.pm2")), 0o600);
    let mut pids: Vec<u32> = site.facts().processes.iter().map(|id| id.pid).collect();
    pids.extend(site.daemon.pid());
    assert_eq!(pids.len(), 3);
    for pid in pids {
        for file in ["environ", "cmdline"] {
            let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap();
            assert!(!String::from_utf8_lossy(&bytes).contains(SECRET), "{pid} {file}");
        }
    }
    let order = fs::read_to_string(site.app.root.join("run/pm2/main/order.json")).unwrap();
    assert!(!order.contains(SECRET), "the release's own private file has it already: {order}");
}

#[test]
fn an_environment_that_the_release_does_not_bring_travels_in_a_private_file() {
    let site = Site::new();
    let launch = site.server("a");
    site.switch(&launch);
    fs::write(launch.release_dir.join(".landfall/env.json"), r#"{"STALE":"1","PORT":"1"}"#).unwrap();
    block_on(site.manager.start(&launch)).unwrap();
    assert_exact(&site.ask(), &launch, "a");
    assert_eq!(mode(&site.app.root.join("run/pm2/main/order.json")), 0o600);
}

fn mode(path: &std::path::Path) -> u32 {
    std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path).unwrap().permissions()) & 0o777
}

#[test]
fn workers_run_as_their_account_and_the_rest_stays_landfalls() {
    if !rustix::process::getuid().is_root() {
        return;
    }
    let mut site = Site::new();
    let open = |path: &std::path::Path| {
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    };
    open(&site.app.root);
    open(site.daemon.home.parent().unwrap());
    let mut a = site.server("a");
    let nobody = landfall::start::Account {
        name: "nobody".into(),
        uid: 65_534,
        gid: 65_534,
        home: "/nonexistent".into(),
    };
    site.account = Some(nobody.clone());
    a.slot.account = Some(nobody);
    let since = site.start(&a);
    assert_healthy(site.verify(&a, since));
    assert_exact(&site.ask(), &a, "a");
    block_on(site.manager.persist(&a.slot)).unwrap();
    let owner =
        |path: &str| std::os::unix::fs::MetadataExt::uid(&fs::metadata(site.app.root.join(path)).unwrap());
    assert!(site.facts().processes.iter().all(|id| proc::user(id.pid) == Some(65_534)));
    assert_eq!((owner("logs/main.log"), owner("run/pm2/main/order.json")), (65_534, 65_534));
    assert_eq!((owner("logs"), owner("run/launcher.cjs"), owner("run/pm2/main")), (0, 0, 0));
}

#[test]
fn p18_while_a_process_works_in_another_release_no_answer_counts() {
    let site = Site::new();
    let mut stray = std::process::Command::new("setsid");
    let mut stray = stray.args(["sleep", "1000"]).current_dir(site.app.release("b")).spawn().unwrap();
    let a = site.server("a");
    let since = site.start(&a);
    let verdict = site.verify(&a, since);
    stray.kill().unwrap();
    stray.wait().unwrap();
    let Verdict::Unhealthy { reason, .. } = verdict else { panic!("{verdict:?}") };
    assert!(reason.to_string().contains("still runs another release"), "{reason}");
}

#[test]
fn what_old_workers_left_running_ends_with_the_next_start() {
    let site = Site::new();
    let leaving = "require('node:child_process').spawn('setsid', ['sleep', '1000'], {detached: true, stdio: 'ignore'}).unref();";
    fs::write(site.app.release("a").join("code.js"), format!("{leaving} module.exports = 'a';")).unwrap();
    site.start(&site.server("a"));
    eventually("they left something", || working_under(&site.app.release("a")).len() >= 4);
    let b = site.server("b");
    let since = site.start(&b);
    assert_eq!(working_under(&site.app.release("a")), []);
    assert_healthy(site.verify(&b, since));
}

#[test]
fn a_reload_into_a_release_that_throws_is_unhealthy_and_the_way_back_works() {
    let site = Site::new();
    let a = site.server("a");
    let since = site.start(&a);
    assert_healthy(site.verify(&a, since));
    fs::write(site.app.release("b").join("code.js"), "throw new Error('b is broken')").unwrap();
    let b = site.server("b");
    site.switch(&b);
    let since = proc::now_ticks();
    let verdict = match block_on(site.manager.start(&b)) {
        Ok(()) => site.verify(&b, since),
        Err(StartError::Refused { .. }) => Verdict::Superseded,
        Err(other) => panic!("{other}"),
    };
    assert!(!matches!(verdict, Verdict::Healthy(_)), "{verdict:?}");
    if let Verdict::Unhealthy { evidence, .. } = verdict {
        assert!(evidence.logs["main"].iter().any(|line| line.contains("b is broken")), "{evidence:?}");
    }
    let back = site.server("a");
    let since = site.start(&back);
    assert_healthy(site.verify(&back, since));
    assert_exact(&site.ask(), &back, "a");
}

#[test]
fn a_killed_daemon_is_manager_trouble_that_the_next_start_heals() {
    let site = Site::new();
    let a = site.server("a");
    site.start(&a);
    let daemon = proc::identity(site.daemon.pid().unwrap()).unwrap();
    proc::signal(daemon, Signal::KILL);
    eventually("the workers are gone with it", || site.facts().processes.is_empty());
    let again = site.server("a");
    let since = site.start(&again);
    assert_healthy(site.verify(&again, since));
    assert_exact(&site.ask(), &again, "a");
}

#[test]
fn a_worker_that_dies_counts_as_a_restart() {
    let site = Site::new();
    let a = site.server("a");
    let since = site.start(&a);
    assert_eq!(site.facts().restarts, 0);
    let victim = site.facts().processes[0];
    proc::signal(victim, Signal::KILL);
    eventually("pm2 started another", || site.facts().restarts == 1 && site.facts().processes.len() == 2);
    let Verdict::Unhealthy { reason, .. } = site.verify(&a, since) else { panic!() };
    assert!(reason.to_string().contains("was started again"), "{reason}");
}

#[test]
fn a_large_log_is_put_aside_by_the_next_start() {
    let site = Site::new();
    site.start(&site.server("a"));
    let log = site.app.slot().log_path();
    let size = landfall::start::shim::limits::LOG_FILE_BYTES_MAX + 1;
    fs::File::options().write(true).open(&log).unwrap().set_len(size).unwrap();
    site.start(&site.server("b"));
    assert_eq!(fs::metadata(log.with_extension("log.1")).unwrap().len(), size);
    assert!(fs::metadata(log).unwrap().len() < size);
}

#[test]
fn stop_leaves_no_process_and_no_entry() {
    let site = Site::new();
    site.start(&site.server("a"));
    assert_eq!(site.facts().processes.len(), 2);
    site.stop();
    assert_eq!(working_under(&site.app.root.join("releases")), []);
    assert_eq!(site.facts().processes, []);
    site.stop();
}

#[test]
fn a_program_that_is_not_nodes_runs_in_fork_mode_with_its_own_environment() {
    let site = Site::new();
    let mut launch = site.launch("a", &[]);
    launch.spec.command = shell("env > seen; echo up; exec sleep 1000");
    launch.spec.instances = 1;
    launch.spec.ready = false;
    site.start(&launch);
    let seen = site.app.release("a").join("seen");
    eventually("it ran", || fs::read_to_string(&seen).is_ok_and(|text| text.contains("LANDFALL_START")));
    let text = fs::read_to_string(&seen).unwrap();
    let mut env: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
    env.retain(|key, _| !["PWD", "SHLVL", "_", "OLDPWD"].contains(key));
    let wanted: BTreeMap<&str, &str> = launch.env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(env, wanted);
    eventually("its output is in the log", || site.app.log().contains("up\n"));
    assert!(working_under(&site.app.release("a")).len() >= 2);
    site.stop();
    assert_eq!(working_under(&site.app.root.join("releases")), []);
}

#[test]
fn an_es_module_runs_in_fork_mode() {
    let site = Site::new();
    let dir = site.app.release("a");
    fs::write(dir.join("package.json"), r#"{"type":"module"}"#).unwrap();
    fs::write(
        dir.join("server.js"),
        "import http from 'node:http'; await 0; http.createServer((_, r) => r.end(JSON.stringify({env: process.env}))).listen(process.env.PORT, '127.0.0.1');",
    )
    .unwrap();
    let mut launch = site.launch("a", &["node", "server.js"]);
    launch.spec.instances = 1;
    launch.spec.ready = false;
    let since = site.start(&launch);
    assert_healthy(site.verify(&launch, since));
    assert_eq!(site.ask()["env"]["TOKEN"], SECRET);
}

#[test]
fn other_settings_take_effect_with_the_next_start() {
    let site = Site::new();
    site.start(&site.server("a"));
    let mut more = site.server("b");
    more.spec.instances = 3;
    let since = site.start(&more);
    assert_healthy(site.verify(&more, since));
    assert_eq!(site.facts().processes.len(), 3);
    let mut fork = site.server("a");
    fork.spec.instances = 1;
    fork.spec.mode = Some(Pm2Mode::Fork);
    let since = site.start(&fork);
    assert_healthy(site.verify(&fork, since));
    assert_eq!(site.worker_dirs(), [site.app.release("a")]);
}

#[test]
fn a_pm2_that_is_missing_or_broken_is_no_fault_of_the_release() {
    let site = Site::new();
    let home = site.daemon.home.clone();
    let missing = Pm2::on_path(home.clone(), "/nonexistent").unwrap_err();
    assert!(
        matches!(missing, StartError::ManagerDown { .. }) && missing.to_string().contains("install it"),
        "{missing}"
    );
    let broken = Pm2::with_program("/bin/false".into(), home, "/bin").unwrap();
    let launch = site.server("a");
    site.switch(&launch);
    let error = block_on(broken.start(&launch)).unwrap_err();
    assert!(matches!(error, StartError::ManagerDown { .. }), "{error}");
}

#[test]
fn preserve_symlinks_is_refused() {
    let site = Site::new();
    let launch = site.launch("a", &["node", "--preserve-symlinks", "server.js"]);
    let error = block_on(site.manager.start(&launch)).unwrap_err();
    assert!(matches!(error, StartError::Refused { .. }), "{error}");
}

/// Asks once more on a connection. The head of the answer; none: the connection was closed without a word.
fn ask_again(connection: &mut TcpStream) -> Option<String> {
    connection.write_all(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n").ok()?;
    let (mut said, mut byte) = (Vec::new(), [0]);
    while !said.ends_with(b"\r\n\r\n") {
        connection.read_exact(&mut byte).ok()?;
        said.push(byte[0].to_ascii_lowercase());
    }
    let head = String::from_utf8(said).unwrap();
    let length = head.split_once("content-length: ").unwrap().1.split_once("\r\n").unwrap().0;
    connection.read_exact(&mut vec![0; length.parse().unwrap()]).ok()?;
    Some(head)
}

#[test]
fn a_kept_connection_is_answered_until_it_is_told_that_it_ends() {
    let site = Site::new();
    site.start(&site.server("a"));
    let mut kept = TcpStream::connect(("127.0.0.1", site.port)).unwrap();
    assert!(ask_again(&mut kept).unwrap().contains("connection: keep-alive"));
    let told = std::thread::scope(|scope| {
        let client = scope.spawn(move || {
            loop {
                let head = ask_again(&mut kept)?;
                if head.contains("connection: close") {
                    return Some(head);
                }
                // A client thinks before it asks again.
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
        });
        site.start(&site.server("b"));
        client.join().unwrap()
    });
    assert!(told.is_some(), "it was closed while the client might have been asking");
}

#[test]
fn answers_under_way_are_finished_even_by_an_app_that_knows_no_stop_signal() {
    let site = Site::new();
    for release in ["a", "b"] {
        let slow = "require('node:http').createServer((_, response) => setTimeout(() => response.end('{}'), 400))\
                    .listen(Number(process.env.PORT), '127.0.0.1', () => process.send('ready'));";
        fs::write(site.app.release(release).join("slow.js"), slow).unwrap();
    }
    site.start(&site.launch("a", &["node", "slow.js"]));
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    assert_eq!(site.ask(), serde_json::json!({}));
                }
            });
        }
        site.start(&site.launch("b", &["node", "slow.js"]));
        over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}
