//! landfall reads env files as npm's `dotenv` does: the record of what the real packages answered, and the
//! real packages themselves, asked again.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics, in its helpers too")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use landfall::env::{self, EnvInput, Place, dotenv, dotenv_expand};
use landfall::spec::EnvSpec;
use serde::Deserialize;

type Pairs = BTreeMap<String, String>;

/// By file name, what a package makes of each case.
#[derive(Debug, PartialEq, Deserialize)]
struct Answers {
    cases: BTreeMap<String, Pairs>,
    expand: BTreeMap<String, Pairs>,
}

/// Fewer cases than this would not be worth the name of a comparison.
const CASES_MIN: usize = 60;

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dotenv")
}

fn recorded() -> Answers {
    let text = std::fs::read_to_string(here().join("expected.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// landfall's own answers to every case of a directory.
fn own(dir: &str, read: fn(&str) -> Pairs) -> BTreeMap<String, Pairs> {
    let files = std::fs::read_dir(here().join(dir)).unwrap().map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.extension().is_some_and(|extension| extension == "env"))
        .map(|path| {
            let text = String::from_utf8(std::fs::read(&path).unwrap()).unwrap();
            (path.file_name().unwrap().to_str().unwrap().to_owned(), read(&text))
        })
        .collect()
}

fn parsed(text: &str) -> Pairs {
    dotenv::parse(text).into_iter().collect()
}

fn expanded(text: &str) -> Pairs {
    let pairs = dotenv::parse(text);
    let keys: Vec<String> = pairs.iter().map(|(key, _)| key.clone()).collect();
    let mut env = pairs.into_iter().collect();
    dotenv_expand::expand(&keys, &mut env).unwrap();
    env
}

fn assert_same(own: &BTreeMap<String, Pairs>, theirs: &BTreeMap<String, Pairs>) {
    assert_eq!(own.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    let differ: Vec<String> = own
        .iter()
        .filter(|(name, pairs)| theirs[*name] != **pairs)
        .map(|(name, pairs)| format!("{name}: landfall {pairs:?}, npm {:?}", theirs[name]))
        .collect();
    assert!(differ.is_empty(), "{} of {} differ:\n{}", differ.len(), own.len(), differ.join("\n"));
}

/// The real packages, installed once from the lockfile into the build's temporary directory.
fn packages() -> &'static Path {
    static INSTALLED: OnceLock<PathBuf> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dotenv-reference");
        std::fs::create_dir_all(&dir).unwrap();
        for file in ["package.json", "package-lock.json"] {
            std::fs::copy(here().join(file), dir.join(file)).unwrap();
        }
        let arguments = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
        let output = run(Command::new("npm").args(arguments).current_dir(&dir));
        assert!(output.status.success(), "npm ci failed: {}", String::from_utf8_lossy(&output.stderr));
        dir
    })
}

/// Runs a tool this comparison cannot do without.
fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| {
        panic!(
            "{:?}: {error}\nthe comparison with the real dotenv needs Node 20 or newer with npm: \
             install them (Debian: apt-get install nodejs npm) and run the tests again",
            command.get_program()
        )
    })
}

#[test]
fn every_recorded_case_is_read_as_dotenv_reads_it() {
    let recorded = recorded();
    assert!(recorded.cases.len() >= CASES_MIN, "only {} cases", recorded.cases.len());
    assert_same(&own("cases", parsed), &recorded.cases);
}

#[test]
fn every_recorded_expansion_is_done_as_dotenv_expand_does_it() {
    assert_same(&own("expand", expanded), &recorded().expand);
}

#[test]
fn the_real_packages_answer_as_recorded() {
    let output =
        run(Command::new("node").arg(here().join("reference.cjs")).arg(here()).current_dir(packages()));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let real: Answers = serde_json::from_slice(&output.stdout).unwrap();
    assert_same(&real.cases, &recorded().cases);
    assert_same(&real.expand, &recorded().expand);
}

#[test]
fn two_layers_resolve_as_dotenv_cli_resolves_them_with_the_override_first() {
    let dir = tempfile::tempdir().unwrap();
    let base = "HOST=db\nPORT=1\nURL=\"http://${HOST}:${PORT}/$NAME\"\nKEEP='a b'\nEMPTIED=x\nPW='ab\\$cd'\n";
    let local = "PORT=2\nNAME=web\nOWN=${KEEP}/${HOST}\nEMPTIED=\nDEF=${NO:-none}\n";
    let (base_path, local_path) = (dir.path().join(".env.prod"), dir.path().join(".env.prod.local"));
    std::fs::write(&base_path, base).unwrap();
    std::fs::write(&local_path, local).unwrap();
    let clean: Pairs = [("PATH", std::env::var("PATH").unwrap()), ("HOME", "/nowhere".to_owned())]
        .map(|(key, value)| (key.to_owned(), value))
        .into();

    let output = run(Command::new("node")
        .arg(packages().join("node_modules/dotenv-cli/cli.js"))
        .arg("-e")
        .arg(&local_path)
        .arg("-e")
        .arg(&base_path)
        .args(["--", "node", "-p", "JSON.stringify(process.env)"])
        .env_clear()
        .envs(&clean));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let theirs: Pairs = serde_json::from_slice(&output.stdout).unwrap();

    let spec = EnvSpec { environments: vec!["prod".parse().unwrap()], expand: true, ..EnvSpec::default() };
    let none = Pairs::new();
    let resolved = env::resolve(&EnvInput {
        place: Place::Host,
        spec: &spec,
        environment: spec.environments.first(),
        clean: &clean,
        base: Some(&env::read_layer(&base_path).unwrap()),
        local: Some(&env::read_layer(&local_path).unwrap()),
        host: &none,
        landfall: &none,
    })
    .unwrap();
    assert_eq!(resolved.vars(), theirs);
}
