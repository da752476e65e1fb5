//! `[[step]]`: commands on the host around the switch.

use std::collections::BTreeMap;

use landfall_store::Name;

use super::{command, keys, names, path, roles};
use crate::document::{Problem, Table, Value};
use crate::spec::{Command, STEP_TIMEOUT, StepKind, StepSpec};

/// The steps, and where those that migrate have their migrations.
pub(super) fn read_all(value: &Value<'_>) -> Result<(Vec<StepSpec>, BTreeMap<Name, String>), Problem> {
    let all = names(value, "main", |table, name| Ok((migrations(table)?, read(table, name)?)), keys::STEP)?;
    let dirs = all.iter().filter_map(|(dir, step)| Some((step.name.clone(), dir.clone()?))).collect();
    Ok((all.into_iter().map(|(_, step)| step).collect(), dirs))
}

fn migrations(table: &Table<'_>) -> Result<Option<String>, Problem> {
    let is_migrate = table.get("kind").is_some_and(|kind| kind.text() == Ok("migrate"));
    match table.get("migrations") {
        Some(value) if !is_migrate => Err(value.invalid("only a migrate step has migrations")),
        _ => table.read("migrations", path::release),
    }
}

fn read(table: &Table<'_>, name: Name) -> Result<StepSpec, Problem> {
    let kind = table.read("kind", kind)?.unwrap_or(StepKind::Prepare);
    let check = table.read("check", |check| command::arguments(check).map(Command::Run))?;
    let writes = table.read("writes", |list| list.set(path::release))?.unwrap_or_default();
    if let (Some(value), false) = (table.get("check"), kind == StepKind::Migrate) {
        return Err(value.invalid("only a migrate step has a check, for hosts that do not migrate"));
    }
    if let (Some(value), StepKind::After) = (table.get("writes"), kind) {
        return Err(value.invalid("a step after the commit cannot change the release"));
    }
    Ok(StepSpec {
        name,
        kind,
        command: command::required(table)?,
        timeout: table.read("timeout", Value::duration)?.unwrap_or(STEP_TIMEOUT),
        writes,
        roles: roles(table)?,
        check,
        // What is packed says which there are.
        migrations: None,
    })
}

fn kind(value: &Value<'_>) -> Result<StepKind, Problem> {
    match value.text()? {
        "prepare" => Ok(StepKind::Prepare),
        "migrate" => Ok(StepKind::Migrate),
        "after" => Ok(StepKind::After),
        other => Err(value
            .invalid(format!("`{other}` is not a kind of step"))
            .with_hint("prepare (default), migrate or after")),
    }
}
