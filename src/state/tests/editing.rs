//! The editor: other bytes never move.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

fn edit(artifact: &str) -> TargetEdit<'static> {
    TargetEdit { artifact: id(artifact), version: None, reason: None, by: None }
}

fn set(text: &str, app: &str, environment: &str, edit: &TargetEdit<'_>) -> String {
    set_target(text, path(), &name(app), &name(environment), edit).unwrap()
}

#[test]
fn only_the_target_changes_in_the_example() {
    let version = "2.14.1".parse().unwrap();
    let edit =
        TargetEdit { version: Some(&version), reason: Some("login fix"), by: Some("kim"), ..edit("new") };
    let edited = set(EXAMPLE, "web", "prod", &edit);
    let changed: Vec<(&str, &str)> =
        EXAMPLE.lines().zip(edited.lines()).filter(|(old, new)| old != new).collect();
    let new: Vec<&str> = changed.iter().map(|(_, new)| new.trim()).collect();
    let artifact = format!("\"artifact\": \"{}\",", id("new"));
    assert_eq!(
        new,
        [artifact.as_str(), "\"version\": \"2.14.1\",", "\"reason\": \"login fix\",", "\"by\": \"kim\""]
    );
    assert_eq!(EXAMPLE.lines().count(), edited.lines().count());
}

#[test]
fn what_belonged_to_the_old_target_goes_and_free_keys_stay() {
    let old = format!(
        "{{\"apiVersion\": \"landfall/v1\", \"apps\": {{\"web\": {{\"environments\": {{\"prod\": {{\"target\": {{\n  \"version\": \"1\",\n  \"x-a\": [1,  2],\n  \"artifact\": \"{}\",\n  \"by\": \"me\",\n  \"reason\": \"r\"\n}}}}}}}}}}}}\n",
        id("old")
    );
    let edited = set(&old, "web", "prod", &edit("new"));
    let target = format!("{{\n  \"x-a\": [1,  2],\n  \"artifact\": \"{}\"\n}}", id("new"));
    assert!(edited.contains(&target), "{edited}");
}

#[test]
fn the_same_target_again_is_the_same_file() {
    let version = "2.14.0".parse().unwrap();
    let artifact = "b3:4f1c0b7e93a86d25c1e07f2b9d3458a6e0c7915b2f84d63a7e19c05b8d2f6a31".parse().unwrap();
    let same = TargetEdit { artifact, version: Some(&version), reason: None, by: None };
    assert_eq!(set(EXAMPLE, "web", "staging", &same), EXAMPLE);
}

#[test]
fn a_new_environment_and_a_new_app_take_the_indent_of_the_file() {
    let tabs = format!(
        "{{\r\n\t\"apiVersion\": \"landfall/v1\",\r\n\t\"apps\": {{\r\n\t\t\"web\": {{\r\n\t\t\t\"environments\": {{\r\n\t\t\t\t\"prod\": {{ \"target\": {{ \"artifact\": \"{}\" }} }}\r\n\t\t\t}}\r\n\t\t}}\r\n\t}}\r\n}}\r\n",
        id("a")
    );
    let edited = set(&tabs, "web", "dev", &edit("b"));
    let added = format!(
        " }} }},\r\n\t\t\t\t\"dev\": {{\r\n\t\t\t\t\t\"target\": {{\r\n\t\t\t\t\t\t\"artifact\": \"{}\"\r\n\t\t\t\t\t}}\r\n\t\t\t\t}}\r\n\t\t\t}}\r\n",
        id("b")
    );
    assert!(edited.contains(&added), "{edited}");
    let edited = set(&edited, "api", "dev", &edit("c"));
    assert!(
        edited.contains("\r\n\t\t\"api\": {\r\n\t\t\t\"environments\": {\r\n\t\t\t\t\"dev\": {\r\n"),
        "{edited}"
    );
    assert!(!edited.replace("\r\n", "").contains('\n'));
}

#[test]
fn a_file_on_one_line_stays_on_one_line() {
    let edited = set(&with(""), "web", "dev", &edit("b"));
    assert!(!edited.contains('\n') && !edited.contains(' '), "{edited}");
    let spaced = with("").replace(':', ": ").replace("b3: ", "b3:").replace('{', "{ ").replace('}', " }");
    let edited = set(&spaced, "web", "dev", &edit("b"));
    let added = format!(", \"dev\": {{ \"target\": {{ \"artifact\": \"{}\" }} }}", id("b"));
    assert!(edited.contains(&added), "{edited}");
}

#[test]
fn a_first_file_is_a_state() {
    let text = first_file(&name("web"), &name("prod"), &edit("a"));
    let state = parse(&text).unwrap();
    assert_eq!(state.resolve(&name("web"), &name("prod")).unwrap().target().unwrap().artifact, id("a"));
    assert!(
        text.starts_with("{\n  \"apiVersion\": \"landfall/v1\",\n  \"apps\": {\n    \"web\": {"),
        "{text}"
    );
}

#[test]
fn a_file_that_is_not_a_state_is_not_edited() {
    for bad in ["", "{", "{}", r#"{"apiVersion":"landfall/v2","apps":{}}"#] {
        let refused = set_target(bad, path(), &name("web"), &name("prod"), &edit("a"));
        assert!(matches!(refused, Err(EditError::State(_))), "{bad}");
    }
}

#[test]
fn a_state_without_apps_gets_its_first_one() {
    let edited = set("{\n  \"apiVersion\": \"landfall/v1\",\n  \"apps\": {}\n}\n", "web", "prod", &edit("a"));
    assert!(parse(&edited).unwrap().resolve(&name("web"), &name("prod")).is_ok(), "{edited}");
}

#[test]
fn an_error_in_another_app_does_not_stop_an_edit_and_one_in_this_app_does() {
    let broken = with(r#","retian":1"#);
    assert!(set(&broken, "api", "prod", &edit("b")).contains("retian"));
    let refused = set_target(&broken, path(), &name("web"), &name("prod"), &edit("b"));
    assert!(matches!(refused, Err(EditError::App(problem)) if problem.at().ends_with("retian")));
    let short = with("").replace(&id("a").to_string(), "b3:12");
    assert!(set(&short, "web", "prod", &edit("b")).contains(&id("b").to_string()), "an edit may repair");
}

#[test]
fn a_target_for_an_absent_app_is_refused() {
    let refused = set_target(EXAMPLE, path(), &name("old-api"), &name("prod"), &edit("a"));
    assert!(matches!(refused, Err(EditError::Absent { .. })), "{refused:?}");
}

#[test]
fn text_with_quotes_and_line_ends_is_escaped() {
    let reason = "say \"hi\"\nand \\ go — ok";
    let edit = TargetEdit { reason: Some(reason), ..edit("b") };
    let edited = set(EXAMPLE, "web", "prod", &edit);
    let state = parse(&edited).unwrap();
    let desired = state.resolve(&name("web"), &name("prod")).unwrap();
    assert_eq!(desired.target().unwrap().reason.as_deref(), Some(reason));
}

/// A state as plain JSON: names to environments, each with free keys beside its target.
fn states() -> impl Strategy<Value = Value> {
    let free =
        prop_oneof![Just(json!({})), Just(json!([1, {"b": null}])), "[ -~é]{0,8}".prop_map(Value::from)];
    let target = (any::<u8>(), prop::collection::vec(("(version|reason|by|x-[a-c])", free.clone()), 0..4))
        .prop_map(|(seed, more)| {
            let mut target = Map::new();
            for (key, value) in more {
                let text = match key.as_str() {
                    "version" => json!("1.0"),
                    "reason" | "by" => json!("words"),
                    _ => value,
                };
                target.insert(key, text);
            }
            target.insert("artifact".into(), json!(ArtifactId::of(&[seed]).to_string()));
            Value::Object(target)
        });
    let environment =
        (target, free).prop_map(|(target, free)| json!({ "x-free": free, "target": target, "retain": 3 }));
    let environments = prop::collection::btree_map("(dev|prod|sit)", environment, 0..3);
    let apps = prop::collection::btree_map("(web|api|job)", environments, 1..3);
    apps.prop_map(|apps| {
        let apps: Map<String, Value> = apps
            .into_iter()
            .map(|(app, environments)| (app, json!({ "environments": environments, "blocked": [] })))
            .collect();
        json!({ "x-a": 1, "apiVersion": "landfall/v1", "apps": apps, "serial": 7 })
    })
}

/// JSON text with white space of its own between any two tokens.
fn written(value: &Value, spaces: &mut impl Iterator<Item = u8>) -> String {
    let space = |spaces: &mut dyn Iterator<Item = u8>| {
        ["", " ", "\n  ", "\t", "\r\n", "\n\n"][usize::from(spaces.next().unwrap_or(0)) % 6].to_owned()
    };
    match value {
        Value::Object(entries) => {
            let entries: Vec<String> = entries
                .iter()
                .map(|(key, value)| {
                    let before = space(spaces);
                    let colon = format!("{}:{}", space(spaces), space(spaces));
                    format!("{before}{}{colon}{}{}", json!(key), written(value, spaces), space(spaces))
                })
                .collect();
            format!("{{{}{}}}", entries.join(","), space(spaces))
        }
        Value::Array(items) => {
            let items: Vec<String> =
                items.iter().map(|item| written(item, spaces) + &space(spaces)).collect();
            format!("[{}{}]", space(spaces), items.join(","))
        }
        other => other.to_string(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn an_edit_changes_its_target_and_no_other_value_or_byte(
        state in states(),
        spaces in prop::collection::vec(any::<u8>(), 0..64),
        app in "(web|api|job|new)",
        environment in "(dev|prod|sit|new)",
        version in prop::option::of("[a-z0-9]{1,4}"),
        reason in prop::option::of("[!-~é\"]{1,9}"),
    ) {
        let text = written(&state, &mut spaces.iter().copied().cycle().take(if spaces.is_empty() { 0 } else { 10_000 }));
        let version = version.map(|version| version.parse().unwrap());
        let edit = TargetEdit { version: version.as_ref(), reason: reason.as_deref(), ..edit("edited") };
        let edited = set(&text, &app, &environment, &edit);
        let result: Value = serde_json::from_str(&edited).unwrap();

        let mut expected = state.clone();
        let slot = &mut expected["apps"][&app]["environments"][&environment]["target"];
        let old = slot.clone();
        let mut target: Map<String, Value> = old.as_object().into_iter().flatten()
            .filter(|(key, _)| key.starts_with("x-")).map(|(key, value)| (key.clone(), value.clone())).collect();
        target.insert("artifact".into(), json!(id("edited").to_string()));
        for (key, value) in [("version", version.as_ref().map(ToString::to_string)), ("reason", reason.clone())] {
            if let Some(value) = value {
                target.insert(key.into(), json!(value));
            }
        }
        *slot = Value::Object(target);
        prop_assert_eq!(&result, &expected);

        let root = crate::document::parse_json(&text, path()).unwrap();
        let place = ["apps", &app, "environments", &environment, "target"];
        match place.iter().try_fold(&root, |table, key| table.get(key)) {
            Some(target) => {
                prop_assert!(edited.starts_with(&text[..target.span.start]));
                prop_assert!(edited.ends_with(&text[target.span.end..]));
            }
            None => {
                // A pure insertion, except that the white space inside an empty object may go.
                let same = |a: &mut dyn Iterator<Item = char>, b: &mut dyn Iterator<Item = char>| {
                    a.zip(b).take_while(|(a, b)| a == b).count()
                };
                let head = same(&mut text.chars(), &mut edited.chars());
                let tail = same(&mut text.chars().rev(), &mut edited.chars().rev());
                let lost: String = text.chars().skip(head).take(text.chars().count().saturating_sub(head + tail)).collect();
                prop_assert!(lost.trim().is_empty(), "{lost:?} went");
            }
        }
    }
}

#[test]
fn a_suspension_comes_and_goes_and_no_other_byte_moves() {
    let until = "2030-01-01T00:00:00Z".parse().unwrap();
    let pause = |reason: &str, until| Suspend { reason: reason.to_owned(), by: "lee".to_owned(), until };
    let inline = with("");
    let tabs = inline.replace("{\"target\"", "{\r\n\t\"target\"").replace("}}}}}", "}\r\n}}}}");
    for text in [EXAMPLE.to_owned(), inline, tabs] {
        let environment = name("staging");
        let environment = if text == EXAMPLE { environment } else { name("prod") };
        let edited = |text: &str, suspend: Option<&Suspend>| {
            set_suspend(text, path(), &name("web"), &environment, suspend).unwrap()
        };
        let of =
            |text: &str| parse(text).unwrap().resolve(&name("web"), &environment).unwrap().suspend().cloned();
        assert_eq!(of(&text), None, "{text}");
        let suspended = edited(&text, Some(&pause("freeze", Some(until))));
        assert_eq!(of(&suspended), Some(pause("freeze", Some(until))), "{suspended}");
        // Another one takes its place, without what only the first one had.
        let other = edited(&suspended, Some(&pause("fair", None)));
        assert_eq!(of(&other), Some(pause("fair", None)), "{other}");
        assert_eq!(edited(&other, Some(&pause("fair", None))), other);
        assert_eq!(edited(&other, None), text);
        assert_eq!(edited(&text, None), text);
    }
}

#[test]
fn what_the_state_does_not_name_cannot_be_suspended() {
    let pause = Suspend { reason: "x".to_owned(), by: "lee".to_owned(), until: None };
    let set = |app: &str, environment: &str| {
        set_suspend(EXAMPLE, path(), &name(app), &name(environment), Some(&pause))
    };
    assert!(matches!(set("wbe", "prod"), Err(EditError::Unknown(ResolveError::NoApp { .. }))));
    assert!(matches!(set("web", "nowhere"), Err(EditError::Unknown(ResolveError::NoEnvironment { .. }))));
    let empty = Suspend { reason: " ".to_owned(), ..pause };
    let refused = set_suspend(EXAMPLE, path(), &name("web"), &name("prod"), Some(&empty));
    assert!(matches!(refused, Err(EditError::App(_))), "{refused:?}");
}
