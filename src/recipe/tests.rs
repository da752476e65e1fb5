use std::path::Path;

use super::*;
use crate::document::ProblemKind;
use crate::spec::{Check, Command, ManagerKind, Millis, Pm2Mode, StepKind};

/// The example of the documentation, in full.
const EXAMPLE: &str = r#"
app = "web"
version = { file = "package.json" }

[build]
run = ["pnpm", "build"]

[[layer]]
name = "deps"
roles = ["server"]
files = [{ from = "pack/node_modules", to = "node_modules" }]
exclude = ["**/*.md"]

[[layer]]
name = "env"
kind = "env"

[env]
environments = ["dev", "staging", "prod"]
names = { prod = "production" }
set = { NODE_ENV = "production" }
required = ["DATABASE_URL"]

[paths]
writable = [".next/cache", ".next/server"]
shared = ["uploads"]

[[step]]
name = "migrate"
kind = "migrate"
run = ["pnpm", "exec", "prisma", "migrate", "deploy"]
timeout = "5m"
writes = ["node_modules"]

[start]
manager = "pm2"
run = ["node", "server.js"]
instances = 2
stop = { signal = "SIGINT", grace = "5s" }
memory_max = "768MiB"

[health]
http = "http://127.0.0.1:${PORT}/api/health"
body_contains = '"status":"ok"'
attempts = 30
interval = "2s"

[retain]
releases = 5
"#;

fn parse(text: &str) -> Result<Recipe, RecipeError> {
    Recipe::parse(text, Path::new("landfall.toml"))
}

/// The smallest recipe with `more` after it.
fn with(more: &str) -> Result<Recipe, RecipeError> {
    parse(&format!("app = \"web\"\nversion = \"1.0.0\"\n{more}"))
}

fn problem(result: Result<Recipe, RecipeError>) -> Problem {
    match result {
        Err(RecipeError::Invalid(problem)) => problem,
        other => panic!("this is not a problem in the text: {other:?}"),
    }
}

#[track_caller]
fn refused(more: &str, kind: ProblemKind, text: &str) {
    let problem = problem(with(more));
    assert_eq!(problem.kind(), kind, "{problem:?}");
    assert!(format!("{problem:?}").contains(text), "{problem:?} does not say {text:?}");
}

#[test]
fn the_documented_recipe_says_what_it_looks_like() {
    let recipe = parse(EXAMPLE).unwrap();
    let spec = recipe.release_spec("1.2.3".parse().unwrap());
    assert_eq!(recipe.version, VersionSource::File("package.json".into()));
    assert_eq!(recipe.layers[0].files[0].to, "node_modules");
    assert_eq!(recipe.layers[1].kind, LayerKind::Env);
    assert_eq!(spec.env.file_name(&"prod".parse().unwrap()), "production");
    assert_eq!(spec.steps[0].kind, StepKind::Migrate);
    assert_eq!(spec.steps[0].timeout, Millis(300_000));
    assert_eq!(spec.start[0].manager, ManagerKind::Pm2);
    assert_eq!(spec.start[0].memory_max, Some(768 << 20));
    assert_eq!(spec.start[0].stop.signal, "SIGINT");
    assert!(matches!(&spec.health[0].check, Check::Http(url) if url.contains("${PORT}")));
    assert_eq!((spec.health[0].successes, spec.health[0].settle), (2, Millis(3_000)));
    assert_eq!(spec.retain, Some(5));
}

#[test]
fn a_release_spec_survives_the_artifact() {
    let spec = parse(EXAMPLE).unwrap().release_spec("1.2.3".parse().unwrap());
    let json = serde_json::to_string(&spec).unwrap();
    assert_eq!(serde_json::from_str::<ReleaseSpec>(&json).unwrap(), spec);
}

#[test]
fn the_same_text_is_the_same_recipe_wherever_it_lies() {
    let here = parse(EXAMPLE).unwrap();
    let archived = Recipe::parse(EXAMPLE, Path::new("archive.tgz/landfall.toml")).unwrap();
    assert_eq!(here, archived);
}

#[test]
fn a_mistyped_key_is_named_with_its_place_and_the_key_that_was_meant() {
    let problem = problem(with("[start]\nrun = [\"a\"]\ninstanses = 2\n"));
    assert_eq!(problem.kind(), ProblemKind::UnknownKey);
    assert_eq!((problem.line(), problem.column(), problem.at()), (5, 1, "start.instanses"));
    assert_eq!(problem.to_string(), "landfall.toml:5:1: start.instanses: unknown key `instanses`");
    assert_eq!(problem.hint(), Some("did you mean `instances`?"));
}

#[test]
fn keys_that_begin_with_x_are_free_in_every_table() {
    with(
        "x-team = 1\n[build]\nrun = [\"a\"]\nx-why = []\n[start]\nrun = [\"a\"]\nx-y = 1\nstop = { x-z = 1 }",
    )
    .unwrap();
}

#[test]
fn each_of_the_four_tables_may_be_one_or_many() {
    let many = with(
        "[[start]]\nname = \"web\"\nrun = [\"a\"]\n[[start]]\nname = \"worker\"\nroles = [\"worker\"]\nrun = [\"b\"]\n\
         [step]\nrun = [\"c\"]\n[[health]]\ntcp = \"127.0.0.1:80\"\n[preflight]\nname = \"web\"\n",
    )
    .unwrap()
    .release_spec("1".parse().unwrap());
    assert_eq!(many.start.len(), 2);
    assert_eq!(many.steps[0].name.as_str(), "main");
    assert!(many.preflight[0].enabled);
    refused("[[start]]\nrun = [\"a\"]\n[[start]]\nrun = [\"b\"]", ProblemKind::Missing, "`name`");
    refused(
        "[[start]]\nname = \"a\"\nrun = [\"a\"]\n[[start]]\nname = \"a\"\nrun = [\"b\"]",
        ProblemKind::Duplicate,
        "used twice",
    );
}

#[test]
fn a_build_may_differ_by_environment() {
    let recipe =
        with("[build]\nrun.dev = [\"build\", \"--dev\"]\nrun.default = [\"build\", \"--prod\"]").unwrap();
    let build = recipe.build.unwrap();
    let command = |name: &str| build.command_for(Some(&name.parse().unwrap())).cloned();
    let run = |flag: &str| Some(Command::Run(vec!["build".into(), flag.into()]));
    assert_eq!(command("dev"), run("--dev"));
    assert_eq!(command("prod"), run("--prod"));
    assert_eq!(build.command_for(None).cloned(), run("--prod"));

    let only_dev = with("[build]\nrun.dev = [\"a\"]").unwrap().build.unwrap();
    assert_eq!(only_dev.command_for(Some(&"prod".parse().unwrap())), None);
}

#[test]
fn paths_that_leave_the_release_or_the_source_are_refused() {
    for bad in ["/etc", "../x", "a/../b", "a//b", "./a", "a/.", ""] {
        refused(&format!("[paths]\nwritable = [{bad:?}]"), ProblemKind::Invalid, "writable[0]");
        refused(&format!("[paths]\nshared = [{bad:?}]"), ProblemKind::Invalid, "shared[0]");
        refused(&format!("[paths]\nlogs = {bad:?}"), ProblemKind::Invalid, "paths.logs");
        refused(&format!("[step]\nrun = [\"a\"]\nwrites = [{bad:?}]"), ProblemKind::Invalid, "writes[0]");
    }
    for bad in ["/srv/app", "..", "../dist", "a/../../b", ""] {
        let layer = format!("[[layer]]\nname = \"app\"\nfiles = [{{ from = {bad:?}, to = \"x\" }}]");
        refused(&layer, ProblemKind::Invalid, "from");
    }
    for bad in ["/srv/app", "../dist", ".landfall/x"] {
        let layer = format!("[[layer]]\nname = \"app\"\nfiles = [{{ from = \"dist\", to = {bad:?} }}]");
        refused(&layer, ProblemKind::Invalid, "files[0]");
    }
    refused(&format!("version2 = 1\n[paths]\nkeep = [{:?}]", "a"), ProblemKind::UnknownKey, "version");
}

#[test]
fn a_file_without_to_keeps_its_place() {
    let recipe = with("[[layer]]\nname = \"app\"\nfiles = [{ from = \"dist/\" }, { from = \".\" }]").unwrap();
    assert_eq!(recipe.layers[0].files[0].to, "dist");
    assert_eq!(recipe.layers[0].files[1].to, "");
}

#[test]
fn layers_that_some_host_would_get_twice_are_refused() {
    let layer = |name: &str, more: &str| {
        format!("[[layer]]\nname = \"{name}\"\nfiles = [{{ from = \"dist\", to = \"dist\" }}]\n{more}\n")
    };
    let twice = layer("a", "") + &layer("b", "roles = [\"static\"]");
    refused(&twice, ProblemKind::Invalid, "both pack `dist`");
    with(&(layer("a", "roles = [\"server\"]") + &layer("b", "roles = [\"static\"]"))).unwrap();
    with(&(layer("a", "exclude = [\"*.map\"]") + &layer("b", "exclude = [\"*.js\"]"))).unwrap();
    refused(&(layer("a", "") + &layer("a", "")), ProblemKind::Duplicate, "declared twice");
}

#[test]
fn reserved_keys_and_mounts_are_refused() {
    for key in ["sealed = true", "external_links = []", "perm = \"0755\""] {
        let layer = format!("[[layer]]\nname = \"app\"\nfiles = [{{ from = \"a\" }}]\n{key}");
        refused(&layer, ProblemKind::Reserved, "reserved");
    }
    let mount = |at: &str| format!("[[layer]]\nname = \"a\"\nfiles = [{{ from = \"a\" }}]\nmount = {at:?}");
    refused(&mount("static"), ProblemKind::Reserved, "only mount");
    with(&mount("")).unwrap();
}

#[test]
fn a_socket_is_an_address_and_port_and_not_for_pm2() {
    let start = |lines: &str| format!("[start]\nrun = [\"a\"]\n{lines}");
    for address in ["127.0.0.1:3100", "[::1]:80", "0.0.0.0:${PORT}", "${LISTEN}"] {
        let recipe = with(&start(&format!("socket = {address:?}"))).unwrap();
        let spec = recipe.release_spec("1".parse().unwrap());
        assert_eq!(spec.start[0].socket.as_deref(), Some(address));
    }
    for address in ["localhost:80", "3100", "127.0.0.1:0", "127.0.0.1", ""] {
        refused(&start(&format!("socket = {address:?}")), ProblemKind::Invalid, "address and port");
    }
    let pm2 = start("manager = \"pm2\"\nsocket = \"127.0.0.1:80\"");
    refused(&pm2, ProblemKind::Invalid, "the manager `pm2` does not know this");
    with(&start("manager = \"systemd\"\nsocket = \"127.0.0.1:80\"")).unwrap();
}

#[test]
fn a_recipe_without_a_socket_says_nothing_of_one() {
    let spec = with("[start]\nrun = [\"a\"]").unwrap().release_spec("1".parse().unwrap());
    assert!(!serde_json::to_string(&spec.to_map()).unwrap().contains("socket"), "ids would change");
}

#[test]
fn words_outside_their_lists_are_refused_with_the_list() {
    refused("[start]\nrun = [\"a\"]\nmanager = \"pm3\"", ProblemKind::Invalid, "did you mean `pm2`?");
    refused("[start]\nrun = [\"a\"]\nstop = { signal = \"SIGKILL\" }", ProblemKind::Invalid, "SIGTERM");
    refused("[start]\nrun = [\"a\"]\nstop = { signal = \"TERM\" }", ProblemKind::Invalid, "SIGTERM");
    refused("[step]\nrun = [\"a\"]\nkind = \"before\"", ProblemKind::Invalid, "migrate");
    refused("[env]\nlocal = \"maybe\"", ProblemKind::Invalid, "optional");
    refused("[start]\nrun = [\"a\"]\nmanager = \"pm2\"\nmode = \"forks\"", ProblemKind::Invalid, "cluster");
}

#[test]
fn readiness_is_for_managers_that_wait_for_it() {
    let start =
        |manager: &str, lines: &str| format!("[start]\nrun = [\"a\"]\nmanager = {manager:?}\n{lines}");
    let spec =
        with(&start("systemd", "ready = true\nlisten_timeout = \"20s\"\nmemory_max = \"1GiB\"")).unwrap();
    assert!(spec.release_spec("1".parse().unwrap()).start[0].ready);
    with(&start("pm2", "listen_timeout = \"20s\"")).unwrap();
    refused(
        &start("systemd", "listen_timeout = \"20s\""),
        ProblemKind::Invalid,
        "waits for the app only when",
    );
    refused(
        &start("direct", "ready = true"),
        ProblemKind::Invalid,
        "the manager `direct` does not know this",
    );
    refused(
        &start("systemd", "mode = \"fork\""),
        ProblemKind::Invalid,
        "the manager `systemd` does not know this",
    );
}

#[test]
fn a_command_is_a_list_unless_it_says_shell() {
    refused("[start]\nrun = \"node server.js\"", ProblemKind::Invalid, "[\"node\", \"server.js\"]");
    refused("[start]\nrun = []", ProblemKind::Invalid, "1 to");
    refused("[start]\nrun = [\"a\"]\nshell = \"b\"", ProblemKind::Invalid, "exclude each other");
    refused("[start]\nrun = [\"--port=${PORT\"]", ProblemKind::Invalid, "malformed reference");
    refused("[start]\ninstances = 1", ProblemKind::Missing, "`run`");
    let shell = with("[step]\nshell = \"a && b ${X:-1}\"").unwrap();
    assert_eq!(
        shell.release_spec("1".parse().unwrap()).steps[0].command,
        Command::Shell("a && b ${X:-1}".into())
    );
}

#[test]
fn a_light_artifact_never_packs_node_modules() {
    let modules =
        "[[layer]]\nname = \"deps\"\nfiles = [{ from = \"node_modules\", to = \"node_modules\" }]\n";
    for install in [
        "run = [\"pnpm\", \"install\", \"--prod\"]\nwrites = [\"node_modules\"]",
        "run = [\"npm\", \"--silent\", \"ci\"]",
        "shell = \"cd . && npm install --omit=dev\"",
    ] {
        refused(&format!("{modules}[step]\n{install}"), ProblemKind::Invalid, "node_modules");
    }
    let full = with(&format!(
        "{modules}[step]\nrun = [\"pnpm\", \"exec\", \"prisma\", \"generate\"]\nwrites = [\"node_modules\"]"
    ))
    .unwrap();
    assert_eq!(full.installs_dependencies(), None);
    let light = with("[step]\nname = \"deps\"\nrun = [\"pnpm\", \"install\"]").unwrap();
    assert_eq!(light.installs_dependencies().map(Name::as_str), Some("deps"));
}

#[test]
fn preserved_links_are_refused_with_pm2_and_allowed_without() {
    for line in [
        "run = [\"node\", \"--preserve-symlinks\", \"a.js\"]",
        "run = [\"node\", \"a.js\"]\nnode_args = [\"--preserve-symlinks-main\"]",
        "shell = \"node --preserve-symlinks a.js\"",
        "run = [\"node\", \"a.js\"]\n[env]\nset = { NODE_OPTIONS = \"--preserve-symlinks\" }",
    ] {
        refused(
            &format!("[start]\nmanager = \"pm2\"\n{line}"),
            ProblemKind::Invalid,
            "cannot be used with pm2",
        );
    }
    with("[start]\nrun = [\"node\", \"--preserve-symlinks\", \"a.js\"]").unwrap();
}

#[test]
fn a_packed_path_and_a_shared_path_exclude_each_other() {
    let layer = |to: &str| {
        format!(
            "[[layer]]\nname = \"a\"\nfiles = [{{ from = \"a\", to = {to:?} }}]\n[paths]\nshared = [\"up\"]"
        )
    };
    refused(&layer("up"), ProblemKind::Invalid, "shared");
    refused(&layer("up/x"), ProblemKind::Invalid, "shared");
    with(&layer("upper")).unwrap();
    refused(
        "[paths]\nshared = [\"a\"]\nwritable = [\"a/b\"]",
        ProblemKind::Invalid,
        "both writable and shared",
    );
}

#[test]
fn an_env_layer_and_its_environments_belong_together() {
    let layer = "[[layer]]\nname = \"env\"\nkind = \"env\"\n";
    refused(layer, ProblemKind::Invalid, "no environments");
    refused("[env]\nenvironments = [\"prod\"]", ProblemKind::Invalid, "without an env layer");
    with(&format!("{layer}[env]\nenvironments = [\"prod\"]")).unwrap();
    refused("[[layer]]\nname = \"env\"\nfiles = [{ from = \"a\" }]", ProblemKind::Invalid, "env layer");
    refused("[[layer]]\nname = \"e\"\nkind = \"env\"", ProblemKind::Invalid, "always named");
    refused(&format!("{layer}files = []"), ProblemKind::Invalid, "nothing else");
    let names = "[env]\nenvironments = [\"prod\"]\nnames = { prdo = \"production\" }";
    refused(&format!("{layer}{names}"), ProblemKind::Invalid, "`prdo`");
    let local = "[env]\nenvironments = [\"prod\"]\nnames = { prod = \"prod.local\" }";
    refused(&format!("{layer}{local}"), ProblemKind::Invalid, "local layer");
}

#[test]
fn set_lies_below_every_layer_and_so_knows_only_landfalls_own_keys() {
    with("[env]\nset = { SERVER_ENV = \"${LANDFALL_ENV}\" }").unwrap();
    refused("[env]\nset = { A = \"${HOME}\" }", ProblemKind::Invalid, "not known this early");
    refused("[env]\nset = { LANDFALL_ENV = \"x\" }", ProblemKind::Invalid, "landfall's own");
    refused("[env]\nset = { \"A=B\" = \"x\" }", ProblemKind::Invalid, "not an environment key");
}

#[test]
fn a_health_check_asks_one_thing_in_one_way() {
    refused("[health]\nattempts = 3", ProblemKind::Invalid, "exactly one");
    refused("[health]\ntcp = \"a:1\"\nrun = [\"b\"]", ProblemKind::Invalid, "exactly one");
    refused("[health]\nhttp = \"https://x/\"", ProblemKind::Invalid, "plain HTTP");
    refused("[health]\nhttp = \"http://u:p@x/\"", ProblemKind::Invalid, "password");
    refused("[health]\ntcp = \"localhost\"", ProblemKind::Invalid, "host:port");
    refused("[health]\ntcp = \"a:1\"\nbody_contains = \"x\"", ProblemKind::Invalid, "only an http");
    refused("[health]\ntcp = \"a:1\"\ninterval = \"0s\"", ProblemKind::Invalid, "zero");
    refused("[health]\ntcp = \"a:1\"\ninterval = 2", ProblemKind::WrongShape, "a string is needed");
    refused("[health]\ntcp = \"a:1\"\nattempts = 0", ProblemKind::Invalid, "from 1");
}

#[test]
fn a_pm2_cluster_is_tried_before_the_switch_unless_the_recipe_says_otherwise() {
    let tried = |start: &str| with(start).unwrap().release_spec("1".parse().unwrap()).preflight;
    let cluster = "[start]\nmanager = \"pm2\"\nrun = [\"node\", \"a.js\"]\ninstances = 2\n";
    assert!(tried(cluster)[0].enabled);
    assert!(!tried(&format!("{cluster}[preflight]\nenabled = false"))[0].enabled);
    assert_eq!(tried("[start]\nrun = [\"node\", \"a.js\"]\ninstances = 2\n"), vec![]);
    assert_eq!(tried("[start]\nmanager = \"pm2\"\nrun = [\"node\", \"a.js\"]\n"), vec![]);
    refused(
        "[start]\nrun = [\"a\"]\n[preflight]\nname = \"worker\"",
        ProblemKind::Invalid,
        "no process `worker`",
    );
}

#[test]
fn pm2_runs_node_entries_with_several_instances_as_a_cluster() {
    let mode = |start: &str| pm2_mode(&with(start).unwrap().release_spec("1".parse().unwrap()).start[0]);
    assert_eq!(mode("[start]\nmanager=\"pm2\"\nrun=[\"node\",\"a.js\"]\ninstances=2"), Pm2Mode::Cluster);
    assert_eq!(mode("[start]\nmanager=\"pm2\"\nrun=[\"node\",\"a.js\"]"), Pm2Mode::Fork);
    assert_eq!(mode("[start]\nmanager=\"pm2\"\nrun=[\"./server\"]\ninstances=2"), Pm2Mode::Fork);
    assert_eq!(
        mode("[start]\nmanager=\"pm2\"\nrun=[\"node\",\"a.js\"]\ninstances=2\nmode=\"fork\""),
        Pm2Mode::Fork
    );
}

#[test]
fn a_cluster_is_made_of_node_processes() {
    let start = |run: &str| format!("[start]\nmanager = \"pm2\"\nmode = \"cluster\"\n{run}");
    refused(&start("run = [\"npm\", \"start\"]"), ProblemKind::Invalid, "cluster mode needs");
    refused(&start("shell = \"node a.js\""), ProblemKind::Invalid, "cluster mode needs");
    with(&start("run = [\"/usr/bin/node\", \"a.js\"]")).unwrap();
}

#[test]
fn keys_a_manager_cannot_honour_are_refused_and_not_ignored() {
    for line in ["mode = \"fork\"", "ready = true", "listen_timeout = \"1s\"", "memory_max = \"1GiB\""] {
        refused(&format!("[start]\nrun = [\"a\"]\n{line}"), ProblemKind::Invalid, "does not know this");
    }
}

#[test]
fn a_version_comes_from_the_file_people_keep_it_in() {
    let version = |file: &str, text: &str| {
        VersionSource::in_file(Path::new(file), text).map(|v| v.to_string()).map_err(|e| e.to_string())
    };
    assert_eq!(version("package.json", r#"{"version":"1.2.3"}"#), Ok("1.2.3".into()));
    assert_eq!(version("Cargo.toml", "[package]\nversion = \"0.1.0\""), Ok("0.1.0".into()));
    assert_eq!(version("VERSION", "v7\n"), Ok("v7".into()));
    assert!(version("package.json", "{}").unwrap_err().contains("there is no version"));
    assert!(version("package.json", "{").unwrap_err().starts_with("package.json:"));
    assert!(version("VERSION", "1 2").is_err());
}

#[test]
fn text_that_is_not_toml_is_refused_with_its_line() {
    let problem = problem(parse("app = \"web\"\nversion = \n"));
    assert_eq!((problem.kind(), problem.line()), (ProblemKind::Syntax, 2));
    let twice = match parse("app = \"a\"\napp = \"b\"\n") {
        Err(RecipeError::Invalid(problem)) => problem,
        other => panic!("{other:?}"),
    };
    assert_eq!((twice.kind(), twice.line()), (ProblemKind::Duplicate, 2));
}

/// Half of an example with something else in the middle: near enough to a recipe to get past the first check.
fn mutated() -> impl proptest::strategy::Strategy<Value = String> {
    use proptest::prelude::*;
    let cut =
        (any::<prop::sample::Index>(), any::<prop::sample::Index>(), "[a-z\\[\\]{}=\"'$.,0-9\n é\\\\]{0,12}");
    cut.prop_map(|(from, to, text)| {
        let at = |index: prop::sample::Index| EXAMPLE.floor_char_boundary(index.index(EXAMPLE.len()));
        let (from, to) = (at(from).min(at(to)), at(from).max(at(to)));
        [&EXAMPLE[..from], &text, &EXAMPLE[to.min(from + 40).max(from)..]].concat()
    })
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(5_000))]

    #[test]
    fn whatever_is_written_is_a_recipe_or_a_problem_with_a_place(text in mutated()) {
        match parse(&text) {
            Ok(recipe) => {
                let spec = recipe.release_spec("1".parse().unwrap());
                let json = serde_json::to_string(&spec).unwrap();
                proptest::prop_assert_eq!(serde_json::from_str::<ReleaseSpec>(&json).unwrap(), spec);
            }
            Err(RecipeError::Invalid(problem)) => {
                proptest::prop_assert!(problem.line() >= 1 && problem.line() <= text.lines().count() + 1);
                proptest::prop_assert!(!problem.what().is_empty());
            }
            Err(other) => proptest::prop_assert!(false, "{other}"),
        }
    }
}
