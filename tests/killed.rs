//! A real agent is killed by SIGKILL at every boundary of an attempt and at random moments.
//!
//! After each kill `current` resolves to one complete release, and the next start converges within two ticks.

#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod support;

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use support::{Host, Source, process, wait};

const APP: &str = "web";
const ENVIRONMENT: &str = "prod";
/// Moments of one attempt in each of the `SHARDS` tests that run side by side: 100 in all.
const MOMENTS_PER_SHARD: u32 = 25;
/// A killed agent's children need a moment to be gone or adopted.
const CALM_LIMIT: Duration = Duration::from_secs(60);

/// A host with one healthy release, and the number of the next.
struct Killed {
    host: Host,
    version: u32,
    /// What runs now.
    healthy: String,
}

impl Killed {
    fn new() -> Self {
        let mut killed = Self { host: Host::new(ENVIRONMENT, ""), version: 0, healthy: String::new() };
        let first = killed.want(&Source::sleeper("1"));
        killed.host.run(&["watch", "--once"]).expect_code(0);
        killed.healthy = first;
        killed
    }

    /// Packs a source and names it in the state.
    fn want(&mut self, source: &Source) -> String {
        self.version += 1;
        let artifact = self.host.pack_next(source.path());
        self.host.want(APP, &artifact);
        artifact
    }

    /// A version whose every byte the host has yet to fetch.
    fn want_a_good_one(&mut self) -> String {
        let text = format!("version {}", self.version + 1);
        let steps = "[[step]]\nname = \"prepare\"\nrun = [\"true\"]\n\n[[step]]\nname = \"migrate\"\nkind = \"migrate\"\nrun = [\"true\"]\n";
        self.want(&Source::sleeper_and(steps).with("app/version.txt", text.as_bytes()))
    }

    fn want_a_bad_one(&mut self) -> String {
        let recipe = support::source::SLEEPER.replace("run = [\"true\"]", "run = [\"false\"]");
        self.want(&Source::new(&recipe).with("app/version.txt", b"bad"))
    }

    fn die_at(&self, boundary: &str) -> ExitStatus {
        let mut agent = self.host.landfall(&["watch", "--once"]);
        agent.env("LANDFALL_KILL_AT", boundary).stderr(std::process::Stdio::null());
        agent.status().unwrap()
    }

    fn die_after(&self, time: Duration) {
        let mut agent = self.host.landfall(&["watch", "--once"]);
        let mut agent = agent.stderr(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(time);
        agent.kill().unwrap();
        agent.wait().unwrap();
    }

    fn current(&self) -> PathBuf {
        self.host.current(APP, ENVIRONMENT)
    }

    /// What holds at every instant.
    #[track_caller]
    fn assert_current_is_complete(&self, story: &str) {
        let current = self.current();
        assert!(current.join("app/version.txt").is_file(), "{story}: {} is not whole", current.display());
        let record = std::fs::read_to_string(current.join(".landfall/release.json")).unwrap();
        assert!(record.contains("prepared"), "{story}: {} was not prepared: {record}", current.display());
    }

    /// Two ticks are enough for rest: the wanted release where it can run, the healthy one where not.
    #[track_caller]
    fn assert_converges(&mut self, expected: &str, story: &str) {
        self.host.run(&["watch", "--once"]);
        self.assert_current_is_complete(story);
        let last = self.host.run(&["watch", "--once"]);
        self.assert_current_is_complete(story);

        let running = self.host.current_record(APP);
        assert_eq!(running["release"]["artifact"], expected, "{story}: {last:?}\n{running:#}");
        assert!(
            !self.host.app(APP, ENVIRONMENT).join("journal").exists(),
            "{story}: an attempt is still open"
        );
        let current = self.current();
        wait::wait_until(&format!("{story}: one process, of {}", current.display()), CALM_LIMIT, || {
            let serving = self.host.serving(APP, ENVIRONMENT);
            serving.len() == 1 && serving[0].cwd == current
        });
        assert_eq!(self.leftovers(), Vec::<PathBuf>::new(), "{story}");
        self.healthy = expected.to_owned();
    }

    /// Half-built directories and files, anywhere on the host. `run/processes` may hold one temporary of each file,
    /// which the next write replaces.
    fn leftovers(&self) -> Vec<PathBuf> {
        let find = std::process::Command::new("find")
            .arg(self.host.root())
            .args(["(", "-name", ".stage-*", "-o", "-path", "*/incoming/*", "-o", "-name", "*.tmp", ")"])
            .args(["-not", "-path", "*/run/processes/*"])
            .output();
        String::from_utf8_lossy(&find.unwrap().stdout).lines().map(PathBuf::from).collect()
    }
}

/// Kills at each boundary in turn; every one of them must be reached.
#[track_caller]
fn dies_at(stages: &[(&str, &[&str])]) {
    let mut killed = Killed::new();
    for (stage, edges) in stages {
        for edge in *edges {
            let boundary = format!("{stage}:{edge}");
            let wanted = killed.want_a_good_one();
            let status = killed.die_at(&boundary);
            assert_eq!(status.signal(), Some(9), "{boundary} is not reached: {status}");
            killed.assert_current_is_complete(&boundary);
            killed.assert_converges(&wanted, &boundary);
        }
    }
}

const AROUND: &[&str] = &["BeforeIntent", "AfterIntent", "AfterEffect"];

#[test]
fn a_kill_while_fetching_preparing_or_migrating_is_harmless() {
    dies_at(&[("Fetching", AROUND), ("Preparing", AROUND), ("Migrating", AROUND)]);
}

#[test]
fn a_kill_during_the_preflight_is_harmless() {
    let mut killed = Killed::new();
    for edge in AROUND {
        let recipe = "[preflight]\nenabled = true\n\n[env]\nset = { PORT = \"1\" }\n";
        let text = format!("preflight {edge}");
        let wanted = killed.want(&Source::sleeper_and(recipe).with("app/version.txt", text.as_bytes()));
        let boundary = format!("Preflight:{edge}");
        assert_eq!(killed.die_at(&boundary).signal(), Some(9), "{boundary} is not reached");
        killed.assert_current_is_complete(&boundary);
        killed.assert_converges(&wanted, &boundary);
    }
}

#[test]
fn a_kill_while_switching_or_starting_is_harmless() {
    dies_at(&[("Switching", AROUND), ("Starting", AROUND)]);
}

#[test]
fn a_kill_while_verifying_or_committing_is_harmless() {
    dies_at(&[("Verifying", AROUND), ("Committing", &["BeforeIntent", "AfterIntent", "AfterEntry"])]);
}

#[test]
fn a_kill_while_going_back_is_harmless() {
    let mut killed = Killed::new();
    for edge in ["BeforeIntent", "AfterIntent", "AfterEffect", "AfterEntry"] {
        let healthy = killed.healthy.clone();
        killed.want_a_bad_one();
        let boundary = format!("Reverting:{edge}");
        assert_eq!(killed.die_at(&boundary).signal(), Some(9), "{boundary} is not reached");
        killed.assert_current_is_complete(&boundary);
        killed.assert_converges(&healthy, &boundary);
    }
}

/// Kills at moments from the first instant to a little after the end of an attempt of average length.
fn dies_at_random_moments(shard: u64) {
    let mut random = fastrand::Rng::with_seed(shard);
    let mut killed = Killed::new();
    let start = Instant::now();
    let measured = killed.want_a_good_one();
    killed.host.run(&["watch", "--once"]).expect_code(0);
    let length = start.elapsed();
    killed.healthy = measured;
    for moment in 0..MOMENTS_PER_SHARD {
        let wanted = killed.want_a_good_one();
        let after = length.mul_f64(random.f64() * 1.1);
        killed.die_after(after);
        let story = format!("shard {shard}, moment {moment}, killed after {after:?} of {length:?}");
        killed.assert_current_is_complete(&story);
        killed.assert_converges(&wanted, &story);
    }
}

#[test]
fn a_kill_at_any_moment_is_harmless_1() {
    dies_at_random_moments(1);
}

#[test]
fn a_kill_at_any_moment_is_harmless_2() {
    dies_at_random_moments(2);
}

#[test]
fn a_kill_at_any_moment_is_harmless_3() {
    dies_at_random_moments(3);
}

#[test]
fn a_kill_at_any_moment_is_harmless_4() {
    dies_at_random_moments(4);
}

#[test]
fn the_app_survives_the_agent_that_started_it() {
    let mut host = Host::new(ENVIRONMENT, "");
    host.deploy_once(&Source::sleeper("1")).expect_code(0);
    host.start_agent();
    host.wait_for_agent();
    let before = host.serving(APP, ENVIRONMENT);
    process::kill(host.agent_pid());
    assert_eq!(host.serving(APP, ENVIRONMENT), before);
}
