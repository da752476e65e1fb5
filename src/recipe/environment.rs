//! `[env]`: environments, what they must hold, and what lies below them.

use std::collections::BTreeMap;

use landfall_store::Name;

use super::{command, keys};
use crate::document::{Problem, Value};
use crate::env::{expansion, key};
use crate::spec::EnvSpec;

/// Environments of one app: a host belongs to one, a person oversees few.
const ENVIRONMENTS_MAX: usize = 64;

pub(super) fn read(value: &Value<'_>) -> Result<EnvSpec, Problem> {
    let table = value.table(keys::ENV)?;
    let environments: Vec<Name> =
        table.read("environments", |list| list.set(Value::parse))?.unwrap_or_default();
    if environments.len() > ENVIRONMENTS_MAX {
        return Err(value.invalid(format!("more than {ENVIRONMENTS_MAX} environments")));
    }
    Ok(EnvSpec {
        names: table.read("names", |value| names(value, &environments))?.unwrap_or_default(),
        environments,
        set: table.read("set", set)?.unwrap_or_default(),
        required: table.read("required", |list| list.set(required))?.unwrap_or_default(),
        local_optional: table.read("local", local)?.unwrap_or(false),
        expand: table.read("expand", Value::boolean)?.unwrap_or(false),
    })
}

fn names(value: &Value<'_>, environments: &[Name]) -> Result<BTreeMap<Name, String>, Problem> {
    let mut names = BTreeMap::new();
    for (environment, name) in value.map()?.entries() {
        let known = environments.iter().find(|known| known.as_str() == environment);
        let known =
            known.ok_or_else(|| name.invalid(format!("`{environment}` is not in `[env] environments`")))?;
        names.insert(known.clone(), file_name(&name)?);
    }
    Ok(names)
}

/// What follows `.env.`: part of a file name, so what a name may be, upper case allowed.
fn file_name(value: &Value<'_>) -> Result<String, Problem> {
    let text = value.text()?;
    match text.to_lowercase().parse::<Name>() {
        Ok(_) if text.ends_with(".local") || text == "local" => {
            Err(value.invalid("a name that ends in `.local` would be another environment's local layer"))
        }
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(value.invalid(error.to_string())),
    }
}

fn set(value: &Value<'_>) -> Result<BTreeMap<String, String>, Problem> {
    let mut set = BTreeMap::new();
    for (name, value) in value.map()?.entries() {
        own_key(name, &value)?;
        let text = command::reference(&value)?;
        only_landfalls_own(&value, text)?;
        set.insert(name.to_owned(), text.to_owned());
    }
    Ok(set)
}

fn only_landfalls_own(value: &Value<'_>, text: &str) -> Result<(), Problem> {
    let keys = expansion::keys(text).map_err(|error| value.invalid(error.to_string()))?;
    match keys.iter().find(|key| !key.starts_with(key::OWN_PREFIX)) {
        Some(key) => Err(value
            .invalid(format!("`${{{key}}}` is not known this early: `set` lies below every layer"))
            .with_hint("only LANDFALL_APP, LANDFALL_ENV, LANDFALL_RELEASE and LANDFALL_ARTIFACT are")),
        None => Ok(()),
    }
}

fn required(value: &Value<'_>) -> Result<String, Problem> {
    let text = value.text()?;
    own_key(text, value)?;
    Ok(text.to_owned())
}

fn own_key(name: &str, value: &Value<'_>) -> Result<(), Problem> {
    if name.starts_with(key::OWN_PREFIX) {
        return Err(value.invalid(format!("`{name}`: keys that begin with LANDFALL_ are landfall's own")));
    }
    key::check(name).map_err(|error| value.invalid(error.to_string()))
}

fn local(value: &Value<'_>) -> Result<bool, Problem> {
    match value.text()? {
        "optional" => Ok(true),
        "required" => Ok(false),
        other => Err(value.invalid(format!("`{other}` is neither `required` nor `optional`"))),
    }
}
