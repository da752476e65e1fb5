//! One landfall changes a root, however many are started.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics, in its helpers too")]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const AGENTS: usize = 100;
/// For a hundred programs to start on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Ends with the test, whatever becomes of it.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn agent(dir: &Path) -> Agent {
    let mut command = Command::new(env!("CARGO_BIN_EXE_landfall"));
    command.env_clear().current_dir(dir).args(["watch", "--env", "prod", "--root", "root"]);
    command.args(["--config", "host.toml", "--state", "deploy-state.json"]);
    Agent(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

/// Exit codes of those that have ended.
fn ended(agents: &mut [Agent]) -> Vec<i32> {
    agents
        .iter_mut()
        .filter_map(|agent| agent.0.try_wait().unwrap())
        .map(|status| status.code().unwrap())
        .collect()
}

#[track_caller]
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < START_LIMIT, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn p16_of_a_hundred_agents_one_works_and_the_next_gets_the_lock_when_it_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("host.toml"), "host = \"test\"\n").unwrap();
    let state = r#"{"apiVersion": "landfall/v1", "apps": {}}"#;
    std::fs::write(dir.path().join("deploy-state.json"), state).unwrap();
    let mut agents: Vec<Agent> = (0..AGENTS).map(|_| agent(dir.path())).collect();
    eventually("all but one have ended", || ended(&mut agents).len() == AGENTS - 1);
    assert_eq!(ended(&mut agents), vec![12; AGENTS - 1], "each is told that another works here");

    // An agent that got the lock makes the host's secret where there is none.
    let (lock, secret) = (dir.path().join("root/lock"), dir.path().join("root/secret"));
    eventually("the one works", || secret.exists());
    agents.clear();
    assert!(lock.exists(), "the lock's file is never removed");

    std::fs::remove_file(&secret).unwrap();
    let mut next = [agent(dir.path())];
    eventually("the next one works", || secret.exists());
    assert_eq!(ended(&mut next), Vec::<i32>::new());
    println!("{AGENTS} agents, 1 worked");
}
