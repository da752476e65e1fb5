//! systemd as the manager of an app, on a machine that a real systemd runs: each test runs there, as root.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails, its helpers included")]

mod procs;
mod support;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command as Program;

use landfall::proc;
use landfall::spec::{Command, Millis};
use landfall::start::systemd::Systemd;
use landfall::start::{Exit, Launch, Manager, ProcessId, SlotFacts, StartError};
use procs::{App, block_on, eventually, shell, stop_spec, working_under};
use rustix::process::Signal;
use support::container::inside;

const UNIT: &str = "landfall-web..prod..main";
const SERVICE: &str = "/etc/systemd/system/landfall-web..prod..main.service";
const SECRET: &str = "do-not-show-me";

fn start(launch: &Launch) -> Result<(), StartError> {
    block_on(Systemd.start(launch))
}

fn facts(app: &App) -> SlotFacts {
    block_on(Systemd.inspect(&app.slot())).unwrap()
}

fn main_of(app: &App) -> ProcessId {
    facts(app).processes[0]
}

fn stop(app: &App) {
    block_on(Systemd.stop(&app.slot(), &stop_spec(2_000))).unwrap();
}

fn systemctl(arguments: &[&str]) -> String {
    let output = Program::new("systemctl").args(arguments).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn property(name: &str) -> String {
    systemctl(&["show", "--value", "--property", name, UNIT]).trim().to_owned()
}

fn run(words: &[&str]) -> Command {
    Command::Run(words.iter().map(|word| (*word).to_owned()).collect())
}

/// The environment a process really has.
fn environment(id: ProcessId) -> BTreeMap<String, String> {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    proc::environment(id.pid).into_iter().map(|(key, value)| (text(key), text(value))).collect()
}

#[test]
fn an_app_runs_in_its_release_with_exactly_its_environment_arguments_and_account() {
    inside(|| {
        let app = App::new();
        let odd = [
            ("TWO", " two words\t"),
            ("QUOTES", "it's \"quoted\" `x` $HOME ${HOME} \\n \\"),
            ("LINES", "one\ntwo\r\n\x1b[0m"),
            ("SIGNS", "#a; 100% %h ünï€"),
            ("EMPTY", ""),
        ];
        let mut launch = app.launch("a", run(&["sleep", "1000"]));
        launch.env.extend(odd.map(|(key, value)| (key.to_owned(), value.to_owned())));
        launch.slot.account = Some(landfall::start::Account {
            name: "nobody".to_owned(),
            uid: 65534,
            gid: 65534,
            home: "/nonexistent".into(),
        });
        // What an administrator set for every service is not the app's.
        systemctl(&["set-environment", "EVERYBODYS=1"]);
        start(&launch).unwrap();
        let main = main_of(&app);
        assert_eq!(environment(main), launch.env);
        assert_eq!(proc::cwd(main.pid).unwrap().path, launch.release_dir);
        assert_eq!(proc::user(main.pid), Some(65534));
        assert_eq!(facts(&app).running(&launch.release_dir, 1), landfall::plan::Running::Yes);

        let mut launch = app.launch(
            "a",
            run(&[
                "node",
                "-e",
                "console.log(JSON.stringify(process.argv.slice(1))); \
            setInterval(() => {}, 1000)",
                "a b",
                "${QUOTES}",
                "x${TWO}",
                "$${TWO}",
                "%h $x",
                ";",
                "",
            ]),
        );
        launch.env.extend(odd.map(|(key, value)| (key.to_owned(), value.to_owned())));
        start(&launch).unwrap();
        let wanted = ["a b", odd[1].1, "x two words\t", "${TWO}", "%h $x", ";", ""];
        eventually("it says its arguments", || app.log().contains("a b"));
        let said: Vec<String> = serde_json::from_str(app.log().lines().next_back().unwrap()).unwrap();
        assert_eq!(said, wanted);
        block_on(Systemd.forget(&app.slot(), &stop_spec(2_000))).unwrap();
    });
}

#[test]
fn no_secret_stands_where_everybody_may_read() {
    inside(|| {
        let app = App::new();
        let mut launch = app.launch("a", shell("echo $TOKEN > /dev/null; exec sleep 1000"));
        launch.env.insert("TOKEN".to_owned(), SECRET.to_owned());
        start(&launch).unwrap();
        let as_nobody = |program: &str| {
            let output = Program::new("setpriv")
                .args(["--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", program])
                .output()
                .unwrap();
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let seen = systemctl(&["show", "--all", UNIT])
            + &as_nobody(&format!(
                "cat {SERVICE}; systemctl show --all {UNIT}; systemctl cat {UNIT}; cat /proc/[0-9]*/cmdline; \
             cat {0}/run/systemd/main/*; cat /proc/{1}/environ",
                app.root.display(),
                main_of(&app).pid
            ));
        assert!(seen.contains("WorkingDirectory="), "{seen}");
        assert!(!seen.contains(SECRET), "{seen}");
        let env = app.root.join("run/systemd/main").join(format!("{}.env", launch.start_id));
        assert_eq!(std::fs::metadata(&env).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(
            std::fs::read_to_string(env).unwrap().contains(SECRET),
            "the secret is nowhere: proves nothing"
        );
    });
}

#[test]
fn a_switch_to_another_release_and_back_leaves_nothing_of_the_other() {
    inside(|| {
        let app = App::new();
        let mut before: Option<ProcessId> = None;
        for release in ["a", "b", "a"] {
            let mut launch = app.launch(release, shell("(setsid sleep 1000 &) ; exec sleep 1000"));
            launch.env.insert(format!("ONLY_{release}"), "1".to_owned());
            start(&launch).unwrap();
            let main = main_of(&app);
            assert!(before.is_none_or(|before| !proc::is_alive(before)));
            let mut environment = environment(main);
            environment.remove("PWD").expect("the shell's own");
            assert_eq!(environment, launch.env);
            assert_eq!(proc::cwd(main.pid).unwrap().path, launch.release_dir);
            eventually("its daemon is there as well", || working_under(&launch.release_dir).len() == 2);
            assert_eq!(working_under(&app.root).len(), 2, "something of another release runs");
            let envs = std::fs::read_dir(app.root.join("run/systemd/main")).unwrap().count();
            assert_eq!(envs, 1, "the environment of an earlier start is still there");
            before = Some(main);
        }
    });
}

#[test]
fn a_process_that_dies_is_started_again_within_landfalls_own_budget() {
    inside(|| {
        let app = App::new();
        let mut launch = app.launch("a", shell("echo up; exec sleep 1000"));
        launch.spec.restart_delay = Some(Millis(200));
        start(&launch).unwrap();
        for death in 1..=5_u32 {
            let ups = "up\n".repeat(usize::try_from(death).unwrap());
            eventually("it is up", || app.log() == ups);
            let victim = main_of(&app);
            proc::signal(victim, Signal::KILL);
            eventually("how it ended is seen", || {
                let facts = facts(&app);
                facts.last_exit == Some(Exit::Signal(9)) || facts.restarts == death
            });
            eventually("it runs again", || facts(&app).processes.first().is_some_and(|id| *id != victim));
            assert_eq!((facts(&app).restarts, facts(&app).gave_up), (death, false));
        }
        eventually("it is up", || app.log() == "up\n".repeat(6));
        proc::signal(main_of(&app), Signal::KILL);
        eventually("systemd gives up", || facts(&app).gave_up);
        assert_eq!(facts(&app).processes, []);
        assert_eq!(facts(&app).last_exit, Some(Exit::Signal(9)));
        assert_eq!(app.log(), "up\n".repeat(6));
        // A start on purpose forgives.
        start(&app.launch("b", shell("exec sleep 1000"))).unwrap();
        let facts = facts(&app);
        assert_eq!((facts.restarts, facts.gave_up, facts.processes.len()), (0, false, 1));
    });
}

#[test]
fn starts_on_purpose_are_never_one_too_many() {
    inside(|| {
        let app = App::new();
        for _ in 0..9 {
            start(&app.launch("a", run(&["sleep", "1000"]))).unwrap();
            assert_eq!((facts(&app).processes.len(), facts(&app).restarts), (1, 0));
        }
        // A run of failures neither.
        for _ in 0..9 {
            start(&app.launch("b", run(&["./missing"]))).unwrap_err();
        }
        start(&app.launch("a", run(&["sleep", "1000"]))).unwrap();
        stop(&app);
    });
}

#[test]
fn what_does_not_listen_to_its_signal_is_killed_after_the_grace_with_all_it_started() {
    inside(|| {
        let app = App::new();
        let deaf = "trap '' TERM; (trap '' TERM; setsid sh -c 'while :; do sleep 1; done' &); while :; do sleep 1; done";
        let mut launch = app.launch("a", shell(deaf));
        launch.spec.stop.grace = Millis(500);
        start(&launch).unwrap();
        let begin = std::time::Instant::now();
        stop(&app);
        assert!(begin.elapsed() >= std::time::Duration::from_millis(500), "the grace was not given");
        assert_eq!(working_under(&app.root), []);
        assert_eq!(facts(&app).processes, []);
        stop(&app);

        // The signal of the recipe, and its stop command.
        let mut launch =
            app.launch("a", shell("trap 'echo asked; exit 7' USR1; echo up; while :; do sleep 0.1; done"));
        launch.spec.stop.signal = "SIGUSR1".to_owned();
        start(&launch).unwrap();
        eventually("it is up", || app.log().ends_with("up\n"));
        stop(&app);
        assert!(app.log().ends_with("asked\n"), "{}", app.log());
        assert!(
            !facts(&app).gave_up,
            "an app that ends with a status when it is asked to has not been given up"
        );
        let mut launch = app.launch("a", shell("exec sleep 1000"));
        launch.spec.stop.command = Some(shell("echo by command; pwd"));
        start(&launch).unwrap();
        stop(&app);
        assert!(
            app.log().contains(&format!("by command\n{}", launch.release_dir.display())),
            "{}",
            app.log()
        );
    });
}

#[test]
fn several_instances_are_several_units_and_a_slot_that_is_forgotten_leaves_none() {
    inside(|| {
        let app = App::new();
        let three = || {
            let mut launch = app.launch("a", shell("exec sleep 1000"));
            launch.spec.instances = 3;
            launch
        };
        start(&three()).unwrap();
        block_on(Systemd.persist(&app.slot())).unwrap();
        assert_eq!(facts(&app).processes.len(), 3);
        let listed = |what: &str| systemctl(&[what, "--all", "--plain", "--no-legend", "landfall-web*"]);
        assert_eq!(listed("list-units").lines().count(), 3);
        // Fewer, then one of them: the others are gone, also from what a boot starts.
        start(&app.launch("b", shell("exec sleep 1000"))).unwrap();
        assert_eq!(listed("list-units").lines().count(), 1, "{}", listed("list-units"));
        assert!(!PathBuf::from(SERVICE.replace(".service", "@.service")).exists());
        assert!(
            !PathBuf::from(SERVICE)
                .with_file_name("multi-user.target.wants")
                .join(format!("{UNIT}@1.service"))
                .exists()
        );
        block_on(Systemd.persist(&app.slot())).unwrap();
        assert_eq!(property("UnitFileState"), "enabled");
        block_on(Systemd.forget(&app.slot(), &stop_spec(2_000))).unwrap();
        assert_eq!(listed("list-unit-files"), "");
        assert_eq!(listed("list-units"), "");
        assert_eq!(working_under(&app.root), []);
        assert_eq!(facts(&app), SlotFacts::default());
        assert_eq!(std::fs::read_dir(app.root.join("run/systemd/main")).unwrap().count(), 0);
        block_on(Systemd.forget(&app.slot(), &stop_spec(2_000))).unwrap();
    });
}

#[test]
fn an_app_that_says_when_it_is_ready_is_waited_for_and_one_that_never_does_is_refused() {
    inside(|| {
        let app = App::new();
        let ready = |line: &str, wait: u64| {
            let mut launch = app.launch("a", shell(line));
            launch.spec.ready = true;
            launch.spec.listen_timeout = Some(Millis(wait));
            launch
        };
        let begin = std::time::Instant::now();
        start(&ready("sleep 0.7; systemd-notify --ready; echo said; exec sleep 1000", 60_000)).unwrap();
        let waited = begin.elapsed();
        eventually("it has said so", || app.log() == "said\n");
        assert!(waited >= std::time::Duration::from_millis(700), "it was not waited for");
        assert_eq!(property("Type"), "notify");
        let never = start(&ready("exec sleep 1000", 1_500)).unwrap_err();
        assert!(never.to_string().contains("did not say within 1.5s that it is ready"), "{never}");
        // One that dies is for the verdict to tell, with its status and its log.
        start(&ready("echo broken; exit 3", 60_000)).unwrap();
        eventually("its status is seen", || {
            let facts = facts(&app);
            facts.last_exit == Some(Exit::Code(3)) || facts.restarts > 0
        });
        stop(&app);
    });
}

#[test]
fn what_systemd_cannot_do_is_refused_and_said() {
    inside(|| {
        let app = App::new();
        let why = |launch: &Launch| start(launch).unwrap_err().to_string();
        assert!(
            why(&app.launch("a", run(&["no-such-program"])))
                .contains("there is no `no-such-program` on PATH")
        );
        assert!(why(&app.launch("a", run(&["./no-such"]))).contains("could not be executed (status 203)"));
        assert!(why(&app.launch("a", run(&["sleep", "${NOPE}"]))).contains("NOPE"));
        let mut launch = app.launch("a", shell("exec sleep 1000"));
        launch.env.insert("a.b".to_owned(), "1".to_owned());
        assert!(why(&launch).contains("`a.b`"), "{}", why(&launch));
        // A unit that somebody edited is told of, and written anew.
        start(&app.launch("a", shell("exec sleep 1000"))).unwrap();
        let edited = std::fs::read_to_string(SERVICE).unwrap().replace("UMask=0022", "UMask=0077");
        std::fs::write(SERVICE, edited).unwrap();
        start(&app.launch("a", shell("exec sleep 1000"))).unwrap();
        assert!(std::fs::read_to_string(SERVICE).unwrap().contains("UMask=0022"));
        // A drop-in is a person's own, and stays in force.
        let drop_in = format!("{SERVICE}.d");
        std::fs::create_dir(&drop_in).unwrap();
        std::fs::write(format!("{drop_in}/own.conf"), "[Service]\nUMask=0077\n").unwrap();
        start(&app.launch("a", shell("umask; exec sleep 1000"))).unwrap();
        assert!(app.log().ends_with("0077\n"), "{}", app.log());
    });
}

#[test]
fn the_generated_units_satisfy_systemd_itself() {
    inside(|| {
        let app = App::new();
        let mut launch = app.launch("a", shell("exec sleep 1000"));
        launch.spec.ready = true;
        launch.spec.memory_max = Some(64 << 20);
        launch.spec.socket = Some("127.0.0.1:29999".to_owned());
        launch.spec.stop.command = Some(run(&["true"]));
        launch.spec.command = shell("systemd-notify --ready; exec sleep 1000");
        start(&launch).unwrap();
        for unit in [SERVICE.to_owned(), SERVICE.replace(".service", ".socket")] {
            let said = Program::new("systemd-analyze").args(["verify", &unit]).output().unwrap();
            let text = String::from_utf8_lossy(&said.stderr).into_owned();
            assert!(said.status.success() && text.is_empty(), "{unit}: {text}");
        }
        assert_eq!(property("NoNewPrivileges"), "yes");
        block_on(Systemd.forget(&app.slot(), &stop_spec(2_000))).unwrap();
        assert!(!PathBuf::from(SERVICE.replace(".service", ".socket")).exists());
    });
}
