//! `deploy`, `rollback`, `plan` and `state`, by the commands that people type.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

#[path = "state/desk.rs"]
mod desk;
#[path = "support/process.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod process;
#[path = "support/wait.rs"]
mod waiting;

use std::os::unix::fs::PermissionsExt;

use desk::{Desk, STRANGER};
use serde_json::Value;

const LAID_OUT: &str = "{ \"apiVersion\": \"landfall/v1\",\r\n   \"x-note\": [1,2 , 3],\r\n \"apps\" : {\r\n   \"web\":{\"environments\":\r\n   {\"prod\": { \"target\":{ \"artifact\":  \"OLD\" , \"x-keep\":true}, \"retain\" : 8 } }}}}\r\n";

mod deploy {
    use super::*;

    #[test]
    fn the_first_deploy_writes_the_file_and_commits_it() {
        let desk = Desk::in_git();
        let id = desk.artifact("web", "1.4.0", None);
        desk.run(&["deploy", "web", "prod", "1.4.0", "-m", "login fix"]).expect_code(0);
        assert_eq!(desk.target("web", "prod")["artifact"], id);
        assert_eq!(desk.target("web", "prod")["version"], "1.4.0");
        assert_eq!(desk.target("web", "prod")["reason"], "login fix");
        assert_eq!(desk.target("web", "prod")["by"], "maria@example.org");
        assert_eq!(desk.git(&["log", "-1", "--format=%s|%ae"]), "deploy web 1.4.0 to prod|maria@example.org");
        assert_eq!(desk.git(&["log", "-1", "--format=%b"]), format!("login fix\n\nArtifact: {id} (1.4.0)"));
        assert_eq!(desk.git(&["status", "--porcelain"]), "");
    }

    #[test]
    fn every_byte_but_the_target_stays() {
        let desk = Desk::in_git();
        let (old, new) = (desk.artifact("web", "1", None), desk.artifact("web", "2", None));
        let before = LAID_OUT.replace("OLD", &old);
        desk.write_committed(&before);
        desk.run(&["deploy", "web", "prod", "2", "--by", "ci"]).expect_code(0);
        let after = desk.state();
        let place = before.find(&old).unwrap() - 1;
        let rest = "}, \"retain\" : 8 } }}}}\r\n";
        assert_eq!(after[..place], before[..place]);
        assert!(after.ends_with(rest), "{after}");
        let changed = &after[place..after.len() - rest.len()];
        assert!(changed.starts_with(&format!("\"{new}\" , \"x-keep\":true")), "{changed}");
        assert!(changed.contains("\"version\"") && changed.contains("\"by\""), "{changed}");
    }

    #[test]
    fn the_commit_says_where_it_came_from_and_holds_nothing_else() {
        let desk = Desk::in_git();
        let (one, two) = (desk.artifact("web", "1", None), desk.artifact("web", "2", None));
        desk.run(&["deploy", "web", "prod", "1"]).expect_code(0);
        desk.write("notes.txt", "mine");
        desk.git(&["add", "notes.txt"]);
        desk.run(&["deploy", "web", "prod", "2"]).expect_code(0);
        let body = desk.git(&["log", "-1", "--format=%b"]);
        assert_eq!(body, format!("From: {one} (1)\nArtifact: {two} (2)"));
        assert_eq!(desk.git(&["show", "--name-only", "--format="]), "deploy-state.json");
        assert_eq!(desk.git(&["status", "--porcelain"]), "A  notes.txt", "what was staged is still staged");
    }

    #[test]
    fn a_file_with_changes_of_its_own_is_edited_and_not_committed() {
        let desk = Desk::in_git();
        desk.artifact("web", "1", None);
        desk.artifact("web", "2", None);
        desk.run(&["deploy", "web", "prod", "1"]).expect_code(0);
        let mine = desk.state().replacen('{', "{\n  \"x-mine\": 1,", 1);
        desk.write("deploy-state.json", &mine);
        let commits = desk.git(&["rev-list", "--count", "HEAD"]);
        let said = desk.run(&["deploy", "web", "prod", "2"]);
        said.expect_code(0);
        assert!(said.err.contains("not committed: the file had uncommitted changes"), "{}", said.err);
        assert_eq!(desk.git(&["rev-list", "--count", "HEAD"]), commits);
        assert!(desk.state().contains("x-mine"));
        assert_eq!(desk.target("web", "prod")["version"], "2");
        let refused = desk.run(&["deploy", "web", "prod", "1", "--push"]);
        refused.expect_code(12);
        assert_eq!(desk.target("web", "prod")["version"], "2", "nothing to push, nothing changed");
    }

    #[test]
    fn a_file_that_git_was_never_told_of_is_not_committed() {
        let desk = Desk::in_git();
        let id = desk.artifact("web", "1", None);
        desk.write("deploy-state.json", "{\"apiVersion\": \"landfall/v1\", \"apps\": {}}\n");
        let said = desk.run(&["deploy", "web", "prod", &id]);
        said.expect_code(0);
        assert!(said.err.contains("is not in git"), "{}", said.err);
        assert_eq!(desk.git(&["status", "--porcelain"]), "?? deploy-state.json");
    }

    #[test]
    fn outside_a_work_tree_the_file_is_edited_all_the_same() {
        let desk = Desk::bare();
        let id = desk.artifact("web", "1", None);
        let said = desk.run(&["deploy", "web", "prod", "1"]);
        said.expect_code(0);
        assert!(said.err.contains("not in a git work tree"), "{}", said.err);
        assert_eq!(desk.target("web", "prod")["artifact"], id);
    }

    #[test]
    fn no_commit_leaves_git_alone() {
        let desk = Desk::in_git();
        desk.artifact("web", "1", None);
        desk.run(&["deploy", "web", "prod", "1", "--no-commit"]).expect_code(0);
        assert_eq!(desk.git(&["status", "--porcelain"]), "?? deploy-state.json");
    }

    #[test]
    fn an_edit_that_a_hook_refuses_is_taken_back() {
        let desk = Desk::in_git();
        desk.artifact("web", "1", None);
        desk.artifact("web", "2", None);
        desk.hook("pre-commit", "echo frozen until monday >&2; exit 1");
        let first = desk.run(&["deploy", "web", "prod", "1"]);
        first.expect_code(20);
        assert!(first.err.contains("frozen until monday"), "{}", first.err);
        assert!(!desk.path("deploy-state.json").exists());
        assert_eq!(desk.git(&["status", "--porcelain"]), "");
        desk.hook("pre-commit", "exit 0");
        desk.run(&["deploy", "web", "prod", "1"]).expect_code(0);
        desk.hook("pre-commit", "exit 1");
        let before = desk.state();
        desk.run(&["deploy", "web", "prod", "2"]).expect_code(20);
        assert_eq!(desk.state(), before);
        assert_eq!(desk.git(&["status", "--porcelain"]), "");
    }

    #[test]
    fn mode_and_links_of_the_file_stay() {
        let desk = Desk::bare();
        desk.artifact("web", "1", None);
        desk.artifact("web", "2", None);
        desk.run(&["deploy", "web", "prod", "1"]).expect_code(0);
        let file = desk.path("deploy-state.json");
        std::fs::rename(&file, desk.path("real.json")).unwrap();
        std::os::unix::fs::symlink("real.json", &file).unwrap();
        std::fs::set_permissions(desk.path("real.json"), PermissionsExt::from_mode(0o664)).unwrap();
        desk.run(&["deploy", "web", "prod", "2"]).expect_code(0);
        assert!(file.is_symlink());
        let facts = std::fs::metadata(desk.path("real.json")).unwrap();
        assert_eq!(facts.permissions().mode() & 0o777, 0o664);
        assert_eq!(desk.target("web", "prod")["version"], "2");
    }

    #[test]
    fn the_same_target_again_writes_nothing() {
        let desk = Desk::in_git();
        desk.artifact("web", "1", None);
        desk.run(&["deploy", "web", "prod", "1", "-m", "first"]).expect_code(0);
        let (before, head) = (desk.state(), desk.git(&["rev-parse", "HEAD"]));
        let said = desk.run(&["deploy", "web", "prod", "1", "-m", "second"]);
        said.expect_code(0);
        assert!(said.out.contains("already"), "{}", said.out);
        assert_eq!((desk.state(), desk.git(&["rev-parse", "HEAD"])), (before, head));
    }

    #[test]
    fn an_artifact_may_be_given_as_id_prefix_or_version_and_is_written_in_full() {
        let desk = Desk::bare();
        let id = desk.artifact("web", "1", None);
        for text in [&id[..], &id[..11], &id[3..11], "1"] {
            std::fs::remove_file(desk.path("deploy-state.json")).ok();
            desk.run(&["deploy", "web", "prod", text]).expect_code(0);
            assert_eq!(desk.target("web", "prod")["artifact"], id, "by {text}");
        }
    }

    #[test]
    fn an_artifact_that_cannot_run_there_is_refused_before_anything_is_written() {
        let desk = Desk::in_git();
        desk.artifact("web", "1", None);
        desk.artifact("web", "1-staging", Some("staging"));
        let other = desk.artifact("api", "7", None);
        for (text, code, names) in [
            (STRANGER, 4, "web 1 (b3:"),
            ("9.9.9", 4, "there are: "),
            ("b3:0123", 2, "b3:0123"),
            ("b3:not-hex-at-all", 2, "not-hex"),
            ("1-staging", 3, "staging"),
            (&other, 3, "`api`"),
        ] {
            let said = desk.run(&["deploy", "web", "prod", text]);
            said.expect_code(code);
            assert!(said.err.contains(names), "{names} in {}", said.err);
            assert!(!desk.path("deploy-state.json").exists(), "{text}");
        }
    }

    #[test]
    fn a_blocked_artifact_is_refused_with_the_reason() {
        let desk = Desk::bare();
        desk.artifact("web", "1", None);
        let bad = desk.artifact("web", "2", None);
        desk.run(&["deploy", "web", "prod", "1"]).expect_code(0);
        let blocked = format!(
            "\"blocked\": [{{\"artifact\": \"{bad}\", \"reason\": \"leaks\", \"by\": \"lee\"}}], \"environments\""
        );
        desk.write("deploy-state.json", &desk.state().replace("\"environments\"", &blocked));
        let before = desk.state();
        let said = desk.run(&["deploy", "web", "prod", "2"]);
        said.expect_code(10);
        assert!(said.err.contains("leaks") && said.err.contains("lee"), "{}", said.err);
        assert_eq!(desk.state(), before);
    }

    #[test]
    fn a_state_that_is_wrong_is_not_edited() {
        let desk = Desk::bare();
        desk.artifact("web", "1", None);
        for text in ["{", "{\"apiVersion\": \"landfall/v2\", \"apps\": {}}", "{\"apps\": {}}"] {
            desk.write("deploy-state.json", text);
            let said = desk.run(&["deploy", "web", "prod", "1"]);
            said.expect_code(3);
            assert!(said.err.contains("deploy-state.json:1:"), "{}", said.err);
            assert_eq!(desk.state(), text);
        }
    }

    #[test]
    fn push_brings_the_commit_to_the_remote_and_a_push_that_fails_says_so() {
        let desk = Desk::in_git();
        desk.artifact("web", "1", None);
        desk.artifact("web", "2", None);
        let failed = desk.run(&["deploy", "web", "prod", "1", "--push"]);
        failed.expect_code(5);
        assert!(failed.err.contains("git push failed"), "{}", failed.err);
        desk.with_remote();
        desk.run(&["deploy", "web", "prod", "1", "--push"]).expect_code(0);
        assert_eq!(
            desk.git(&["rev-parse", "@{u}"]),
            desk.git(&["rev-parse", "HEAD"]),
            "the second try pushes"
        );
        desk.run(&["deploy", "web", "prod", "2", "--push"]).expect_code(0);
        assert_eq!(desk.git(&["rev-parse", "@{u}"]), desk.git(&["rev-parse", "HEAD"]));
    }

    #[test]
    fn deploys_at_the_same_time_all_land() {
        let desk = Desk::in_git();
        let apps = ["a", "b", "c", "d"];
        for app in apps {
            desk.artifact(app, "1", None);
        }
        let children: Vec<_> =
            apps.iter().map(|app| desk.landfall(&["deploy", app, "prod", "1"]).spawn().unwrap()).collect();
        for mut child in children {
            assert!(child.wait().unwrap().success());
        }
        for app in apps {
            assert_eq!(desk.target(app, "prod")["version"], "1");
        }
        assert_eq!(desk.git(&["rev-list", "--count", "HEAD"]), "5");
    }

    #[test]
    fn a_suspended_app_is_edited_and_the_pause_is_said() {
        let desk = Desk::bare();
        desk.artifact("web", "1", None);
        desk.artifact("web", "2", None);
        desk.run(&["deploy", "web", "prod", "1"]).expect_code(0);
        let suspended = "\"suspend\": {\"reason\": \"fair\", \"by\": \"lee\"}, \"target\"";
        desk.write("deploy-state.json", &desk.state().replace("\"target\"", suspended));
        let said = desk.run(&["deploy", "web", "prod", "2"]);
        said.expect_code(0);
        assert!(said.err.contains("suspended") && said.err.contains("fair, lee"), "{}", said.err);
    }

    #[test]
    fn a_reason_that_no_state_may_hold_is_refused_before_a_first_file_is_made() {
        let desk = Desk::bare();
        desk.artifact("web", "1", None);
        for reason in [" ", "\u{1b}[2J"] {
            desk.run(&["deploy", "web", "prod", "1", "-m", reason]).expect_code(3);
            assert!(!desk.path("deploy-state.json").exists());
        }
    }

    #[test]
    fn a_directory_that_is_not_there_is_not_made() {
        let desk = Desk::bare();
        desk.artifact("web", "1", None);
        let nowhere = desk.path("home/nowhere/deploy-state.json").display().to_string();
        let said = desk.run(&["deploy", "web", "prod", "1", "--state", &nowhere]);
        assert!(said.expect_code(4).err.contains("there is no directory"), "{}", said.err);
        assert!(!desk.path("home/nowhere").exists());
    }

    #[test]
    fn json_says_what_changed() {
        let desk = Desk::in_git();
        let id = desk.artifact("web", "1", None);
        let said: Value =
            serde_json::from_str(&desk.run(&["deploy", "web", "prod", "1", "-o", "json"]).out).unwrap();
        assert_eq!((&said["kind"], &said["to"]["artifact"]), (&"Deploy".into(), &Value::from(id)));
        assert_eq!(said["commit"], desk.git(&["rev-parse", "HEAD"]));
        let error: Value =
            serde_json::from_str(&desk.run(&["deploy", "web", "prod", "9", "-o", "json"]).out).unwrap();
        assert_eq!((&error["kind"], &error["code"]), (&"Error".into(), &4.into()));
    }
}

mod state {
    use super::*;

    fn named(artifact: &str) -> String {
        format!(
            "{{\"apiVersion\": \"landfall/v1\", \"apps\": {{\"web\": {{\"environments\": {{\"prod\": \
             {{\"target\": {{\"artifact\": \"{artifact}\"}}}}}}}}}}}}"
        )
    }

    #[test]
    fn lint_names_place_and_remedy_of_what_is_wrong() {
        let desk = Desk::bare();
        let unknown_key = named(STRANGER).replace("\"target\"", "\"retian\": 1, \"target\"");
        for (text, names) in [
            ("{\"apiVersion\":\n ".to_owned(), "deploy-state.json:2:"),
            (named(STRANGER).replace("/v1", "/v2"), "newer than this program"),
            (unknown_key, "`retain`"),
            (named("b3:0123abcd"), "abbreviated id"),
        ] {
            desk.write("deploy-state.json", &text);
            let said = desk.run(&["state", "lint"]);
            said.expect_code(3);
            assert!(said.out.contains(names), "{names} in {}", said.out);
        }
    }

    #[test]
    fn lint_in_json_has_the_place_apart() {
        let desk = Desk::bare();
        desk.write("x.json", &named("b3:0123abcd"));
        let said = desk.run(&["state", "lint", "x.json", "-o", "json"]);
        said.expect_code(3);
        let list: Value = serde_json::from_str(&said.out).unwrap();
        let item = &list["items"][0];
        assert_eq!(item["pointer"], "/apps/web/environments/prod/target/artifact");
        assert_eq!((&item["file"], &item["line"]), (&"x.json".into(), &1.into()));
        assert_eq!((&item["severity"], &list["kind"]), (&"error".into(), &"FindingList".into()));
    }

    #[test]
    fn lint_with_a_store_finds_artifacts_that_it_does_not_have_or_that_are_others() {
        let desk = Desk::bare();
        let id = desk.artifact("web", "1", Some("staging"));
        let store = desk.path("root/store").display().to_string();
        for (artifact, names) in [(STRANGER, "0123456789ab"), (&id, "packed for `staging`")] {
            desk.write("deploy-state.json", &named(artifact));
            desk.run(&["state", "lint"]).expect_code(0);
            let said = desk.run(&["state", "lint", "--store", &store]);
            said.expect_code(3);
            assert!(said.out.contains(names) && said.out.contains(":1:"), "{names} in {}", said.out);
        }
    }

    #[test]
    fn a_warning_is_shown_and_is_no_failure() {
        let desk = Desk::bare();
        let text = named(STRANGER)
            .replace("\"target\"", "\"suspend\": {\"reason\": \"fair\", \"by\": \"lee\"}, \"target\"");
        desk.write("deploy-state.json", &text);
        let said = desk.run(&["state", "lint"]);
        said.expect_code(0);
        assert!(said.out.contains("warning") && said.out.contains("/apps/web/environments/prod/suspend"));
    }

    #[test]
    fn resolve_says_what_should_run_and_what_was_meant_by_a_mistyped_name() {
        let desk = Desk::bare();
        desk.write("deploy-state.json", &named(STRANGER));
        let said = desk.run(&["state", "resolve", "--app", "web", "--env", "prod", "-o", "json"]);
        let found: Value = serde_json::from_str(&said.expect_code(0).out).unwrap();
        assert_eq!(found["spec"]["target"]["artifact"], STRANGER);
        let missing = desk.run(&["state", "resolve", "--app", "wbe", "--env", "prod"]);
        assert!(missing.expect_code(4).err.contains("did you mean `web`?"), "{}", missing.err);
        desk.run(&["state", "resolve", "--app", "web", "--env", "dev"]).expect_code(4);
    }

    #[test]
    fn the_published_schema_is_the_one_that_is_printed() {
        let printed = Desk::bare().run(&["state", "schema"]);
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/deploy-state.schema.json");
        let remedy = "landfall state schema > docs/deploy-state.schema.json";
        assert_eq!(std::fs::read_to_string(path).unwrap(), printed.expect_code(0).out, "run: {remedy}");
    }
}

mod wait {
    use super::*;

    #[test]
    fn wait_follows_the_agent_and_exits_with_its_verdict() {
        let desk = Desk::in_git();
        let mut agent = desk.agent();
        desk.service("1", true);
        let two = desk.service("2", false);
        let good = desk.run(&["deploy", "web", "prod", "1", "--wait", "--timeout", "60s"]);
        good.expect_code(0);
        assert!(good.err.contains("Switching") && good.err.contains("Healthy"), "{}", good.err);
        let again = desk.run(&["deploy", "web", "prod", "1", "--wait", "--timeout", "60s"]);
        again.expect_code(0);
        assert!(again.err.contains("runs already"), "{}", again.err);
        let bad = desk.run(&["deploy", "web", "prod", "2", "--wait", "--timeout", "60s", "-o", "json"]);
        bad.expect_code(8);
        assert!(bad.err.contains("Reverting to 1"), "{}", bad.err);
        let said: Value = serde_json::from_str(&bad.out).unwrap();
        assert_eq!(
            (&said["verdict"]["result"], &said["verdict"]["attempt"]),
            (&"Reverted".into(), &2.into())
        );
        let same = desk.run(&["deploy", "web", "prod", &two, "--wait", "--timeout", "60s"]);
        same.expect_code(10);
        assert!(same.err.contains("failed here in attempt 2"), "{}", same.err);
        let back = desk.run(&["rollback", "web", "prod", "--wait", "--timeout", "60s"]);
        back.expect_code(0);
        agent.stop();
        let gone = desk.run(&["deploy", "web", "prod", "2", "--wait"]);
        gone.expect_code(15);
        assert_eq!(desk.target("web", "prod")["version"], "1", "nothing was changed without an agent");
    }

    #[test]
    fn wait_ends_when_its_time_is_over() {
        let desk = Desk::bare();
        desk.artifact("web", "1", None);
        let _agent = desk.agent();
        let elsewhere = desk.path("home/other.json").display().to_string();
        let said =
            desk.run(&["deploy", "web", "prod", "1", "--wait", "--timeout", "300ms", "--state", &elsewhere]);
        said.expect_code(14);
    }

    #[test]
    fn the_end_of_the_agent_ends_the_wait() {
        let desk = Desk::bare();
        desk.artifact("web", "1", None);
        let mut agent = desk.agent();
        let elsewhere = desk.path("home/other.json");
        let arguments = ["deploy", "web", "prod", "1", "--wait", "--state", elsewhere.to_str().unwrap()];
        let waiting = desk.landfall(&arguments).spawn().unwrap();
        let written = || elsewhere.exists();
        crate::waiting::wait_until("the state is written", std::time::Duration::from_secs(60), written);
        agent.stop();
        assert_eq!(waiting.wait_with_output().unwrap().status.code(), Some(15));
    }
}

mod rollback {
    use super::*;

    #[test]
    fn it_goes_to_the_last_that_proved_healthy_and_never_to_the_one_before() {
        let desk = Desk::in_git();
        for (version, well) in [("1", true), ("2", true), ("3", false), ("4", false)] {
            desk.service(version, well);
        }
        let _agent = desk.agent();
        for (version, code) in [("1", 0), ("2", 0), ("3", 8), ("4", 8)] {
            desk.run(&["deploy", "web", "prod", version, "--wait", "--timeout", "60s"]).expect_code(code);
        }
        let said = desk.run(&["rollback", "web", "prod"]);
        said.expect_code(0);
        assert!(said.err.contains("back to 2 (") && said.err.contains("in attempt 2"), "{}", said.err);
        assert_eq!(desk.target("web", "prod")["version"], "2");
        assert_eq!(desk.git(&["log", "-1", "--format=%s"]), "roll back web to 2 in prod");
    }

    #[test]
    fn without_a_history_it_takes_the_log_and_says_that_it_knows_no_more() {
        let desk = Desk::in_git();
        for version in ["1", "2", "3"] {
            desk.artifact("web", version, None);
            desk.run(&["deploy", "web", "prod", version]).expect_code(0);
        }
        let said = desk.run(&["rollback", "web", "prod", "-m", "typo"]);
        said.expect_code(0);
        assert!(said.err.contains("back to 2") && said.err.contains("unknown"), "{}", said.err);
        assert_eq!(desk.target("web", "prod")["version"], "2");
        assert_eq!(desk.target("web", "prod")["reason"], "typo");
    }

    #[test]
    fn it_goes_where_it_is_told_and_writes_down_from_where() {
        let desk = Desk::in_git();
        for version in ["1", "2", "3"] {
            desk.artifact("web", version, None);
            desk.run(&["deploy", "web", "prod", version]).expect_code(0);
        }
        desk.run(&["rollback", "web", "prod", "--to", "1"]).expect_code(0);
        assert_eq!(desk.target("web", "prod")["version"], "1");
        let reason = desk.target("web", "prod")["reason"].as_str().unwrap().to_owned();
        assert!(reason.starts_with("rolled back from 3"), "{reason}");
    }

    #[test]
    fn a_state_in_a_subdirectory_has_a_log_and_commits_too() {
        let desk = Desk::in_git();
        std::fs::create_dir(desk.path("state/hosts")).unwrap();
        for version in ["1", "2"] {
            desk.artifact("web", version, None);
            desk.run(&["deploy", "web", "prod", version, "--state", "hosts/state.json"]).expect_code(0);
        }
        desk.run(&["rollback", "web", "prod", "--state", "hosts/state.json"]).expect_code(0);
        assert_eq!(desk.git(&["log", "-1", "--format=%s"]), "roll back web to 1 in prod");
        assert_eq!(desk.git(&["show", "--name-only", "--format="]), "hosts/state.json");
    }

    #[test]
    fn with_nothing_to_go_back_to_it_says_so() {
        let desk = Desk::in_git();
        desk.artifact("web", "1", None);
        desk.run(&["rollback", "web", "prod"]).expect_code(4);
        desk.run(&["deploy", "web", "prod", "1"]).expect_code(0);
        let said = desk.run(&["rollback", "web", "prod"]);
        said.expect_code(4);
        assert!(said.err.contains("nothing to go back to"), "{}", said.err);
    }

    #[test]
    fn a_blocked_artifact_is_no_goal() {
        let desk = Desk::in_git();
        let mut ids = Vec::new();
        for version in ["1", "2", "3"] {
            ids.push(desk.artifact("web", version, None));
            desk.run(&["deploy", "web", "prod", version]).expect_code(0);
        }
        let blocked = format!(
            "\"blocked\": [{{\"artifact\": \"{}\", \"reason\": \"leaks\", \"by\": \"lee\"}}], \"environments\"",
            ids[1]
        );
        desk.write_committed(&desk.state().replace("\"environments\"", &blocked));
        desk.run(&["rollback", "web", "prod"]).expect_code(0);
        assert_eq!(desk.target("web", "prod")["version"], "1");
        desk.run(&["rollback", "web", "prod", "--to", "2"]).expect_code(10);
    }
}

mod plan {
    use super::*;

    fn plan(desk: &Desk, code: i32) -> Value {
        let said = desk.run(&["plan", "--env", "prod", "-o", "json"]);
        let list: Value = serde_json::from_str(&said.expect_code(code).out).unwrap();
        assert_eq!(list["kind"], "PlanList");
        list["items"][0].clone()
    }

    #[test]
    fn on_a_new_host_everything_would_come_and_nothing_is_made() {
        let desk = Desk::bare();
        let id = desk.artifact("web", "1", None);
        desk.run(&["deploy", "web", "prod", "1"]).expect_code(0);
        let item = plan(&desk, 1);
        assert_eq!((&item["action"], &item["to"]["artifact"]), (&"Deploy".into(), &Value::from(id)));
        assert_eq!(item["files"], serde_json::json!({ "added": 1, "changed": 0, "removed": 0 }));
        assert_eq!(item["fetch"], serde_json::json!({ "contents": 1, "bytes": 1 }));
        assert_eq!((&item["from"], &item["rollback_target"]), (&Value::Null, &Value::Null));
        let left: Vec<_> =
            std::fs::read_dir(desk.path("root/")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["store"]);
    }

    #[test]
    fn it_says_what_would_change_where_a_failure_would_go_and_what_is_refused() {
        let desk = Desk::bare();
        for (version, well) in [("1", true), ("2", false), ("3", true)] {
            desk.service(version, well);
        }
        let _agent = desk.agent();
        desk.run(&["deploy", "web", "prod", "1", "--wait", "--timeout", "60s"]).expect_code(0);
        assert_eq!(plan(&desk, 0)["action"], "None");
        desk.run(&["deploy", "web", "prod", "2", "--wait", "--timeout", "60s"]).expect_code(8);
        let refused = plan(&desk, 10);
        assert_eq!(refused["action"], "Refuse");
        assert!(refused["why"].as_str().unwrap().contains("failed here in attempt 2"), "{refused}");
        let state = desk.state();
        let next = desk.path("home/next.json").display().to_string();
        desk.write("home/next.json", &state);
        desk.run(&["deploy", "web", "prod", "3", "--state", &next]).expect_code(0);
        let said = desk.run(&["plan", "web", "--env", "prod", "--state", &next]);
        said.expect_code(1);
        for words in ["web/prod", "1 (", "→ 3 (", "+0 ~1 -0", "if it fails, back to 1"] {
            assert!(said.out.contains(words), "{words} in {}", said.out);
        }
    }

    #[test]
    fn what_cannot_be_deployed_has_the_code_of_its_reason() {
        let desk = Desk::bare();
        let id = desk.artifact("web", "1", Some("staging"));
        let named = |artifact: &str, more: &str| {
            format!(
                "{{\"apiVersion\": \"landfall/v1\", \"apps\": {{\"web\": {{\"environments\": {{\"prod\": \
                 {{{more}\"target\": {{\"artifact\": \"{artifact}\"}}}}}}}}}}}}"
            )
        };
        let suspended = "\"suspend\": {\"reason\": \"fair\", \"by\": \"lee\"}, ";
        for (artifact, more, code) in
            [(&id[..], "", 3), (STRANGER, "", 6), (STRANGER, suspended, 11), ("b3:12", "", 3)]
        {
            desk.write("deploy-state.json", &named(artifact, more));
            let item = plan(&desk, code);
            assert!(item["why"].is_string(), "{item}");
        }
        desk.write("deploy-state.json", "{");
        desk.run(&["plan", "--env", "prod"]).expect_code(3);
    }
}
