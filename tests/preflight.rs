//! Preflight on real processes.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails, its helpers included")]

mod procs;

use std::collections::BTreeMap;
use std::net::TcpListener;

use landfall::spec::{Check, Command, HealthSpec, Millis, StartSpec};
use landfall::start::Exit;
use landfall::start::preflight::{Preflight, PreflightFailure, Tryout, preflight};
use landfall::step::Runner;
use procs::{App, block_on, landfall, shell, start_spec, working_under};

struct Trial {
    app: App,
    spec: StartSpec,
    env: BTreeMap<String, String>,
    check: HealthSpec,
}

impl Trial {
    fn new(ways: &[(&str, &str)]) -> Self {
        let app = App::new();
        std::fs::write(app.release("a").join("server.js"), include_str!("procs/server.js")).unwrap();
        let command = Command::Run(["node", "server.js"].map(Into::into).to_vec());
        let mut env = app.launch("a", command.clone()).env;
        env.extend(ways.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        env.insert("PORT".into(), "1".into());
        Self { app, spec: start_spec(command), env, check: check() }
    }

    fn run(&self, stop_early: bool) -> Tryout {
        let runner = Runner::with_executable(landfall());
        let checks = [self.check.clone()];
        let of = Preflight {
            spec: &self.spec,
            port_env: "PORT",
            release_dir: &self.app.release("a"),
            env: &self.env,
            account: None,
            checks: &checks,
            runner: &runner,
        };
        let tryout = block_on(preflight(&of, || stop_early)).unwrap();
        assert_eq!(working_under(&self.app.root), [], "a trial leaves nothing behind");
        tryout
    }

    fn failure(&self) -> PreflightFailure {
        match self.run(false) {
            Tryout::Failed(failure) => *failure,
            other => panic!("{other:?}"),
        }
    }
}

fn check() -> HealthSpec {
    HealthSpec {
        name: "main".parse().unwrap(),
        check: Check::Http("http://127.0.0.1:${PORT}/".into()),
        body_contains: Some("\"status\":\"ok\"".into()),
        attempts: 25,
        interval: Millis(200),
        timeout: Millis(500),
        successes: 2,
        settle: Millis(200),
        advisory: false,
        roles: Vec::new(),
    }
}

#[test]
fn a_release_that_answers_on_its_side_port_passes() {
    assert_eq!(Trial::new(&[]).run(false), Tryout::Passed);
}

#[test]
fn a_release_that_throws_fails_at_once_with_its_last_lines() {
    let failure = Trial::new(&[("LATE_THROW", "50"), ("SLOW", "60000")]).failure();
    assert_eq!(failure.exit, Some(Exit::Code(1)));
    assert!(failure.tail.iter().any(|line| line.contains("Error: late")), "{failure:?}");
}

#[test]
fn a_release_that_answers_wrongly_fails_with_its_answer() {
    let failure = Trial::new(&[("STATUS", "broken")]).failure();
    assert!(failure.to_string().contains("does not hold"), "{failure}");
    assert_eq!(failure.status, Some(200));
    assert!(failure.body.unwrap().contains("broken"));
}

#[test]
fn a_program_that_is_missing_is_named() {
    let mut trial = Trial::new(&[]);
    trial.spec.command = Command::Run(vec!["no-such-server".into()]);
    assert!(trial.failure().why.contains("no-such-server"));
}

#[test]
fn the_app_is_told_that_it_is_only_tried() {
    let mut trial = Trial::new(&[]);
    trial.spec.command = shell("test $LANDFALL_PREFLIGHT = 1 -a $PORT -gt 1 && exit 42");
    assert_eq!(trial.failure().exit, Some(Exit::Code(42)));
}

#[test]
fn a_check_that_does_not_ask_the_side_port_is_not_asked() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut trial = Trial::new(&[]);
    let url = format!("http://{}/", elsewhere.local_addr().unwrap());
    trial.check.check = Check::Http(url);
    assert_eq!(trial.run(false), Tryout::Passed);
    elsewhere.set_nonblocking(true).unwrap();
    assert!(elsewhere.accept().is_err(), "nobody came");
}

#[test]
fn a_newer_wish_ends_it() {
    assert_eq!(Trial::new(&[]).run(true), Tryout::Superseded);
}
