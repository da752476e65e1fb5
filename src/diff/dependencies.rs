//! Dependencies by name and version, from the files that package managers write. Pure.
//!
//! Of three kinds of file the most exact one counts: lockfiles, else the `package.json` of installed packages,
//! else what the app's own `package.json` asks for.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

/// A dependency that has other versions than before. Several versions of one can be installed side by side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DependencyChange {
    /// Its name.
    pub name: String,
    /// Versions before; none: it is new.
    pub from: Vec<String>,
    /// Versions now; none: it is gone.
    pub to: Vec<String>,
}

/// Versions by name.
type Versions = BTreeMap<String, BTreeSet<String>>;

/// The kinds of file that name dependencies, most exact first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Evidence {
    /// `package-lock.json` and its like.
    NpmLock,
    /// `pnpm-lock.yaml`.
    PnpmLock,
    /// `package.json` of an installed package.
    Installed,
    /// `package.json` of the app.
    Wanted,
}

impl Evidence {
    /// What a path of a tree is evidence of.
    pub(super) fn at(path: &str) -> Option<Self> {
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        let inside = directory.split('/').any(|part| part == "node_modules");
        match name {
            "package-lock.json" | "npm-shrinkwrap.json" if !inside => Some(Self::NpmLock),
            // npm's own record of what it installed.
            ".package-lock.json" if directory.ends_with("node_modules") => Some(Self::NpmLock),
            "pnpm-lock.yaml" if !inside => Some(Self::PnpmLock),
            "package.json" if !inside => Some(Self::Wanted),
            "package.json" if is_package_root(directory) => Some(Self::Installed),
            _ => None,
        }
    }

    const fn is_lock(self) -> bool {
        matches!(self, Self::NpmLock | Self::PnpmLock)
    }

    fn versions(self, text: &str) -> Versions {
        match self {
            Self::NpmLock => npm_lock(text),
            Self::PnpmLock => pnpm_lock(text),
            Self::Installed => installed(text),
            Self::Wanted => wanted(text),
        }
    }
}

/// `node_modules/name` or `node_modules/@scope/name`, at any depth.
fn is_package_root(directory: &str) -> bool {
    let mut parts = directory.rsplit('/');
    let (_, parent) = (parts.next(), parts.next());
    match parent {
        Some("node_modules") => true,
        Some(scope) if scope.starts_with('@') => parts.next() == Some("node_modules"),
        _ => false,
    }
}

/// What the changed files of two artifacts say.
#[derive(Debug, Default)]
pub(super) struct Found {
    old: BTreeMap<Evidence, Versions>,
    new: BTreeMap<Evidence, Versions>,
}

/// Which of the two artifacts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    Old,
    New,
}

impl Found {
    /// Takes a file. One that cannot be understood says nothing.
    pub(super) fn take(&mut self, which: Which, evidence: Evidence, text: &str) {
        let side = match which {
            Which::Old => &mut self.old,
            Which::New => &mut self.new,
        };
        let all = side.entry(evidence).or_default();
        for (name, versions) in evidence.versions(text) {
            all.entry(name).or_default().extend(versions);
        }
    }

    /// The changes, by the most exact kind of file that was found.
    pub(super) fn changes(&self) -> Vec<DependencyChange> {
        let kinds: BTreeSet<Evidence> = self.old.keys().chain(self.new.keys()).copied().collect();
        let exact: Vec<Evidence> = match kinds.iter().any(|kind| kind.is_lock()) {
            true => kinds.into_iter().filter(|kind| kind.is_lock()).collect(),
            false => kinds.into_iter().take(1).collect(),
        };
        let (old, new) = (merged(&self.old, &exact), merged(&self.new, &exact));
        let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        let list = |versions: Option<&BTreeSet<String>>| {
            versions.map(|versions| versions.iter().cloned().collect()).unwrap_or_default()
        };
        names
            .into_iter()
            .filter(|name| old.get(*name) != new.get(*name))
            .map(|name| DependencyChange {
                name: name.clone(),
                from: list(old.get(name)),
                to: list(new.get(name)),
            })
            .collect()
    }
}

fn merged(side: &BTreeMap<Evidence, Versions>, kinds: &[Evidence]) -> Versions {
    let mut all = Versions::new();
    for (name, versions) in kinds.iter().filter_map(|kind| side.get(kind)).flatten() {
        all.entry(name.clone()).or_default().extend(versions.iter().cloned());
    }
    all
}

fn json(text: &str) -> Value {
    serde_json::from_str(text.trim_start_matches('\u{feff}')).unwrap_or_default()
}

fn one(name: &str, version: &str) -> (String, BTreeSet<String>) {
    (name.to_owned(), BTreeSet::from([version.to_owned()]))
}

/// `packages` by path since npm 7, nested `dependencies` before.
fn npm_lock(text: &str) -> Versions {
    let lock = json(text);
    let mut found = Versions::new();
    if let Some(packages) = lock["packages"].as_object() {
        for (path, package) in packages {
            let name = path.rsplit_once("node_modules/").map(|(_, name)| name);
            if let (Some(name), Some(version)) = (name, package["version"].as_str()) {
                found.entry(name.to_owned()).or_default().insert(version.to_owned());
            }
        }
    } else {
        nested(&lock, &mut found);
    }
    found
}

fn nested(lock: &Value, found: &mut Versions) {
    for (name, package) in lock["dependencies"].as_object().into_iter().flatten() {
        if let Some(version) = package["version"].as_str() {
            found.entry(name.clone()).or_default().insert(version.to_owned());
        }
        nested(package, found);
    }
}

/// The keys of `packages:`, which every version of the format has: `name@1.0.0(peer@2.0.0)`,
/// `/name@1.0.0`, or `/name/1.0.0_peer@2.0.0`.
fn pnpm_lock(text: &str) -> Versions {
    let section = text.lines().skip_while(|line| line.trim_end() != "packages:").skip(1);
    let section = section.take_while(|line| line.is_empty() || line.starts_with(' '));
    let mut found = Versions::new();
    for line in section {
        let key = line.strip_prefix("  ").filter(|key| !key.starts_with(' '));
        let Some(key) = key.and_then(|key| key.trim_end().strip_suffix(':')) else { continue };
        if let Some((name, version)) = pnpm_key(key.trim_matches(['\'', '"'])) {
            found.entry(name.to_owned()).or_default().insert(version.to_owned());
        }
    }
    found
}

fn pnpm_key(key: &str) -> Option<(&str, &str)> {
    let key = key.strip_prefix('/').unwrap_or(key);
    let key = key.split('(').next()?;
    // The `@` of a scope is the first character; another one parts name and version.
    let after_scope = usize::from(key.starts_with('@'));
    if let Some(at) = key[after_scope..].find('@')
        && !key[..after_scope + at].contains('_')
    {
        let at = at + after_scope;
        return Some((&key[..at], &key[at + 1..]));
    }
    let (name, version) = key.split('_').next()?.rsplit_once('/')?;
    Some((name, version))
}

fn installed(text: &str) -> Versions {
    let package = json(text);
    match (package["name"].as_str(), package["version"].as_str()) {
        (Some(name), Some(version)) => Versions::from([one(name, version)]),
        _ => Versions::new(),
    }
}

fn wanted(text: &str) -> Versions {
    let package = json(text);
    let dependencies = package["dependencies"].as_object().into_iter().flatten();
    dependencies.filter_map(|(name, range)| Some(one(name, range.as_str()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(versions: &Versions) -> Vec<String> {
        versions
            .iter()
            .flat_map(|(name, versions)| versions.iter().map(move |version| format!("{name} {version}")))
            .collect()
    }

    fn changes(evidence: Evidence, old: &str, new: &str) -> Vec<DependencyChange> {
        let mut found = Found::default();
        found.take(Which::Old, evidence, old);
        found.take(Which::New, evidence, new);
        found.changes()
    }

    #[test]
    fn npm_locks_of_every_version_are_read() {
        let flat = r#"{"lockfileVersion":3,"packages":{"":{"version":"9"},
            "node_modules/a":{"version":"1.0.0"},"node_modules/a/node_modules/@s/b":{"version":"2.0.0"},
            "packages/own":{"version":"0.0.0"},"node_modules/link":{"link":true}}}"#;
        assert_eq!(list(&npm_lock(flat)), ["@s/b 2.0.0", "a 1.0.0"]);
        let old = r#"{"dependencies":{"a":{"version":"1.0.0","dependencies":{"b":{"version":"2.0.0"}}}}}"#;
        assert_eq!(list(&npm_lock(old)), ["a 1.0.0", "b 2.0.0"]);
    }

    #[test]
    fn pnpm_locks_of_every_version_are_read() {
        let nine = "lockfileVersion: '9.0'\n\nimporters:\n\n  .:\n    dependencies: {}\n\npackages:\n\n  '@s/a@1.0.0':\n    resolution: {}\n\n  b@2.0.0(c@3.0.0):\n    engines: {node: '>=8'}\n\nsnapshots:\n\n  z@9.0.0: {}\n";
        assert_eq!(list(&pnpm_lock(nine)), ["@s/a 1.0.0", "b 2.0.0"]);
        let six =
            "packages:\n\n  /@s/a@1.0.0:\n    dev: false\n\n  /b@2.0.0(c@3.0.0)(d@4.0.0):\n    dev: false\n";
        assert_eq!(list(&pnpm_lock(six)), ["@s/a 1.0.0", "b 2.0.0"]);
        let five = "packages:\n\n  /@s/a/1.0.0:\n    dev: false\n\n  /b/2.0.0_c@3.0.0:\n    dev: false\n";
        assert_eq!(list(&pnpm_lock(five)), ["@s/a 1.0.0", "b 2.0.0"]);
    }

    #[test]
    fn only_what_changed_is_told() {
        let old = r#"{"packages":{"node_modules/a":{"version":"1.0.0"},"node_modules/b":{"version":"1.0.0"},"node_modules/c":{"version":"1.0.0"}}}"#;
        let new = r#"{"packages":{"node_modules/a":{"version":"1.0.0"},"node_modules/b":{"version":"1.1.0"},"node_modules/d":{"version":"3.0.0"}}}"#;
        let told: Vec<_> = changes(Evidence::NpmLock, old, new)
            .into_iter()
            .map(|change| format!("{} {:?} {:?}", change.name, change.from, change.to))
            .collect();
        assert_eq!(told, [r#"b ["1.0.0"] ["1.1.0"]"#, r#"c ["1.0.0"] []"#, r#"d [] ["3.0.0"]"#]);
    }

    #[test]
    fn a_lockfile_outranks_what_the_app_asks_for() {
        let mut found = Found::default();
        found.take(Which::Old, Evidence::Wanted, r#"{"dependencies":{"a":"^1"}}"#);
        found.take(Which::New, Evidence::Wanted, r#"{"dependencies":{"a":"^2"}}"#);
        assert_eq!(found.changes()[0].to, ["^2"]);
        found.take(Which::Old, Evidence::NpmLock, r#"{"packages":{"node_modules/a":{"version":"1.5.0"}}}"#);
        found.take(Which::New, Evidence::NpmLock, r#"{"packages":{"node_modules/a":{"version":"2.0.1"}}}"#);
        assert_eq!(found.changes()[0].to, ["2.0.1"]);
        assert_eq!(found.changes().len(), 1);
    }

    #[test]
    fn a_file_that_cannot_be_understood_says_nothing() {
        for evidence in [Evidence::NpmLock, Evidence::PnpmLock, Evidence::Installed, Evidence::Wanted] {
            for text in ["", "{", "[]", "packages:\n  :\n  @:\n  /:\n", "null", "\u{feff}{}"] {
                assert!(evidence.versions(text).keys().all(|name| name.len() < 3), "{evidence:?} {text:?}");
            }
        }
    }

    #[test]
    fn evidence_is_known_by_its_path() {
        for (path, evidence) in [
            ("package-lock.json", Some(Evidence::NpmLock)),
            ("apps/web/pnpm-lock.yaml", Some(Evidence::PnpmLock)),
            ("node_modules/.package-lock.json", Some(Evidence::NpmLock)),
            ("node_modules/a/package-lock.json", None),
            ("package.json", Some(Evidence::Wanted)),
            ("node_modules/a/package.json", Some(Evidence::Installed)),
            ("x/node_modules/@s/a/package.json", Some(Evidence::Installed)),
            ("node_modules/a/test/package.json", None),
            ("node_modules/@s/a/esm/package.json", None),
            ("src/main.js", None),
        ] {
            assert_eq!(Evidence::at(path), evidence, "{path}");
        }
    }
}
