//! Keys that have a meaning in the design and none in this version: refused, so that nobody relies on them.

use crate::document::{Problem, ProblemKind, Table};

/// Layer keys reserved for a later format.
pub(super) const LAYER: &[&str] = &["sealed", "external_links", "perm"];

/// Refuses the first of `keys` that is there.
pub(super) fn refuse(table: &Table<'_>, keys: &[&str], what: &str) -> Result<(), Problem> {
    match keys.iter().find_map(|key| table.get(key)) {
        Some(value) => Err(value
            .problem(ProblemKind::Reserved, what)
            .with_hint("remove the key: an artifact that needs it could not be released")),
        None => Ok(()),
    }
}
