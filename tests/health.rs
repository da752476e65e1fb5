//! Health on real processes.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails, its helpers included")]

mod procs;

use std::net::TcpListener;
use std::time::{Duration, Instant};

use landfall::health::{Proof, Reason, Started, Trouble, Verdict, Verification, verify};
use landfall::proc;
use landfall::spec::{Check, Command, HealthSpec, Millis};
use landfall::start::direct::Direct;
use landfall::start::{Launch, Manager};
use landfall::step::Runner;
use procs::{App, block_on, eventually, landfall, stop_spec, working_under};
use rustix::process::Signal;

/// An app with one server process under the direct manager.
struct Site {
    app: App,
    manager: Direct,
    port: u16,
}

impl Site {
    fn new() -> Self {
        let app = App::new();
        for release in ["a", "b"] {
            std::fs::write(app.release(release).join("server.js"), include_str!("procs/server.js")).unwrap();
        }
        Self { app, manager: Direct::with_executable(landfall()), port: free_port() }
    }

    fn launch(&self, release: &str, ways: &[(&str, &str)]) -> Launch {
        let command = Command::Run(["node", "server.js"].map(Into::into).to_vec());
        let mut launch = self.app.launch(release, command);
        launch.env.insert("PORT".into(), self.port.to_string());
        launch.env.extend(ways.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        launch
    }

    fn start(&self, launch: &Launch) -> u64 {
        let since = proc::now_ticks();
        block_on(self.manager.start(launch)).unwrap_or_else(|error| panic!("is node installed? {error}"));
        since
    }

    fn verify(&self, launch: &Launch, since: u64, checks: &[HealthSpec]) -> Verdict {
        let started = [Started { manager: &self.manager, launch, since_ticks: since }];
        let of = Verification {
            started: &started,
            checks,
            env: &launch.env,
            release_dir: &launch.release_dir,
            account: None,
            runner: &Runner::with_executable(landfall()),
        };
        block_on(verify(&of, || false)).unwrap()
    }

    fn try_ways(&self, ways: &[(&str, &str)], checks: &[HealthSpec]) -> Verdict {
        let launch = self.launch("a", ways);
        let since = self.start(&launch);
        self.verify(&launch, since, checks)
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

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn http() -> HealthSpec {
    check(Check::Http("http://127.0.0.1:${PORT}/health".into()))
}

fn check(check: Check) -> HealthSpec {
    HealthSpec {
        name: "main".parse().unwrap(),
        check,
        body_contains: None,
        attempts: 50,
        interval: Millis(200),
        timeout: Millis(1_000),
        successes: 2,
        settle: Millis(300),
        advisory: false,
        roles: Vec::new(),
    }
}

/// A check that gives up within 600 ms.
fn hasty() -> HealthSpec {
    HealthSpec { attempts: 3, timeout: Millis(300), ..http() }
}

fn proof(verdict: Verdict) -> Proof {
    match verdict {
        Verdict::Healthy(proof) => proof,
        other => panic!("{other:?}"),
    }
}

fn reason(verdict: Verdict) -> (Reason, landfall::health::Evidence) {
    match verdict {
        Verdict::Unhealthy { reason, evidence } => (reason, *evidence),
        other => panic!("{other:?}"),
    }
}

fn failed_check(verdict: Verdict) -> String {
    match reason(verdict).0 {
        Reason::Check { last, .. } => last,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_server_of_this_start_is_healthy_without_saying_who_it_is() {
    let mut wanted = http();
    wanted.body_contains = Some("\"status\":\"ok\"".into());
    let shown = proof(Site::new().try_ways(&[], &[wanted]));
    assert!(shown.samples >= 2 && shown.took_ms >= 300, "{shown:?}");
}

#[test]
fn a_server_that_listens_on_every_address_is_known_by_its_mapped_connection() {
    proof(Site::new().try_ways(&[("HOSTNAME_", "::")], &[http()]));
}

#[test]
fn a_server_that_closes_after_each_answer_is_known_all_the_same() {
    proof(Site::new().try_ways(&[("CLOSE", "1")], &[http()]));
}

#[test]
fn a_server_that_names_its_start_is_believed() {
    proof(Site::new().try_ways(&[("NAMED", "1")], &[http()]));
}

#[test]
fn a_release_is_known_by_any_path_that_leads_to_it() {
    let site = Site::new();
    std::os::unix::fs::symlink(&site.app.root, site.app.root.join("link")).unwrap();
    let mut launch = site.launch("a", &[]);
    launch.release_dir = site.app.root.join("link/releases/a");
    let since = site.start(&launch);
    proof(site.verify(&launch, since, &[http()]));
}

#[test]
fn b43_an_old_process_that_answers_is_named_and_never_counts() {
    let site = Site::new();
    let old = site.launch("a", &[("NAMED", "1")]);
    site.start(&old);
    eventually("the old one listens", || !proc::listeners(site.port).is_empty());
    let mut new = site.launch("b", &[("SLOW", "100000")]);
    new.slot.process = "second".parse().unwrap();
    let since = site.start(&new);
    let (reason, evidence) = reason(site.verify(&new, since, &[hasty()]));
    let stopped = block_on(site.manager.stop(&new.slot, &stop_spec(0)));
    stopped.unwrap();
    let Reason::PortHeld { port, holder, .. } = &reason else { panic!("{reason}") };
    assert_eq!((*port, holder.cwd.clone()), (site.port, Some(site.app.release("a"))));
    assert!(reason.to_string().contains("which is not this start"), "{reason}");
    assert_eq!(evidence.status, Some(200));
}

#[test]
fn b43_a_port_that_is_taken_is_said_with_its_holder() {
    let site = Site::new();
    let _taken = TcpListener::bind(("127.0.0.1", site.port)).unwrap();
    let (reason, evidence) = reason(site.try_ways(&[], &[http()]));
    let said = reason.to_string();
    let own = format!("port {} is held by pid {} (", site.port, std::process::id());
    assert!(said.starts_with(&own), "{said}");
    assert!(evidence.logs["main"].iter().any(|line| line.contains("EADDRINUSE")), "{evidence:?}");
}

#[test]
fn p18_a_process_that_dies_after_a_good_answer_fails_at_once() {
    let site = Site::new();
    let slow = HealthSpec { settle: Millis(60_000), interval: Millis(30_000), ..http() };
    let began = Instant::now();
    let (reason, evidence) = reason(site.try_ways(&[("DIE_AFTER", "400")], &[slow]));
    assert!(matches!(reason, Reason::Process(_)), "{reason}");
    assert_eq!(evidence.exit, Some(landfall::start::Exit::Code(4)));
    assert!(began.elapsed() < Duration::from_secs(50), "{:?}", began.elapsed());
}

#[test]
fn p18_a_process_that_dies_before_it_listens_fails_at_once() {
    let (reason, evidence) =
        reason(Site::new().try_ways(&[("SLOW", "60000"), ("LATE_THROW", "100")], &[http()]));
    assert!(matches!(reason, Reason::Process(Trouble::Died { .. } | Trouble::Restarted { .. })), "{reason}");
    assert!(evidence.logs["main"].iter().any(|line| line.contains("Error: late")), "{evidence:?}");
}

#[test]
fn p18_a_flapping_server_never_gets_its_answers_in_a_row() {
    let site = Site::new();
    let flaky = HealthSpec { attempts: 20, interval: Millis(100), ..http() };
    let (reason, evidence) = reason(site.try_ways(&[("FLAP", "1")], &[flaky]));
    assert!(matches!(reason, Reason::Check { .. }), "{reason}");
    assert!(evidence.tries > 10 && evidence.status.is_some(), "{evidence:?}");
}

#[test]
fn p18_a_slow_start_is_waited_for_within_the_budget() {
    proof(Site::new().try_ways(&[("SLOW", "900"), ("FAIL_FIRST", "3")], &[http()]));
}

#[test]
fn p18_a_probe_that_hangs_is_bounded_and_a_redirect_is_not_followed() {
    let cases = [("HANG", "no answer within 300ms"), ("REDIRECT", "redirects are not followed")];
    for (way, said) in cases {
        let last = failed_check(Site::new().try_ways(&[(way, "1")], &[hasty_after_boot()]));
        assert!(last.contains(said), "{way}: {last}");
    }
}

/// Time for node to boot, then short tries.
fn hasty_after_boot() -> HealthSpec {
    HealthSpec { attempts: 15, timeout: Millis(300), ..http() }
}

#[test]
fn an_answer_without_end_is_read_to_the_limit_only() {
    let mut wanted = http();
    wanted.body_contains = Some("xxxx".into());
    proof(Site::new().try_ways(&[("FLOOD", "1")], &[wanted]));
}

#[test]
fn a_wrong_body_is_said_and_kept() {
    let mut wanted = hasty_after_boot();
    wanted.body_contains = Some("\"status\":\"ok\"".into());
    let (reason, evidence) = reason(Site::new().try_ways(&[("STATUS", "broken")], &[wanted]));
    assert!(reason.to_string().contains("does not hold"), "{reason}");
    assert!(evidence.body.unwrap().contains("broken"));
}

#[test]
fn nothing_that_listens_is_said_with_the_address() {
    let last = failed_check(Site::new().try_ways(&[("SLOW", "60000")], &[hasty()]));
    assert!(last.starts_with("cannot connect to 127.0.0.1:"), "{last}");
}

#[test]
fn a_tcp_check_counts_only_when_this_start_accepts() {
    let address = || check(Check::Tcp("127.0.0.1:${PORT}".into()));
    proof(Site::new().try_ways(&[], &[address()]));
    let site = Site::new();
    let _stranger = TcpListener::bind(("127.0.0.1", site.port)).unwrap();
    let quick = HealthSpec { attempts: 2, timeout: Millis(200), ..address() };
    let (reason, _) = reason(site.try_ways(&[("SLOW", "60000")], &[quick]));
    assert!(reason.to_string().contains("no process accepted"), "{reason}");
}

#[test]
fn a_command_check_runs_in_the_release_with_its_environment() {
    let good = check(Check::Run(["sh", "-c", "test $RELEASE = a -a -e server.js"].map(Into::into).to_vec()));
    proof(Site::new().try_ways(&[], &[good]));
    let bad = Check::Run(["sh", "-c", "echo because; exit 3"].map(Into::into).to_vec());
    let (reason, evidence) = reason(Site::new().try_ways(&[], &[HealthSpec { attempts: 2, ..check(bad) }]));
    assert!(reason.to_string().contains("exited with 3"), "{reason}");
    assert_eq!(evidence.body.as_deref(), Some("because"));
}

#[test]
fn without_checks_running_through_the_settle_time_is_the_proof() {
    let site = Site::new();
    assert!(proof(site.try_ways(&[], &[])).took_ms >= 3_000);
    let (reason, _) = reason(site.try_ways(&[("LATE_THROW", "1000")], &[]));
    assert!(matches!(reason, Reason::Process(_)), "{reason}");
}

#[test]
fn advisory_checks_report_and_never_decide() {
    let mut advisory = HealthSpec { advisory: true, ..http() };
    advisory.name = "extra".parse().unwrap();
    advisory.check = Check::Tcp("127.0.0.1:1".into());
    let shown = proof(Site::new().try_ways(&[], &[http(), advisory]));
    assert_eq!(shown.advice[0].check, "extra");
    assert!(shown.advice[0].complaint.as_ref().unwrap().contains("cannot connect"));
}

#[test]
fn a_release_that_starts_nothing_is_healthy_at_once() {
    let env = Default::default();
    let of = Verification {
        started: &[],
        checks: &[],
        env: &env,
        release_dir: std::path::Path::new("/"),
        account: None,
        runner: &Runner::with_executable(landfall()),
    };
    assert!(matches!(block_on(verify(&of, || false)).unwrap(), Verdict::Healthy(_)));
    assert_eq!(block_on(verify(&of, || true)).unwrap(), Verdict::Superseded);
}
