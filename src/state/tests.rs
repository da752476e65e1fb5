use std::collections::BTreeSet;
use std::path::Path;

use landfall_store::{ArtifactId, Name};
use serde_json::{Value, json};

use super::*;
use crate::document::{Problem, ProblemKind};

mod editing;

const EXAMPLE: &str = include_str!("../../deploy-state.json");

fn id(text: &str) -> ArtifactId {
    ArtifactId::of(text.as_bytes())
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn path() -> &'static Path {
    Path::new("deploy-state.json")
}

fn parse(text: &str) -> Result<DesiredState, StateError> {
    DesiredState::parse(text, path())
}

/// A state with one app whose `prod` has `more` beside a valid target.
fn with(more: &str) -> String {
    let artifact = id("a");
    format!(
        r#"{{"apiVersion":"landfall/v1","apps":{{"web":{{"environments":{{"prod":{{"target":{{"artifact":"{artifact}"}}{more}}}}}}}}}}}"#
    )
}

fn app_problem(text: &str) -> Problem {
    parse(text).unwrap().apps[&name("web")].clone().unwrap_err()
}

fn top_problem(text: &str) -> Problem {
    match parse(text) {
        Err(StateError::Invalid(problem)) => problem,
        other => panic!("the state was not refused as a whole: {other:?}"),
    }
}

#[test]
fn the_example_at_the_top_of_the_repository_is_a_state_without_findings() {
    let state = parse(EXAMPLE).unwrap();
    let app = state.apps[&name("web")].as_ref().unwrap();
    assert_eq!(app.environments.len(), 3);
    let prod = state.resolve(&name("web"), &name("prod")).unwrap();
    assert_eq!(prod.target().unwrap().version.as_ref().unwrap().as_str(), "2.13.4");
    assert_eq!(prod.state.health.as_ref().unwrap().successes, Some(3));
    let gone = state.resolve(&name("old-api"), &name("prod")).unwrap();
    assert_eq!(gone.target(), None);
    assert_eq!(lint(EXAMPLE, path()), vec![]);
}

#[test]
fn the_smallest_legal_file_is_one_artifact() {
    let state = parse(&with("")).unwrap();
    let desired = state.resolve(&name("web"), &name("prod")).unwrap();
    assert_eq!(desired.target().unwrap().artifact, id("a"));
    assert_eq!(state.apps_in(&name("prod")).count(), 1);
    assert_eq!(state.apps_in(&name("dev")).count(), 0);
}

#[test]
fn text_that_is_not_json_is_refused_with_line_and_column() {
    for (text, line, column) in [
        ("", 1, 1),
        ("{\n  \"apiVersion\": \"landfall/v1\",\n}", 3, 1),
        ("{ // note\n}", 1, 3),
        ("{\"a\": 'b'}", 1, 7),
        ("{\"a\": 01}", 1, 8),
        ("{} {}", 1, 4),
    ] {
        let problem = top_problem(text);
        assert_eq!(problem.kind(), ProblemKind::Syntax, "{text}");
        assert_eq!((problem.line(), problem.column()), (line, column), "{text}: {problem}");
    }
    let deep = "[".repeat(100_000);
    assert_eq!(top_problem(&deep).kind(), ProblemKind::Syntax);
}

#[test]
fn a_key_that_stands_twice_is_refused_wherever_it_is() {
    let problem = top_problem("{\"apiVersion\":\"landfall/v1\",\n \"apps\":{\"web\":{\"x-a\":1,\"x-a\":2}}}");
    assert_eq!((problem.kind(), problem.line()), (ProblemKind::Duplicate, 2));
    assert_eq!(problem.at(), "/apps/web/x-a");
    // The same key in two spellings is the same key.
    let escaped = top_problem(r#"{"apiVersion":"landfall/v1","api\u0056ersion":"landfall/v1"}"#);
    assert_eq!(escaped.kind(), ProblemKind::Duplicate);
}

#[test]
fn another_format_is_refused_and_says_what_can_read_it() {
    let newer = top_problem(r#"{"apiVersion":"landfall/v2","whatever":{}}"#);
    assert_eq!((newer.kind(), newer.at()), (ProblemKind::Version, "/apiVersion"));
    assert!(newer.what().contains("reads landfall/v1"), "{newer}");
    assert!(newer.hint().unwrap().contains("landfall/v2"));
    for text in [r#"{"apiVersion":"v1"}"#, r#"{"apiVersion":"landfall/v0"}"#] {
        assert_eq!(top_problem(text).kind(), ProblemKind::Version);
    }
    assert_eq!(top_problem("{}").kind(), ProblemKind::Missing);
    assert_eq!(top_problem(r#"{"apiVersion":1}"#).kind(), ProblemKind::WrongShape);
    assert_eq!(top_problem("[]").kind(), ProblemKind::WrongShape);
}

#[test]
fn a_state_without_apps_is_refused() {
    assert_eq!(top_problem(r#"{"apiVersion":"landfall/v1"}"#).kind(), ProblemKind::Missing);
    let empty = top_problem(r#"{"apiVersion":"landfall/v1","apps":{}}"#);
    assert!(empty.hint().unwrap().contains("absent"), "{empty:?}");
}

#[test]
fn an_unknown_key_at_the_top_holds_every_app() {
    let text = with("").replacen("\"apps\"", "\"sereal\":1,\"apps\"", 1);
    let problem = top_problem(&text);
    assert_eq!((problem.kind(), problem.at()), (ProblemKind::UnknownKey, "/sereal"));
    assert_eq!(problem.hint(), Some("did you mean `serial`?"));
}

#[test]
fn an_error_inside_one_app_holds_that_app_only() {
    let artifact = id("a");
    let text = with("").replacen(
        "\"apps\":{",
        &format!("\"apps\":{{\"api\":{{\"environments\":{{\"prod\":{{\"target\":{{\"artefact\":\"{artifact}\"}}}}}}}},"),
        1,
    );
    let state = parse(&text).unwrap();
    assert!(state.apps[&name("web")].is_ok());
    let problem = state.apps[&name("api")].clone().unwrap_err();
    assert_eq!(problem.at(), "/apps/api/environments/prod/target/artefact");
    assert_eq!(problem.hint(), Some("did you mean `artifact`?"));
    assert!(matches!(
        state.resolve(&name("api"), &name("prod")),
        Err(ResolveError::Invalid(found)) if found == problem
    ));
    // A refused app is reported in every environment: nobody can know which ones it has.
    assert_eq!(state.apps_in(&name("dev")).count(), 1);
}

#[test]
fn an_abbreviated_id_is_refused_and_says_so() {
    for short in ["b3:91d7a4c3052e", "91d7a4c3", "b3:91"] {
        let text = with("").replace(&id("a").to_string(), short);
        let problem = app_problem(&text);
        assert!(problem.what().contains("abbreviated"), "{problem}");
        assert_eq!(problem.at(), "/apps/web/environments/prod/target/artifact");
    }
    for bad in [id("a").to_string().to_uppercase(), format!("{}0", id("a")), id("a").0.to_string()] {
        let problem = app_problem(&with("").replace(&id("a").to_string(), &bad));
        assert_eq!(problem.kind(), ProblemKind::Invalid);
    }
}

#[test]
fn values_outside_their_bounds_are_refused_in_place() {
    for (more, at) in [
        (r#","retain":0"#, "retain"),
        (r#","retain":1.5"#, "retain"),
        (r#","retain":-1"#, "retain"),
        (r#","health":{"interval":2}"#, "health/interval"),
        (r#","health":{"interval":"2"}"#, "health/interval"),
        (r#","suspend":{"reason":"x"}"#, "suspend"),
        (r#","suspend":{"reason":" ","by":"x"}"#, "suspend/reason"),
        (r#","suspend":{"reason":"\u001b[2J","by":"x"}"#, "suspend/reason"),
        (r#","reconcileRequestedAt":"yesterday""#, "reconcileRequestedAt"),
        (r#","state":"gone""#, "state"),
        (r#","suspend":null"#, "suspend"),
    ] {
        let problem = app_problem(&with(more));
        assert_eq!(problem.at(), format!("/apps/web/environments/prod/{at}"), "{problem}");
    }
}

#[test]
fn a_target_is_needed_unless_the_app_is_to_go() {
    let without = |more: &str| {
        format!(r#"{{"apiVersion":"landfall/v1","apps":{{"web":{{"environments":{{"prod":{{{more}}}}}}}}}}}"#)
    };
    assert_eq!(app_problem(&without("")).kind(), ProblemKind::Missing);
    let state = parse(&without(r#""state":"absent""#)).unwrap();
    assert_eq!(state.resolve(&name("web"), &name("prod")).unwrap().target(), None);
    let app = r#"{"apiVersion":"landfall/v1","apps":{"web":{"state":"absent"}}}"#;
    assert!(parse(app).unwrap().apps[&name("web")].is_ok());
}

#[test]
fn a_name_that_is_not_there_is_answered_with_the_nearest_one() {
    let state = parse(&with("")).unwrap();
    let app = state.resolve(&name("wbe"), &name("prod")).unwrap_err();
    assert_eq!(app, ResolveError::NoApp { app: name("wbe"), nearest: Some(name("web")) });
    let environment = state.resolve(&name("web"), &name("production")).unwrap_err();
    assert!(matches!(environment, ResolveError::NoEnvironment { nearest: None, .. }));
    let environment = state.resolve(&name("web"), &name("prd")).unwrap_err();
    assert!(matches!(environment, ResolveError::NoEnvironment { nearest: Some(_), .. }));
}

#[test]
fn lint_finds_what_every_host_would_refuse_and_what_nobody_may_deploy() {
    let blocked = with("").replacen(
        "\"environments\"",
        &format!(
            "\"blocked\":[{{\"artifact\":\"{}\",\"reason\":\"leaks\",\"by\":\"lee\"}}],\"environments\"",
            id("a")
        ),
        1,
    );
    let findings = lint(&blocked, path());
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].severity, Severity::Error);
    assert!(findings[0].message.contains("blocked: leaks"));
    let desired = parse(&blocked).unwrap();
    let desired = desired.resolve(&name("web"), &name("prod")).unwrap();
    assert_eq!(desired.block_of(&id("a")).unwrap().by, "lee");

    let suspended = lint(&with(r#","suspend":{"reason":"x","by":"y"}"#), path());
    assert_eq!(suspended[0].severity, Severity::Warning);
    let broken = lint("{", path());
    assert_eq!(broken[0].place, Some((1, 1, String::new())));
}

#[test]
fn more_than_a_mebibyte_is_refused_before_it_is_parsed() {
    let large = " ".repeat(usize::try_from(STATE_BYTES_MAX).unwrap() + 1);
    assert!(matches!(parse(&large), Err(StateError::TooLarge { .. })));
    assert!(matches!(DesiredState::parse_bytes(b"\xff", path()), Err(StateError::NotUtf8 { .. })));
    let missing = DesiredState::read(Path::new("/nonexistent/deploy-state.json"));
    assert!(matches!(missing, Err(StateError::Missing { .. })));
}

/// P14: whoever may write the state may choose among artifacts, and can neither run nor address anything.
#[test]
fn every_field_of_the_state_is_an_id_a_number_a_name_a_time_or_free_text() {
    let schema = schema();
    let mut fields = Vec::new();
    list(&schema, &schema, "", &mut fields);
    fields.sort();
    let expected = [
        "/apiVersion: version of the format",
        "/apps/*/blocked/[]/artifact: id",
        "/apps/*/blocked/[]/by: text",
        "/apps/*/blocked/[]/reason: text",
        "/apps/*/environments/*/health/attempts: number",
        "/apps/*/environments/*/health/interval: duration",
        "/apps/*/environments/*/health/settle: duration",
        "/apps/*/environments/*/health/successes: number",
        "/apps/*/environments/*/health/timeout: duration",
        "/apps/*/environments/*/reconcileRequestedAt: time",
        "/apps/*/environments/*/retain: number",
        "/apps/*/environments/*/state: one of present, absent",
        "/apps/*/environments/*/suspend/by: text",
        "/apps/*/environments/*/suspend/reason: text",
        "/apps/*/environments/*/suspend/until: time",
        "/apps/*/environments/*/target/artifact: id",
        "/apps/*/environments/*/target/by: text",
        "/apps/*/environments/*/target/reason: text",
        "/apps/*/environments/*/target/version: version",
        "/apps/*/state: one of present, absent",
        "/not_after: time",
        "/serial: number",
    ];
    assert_eq!(fields, expected);
}

fn list(root: &Value, schema: &Value, at: &str, fields: &mut Vec<String>) {
    let schema = follow(root, schema);
    if let Some(properties) = schema["properties"].as_object() {
        for (key, value) in properties {
            list(root, value, &format!("{at}/{key}"), fields);
        }
    } else if schema["additionalProperties"].is_object() {
        list(root, &schema["additionalProperties"], &format!("{at}/*"), fields);
    } else if schema["items"].is_object() {
        list(root, &schema["items"], &format!("{at}/[]"), fields);
    } else {
        fields.push(format!("{at}: {}", kind(schema)));
    }
}

/// The definition behind a reference, alone or beside `null`.
fn follow<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    if let Some(variants) = schema["anyOf"].as_array() {
        let some = variants.iter().find(|variant| variant["type"] != "null").unwrap();
        return follow(root, some);
    }
    match schema["$ref"].as_str() {
        Some(reference) => root.pointer(reference.trim_start_matches('#')).unwrap(),
        None => schema,
    }
}

/// The kinds a field may have; any other is a failed test.
fn kind(schema: &Value) -> String {
    let is = |kind: &str| schema["type"] == kind || schema["type"] == json!([kind, "null"]);
    let pattern = schema["pattern"].as_str().unwrap_or_default();
    if schema["const"].is_string() {
        "version of the format".to_owned()
    } else if let Some(variants) = schema["oneOf"].as_array() {
        let words: Vec<&str> = variants.iter().map(|variant| variant["const"].as_str().unwrap()).collect();
        format!("one of {}", words.join(", "))
    } else if is("integer") {
        "number".to_owned()
    } else if schema["format"] == "date-time" {
        "time".to_owned()
    } else if pattern.contains("b3:") {
        "id".to_owned()
    } else if pattern.contains("ms|s|m|h") {
        "duration".to_owned()
    } else if !pattern.is_empty() {
        "version".to_owned()
    } else if is("string") {
        "text".to_owned()
    } else {
        panic!("{schema} is of no kind that a state may hold")
    }
}

#[test]
fn the_schema_and_the_parser_know_the_same_keys() {
    let schema = schema();
    let definitions = [
        ("state", "", keys::STATE),
        ("app", "/$defs/AppState", keys::APP),
        ("environment", "/$defs/EnvironmentState", keys::ENVIRONMENT),
        ("target", "/$defs/Target", keys::TARGET),
        ("suspend", "/$defs/Suspend", keys::SUSPEND),
        ("blocked", "/$defs/Blocked", keys::BLOCKED),
        ("health", "/$defs/HealthLimits", keys::HEALTH),
    ];
    assert_eq!(definitions.len(), keys::ALL.len());
    for (table, pointer, known) in definitions {
        let definition = schema.pointer(pointer).unwrap();
        let properties: BTreeSet<&str> =
            definition["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(properties, known.iter().copied().collect(), "{table}");
        assert_eq!(definition["additionalProperties"], false, "{table}");
        assert_eq!(definition["patternProperties"], json!({ "^x-": true }), "{table}");
    }
}

#[test]
fn the_schema_accepts_the_example_and_refuses_what_the_parser_refuses() {
    let schema = schema();
    let example: Value = serde_json::from_str(EXAMPLE).unwrap();
    assert_eq!(violations(&schema, &schema, &example, ""), Vec::<String>::new());
    for (pointer, value) in [
        ("/apiVersion", json!("landfall/v2")),
        ("/apps", json!({ "web": { "enviroments": {} } })),
        ("/apps/web/environments/prod/target/artifact", json!("b3:91d7")),
        ("/apps/web/environments/prod/retain", json!("8")),
    ] {
        let mut broken = example.clone();
        *broken.pointer_mut(pointer).unwrap() = value;
        assert_ne!(violations(&schema, &schema, &broken, ""), Vec::<String>::new(), "{pointer}");
    }
}

/// As much of a JSON Schema validator as the schema uses: types, keys, required keys, patterns.
fn violations(root: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    let schema = follow(root, schema);
    let mut found = Vec::new();
    let mut check = |holds: bool, what: &str| {
        if !holds {
            found.push(format!("{at}: {what}"));
        }
    };
    if let Some(text) = value.as_str() {
        let pattern = schema["pattern"].as_str().unwrap_or_default();
        check(regex::Regex::new(pattern).unwrap().is_match(text), "pattern");
        check(schema["const"].is_null() || schema["const"] == *text, "const");
    }
    let types = match &schema["type"] {
        Value::Array(types) => types.clone(),
        one => vec![one.clone()],
    };
    let own = match value {
        Value::Object(_) => "object",
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Number(_) => "integer",
        Value::Bool(_) | Value::Null => "other",
    };
    check(schema["type"].is_null() || types.contains(&json!(own)), "type");
    for required in schema["required"].as_array().into_iter().flatten() {
        check(value.get(required.as_str().unwrap()).is_some(), "required");
    }
    for (key, inner) in value.as_object().into_iter().flatten() {
        let at = format!("{at}/{key}");
        let free = key.starts_with("x-") && schema["patternProperties"].is_object();
        match (&schema["properties"][key], &schema["additionalProperties"]) {
            (Value::Null, _) if free => {}
            (Value::Null, other) if other.is_object() => found.extend(violations(root, other, inner, &at)),
            (Value::Null, _) => found.push(format!("{at}: unknown")),
            (known, _) => found.extend(violations(root, known, inner, &at)),
        }
    }
    for inner in value.as_array().into_iter().flatten() {
        found.extend(violations(root, &schema["items"], inner, at));
    }
    found
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(5_000))]

    #[test]
    fn whatever_is_written_is_a_state_or_a_problem_with_a_place(
        from in proptest::prelude::any::<proptest::sample::Index>(),
        length in 0usize..30,
        text in "[a-z\\[\\]{}:,\"$.0-9\n é\\\\]{0,12}",
    ) {
        let from = EXAMPLE.floor_char_boundary(from.index(EXAMPLE.len()));
        let to = EXAMPLE.floor_char_boundary((from + length).min(EXAMPLE.len()));
        let mutated = [&EXAMPLE[..from], text.as_str(), &EXAMPLE[to..]].concat();
        // What the strict JSON parser of serde takes and what is taken here never differ, except for keys
        // that stand twice.
        let json = serde_json::from_str::<Value>(&mutated).is_ok();
        match parse(&mutated) {
            Ok(_) => proptest::prop_assert!(json),
            Err(StateError::Invalid(problem)) => {
                proptest::prop_assert_eq!(json, problem.kind() != ProblemKind::Syntax, "{}", problem);
                proptest::prop_assert!(problem.line() <= mutated.lines().count() + 1);
            }
            Err(other) => proptest::prop_assert!(false, "{other}"),
        }
        lint(&mutated, path());
    }
}
