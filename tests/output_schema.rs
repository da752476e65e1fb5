//! What `-o json` prints is what `docs/output.schema.json` says, for every kind of document.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod support;

use std::collections::BTreeSet;
use std::path::Path;

use jsonschema::Validator;
use serde_json::Value;
use support::host::Said;
use support::{Host, Source};

fn published() -> Value {
    if std::env::var_os("LANDFALL_BLESS").is_some() {
        return landfall::cli::output_schema();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/output.schema.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// After a change of a printed type, `LANDFALL_BLESS=1 cargo test --test output_schema` writes it anew.
#[test]
fn the_published_schema_is_made_from_the_types() {
    let made = landfall::cli::output_schema();
    if std::env::var_os("LANDFALL_BLESS").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/output.schema.json");
        std::fs::write(path, format!("{made:#}\n")).unwrap();
    }
    assert!(made == published(), "docs/output.schema.json is old");
}

/// Kinds that commands print which change something, or whose schema is published elsewhere.
const NOT_READ: [&str; 1] = ["PushList"];

#[test]
fn every_kind_of_list_that_is_printed_has_a_schema() {
    let known: BTreeSet<String> = published()["$defs"].as_object().unwrap().keys().cloned().collect();
    let mut unknown = Vec::new();
    for file in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli")) {
        let text = std::fs::read_to_string(&file).unwrap();
        let printed = text.split(".items(\"").skip(1).filter_map(|rest| rest.split('"').next());
        let missing = printed.filter(|kind| !known.contains(*kind) && !NOT_READ.contains(kind));
        unknown.extend(missing.map(|kind| format!("{kind} in {}", file.display())));
    }
    assert_eq!(unknown, Vec::<String>::new());
}

fn sources(dir: &Path) -> Vec<std::path::PathBuf> {
    let paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
}

/// A host, and what its commands printed so far.
struct Checked {
    host: Host,
    schema: Validator,
    kinds: BTreeSet<String>,
}

impl Checked {
    fn new() -> Self {
        let apps = format!("[apps.web]\nuser = {:?}\n", whoami());
        let schema = jsonschema::validator_for(&published()).unwrap();
        Self { host: Host::new("prod", &apps), schema, kinds: BTreeSet::new() }
    }

    /// Runs a command with `-o json` and holds what it says against the schema.
    #[track_caller]
    fn prints(&mut self, arguments: &[&str]) -> Said {
        let said = self.host.run(&[arguments, &["-o", "json"]].concat());
        let document: Value = serde_json::from_str(&said.out)
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {}\n{}", said.out, said.err));
        self.kinds.insert(document["kind"].as_str().unwrap().to_owned());
        let wrong: Vec<String> = self.schema.iter_errors(&document).map(|error| error.to_string()).collect();
        assert!(wrong.is_empty(), "{arguments:?}: {wrong:#?}\n{document:#}");
        said
    }
}

fn whoami() -> String {
    nix::unistd::User::from_uid(nix::unistd::getuid()).unwrap().unwrap().name
}

fn app(check: &str) -> Source {
    let recipe = support::source::SLEEPER.replace("[\"true\"]", check)
        + "\n[[layer]]\nname = \"env\"\nkind = \"env\"\n\n[env]\nenvironments = [\"prod\"]\nlocal = \"optional\"\n";
    Source::new(&recipe).with(".env.prod", b"KEEP=1\n").with("app/data", b"1")
}

#[test]
fn every_read_command_prints_what_the_schema_says() {
    let mut checked = Checked::new();
    let (good, bad) = (app("[\"true\"]"), app("[\"false\"]"));

    checked.prints(&["status"]);
    checked.prints(&["plan"]);
    let first = checked.host.pack_version(good.path(), "1.0.0");
    checked.host.want("web", &first);
    checked.prints(&["plan"]);
    checked.host.run(&["watch", "--once"]).expect_code(0);
    for settled in [&["status"][..], &["status", "--check"], &["plan", "web"]] {
        checked.prints(settled).expect_code(0);
    }
    let second = checked.host.pack_version(bad.path(), "2.0.0");
    checked.host.want("web", &second);
    checked.host.run(&["watch", "--once"]).expect_code(8);

    for failed in [
        &["status", "web"][..],
        &["history", "web"],
        &["history", "web", "--verify"],
        &["describe", "web"],
        &["describe", "web", "--attempt", "2"],
        &["logs", "web"],
        &["env", "web"],
        &["env", "web", "--reveal"],
        &["report"],
        &["status", "--fleet"],
        &["plan", "--from", "HEAD"],
        &["audit", "web"],
        &["verify"],
        &["verify", "web", "--deep"],
        &["gc", "--dry-run"],
        &["store", "gc", "--dry-run", "--grace", "0s", "--keep", "0s", "--keep-versions", "0"],
        &["store", "verify"],
        &["plan"],
        &["doctor"],
        &["ls"],
        &["ls", "--releases"],
        &["show", "2.0.0"],
        &["show", "2.0.0", "--files"],
        &["diff", "1.0.0", "2.0.0"],
        &["state", "lint"],
        &["state", "resolve", "--app", "web", "--env", "prod"],
        &["describe", "nothing"],
    ] {
        checked.prints(failed);
    }
    checked.host.write("state/deploy-state.json", "{\"apiVersion\": \"landfall/v1\", \"app\": {}}");
    checked.prints(&["state", "lint"]).expect_code(3);
    checked.prints(&["status"]);
    checked.prints(&["install", "--dry-run"]);

    let published = published();
    let every: BTreeSet<String> = published["oneOf"]
        .as_array()
        .unwrap()
        .iter()
        .map(|kind| kind["$ref"].as_str().unwrap().rsplit('/').next().unwrap().to_owned())
        .collect();
    assert_eq!(checked.kinds, every, "every kind was printed for real");
}

#[test]
fn a_document_of_another_shape_is_not_accepted() {
    let schema = jsonschema::validator_for(&published()).unwrap();
    let list =
        |item: Value| serde_json::json!({"apiVersion": "landfall/v1", "kind": "StatusList", "items": [item]});
    assert!(!schema.is_valid(&list(serde_json::json!({"app": "web"}))));
    assert!(
        schema.is_valid(&serde_json::json!({"apiVersion": "landfall/v1", "kind": "StatusList", "items": []}))
    );
    assert!(
        !schema.is_valid(&serde_json::json!({"apiVersion": "landfall/v1", "kind": "Nothing", "items": []}))
    );
}
