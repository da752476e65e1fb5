//! Steps on real processes.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails, its helpers included")]

mod procs;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use landfall::spec::{Command, Millis, StepKind};
use landfall::start::Exit;
use landfall::step::limits::OUTPUT_BYTES_MAX;
use landfall::step::{Run, Runner, StepEnd, StepReport, run};
use procs::{block_on, eventually, landfall, shell, working_under};

struct Bench {
    _dir: tempfile::TempDir,
    dir: PathBuf,
    log: PathBuf,
    env: BTreeMap<String, String>,
}

impl Bench {
    fn new() -> Self {
        let parent = tempfile::Builder::new().prefix("landfall-step").tempdir().unwrap();
        let root = parent.path().canonicalize().unwrap();
        let dir = root.join("release");
        std::fs::create_dir(&dir).unwrap();
        let env = BTreeMap::from([("PATH".to_owned(), std::env::var("PATH").unwrap())]);
        Self { _dir: parent, log: root.join("step.log"), dir, env }
    }

    fn run(&self, line: &str, timeout_ms: u64) -> StepReport {
        self.command(&shell(line), timeout_ms)
    }

    fn command(&self, command: &Command, timeout_ms: u64) -> StepReport {
        let runner = Runner::with_executable(landfall());
        block_on(run(&runner, &self.of(command, StepKind::Prepare, timeout_ms))).unwrap()
    }

    fn of<'a>(&'a self, command: &'a Command, kind: StepKind, timeout_ms: u64) -> Run<'a> {
        Run {
            command,
            kind,
            timeout: Millis(timeout_ms),
            dir: self.dir.clone(),
            env: &self.env,
            account: None,
            log: self.log.clone(),
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

const LONG: u64 = 60_000;

#[test]
fn a_step_runs_in_the_release_with_exactly_its_environment() {
    let bench = Bench::new();
    let report = bench.run("pwd; env | sort | grep -v '^PWD=\\|^_=\\|^SHLVL='", LONG);
    assert_eq!(report.end, StepEnd::Ok);
    assert_eq!(report.tail, [bench.dir.display().to_string(), format!("PATH={}", bench.env["PATH"])]);
    assert_eq!(bench.log().lines().count(), 2);
}

#[test]
fn keys_in_an_argument_list_are_expanded_and_no_shell_sees_it() {
    let mut bench = Bench::new();
    bench.env.insert("WHO".into(), "a; exit 9".into());
    let command = Command::Run(["echo", "${WHO}", "$WHO"].map(Into::into).to_vec());
    assert_eq!(bench.command(&command, LONG).tail, ["a; exit 9 $WHO"]);
}

#[test]
fn statuses_tell_failed_from_transient() {
    let bench = Bench::new();
    let cases = [
        ("exit 0", StepEnd::Ok),
        ("exit 75", StepEnd::Transient),
        ("exit 1", StepEnd::Failed(Exit::Code(1))),
        ("kill -TERM $$", StepEnd::Failed(Exit::Signal(15))),
    ];
    for (line, end) in cases {
        assert_eq!(bench.run(line, LONG).end, end, "{line}");
    }
}

#[test]
fn a_missing_program_is_named() {
    let command = Command::Run(vec!["no-such-migrator".into()]);
    let report = Bench::new().command(&command, LONG);
    let StepEnd::NotStarted(why) = report.end else { panic!("{report:?}") };
    assert!(why.contains("no-such-migrator"), "{why}");
}

#[test]
fn a_step_that_hangs_is_ended_at_its_timeout_with_its_last_lines() {
    let bench = Bench::new();
    let began = Instant::now();
    let report = bench.run("echo working; sleep 1000", 300);
    assert_eq!((report.end, report.tail), (StepEnd::TimedOut, vec!["working".to_owned()]));
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    assert_eq!(working_under(&bench.dir), []);
}

#[test]
fn p17_whatever_a_step_leaves_behind_is_gone_when_it_returns() {
    let leavers = [
        "(sleep 1000 &)",
        "setsid sleep 1000 & exit 0",
        "(setsid sh -c '(trap \"\" TERM INT HUP; sleep 1000 & sleep 1000) &' &)",
        "exec >&- 2>&- <&-; (setsid sleep 1000 &); exit 0",
        "nohup sh -c 'while :; do sleep 0.01 & done' >/dev/null 2>&1 &",
    ];
    for line in leavers {
        let bench = Bench::new();
        let report = bench.run(&format!("{line}\nsleep 0.2"), LONG);
        assert_eq!(report.end, StepEnd::Ok, "{line}");
        assert!(report.left_behind > 0, "{line}");
        assert_eq!(working_under(&bench.dir), [], "{line}");
    }
}

#[test]
fn p17_a_step_that_ignores_sigterm_is_killed_after_the_grace() {
    let bench = Bench::new();
    let began = Instant::now();
    let report = bench.run("trap '' TERM; (trap '' TERM; sleep 1000) & sleep 1000", 200);
    assert_eq!(report.end, StepEnd::TimedOut);
    let limit = landfall::step::limits::STOP_GRACE.duration() + Duration::from_secs(60);
    assert!(began.elapsed() < limit, "{:?}", began.elapsed());
    assert_eq!(working_under(&bench.dir), []);
}

#[test]
fn p17_a_hundred_steps_leave_no_process_and_no_zombie() {
    let bench = Bench::new();
    for _ in 0..100 {
        assert_eq!(bench.run("(setsid sleep 1000 &); exit 0", LONG).end, StepEnd::Ok);
        assert_eq!(working_under(&bench.dir), []);
    }
    let own = |stat: &landfall::proc::Stat| stat.parent == std::process::id() && !stat.is_live();
    let zombies = || landfall::proc::all().into_iter().filter(own).count();
    eventually("nothing is left to be reaped", || zombies() == 0);
}

#[test]
fn p17_a_fork_bomb_under_a_limit_is_ended() {
    if !rustix::process::getuid().is_root() {
        return;
    }
    let bench = Bench::new();
    let account =
        landfall::start::Account { name: "bomb".into(), uid: 54_321, gid: 54_321, home: "/".into() };
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(bench.dir.parent().unwrap(), open).unwrap();
    // What the step waits in takes the place of its shell: a shell that cannot fork any more ends at once.
    let command = shell(
        "trap '' TERM; ulimit -p 120 || exit 9; sleep 1000 & bomb() { bomb | bomb & }; bomb; exec sleep 1000",
    );
    let runner = Runner::with_executable(landfall());
    let mut of = bench.of(&command, StepKind::Prepare, 500);
    of.account = Some(&account);
    let report = block_on(run(&runner, &of)).unwrap();
    assert_eq!(report.end, StepEnd::TimedOut, "{report:?}");
    assert!(report.left_behind > 0, "{report:?}");
    let alive = || landfall::proc::all().into_iter().filter(landfall::proc::Stat::is_live);
    assert_eq!(alive().filter(|stat| landfall::proc::user(stat.id.pid) == Some(54_321)).count(), 0);
}

#[test]
fn p17_a_gigabyte_of_output_is_cut_with_a_mark() {
    let bench = Bench::new();
    let report = bench.run("echo first; head -c 1073741824 /dev/zero; echo; echo last", LONG);
    assert_eq!(report.end, StepEnd::Ok);
    assert_eq!(report.output_bytes, 1_073_741_824 + 12);
    assert!(std::fs::metadata(&bench.log).unwrap().len() < OUTPUT_BYTES_MAX as u64 + 100);
    let log = bench.log();
    assert!(log.starts_with("first\n") && log.ends_with("\nlast\n"));
    assert!(log.contains("bytes left out here]"));
    assert_eq!(report.tail.last().unwrap(), "last");
}

#[test]
fn a_step_whose_agent_goes_away_is_ended() {
    let bench = Bench::new();
    let command = shell("sleep 1000");
    let runner = Runner::with_executable(landfall());
    block_on(async {
        let of = bench.of(&command, StepKind::Prepare, LONG);
        let _ = tokio::time::timeout(Duration::from_millis(200), run(&runner, &of)).await;
    });
    eventually("nothing is left", || working_under(&bench.dir).is_empty());
}

#[test]
fn a_runner_that_is_killed_is_said_to_be_lost_and_its_command_ends() {
    let bench = Bench::new();
    let command = shell("sleep 1000 & sleep 1000");
    let runner = Runner::with_executable(landfall());
    let of = bench.of(&command, StepKind::Prepare, LONG);
    let error = block_on(async {
        tokio::join!(run(&runner, &of), async {
            while working_under(&bench.dir).len() < 3 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let shell = working_under(&bench.dir)[0].id;
            let parent = landfall::proc::stat(shell.pid).unwrap().session;
            landfall::proc::signal(landfall::proc::identity(parent).unwrap(), rustix::process::Signal::KILL);
        })
        .0
        .unwrap_err()
    });
    assert!(matches!(error, landfall::step::StepError::Lost { .. }), "{error}");
    eventually("nothing is left", || working_under(&bench.dir).is_empty());
}

#[test]
fn a_migration_outlives_its_agent() {
    let bench = Bench::new();
    let command = shell("sleep 0.5; : > migrated");
    let runner = Runner::with_executable(landfall());
    block_on(async {
        let of = bench.of(&command, StepKind::Migrate, LONG);
        let _ = tokio::time::timeout(Duration::from_millis(200), run(&runner, &of)).await;
    });
    assert!(!bench.dir.join("migrated").exists());
    eventually("it is migrated", || bench.dir.join("migrated").exists());
}
