use std::path::{Path, PathBuf};

use landfall_store::Name;

use super::*;
use crate::document::ProblemKind;
use crate::spec::{ManagerKind, Millis, Pm2Mode};

const EXAMPLE: &str = r#"
host = "web-1"
environment = "prod"
roles = ["server"]
store = "https://artifacts.internal/landfall"
migrator = false
[state]
git = "ssh://git@git.internal/state.git"
mirrors = ["https://mirror.internal/state.git"]
branch = "main"
poll = "30s"
history = "any"
[cache]
max_bytes = "20GiB"
[trust]
operators = ["maria@example.com"]
allowed_signers = "allowed_signers"
[apps.web]
user = "web"
dir = "/data/frontend/web"
env_dir = "/etc/landfall/env/web"
env = { PORT = "3100" }
start = { manager = "direct", instances = 1 }
on_env_change = "deploy"
"#;

fn parse(text: &str) -> Result<HostConfig, ConfigError> {
    HostConfig::parse(text, Path::new("/etc/landfall/host.toml"), "Host-7.internal")
}

fn problem(text: &str) -> Problem {
    match parse(text) {
        Err(ConfigError::Invalid(problem)) => problem,
        other => panic!("this is not a problem in the text: {other:?}"),
    }
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

#[test]
fn the_documented_configuration_says_what_it_looks_like() {
    let config = parse(EXAMPLE).unwrap();
    assert_eq!(config.store, Some(StoreLocation::Http("https://artifacts.internal/landfall".into())));
    let state = config.state.as_ref().unwrap();
    assert_eq!((state.poll, state.history), (Millis(30_000), History::Any));
    assert!(matches!(
        &state.location,
        StateLocation::Git(Repository { remotes, branch, path, .. })
            if remotes.len() == 2 && branch.name() == "main" && path.as_str() == "deploy-state.json"
    ));
    assert_eq!(config.cache_max_bytes, Some(20 << 30));
    assert_eq!(config.trust.allowed_signers, Some(PathBuf::from("/etc/landfall/allowed_signers")));
    assert!(config.trust.is_configured() && !config.migrator);
    let app = config.app(&name("web")).unwrap();
    assert_eq!(app.user.as_deref(), Some("web"));
    assert_eq!(app.env["PORT"], "3100");
    assert_eq!(app.start.manager, Some(ManagerKind::Direct));
    assert_eq!(app.on_env_change, OnEnvChange::Deploy);
    assert_eq!(config.app(&name("api")), None, "an app that is not named is not for this host");
}

#[test]
fn an_empty_file_is_a_host_of_that_name_with_every_app() {
    let config = parse("").unwrap();
    assert_eq!(config.host.as_str(), "host-7.internal");
    assert_eq!(config.app(&name("anything")), Some(AppConfig::default()));
    assert!(config.migrator && !config.trust.is_configured());
    let own = HostConfig::default_for(Path::new("/var/lib/landfall"));
    let store = own.map(|config| config.store);
    assert!(
        matches!(store, Ok(Some(StoreLocation::Dir(dir))) if dir == Path::new("/var/lib/landfall/store"))
    );
}

#[test]
fn a_host_name_that_is_no_name_asks_for_one() {
    let nameless = HostConfig::parse("", Path::new("host.toml"), "(none)").unwrap_err();
    assert!(nameless.hint().unwrap().contains("host = "));
    HostConfig::parse("host = \"a\"", Path::new("host.toml"), "(none)").unwrap();
}

#[test]
fn a_mistyped_key_is_named_with_the_key_that_was_meant() {
    let problem = problem("[apps.web]\nenvdir = \"/x\"\n");
    assert_eq!((problem.kind(), problem.line()), (ProblemKind::UnknownKey, 2));
    assert_eq!(problem.at(), "apps.web.envdir");
    assert_eq!(problem.hint(), Some("did you mean `env_dir`?"));
    parse("x-rack = 4\n[apps.web]\nx-note = \"\"").unwrap();
}

#[test]
fn an_app_can_be_switched_off_on_one_host() {
    let config = parse("[apps.web]\nenabled = false\n[apps.api]").unwrap();
    assert_eq!(config.app(&name("web")), None);
    assert_eq!(config.app(&name("api")), Some(AppConfig::default()));
}

#[test]
fn every_kind_of_store_is_told_apart_and_credentials_are_refused_without_being_repeated() {
    let store = |text: &str| StoreLocation::parse(text, Path::new("/etc/landfall"));
    assert_eq!(store("/srv/store"), Ok(StoreLocation::Dir("/srv/store".into())));
    assert_eq!(store("store"), Ok(StoreLocation::Dir("/etc/landfall/store".into())));
    assert_eq!(store("file:///srv/s"), Ok(StoreLocation::Dir("/srv/s".into())));
    assert_eq!(store("http://a/b/"), Ok(StoreLocation::Http("http://a/b".into())));
    let s3 = StoreLocation::S3 { bucket: "b".into(), prefix: "p/q".into() };
    assert_eq!(store("s3://b/p/q/"), Ok(s3));
    for bad in ["", "ftp://a", "https://", "s3:///x"] {
        assert!(store(bad).is_err(), "{bad}");
    }
    let error = store("https://me:hunter2@a/b").unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2"));
    let git = problem("[state]\ngit = \"https://me:hunter2@a/b.git\"");
    assert!(!format!("{git:?}").contains("hunter2"));
}

#[test]
fn a_state_is_a_file_or_a_repository_and_git_is_never_given_an_option() {
    assert!(problem("[state]\nbranch = \"main\"").what().contains("exactly one"));
    assert!(problem("[state]\nfile = \"a\"\ngit = \"b\"").what().contains("exactly one"));
    assert!(problem("[state]\nfile = \"a\"\npoll = \"10s\"").what().contains("watched"));
    let file = parse("[state]\nfile = \"deploy-state.json\"").unwrap().state.unwrap();
    assert_eq!(file.location, StateLocation::File("/etc/landfall/deploy-state.json".into()));
    for bad in ["--upload-pack=x", "", "a b"] {
        assert_eq!(problem(&format!("[state]\ngit = {bad:?}")).kind(), ProblemKind::Invalid);
    }
    for bad in ["-x", "a..b", "a b", "/a", "a/", "a.lock", "a~1", ""] {
        assert_eq!(problem(&format!("[state]\ngit = \"/g\"\nbranch = {bad:?}")).at(), "state.branch");
    }
    for bad in ["/a", "../a", ".git/config", "a//b", "a:b", ""] {
        assert_eq!(problem(&format!("[state]\ngit = \"/g\"\npath = {bad:?}")).at(), "state.path");
    }
    assert!(problem("[state]\ngit = \"/g\"\npoll = \"1s\"").hint().unwrap().contains("reconcile"));
}

#[test]
fn paths_and_accounts_of_an_app_are_checked() {
    for line in [
        "dir = \"data\"",
        "dir = \"/a/../b\"",
        "env_dir = \"\"",
        "user = \"a b\"",
        "user = \"-a\"",
        "env = { \"A=B\" = \"x\" }",
        "env = { LANDFALL_APP = \"x\" }",
        "env = { PORT = 3100 }",
        "start = \"pm3\"",
        "start = { instances = 0 }",
        "on_env_change = \"restart\"",
    ] {
        assert_eq!(problem(&format!("[apps.web]\n{line}")).line(), 2, "{line}");
    }
    assert_eq!(problem("[apps.Web]").kind(), ProblemKind::Invalid);
}

#[test]
fn a_start_override_changes_what_it_names_and_nothing_else() {
    let recipe = "app = \"web\"\nversion = \"1\"\n[start]\nmanager = \"pm2\"\nrun = [\"node\", \"a.js\"]\ninstances = 4\nmode = \"cluster\"";
    let recipe = crate::recipe::Recipe::parse(recipe, Path::new("landfall.toml")).unwrap();
    let start = recipe.release_spec("1".parse().unwrap()).start.remove(0);
    assert_eq!(StartOverride::default().apply(&start), start);
    let applied = |line: &str| {
        let config = parse(&format!("[apps.web]\nstart = {line}")).unwrap();
        config.app(&name("web")).unwrap().start.apply(&start)
    };
    let fork = applied("{ mode = \"fork\" }");
    assert_eq!((fork.manager, fork.instances, fork.mode), (ManagerKind::Pm2, 4, Some(Pm2Mode::Fork)));
    assert_eq!(serde_json::to_string(&StartOverride::default()).unwrap(), "{}");
}

#[test]
fn a_cluster_is_one_process_under_a_manager_that_shares_no_port() {
    let recipe = |mode: &str| {
        let text = format!(
            "app = \"web\"\nversion = \"1\"\n[start]\nmanager = \"pm2\"\nrun = [\"node\", \"a.js\"]\ninstances = 4\n{mode}"
        );
        let recipe = crate::recipe::Recipe::parse(&text, Path::new("landfall.toml")).unwrap();
        recipe.release_spec("1".parse().unwrap()).start.remove(0)
    };
    let direct = StartOverride { manager: Some(ManagerKind::Direct), ..StartOverride::default() };
    assert_eq!(direct.apply(&recipe("")).instances, 1);
    assert_eq!(direct.apply(&recipe("mode = \"cluster\"")).instances, 1);
    assert_eq!(direct.apply(&recipe("mode = \"fork\"")).instances, 4);
    assert_eq!(StartOverride { instances: Some(3), ..direct }.apply(&recipe("")).instances, 3);
}

#[test]
fn what_an_app_says_to_one_manager_is_not_waited_for_by_another() {
    let recipe = "app = \"web\"\nversion = \"1\"\n[start]\nmanager = \"pm2\"\nrun = [\"a\"]\nready = true\nlisten_timeout = \"9s\"";
    let recipe = crate::recipe::Recipe::parse(recipe, Path::new("landfall.toml")).unwrap();
    let start = recipe.release_spec("1".parse().unwrap()).start.remove(0);
    let under = |manager: &str| {
        let config = parse(&format!("[apps.web]\nstart = {manager:?}")).unwrap();
        let start = config.app(&name("web")).unwrap().start.apply(&start);
        (start.ready, start.listen_timeout.is_some())
    };
    assert_eq!(under("pm2"), (true, true));
    assert_eq!(under("systemd"), (false, false));
}

#[test]
fn a_missing_file_is_named() {
    let missing = HostConfig::read(Path::new("/nonexistent/host.toml"));
    assert!(matches!(missing, Err(ConfigError::Missing { path }) if path.ends_with("host.toml")));
}
