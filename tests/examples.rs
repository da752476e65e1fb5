//! Each small example, with the recipe that `landfall init` writes for it: packed by its own build, deployed, broken and
//! rolled back, by the commands that people type.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod support;

use std::process::Command;

use support::example::Example;
use support::port::Port;
use support::{Host, http, tools};

/// What is deployed: an example, and how its answer is told.
struct Case {
    example: &'static str,
    app: &'static str,
    port: Port,
    host: Host,
    source: Example,
}

impl Case {
    fn new(example: &'static str, app: &'static str) -> Self {
        let port = Port::free();
        let host = Host::new("prod", &format!("[apps.{app}]\nenv = {{ PORT = \"{}\" }}\n", port.number));
        Self { example, app, port, host, source: Example::of(example) }
    }

    /// Builds, packs and deploys it as it is now; the verdict must have this exit code.
    #[track_caller]
    fn deploy(&self, version: &str, code: i32) -> String {
        let id = self.source.pack(&self.host, &["--version", version]);
        self.host.run(&["deploy", self.app, "prod", version]).expect_code(0);
        self.host.run(&["watch", "--once"]).expect_code(code);
        id
    }

    #[track_caller]
    fn roll_back(&self, artifact: &str) {
        self.host.run(&["rollback", self.app, "prod", "--to", artifact]).expect_code(0);
        self.host.run(&["watch", "--once"]).expect_code(0);
    }

    #[track_caller]
    fn answers(&self, text: &str) {
        let answer = http::get(self.port.number, "/where").expect("an answer");
        assert!(answer.status == 200 && answer.body.contains(text), "{}: {answer:?}", self.example);
    }

    /// The results of all attempts, oldest first.
    #[track_caller]
    fn went(&self, results: &[&str]) {
        let attempts = self.host.attempts(self.app);
        let told: Vec<&str> = attempts.iter().map(|attempt| attempt["result"].as_str().unwrap()).collect();
        assert_eq!(told, results, "{}", self.example);
    }
}

#[test]
fn a_plain_node_server_is_packed_deployed_reverted_and_rolled_back() {
    let case = Case::new("node-server", "echo");
    let first = case.deploy("1.0.0", 0);
    case.answers("\"url\":\"/where\"");
    case.source.edit("server.js", "up:", "running:");
    case.deploy("1.1.0", 0);
    case.answers("\"running\":");
    case.source.edit("server.js", "require(\"ms\")", "require(\"milliseconds\")");
    case.deploy("1.2.0", 8);
    case.answers("\"running\":");
    case.roll_back(&first);
    case.answers("\"up\":");
    case.went(&["Healthy", "Healthy", "Reverted", "Healthy"]);
}

#[test]
fn a_rust_server_of_one_file_is_compiled_deployed_reverted_and_rolled_back() {
    let case = Case::new("rust-server", "tide");
    let first = case.deploy("1.0.0", 0);
    case.answers("\"turns_in_s\":");
    case.source.edit("src/main.rs", "turns_in_s", "slack_in_s");
    case.deploy("1.1.0", 0);
    case.answers("\"slack_in_s\":");
    case.source.edit("src/main.rs", "let listener =", "panic!(\"no listener\");\n    let listener =");
    case.deploy("1.2.0", 8);
    case.answers("\"slack_in_s\":");
    case.roll_back(&first);
    case.answers("\"turns_in_s\":");
    case.went(&["Healthy", "Healthy", "Reverted", "Healthy"]);
}

#[test]
fn a_directory_of_files_is_deployed_reverted_and_rolled_back_without_a_process() {
    let case = Case::new("static-site", "static-site");
    let page = || std::fs::read_to_string(case.host.current(case.app, "prod").join("index.html")).unwrap();
    let first = case.deploy("1.0.0", 0);
    assert!(page().contains("three seconds"));
    case.source.edit("public/index.html", "three seconds", "four seconds");
    case.deploy("1.1.0", 0);
    assert!(page().contains("four seconds"));
    case.source.edit("public/index.html", "</html>", "");
    case.deploy("1.2.0", 8);
    assert!(page().contains("four seconds") && page().contains("</html>"));
    case.roll_back(&first);
    assert!(page().contains("three seconds"));
    assert_eq!(case.host.serving(case.app, "prod"), []);
    case.host.run(&["verify", "--deep"]).expect_code(0);
    case.went(&["Healthy", "Healthy", "Reverted", "Healthy"]);
}

/// The recipe of an example is the one that `landfall init` writes there; where it is not, its README shows each line
/// that differs.
#[test]
fn the_recipe_of_each_example_is_what_init_writes_but_for_what_its_readme_says() {
    for (example, preset) in
        [("node-server", "node"), ("static-site", "static"), ("rust-server", "binary"), ("koa-static", "koa")]
    {
        let source = Example::of(example);
        let committed = source.path().join("committed.toml");
        std::fs::rename(source.path().join("landfall.toml"), &committed).unwrap();
        // What a build leaves is found, too.
        std::fs::create_dir_all(source.path().join("client/dist")).unwrap();
        let app = app_of(&std::fs::read_to_string(&committed).unwrap());
        let path = source.path().to_str().unwrap();
        let host = Host::new("prod", "");
        host.run(&["init", path, "--preset", preset, "--app", &app]).expect_code(0);
        // The kind that fits is found without being told.
        let found = host.run(&["init", path, "--force", "--app", &app, "-o", "json"]);
        let found: serde_json::Value = serde_json::from_str(&found.out).unwrap();
        assert_eq!(found["preset"], preset);
        let readme = std::fs::read_to_string(source.path().join("README.md")).unwrap();
        let told: Vec<String> = diff_of(&readme);
        let mut diff = Command::new("diff");
        diff.arg("--unified=0").arg(source.path().join("landfall.toml")).arg(&committed);
        let output = String::from_utf8(diff.output().expect("diffutils").stdout).unwrap();
        let differs: Vec<&str> = output.lines().skip(2).filter(|line| !line.starts_with("@@")).collect();
        assert_eq!(differs, told, "{example}: the README shows other differences than there are");
    }
}

/// `app = "…"`.
fn app_of(recipe: &str) -> String {
    recipe.lines().next().and_then(|line| line.split('"').nth(1)).unwrap().to_owned()
}

/// The changed lines of the README's first diff.
fn diff_of(readme: &str) -> Vec<String> {
    let block = readme.split("\n```diff\n").nth(1).and_then(|rest| rest.split("\n```").next());
    block.unwrap_or_default().lines().map(str::to_owned).collect()
}

#[test]
fn lockfiles_of_examples_name_no_registry() {
    for example in ["node-server", "koa-static", "next-app"] {
        let path = tools::repository().join("examples").join(example).join("package-lock.json");
        let text = std::fs::read_to_string(path).unwrap();
        assert!(!text.contains("\"resolved\""), "{example}");
    }
}
