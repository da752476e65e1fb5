//! The published JSON Schema of what `-o json` prints, made from the types that are printed.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::report::API_VERSION;
use super::{
    describe, diff, doctor, env, error, gc, history, install, logs, ls, plan, report_host, show, state,
    status, store, verify,
};
use crate::audit;
use crate::proposal::Proposed;
use crate::record::acceptances::Chained;
use crate::status::Status;

/// A document: `oneOf` every kind there is. Objects may gain keys; none is renamed or removed.
pub fn schema() -> Value {
    let mut generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let mut kinds = Map::new();
    let mut list = |kind: &str, item: schemars::Schema| {
        kinds.insert(kind.to_owned(), envelope(kind, &item.to_value()));
    };
    list("StatusList", item::<Status>(&mut generator));
    list("FleetStatusList", item::<status::FleetItem>(&mut generator));
    list("HostReportedList", item::<report_host::Item>(&mut generator));
    let mut beside = |kind: &str, item: schemars::Schema, key: &str, beside: schemars::Schema| {
        let mut envelope = envelope(kind, &item.to_value());
        envelope["properties"][key] = json!({"type": "array", "items": beside.to_value()});
        kinds.insert(kind.to_owned(), envelope);
    };
    let (attempt, chained) = (item::<history::Item>(&mut generator), item::<Chained>(&mut generator));
    beside("HistoryList", attempt, "acceptances", chained);
    let (run, accepted) = (item::<audit::Run>(&mut generator), item::<audit::AcceptedOn>(&mut generator));
    beside("AuditList", run, "acceptances", accepted);
    let mut list = |kind: &str, item: schemars::Schema| {
        kinds.insert(kind.to_owned(), envelope(kind, &item.to_value()));
    };
    list("HistoryCheckList", item::<history::Checked>(&mut generator));
    list("AttemptList", item::<describe::Attempt>(&mut generator));
    list("Description", item::<describe::Description>(&mut generator));
    list("LogList", item::<logs::Item>(&mut generator));
    list("EnvList", item::<env::Item>(&mut generator));
    list("VerifyList", item::<verify::Item>(&mut generator));
    list("GcList", item::<gc::Item>(&mut generator));
    list("StoreGcList", item::<store::CollectedItem>(&mut generator));
    list("StoreVerifyList", item::<store::VerifiedItem>(&mut generator));
    list("PlanList", item::<plan::Item>(&mut generator));
    list("StatePlanList", item::<Proposed>(&mut generator));
    list("FindingList", item::<state::Item<'_>>(&mut generator));
    list("DoctorList", item::<doctor::Finding>(&mut generator));
    list("ArtifactList", item::<ls::Stored>(&mut generator));
    list("ReleaseList", item::<crate::inventory::Installed>(&mut generator));
    list("ManifestList", item::<show::Manifest>(&mut generator));
    list("ChangeList", item::<install::Change>(&mut generator));
    list("FileList", item::<show::File>(&mut generator));
    let mut document = |kind: &str, schema: schemars::Schema| {
        kinds.insert(kind.to_owned(), schema.to_value());
    };
    document("DifferenceList", diff::DifferenceList::json_schema(&mut generator));
    document("Desired", state::Resolved::json_schema(&mut generator));
    document("Error", error::Document::json_schema(&mut generator));

    let one_of: Vec<Value> = kinds.keys().map(|kind| json!({"$ref": format!("#/$defs/{kind}")})).collect();
    let mut definitions = generator.take_definitions(true);
    let clash = kinds.keys().find(|kind| definitions.contains_key(*kind));
    assert_eq!(clash, None, "a kind and a type have one name: rename the type for the schema");
    definitions.append(&mut kinds);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What landfall prints with -o json",
        "description": "One document of one kind. With -o ndjson each line is one of its items.",
        "oneOf": one_of,
        "$defs": definitions,
    })
}

fn item<T: JsonSchema>(generator: &mut SchemaGenerator) -> schemars::Schema {
    generator.subschema_for::<T>()
}

fn envelope(kind: &str, item: &Value) -> Value {
    json!({
        "type": "object",
        "required": ["apiVersion", "kind", "items"],
        "properties": {
            "apiVersion": {"const": API_VERSION},
            "kind": {"const": kind},
            "items": {"type": "array", "items": item},
        },
    })
}
