//! What every manager promises, asked of each.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails, its helpers included")]

mod procs;
#[path = "procs/pm2.rs"]
mod real;
mod support;

use landfall::proc;
use landfall::spec::{Command, Millis, StartSpec};
use landfall::start::direct::Direct;
use landfall::start::systemd::Systemd;
use landfall::start::{Launch, Manager, SlotFacts};
use procs::{App, block_on, eventually, landfall, stop_spec, working_under};
use real::Daemon;
use support::container::{Container, is_inside};

/// A manager, and an app for it.
struct Bench {
    app: App,
    manager: Box<dyn Manager>,
    _daemon: Option<Daemon>,
}

impl Bench {
    fn direct() -> Self {
        let manager = Direct::with_executable(landfall());
        Self { app: App::new(), manager: Box::new(manager), _daemon: None }
    }

    fn pm2() -> Self {
        let daemon = Daemon::new();
        Self { app: App::new(), manager: Box::new(daemon.manager()), _daemon: Some(daemon) }
    }

    fn systemd() -> Self {
        Self { app: App::new(), manager: Box::new(Systemd), _daemon: None }
    }

    fn launch(&self, release: &str) -> Launch {
        let script = "setInterval(() => {}, 1000); process.on('SIGTERM', () => process.exit(0));";
        std::fs::write(self.app.release(release).join("app.js"), script).unwrap();
        let mut launch = self.app.launch(release, Command::Run(["node", "app.js"].map(Into::into).to_vec()));
        launch.spec = StartSpec { listen_timeout: Some(Millis(500)), ..launch.spec };
        launch
    }

    fn start(&self, launch: &Launch) {
        let (link, new) = (self.app.root.join("current"), self.app.root.join("current.new"));
        std::os::unix::fs::symlink(&launch.release_dir, &new).unwrap();
        std::fs::rename(new, link).unwrap();
        block_on(self.manager.start(launch)).unwrap();
    }

    fn facts(&self) -> SlotFacts {
        block_on(self.manager.inspect(&self.app.slot())).unwrap()
    }

    fn stop(&self) {
        block_on(self.manager.stop(&self.app.slot(), &stop_spec(2_000))).unwrap();
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = block_on(self.manager.stop(&self.app.slot(), &stop_spec(0)));
    }
}

/// The machine on which every promise is asked of a real systemd.
const MACHINE: &str = "every promise";

fn all_keep(promise: fn(&Bench)) {
    if is_inside(MACHINE) {
        return promise(&Bench::systemd());
    }
    promise(&Bench::direct());
    promise(&Bench::pm2());
}

#[test]
fn a_slot_that_never_ran_has_no_facts_and_stops() {
    all_keep(|bench| {
        assert_eq!(bench.facts(), SlotFacts::default());
        bench.stop();
    });
}

#[test]
fn what_was_started_is_seen_with_its_start_and_its_release() {
    all_keep(|bench| {
        let mut launch = bench.launch("a");
        launch.spec.instances = 2;
        bench.start(&launch);
        let facts = bench.facts();
        assert_eq!(facts.start_id, Some(launch.start_id.clone()));
        assert_eq!(facts.release_dir, Some(launch.release_dir.clone()));
        assert_eq!((facts.processes.len(), facts.restarts, facts.gave_up), (2, 0, false));
        for id in facts.processes {
            assert!(proc::works_under(id, &launch.release_dir));
        }
    });
}

#[test]
fn one_start_twice_is_one_start_and_another_replaces_it() {
    all_keep(|bench| {
        let a = bench.launch("a");
        bench.start(&a);
        let first = bench.facts().processes;
        bench.start(&a);
        assert_eq!(bench.facts().processes, first);
        bench.start(&bench.launch("a"));
        let second = bench.facts().processes;
        assert_ne!(second, first);
        let b = bench.launch("b");
        bench.start(&b);
        assert!(first.iter().chain(&second).all(|id| !proc::is_alive(*id)));
        assert!(bench.facts().processes.iter().all(|id| proc::works_under(*id, &b.release_dir)));
    });
}

#[test]
fn a_stop_leaves_nothing_and_a_start_after_it_works() {
    all_keep(|bench| {
        bench.start(&bench.launch("a"));
        bench.stop();
        assert_eq!(bench.facts().processes, []);
        assert_eq!(working_under(&bench.app.root.join("releases")), []);
        bench.stop();
        bench.start(&bench.launch("b"));
        assert_eq!(bench.facts().processes.len(), 1);
    });
}

#[test]
fn a_death_is_seen_as_a_restart() {
    all_keep(|bench| {
        bench.start(&bench.launch("a"));
        let victim = bench.facts().processes[0];
        proc::signal(victim, rustix::process::Signal::KILL);
        eventually("it runs again", || bench.facts().restarts == 1 && bench.facts().processes.len() == 1);
    });
}

#[test]
fn what_runs_can_be_made_to_last() {
    all_keep(|bench| {
        bench.start(&bench.launch("a"));
        block_on(bench.manager.persist(&bench.app.slot())).unwrap();
    });
}

#[test]
fn systemd_keeps_every_promise_above_on_a_machine_of_its_own() {
    let machine = Container::boot();
    let said = machine.run_tests(MACHINE, &["--skip", "systemd_keeps_every_promise"]);
    assert!(said.out.contains("test result: ok. 6 passed"), "{}", said.out);
}
