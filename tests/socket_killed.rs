//! A real agent is killed by SIGKILL at every moment of a deploy of an app on a socket, and of its revert.
//!
//! After each kill the next ticks come to rest with exactly one set of processes, of the right release; and no request
//! of a steady load fails, from the first kill to the last.

#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod support;

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use support::load::{Connections, Load, failures};
use support::port::Port;
use support::{Host, Source, socket_app, wait};

/// For the processes that a tick ended to be gone.
const CALM_LIMIT: Duration = Duration::from_secs(60);

/// A host with one healthy release on a socket, under a load.
struct Killed {
    host: Host,
    port: Port,
    load: Load,
    version: u32,
}

impl Killed {
    fn new() -> Self {
        let (host, port) = (Host::new("prod", ""), Port::free());
        let first = host.pack_next(well(port.number, 0).path());
        host.want("web", &first);
        host.run(&["watch", "--once"]).expect_code(0);
        let load = Load::begin(port.number, "/", 40, Connections::Fresh);
        Self { host, port, load, version: 0 }
    }

    /// Asks for a new version; the agent dies at this moment of it. Gives the artifact.
    #[track_caller]
    fn die_at(&mut self, moment: &str, version: fn(u16, u32) -> Source) -> String {
        self.version += 1;
        let artifact = self.host.pack_next(version(self.port.number, self.version).path());
        self.host.want("web", &artifact);
        let mut agent = self.host.landfall(&["watch", "--once"]);
        agent.env("LANDFALL_KILL_AT", moment).stderr(std::process::Stdio::null());
        let status = agent.status().unwrap();
        assert_eq!(status.signal(), Some(9), "{moment} was not reached: {status}");
        artifact
    }

    /// Two ticks, and one process is left: that of this release.
    #[track_caller]
    fn comes_to_rest(&self, expected: &str, moment: &str) {
        self.host.run(&["watch", "--once"]);
        let last = self.host.run(&["watch", "--once"]);
        let running = self.host.current_record("web");
        assert_eq!(running["release"]["artifact"], expected, "{moment}: {last:?}");
        let current = self.host.current("web", "prod");
        wait::wait_until(&format!("{moment}: one process, of {}", current.display()), CALM_LIMIT, || {
            let serving = self.host.serving("web", "prod");
            serving.len() == 1 && serving[0].cwd == current
        });
    }

    #[track_caller]
    fn no_request_failed(self) {
        let requests = self.load.end();
        assert_eq!(failures(&requests), [], "of {}", requests.len());
    }
}

const NO_TRIAL: &str = "[preflight]\nenabled = false";

fn well(port: u16, version: u32) -> Source {
    socket_app::version(port, "well", NO_TRIAL).with("app/version.txt", version.to_string().as_bytes())
}

fn sick(port: u16, version: u32) -> Source {
    let recipe = socket_app::recipe(port, socket_app::SOCKET, NO_TRIAL);
    let soon = recipe.replace("attempts = 60", "attempts = 2");
    socket_app::server(&soon, "sick in service").with("app/version.txt", version.to_string().as_bytes())
}

#[test]
fn a_good_deploy_that_is_cut_short_anywhere_ends_with_one_set_of_processes_and_loses_no_request() {
    let mut killed = Killed::new();
    for moment in [
        "Switching:BeforeIntent",
        "Switching:AfterIntent",
        "Switching:AfterEffect",
        "Starting:BeforeIntent",
        "Starting:AfterIntent",
        "Starting:AfterEffect",
        "Verifying:BeforeIntent",
        "Verifying:AfterIntent",
        "Verifying:AfterEffect",
        "Committing:BeforeIntent",
        "Committing:AfterIntent",
        "Committing:AfterEntry",
    ] {
        let artifact = killed.die_at(moment, well);
        killed.comes_to_rest(&artifact, moment);
    }
    killed.no_request_failed();
}

#[test]
fn a_revert_that_is_cut_short_anywhere_goes_back_to_the_processes_that_never_stopped() {
    let mut killed = Killed::new();
    let healthy = killed.host.current_record("web")["release"]["artifact"].as_str().unwrap().to_owned();
    let before = killed.host.serving("web", "prod");
    for moment in
        ["Reverting:BeforeIntent", "Reverting:AfterIntent", "Reverting:AfterEffect", "Reverting:AfterEntry"]
    {
        killed.die_at(moment, sick);
        killed.comes_to_rest(&healthy, moment);
        assert_eq!(killed.host.serving("web", "prod"), before, "{moment}: it was started again");
    }
    killed.no_request_failed();
}
