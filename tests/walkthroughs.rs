//! Five bad mornings, as a new operator meets them: each is understood from `landfall status` and one more
//! command. `docs/operations.md` has them as transcripts.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod support;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use support::wait::{wait_for, wait_until};
use support::{Host, Source, process};

const LIMIT: Duration = Duration::from_secs(60);

/// What a person reads, on one line.
#[track_caller]
fn told(host: &Host, arguments: &[&str]) -> String {
    let said = host.run(arguments);
    assert!(
        said.out.lines().all(|line| line.chars().count() <= 80 || line.contains("/tmp/")),
        "{}",
        said.out
    );
    said.out.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn says(told: &str, parts: &[&str]) {
    for part in parts {
        assert!(told.contains(part), "no `{part}` in {told}");
    }
}

/// A version that prints a line and is as well as `check` says.
fn version(check: &str) -> Source {
    let recipe = support::source::SLEEPER
        .replace("[\"true\"]", check)
        .replace("[\"sleep\", \"100000\"]", "[\"sh\", \"-c\", \"echo no table users; exec sleep 100000\"]");
    let env = "\n[[layer]]\nname = \"env\"\nkind = \"env\"\n\n[env]\nenvironments = [\"prod\"]\nlocal = \"optional\"\nrequired = [\"DATABASE_URL\"]\n";
    Source::new(&(recipe + env)).with("app/data", b"1").with(".env.prod", b"DATABASE_URL=1\n")
}

/// 1.0.0 serves.
fn serving() -> Host {
    let host = Host::new("prod", "");
    host.want("web", &host.pack_version(version("[\"true\"]").path(), "1.0.0"));
    host.run(&["watch", "--once"]).expect_code(0);
    host
}

#[test]
fn a_broken_deploy() {
    let host = serving();
    host.want("web", &host.pack_version(version("[\"false\"]").path(), "2.0.0"));
    host.run(&["watch", "--once"]).expect_code(8);
    let status = told(&host, &["status"]);
    says(
        &status,
        &["! web prod OutOfSync Healthy", "2.0.0", "failed here in attempt 2: health check", "1.0.0"],
    );
    says(&status, &["runs and is healthy", "`landfall describe web`", "`landfall rollback web prod`"]);
    let describe = told(&host, &["describe", "web"]);
    says(
        &describe,
        &["Attempt 2: Reverted", "Verifying", "Reverting", "HealthCheckFailed", "no table users"],
    );
    says(&describe, &["Quarantine", "not tried again until"]);
}

/// A small file system in memory, for as long as the value lives.
struct Small(std::path::PathBuf);

impl Small {
    /// `None` where this test may not mount.
    fn at(dir: &Path) -> Option<Self> {
        std::fs::create_dir_all(dir).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=12m,mode=755", "tmpfs"]).arg(dir);
        let mounted = mount.output().is_ok_and(|done| done.status.success());
        mounted.then(|| Self(dir.to_owned()))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        Command::new("umount").arg("--lazy").arg(&self.0).status().ok();
    }
}

#[test]
fn a_full_disk() {
    let host = Host::new("prod", "");
    let Some(_small) = Small::at(&host.root()) else { return full_without_a_mount(&host) };
    host.want("web", &host.pack_version(version("[\"true\"]").path(), "1.0.0"));
    host.run(&["watch", "--once"]).expect_code(0);
    host.want("web", &host.pack_version(version("[\"true\"]").with("app/data", b"2").path(), "2.0.0"));
    fill(&host.root().join("fill"));
    assert_ne!(host.run(&["watch", "--once"]).code, Some(0));
    let status = told(&host, &["status"]);
    says(&status, &["is full: landfall cannot write down what it would do", "1.0.0", "runs and is healthy"]);
    says(&status, &["make room: `landfall doctor` says where"]);
    let doctor = told(&host, &["doctor", "-q"]);
    says(&doctor, &["space only", "free on", "du -xh"]);
    std::fs::remove_file(host.root().join("fill")).unwrap();
    host.run(&["watch", "--once"]).expect_code(0);
    says(&told(&host, &["status"]), &["Synced Healthy 2.0.0"]);
}

/// Until the file system takes no more.
fn fill(path: &Path) {
    let mut file = std::fs::File::create(path).unwrap();
    let block = vec![1; 64 << 10];
    while std::io::Write::write_all(&mut file, &block).is_ok() {}
}

/// Where nothing can be mounted, the judgement alone is shown: `status::tests`.
fn full_without_a_mount(host: &Host) {
    says(&told(host, &["doctor"]), &["space"]);
}

#[test]
fn a_wrong_env_key() {
    let host = serving();
    let env = host.dir.join("env");
    std::fs::create_dir(&env).unwrap();
    let toml = std::fs::read_to_string(host.dir.join("host.toml")).unwrap();
    host.write("host.toml", &format!("{toml}\n[apps.web]\nenv_dir = {env:?}\n"));
    host.write("env/.env.prod", "DATABASE_URI=1\n");
    host.want("web", &host.pack_version(version("[\"true\"]").with("app/data", b"2").path(), "2.0.0"));
    host.run(&["watch", "--once"]).expect_code(3);
    let status = told(&host, &["status"]);
    says(
        &status,
        &["required keys are not set by any env layer: DATABASE_URL", "1.0.0", "runs and is healthy"],
    );
    says(
        &status,
        &["next: correct the env files (`landfall doctor` checks them), then `landfall retry web`"],
    );
    let doctor = told(&host, &["doctor", "-q"]);
    says(&doctor, &["env required keys are not set by any env layer: DATABASE_URL", env.to_str().unwrap()]);
    host.write("env/.env.prod", "DATABASE_URL=1\n");
    host.run(&["watch", "--once"]).expect_code(0);
    says(&told(&host, &["status"]), &["Synced Healthy 2.0.0"]);
}

#[test]
fn a_suspended_app() {
    let host = serving();
    let mut state: Value = serde_json::from_str(&std::fs::read_to_string(host.state()).unwrap()).unwrap();
    state["apps"]["web"]["environments"]["prod"]["suspend"] =
        serde_json::json!({"reason": "disk swap, INC-881", "by": "lee"});
    host.write("state/deploy-state.json", &state.to_string());
    let status = told(&host, &["status"]);
    says(&status, &["Suspended", "suspended: disk swap, INC-881 (by lee)", "nothing is applied or healed"]);
    says(&status, &["next: take `suspend` of `web` out of the state"]);
    host.run(&["status", "--check"]).expect_code(1);
    says(&told(&host, &["describe", "web"]), &["Ready False Suspended"]);
}

#[test]
fn a_host_that_rebooted() {
    let mut host = serving();
    // What a power loss leaves: no process, and here the state is out of reach as well.
    for process in host.serving("web", "prod") {
        let supervisor = landfall::proc::stat(process.pid).map(|stat| stat.parent);
        supervisor.into_iter().filter(|pid| *pid > 1).for_each(process::kill);
        process::kill(process.pid);
    }
    wait_until("nothing serves", LIMIT, || host.serving("web", "prod").is_empty());
    std::fs::rename(host.dir.join("state"), host.dir.join("away")).unwrap();
    let status = told(&host, &["status"]);
    says(&status, &["Degraded", "1.0.0", "should run and does not", "the state cannot be read now"]);
    says(&status, &["no agent is running on", "`landfall watch`"]);
    host.start_agent();
    let back = wait_for("the app is back", LIMIT, || {
        let status = told(&host, &["status"]);
        status.contains("Synced Healthy 1.0.0").then_some(status)
    });
    says(&back, &["the state cannot be read"]);
    says(&told(&host, &["history", "web"]), &["2 1.0.0", "Healthy", "landfall it was"]);
}
