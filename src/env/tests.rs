use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::Path;

use landfall_store::Name;

use super::*;
use crate::spec::EnvSpec;

type Pairs = BTreeMap<String, String>;

fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> Pairs {
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

fn layer(name: &str, text: &str) -> Layer {
    parse_layer(Path::new(name), text.as_bytes().to_vec()).unwrap()
}

/// One environment with both layers, all fields replaceable.
struct World {
    place: Place,
    spec: EnvSpec,
    clean: Pairs,
    base: Option<Layer>,
    local: Option<Layer>,
    host: Pairs,
    landfall: Pairs,
}

impl World {
    fn new(base: &str, local: &str) -> Self {
        Self {
            place: Place::Host,
            spec: EnvSpec { environments: vec![prod()], ..EnvSpec::default() },
            clean: pairs([("PATH", "/bin"), ("HOME", "/home/web")]),
            base: Some(layer(".env.prod", base)),
            local: Some(layer(".env.prod.local", local)),
            host: Pairs::new(),
            landfall: pairs([("LANDFALL_ENV", "prod")]),
        }
    }

    fn resolve(&self) -> Result<ResolvedEnv, EnvError> {
        resolve(&EnvInput {
            place: self.place,
            spec: &self.spec,
            environment: Some(&self.spec.environments[0]),
            clean: &self.clean,
            base: self.base.as_ref(),
            local: self.local.as_ref(),
            host: &self.host,
            landfall: &self.landfall,
        })
    }

    fn fingerprint(&self) -> String {
        self.resolve().unwrap().fingerprint(&[7; 32]).to_string()
    }
}

fn prod() -> Name {
    "prod".parse().unwrap()
}

#[test]
fn each_layer_wins_over_the_ones_below_it_and_every_value_knows_its_origin() {
    let mut world = World::new("A=base\nB=base\nC=base\nD=base\nPATH=/base", "B=local\nC=local");
    world.clean.insert("E".into(), "clean".into());
    world.spec.set = pairs([("A", "set"), ("E", "set"), ("F", "${LANDFALL_ENV}!")]);
    world.host = pairs([("C", "host")]);
    let resolved = world.resolve().unwrap();
    let found: Vec<(&str, &str, String)> = resolved
        .entries
        .iter()
        .map(|(key, entry)| (key.as_str(), entry.value.as_str(), entry.origin.to_string()))
        .collect();
    let expected = [
        ("A", "base", "base layer .env.prod"),
        ("B", "local", "local layer .env.prod.local"),
        ("C", "host", "host.toml [apps] env"),
        ("D", "base", "base layer .env.prod"),
        ("E", "set", "recipe [env] set"),
        ("F", "prod!", "recipe [env] set"),
        ("HOME", "/home/web", "clean base"),
        ("LANDFALL_ENV", "prod", "landfall"),
        ("PATH", "/base", "base layer .env.prod"),
    ];
    assert_eq!(found, expected.map(|(key, value, origin)| (key, value, origin.to_owned())));
}

#[test]
fn nobody_overrides_what_landfall_says() {
    let world = World::new("LANDFALL_ENV=evil", "LANDFALL_ENV=evil");
    assert_eq!(world.resolve().unwrap().entries["LANDFALL_ENV"].value, "prod");
}

#[test]
fn an_empty_value_in_a_higher_layer_is_a_value() {
    let resolved = World::new("A=1", "A=").resolve().unwrap();
    assert_eq!(resolved.entries["A"].value, "");
}

#[test]
fn both_layers_are_needed_on_a_host_and_only_the_base_in_a_build() {
    let mut world = World::new("", "");
    world.local = None;
    let error = world.resolve().unwrap_err();
    assert_eq!(error.to_string(), "the local env layer `.env.prod.local` was found nowhere");
    world.place = Place::Build;
    world.resolve().unwrap();
    world.place = Place::Host;
    world.spec.local_optional = true;
    world.resolve().unwrap();
    world.base = None;
    let error = world.resolve().unwrap_err();
    assert!(matches!(error, EnvError::LayerMissing { layer: LayerKind::Base, .. }));
    world.spec.environments = vec!["prod".parse().unwrap()];
    world.spec.names = [(prod(), "production".to_owned())].into();
    assert!(world.resolve().unwrap_err().to_string().contains("`.env.production`"));
}

#[test]
fn required_keys_are_named_all_at_once_before_anything_is_touched() {
    let mut world = World::new("A=1\nEMPTY=", "");
    world.spec.required = vec!["Z".into(), "A".into(), "EMPTY".into(), "B".into()];
    let error = world.resolve().unwrap_err();
    assert_eq!(error.to_string(), "required keys are not set by any env layer: B, Z");
    world.place = Place::Build;
    world.resolve().unwrap();
}

#[test]
fn a_build_leaves_out_what_only_a_host_knows() {
    let mut world = World::new("", "");
    world.spec.set = pairs([("R", "${LANDFALL_RELEASE}"), ("E", "${LANDFALL_ENV}")]);
    assert!(matches!(world.resolve(), Err(EnvError::Unset { key }) if key == "LANDFALL_RELEASE"));
    world.place = Place::Build;
    let resolved = world.resolve().unwrap();
    assert!(!resolved.entries.contains_key("R"));
    assert_eq!(resolved.entries["E"].value, "prod");
}

#[test]
fn expansion_is_off_unless_asked_for_and_never_touches_what_is_not_from_a_file() {
    let mut world = World::new("A=$PATH\nB=${C}\nC=1", "D='p$C'");
    world.host = pairs([("H", "$C")]);
    assert_eq!(world.resolve().unwrap().entries["B"].value, "${C}");
    world.spec.expand = true;
    let resolved = world.resolve().unwrap();
    let value = |key: &str| resolved.entries[key].value.as_str();
    assert_eq!((value("A"), value("B"), value("D"), value("H")), ("/bin", "1", "p1", "$C"));
}

#[test]
fn an_expansion_without_an_end_is_an_error_and_not_a_hang() {
    let mut world = World::new("A=a$B\nB=b$C\nC=c$B", "");
    world.spec.expand = true;
    assert!(matches!(world.resolve(), Err(EnvError::EndlessExpansion { .. })));
    let doubling: String = (0..64).map(|n| format!("K{n}=${{K{}}}${{K{}}}\n", n + 1, n + 1)).collect();
    let mut world = World::new(&format!("{doubling}K64=xx"), "");
    world.spec.expand = true;
    assert!(matches!(world.resolve(), Err(EnvError::EndlessExpansion { .. })));
}

#[test]
fn no_debug_output_and_no_error_shows_a_value() {
    let canary = "s3cr3t-canary";
    let mut world = World::new(&format!("A={canary}\nB={canary}${{B"), &format!("A={canary}"));
    world.host = pairs([("H", canary)]);
    let resolved = world.resolve().unwrap();
    let shown = format!("{resolved:?} {:?} {:?} {:?}", world.base, world.local, resolved.entries["A"]);
    assert!(!shown.contains(canary), "{shown}");
    assert!(shown.contains("\"A\""), "keys are no secrets: {shown}");
    world.spec.required = vec!["Z".into()];
    let error = format!("{:?}", world.resolve().unwrap_err());
    assert!(!error.contains(canary), "{error}");
}

#[test]
fn the_fingerprint_is_that_of_the_layers_and_the_hosts_own_values_only() {
    let world = World::new("A=1\nB=2", "B=3");
    let fingerprint = world.fingerprint();

    let mut other = World::new("B=2\nA=1\nB=2", "# note\nB=3\n");
    other.clean = pairs([("PATH", "/elsewhere")]);
    other.landfall = pairs([("LANDFALL_ENV", "prod"), ("LANDFALL_RELEASE", "x")]);
    other.spec.set = pairs([("NODE_ENV", "production")]);
    assert_eq!(other.fingerprint(), fingerprint, "nothing that counts differs");

    other.host = pairs([("A", "2")]);
    assert_ne!(other.fingerprint(), fingerprint);
    assert_ne!(World::new("A=1\nB=2", "B=4").fingerprint(), fingerprint);
    let key = |byte| world.resolve().unwrap().fingerprint(&[byte; 32]);
    assert_ne!(key(1), key(2), "it cannot be tried without the host's secret");
    assert_ne!(World::new("A=1B", "").fingerprint(), World::new("A=1\nB=", "").fingerprint());
}

#[test]
fn the_first_place_that_has_a_layer_gives_it() {
    let root = tempfile::tempdir().unwrap();
    let dir = |name: &str| {
        let dir = root.path().join(name);
        std::fs::create_dir(&dir).unwrap();
        dir
    };
    let (env_dir, artifact) = (dir("etc"), dir("artifact"));
    let find = |flag: Option<&Path>| find_layer(flag, Some(&env_dir), Some(&artifact), ".env.prod");
    assert!(find(None).unwrap().is_none());
    std::fs::write(artifact.join(".env.prod"), "A=artifact").unwrap();
    assert_eq!(find(None).unwrap().unwrap().1, LayerSource::Artifact);
    std::fs::write(env_dir.join(".env.prod"), "A=etc").unwrap();
    assert_eq!(find(None).unwrap().unwrap().1, LayerSource::EnvDir);
    let flag = root.path().join("flag");
    assert!(matches!(find(Some(&flag)), Err(EnvError::NotFound { .. })), "a named file must exist");
    std::fs::write(&flag, "A=flag").unwrap();
    assert_eq!(find(Some(&flag)).unwrap().unwrap().0.pairs, [("A".to_owned(), "flag".to_owned())]);
}

#[test]
fn an_env_file_linked_to_itself_is_an_error_and_a_link_to_a_file_is_followed() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    symlink(".env.prod", at(".env.prod")).unwrap();
    assert!(matches!(read_layer(&at(".env.prod")), Err(EnvError::LinkLoop { .. })));
    symlink("b", at("a")).unwrap();
    symlink("a", at("b")).unwrap();
    assert!(matches!(read_layer(&at("a")), Err(EnvError::LinkLoop { .. })));
    std::fs::write(at("real"), "A=1").unwrap();
    symlink("real", at("link")).unwrap();
    assert_eq!(read_layer(&at("link")).unwrap().pairs.len(), 1);
    assert!(matches!(read_own_layer(&at("link")), Err(EnvError::Link { .. })));
    symlink("gone", at("dangling")).unwrap();
    assert!(matches!(read_layer(&at("dangling")), Err(EnvError::NotFound { .. })));
}

#[test]
fn what_is_not_a_regular_file_of_text_is_refused_without_waiting() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    assert!(matches!(read_layer(root.path()), Err(EnvError::NotRegular { .. })));
    let mode = rustix::fs::Mode::RUSR;
    rustix::fs::mknodat(rustix::fs::CWD, at("fifo"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
    assert!(matches!(read_layer(&at("fifo")), Err(EnvError::NotRegular { .. })));
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    assert!(matches!(read_layer(&at("socket")), Err(EnvError::NotRegular { .. })));
    assert!(matches!(read_layer(Path::new("/dev/null")), Err(EnvError::NotRegular { .. })));
    std::fs::write(at("large"), vec![b'#'; (1 << 20) + 1]).unwrap();
    assert!(matches!(read_layer(&at("large")), Err(EnvError::TooLarge { bytes: 1_048_577, .. })));
    std::fs::write(at("latin1"), b"A=1\nB=\xe9\n").unwrap();
    assert!(matches!(read_layer(&at("latin1")), Err(EnvError::NotUtf8 { line: 2, .. })));
    std::fs::write(at("nul"), b"A=1\nB=x\0y\n").unwrap();
    assert!(matches!(read_layer(&at("nul")), Err(EnvError::Nul { key, .. }) if key == "B"));
}

#[test]
fn a_large_file_is_read_in_linear_time() {
    let keys: String = (0..60_000).map(|n| format!("K{n}=v\n")).collect();
    assert_eq!(dotenv::parse(&keys).len(), 60_000);
    let blank = "\n".repeat(1 << 20);
    assert_eq!(dotenv::parse(&blank).len(), 0);
    let quotes = "A=\"\n".repeat(1 << 18);
    assert_eq!(dotenv::parse(&quotes).len(), 1);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(5_000))]

    #[test]
    fn any_text_is_read_and_expanded_without_panic_or_hang(text in "[A-C=\"'`#$\\{\\}\\\\ \n\r:+-]{0,60}") {
        let pairs = dotenv::parse(&text);
        proptest::prop_assert!(pairs.iter().all(|(key, _)| key::check(key).is_ok()));
        let keys: Vec<String> = pairs.iter().map(|(key, _)| key.clone()).collect();
        let mut env: Pairs = pairs.into_iter().collect();
        let _ends = dotenv_expand::expand(&keys, &mut env);
        let _ends = expand(&text, &env);
    }
}
