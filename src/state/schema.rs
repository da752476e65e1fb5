//! The published JSON Schema, made from the types.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::model::AppState;

/// The whole file, for the schema only: reading it is done with positions.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, title = "deploy-state.json")]
#[expect(dead_code, reason = "the fields describe the file to schemars and are never read")]
struct StateFile {
    /// The format of this file.
    #[schemars(rename = "apiVersion", schema_with = "api_version")]
    api_version: String,
    /// Never goes down between two states.
    #[schemars(range(max = 9_007_199_254_740_991_u64))]
    serial: Option<u64>,
    /// After this time the state is reported as stale.
    not_after: Option<Timestamp>,
    /// Every app.
    #[schemars(length(min = 1))]
    apps: BTreeMap<String, AppState>,
}

/// The JSON Schema of `deploy-state.json`, for editors and CI.
pub fn schema() -> Value {
    let mut schema = SchemaGenerator::default().into_root_schema_for::<StateFile>().to_value();
    allow_free_keys(&mut schema);
    name_keys(&mut schema);
    schema
}

/// Objects with fixed keys also take keys that begin with `x-`.
fn allow_free_keys(schema: &mut Value) {
    if schema["additionalProperties"] == Value::Bool(false) {
        schema["patternProperties"] = json!({ "^x-": true });
    }
    for_each_child(schema, allow_free_keys);
}

/// Objects with free keys have names as keys.
fn name_keys(schema: &mut Value) {
    if schema["additionalProperties"].is_object() {
        let name = "^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$";
        schema["propertyNames"] = json!({ "pattern": name, "not": { "pattern": "\\.\\." } });
    }
    for_each_child(schema, name_keys);
}

fn for_each_child(schema: &mut Value, visit: fn(&mut Value)) {
    for container in ["$defs", "properties"] {
        if let Some(children) = schema.get_mut(container).and_then(Value::as_object_mut) {
            children.values_mut().for_each(visit);
        }
    }
}

fn api_version(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "const": super::API_VERSION })
}

pub(super) fn artifact_id(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "pattern": "^b3:[0-9a-f]{64}$",
        "description": "An artifact's full id: `b3:` and 64 lower-case hex digits."
    })
}

pub(super) fn version(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._+-]{0,127}$" })
}

pub(super) fn duration(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "pattern": "^[0-9]+(ms|s|m|h)$" })
}
