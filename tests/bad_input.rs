//! Bad input meets a clear error before anything is touched, and loses nothing.
//!
//! By the commands that people type; each test names one promise. What only a library can be given (bombs, forged
//! objects) is tested beside the code that reads it.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod support;

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use support::host::Said;
use support::tar::Tar;
use support::{Host, Source, process};

const STRANGER: &str = "b3:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Fails the test unless the command refused the input, named the thing, and kept its words to itself on stdout.
#[track_caller]
fn refused(said: &Said, names: &str) {
    said.expect_code(3);
    assert!(said.err.contains(names), "`{names}` is not named in: {}", said.err);
    assert!(said.err.starts_with("error: "), "{}", said.err);
    assert_eq!(said.out, "");
}

mod recipe {
    use super::*;

    /// Packs a source that must be refused; nothing of it may be in the store.
    #[track_caller]
    fn pack_refuses(source: &Source, names: &str) {
        let host = Host::new("prod", "");
        refused(&host.run(&["pack", &source.path().to_string_lossy(), "--env", "prod"]), names);
        assert!(!holds_an_artifact(&host.root().join("store")), "a refused pack leaves no artifact");
    }

    fn holds_an_artifact(store: &Path) -> bool {
        let prefixes = std::fs::read_dir(store.join("artifacts")).into_iter().flatten().flatten();
        prefixes.into_iter().any(|prefix| std::fs::read_dir(prefix.path()).is_ok_and(|dir| dir.count() > 0))
    }

    #[test]
    fn layers_that_share_a_path_are_refused_by_that_path() {
        let again = |from: &str, to: &str| {
            format!("[[layer]]\nname = \"again\"\nfiles = [{{ from = \"{from}\", to = \"{to}\" }}]\n")
        };
        pack_refuses(&Source::sleeper_and(&again("app", "app")), "`app`");
        pack_refuses(&Source::sleeper_and(&again("app/version.txt", "app/version.txt")), "app/version.txt");
    }

    #[test]
    fn a_layer_from_a_missing_directory_is_refused_by_its_name() {
        let nowhere = "[[layer]]\nname = \"lost\"\nfiles = [{ from = \"nowhere\", to = \"x\" }]\n";
        pack_refuses(&Source::sleeper_and(nowhere), "nowhere");
    }

    #[test]
    fn a_link_out_of_the_release_is_refused() {
        let absolute = Source::sleeper("1").and(|dir| symlink("/etc/hostname", dir.join("app/out")).unwrap());
        pack_refuses(&absolute, "app/out");
        let upwards = Source::sleeper("1").and(|dir| symlink("../../../x", dir.join("app/up")).unwrap());
        pack_refuses(&upwards, "app/up");
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest_known_one() {
        let source =
            Source::new(&support::source::SLEEPER.replace("attempts", "atempts")).with("app/x", b"x");
        pack_refuses(&source, "atempts");
        pack_refuses(&source, "`attempts`");
    }

    const ENV: &str = "[[layer]]\nname = \"env\"\nkind = \"env\"\n\n[env]\nenvironments = [\"prod\"]\n";

    #[test]
    fn a_missing_base_env_file_is_refused() {
        pack_refuses(&Source::sleeper_and(ENV), ".env.prod");
    }

    #[test]
    fn an_env_file_that_links_to_itself_is_refused() {
        let source = Source::sleeper_and(ENV).and(|dir| symlink(".env.prod", dir.join(".env.prod")).unwrap());
        pack_refuses(&source, ".env.prod");
    }

    #[test]
    fn what_is_neither_file_nor_link_nor_directory_is_refused() {
        let mknod = |name: &'static str, arguments: &'static [&'static str]| {
            Source::sleeper("1").and(|dir| {
                let made =
                    std::process::Command::new("mknod").arg(dir.join(name)).args(arguments).status().unwrap();
                assert!(made.success(), "mknod {name}: devices need root");
            })
        };
        pack_refuses(&mknod("app/pipe", &["p"]), "app/pipe");
        pack_refuses(&mknod("app/null", &["c", "1", "3"]), "app/null");
    }

    #[test]
    fn a_setuid_file_is_refused() {
        let source = Source::sleeper("1").with("app/su", b"#!/bin/sh\n").and(|dir| {
            std::fs::set_permissions(dir.join("app/su"), PermissionsExt::from_mode(0o4755)).unwrap();
        });
        pack_refuses(&source, "app/su");
    }
}

mod archive {
    use super::*;

    /// Imports an archive that must be refused; nothing may appear outside the store.
    #[track_caller]
    fn import_refuses(archive: &[u8], names: &str) {
        let host = Host::new("prod", "");
        let path = host.dir.join("in.tar");
        std::fs::write(&path, archive).unwrap();
        let outside = host.dir.join("escaped");
        let said = host.run(&["import", &path.to_string_lossy(), "--app", "web", "--version", "1"]);
        refused(&said, names);
        assert!(!outside.exists() && !host.root().join("escaped").exists());
    }

    #[test]
    fn an_absolute_member_is_refused() {
        import_refuses(&Tar::default().file("/escaped", b"x").finish(), "/escaped");
    }

    #[test]
    fn a_member_that_climbs_is_refused() {
        import_refuses(&Tar::default().file("a/../../escaped", b"x").finish(), "a/../../escaped");
    }

    #[test]
    fn a_file_below_a_link_is_refused() {
        import_refuses(&Tar::default().symlink("d", "..").file("d/escaped", b"x").finish(), "d");
    }

    #[test]
    fn a_member_that_comes_twice_is_refused() {
        import_refuses(&Tar::default().file("a", b"1").file("a", b"2").finish(), "a");
    }

    #[test]
    fn a_device_and_a_fifo_are_refused() {
        import_refuses(&Tar::default().member("null", b'3', "", b"").finish(), "null");
        import_refuses(&Tar::default().member("pipe", b'6', "", b"").finish(), "pipe");
    }

    #[test]
    fn an_archive_that_stops_early_is_refused() {
        import_refuses(&Tar::default().file("a", &[7; 5_000]).cut(3_000), "in.tar");
    }
}

mod state {
    use super::*;

    const STATES: [(&str, &str); 5] = [
        ("{\"apiVersion\": ", "deploy-state.json"),
        (r#"{"apiVersion": "landfall/v9", "apps": {}}"#, "landfall/v9"),
        (r#"{"apiVersion": "landfall/v1", "apps": {}, "surprise": 1}"#, "surprise"),
        (
            r#"{"apiVersion": "landfall/v1", "apps": {"web": {"environments": {"prod": {"target": {"artifact": "b3:0123"}}}}}}"#,
            "b3:0123",
        ),
        (r#"{"apiVersion": "landfall/v1", "apps": {"../web": {"environments": {}}}}"#, "../web"),
    ];

    #[test]
    fn lint_refuses_a_wrong_state_and_names_what_is_wrong() {
        let host = Host::new("prod", "");
        for (text, names) in STATES {
            host.write("state/deploy-state.json", text);
            let said = host.run(&["state", "lint"]);
            said.expect_code(3);
            assert!(said.err.contains(names) || said.out.contains(names), "`{names}` not named: {said:?}");
        }
    }

    #[test]
    fn a_wrong_state_leaves_the_running_app_alone_until_it_is_right_again() {
        let host = Host::new("prod", "");
        host.deploy_once(&Source::sleeper("1")).expect_code(0);
        let running = host.serving("web", "prod");
        let good = std::fs::read_to_string(host.state()).unwrap();
        for (text, _) in STATES {
            host.write("state/deploy-state.json", text);
            host.run(&["watch", "--once"]).expect_code(3);
            assert_eq!(host.serving("web", "prod"), running, "after {text}");
        }
        host.write("state/deploy-state.json", &good);
        host.run(&["watch", "--once"]).expect_code(0);
        assert_eq!(host.serving("web", "prod"), running);
    }

    #[test]
    fn an_artifact_that_no_store_has_leaves_the_running_app_alone() {
        let host = Host::new("prod", "");
        let artifact = host.pack_version(Source::sleeper("1").path(), "1");
        host.run(&["deploy", "web", "prod", &artifact]).expect_code(0);
        host.run(&["watch", "--once"]).expect_code(0);
        let running = host.serving("web", "prod");
        let state = std::fs::read_to_string(host.state()).unwrap().replace(&artifact, STRANGER);
        host.write("state/deploy-state.json", &state);
        let said = host.run(&["watch", "--once"]);
        said.expect_code(6);
        assert_eq!(host.serving("web", "prod"), running);
    }

    #[test]
    fn deploy_refuses_an_artifact_that_is_unknown_and_leaves_the_file_as_it_was() {
        let host = Host::new("prod", "");
        host.pack_next(Source::sleeper("1").path());
        let before = std::fs::read(host.state()).unwrap();
        host.run(&["deploy", "web", "prod", STRANGER]).expect_code(4);
        host.run(&["deploy", "web", "prod", "b3:0123"]).expect_code(2);
        assert_eq!(std::fs::read(host.state()).unwrap(), before);
    }
}

mod host {
    use super::*;

    #[test]
    fn a_second_agent_on_one_root_is_told_that_there_is_one() {
        let mut host = Host::new("prod", "");
        host.start_agent();
        host.wait_for_agent();
        host.run(&["watch", "--once"]).expect_code(12);
    }

    #[test]
    fn a_flipped_bit_in_a_pack_is_found_before_use() {
        let host = Host::new("prod", "");
        let artifact = host.pack_version(Source::sleeper("1").path(), "1");
        let packs = files_below(&host.root().join("store/packs"));
        let pack =
            packs.iter().find(|path| path.extension().is_some_and(|end| end == "lfp")).expect("a pack");
        flip_a_bit(pack, 8);
        host.run(&["deploy", "web", "prod", &artifact]).expect_code(0);
        host.run(&["watch", "--once"]).expect_code(6);
        assert!(!host.app("web", "prod").join("current").exists());
        assert_eq!(host.serving("web", "prod"), Vec::new());
    }

    #[test]
    fn a_step_that_hangs_is_ended_with_everything_it_started() {
        let host = Host::new("prod", "");
        let step = "[[step]]\nname = \"hang\"\nshell = \"sleep 5000 & sleep 5001\"\ntimeout = \"300ms\"\n";
        host.deploy_once(&Source::sleeper_and(step)).expect_code(7);
        assert_eq!(process::belonging_to(&host.dir), Vec::new());
    }

    #[test]
    fn a_step_that_forks_away_leaves_nothing_behind() {
        let host = Host::new("prod", "");
        let step = "[[step]]\nname = \"fork\"\nshell = \"setsid sleep 5002 >/dev/null 2>&1 & true\"\ntimeout = \"5s\"\n";
        host.deploy_once(&Source::sleeper_and(step));
        let left = process::belonging_to(&host.dir);
        assert!(!left.iter().any(|process| process.command.contains("5002")), "{left:?}");
    }

    #[test]
    fn a_step_that_prints_a_gigabyte_fills_neither_disk_nor_memory() {
        let host = Host::new("prod", "");
        let step = "[[step]]\nname = \"chatter\"\nshell = \"yes | head -c 1073741824\"\ntimeout = \"120s\"\n";
        host.deploy_once(&Source::sleeper_and(step)).expect_code(0);
        let kept: u64 = files_below(&host.app("web", "prod"))
            .iter()
            .map(|path| path.metadata().map_or(0, |m| m.len()))
            .sum();
        assert!(kept < 64 << 20, "{kept} bytes kept");
    }

    #[test]
    fn a_health_check_that_never_answers_reverts_to_the_release_before() {
        let host = Host::new("prod", "");
        host.deploy_once(&Source::sleeper("1")).expect_code(0);
        let healthy = host.current("web", "prod");
        let mute = support::source::SLEEPER.replace("run = [\"true\"]", "tcp = \"127.0.0.1:1\"");
        host.deploy_once(&Source::new(&mute).with("app/version.txt", b"2")).expect_code(8);
        assert_eq!(host.current("web", "prod"), healthy);
        assert!(host.serving("web", "prod").iter().all(|process| process.cwd == healthy));
        assert_eq!(host.serving("web", "prod").len(), 1);
    }

    #[test]
    fn the_first_release_that_fails_leaves_nothing_running_and_says_so() {
        let host = Host::new("prod", "");
        let dead = support::source::SLEEPER.replace("\"sleep\", \"100000\"", "\"false\"");
        host.deploy_once(&Source::new(&dead).with("app/version.txt", b"1")).expect_code(9);
        assert!(std::fs::symlink_metadata(host.app("web", "prod").join("current")).is_err());
        assert_eq!(process::belonging_to(&host.dir), Vec::new());
    }

    #[test]
    fn a_release_that_failed_is_not_tried_again_until_something_changes() {
        let host = Host::new("prod", "");
        let dead = support::source::SLEEPER.replace("\"sleep\", \"100000\"", "\"false\"");
        host.deploy_once(&Source::new(&dead).with("app/version.txt", b"1")).expect_code(9);
        let attempts = |host: &Host| support::json::items(&host.json(&["history", "web"])).clone();
        let failed = attempts(&host).iter().filter(|entry| entry["result"] == "Failed").count();
        host.run(&["watch", "--once"]).expect_code(10);
        assert_eq!(attempts(&host).iter().filter(|entry| entry["result"] == "Failed").count(), failed);
    }

    fn files_below(dir: &Path) -> Vec<std::path::PathBuf> {
        support::hash::files_of(dir).into_iter().map(|file| dir.join(file)).collect()
    }

    fn flip_a_bit(path: &Path, at: usize) {
        let mut bytes = std::fs::read(path).unwrap();
        bytes[at] ^= 1;
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o644)).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}
