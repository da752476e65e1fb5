//! Where an artifact's version comes from.

use std::path::{Path, PathBuf};

use landfall_store::Version;
use landfall_store::name::NameError;

use super::{command, keys, path};
use crate::document::{Problem, Shape, Value};

/// What the recipe says about the version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionSource {
    /// The version itself.
    Fixed(Version),
    /// A file of the source tree that holds it.
    File(PathBuf),
    /// A command, run in the source tree, that prints it.
    Command(Vec<String>),
}

/// Why a file or a command's output gives no version.
#[derive(Debug, thiserror::Error)]
pub enum VersionError {
    /// A manifest without one.
    #[error("{file}: there is no version in it: `{key}` is missing or not a string")]
    NoKey {
        /// The manifest.
        file: PathBuf,
        /// The key that was looked for.
        key: &'static str,
    },
    /// A manifest that cannot be parsed.
    #[error("{file}: {why}")]
    Malformed {
        /// The manifest.
        file: PathBuf,
        /// What its parser said.
        why: String,
    },
    /// Text that is not a version.
    #[error("{from}: {source}")]
    NotAVersion {
        /// The file or command it came from.
        from: String,
        /// Which rule it breaks.
        source: NameError,
    },
}

impl VersionSource {
    /// The version in a file's text: `version` of a `.json`, `package.version` of a `Cargo.toml`,
    /// `project.version` of a `pyproject.toml`, else the text itself without surrounding white space.
    pub fn in_file(file: &Path, text: &str) -> Result<Version, VersionError> {
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let found = match name {
            "Cargo.toml" => from_toml(file, text, "package", "package.version")?,
            "pyproject.toml" => from_toml(file, text, "project", "project.version")?,
            _ if name.ends_with(".json") => from_json(file, text)?,
            _ => text.trim().to_owned(),
        };
        Self::in_output(&file.display().to_string(), &found)
    }

    /// The version a command printed.
    pub fn in_output(from: &str, text: &str) -> Result<Version, VersionError> {
        text.trim().parse().map_err(|source| VersionError::NotAVersion { from: from.to_owned(), source })
    }
}

fn from_json(file: &Path, text: &str) -> Result<String, VersionError> {
    let text = text.trim_start_matches('\u{feff}');
    let manifest: serde_json::Value = serde_json::from_str(text)
        .map_err(|error| VersionError::Malformed { file: file.to_owned(), why: error.to_string() })?;
    let version = manifest.get("version").and_then(serde_json::Value::as_str).map(str::to_owned);
    version.ok_or_else(|| VersionError::NoKey { file: file.to_owned(), key: "version" })
}

fn from_toml(file: &Path, text: &str, table: &str, key: &'static str) -> Result<String, VersionError> {
    let manifest: toml::Table = text.parse().map_err(|error: toml::de::Error| VersionError::Malformed {
        file: file.to_owned(),
        why: error.message().to_owned(),
    })?;
    let version = manifest.get(table).and_then(|table| table.get("version")?.as_str());
    version.map(str::to_owned).ok_or_else(|| VersionError::NoKey { file: file.to_owned(), key })
}

pub(super) fn read(value: &Value<'_>) -> Result<VersionSource, Problem> {
    if let Shape::Text(_) = value.shape() {
        return value.parse().map(VersionSource::Fixed);
    }
    let table = value.table(keys::VERSION)?;
    match (table.get("file"), table.get("command")) {
        (Some(file), None) => path::source(&file).map(VersionSource::File),
        (None, Some(list)) => command::arguments(&list).map(VersionSource::Command),
        _ => Err(value
            .invalid("the version is a string, { file = … } or { command = […] }")
            .with_hint("for example: version = { file = \"package.json\" }")),
    }
}
