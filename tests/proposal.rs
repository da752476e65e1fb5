//! `plan --from … --to …`: a change of the state weighed before anybody takes it, from store and repository alone.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod support;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use support::host::Said;
use support::{Host, Source, source::SLEEPER};

/// Where a pull request is reviewed: a clone of the state, and a store. `host` only lends directories and programs.
struct Review {
    host: Host,
}

impl Review {
    fn new() -> Self {
        Self { host: Host::new("prod", "") }
    }

    /// An app with dependencies and migrations.
    fn pack(&self, version: &str, lock: &str, migrations: &[&str], files: &[(&str, &str)]) -> String {
        let recipe = format!(
            "{SLEEPER}\n[[step]]\nname = \"migrate\"\nkind = \"migrate\"\nrun = [\"true\"]\nmigrations = \"app/migrations\"\n"
        );
        let mut source = Source::new(&recipe).with("app/package-lock.json", lock.as_bytes());
        source = source.with("app/migrations/migration_lock.toml", b"provider");
        for name in migrations {
            source = source.with(&format!("app/migrations/{name}/migration.sql"), b"select 1");
        }
        for (name, text) in files {
            source = source.with(name, text.as_bytes());
        }
        self.host.pack_version(source.path(), version)
    }

    fn write(&self, apps: &Value) {
        let state = json!({"apiVersion": "landfall/v1", "apps": apps});
        std::fs::write(self.host.state(), format!("{state:#}\n")).unwrap();
    }

    fn commit(&self, apps: &Value) {
        self.write(apps);
        for arguments in [&["add", "."][..], &["commit", "--quiet", "--allow-empty", "-m", "a change"]] {
            let status =
                self.host.program("git").args(arguments).current_dir(self.host.dir.join("state")).status();
            assert!(status.unwrap().success());
        }
    }

    fn plan(&self, arguments: &[&str]) -> Said {
        self.host.run(&[&["plan"], arguments].concat())
    }

    #[track_caller]
    fn items(&self, arguments: &[&str], code: i32) -> Vec<Value> {
        let said = self.plan(&[arguments, &["-o", "json"]].concat());
        said.expect_code(code);
        let list: Value = serde_json::from_str(&said.out).unwrap();
        assert_eq!(list["kind"], "StatePlanList");
        list["items"].as_array().unwrap().clone()
    }
}

fn lock(version: &str) -> String {
    json!({"lockfileVersion": 3, "packages": {"node_modules/express": {"version": version}}}).to_string()
}

fn target(artifact: &str) -> Value {
    json!({"artifact": artifact, "reason": "login fix", "by": "maria@acme.example"})
}

fn web(environments: &[(&str, &str)]) -> Value {
    let entry = |(environment, artifact): &(&str, &str)| {
        ((*environment).to_owned(), json!({"target": target(artifact)}))
    };
    json!({"web": {"environments": environments.iter().map(entry).collect::<serde_json::Map<_, _>>()}})
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

#[test]
fn a_pull_request_is_told_files_dependencies_migrations_bytes_and_the_way_back_and_needs_no_host() {
    let review = Review::new();
    let one =
        review.pack("1.3.0", &lock("4.18.2"), &["20260101_init"], &[("app/a.js", "1"), ("app/gone.js", "x")]);
    let two = review.pack(
        "1.4.0",
        &lock("4.19.0"),
        &["20260101_init", "20260201_users", "20260202_orders"],
        &[("app/a.js", "2"), ("app/new.js", "y")],
    );
    review.commit(&web(&[("prod", &one), ("staging", &one)]));
    review.commit(&web(&[("prod", &one), ("staging", &two)]));

    let items = review.items(&["--from", "HEAD~1", "--to", "HEAD"], 1);
    assert_eq!(items.len(), 1, "production is not touched");
    let item = &items[0];
    assert_eq!(
        (&item["app"], &item["environment"], &item["action"]),
        (&json!("web"), &json!("staging"), &json!("Deploy"))
    );
    assert_eq!((&item["from"]["version"], &item["to"]["version"]), (&json!("1.3.0"), &json!("1.4.0")));
    assert_eq!(item["files"], json!({"added": 3, "changed": 2, "removed": 1}), "{:#}", item["paths"]);
    assert_eq!(item["dependencies"], json!([{"name": "express", "from": ["4.18.2"], "to": ["4.19.0"]}]));
    assert_eq!(texts(&item["migrations"][0]["added"]), ["20260201_users", "20260202_orders"]);
    assert_eq!(item["rollback_target"]["version"], "1.3.0");
    assert_eq!((&item["why"], &item["by"]), (&json!("login fix"), &json!("maria@acme.example")));
    assert!(item["fetch"]["bytes"].as_u64().unwrap() > 0 && item["conflicts"] == json!([]), "{item:#}");
    assert_eq!(item["release"], json!(["steps"]), "the migrations are part of the step");

    // The same for people, and for a comment.
    let told = review.plan(&["--from", "HEAD~1", "--to", "HEAD"]);
    told.expect_code(1);
    for word in [
        "web/staging",
        "deploy",
        "1.3.0",
        "1.4.0",
        "+3 ~2 -1",
        "express 4.18.2 → 4.19.0",
        "2 migrations to run",
    ] {
        assert!(told.out.contains(word), "{word}: {}", told.out);
    }
    let comment = review.plan(&["--from", "HEAD~1", "--to", "HEAD", "--markdown"]);
    comment.expect_code(1);
    for word in [
        "### landfall plan",
        "| **web**/staging | deploy |",
        "<details><summary>6 files",
        "added app/new.js",
        "login fix",
    ] {
        assert!(comment.out.contains(word), "{word}: {}", comment.out);
    }

    // Backwards the database knows more than the artifact.
    let items = review.items(&["--from", "HEAD", "--to", "HEAD~1"], 1);
    assert_eq!(texts(&items[0]["migrations"][0]["unknown"]), ["20260201_users", "20260202_orders"]);
    let told = review.plan(&["--from", "HEAD", "--to", "HEAD~1"]);
    assert!(told.out.contains("database has 2 migrations this artifact doesn't know"), "{}", told.out);

    // Nothing of a host came into being, and nothing is to do between equal ends.
    assert!(!review.host.root().join("objects").exists() && !review.host.root().join("apps").exists());
    assert_eq!(review.items(&["--from", "HEAD", "--to", "HEAD"], 0), Vec::<Value>::new());
    review.plan(&["--from", "HEAD"]).expect_code(0);
}

#[test]
fn an_edited_work_tree_is_planned_against_a_revision_and_a_first_deploy_against_nothing() {
    let review = Review::new();
    let one = review.pack("1.0.0", &lock("1.0.0"), &["1"], &[]);
    review.write(&web(&[("prod", &one)]));
    let items = review.items(&["--from", "HEAD"], 1);
    assert_eq!((&items[0]["action"], &items[0]["from"]), (&json!("Deploy"), &Value::Null));
    assert_eq!(items[0]["files"]["added"], 3);
    assert_eq!(items[0]["rollback_target"], Value::Null);
    assert_eq!(texts(&items[0]["migrations"][0]["added"]), ["1"]);
    review.commit(&web(&[("prod", &one)]));

    // What is not an artifact is told by its key; what leaves the state stays on the hosts.
    let mut apps = web(&[("prod", &one)]);
    apps["web"]["environments"]["prod"]["suspend"] = json!({"reason": "fair", "by": "lee"});
    apps["job"] = json!({"environments": {"prod": {"target": target(&one)}}});
    review.write(&apps);
    let items = review.items(&["--from", "HEAD"], 3);
    assert_eq!(
        (&items[0]["app"], &items[0]["action"]),
        (&json!("job"), &json!("Refuse")),
        "another app's artifact"
    );
    assert_eq!((&items[1]["action"], &items[1]["settings"]), (&json!("Settings"), &json!(["suspend"])));
    assert_eq!(items[1]["conflicts"][0]["reason"], "Suspended");
    review.items(&["--from", "HEAD", "web"], 1);
    assert_eq!(review.items(&["--from", "HEAD", "--env", "staging"], 0).len(), 0);
    review.write(&json!({"other": {"environments": {"prod": {"state": "absent"}}}}));
    let items = review.items(&["--from", "HEAD"], 1);
    assert_eq!((&items[1]["app"], &items[1]["action"]), (&json!("web"), &json!("Forget")));
}

#[test]
fn blocks_and_quarantines_stand_in_the_way_and_what_the_store_lacks_is_not_available() {
    let review = Review::new();
    let good = review.host.pack_version(Source::sleeper("good").path(), "1.0.0");
    let bad = Source::new(&SLEEPER.replace("[\"true\"]", "[\"false\"]")).with("app/version.txt", b"bad");
    let bad = review.host.pack_version(bad.path(), "2.0.0");
    for (artifact, code) in [(&good, 0), (&bad, 8)] {
        review.commit(&web(&[("prod", artifact)]));
        review.host.run(&["watch", "--once"]).expect_code(code);
    }
    review.commit(&web(&[("prod", &good)]));
    review.host.run(&["report"]).expect_code(0);

    review.write(&web(&[("prod", &bad)]));
    let items = review.items(&["--from", "HEAD"], 1);
    let conflict = &items[0]["conflicts"][0];
    assert_eq!((&conflict["reason"], &conflict["host"]), (&json!("Quarantined"), &json!("test")));
    let host = &items[0]["hosts"][0];
    assert_eq!((&host["host"], &host["running"]["version"]), (&json!("test"), &json!("1.0.0")));
    assert_eq!(host["revert_target"], json!(good));
    let told = review.plan(&["--from", "HEAD"]);
    assert!(told.out.contains("test: it failed there before"), "{}", told.out);

    let mut apps = web(&[("prod", &bad)]);
    apps["web"]["blocked"] = json!([{"artifact": bad, "reason": "leaks", "by": "lee"}]);
    review.write(&apps);
    let items = review.items(&["--from", "HEAD"], 10);
    assert_eq!(
        (&items[0]["action"], &items[0]["conflicts"][0]["reason"]),
        (&json!("Refuse"), &json!("Blocked"))
    );

    review.write(&web(&[("prod", &format!("b3:{}", "7".repeat(64)))]));
    let items = review.items(&["--from", "HEAD"], 6);
    assert_eq!(
        (&items[0]["action"], &items[0]["conflicts"][0]["reason"]),
        (&json!("Unavailable"), &json!("NotInStore"))
    );

    let mut apps = web(&[("prod", &good)]);
    apps["web"]["environments"]["prod"]["retain"] = "many".into();
    review.write(&apps);
    assert_eq!(review.items(&["--from", "HEAD"], 3)[0]["action"], "Refuse");
}

/// What the agent's log says it fetched of contents.
fn fetched(said: &Said) -> u64 {
    let line =
        said.err.lines().find(|line| line.contains("fetched")).unwrap_or_else(|| panic!("{}", said.err));
    let bytes = line.split("bytes=").nth(1).unwrap();
    bytes.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn the_bytes_to_fetch_are_those_that_a_host_then_fetches_by_packs_and_by_deltas() {
    let review = Review::new();
    let noise = |seed: u64, length: usize| -> String {
        let mut state = seed;
        let next = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b'a' + (state >> 59) as u8 % 26)
        };
        (0..length).map(next).collect()
    };
    let source = |version: &str| {
        let mut source = Source::sleeper(version);
        for file in 0..200 {
            let text = if file == 7 { noise(99, 9_000) + version } else { noise(file, 4_000) };
            source = source.with(&format!("app/f{file}.txt"), text.as_bytes());
        }
        source
    };
    let [one, two] =
        ["1.0.0", "2.0.0"].map(|version| review.host.pack_version(source(version).path(), version));
    let other: PathBuf = review.host.dir.join("other-store");
    for version in [&one, &two] {
        review.host.run(&["push", version, "--to", &path(&other)]).expect_code(0);
    }
    review.commit(&web(&[("prod", &one)]));
    review.write(&web(&[("prod", &two)]));
    for (store, by_delta) in [(review.host.root().join("store"), false), (other, true)] {
        let store = path(&store);
        let items = review.items(&["--from", "HEAD", "--store", &store], 1);
        let fetch = &items[0]["fetch"];
        assert_eq!(fetch["deltas"].as_u64().unwrap() > 0, by_delta, "{fetch}");
        let contents = fetch["bytes"].as_u64().unwrap() - fetch["documents"].as_u64().unwrap();
        // A host that has the one before and nothing else.
        let root = review.host.dir.join(if by_delta { "root-delta" } else { "root-packs" });
        let run = |state: &Value| {
            review.write(state);
            let mut command = review.host.program(env!("CARGO_BIN_EXE_landfall"));
            command.arg("--config").arg(review.host.dir.join("host.toml"));
            command.arg("--root").arg(&root).args(["--store", &store, "--state"]).arg(review.host.state());
            let said = Said::of(command.args(["watch", "--once"]).output().unwrap());
            said.expect_code(0);
            fetched(&said)
        };
        run(&web(&[("prod", &one)]));
        assert_eq!(run(&web(&[("prod", &two)])), contents, "{fetch}");
    }
}

fn path(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_revision_that_is_none_is_refused_and_can_be_no_option_of_git() {
    let review = Review::new();
    let one = review.pack("1.0.0", &lock("1.0.0"), &["1"], &[]);
    review.commit(&web(&[("prod", &one)]));
    for name in ["nowhere", "--upload-pack=touch x", "HEAD:deploy-state.json", "", "-h"] {
        let said = review.plan(&[&format!("--from={name}")]);
        said.expect_code(4);
        assert!(said.err.contains("there is no commit"), "{name}: {}", said.err);
    }
    review.plan(&["--to", "HEAD"]).expect_code(2);
    review.plan(&["--markdown"]).expect_code(2);
    // A state that no host would take is said to be none, with its commit.
    std::fs::write(review.host.state(), "{").unwrap();
    let said = review.plan(&["--from", "HEAD"]);
    said.expect_code(3);
}

#[test]
fn migrations_that_are_not_packed_are_refused_and_a_recipe_without_them_is_as_before() {
    let host = Host::new("prod", "");
    let step = "\n[[step]]\nkind = \"migrate\"\nrun = [\"true\"]\n";
    let plain =
        host.pack_version(Source::new(&format!("{SLEEPER}{step}")).with("app/x", b"1").path(), "1.0.0");
    let shown = host.json(&["show", &plain]);
    assert!(!shown.to_string().contains("migrations"), "{shown}");
    for (recipe, word) in [
        (format!("{SLEEPER}{step}migrations = \"db\"\n"), "no packed path is below `db`"),
        (format!("{SLEEPER}{step}migrations = \"../db\"\n"), "climbs out"),
        (format!("{SLEEPER}\n[[step]]\nrun = [\"true\"]\nmigrations = \"app\"\n"), "only a migrate step"),
    ] {
        let source = Source::new(&recipe).with("app/x", b"1");
        let said = host.run(&["pack", &path(source.path()), "--no-build", "--version", "2.0.0"]);
        said.expect_code(3);
        assert!(said.err.contains(word), "{word}: {}", said.err);
    }
}

#[test]
fn a_host_and_a_rollback_name_the_migrations_that_an_older_artifact_does_not_know() {
    let review = Review::new();
    let one = review.pack("1.0.0", &lock("1"), &["1_init"], &[]);
    let two = review.pack("2.0.0", &lock("1"), &["1_init", "2_users"], &[]);
    for artifact in [&one, &two] {
        review.commit(&web(&[("prod", artifact)]));
        let plan = review.host.run(&["plan", "-o", "json"]);
        plan.expect_code(1);
        let plan: Value = serde_json::from_str(&plan.out).unwrap();
        assert_eq!(plan["items"][0]["migrations"][0]["added"].as_array().unwrap().len(), 1);
        review.host.run(&["watch", "--once"]).expect_code(0);
    }
    let sentence = "database has 1 migration this artifact doesn't know: 2_users";
    review.write(&web(&[("prod", &one)]));
    let plan = review.host.run(&["plan"]);
    plan.expect_code(1);
    assert!(plan.out.contains(sentence), "{}", plan.out);
    review.commit(&web(&[("prod", &two)]));
    let said = review.host.run(&["rollback", "web", "prod"]);
    said.expect_code(0);
    assert!(said.err.contains(sentence), "{}", said.err);
    let said = review.host.run(&["rollback", "web", "--local", "--to", "1.0.0", "--reason", "bad checkout"]);
    assert!(said.err.contains(sentence), "{} {}", said.out, said.err);
}
