//! Where artifacts come from.

use std::path::Path;

use landfall_store::location::StoreLocation;

use crate::document::{Problem, Value};

pub(super) fn read(value: &Value<'_>, base: &Path) -> Result<StoreLocation, Problem> {
    StoreLocation::parse(value.text()?, base).map_err(|error| value.invalid(error.to_string()))
}
