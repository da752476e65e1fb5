//! Paths of a recipe: relative, without `..`, and in one spelling only.

use std::path::PathBuf;

use landfall_store::limits::{COMPONENT_BYTES_MAX, DEPTH_MAX, PATH_BYTES_MAX};

use super::keys;
use crate::document::{Problem, Value};
use crate::spec::PathsSpec;

/// A path inside the release: `dist/server.js`.
pub(super) fn release(value: &Value<'_>) -> Result<String, Problem> {
    let text = value.text()?;
    match fault(text) {
        None => Ok(text.to_owned()),
        Some(fault) => Err(value
            .invalid(format!("`{text}` {fault}"))
            .with_hint("paths are relative to the release, with `/`: \"dist\", \"prisma/schema\"")),
    }
}

/// A path inside the source tree; `.` is the tree itself.
pub(super) fn source(value: &Value<'_>) -> Result<PathBuf, Problem> {
    if value.text()? == "." {
        return Ok(PathBuf::from("."));
    }
    let text = value.text()?;
    let plain = text.strip_suffix('/').unwrap_or(text);
    match fault(plain) {
        None => Ok(PathBuf::from(plain)),
        Some(fault) => Err(value
            .invalid(format!("`{text}` {fault}"))
            .with_hint("paths are relative to the recipe's directory and stay inside it")),
    }
}

/// Whether `path` is `top` or lies under it.
pub(super) fn is_at_or_under(path: &str, top: &str) -> bool {
    path == top || path.strip_prefix(top).is_some_and(|rest| rest.starts_with('/'))
}

/// `[paths]`.
pub(super) fn read_all(value: &Value<'_>) -> Result<PathsSpec, Problem> {
    let table = value.table(keys::PATHS)?;
    let list = |key| table.read(key, |value| value.set(release)).map(Option::unwrap_or_default);
    Ok(PathsSpec {
        writable: list("writable")?,
        shared: list("shared")?,
        shared_files: list("shared_files")?,
        keep: list("keep")?,
        logs: table.read("logs", release)?,
    })
}

fn fault(path: &str) -> Option<String> {
    if path.is_empty() {
        return Some("is empty".to_owned());
    }
    if path.starts_with('/') {
        return Some("is absolute".to_owned());
    }
    if path.len() > PATH_BYTES_MAX {
        return Some(format!("is longer than {PATH_BYTES_MAX} bytes"));
    }
    if path.split('/').count() > DEPTH_MAX {
        return Some(format!("is deeper than {DEPTH_MAX} directories"));
    }
    if path.contains('\0') {
        return Some("holds a NUL character".to_owned());
    }
    path.split('/').find_map(component_fault)
}

fn component_fault(component: &str) -> Option<String> {
    match component {
        "" => Some("has an empty component".to_owned()),
        "." => Some("has a `.` component".to_owned()),
        ".." => Some("climbs out with `..`".to_owned()),
        long if long.len() > COMPONENT_BYTES_MAX => {
            Some(format!("has a component of more than {COMPONENT_BYTES_MAX} bytes"))
        }
        _ => None,
    }
}
