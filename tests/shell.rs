//! Completions and manual pages name every command and option, in forms that the real tools accept.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::process::{Command, Output};

fn landfall(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_landfall")).args(arguments).output().unwrap()
}

fn script(shell: &str) -> String {
    let made = landfall(&["completions", shell]);
    assert!(made.status.success(), "{made:?}");
    String::from_utf8(made.stdout).unwrap()
}

fn commands() -> Vec<String> {
    let program = landfall::cli::definition();
    program.get_subcommands().map(|command| command.get_name().to_owned()).collect()
}

#[test]
fn every_shells_completions_know_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let script = script(shell);
        let missing: Vec<_> = commands().into_iter().filter(|name| !script.contains(name)).collect();
        assert_eq!(missing, Vec::<String>::new(), "{shell}");
    }
}

#[test]
fn bash_completes_commands_and_options() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("landfall.bash");
    std::fs::write(&file, script("bash")).unwrap();
    let complete = |words: &str, at: u32| {
        let ask = format!(
            "source '{}'; COMP_WORDS=({words}); COMP_CWORD={at}; \
             _landfall landfall \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"; \
             printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            file.display()
        );
        let answer = Command::new("bash").args(["--norc", "-c", &ask]).output().unwrap();
        assert!(answer.status.success(), "{answer:?}");
        String::from_utf8(answer.stdout).unwrap()
    };
    assert_eq!(complete("landfall describ", 1), "describe\n");
    assert_eq!(complete("landfall status --chec", 2), "--check\n");
    assert_eq!(complete("landfall status -o nd", 3), "ndjson\n");
}

#[test]
fn every_command_has_a_manual_page() {
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("man/man1");
    let made = landfall(&["man", "--dir", pages.to_str().unwrap()]);
    assert!(made.status.success() && made.stdout.is_empty(), "{made:?}");
    for name in commands() {
        let page = std::fs::read_to_string(pages.join(format!("landfall-{name}.1"))).unwrap();
        assert!(page.contains(".SH SYNOPSIS") && page.contains(&format!("landfall\\-{name}")), "{page}");
    }
    let main = landfall(&["man"]);
    let main = String::from_utf8(main.stdout).unwrap();
    assert!(main.contains(".TH landfall 1") && main.contains("deploy"), "{main}");
}
