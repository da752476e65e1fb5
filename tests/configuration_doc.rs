//! `docs/configuration.md` names every key that the parsers know, and its examples parse.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics, in its helpers too")]

use std::path::Path;

use landfall::config::{self, HostConfig};
use landfall::recipe::{self, Recipe};
use landfall::state::{self, DesiredState};

fn document() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    std::fs::read_to_string(path).unwrap()
}

/// The part of the document between two headings.
fn part<'a>(document: &'a str, from: &str, to: &str) -> &'a str {
    let start = document.find(from).unwrap_or_else(|| panic!("there is no heading {from:?}"));
    let rest = &document[start..];
    &rest[..rest.find(to).unwrap_or(rest.len())]
}

/// Whether the part names the key as code, alone or as the last part of a dotted one.
fn names(part: &str, key: &str) -> bool {
    part.contains(&format!("`{key}`")) || part.contains(&format!(".{key}`"))
}

fn missing(part: &str, tables: &[(&str, &[&str])]) -> Vec<String> {
    let keys = tables.iter().flat_map(|(table, keys)| keys.iter().map(move |key| (table, key)));
    keys.filter(|(_, key)| !names(part, key)).map(|(table, key)| format!("{table}: {key}")).collect()
}

#[test]
fn every_key_of_every_file_is_described_in_its_own_part() {
    let document = document();
    for (from, to, tables) in [
        ("## `landfall.toml`", "\n## The environment", recipe::keys::ALL),
        ("## `deploy-state.json`", "\n## `host.toml`", state::keys::ALL),
        ("## `host.toml`", "\n## no heading follows", config::keys::ALL),
    ] {
        let missing = missing(part(&document, from, to), tables);
        assert!(missing.is_empty(), "{from} lacks {missing:?}");
    }
}

/// The text of the first fenced block of this language.
fn example<'a>(part: &'a str, language: &str) -> &'a str {
    let fence = format!("\n```{language}\n");
    let start = part.find(&fence).unwrap_or_else(|| panic!("no {language} example")) + fence.len();
    let rest = &part[start..];
    &rest[..rest.find("\n```").unwrap()]
}

#[test]
fn the_examples_in_the_document_parse() {
    let document = document();
    let recipe = example(part(&document, "## `landfall.toml`", "\n## "), "toml");
    Recipe::parse(recipe, Path::new("landfall.toml")).unwrap();
    let state = example(part(&document, "## `deploy-state.json`", "\n## `host"), "json");
    assert!(
        DesiredState::parse(state, Path::new("deploy-state.json")).unwrap().apps.values().all(Result::is_ok)
    );
    let host = example(part(&document, "## `host.toml`", "\n## no"), "toml");
    HostConfig::parse(host, Path::new("host.toml"), "web-1").unwrap();
}

#[test]
fn the_message_shown_in_the_document_is_the_one_that_is_printed() {
    let text = "app = \"web\"\nversion = \"1\"\n[start]\nrun = [\"a\"]\ninstanses = 2\n";
    let error = Recipe::parse(text, Path::new("landfall.toml")).unwrap_err();
    let document = document();
    assert!(document.contains(&error.to_string()), "{error}");
    assert!(document.contains(&format!("hint: {}", error.hint().unwrap())));
}
