//! A machine with a real systemd: systemd-nspawn on an overlay of this machine's own root, booted in a second.
//!
//! The overlay is mounted in a mount namespace of the container's own and the container dies with the thread that
//! started it, so that nothing is left behind however a test ends. Its network is this machine's.

use std::fs::File;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tempfile::TempDir;

use super::host::Said;
use super::wait;

/// Time to boot, or to power off: a second when nothing else runs.
const BOOT_LIMIT: Duration = Duration::from_secs(120);

/// One machine at a time: a boot takes all a small machine has.
static ONE: Mutex<()> = Mutex::new(());

/// Names the test that runs on a machine of its own instead of here.
const INSIDE: &str = "LANDFALL_TEST_INSIDE";

/// Runs the body of a test on a machine with a real systemd, as root and as an ordinary program there: this very test,
/// once more.
#[track_caller]
pub fn inside<F: FnOnce()>(body: F) {
    // A closure is called after the function it stands in.
    let closure = std::any::type_name::<F>();
    let test = closure.trim_end_matches("::{{closure}}").rsplit("::").next().unwrap_or(closure);
    if is_inside(test) {
        return body();
    }
    let machine = Container::boot();
    let said = machine.run_tests(test, &["--exact", test, "--nocapture"]);
    assert!(said.out.contains("1 passed"), "{}", said.out);
}

/// Whether this is a program that [`Container::run_tests`] runs under this name.
pub fn is_inside(test: &str) -> bool {
    std::env::var(INSIDE).as_deref() == Ok(test)
}

/// A machine, running or powered off.
pub struct Container {
    dir: TempDir,
    boots: u32,
    running: Option<Running>,
    _turn: MutexGuard<'static, ()>,
}

struct Running {
    nspawn: Child,
    /// Its pid 1, as this machine counts.
    init: u32,
}

impl Container {
    /// A machine with an empty `/srv`, an empty `/etc/landfall`, and landfall in `/usr/local/bin`, booted.
    pub fn boot() -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "this test boots a container with systemd: run it as root, in a place that allows mounts"
        );
        let dir = tempfile::Builder::new().prefix("landfall-machine-").tempdir().expect("a directory");
        let turn = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let mut machine = Self { dir, boots: 0, running: None, _turn: turn };
        for name in ["disk/etc/systemd/system", "disk/usr/local/bin", "disk/srv", "work", "root"] {
            std::fs::create_dir_all(machine.dir.path().join(name)).expect("a directory");
        }
        machine.quieten();
        machine.write("etc/machine-id", "");
        machine.write("etc/hostname", "web-1\n");
        let program = machine.disk().join("usr/local/bin/landfall");
        std::fs::copy(env!("CARGO_BIN_EXE_landfall"), program).expect("the landfall program");
        machine.power_on();
        machine
    }

    /// What the machine adds to this one's own files. Written here only while it is off.
    fn disk(&self) -> PathBuf {
        self.dir.path().join("disk")
    }

    /// The machine boots what systemd itself needs, and nothing that happens to be installed here.
    fn quieten(&self) {
        let units = Path::new("/etc/systemd/system");
        let here = self.disk().join("etc/systemd/system");
        let target = here.join("default.target");
        symlink("/lib/systemd/system/multi-user.target", target).expect("the default target");
        let wanted = std::fs::read_dir(units).into_iter().flatten().flatten();
        for unit in wanted.filter(|dir| dir.file_name().to_string_lossy().ends_with(".wants")) {
            for unit in std::fs::read_dir(unit.path()).expect("wanted units").flatten() {
                // One unit may be wanted by several.
                symlink("/dev/null", here.join(unit.file_name())).ok();
            }
        }
    }

    /// Boots, and waits until systemd has started everything.
    pub fn power_on(&mut self) {
        self.boots += 1;
        let dir = self.dir.path();
        let console = File::create(dir.join("console.log")).expect("a log");
        // The mount and the container end with the thread that started them: both are in namespaces of their own.
        let script = format!(
            "mount -t overlay landfall -o lowerdir=/,upperdir={0}/disk,workdir={0}/work {0}/root && \
             exec systemd-nspawn --quiet --register=no --keep-unit --directory={0}/root \
             --machine=landfall-{1}-{2} --boot",
            dir.display(),
            std::process::id(),
            self.boots
        );
        let mut nspawn = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private"])
            .args(["--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", &script])
            .stdin(Stdio::null())
            .stdout(console.try_clone().expect("a log"))
            .stderr(console)
            .spawn()
            .expect("setpriv and unshare of util-linux are needed for this test");
        let init = wait::wait_for("the container has an init", BOOT_LIMIT, || {
            let ended = nspawn.try_wait().expect("wait");
            assert!(ended.is_none(), "systemd-nspawn (package systemd-container) ended: {}", self.console());
            init_below(nspawn.id())
        });
        self.running = Some(Running { nspawn, init });
        let mut said = String::new();
        wait::wait_until("systemd has booted", BOOT_LIMIT, || {
            said = self.run(&["systemctl", "is-system-running"]).out;
            ["running\n", "degraded\n"].contains(&said.as_str())
        });
    }

    /// What the machine showed while it booted.
    fn console(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("console.log")).unwrap_or_default()
    }

    /// Shuts down in order, as `poweroff` does.
    pub fn power_off(&mut self) {
        self.run(&["systemctl", "--no-block", "poweroff"]).expect_code(0);
        let mut running = self.running.take().expect("a running machine");
        wait::wait_for("the container is off", BOOT_LIMIT, || running.nspawn.try_wait().expect("wait"));
    }

    fn init(&self) -> u32 {
        self.running.as_ref().expect("a running machine").init
    }

    /// A file of the machine, as seen from here.
    pub fn path(&self, inside: &str) -> PathBuf {
        let inside = inside.trim_start_matches('/');
        match &self.running {
            Some(running) => PathBuf::from(format!("/proc/{}/root", running.init)).join(inside),
            None => self.disk().join(inside),
        }
    }

    /// Writes a file of the machine, and the directories it needs.
    pub fn write(&self, inside: &str, text: &str) {
        let path = self.path(inside);
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        std::fs::write(path, text).expect("a file of the machine");
    }

    /// Reads a file of the machine.
    pub fn read(&self, inside: &str) -> String {
        std::fs::read_to_string(self.path(inside)).unwrap_or_else(|error| panic!("{inside}: {error}"))
    }

    /// A program on the machine, with a plain environment.
    pub fn program(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={}", self.init()));
        command.args(["--mount", "--uts", "--ipc", "--pid", "--cgroup", "--root", "--wd", "--"]);
        command.args(arguments).stdin(Stdio::null()).env_clear();
        command
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/root");
        command
    }

    /// Runs a program on the machine to its end.
    pub fn run(&self, arguments: &[&str]) -> Said {
        Said::of(self.program(arguments).output().expect("nsenter of util-linux is needed for this test"))
    }

    /// Runs a program that must succeed, and gives what it printed.
    #[track_caller]
    pub fn ok(&self, arguments: &[&str]) -> String {
        let said = self.run(arguments);
        assert_eq!(said.code, Some(0), "{arguments:?}\nstdout: {}\nstderr: {}", said.out, said.err);
        said.out
    }

    /// Runs tests of this very program on the machine; all of them must pass.
    #[track_caller]
    pub fn run_tests(&self, name: &str, arguments: &[&str]) -> Said {
        let here = std::env::current_exe().expect("this program");
        std::fs::copy(here, self.path("usr/local/bin/tests")).expect("a copy of this program");
        // PrivateTmp hides what lies in /tmp: the files of apps are elsewhere, as on any host.
        let mut command = self.program(&["/usr/local/bin/tests", "--test-threads=1"]);
        command.args(arguments).env(INSIDE, name).env("TMPDIR", "/srv");
        let said = Said::of(command.output().expect("nsenter of util-linux is needed for this test"));
        assert_eq!(said.code, Some(0), "{}\n{}", said.out, said.err);
        said
    }

    /// A property of a unit, as systemd has it.
    pub fn property(&self, unit: &str, name: &str) -> String {
        self.ok(&["systemctl", "show", "--value", "--property", name, unit]).trim().to_owned()
    }
}

impl Drop for Container {
    #[expect(clippy::print_stderr, reason = "the harness shows it with the failure")]
    fn drop(&mut self) {
        if std::thread::panicking() && self.running.is_some() {
            eprintln!(
                "--- journal\n{}",
                self.run(&["journalctl", "--no-pager", "-t", "landfall", "-t", "systemd", "-n", "60"]).out
            );
        }
        if let Some(mut running) = self.running.take() {
            super::process::kill(running.init);
            wait::wait_for("the container is gone", BOOT_LIMIT, || running.nspawn.try_wait().expect("wait"));
        }
    }
}

/// The init of the container that a process started, once it is there: the first process below it that is pid 1
/// of its own namespace, and systemd.
fn init_below(pid: u32) -> Option<u32> {
    let mut below = children(pid);
    while let Some(child) = below.pop() {
        let status = std::fs::read_to_string(format!("/proc/{child}/status")).unwrap_or_default();
        let levels = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
        let is_first = levels.split_whitespace().next_back() == Some("1");
        let name = status.lines().find_map(|line| line.strip_prefix("Name:")).unwrap_or_default();
        if is_first && name.trim() == "systemd" {
            return Some(child);
        }
        below.extend(children(child));
    }
    None
}

fn children(pid: u32) -> Vec<u32> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}
