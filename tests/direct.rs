//! The direct manager on real processes.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails, its helpers included")]

mod procs;

use landfall::proc;
use landfall::start::direct::Direct;
use landfall::start::{Exit, Launch, Manager, ProcessId, StartError};
use procs::{App, block_on, eventually, landfall, shell, stop_spec, working_under};
use rustix::process::Signal;

/// Ends whatever a failing test leaves.
struct Running<'a> {
    app: &'a App,
    manager: Direct,
}

impl<'a> Running<'a> {
    fn new(app: &'a App) -> Self {
        Self { app, manager: Direct::with_executable(landfall()) }
    }

    fn start(&self, launch: &Launch) -> Result<(), StartError> {
        block_on(self.manager.start(launch))
    }

    fn facts(&self) -> landfall::start::SlotFacts {
        block_on(self.manager.inspect(&self.app.slot())).unwrap()
    }

    fn main(&self) -> ProcessId {
        self.facts().processes[0]
    }

    fn stop(&self, grace_ms: u64) {
        block_on(self.manager.stop(&self.app.slot(), &stop_spec(grace_ms))).unwrap();
    }

    fn shim(&self) -> ProcessId {
        let record = std::fs::read(self.app.root.join("run/processes/main/record.json")).unwrap();
        let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
        serde_json::from_value(record["shim"].clone()).unwrap()
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let _ = block_on(self.manager.stop(&self.app.slot(), &stop_spec(0)));
        for left in working_under(&self.app.root) {
            proc::signal(left.id, Signal::KILL);
        }
    }
}

#[test]
fn an_app_runs_in_its_release_with_exactly_its_environment() {
    let app = App::new();
    let running = Running::new(&app);
    let launch = app.launch("a", shell("env | sort; umask; exec sleep 100"));
    running.start(&launch).unwrap();
    let main = running.main();
    eventually("sh has become sleep", || proc::stat(main.pid).unwrap().command == "sleep");
    let mut own: Vec<_> = proc::environment(main.pid);
    own.sort();
    let wanted: Vec<_> =
        launch.env.iter().map(|(k, v)| (k.clone().into_bytes(), v.clone().into_bytes())).collect();
    // sh adds PWD for its children, which it became by exec.
    own.retain(|(key, _)| key != b"PWD" && key != b"SHLVL" && key != b"OLDPWD" && key != b"_");
    assert_eq!(own, wanted);
    assert_eq!(proc::cwd(main.pid).unwrap().path, app.release("a"));
    eventually("the output is in the log", || {
        app.log().contains("RELEASE=a\n") && app.log().contains("0022\n")
    });
    let facts = running.facts();
    assert_eq!(facts.start_id.as_deref(), Some(launch.start_id.as_str()));
    assert_eq!(facts.release_dir, Some(app.release("a")));
    assert_eq!((facts.restarts, facts.last_exit, facts.gave_up), (0, None, false));
    let open: Vec<_> = std::fs::read_dir(format!("/proc/{}/fd", main.pid)).unwrap().collect();
    assert_eq!(open.len(), 3, "only the three standard descriptors");
}

#[test]
fn the_shim_is_nobodys_child_and_keeps_no_secret_on_disk_or_in_its_arguments() {
    let app = App::new();
    let running = Running::new(&app);
    let mut launch = app.launch("a", shell("exec sleep 100"));
    launch.env.insert("SECRET".into(), "canary-3141".into());
    running.start(&launch).unwrap();
    let shim = running.shim();
    assert_ne!(proc::stat(shim.pid).unwrap().parent, std::process::id());
    for file in ["cmdline", "environ"] {
        let bytes = std::fs::read(format!("/proc/{}/{file}", shim.pid)).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains("canary"), "{file}");
    }
    for entry in std::fs::read_dir(app.root.join("run/processes/main")).unwrap() {
        let path = entry.unwrap().path();
        assert!(!std::fs::read_to_string(&path).unwrap().contains("canary"), "{}", path.display());
    }
}

#[test]
fn a_second_start_of_one_start_id_is_none() {
    let app = App::new();
    let running = Running::new(&app);
    let launch = app.launch("a", shell("exec sleep 100"));
    running.start(&launch).unwrap();
    let first = running.main();
    running.start(&launch).unwrap();
    assert_eq!(running.main(), first);
}

#[test]
fn a_start_replaces_what_ran() {
    let app = App::new();
    let running = Running::new(&app);
    running.start(&app.launch("a", shell("exec sleep 100"))).unwrap();
    let (old, shim) = (running.main(), running.shim());
    running.start(&app.launch("b", shell("exec sleep 100"))).unwrap();
    assert!(!proc::is_alive(old) && !proc::is_alive(shim));
    assert_eq!(proc::cwd(running.main().pid).unwrap().path, app.release("b"));
}

#[test]
fn a_program_that_is_not_there_is_refused_with_its_name() {
    let app = App::new();
    let running = Running::new(&app);
    let command = landfall::spec::Command::Run(vec!["./no-such-server".into()]);
    let error = running.start(&app.launch("a", command)).unwrap_err();
    assert!(matches!(error, StartError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("./no-such-server"), "{error}");
    assert_eq!(running.facts().processes, []);
    assert!(!app.root.join("run/processes/main/launch.json").exists());
}

#[test]
fn b52_grandchildren_that_left_their_session_and_ignore_everything_are_killed_with_the_app() {
    let app = App::new();
    let running = Running::new(&app);
    let line =
        "(setsid sh -c 'trap \"\" TERM INT HUP; sleep 1000 & sleep 1000' &) ; trap '' TERM; sleep 1000";
    running.start(&app.launch("a", shell(line))).unwrap();
    eventually("all of them run", || working_under(&app.root).len() >= 5);
    let began = std::time::Instant::now();
    running.stop(300);
    assert_eq!(working_under(&app.root), []);
    assert!(began.elapsed() < std::time::Duration::from_secs(60), "{:?}", began.elapsed());
    assert_eq!(running.facts().processes, []);
}

#[test]
fn a_polite_app_is_given_its_grace_and_its_last_words_are_kept() {
    let app = App::new();
    let running = Running::new(&app);
    let line = "trap 'sleep 0.3; echo bye; exit 7' TERM; echo up; while :; do sleep 0.05; done";
    running.start(&app.launch("a", shell(line))).unwrap();
    eventually("it is up", || app.log().contains("up\n"));
    running.stop(10_000);
    assert!(app.log().ends_with("bye\n"), "{}", app.log());
    assert_eq!(running.facts().last_exit, Some(Exit::Code(7)));
}

#[test]
fn an_app_that_dies_is_started_again_and_its_end_is_recorded() {
    let app = App::new();
    let running = Running::new(&app);
    let line = "if [ -e died ]; then exec sleep 100; fi; : > died; exit 3";
    running.start(&app.launch("a", shell(line))).unwrap();
    eventually("it runs again", || {
        let facts = running.facts();
        facts.restarts == 1 && facts.processes.len() == 1
    });
    let facts = running.facts();
    assert_eq!(facts.last_exit, Some(Exit::Code(3)));
    assert!(!facts.gave_up);
}

#[test]
fn b42_a_crash_loop_ends_with_the_shim_giving_up_and_saying_so() {
    let app = App::new();
    let running = Running::new(&app);
    let mut launch = app.launch("a", shell("kill -ABRT $$"));
    launch.spec.restart_delay = Some(landfall::spec::Millis(1));
    running.start(&launch).unwrap();
    eventually("it gave up", || running.facts().gave_up);
    let facts = running.facts();
    assert_eq!((facts.restarts, facts.last_exit), (5, Some(Exit::Signal(6))));
    assert!(app.log().contains("gave up"), "{}", app.log());
    eventually("the shim ended", || !proc::is_alive(running.shim()));
}

#[test]
fn what_a_killed_shim_leaves_is_still_known_and_can_be_stopped() {
    let app = App::new();
    let running = Running::new(&app);
    let line = "(setsid sleep 1000 &) ; sleep 1000";
    running.start(&app.launch("a", shell(line))).unwrap();
    eventually("all run", || working_under(&app.root).len() >= 3);
    let main = running.main();
    proc::signal(running.shim(), Signal::KILL);
    eventually("the shim is dead", || !proc::is_alive(running.shim()));
    assert_eq!(running.facts().processes, [main]);
    running.stop(500);
    assert_eq!(working_under(&app.root), []);
    assert_eq!(running.facts().processes, []);
}

#[test]
fn instances_are_supervised_one_by_one() {
    let app = App::new();
    let running = Running::new(&app);
    let mut launch = app.launch("a", shell("exec sleep 100"));
    launch.spec.instances = 3;
    running.start(&launch).unwrap();
    let before = running.facts().processes;
    assert_eq!(before.len(), 3);
    proc::signal(before[1], Signal::KILL);
    eventually("three again", || running.facts().restarts == 1 && running.facts().processes.len() == 3);
    let after = running.facts().processes;
    assert_eq!((after[0], after[2]), (before[0], before[2]));
    assert_ne!(after[1], before[1]);
    running.stop(1_000);
    assert_eq!(working_under(&app.root), []);
}

#[test]
fn a_slot_that_never_ran_is_empty_and_stops_at_once() {
    let app = App::new();
    let running = Running::new(&app);
    assert_eq!(running.facts(), landfall::start::SlotFacts::default());
    running.stop(1_000);
}

#[test]
fn a_stop_command_of_the_recipe_ends_the_app() {
    let app = App::new();
    let running = Running::new(&app);
    let mut launch = app.launch("a", shell("while [ ! -e stop-now ]; do sleep 0.02; done; exit 9"));
    let mut stop = stop_spec(10_000);
    stop.command = Some(shell(": > stop-now"));
    launch.spec.stop = stop.clone();
    running.start(&launch).unwrap();
    block_on(running.manager.stop(&app.slot(), &stop)).unwrap();
    assert_eq!(running.facts().last_exit, Some(Exit::Code(9)));
}

fn stopped_by(line: &str, grace_ms: u64) -> landfall::spec::StopSpec {
    landfall::spec::StopSpec { command: Some(shell(line)), ..stop_spec(grace_ms) }
}

#[test]
fn what_a_stop_command_says_is_in_the_log_and_one_that_fails_leaves_it_to_the_signal() {
    let app = App::new();
    let running = Running::new(&app);
    let stop = stopped_by("echo cannot find the pid file; exit 3", 60_000);
    let mut launch = app.launch("a", shell("trap 'exit 5' TERM; while :; do sleep 0.02; done"));
    launch.spec.stop = stop.clone();
    running.start(&launch).unwrap();
    block_on(running.manager.stop(&app.slot(), &stop)).unwrap();
    assert_eq!(running.facts().last_exit, Some(Exit::Code(5)));
    let log = app.log();
    assert!(log.contains("cannot find the pid file\n"), "{log}");
    assert!(log.contains("landfall: the stop command ended with status 3\n"), "{log}");
}

#[test]
fn a_stop_command_that_hangs_or_does_nothing_is_ended_with_the_app_at_the_deadline() {
    for line in ["sleep 1000", "(setsid sleep 1000 &); exit 0"] {
        let app = App::new();
        let running = Running::new(&app);
        let stop = stopped_by(line, 500);
        let mut launch = app.launch("a", shell("trap '' TERM; while :; do sleep 0.02; done"));
        launch.spec.stop = stop.clone();
        running.start(&launch).unwrap();
        block_on(running.manager.stop(&app.slot(), &stop)).unwrap();
        assert_eq!(working_under(&app.root), [], "{line}");
        assert_eq!(running.facts().last_exit, Some(Exit::Signal(9)), "{line}");
    }
}

#[test]
fn an_app_runs_as_its_account_without_any_other_group() {
    if !rustix::process::getuid().is_root() {
        return;
    }
    let app = App::new();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&app.root, open).unwrap();
    let running = Running::new(&app);
    let mut launch = app.launch("a", shell("id -u; id -g; id -G; exec sleep 100"));
    launch.slot.account = Some(landfall::start::Account {
        name: "nobody".into(),
        uid: 65_534,
        gid: 65_534,
        home: "/nonexistent".into(),
    });
    running.start(&launch).unwrap();
    eventually("it says who it is", || app.log() == "65534\n65534\n65534\n");
}
