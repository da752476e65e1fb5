//! What operators order on a host: held, released, tried again; with the agent and without it.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::wait::{wait_for, wait_until};
use support::{Host, Source};

/// Longer than anything here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// A host with two healthy releases of `web`, the second in service, without an agent.
struct World {
    host: Host,
    first: String,
    second: String,
}

impl World {
    fn new() -> Self {
        let host = Host::new("prod", "");
        let mut world = Self { host, first: String::new(), second: String::new() };
        world.first = world.packed("one");
        world.second = world.packed("two");
        for artifact in [&world.first, &world.second] {
            world.host.want("web", artifact);
            world.host.run(&["watch", "--once"]).expect_code(0);
        }
        world
    }

    fn with_agent() -> Self {
        let mut world = Self::new();
        world.start();
        world
    }

    fn start(&mut self) {
        self.host.start_agent();
        wait_until("the agent answers", LIMIT, || self.host.root().join("agent.sock").exists());
    }

    fn packed(&self, content: &str) -> String {
        self.host.pack_next(Source::sleeper(content).path())
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let said = self.host.run(arguments);
        said.expect_code(0);
        said.out
    }

    fn status(&self) -> Value {
        self.host.json(&["status", "web"])["items"][0].clone()
    }

    fn runs(&self) -> String {
        self.host.current_record("web")["release"]["artifact"].as_str().unwrap().to_owned()
    }

    fn wait_until_it_runs(&self, artifact: &str) {
        wait_until("the artifact is in service", LIMIT, || self.runs() == artifact);
    }

    fn decisions(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.host.app("web", "prod").join("controls")).unwrap();
        let record: Value = serde_json::from_str(&text[text.find('{').unwrap()..]).unwrap();
        record["decisions"].as_array().unwrap().clone()
    }

    fn want_with(&self, artifact: &str, more: Value) {
        let mut part = json!({"target": {"artifact": artifact}});
        part.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.write_state(json!({"environments": {"prod": part}}));
    }

    fn write_state(&self, app: Value) {
        let state = json!({"apiVersion": "landfall/v1", "apps": {"web": app}});
        let new = self.host.state().with_extension("new");
        std::fs::write(&new, state.to_string()).unwrap();
        std::fs::rename(new, self.host.state()).unwrap();
    }
}

#[test]
fn a_suspended_app_is_left_alone_said_everywhere_and_goes_on_when_it_is_resumed() {
    let world = World::with_agent();
    let told = world.ok(&["suspend", "web", "--reason", "disk swap", "--by", "lee"]);
    assert!(told.contains("disk swap (by lee)"), "{told}");
    let third = world.packed("three");
    world.host.want("web", &third);
    // The agent has read the new state when it says that it wants it.
    wait_until("the state is accepted", LIMIT, || {
        std::fs::read_to_string(world.host.root().join("accepted")).is_ok_and(|text| text.contains(&third))
    });
    let status = world.status();
    assert_eq!(status["health"], "Suspended", "{status}");
    assert_eq!(status["suspended"]["by"], "lee");
    world.host.run(&["status", "web", "--check"]).expect_code(1);
    world.host.run(&["plan", "web"]).expect_code(11);
    let served: Vec<u32> = world.host.serving("web", "prod").iter().map(|process| process.pid).collect();
    served.iter().for_each(|pid| support::process::kill(*pid));
    world.host.run(&["wait", "web", "--for", "synced", "--timeout", "2s"]).expect_code(14);
    assert_eq!(world.runs(), world.second, "applied while suspended");
    world.ok(&["resume", "web", "--by", "lee"]);
    world.ok(&["wait", "web", "--for", "synced", "--timeout", "60s"]);
    assert_eq!(world.runs(), third);
    let acts: Vec<String> = world.decisions().iter().map(|d| format!("{} {}", d["what"], d["by"])).collect();
    assert_eq!(acts, ["\"Suspend\" \"lee\"", "\"Resume\" \"lee\""]);
    let described = world.ok(&["describe", "web"]);
    assert!(described.contains("Suspend by lee: disk swap"), "{described}");
}

#[test]
fn a_suspension_ends_by_itself() {
    let world = World::with_agent();
    world.ok(&["suspend", "web", "--reason", "fair", "--for", "3s"]);
    world.host.want("web", &world.first);
    world.ok(&["wait", "web", "--for", "synced", "--timeout", "60s"]);
    assert_eq!(world.runs(), world.first);
    let ended = world.decisions().pop().unwrap();
    assert_eq!((ended["what"].as_str(), ended["by"].as_str()), (Some("SuspensionEnded"), Some("landfall")));
}

#[test]
fn orders_work_with_the_agent_down_and_the_next_agent_keeps_to_them() {
    let mut world = World::new();
    let said = world.host.run(&["suspend", "web", "--reason", "audit", "--by", "lee"]);
    said.expect_code(0);
    assert!(said.err.contains("no agent is running"), "{}", said.err);
    world.host.run(&["reconcile", "web"]).expect_code(15);
    world.start();
    world.host.want("web", &world.first);
    world.host.run(&["wait", "web", "--for", "synced", "--timeout", "2s"]).expect_code(14);
    world.host.stop_agent();
    world.ok(&["resume", "web"]);
    world.host.run(&["watch", "--once"]).expect_code(0);
    assert_eq!(world.runs(), world.first);
}

#[test]
fn a_rollback_on_the_host_alone_needs_neither_store_nor_state_and_ends_with_unpin() {
    let world = World::with_agent();
    let (store, elsewhere) = (world.host.root().join("store"), world.host.dir.join("elsewhere"));
    std::fs::rename(&store, &elsewhere).unwrap();
    let state = std::fs::read(world.host.state()).unwrap();
    std::fs::remove_file(world.host.state()).unwrap();
    world.ok(&["rollback", "web", "--local", "--reason", "bad checkout", "--for", "1h", "--by", "lee"]);
    assert_eq!(world.runs(), world.first);
    let status = world.status();
    assert_eq!(status["pinned"]["reason"], "bad checkout", "{status}");
    assert_ne!(status["health"], "Healthy", "{status}");
    world.host.run(&["status", "web", "--check"]).expect_code(1);
    let entry = world.host.attempts("web").pop().unwrap();
    assert_eq!((entry["target"]["by"].as_str(), entry["result"].as_str()), (Some("lee"), Some("Healthy")));
    assert!(entry["target"]["why"].as_str().unwrap().contains("bad checkout"));
    // What the state asks for waits until the pin is gone.
    std::fs::write(world.host.state(), &state).unwrap();
    std::fs::rename(&elsewhere, &store).unwrap();
    world.host.run(&["plan", "web"]).expect_code(11);
    world.host.run(&["deploy", "web", "prod", &world.first, "--wait"]).expect_code(11);
    assert_eq!(std::fs::read(world.host.state()).unwrap(), state, "refused, and edited all the same");
    world.ok(&["unpin", "web", "--by", "maria"]);
    world.wait_until_it_runs(&world.second);
}

#[test]
fn a_rollback_on_the_host_alone_works_with_the_agent_down_and_ends_by_itself() {
    let mut world = World::new();
    std::fs::rename(world.host.root().join("store"), world.host.dir.join("elsewhere")).unwrap();
    let said = world.host.run(&["rollback", "web", "--local", "--reason", "bad checkout", "--for", "20s"]);
    said.expect_code(0);
    assert_eq!(world.runs(), world.first);
    assert!(world.host.run(&["status", "web"]).out.contains("unpin web"));
    world.start();
    world.ok(&["wait", "web", "--for", "released", "--timeout", "60s"]);
    world.wait_until_it_runs(&world.second);
    assert_eq!(world.decisions().pop().unwrap()["what"], "PinEnded");
}

#[test]
fn a_rollback_on_the_host_alone_refuses_what_never_proved_healthy() {
    let world = World::new();
    let refused = |to: &str, code: i32| {
        let arguments = ["rollback", "web", "--local", "--reason", "r", "--to", to];
        world.host.run(&arguments).expect_code(code);
    };
    refused("9.9.9", 4);
    world.host.run(&["rollback", "web", "--local"]).expect_code(2);
    world.write_state(json!({
        "environments": {"prod": {"target": {"artifact": world.second}}},
        "blocked": [{"artifact": world.first, "reason": "leaks", "by": "lee"}],
    }));
    world.host.run(&["watch", "--once"]).expect_code(0);
    refused("0.0.1", 10);
    let nothing_else = world.host.run(&["rollback", "web", "--local", "--reason", "r"]);
    nothing_else.expect_code(4);
    assert_eq!(world.runs(), world.second);
}

const FAILS_ONCE: &str = r#"app = "web"
version = "1"

[[layer]]
name = "app"
files = [{ from = "app", to = "app" }]

[start]
manager = "direct"
run = ["sleep", "100000"]

[health]
run = ["test", "-e", "GATE"]
attempts = 2
interval = "100ms"
successes = 1
settle = "100ms"
"#;

/// A release that is well only while a file of the host is there.
fn gated(world: &World) -> (String, std::path::PathBuf) {
    let gate = world.host.dir.join("gate");
    let recipe = FAILS_ONCE.replace("GATE", &gate.to_string_lossy());
    let source = Source::new(&recipe).with("app/version.txt", b"gated");
    (world.host.pack_next(source.path()), gate)
}

#[test]
fn retry_lets_a_release_out_of_quarantine_and_a_changed_time_in_the_state_does_so_once() {
    let world = World::with_agent();
    let (third, gate) = gated(&world);
    world.host.want("web", &third);
    let reverted = |count: usize| {
        wait_until("it was reverted", LIMIT, || {
            world.host.attempts("web").iter().filter(|entry| entry["result"] == "Reverted").count() == count
        });
        world.ok(&["wait", "web", "--for", "idle", "--timeout", "60s"]);
    };
    reverted(1);
    world.host.run(&["plan", "web"]).expect_code(10);
    world.ok(&["retry", "web", "--reason", "the database is back"]);
    reverted(2);
    // The state asks for a fresh attempt: one for each value.
    world.want_with(&third, json!({"reconcileRequestedAt": "2026-11-21T12:00:00Z"}));
    reverted(3);
    world.ok(&["reconcile", "web"]);
    world.host.run(&["wait", "web", "--for", "synced", "--timeout", "2s"]).expect_code(14);
    assert_eq!(world.host.attempts("web").len(), 5, "one attempt for one value");
    std::fs::write(&gate, "").unwrap();
    world.want_with(&third, json!({"reconcileRequestedAt": "2026-11-21T12:00:01Z"}));
    world.ok(&["wait", "web", "--for", "synced", "--timeout", "60s"]);
    assert_eq!(world.runs(), third);
}

#[test]
fn a_retry_with_the_agent_down_is_taken_up_by_the_next_one() {
    let world = World::new();
    let (third, gate) = gated(&world);
    world.host.want("web", &third);
    world.host.run(&["watch", "--once"]).expect_code(8);
    world.host.run(&["watch", "--once"]).expect_code(10);
    std::fs::write(&gate, "").unwrap();
    world.ok(&["retry", "web"]);
    world.host.run(&["plan", "web"]).expect_code(1);
    world.host.run(&["watch", "--once"]).expect_code(0);
    assert_eq!(world.runs(), third);
}

#[test]
fn records_that_cannot_be_read_are_kept_aside_and_the_app_goes_on() {
    let mut world = World::with_agent();
    let dir = world.host.app("web", "prod");
    let pids: Vec<u32> = world.host.serving("web", "prod").iter().map(|process| process.pid).collect();
    let history = std::fs::read_to_string(dir.join("history")).unwrap();
    let damaged = history.replacen("\"attempt\":2", "\"attempt\":3", 1);
    assert_ne!(damaged, history);
    std::fs::write(dir.join("history"), &damaged).unwrap();
    std::fs::write(dir.join("journal"), "half a jour").unwrap();
    world.host.run(&["history", "web", "--verify"]).expect_code(6);
    world.host.run(&["recover", "web"]).expect_code(2);
    let found = world.host.run(&["recover", "web", "--dry-run"]);
    found.expect_code(1);
    assert!(found.out.contains("journal") && found.out.contains("history"), "{}", found.out);
    world.ok(&["recover", "web", "--reason", "the disk was bad", "--by", "lee"]);
    world.host.run(&["history", "web", "--verify"]).expect_code(0);
    let aside: Vec<_> = std::fs::read_dir(dir.join("aside")).unwrap().map(|e| e.unwrap().path()).collect();
    let kept = aside.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect::<Vec<_>>();
    assert!(kept.contains(&damaged) && kept.contains(&"half a jour".to_owned()), "{aside:?}");
    let marker = world.host.attempts("web")[1].clone();
    assert_eq!(marker["failure"]["reason"], "RecordsRecovered", "{marker}");
    assert_eq!(marker["target"]["by"], "lee");
    assert!(marker["attempt"].as_u64().unwrap() > 2, "a number that no attempt ever had: {marker}");
    assert!(!world.host.agent_log().contains("had been moved"), "what ran was taken for drift");
    // What was in service is proved again, not guessed to be well.
    world.ok(&["wait", "web", "--for", "synced", "--timeout", "60s"]);
    assert_eq!(world.runs(), world.second);
    assert!(!pids.is_empty());
    // Nobody can tell any more whether it was suspended: it is, until somebody says so.
    std::fs::write(dir.join("controls"), "scribble").unwrap();
    world.host.stop_agent();
    world.ok(&["recover", "web", "--reason", "again", "--by", "lee"]);
    assert_eq!(world.status()["health"], "Suspended");
    world.ok(&["resume", "web"]);
    assert_eq!(world.status()["health"], "Healthy");
}

#[test]
fn wait_says_that_no_agent_works_and_ends_with_its_own_code() {
    let world = World::new();
    world.ok(&["wait", "web", "--for", "healthy"]);
    world.host.want("web", &world.first);
    let said = world.host.run(&["wait", "web", "--for", "synced", "--timeout", "1s"]);
    said.expect_code(14);
    assert!(said.err.contains("no agent works on"), "{}", said.err);
    world.host.run(&["wait", "nobody", "--for", "healthy"]).expect_code(4);
}

#[test]
fn an_order_without_a_reason_or_with_an_end_in_the_past_is_refused() {
    let world = World::new();
    world.host.run(&["suspend", "web"]).expect_code(2);
    world.host.run(&["suspend", "web", "--reason", "  "]).expect_code(2);
    world.host.run(&["suspend", "web", "--reason", "a\u{1b}[2Jb"]).expect_code(2);
    let past = ["suspend", "web", "--reason", "r", "--until", "2020-01-01T00:00:00Z"];
    world.host.run(&past).expect_code(2);
    world.host.run(&["suspend", "nobody", "--reason", "r"]).expect_code(4);
    assert!(!world.host.app("web", "prod").join("controls").exists());
    assert_eq!(world.status()["health"], "Healthy");
    let none = wait_for("nothing held", LIMIT, || Some(world.status()["suspended"].clone()));
    assert_eq!(none, Value::Null);
}

impl World {
    fn want_state(&self, artifact: &str, more: &Value) {
        let app = json!({"environments": {"prod": {"target": {"artifact": artifact}}}});
        let mut state = json!({"apiVersion": "landfall/v1", "apps": {"web": app}});
        state.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let new = self.host.state().with_extension("new");
        std::fs::write(&new, state.to_string()).unwrap();
        std::fs::rename(new, self.host.state()).unwrap();
    }

    fn source_reason(&self) -> String {
        let status = self.status();
        let conditions = status["conditions"].as_array().unwrap();
        let source = conditions.iter().find(|condition| condition["type"] == "SourceReady").unwrap();
        source["reason"].as_str().unwrap().to_owned()
    }
}

#[test]
fn a_state_whose_serial_goes_down_is_refused_and_the_last_accepted_one_stays_in_force() {
    let mut world = World::new();
    world.want_state(&world.second, &json!({"serial": 7}));
    world.start();
    world.ok(&["wait", "web", "--for", "synced", "--timeout", "60s"]);
    wait_until("serial 7 is accepted", LIMIT, || {
        std::fs::read_to_string(world.host.root().join("accepted")).is_ok_and(|text| text.contains("serial"))
    });
    for older in [json!({"serial": 6}), json!({})] {
        world.want_state(&world.first, &older);
        wait_until("the agent says so", LIMIT, || {
            world.host.agent_log().contains("7 was accepted here already")
        });
        assert_eq!(world.source_reason(), "NonFastForward");
        world.host.run(&["status", "--check"]).expect_code(1);
        world.host.run(&["plan"]).expect_code(5);
        world.ok(&["reconcile"]);
        assert_eq!(world.runs(), world.second);
    }
    world.want_state(&world.first, &json!({"serial": 7}));
    world.wait_until_it_runs(&world.first);
    world.host.stop_agent();
    world.want_state(&world.second, &json!({"serial": 3}));
    world.host.run(&["watch", "--once"]).expect_code(5);
    assert_eq!(world.runs(), world.first);
}

#[test]
fn a_state_past_its_end_is_reported_and_stays_in_force() {
    let world = World::new();
    world.want_state(&world.first, &json!({"not_after": "2026-01-01T00:00:00Z"}));
    world.host.run(&["watch", "--once"]).expect_code(0);
    assert_eq!((world.runs(), world.source_reason()), (world.first.clone(), "Stale".to_owned()));
    let told = world.host.run(&["status", "web"]).out;
    assert!(told.contains("stale") && told.contains("2026-01-01"), "{told}");
    world.want_state(&world.first, &json!({"not_after": "2126-01-01T00:00:00Z"}));
    assert_eq!(world.source_reason(), "Succeeded");
}

impl World {
    fn hang_up(&self) {
        let pid = i32::try_from(self.host.agent_pid()).unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    }

    fn configure(&self, apps: &str) {
        let toml = std::fs::read_to_string(self.host.dir.join("host.toml")).unwrap();
        let fixed = toml.split("[apps").next().unwrap();
        self.host.write("host.toml", &format!("{fixed}{apps}"));
        self.hang_up();
    }

    fn pids(&self) -> Vec<u32> {
        let mut pids: Vec<u32> = self.host.serving("web", "prod").iter().map(|process| process.pid).collect();
        pids.sort_unstable();
        pids
    }
}

#[test]
fn a_hangup_reads_the_configuration_again_and_restarts_nothing_that_need_not() {
    let world = World::with_agent();
    world.ok(&["wait", "web", "--for", "synced", "--timeout", "60s"]);
    let pids = world.pids();
    assert!(!pids.is_empty());
    // What is wrong changes nothing, and is told.
    let good = std::fs::read_to_string(world.host.dir.join("host.toml")).unwrap();
    world.host.write("host.toml", &good.replace("\"prod\"", "\"staging\""));
    world.hang_up();
    wait_until("it is refused", LIMIT, || world.host.agent_log().contains("restart the agent for that"));
    world.host.write("host.toml", &good);
    wait_until("status says so", LIMIT, || world.host.run(&["status"]).out.contains("host.toml was refused"));
    world.host.write("host.toml", &format!("{good}\nnonsense = 1\n"));
    world.hang_up();
    wait_until("it is refused", LIMIT, || world.host.agent_log().contains("nonsense"));
    world.host.run(&["status"]).expect_code(3);
    world.host.write("host.toml", &good);
    // An app that is not named any more is left as it is, and alone.
    world.configure("[apps.other]\n");
    wait_until("it is taken", LIMIT, || world.host.agent_log().contains("host.toml was read again"));
    world.host.want("web", &world.first);
    world.ok(&["reconcile"]);
    assert_eq!((world.runs(), world.pids()), (world.second.clone(), pids.clone()));
    // Named again, with the settings it runs with: nothing is restarted, and the state counts.
    world.host.want("web", &world.second);
    world.configure("[apps.web]\n");
    world.ok(&["wait", "web", "--for", "synced", "--timeout", "60s"]);
    assert!(!world.host.run(&["status"]).out.contains("refused"));
    assert_eq!(world.pids(), pids);
    // Other run settings are another release of the same artifact.
    world.configure("[apps.web]\nenv = { COLOUR = \"red\" }\non_env_change = \"deploy\"\n");
    wait_until("it was started again", LIMIT, || {
        let now = world.pids();
        !now.is_empty() && now != pids
    });
    world.ok(&["wait", "web", "--for", "synced", "--timeout", "60s"]);
    assert_eq!(world.runs(), world.second);
}

#[test]
fn an_edited_env_waits_for_the_next_deploy_or_for_reconcile() {
    let world = World::with_agent();
    world.ok(&["wait", "web", "--for", "synced", "--timeout", "60s"]);
    let known = world.host.attempts("web").len();
    world.configure("[apps.web]\nenv = { COLOUR = \"red\" }\n");
    wait_until("the edit is seen", LIMIT, || world.host.agent_log().contains("an env file was edited"));
    assert_eq!(world.host.attempts("web").len(), known, "an edit alone is only reported");
    world.ok(&["reconcile", "web", "--reason", "a new colour"]);
    let entry = world.host.wait_for_attempt("web", known, LIMIT);
    assert_eq!(entry["result"], "Healthy", "{entry}");
    assert_eq!(world.runs(), world.second);
}

#[test]
fn a_suspension_gives_up_an_attempt_that_has_not_come_to_the_switch() {
    let world = World::with_agent();
    let missing = format!("b3:{}", "0".repeat(64));
    world.host.want("web", &missing);
    wait_until("it is being fetched", LIMIT, || world.status()["operation"] == "Fetching");
    world.ok(&["suspend", "web", "--reason", "freeze"]);
    wait_until("it is given up", LIMIT, || {
        world.host.attempts("web").last().is_some_and(|entry| entry["result"] == "Superseded")
    });
    assert_eq!((world.runs(), world.status()["health"].clone()), (world.second.clone(), json!("Suspended")));
}
