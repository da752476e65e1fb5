//! Migrations by name: listed in an artifact when it is packed, compared before it is deployed. Pure.
//!
//! A name is what stands directly below the directory that a migrate step names: a directory or a file for each
//! migration, as every migrator keeps them. What is in the database is never asked: the artifact that runs says
//! what was migrated for it.

use std::collections::{BTreeMap, BTreeSet};

use landfall_store::path::escape;
use landfall_store::{Name, Tree};
use schemars::JsonSchema;
use serde::Serialize;

use crate::spec::{ReleaseSpec, StepSpec};

/// A directory of migrations that is not in the artifact: a slip of the pen would list none for ever.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("step \"{step}\": no packed path is below `{dir}`, where its migrations should be")]
pub struct NoMigrations {
    /// The step.
    pub step: Name,
    /// Where they should be, in the release.
    pub dir: String,
}

impl NoMigrations {
    /// What to do about it.
    pub const HINT: &'static str =
        "pack the directory in a layer, or leave `migrations` out until there is a first one";
}

/// Lists the migrations of every step that names a directory of them, from what is packed.
pub fn list(
    spec: &mut ReleaseSpec,
    dirs: &BTreeMap<Name, String>,
    trees: &[&Tree],
) -> Result<(), NoMigrations> {
    for step in &mut spec.steps {
        let Some(dir) = dirs.get(&step.name) else { continue };
        let found = trees.iter().flat_map(|tree| directly_below(tree, dir));
        let (all, names): (Vec<()>, Vec<Option<String>>) = found.map(|name| ((), name)).unzip();
        if all.is_empty() {
            return Err(NoMigrations { step: step.name.clone(), dir: dir.clone() });
        }
        let names: BTreeSet<String> = names.into_iter().flatten().collect();
        step.migrations = Some(names.into_iter().collect());
    }
    Ok(())
}

/// The component below `dir` of every path there; `None` where it is no migration.
fn directly_below<'a>(tree: &'a Tree, dir: &'a str) -> impl Iterator<Item = Option<String>> + 'a {
    let inside = |path: &'a [u8]| path.strip_prefix(dir.as_bytes())?.strip_prefix(b"/");
    tree.entries().iter().filter_map(move |entry| inside(entry.path.as_bytes())).map(|below| {
        let mut parts = below.splitn(2, |byte| *byte == b'/');
        let (name, is_file) = (escape(parts.next().unwrap_or_default()), parts.next().is_none());
        let is_none = name.starts_with('.') || is_file && is_lock(&name);
        (!is_none).then_some(name)
    })
}

/// `migration_lock.toml` and its like; `20260101_lock.sql` is a migration.
fn is_lock(name: &str) -> bool {
    let (stem, kind) = name.rsplit_once('.').unwrap_or((name, ""));
    kind == "lock" || stem.ends_with("lock") && ["toml", "json", "yaml", "yml"].contains(&kind)
}

/// How the migrations of one step differ between two artifacts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "MigrationChange")]
pub struct MigrationChange {
    /// The migrate step.
    pub step: Name,
    /// Migrations that only the new artifact has: its step will run them.
    pub added: Vec<String>,
    /// Migrations that only the old artifact has: the database has them, and the new artifact does not know them.
    pub unknown: Vec<String>,
}

/// Every migrate step whose migrations differ. A step that one of the two does not list tells nothing.
pub fn compare(old: Option<&ReleaseSpec>, new: &ReleaseSpec) -> Vec<MigrationChange> {
    let listed = |step: &StepSpec| Some((step.name.clone(), step.migrations.clone()?));
    let before: Option<BTreeMap<Name, Vec<String>>> =
        old.map(|old| old.steps.iter().filter_map(listed).collect());
    let change = |(step, names): (Name, Vec<String>)| {
        let known = match &before {
            // Nothing was deployed: everything is new.
            None => Vec::new(),
            Some(before) => before.get(&step)?.clone(),
        };
        let lacking = |of: &[String], from: &[String]| -> Vec<String> {
            from.iter().filter(|name| !of.contains(name)).cloned().collect()
        };
        let change =
            MigrationChange { step, added: lacking(&known, &names), unknown: lacking(&names, &known) };
        (!change.added.is_empty() || !change.unknown.is_empty()).then_some(change)
    };
    new.steps.iter().filter_map(listed).filter_map(change).collect()
}

/// Names shown before the rest is only counted.
const SHOWN: usize = 3;

impl MigrationChange {
    /// What a person should know, a sentence each.
    pub fn sentences(&self) -> Vec<String> {
        let mut told = Vec::new();
        if !self.added.is_empty() {
            told.push(format!("{} to run: {}", counted(self.added.len()), some(&self.added)));
        }
        if !self.unknown.is_empty() {
            let count = counted(self.unknown.len());
            told.push(format!("database has {count} this artifact doesn't know: {}", some(&self.unknown)));
        }
        told
    }
}

fn counted(count: usize) -> String {
    if count == 1 { "1 migration".to_owned() } else { format!("{count} migrations") }
}

fn some(names: &[String]) -> String {
    let shown = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use landfall_store::{BlobId, Entry, EntryPath, Kind};

    use super::*;
    use crate::spec::{Command, StepKind};

    fn tree(paths: &[&str]) -> Tree {
        let entry = |path: &&str| Entry {
            path: EntryPath::new(*path).unwrap(),
            kind: Kind::File { size: 1, blob: BlobId::of(b"x"), executable: false },
        };
        Tree::from_entries(paths.iter().map(entry).collect()).unwrap()
    }

    fn spec(migrations: Option<&[&str]>) -> ReleaseSpec {
        let text = r#"{"version":"1"}"#;
        let mut spec: ReleaseSpec = serde_json::from_str(text).unwrap();
        spec.steps.push(StepSpec {
            name: "migrate".parse().unwrap(),
            kind: StepKind::Migrate,
            command: Command::Run(vec!["true".to_owned()]),
            timeout: crate::spec::STEP_TIMEOUT,
            writes: Vec::new(),
            roles: Vec::new(),
            check: None,
            migrations: migrations.map(|names| names.iter().map(|name| (*name).to_owned()).collect()),
        });
        spec
    }

    fn listed(paths: &[&str], dir: &str) -> Result<Vec<String>, NoMigrations> {
        let mut spec = spec(None);
        let dirs = BTreeMap::from([("migrate".parse().unwrap(), dir.to_owned())]);
        list(&mut spec, &dirs, &[&tree(paths)])?;
        Ok(spec.steps[0].migrations.clone().unwrap())
    }

    #[test]
    fn a_migration_is_a_directory_or_a_file_directly_below_and_a_lock_file_is_none() {
        let paths = [
            "prisma/migrations/.gitkeep",
            "prisma/migrations/20260101_init/migration.sql",
            "prisma/migrations/20260102_users/migration.sql",
            "prisma/migrations/20260102_users/readme.md",
            "prisma/migrations/20260103_block.sql",
            "prisma/migrations/migration_lock.toml",
            "prisma/migrations2/other/migration.sql",
            "prisma/schema.prisma",
        ];
        assert_eq!(
            listed(&paths, "prisma/migrations").unwrap(),
            ["20260101_init", "20260102_users", "20260103_block.sql"]
        );
    }

    #[test]
    fn a_directory_without_migrations_lists_none_and_one_that_is_not_packed_is_an_error() {
        assert_eq!(listed(&["db/.keep"], "db").unwrap(), Vec::<String>::new());
        let error = listed(&["database/1.sql"], "db").unwrap_err();
        assert_eq!(error.dir, "db");
    }

    #[test]
    fn what_is_new_is_to_run_and_what_is_gone_stays_in_the_database() {
        let told = |old: Option<&[&str]>, new: Option<&[&str]>| -> Vec<String> {
            let changes = compare(Some(&spec(old)), &spec(new));
            changes.iter().flat_map(MigrationChange::sentences).collect()
        };
        assert_eq!(told(Some(&["1"]), Some(&["1", "2", "3"])), ["2 migrations to run: 2, 3"]);
        assert_eq!(
            told(Some(&["1", "2"]), Some(&["1"])),
            ["database has 1 migration this artifact doesn't know: 2"]
        );
        assert_eq!(told(Some(&["1", "x"]), Some(&["1", "y"])).len(), 2);
        assert!(told(Some(&["1"]), Some(&["1"])).is_empty());
        assert!(told(None, Some(&["1"])).is_empty(), "the old one does not say what it had");
        assert!(told(Some(&["1"]), None).is_empty());
        let first = compare(None, &spec(Some(&["1", "2", "3", "4", "5"])));
        assert_eq!(first[0].sentences(), ["5 migrations to run: 1, 2, 3 and 2 more"]);
    }
}
