//! Looking into answers of `-o json`.

use serde_json::Value;

/// The items of a list answer.
#[track_caller]
pub fn items(answer: &Value) -> &Vec<Value> {
    assert_eq!(answer["apiVersion"], "landfall/v1", "{answer:#}");
    answer["items"].as_array().unwrap_or_else(|| panic!("no items: {answer:#}"))
}

/// The status of one condition, if it is there.
pub fn condition<'a>(item: &'a Value, kind: &str) -> Option<&'a Value> {
    item["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}
