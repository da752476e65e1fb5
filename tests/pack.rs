//! The commands of the build machine, by what people type: pack, import, export, push, ls, show, diff, init.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod support;

use std::fs::{FileTimes, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use support::host::Said;
use support::{Host, Source};

/// Longer than the tick in which a file could change again unseen: younger files are always read.
const SETTLED: Duration = Duration::from_millis(60);

const ENV: &str = "
[[layer]]
name = \"env\"
kind = \"env\"

[env]
environments = [\"dev\", \"prod\"]
names = { prod = \"production\" }
";

fn host() -> Host {
    Host::new("prod", "")
}

/// The sleeper with two env layers, the second under another file name.
fn with_env(recipe: &str) -> Source {
    Source::sleeper_and(&format!("{ENV}{recipe}"))
        .with(".env.dev", b"NAME=dev\n")
        .with(".env.production", b"NAME=base\nONLY_BASE=1\n")
        .with(".env.production.local", b"NAME=local\n")
}

fn pack<'a>(source: &'a Source, more: &[&'a str]) -> Vec<String> {
    let mut arguments = vec!["pack".to_owned(), source.path().to_string_lossy().into_owned()];
    arguments.extend(more.iter().map(|text| (*text).to_owned()));
    arguments
}

fn run(host: &Host, arguments: &[String]) -> Said {
    host.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

fn packed(host: &Host, source: &Source, more: &[&str]) -> Value {
    let arguments = pack(source, more);
    host.json(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Fails the test unless the pack was refused with this code and a hint, naming the thing, with nothing stored.
#[track_caller]
fn refused(source: &Source, more: &[&str], code: i32, names: &str) {
    let host = host();
    let said = run(&host, &pack(source, more));
    said.expect_code(code);
    assert_eq!(said.out, "");
    assert!(said.err.contains(names), "`{names}` is not named in: {}", said.err);
    let mut told = said.err.lines().skip_while(|line| !line.starts_with("error: "));
    assert!(told.next().is_some(), "{}", said.err);
    assert!(told.next().is_some_and(|line| line.starts_with("hint: ")), "no hint in: {}", said.err);
    assert!(!host.root().join("store/landfall-store.json").exists(), "a refused pack touches no store");
}

mod identity {
    use super::*;

    /// Writes the same files in another order, with other times, owners' rights and umask.
    fn copy(order: impl Fn(&mut Vec<(&str, &[u8], bool)>), mode: u32, age: Duration) -> Source {
        let mut files: Vec<(&str, &[u8], bool)> = vec![
            ("app/a.js", b"1", false),
            ("app/b/c.js", b"2", false),
            ("app/run", b"#!", true),
            ("app/z", b"", false),
        ];
        order(&mut files);
        let mut source = Source::new(support::source::SLEEPER);
        for (name, content, executable) in files {
            source = source.with(name, content).and(|dir| {
                let path = dir.join(name);
                let bits = if executable { mode | 0o100 } else { mode };
                let time = FileTimes::new().set_modified(SystemTime::now() - age);
                std::fs::File::open(&path).unwrap().set_times(time).unwrap();
                std::fs::set_permissions(&path, Permissions::from_mode(bits)).unwrap();
            });
        }
        source.and(|dir| {
            std::fs::set_permissions(dir.join("app/b"), Permissions::from_mode(mode | 0o100)).unwrap();
            symlink("b/c.js", dir.join("app/link")).unwrap();
        })
    }

    #[test]
    fn the_same_files_have_one_id_whatever_their_order_rights_and_times() {
        let ids: Vec<Value> = [
            copy(|_| {}, 0o644, Duration::ZERO),
            copy(|files| files.reverse(), 0o600, Duration::from_secs(86_400)),
            copy(|files| files.rotate_left(2), 0o666, Duration::from_secs(1)),
        ]
        .iter()
        .map(|source| packed(&host(), source, &[])["artifact"].clone())
        .collect();
        assert_eq!(ids[0], ids[1]);
        assert_eq!(ids[0], ids[2]);
    }

    #[test]
    fn another_byte_another_name_and_another_execute_bit_are_other_artifacts() {
        let id = |source: Source| packed(&host(), &source, &[])["artifact"].clone();
        let same = || copy(|_| {}, 0o644, Duration::ZERO);
        let ids = [
            id(same()),
            id(same().with("app/a.js", b"!")),
            id(same().and(|dir| std::fs::rename(dir.join("app/z"), dir.join("app/y")).unwrap())),
            id(same().and(|dir| {
                std::fs::set_permissions(dir.join("app/z"), Permissions::from_mode(0o755)).unwrap()
            })),
        ];
        for (index, one) in ids.iter().enumerate() {
            assert!(ids[index + 1..].iter().all(|other| other != one), "{ids:?}");
        }
    }

    #[test]
    fn the_locale_and_the_time_zone_leave_no_trace() {
        let source = Source::sleeper("1").with("app/Ä", b"1").with("app/a", b"2").with("app/B", b"3");
        let id = |locale: &str, zone: &str| {
            let host = host();
            let mut command = host.landfall(&["pack", &source.path().to_string_lossy()]);
            let output = command.env("LC_ALL", locale).env("LANG", locale).env("TZ", zone).output().unwrap();
            assert!(output.status.success());
            String::from_utf8(output.stdout).unwrap()
        };
        assert_eq!(id("C", "UTC"), id("tr_TR.UTF-8", "Asia/Kolkata"));
    }
}

mod output {
    use super::*;

    const BUILD: &str = "\n[build]\nrun = [\"sh\", \"-c\", \"echo the build talks\"]\n";

    #[test]
    fn stdout_is_the_id_alone_even_when_the_build_talks() {
        let said = run(&host(), &pack(&Source::sleeper_and(BUILD), &[]));
        said.expect_code(0);
        assert!(said.out.starts_with("b3:") && said.out.len() == 68 && said.out.ends_with('\n'), "{said:?}");
        assert!(said.err.contains("the build talks"), "{said:?}");
    }

    #[test]
    fn quiet_says_nothing_but_the_id() {
        let said = run(&host(), &pack(&Source::sleeper_and(BUILD), &["-q"]));
        assert_eq!((said.out.len(), said.err.as_str()), (68, ""));
    }

    #[test]
    fn json_has_the_shape_of_the_contract() {
        let report = packed(&host(), &Source::sleeper("12345"), &["--version", "7"]);
        assert!(report["artifact"].as_str().unwrap().starts_with("b3:"));
        assert_eq!((&report["app"], &report["version"]), (&"web".into(), &"7".into()));
        let layer = &report["layers"][0];
        assert_eq!(layer["name"], "app");
        assert_eq!(layer["tree"].as_str().unwrap().len(), 64);
        assert_eq!(
            (&layer["files"], &layer["bytes"], &layer["new_bytes"]),
            (&1.into(), &5.into(), &5.into())
        );
        assert!(report["stored_bytes"].as_u64().unwrap() > 0 && report["took_ms"].is_u64());
    }

    #[test]
    fn an_error_in_json_has_code_reason_message_and_hint() {
        let empty = tempfile::tempdir().unwrap();
        let said = host().run(&["pack", &empty.path().to_string_lossy(), "-o", "json"]);
        said.expect_code(4);
        let error: Value = serde_json::from_str(&said.out).unwrap();
        assert_eq!(
            (&error["kind"], &error["code"], &error["reason"]),
            (&"Error".into(), &4.into(), &"NoRecipe".into())
        );
        assert!(error["message"].as_str().unwrap().contains("landfall.toml"));
        assert!(error["hint"].as_str().unwrap().contains("landfall init"));
    }

    #[test]
    fn what_every_layer_leaves_out_is_listed_on_request() {
        let source = with_env("").with("app/.git/config", b"x").with("app/.env.production", b"SECRET=1");
        let report = packed(&host(), &source, &[]);
        assert_eq!(report["layers"][0]["left_out"], serde_json::json!(["app/.env.production", "app/.git"]));
        let said = run(&host(), &pack(&source, &["-v"]));
        assert!(said.err.contains("left out of layer app: app/.git"), "{said:?}");
        assert!(!run(&host(), &pack(&source, &[])).err.contains("left out"));
    }
}

mod again {
    use super::*;

    fn read(report: &Value) -> u64 {
        report["layers"].as_array().unwrap().iter().map(|layer| layer["files_read"].as_u64().unwrap()).sum()
    }

    #[test]
    fn a_second_pack_of_an_unchanged_tree_reads_no_file_and_stores_nothing() {
        let (host, source) = (host(), Source::sleeper("1").with("app/b", b"2").with("app/c/d", b"3"));
        std::thread::sleep(SETTLED);
        let (first, second) = (packed(&host, &source, &[]), packed(&host, &source, &[]));
        assert_eq!((read(&first), read(&second)), (3, 0));
        assert_eq!(first["artifact"], second["artifact"]);
        assert_eq!((&second["stored_bytes"], &second["existed"]), (&0.into(), &true.into()));
    }

    #[test]
    fn only_a_file_that_changed_is_read_and_only_its_content_is_new() {
        let (host, source) = (host(), Source::sleeper("1").with("app/b", b"2"));
        std::thread::sleep(SETTLED);
        packed(&host, &source, &["--version", "1"]);
        let source = source.with("app/b", b"longer");
        let second = packed(&host, &source, &["--version", "2"]);
        assert_eq!((read(&second), &second["layers"][0]["new_bytes"]), (1, &6.into()));
    }

    #[test]
    fn a_version_is_not_taken_from_another_artifact_unless_asked() {
        let host = host();
        let first = packed(&host, &Source::sleeper("1"), &[]);
        let said = run(&host, &pack(&Source::sleeper("2"), &[]));
        said.expect_code(12);
        assert!(said.err.contains("hint: ") && said.err.contains("--move-version"), "{said:?}");
        let moved = packed(&host, &Source::sleeper("2"), &["--move-version"]);
        assert_ne!(first["artifact"], moved["artifact"]);
        assert_eq!(host.json(&["show", "1"])["items"][0]["artifact"], moved["artifact"]);
    }
}

mod build {
    use super::*;

    const WRITES_ENV: &str = "\n[build]\nshell = \"echo $LANDFALL_ENV $NAME $ONLY_BASE $DEEP > app/built\"\n";

    fn built(source: &Source) -> String {
        std::fs::read_to_string(source.path().join("app/built")).unwrap()
    }

    #[test]
    fn the_build_gets_both_env_layers_of_its_environment_and_the_local_one_wins() {
        let source = with_env(WRITES_ENV);
        run(&host(), &pack(&source, &["--env", "prod"])).expect_code(0);
        assert_eq!(built(&source), "prod local 1\n");
        run(&host(), &pack(&source, &["--env", "dev"])).expect_code(0);
        assert_eq!(built(&source), "dev dev\n");
    }

    #[test]
    fn without_an_environment_the_build_gets_no_layer_at_all() {
        let source = with_env(WRITES_ENV);
        run(&host(), &pack(&source, &[])).expect_code(0);
        assert_eq!(built(&source), "\n");
    }

    #[test]
    fn a_layer_outranks_what_the_caller_exports() {
        let source = with_env(WRITES_ENV);
        let host = host();
        let mut command = host.landfall(&["pack", &source.path().to_string_lossy(), "--env", "prod"]);
        assert!(command.env("NAME", "inherited").env("DEEP", "kept").output().unwrap().status.success());
        assert_eq!(built(&source), "prod local 1 kept\n");
    }

    #[test]
    fn references_in_the_command_come_from_the_layers_and_an_unset_one_is_refused() {
        let source = with_env("\n[build]\nrun = [\"sh\", \"-c\", \"echo ${NAME} > app/built\"]\n");
        run(&host(), &pack(&source, &["--env", "prod"])).expect_code(0);
        assert_eq!(built(&source), "local\n");
        refused(&source, &[], 3, "`${NAME}`");
    }

    #[test]
    fn a_failing_build_stores_nothing() {
        let fails = Source::sleeper_and("\n[build]\nrun = [\"sh\", \"-c\", \"exit 3\"]\n");
        refused(&fails, &[], 7, "exit status: 3");
        let gone = Source::sleeper_and("\n[build]\nrun = [\"no-such-program\"]\n");
        refused(&gone, &[], 7, "no-such-program");
    }

    #[test]
    fn no_build_packs_what_is_there() {
        let fails = Source::sleeper_and("\n[build]\nrun = [\"false\"]\n");
        run(&host(), &pack(&fails, &["--no-build"])).expect_code(0);
    }

    #[test]
    fn an_environment_that_nothing_builds_is_refused() {
        let only_dev = with_env("\n[build.run]\ndev = [\"true\"]\n");
        run(&host(), &pack(&only_dev, &["--env", "dev"])).expect_code(0);
        refused(&only_dev, &["--env", "prod"], 3, "prod");
        refused(&only_dev, &[], 3, "dev");
    }
}

mod env {
    use super::*;

    fn env_layers(report: &Value) -> Vec<(String, u64)> {
        let layers = report["layers"].as_array().unwrap().iter().filter(|layer| layer["name"] == "env");
        layers
            .map(|layer| {
                (layer["environment"].as_str().unwrap().to_owned(), layer["files"].as_u64().unwrap())
            })
            .collect()
    }

    #[test]
    fn bound_to_an_environment_an_artifact_holds_its_env_layer_only() {
        let (host, source) = (host(), with_env(""));
        let report = packed(&host, &source, &["--env", "prod"]);
        assert_eq!(env_layers(&report), [("prod".to_owned(), 2)]);
        assert_eq!(host.json(&["show", "1"])["items"][0]["manifest"]["environment"], "prod");
    }

    #[test]
    fn for_every_environment_an_artifact_holds_every_env_layer() {
        let (host, source) = (host(), with_env(""));
        let report = packed(&host, &source, &[]);
        assert_eq!(env_layers(&report), [("dev".to_owned(), 1), ("prod".to_owned(), 2)]);
        assert!(host.json(&["show", "1"])["items"][0]["manifest"].get("environment").is_none());
    }

    #[test]
    fn a_local_layer_that_is_stored_unsealed_is_told() {
        let told = run(&host(), &pack(&with_env(""), &["--env", "prod"])).err;
        assert!(
            told.contains("warning: ") && told.contains(".env.production.local is stored unsealed"),
            "{told}"
        );
        let told = run(&host(), &pack(&with_env(""), &["--env", "dev"])).err;
        assert!(!told.contains("unsealed"), "{told}");
    }

    #[test]
    fn no_secret_is_in_anything_that_pack_says() {
        let source = with_env("").with(".env.production.local", b"TOKEN=canary-7f3a\n");
        for more in [&["-v"][..], &["-o", "json"]] {
            let said = run(&host(), &pack(&source, more));
            assert!(!said.out.contains("canary") && !said.err.contains("canary"), "{said:?}");
        }
    }

    #[test]
    fn an_environment_the_recipe_does_not_have_is_refused_before_anything_runs() {
        let source = with_env("\n[build]\nrun = [\"touch\", \"app/ran\"]\n");
        refused(&source, &["--env", "staging"], 3, "`staging`");
        assert!(!source.path().join("app/ran").exists());
    }

    #[test]
    fn a_missing_base_file_is_refused_and_a_missing_local_one_is_not() {
        let source = with_env("").and(|dir| {
            std::fs::remove_file(dir.join(".env.production.local")).unwrap();
        });
        run(&host(), &pack(&source, &["--env", "prod"])).expect_code(0);
        let source = source.and(|dir| std::fs::remove_file(dir.join(".env.production")).unwrap());
        refused(&source, &["--env", "prod"], 3, ".env.production");
    }
}

mod version {
    use super::*;

    fn version_of(recipe: &str, more: &[&str]) -> Value {
        let source = Source::new(&support::source::SLEEPER.replace("version = \"1\"", recipe))
            .with("app/x", b"x")
            .with("package.json", br#"{"version":"4.5.6"}"#);
        packed(&host(), &source, more)["version"].clone()
    }

    #[test]
    fn it_comes_from_the_recipe_a_file_a_command_or_the_command_line() {
        assert_eq!(version_of("version = \"1.2.3\"", &[]), "1.2.3");
        assert_eq!(version_of("version = { file = \"package.json\" }", &[]), "4.5.6");
        assert_eq!(version_of("version = { command = [\"echo\", \"7.8.9\"] }", &[]), "7.8.9");
        assert_eq!(version_of("version = { command = [\"false\"] }", &["--version", "1.0"]), "1.0");
    }

    #[test]
    fn a_source_that_gives_none_is_refused_by_its_name() {
        for (source, names) in [
            ("{ file = \"VERSION\" }", "VERSION"),
            ("{ command = [\"false\"] }", "`false`"),
            ("{ command = [\"echo\", \"../x\"] }", "../x"),
        ] {
            let recipe = support::source::SLEEPER.replace("\"1\"", source);
            refused(&Source::new(&recipe).with("app/x", b"x"), &[], 3, names);
        }
    }
}

mod refusals {
    use super::*;

    #[test]
    fn packed_modules_beside_an_install_step_are_refused() {
        let recipe = "\n[[step]]\nname = \"install\"\nrun = [\"npm\", \"ci\"]\n";
        let source = Source::sleeper_and(recipe).with("app/node_modules/x/index.js", b"x");
        refused(&source, &[], 3, "app/node_modules/x/index.js");
    }

    #[test]
    fn a_link_back_into_the_source_tree_is_refused_though_it_stays_inside_the_release() {
        let source = Source::sleeper("1")
            .with("src/a.js", b"a")
            .and(|dir| symlink("../src/a.js", dir.join("app/a.js")).unwrap());
        refused(&source, &[], 3, "app/a.js");
    }

    #[test]
    fn a_link_that_leads_nowhere_is_a_warning_and_one_to_a_shared_path_is_none() {
        let source = Source::sleeper_and("\n[paths]\nshared = [\"uploads\"]\n").and(|dir| {
            symlink("../uploads/x", dir.join("app/shared")).unwrap();
            symlink("gone", dir.join("app/dangling")).unwrap();
        });
        let warnings = packed(&host(), &source, &[])["warnings"].clone();
        assert_eq!(warnings.as_array().unwrap().len(), 1, "{warnings}");
        assert!(warnings[0].as_str().unwrap().contains("app/dangling"), "{warnings}");
    }

    #[test]
    fn a_link_into_another_layer_is_no_warning() {
        let other = "\n[[layer]]\nname = \"other\"\nfiles = [{ from = \"other\", to = \"other\" }]\n";
        let source = Source::sleeper_and(other).with("other/x", b"x").and(|dir| {
            symlink("../other/x", dir.join("app/link")).unwrap();
        });
        assert_eq!(packed(&host(), &source, &[])["warnings"], serde_json::json!([]));
    }

    #[test]
    fn layers_that_meet_in_a_path_are_refused_and_layers_for_other_roles_are_not() {
        let layer = |roles: &str| {
            let recipe = support::source::SLEEPER
                .replace("name = \"app\"\n", "name = \"app\"\nroles = [\"server\"]\n");
            let second = format!(
                "\n[[layer]]\nname = \"static\"\nroles = [\"{roles}\"]\nfiles = [{{ from = \"other\", to = \"app\" }}]\n"
            );
            Source::new(&(recipe + &second)).with("app/x", b"1").with("other/x", b"2")
        };
        refused(&layer("server"), &[], 3, "app/x");
        run(&host(), &pack(&layer("static"), &[])).expect_code(0);
    }

    #[test]
    fn a_packed_path_below_a_shared_one_is_refused() {
        let source =
            Source::sleeper_and("\n[paths]\nshared = [\"app/uploads\"]\n").with("app/uploads/x", b"x");
        refused(&source, &[], 3, "app/uploads");
    }

    #[test]
    fn each_kind_of_bad_file_is_refused_with_a_hint() {
        let sticky = Source::sleeper("1").and(|dir| {
            std::fs::set_permissions(dir.join("app/version.txt"), Permissions::from_mode(0o4755)).unwrap();
        });
        refused(&sticky, &[], 3, "setuid");
        let socket = Source::sleeper("1").and(|dir| {
            drop(std::os::unix::net::UnixListener::bind(dir.join("app/s")).unwrap());
        });
        refused(&socket, &[], 3, "socket");
        let outside = Source::sleeper("1").and(|dir| symlink("/etc/hostname", dir.join("app/out")).unwrap());
        refused(&outside, &[], 3, "outside the release");
        let loops = Source::sleeper_and(&ENV.replace("\"dev\", ", ""))
            .and(|dir| symlink(".env.production", dir.join(".env.production")).unwrap());
        refused(&loops, &[], 3, "leads back to itself");
    }

    #[test]
    fn a_store_is_never_packed_into_itself() {
        let source = Source::new(
            &support::source::SLEEPER.replace("{ from = \"app\", to = \"app\" }", "{ from = \".\" }"),
        );
        let pack_into = |place: &str| {
            let store = source.path().join(place).to_string_lossy().into_owned();
            let arguments = pack(&source, &["--store", &store, "--move-version"]);
            run(&host(), &arguments)
        };
        pack_into("artifacts").expect_code(0);
        let said = pack_into("artifacts");
        said.expect_code(3);
        assert!(said.err.contains("artifacts") && said.err.contains("hint: "), "{said:?}");
        std::fs::remove_dir_all(source.path().join("artifacts")).unwrap();
        pack_into(".landfall/store").expect_code(0);
        pack_into(".landfall/store").expect_code(0);
    }

    #[test]
    fn a_directory_without_a_recipe_is_not_found() {
        let empty = tempfile::tempdir().unwrap();
        host().run(&["pack", &empty.path().to_string_lossy()]).expect_code(4);
        host().run(&["pack", &empty.path().join("gone").to_string_lossy()]).expect_code(4);
    }
}

mod archives {
    use super::*;

    fn archive(host: &Host, name: &str) -> String {
        host.dir.join(name).to_string_lossy().into_owned()
    }

    #[test]
    fn an_exported_artifact_is_imported_elsewhere_as_itself() {
        let here = host();
        let id = packed(&here, &with_env(""), &[])["artifact"].as_str().unwrap().to_owned();
        for name in ["web.tar", "web.tgz", "web.tar.zst"] {
            let path = archive(&here, name);
            here.run(&["export", "1", "--archive", &path]).expect_code(0);
            let there = host();
            let said = there.run(&["import", &path]);
            said.expect_code(0);
            assert_eq!(said.out.trim(), id, "{name}");
            assert_eq!(
                there.json(&["show", &id])["items"],
                here.json(&["show", &id])["items"]
                    .as_array()
                    .map(|items| {
                        let mut items = items.clone();
                        items[0]["provenance"] = there.json(&["show", &id])["items"][0]["provenance"].clone();
                        Value::from(items)
                    })
                    .unwrap()
            );
        }
    }

    #[test]
    fn an_export_is_the_same_byte_for_byte_each_time_and_secrets_are_not_for_everybody() {
        let host = host();
        packed(&host, &with_env(""), &[]);
        for name in ["tar", "tgz", "tar.zst"] {
            let (one, two) = (archive(&host, &format!("1.{name}")), archive(&host, &format!("2.{name}")));
            host.run(&["export", "1", "--archive", &one]).expect_code(0);
            host.run(&["export", "1", "--archive", &two]).expect_code(0);
            assert_eq!(std::fs::read(&one).unwrap(), std::fs::read(&two).unwrap(), "{name}");
            assert_eq!(std::fs::metadata(&one).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn pack_writes_an_archive_under_the_usual_name() {
        let (host, source) = (host(), Source::sleeper("1"));
        let out = host.dir.join("out");
        std::fs::create_dir(&out).unwrap();
        let report = packed(&host, &source, &["--archive", &out.to_string_lossy(), "--time", "11-20-14-05"]);
        let path = out.join("web-v1-11-20-14-05.tgz");
        assert_eq!(report["archive"], path.to_string_lossy().into_owned());
        let elsewhere = super::host();
        assert_eq!(elsewhere.run(&["import", &path.to_string_lossy()]).out.trim(), report["artifact"]);
    }

    #[test]
    fn a_time_or_a_name_that_is_none_is_refused() {
        let (host, source) = (host(), Source::sleeper("1"));
        run(&host, &pack(&source, &["--archive", "out/", "--time", "yesterday"])).expect_code(2);
        let odd = archive(&host, "web.zip");
        run(&host, &pack(&source, &["--archive", &odd])).expect_code(2);
        run(&host, &pack(&source, &["--archive", "no/such/place/web.tgz"])).expect_code(4);
        assert!(!Path::new(&odd).exists());
        assert!(!host.root().join("store").exists(), "a mistake is told before anything is stored");
    }

    #[test]
    fn a_failed_export_leaves_nothing_behind() {
        let host = host();
        packed(&host, &Source::sleeper("1"), &[]);
        let out = host.dir.join("out");
        std::fs::create_dir(&out).unwrap();
        host.run(&["export", "no-such-version", "--archive", &out.to_string_lossy()]).expect_code(4);
        let packs = support::hash::files_of(&host.root().join("store/packs"));
        for pack in packs {
            std::fs::remove_file(host.root().join("store/packs").join(pack)).unwrap();
        }
        host.run(&["export", "1", "--archive", &out.join("x.tgz").to_string_lossy()]).expect_code(6);
        assert_eq!(std::fs::read_dir(&out).unwrap().count(), 0);
    }

    #[test]
    fn an_exported_artifact_cannot_be_renamed_on_its_way() {
        let host = host();
        packed(&host, &Source::sleeper("1"), &[]);
        let path = archive(&host, "web.tgz");
        host.run(&["export", "1", "--archive", &path]).expect_code(0);
        for more in [["--app", "other"], ["--version", "2"], ["--env", "prod"]] {
            let said = super::host().run(&["import", &path, more[0], more[1]]);
            said.expect_code(3);
            assert!(said.err.contains(more[1]), "{said:?}");
        }
        super::host().run(&["import", &path, "--app", "web", "--version", "1"]).expect_code(0);
    }

    #[test]
    fn any_other_archive_is_packed_by_the_recipe_in_it_and_its_env_files_become_layers() {
        let host = host();
        let recipe = format!("{}{}", support::source::SLEEPER, ENV);
        let tar = support::tar::Tar::default()
            .file("landfall.toml", recipe.as_bytes())
            .file(".env.production", b"NAME=x\n")
            .file("app/main.js", b"x")
            .finish();
        std::fs::write(host.dir.join("in.tar"), tar).unwrap();
        let report = host.json(&["import", &archive(&host, "in.tar")]);
        assert_eq!((&report["app"], &report["version"]), (&"web".into(), &"1".into()));
        let layers: Vec<_> = report["layers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|l| (l["name"].clone(), l["files"].clone()))
            .collect();
        assert_eq!(layers, [("app".into(), 2.into()), ("env".into(), 1.into())]);
    }

    #[test]
    fn bound_to_an_environment_an_import_leaves_the_secrets_of_the_others_behind() {
        let host = host();
        let recipe = format!("{}{}", support::source::SLEEPER, ENV);
        let tar = support::tar::Tar::default()
            .file("landfall.toml", recipe.as_bytes())
            .file(".env.dev", b"NAME=dev-secret\n")
            .file(".env.production", b"NAME=x\n")
            .finish();
        std::fs::write(host.dir.join("in.tar"), tar).unwrap();
        host.run(&["import", &archive(&host, "in.tar"), "--env", "staging"]).expect_code(3);
        host.json(&["import", &archive(&host, "in.tar"), "--env", "prod"]);
        let files = host.json(&["show", "1", "--files"])["items"].clone();
        let paths: Vec<&str> =
            files.as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap()).collect();
        assert_eq!(paths, ["landfall.toml", ".env.production"]);
    }

    #[test]
    fn an_archive_with_modules_beside_an_install_step_is_refused() {
        let host = host();
        let recipe =
            format!("{}\n[[step]]\nname = \"install\"\nrun = [\"npm\", \"ci\"]\n", support::source::SLEEPER);
        let recipe = recipe.replace("from = \"app\"", "from = \"dist\"");
        let tar = support::tar::Tar::default()
            .file("landfall.toml", recipe.as_bytes())
            .file("node_modules/x/index.js", b"x")
            .finish();
        std::fs::write(host.dir.join("in.tar"), tar).unwrap();
        let said = host.run(&["import", &archive(&host, "in.tar")]);
        said.expect_code(3);
        assert!(said.err.contains("node_modules/x/index.js") && said.err.contains("hint: "), "{said:?}");
    }

    #[test]
    fn an_archive_without_a_recipe_needs_a_name_and_says_that_nothing_starts() {
        let host = host();
        let path = archive(&host, "in.tar");
        std::fs::write(&path, support::tar::Tar::default().file("index.html", b"hi").finish()).unwrap();
        host.run(&["import", &path]).expect_code(2);
        host.run(&["import", &path, "--app", "site"]).expect_code(2);
        let report = host.json(&["import", &path, "--app", "site", "--version", "7", "--env", "prod"]);
        assert_eq!((&report["app"], &report["environment"]), (&"site".into(), &"prod".into()));
        assert_eq!(report["warnings"].as_array().unwrap().len(), 1);
    }
}

mod stores {
    use super::*;

    #[test]
    fn push_copies_what_the_other_store_lacks_and_nothing_twice() {
        let host = host();
        let first = packed(&host, &Source::sleeper("1"), &["--version", "1"])["artifact"].clone();
        let second = packed(&host, &Source::sleeper("2"), &["--version", "2"])["artifact"].clone();
        let other = host.dir.join("other").to_string_lossy().into_owned();
        let pushed = host.json(&["push", "1", "--to", &other]);
        assert_eq!(
            (&pushed["items"][0]["artifact"], &pushed["items"][0]["existed"]),
            (&first, &false.into())
        );
        let all = host.json(&["push", "--all", "--to", &other]);
        let existed = |id: &Value| {
            all["items"].as_array().unwrap().iter().find(|item| item["artifact"] == *id).unwrap()["existed"]
                .clone()
        };
        assert_eq!((existed(&first), existed(&second)), (true.into(), false.into()));
        let listed = host.json(&["ls", "--store", &other]);
        assert_eq!(listed["items"], host.json(&["ls"])["items"]);
    }

    #[test]
    fn push_makes_deltas_from_what_is_deployed_and_from_older_versions_unless_told_not_to() {
        let host = host();
        let noise: Vec<u8> =
            (0..60_000u64).map(|n| (n.wrapping_mul(n).wrapping_mul(0x9e37_79b9) >> 13) as u8).collect();
        let pack = |version: &str| {
            let data = [version.as_bytes(), &noise].concat();
            let source = Source::sleeper(version).with("app/data.bin", &data);
            packed(&host, &source, &["--version", version])["artifact"].as_str().unwrap().to_owned()
        };
        let ids: Vec<String> = ["1", "2", "3", "4", "5", "6"].map(pack).into();
        let app = host.json(&["ls"])["items"][0]["app"].as_str().unwrap().to_owned();
        let other = host.dir.join("other").to_string_lossy().into_owned();
        let none = host.json(&["push", "1", "2", "3", "4", "5", "--to", &other, "--no-delta"]);
        assert!(none["items"].as_array().unwrap().iter().all(|item| item["deltas"] == serde_json::json!([])));
        assert!(!Path::new(&other).join("deltas").exists());
        host.want(&app, &ids[0]);
        let state = host.state().to_string_lossy().into_owned();
        let pushed = host.json(&["push", "6", "--to", &other, "--state", &state]);
        let deltas = pushed["items"][0]["deltas"].as_array().unwrap().clone();
        let from: Vec<&str> = deltas.iter().map(|delta| delta["version"].as_str().unwrap()).collect();
        assert_eq!(from, ["1", "5", "4", "3"], "{pushed}");
        assert!(deltas.iter().all(|delta| delta["bytes"].as_u64().unwrap() < 1_000), "{pushed}");
        let missing = host.dir.join("none.json").to_string_lossy().into_owned();
        let said = host.run(&["push", "6", "--to", &other, "--state", &missing]);
        said.expect_code(0);
        assert!(said.err.contains("none.json"), "a state that was not found is said: {}", said.err);
    }

    #[test]
    fn push_needs_names_or_all_and_understands_every_name_first() {
        let host = host();
        packed(&host, &Source::sleeper("1"), &[]);
        let other = host.dir.join("other").to_string_lossy().into_owned();
        host.run(&["push", "--to", &other]).expect_code(2);
        host.run(&["push", "1", "--all", "--to", &other]).expect_code(2);
        host.run(&["push", "1", "nonsense", "--to", &other]).expect_code(4);
        assert!(!Path::new(&other).exists());
    }

    #[test]
    fn ls_lists_newest_first_and_fits_80_columns() {
        let host = host();
        for version in ["1", "2", "3"] {
            packed(&host, &Source::sleeper(version), &["--version", version]);
        }
        let said = host.run(&["ls"]);
        let lines: Vec<&str> = said.out.lines().collect();
        assert!(lines[0].starts_with("APP  VERSION  ARTIFACT"), "{}", said.out);
        assert!(lines[1].contains(" 3 ") && lines[3].contains(" 1 "), "{}", said.out);
        assert!(lines.iter().all(|line| line.len() <= 80));
        assert_eq!(host.json(&["ls", "nobody"])["items"], serde_json::json!([]));
        let item = &host.json(&["ls", "web"])["items"][0];
        assert_eq!(
            (&item["app"], &item["version"], &item["layers"]),
            (&"web".into(), &"3".into(), &1.into())
        );
    }

    #[test]
    fn ls_without_a_store_says_how_to_make_one() {
        let said = host().run(&["ls"]);
        said.expect_code(4);
        assert!(said.err.contains("hint: `landfall pack`"), "{said:?}");
    }

    #[test]
    fn ls_releases_maps_each_directory_to_its_artifact() {
        let host = host();
        assert_eq!(host.json(&["ls", "--releases"])["items"], serde_json::json!([]));
        host.deploy_once(&Source::sleeper("1")).expect_code(0);
        let first = host.current("web", "prod");
        host.deploy_once(&Source::sleeper("2")).expect_code(0);
        let listed = host.json(&["ls", "--releases"]);
        let items = listed["items"].as_array().unwrap();
        let of = |path: &Path| {
            items.iter().find(|item| item["path"] == path.to_string_lossy().into_owned()).unwrap()
        };
        assert_eq!(items.len(), 2);
        assert_eq!(
            (&of(&first)["current"], &of(&host.current("web", "prod"))["current"]),
            (&false.into(), &true.into())
        );
        let artifact = of(&first)["artifact"].as_str().unwrap();
        assert_eq!(host.json(&["show", artifact])["items"][0]["artifact"], artifact);
    }

    #[test]
    fn show_tells_layers_start_health_and_every_file() {
        let host = host();
        let id = packed(&host, &with_env(""), &["--env", "prod"])["artifact"].as_str().unwrap().to_owned();
        let said = host.run(&["show", &id[..11]]);
        said.expect_code(0);
        for word in [id.as_str(), "web", "prod", "env (prod)", "sleep 100000", "direct", "version      1"] {
            assert!(said.out.contains(word), "`{word}` is not in {}", said.out);
        }
        assert_eq!(host.json(&["show", "1"])["items"][0]["manifest"]["release"]["version"], "1");
        let files = host.json(&["show", "1", "--files", "app"])["items"].clone();
        assert_eq!((&files[0]["path"], &files[0]["size"]), (&"app/version.txt".into(), &4.into()));
        assert_eq!(host.json(&["show", "1", "--files"])["items"].as_array().unwrap().len(), 3);
        host.run(&["show", "1", "--files", "nonsense"]).expect_code(4);
        host.run(&["show", "9"]).expect_code(4);
    }
}

mod diff {
    use super::*;

    const LOCK: &str = r#"{"lockfileVersion":3,"packages":{"node_modules/react":{"version":"VERSION"},"node_modules/same":{"version":"1.0.0"}}}"#;

    fn two_versions() -> Host {
        let host = host();
        let lock = |version: &str| LOCK.replace("VERSION", version);
        let one = Source::sleeper("1")
            .with("app/gone", b"1")
            .with("app/package-lock.json", lock("18.2.0").as_bytes());
        let two = Source::sleeper("longer")
            .with("app/new", b"22")
            .with("app/package-lock.json", lock("18.3.1").as_bytes());
        packed(&host, &one, &["--version", "1"]);
        packed(&host, &two, &["--version", "2"]);
        host
    }

    #[test]
    fn it_names_files_with_their_sizes_and_dependencies_with_their_versions() {
        let host = two_versions();
        let said = host.run(&["diff", "1", "2"]);
        said.expect_code(1);
        for line in [
            "layer app: 1 added, 1 removed, 2 changed",
            "- app/gone  1 B",
            "+ app/new  2 B",
            "~ app/version.txt  1 B -> 6 B",
            "react  18.2.0 -> 18.3.1",
        ] {
            assert!(said.out.contains(line), "`{line}` is not in {}", said.out);
        }
        assert!(!said.out.contains("same"), "{}", said.out);
    }

    #[test]
    fn json_has_the_same_for_scripts() {
        let host = two_versions();
        let said = host.run(&["diff", "1", "2", "-o", "json"]);
        said.expect_code(1);
        let difference: Value = serde_json::from_str(&said.out).unwrap();
        assert_eq!(difference["kind"], "DifferenceList");
        assert_eq!(
            difference["dependencies"],
            serde_json::json!([{"name": "react", "from": ["18.2.0"], "to": ["18.3.1"]}])
        );
        let changes: Vec<_> = difference["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| (item["change"].as_str().unwrap(), item["path"].as_str().unwrap()))
            .collect();
        let expected = [
            ("removed", "app/gone"),
            ("added", "app/new"),
            ("changed", "app/package-lock.json"),
            ("changed", "app/version.txt"),
        ];
        assert_eq!(changes, expected);
        assert_eq!(difference["layers"][0]["added"], 1);
        assert_eq!(difference["release"], serde_json::json!(["version"]));
    }

    #[test]
    fn an_artifact_does_not_differ_from_itself() {
        let host = two_versions();
        host.run(&["diff", "2", "2"]).expect_code(0);
        host.run(&["diff", "1", "9"]).expect_code(4);
    }
}

mod init {
    use super::*;

    #[test]
    fn it_writes_a_recipe_that_packs() {
        let host = host();
        let dir = host.dir.join("site");
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("index.html"), "hello").unwrap();
        let said = host.run(&["init", &dir.to_string_lossy(), "--app", "pages"]);
        said.expect_code(0);
        assert_eq!(said.out.trim(), dir.join("landfall.toml").to_string_lossy());
        assert!(said.err.contains("static app") && said.err.contains("landfall pack"), "{said:?}");
        let report = host.json(&["pack", &dir.to_string_lossy()]);
        assert_eq!(report["app"], "pages");
    }

    #[test]
    fn a_recipe_that_is_there_stays_unless_forced() {
        let host = host();
        let source = Source::sleeper("1");
        let path = source.path().to_string_lossy().into_owned();
        let said = host.run(&["init", &path]);
        said.expect_code(12);
        assert!(said.err.contains("--force"), "{said:?}");
        assert_eq!(
            std::fs::read_to_string(source.path().join("landfall.toml")).unwrap(),
            support::source::SLEEPER
        );
        host.run(&["init", &path, "--force", "--preset", "node"]).expect_code(0);
        assert_ne!(
            std::fs::read_to_string(source.path().join("landfall.toml")).unwrap(),
            support::source::SLEEPER
        );
    }

    #[test]
    fn every_preset_can_be_asked_for_and_no_other() {
        for preset in ["next", "nest-prisma", "koa", "node", "static", "binary"] {
            let host = host();
            let dir = host.dir.to_string_lossy().into_owned();
            host.run(&["init", &dir, "--preset", preset, "--app", "web"]).expect_code(0);
            assert!(host.dir.join("landfall.toml").exists());
        }
        host().run(&["init", "--preset", "rails"]).expect_code(2);
    }
}
