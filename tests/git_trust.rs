//! P12: old, unsigned, rewritten or foreign state is refused and shown, nothing is applied, what runs is untouched.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use support::git::{Forge, signing, wanting};
use support::host::Said;
use support::wait::wait_until;
use support::{Host, Source};

const LIMIT: Duration = Duration::from_secs(60);

/// A host that runs a signed state at serial 10, and what is needed to do worse.
struct World {
    forge: Forge,
    host: Host,
    operator: PathBuf,
    builder: PathBuf,
    stranger: PathBuf,
    expired: PathBuf,
    early: PathBuf,
    /// What runs, and what the scripts try to bring instead.
    good: String,
    bad: String,
    accepted: String,
}

impl World {
    fn new() -> Self {
        let forge = Forge::new();
        let host = Host::new("prod", "");
        let key = |name: &str| forge.key(name);
        let world = Self {
            operator: key("operator"),
            builder: key("builder"),
            stranger: key("stranger"),
            expired: key("expired"),
            early: key("early"),
            good: host.pack_next(Source::sleeper("good").path()),
            bad: host.pack_next(Source::sleeper("bad").path()),
            accepted: String::new(),
            forge,
            host,
        };
        world.trust(&world.everybody());
        world.forge.want_at("web", "prod", &world.good, 10);
        let accepted = world.forge.commit_signed(&world.operator, "deploy web");
        world.forge.push();
        world.once().expect_code(0);
        World { accepted, ..world }
    }

    fn everybody(&self) -> String {
        let line = |name: &str, options: &str, key: &Path| {
            format!("{name}@acme.example {options}{}\n", self.forge.public(key))
        };
        [
            line("operator", "namespaces=\"git\" ", &self.operator),
            line("builder", "", &self.builder),
            line("expired", "valid-before=\"20200101Z\" ", &self.expired),
            line("early", "valid-after=\"29990101Z\" ", &self.early),
        ]
        .concat()
    }

    /// host.toml with these signers; operators are all but the builder.
    fn trust(&self, signers: &str) {
        self.host.write("allowed_signers", signers);
        let operators = ["operator", "expired", "early"].map(|name| format!("{name}@acme.example"));
        let operators: Vec<&String> =
            operators.iter().filter(|name| signers.contains(name.as_str())).collect();
        let state = self.forge.state_of(&self.forge.url(), "");
        self.host.write(
            "host.toml",
            &format!(
                "host = \"test\"\nenvironment = \"prod\"\n\n{state}\n[trust]\nallowed_signers = \"allowed_signers\"\n\
                 operators = {operators:?}\n"
            ),
        );
    }

    fn run(&self, arguments: &[&str]) -> Said {
        Said::of(self.host.landfall_of_host_toml(arguments).output().unwrap())
    }

    fn once(&self) -> Said {
        self.run(&["watch", "--once"])
    }

    /// Back to the accepted commit, with a clean tree.
    fn back(&self) {
        self.forge.git(&["checkout", "--quiet", "--force", "-B", "main", &self.accepted]);
        self.forge.git(&["clean", "-fdq"]);
    }

    fn want(&self, serial: u64) {
        self.forge.want_at("web", "prod", &self.bad, serial);
    }

    /// What is pushed now is refused for this reason, and changes nothing.
    #[track_caller]
    fn is_refused(&self, script: &str, code: i32, reason: &str) {
        self.forge.push();
        let before = self.facts();
        let said = self.run(&["watch", "--once", "-o", "json"]);
        assert_eq!(said.code, Some(code), "{script}: {said:?}");
        let error: Value =
            serde_json::from_str(said.out.trim()).unwrap_or_else(|_| panic!("{script}: {said:?}"));
        assert_eq!(error["reason"], reason, "{script}: {error:#}");
        assert_eq!(self.facts(), before, "{script}: something was applied");
    }

    /// The accepted record, the attempts, the processes.
    fn facts(&self) -> (Vec<u8>, usize, Vec<u32>) {
        let accepted = std::fs::read(self.host.root().join("accepted")).unwrap_or_default();
        let pids = self.host.serving("web", "prod").iter().map(|process| process.pid).collect();
        (accepted, self.host.attempts("web").len(), pids)
    }
}

/// Signs other bytes with a key and puts that signature into a commit of the present index.
fn with_a_foreign_signature(world: &World) -> String {
    let forge = &world.forge;
    forge.git(&["add", "--all"]);
    let tree = forge.git(&["write-tree"]);
    let other = forge.dir().join("other");
    std::fs::write(&other, "other bytes").unwrap();
    std::fs::remove_file(other.with_extension("sig")).ok();
    let (key, file) = (world.operator.to_string_lossy().into_owned(), other.to_string_lossy().into_owned());
    forge.run(forge.dir(), "ssh-keygen", &["-q", "-Y", "sign", "-n", "git", "-f", &key, &file]);
    let signature = std::fs::read_to_string(other.with_extension("sig")).unwrap();
    let who = "Maria <maria@acme.example> 1780000000 +0000";
    let header = signature.trim_end().replace('\n', "\n ");
    let parent = &world.accepted;
    let commit =
        format!("tree {tree}\nparent {parent}\nauthor {who}\ncommitter {who}\ngpgsig {header}\n\nforged\n");
    let file = forge.dir().join("commit");
    std::fs::write(&file, commit).unwrap();
    forge.git(&["hash-object", "-t", "commit", "-w", &file.to_string_lossy()])
}

#[test]
fn sixteen_scripts_bring_nothing_into_service() {
    let world = World::new();
    let forge = &world.forge;
    let mut scripts = 0;
    let mut refused = |script: &str, code: i32, reason: &str| {
        world.is_refused(script, code, reason);
        world.back();
        scripts += 1;
    };

    world.want(11);
    forge.commit("unsigned");
    refused("unsigned", 13, "SignatureMissing");

    world.want(11);
    forge.commit_signed(&world.stranger, "a stranger's");
    refused("wrong key", 13, "KeyNotTrusted");

    world.want(11);
    forge.commit_signed(&world.builder, "another role's");
    refused("key of another role", 13, "KeyNotTrusted");

    world.want(11);
    forge.commit_signed(&world.expired, "too late");
    refused("expired key", 13, "KeyNotTrusted");

    world.want(11);
    forge.commit_signed(&world.early, "too early");
    refused("key that is not valid yet", 13, "KeyNotTrusted");

    world.want(11);
    let forged = with_a_foreign_signature(&world);
    forge.git(&["reset", "--quiet", "--hard", &forged]);
    refused("valid signature over other bytes", 13, "SignatureInvalid");

    world.want(9);
    forge.commit_signed(&world.operator, "older serial");
    refused("older serial", 5, "NonFastForward");

    forge.want("web", "prod", &world.bad);
    forge.commit_signed(&world.operator, "no serial");
    refused("serial left out", 5, "NonFastForward");

    world.want(10 + (1 << 20) + 1);
    forge.commit_signed(&world.operator, "a serial far away");
    refused("serial jump", 5, "SerialJump");

    forge.git(&["reset", "--quiet", "--hard", "HEAD~1"]);
    refused("branch set back", 5, "NonFastForward");

    forge.git(&["reset", "--quiet", "--hard", "HEAD~1"]);
    world.want(11);
    forge.commit_signed(&world.operator, "another history");
    refused("branch rewritten", 5, "NonFastForward");

    forge.git(&["checkout", "--quiet", "--orphan", "sibling"]);
    world.want(11);
    forge.commit_signed(&world.operator, "a sibling");
    refused("sibling branch without a common history", 5, "NonFastForward");

    // Unsigned below signed: the tip alone says nothing.
    world.want(11);
    forge.commit("hidden");
    std::fs::write(forge.work().join("README"), "x").unwrap();
    forge.commit_signed(&world.operator, "signed above it");
    refused("unsigned commit below a signed one", 13, "SignatureMissing");

    // A side branch with an unsigned change, merged by an operator who signs the merge.
    forge.git(&["checkout", "--quiet", "-b", "side"]);
    world.want(11);
    forge.commit("unsigned on the side");
    forge.git(&["checkout", "--quiet", "main"]);
    let options = signing(&world.operator);
    let options = options.each_ref().map(String::as_str);
    forge.git(&[&options[..], &["merge", "--quiet", "--no-ff", "-S", "-m", "merge", "side"]].concat());
    refused("unsigned change brought in by a signed merge", 13, "SignatureMissing");

    // An unsigned merge that takes the file of an older commit.
    forge.git(&["checkout", "--quiet", "-b", "old", "HEAD~1"]);
    std::fs::write(forge.work().join("NOTES"), "x").unwrap();
    forge.commit("beside it");
    forge.git(&["checkout", "--quiet", "main"]);
    forge.git(&["merge", "--quiet", "--no-ff", "--no-commit", "old"]);
    forge.git(&["checkout", "--quiet", "HEAD~1", "--", "deploy-state.json"]);
    forge.git(&["commit", "--quiet", "-m", "merge that goes back"]);
    refused("merge that brings an older state back", 13, "SignatureMissing");

    // The key is taken out; a signed commit of it comes afterwards.
    world.trust(&world.everybody().replace(&forge.public(&world.operator), &forge.public(&world.early)));
    world.want(11);
    forge.commit_signed(&world.operator, "after its key was taken out");
    refused("removed key", 13, "KeyNotTrusted");
    world.trust(&world.everybody());

    // A signed state for another app's artifact never starts here.
    assert!(scripts >= 16, "{scripts} scripts");
    println!("{scripts} scripts refused");

    // And the right way goes on.
    world.want(11);
    let good = forge.commit_signed(&world.operator, "deploy web");
    forge.push();
    world.once().expect_code(0);
    let entry = world.host.attempts("web").pop().unwrap();
    assert_eq!(
        (entry["target"]["state_commit"].as_str(), entry["target"]["artifact"].as_str()),
        (Some(&*good), Some(&*world.bad))
    );
}

#[test]
fn the_merge_button_of_a_forge_works_for_a_signed_branch() {
    let world = World::new();
    let forge = &world.forge;
    forge.git(&["checkout", "--quiet", "-b", "proposal"]);
    world.want(11);
    let signed = forge.commit_signed(&world.operator, "deploy web");
    forge.git(&["checkout", "--quiet", "main"]);
    std::fs::write(forge.work().join("README"), "meanwhile").unwrap();
    forge.commit("unsigned, elsewhere");
    // As a server does it: nobody of ours signs this.
    forge.git(&["merge", "--quiet", "--no-ff", "-m", "Merge pull request #1", "proposal"]);
    forge.push();
    world.once().expect_code(0);
    assert_eq!(world.host.attempts("web").pop().unwrap()["target"]["state_commit"], *signed);
}

#[test]
fn what_is_accepted_first_must_be_signed_too() {
    let forge = Forge::new();
    let host = Host::new("prod", "");
    let key = forge.key("operator");
    host.write("allowed_signers", &format!("operator {}\n", forge.public(&key)));
    let trust = "[trust]\nallowed_signers = \"allowed_signers\"";
    host.write(
        "host.toml",
        &format!("environment = \"prod\"\n{}\n{trust}\n", forge.state_of(&forge.url(), "")),
    );
    let once = || Said::of(host.landfall_of_host_toml(&["watch", "--once"]).output().unwrap());
    once().expect_code(13);
    let artifact = host.pack_next(Source::sleeper("one").path());
    forge.write(&wanting("web", "prod", &artifact, None));
    forge.commit_signed(&key, "deploy");
    std::fs::write(forge.work().join("README"), "x").unwrap();
    forge.commit("unsigned, and not about the state");
    forge.push();
    once().expect_code(0);
    let status = Said::of(host.landfall_of_host_toml(&["status", "-o", "json"]).output().unwrap());
    let status: Value = serde_json::from_str(&status.out).unwrap();
    assert_eq!(status["items"][0]["source"]["signed_by"], "operator");
}

/// The floor is in one record, whole before anything acts: a crash around it leaves the old or the new one.
#[test]
fn a_crash_while_the_floor_is_written_lets_nothing_older_in() {
    for moment in ["Accept:Before", "Accept:After"] {
        let world = World::new();
        let forge = &world.forge;
        world.want(11);
        let newer = forge.commit_signed(&world.operator, "deploy web");
        forge.push();
        let mut command = world.host.landfall_of_host_toml(&["watch", "--once"]);
        let killed = command.env("LANDFALL_KILL_AT", moment).output().unwrap();
        assert_eq!(killed.status.code(), None, "{moment}: {killed:?}");
        let before = world.facts();
        // Whoever serves the older commit now: it is the accepted one, or it is refused.
        forge.git(&["push", "--quiet", "--force", "origin", &format!("{}:refs/heads/main", world.accepted)]);
        match moment {
            "Accept:After" => {
                world.once().expect_code(5);
                assert_eq!(world.facts(), before, "{moment}");
            }
            _ => drop(world.once().expect_code(0)),
        }
        forge.git(&["push", "--quiet", "--force", "origin", &format!("{newer}:refs/heads/main")]);
        world.once().expect_code(0);
        assert_eq!(world.host.attempts("web").pop().unwrap()["target"]["artifact"], *world.bad, "{moment}");
    }
}

#[test]
fn a_floor_that_was_deleted_or_damaged_lets_nothing_in_until_an_operator_says_so() {
    let world = World::new();
    let record = world.host.root().join("accepted");
    let whole = std::fs::read(&record).unwrap();
    let commit = world.accepted.clone();
    for damage in [None, Some(b"nonsense".to_vec())] {
        match damage {
            None => std::fs::remove_file(&record).unwrap(),
            Some(bytes) => std::fs::write(&record, bytes).unwrap(),
        }
        world.is_refused("floor gone", 5, "FloorLost");
    }
    world.run(&["state", "accept", "abcdef0", "--reason", "another"]).expect_code(4);
    world.run(&["state", "accept", &commit[..12], "--reason", " "]).expect_code(2);
    world.run(&["state", "accept", &commit[..12], "--reason", "the disk was replaced"]).expect_code(0);
    let text = std::fs::read_to_string(&record).unwrap();
    assert!(text.contains("the disk was replaced") && text.contains(&commit), "{text}");
    assert_ne!(text.as_bytes(), whole);
    world.once().expect_code(0);
}

#[test]
fn a_rewritten_branch_is_shown_and_waits_for_an_operator_or_is_taken_where_history_may_be_any() {
    let world = World::new();
    let (forge, mut host) = (&world.forge, ());
    let _ = &mut host;
    forge.git(&["reset", "--quiet", "--hard", "HEAD~1"]);
    world.want(11);
    let rewritten = forge.commit_signed(&world.operator, "another history");
    world.is_refused("rewritten", 5, "NonFastForward");
    let mut world = world;
    let command = world.host.landfall_of_host_toml(&["watch"]);
    world.host.start_agent_as(command);
    let condition = |world: &World| {
        let said = world.run(&["status", "-o", "json"]);
        let status: Value = serde_json::from_str(&said.out).unwrap_or_default();
        let conditions = status["items"][0]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.into_iter().find(|condition| condition["type"] == "SourceReady").unwrap_or_default()
    };
    wait_until("the refusal is shown", LIMIT, || condition(&world)["reason"] == "NonFastForward");
    assert!(condition(&world)["message"].as_str().unwrap().contains(&rewritten));
    world.run(&["status", "--check"]).expect_code(1);
    assert_eq!(world.host.attempts("web").len(), 1);
    world.run(&["state", "accept", &rewritten, "--reason", "rebuilt on purpose"]).expect_code(0);
    wait_until("it is deployed", LIMIT, || {
        world
            .host
            .attempts("web")
            .last()
            .is_some_and(|entry| entry["result"] == "Healthy" && entry["target"]["artifact"] == *world.bad)
    });
    wait_until("all is well", LIMIT, || condition(&world)["status"] == "True");
    // A second time there is nothing to accept.
    world.run(&["state", "accept", &rewritten, "--reason", "again"]).expect_code(4);
}

#[test]
fn a_tag_decides_nothing_whatever_it_is_called_and_wherever_it_is_moved() {
    let world = World::new();
    let forge = &world.forge;
    let before = world.facts();
    world.want(11);
    let foreign = forge.commit_signed(&world.operator, "only tagged");
    for commit in [&foreign, &world.accepted, &foreign] {
        forge.git(&["tag", "--force", "main", commit]);
        forge.git(&["push", "--quiet", "--force", "origin", "refs/tags/main"]);
        world.once().expect_code(0);
        assert_eq!(world.facts(), before, "the tag `main` at {commit}");
    }
    // Nor can a tag be followed: what is asked for is a branch.
    forge.git(&["tag", "--force", "v1", &foreign]);
    forge.git(&["push", "--quiet", "--force", "origin", "refs/tags/v1"]);
    let toml = std::fs::read_to_string(world.host.dir.join("host.toml")).unwrap();
    world.host.write("host.toml", &toml.replace("poll =", "branch = \"v1\"\npoll ="));
    world.once().expect_code(5);
    assert_eq!(world.facts(), before);
}

#[test]
fn what_an_operator_let_pass_is_in_the_history_and_in_the_audit_for_good() {
    let world = World::new();
    let forge = &world.forge;
    forge.git(&["reset", "--quiet", "--hard", "HEAD~1"]);
    world.want(11);
    let rewritten = forge.commit_signed(&world.operator, "another history");
    world.is_refused("branch rewritten", 5, "NonFastForward");
    let reason = "branch rebuilt after INC-881";
    let accept = ["state", "accept", &rewritten[..12], "--reason", reason, "--by", "maria@acme.example"];
    world.run(&accept).expect_code(0);
    world.once().expect_code(0);

    let json = |arguments: &[&str]| -> Value {
        let said = world.run(&[arguments, &["-o", "json"]].concat());
        said.expect_code(0);
        serde_json::from_str(&said.out).unwrap()
    };
    let history = json(&["history", "web"]);
    let taken = &history["acceptances"][0];
    assert_eq!((&taken["commit"], &taken["from"]), (&(*rewritten).into(), &(*world.accepted).into()));
    assert_eq!((&taken["by"], &taken["reason"]), (&"maria@acme.example".into(), &reason.into()));
    assert_eq!(taken["parent"], "0".repeat(64));
    assert_eq!(json(&["history", "web", "--verify"])["items"][0]["acceptances"], 1);
    let shown = world.run(&["history", "web"]);
    assert!(shown.out.contains("state accepted") && shown.out.contains(reason), "{}", shown.out);

    // The audit on this host reads the agent's own copy of the log, with every signature checked.
    let audit = json(&["audit", "web", "prod"]);
    let last = audit["items"].as_array().unwrap().last().unwrap();
    assert_eq!(last["commit"]["id"], *rewritten);
    assert_eq!(last["commit"]["subject"], "another history");
    assert_eq!(last["commit"]["signature"]["by"], "operator@acme.example");
    assert_eq!(last["accepted"]["reason"], reason);
    assert_eq!(audit["acceptances"][0]["host"], "test");
    let shown = world.run(&["audit", "web"]).out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(shown.contains("test accepted") && shown.contains("signed by operator"), "{shown}");

    // And anywhere, once the host has reported.
    world.run(&["report"]).expect_code(0);
    let desk = Host::new("prod", "");
    let (store, state) = (world.host.root().join("store"), forge.work().join("deploy-state.json"));
    let elsewhere = || {
        let arguments = ["--state", state.to_str().unwrap(), "--store", store.to_str().unwrap()];
        let arguments = [&arguments[..], &["audit", "web", "-o", "json"]].concat();
        Said::of(desk.landfall_of_host_toml(&arguments).output().unwrap())
    };
    let seen: Value = serde_json::from_str(&elsewhere().out).unwrap();
    assert_eq!(seen["acceptances"][0]["reason"], reason);
    let document = store.join("status/test/prod/host.json");
    let text = std::fs::read_to_string(&document).unwrap();
    std::fs::write(&document, text.replace(reason, "nothing of note")).unwrap();
    let said = elsewhere();
    assert!(said.err.contains("test in prod is left out"), "{}", said.err);

    // Changed on the host itself, it is noticed, too.
    let record = world.host.root().join("acceptances");
    let text = std::fs::read_to_string(&record).unwrap();
    std::fs::write(&record, text.replace(reason, "nothing of note")).unwrap();
    let said = world.run(&["history", "web", "--verify"]);
    said.expect_code(6);
    assert!(said.err.contains("acceptances"), "{}", said.err);
}
