//! The documents say what the code is: every module, command and flag is named, the examples of formats.md are
//! what they claim to be, and no link between documents leads nowhere.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics, in its helpers too")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use landfall::disk::RealDisk;
use landfall::layout::Root;
use landfall::record::history::History;
use landfall::record::quarantine::Quarantine;
use landfall_store::{Artifact, Tree};

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    std::fs::read_to_string(here().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The text between two headings.
fn part<'a>(document: &'a str, from: &str, to: &str) -> &'a str {
    let start = document.find(from).unwrap_or_else(|| panic!("there is no {from:?}"));
    let rest = &document[start + from.len()..];
    &rest[..rest.find(to).unwrap_or(rest.len())]
}

/// What stands between backticks on the lines of tables.
fn named_in_tables(text: &str) -> BTreeSet<&str> {
    let rows = text.lines().filter(|line| line.starts_with('|'));
    rows.flat_map(|line| line.split('`').skip(1).step_by(2)).collect()
}

/// The modules at the top of a crate: files and directories of its source.
fn modules(source: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(here().join(source)).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
    entries.map(name).filter(|name| name != "lib" && name != "main").collect()
}

#[test]
fn the_architecture_names_every_module_and_no_other() {
    let document = read("docs/architecture.md");
    for (heading, next, source) in [
        ("### `src/`, the program\n", "\n### ", "src"),
        ("### `store/src/`, the library\n", "\n## ", "store/src"),
    ] {
        let rows = part(&document, heading, next).lines().filter_map(|line| line.strip_prefix("| "));
        let rooms: String =
            rows.filter_map(|row| row.split('|').next()).map(|room| format!("|{room}\n")).collect();
        let named: BTreeSet<String> = named_in_tables(&rooms)
            .into_iter()
            .filter(|name| *name != "main.rs")
            .map(str::to_owned)
            .collect();
        assert_eq!(named, modules(source), "{source}");
    }
}

/// Every command's help stands in the reference as `--help` prints it. After a change of the command line,
/// `LANDFALL_BLESS=1 cargo test --test docs` writes the reference anew; a new command needs its heading first.
#[test]
fn the_command_reference_says_what_help_says() {
    let mut document = read("docs/cli.md");
    let mut missing = Vec::new();
    let mut stale = Vec::new();
    walk(&landfall::cli::definition(), "landfall", &mut |command, name| {
        let head = format!("\n### `{name}`\n\n```text help\n");
        let Some(start) = document.find(&head).map(|at| at + head.len()) else {
            return missing.push(head.trim().to_owned());
        };
        let end = start + document[start..].find("```\n").unwrap();
        let help = help(command, name);
        if document[start..end] != help {
            document.replace_range(start..end, &help);
            stale.push(name.to_owned());
        }
    });
    if std::env::var_os("LANDFALL_BLESS").is_some() {
        std::fs::write(here().join("docs/cli.md"), &document).unwrap();
        stale.clear();
    }
    assert_eq!((missing, stale), (Vec::<String>::new(), Vec::<String>::new()));
}

/// Calls `visit` with each command that does something itself.
fn walk(command: &clap::Command, name: &str, visit: &mut dyn FnMut(&clap::Command, &str)) {
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
        let name = format!("{name} {}", sub.get_name());
        if !sub.has_subcommands() {
            visit(sub, &name);
        }
        walk(sub, &name, visit);
    }
}

/// The help of a command, without the options of every command.
fn help(command: &clap::Command, name: &str) -> String {
    let mut command = command.clone().bin_name(name).term_width(100).disable_help_flag(true);
    let help = command.render_long_help().to_string();
    help.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

#[test]
fn the_command_reference_names_every_option_of_every_command() {
    let document = read("docs/cli.md");
    let table = part(&document, "\n## Options of every command\n", "\n## ");
    let program = landfall::cli::definition();
    let long = program.get_arguments().filter_map(clap::Arg::get_long);
    let missing: Vec<&str> = long.filter(|long| !table.contains(&format!("`--{long}"))).collect();
    assert_eq!(missing, Vec::<&str>::new());
}

#[test]
fn the_command_reference_names_every_exit_code() {
    use landfall::cli::exit::Exit;
    let document = read("docs/cli.md");
    let codes = part(&document, "\n## Exit codes\n", "\n## ");
    for exit in [
        Exit::Done,
        Exit::Differs,
        Exit::Usage,
        Exit::Invalid,
        Exit::NotFound,
        Exit::Source,
        Exit::Supply,
        Exit::Step,
        Exit::Reverted,
        Exit::Down,
        Exit::Refused,
        Exit::Suspended,
        Exit::Conflict,
        Exit::Trust,
        Exit::TimedOut,
        Exit::NoAgent,
        Exit::Error,
        Exit::Interrupted,
    ] {
        assert!(codes.contains(&format!("\n| {} |", exit.code())), "{exit:?}");
    }
}

/// The fenced example of this language and name.
fn example<'a>(document: &'a str, fence: &str) -> &'a str {
    let body = part(document, &format!("\n```{fence}\n"), "```\n");
    assert!(!body.is_empty(), "{fence}");
    body
}

#[test]
fn the_tree_and_the_artifact_of_the_formats_have_the_ids_given_there() {
    let document = read("docs/formats.md");
    let tree = Tree::decode(example(&document, "text tree").as_bytes()).unwrap();
    assert!(document.contains(&format!("id of this tree: `{}`", tree.id())), "{}", tree.id());
    let artifact = Artifact::decode(example(&document, "json artifact").trim_end().as_bytes()).unwrap();
    let id = artifact.id().unwrap();
    assert!(document.contains(&format!("id of this artifact: `{id}`")), "{id}");
}

#[test]
fn the_records_of_the_formats_are_read_as_records() {
    let document = read("docs/formats.md");
    let root = tempfile::tempdir().unwrap();
    let dir = Root::new(root.path()).unwrap().app(&"hello".parse().unwrap(), &"prod".parse().unwrap(), None);
    std::fs::create_dir_all(dir.history().parent().unwrap()).unwrap();

    std::fs::write(dir.quarantine(), example(&document, "text sealed")).unwrap();
    assert!(Quarantine::read(&RealDisk, &dir).unwrap().items.is_empty());

    std::fs::write(dir.history(), example(&document, "json history")).unwrap();
    let history = History::read(&RealDisk, &dir).unwrap();
    assert_eq!(history.entries().len(), 1);
}

fn documents() -> Vec<PathBuf> {
    let list = |dir: &str| {
        let entries = std::fs::read_dir(here().join(dir)).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect::<Vec<_>>()
    };
    let examples = std::fs::read_dir(here().join("examples")).unwrap().map(|entry| entry.unwrap().path());
    let readmes = examples.map(|dir| dir.join("README.md")).filter(|readme| readme.exists());
    ["", "docs", "docs/decisions", "docs/guides"].into_iter().flat_map(list).chain(readmes).collect()
}

/// The name that a heading gets as a link's target: as on the usual forges.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = kept.chars().filter(|char| char.is_alphanumeric() || matches!(char, ' ' | '-' | '_'));
    kept.map(|char| if char == ' ' { '-' } else { char }).collect()
}

/// The targets of a document's links, outside code.
fn links(text: &str) -> Vec<String> {
    let prose: String = text.split("```").step_by(2).collect();
    prose.split("](").skip(1).filter_map(|rest| rest.split(')').next()).map(str::to_owned).collect()
}

#[test]
fn no_link_between_documents_leads_nowhere() {
    let mut dead = Vec::new();
    for document in documents() {
        let text = std::fs::read_to_string(&document).unwrap();
        for link in links(&text).into_iter().filter(|link| !link.contains("://")) {
            let (file, fragment) = link.split_once('#').unwrap_or((&link, ""));
            let target = match file {
                "" => document.clone(),
                file => document.parent().unwrap().join(file),
            };
            let there = match (target.exists(), fragment) {
                (there, "") => there,
                (false, _) => false,
                (true, fragment) => {
                    let text = std::fs::read_to_string(&target).unwrap();
                    text.lines().any(|line| line.starts_with('#') && anchor(line) == fragment)
                }
            };
            if !there {
                dead.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert_eq!(dead, Vec::<String>::new());
}

#[test]
fn transcripts_fit_a_terminal() {
    let mut wide = Vec::new();
    for document in documents() {
        let text = std::fs::read_to_string(&document).unwrap();
        for block in text.split("\n```console\n").skip(1) {
            let block = block.split("\n```").next().unwrap();
            let lines = block.lines().filter(|line| line.chars().count() > 80);
            wide.extend(lines.map(|line| format!("{}: {line}", document.display())));
        }
    }
    assert_eq!(wide, Vec::<String>::new());
}
