use proptest::prelude::*;
use serde_json::json;

use super::*;

const VERDICT: &str = r#"{
    "type": "object",
    "properties": {"ok": {"type": "boolean"}, "why": {"type": "string", "maxLength": 20}},
    "required": ["ok", "why"],
    "additionalProperties": false
}"#;

fn schema() -> AnswerSchema {
    AnswerSchema::parse(VERDICT).unwrap()
}

fn fault(answer: &str) -> String {
    schema().check(answer).unwrap_err().to_string()
}

#[test]
fn an_answer_that_fits_is_its_json() {
    let value = json!({"ok": true, "why": "it is"});
    for answer in [
        r#"{"ok":true,"why":"it is"}"#,
        "\n {\"ok\": true, \"why\": \"it is\"}\n",
        "```json\n{\"ok\": true, \"why\": \"it is\"}\n```",
        "```\n{\"ok\": true, \"why\": \"it is\"}\n```\n",
    ] {
        assert_eq!(schema().check(answer).unwrap(), value, "{answer}");
    }
}

#[test]
fn what_is_wrong_with_an_answer_is_said_with_its_place() {
    assert_eq!(fault("  "), "it is empty");
    assert!(fault("Yes.").starts_with("it is not one JSON value and nothing else: "));
    assert!(fault("{\"ok\": true, \"why\": \"a\"} Done.").starts_with("it is not one JSON value"));
    let told = fault(r#"{"ok": "yes", "why": "a"}"#);
    assert!(told.starts_with("at /ok: ") && told.contains("boolean"), "{told}");
    assert!(fault(r#"{"ok": true}"#).starts_with("at /: "));
    let long = format!(r#"{{"ok": true, "why": "{}"}}"#, "a".repeat(ANSWER_MAX));
    assert!(fault(&long).contains("8192 are the most"));
    let many = AnswerSchema::parse(r#"{"items": {"type": "string"}}"#).unwrap();
    let told = many.check(&json!(vec![1; 100]).to_string()).unwrap_err().to_string();
    assert_eq!(told.matches("at /").count(), TOLD, "{told}");
}

#[test]
fn what_is_no_schema_is_refused_with_the_reason() {
    let refused = |text: &str| AnswerSchema::parse(text).unwrap_err();
    assert!(matches!(refused("{"), InvalidSchema::Json(_)));
    for text in [
        r#"{"type": "sting"}"#,
        r#"{"type": "object", "required": "name"}"#,
        r#"{"pattern": "("}"#,
        r#"{"$ref": "https://schemas.example.com/answer.json"}"#,
        r#"{"$ref": "file:///etc/passwd"}"#,
        r##"{"$ref": "#/$defs/missing"}"##,
        "[]",
    ] {
        assert!(matches!(refused(text), InvalidSchema::Schema(_)), "{text}");
    }
    assert_eq!(refused(&" ".repeat(SCHEMA_MAX + 1)), InvalidSchema::TooLong(SCHEMA_MAX + 1));
}

#[test]
fn a_schema_that_refers_to_itself_ends() {
    for text in [
        r##"{"$ref": "#"}"##,
        r#"{"$ref": ""}"#,
        r##"{"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}"##,
        r##"{"anyOf": [{"type": "string"}, {"$ref": "#"}]}"##,
        r##"{"not": {"$ref": "#"}}"##,
        r##"{"$dynamicAnchor": "a", "$dynamicRef": "#a", "unevaluatedProperties": false}"##,
    ] {
        if let Ok(schema) = AnswerSchema::parse(text) {
            let _ = schema.check("{\"a\": [1, {\"b\": 2}]}");
        }
    }
    let tree =
        r##"{"type": "object", "properties": {"child": {"$ref": "#"}}, "additionalProperties": false}"##;
    let tree = AnswerSchema::parse(tree).unwrap();
    assert!(tree.check(r#"{"child": {"child": {}}}"#).is_ok());
    assert!(tree.check(r#"{"child": {"leaf": {}}}"#).is_err());
}

#[test]
fn regular_expressions_are_few_and_small() {
    let many = |count: usize, body: &str| {
        let patterns = (0..count).map(|number| json!({"pattern": format!("^({body}|x){number}$")}));
        json!({"type": "string", "anyOf": patterns.collect::<Vec<_>>()}).to_string()
    };
    assert!(AnswerSchema::parse(&many(PATTERNS_MAX, "[a-z]{20}")).is_ok());
    let more = AnswerSchema::parse(&many(PATTERNS_MAX + 1, "a")).unwrap_err();
    assert_eq!(more, InvalidSchema::Patterns(PATTERNS_MAX + 1));
    let named: serde_json::Map<String, Value> =
        (0..=PATTERNS_MAX).map(|number| (format!("^{number}$"), json!({}))).collect();
    let named = json!({"properties": {"a": {"patternProperties": named}}}).to_string();
    assert_eq!(AnswerSchema::parse(&named).unwrap_err(), InvalidSchema::Patterns(PATTERNS_MAX + 1));
    // One of these is large, and so many are too large.
    assert!(AnswerSchema::parse(&many(1, r"\p{L}{20}")).is_ok());
    assert!(matches!(AnswerSchema::parse(&many(20, r"\p{L}{20}")), Err(InvalidSchema::Schema(_))));
    for usual in [
        r"^\\d{4}-\\d{2}-\\d{2}(T\\d{2}:\\d{2}:\\d{2}(\\.\\d+)?Z)?$",
        r"^[\\w.+-]+@[\\w-]+(\\.[\\w-]+)+$",
        r"^\\p{L}[\\p{L}\\p{M}' -]{0,63}$",
        r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$",
    ] {
        let text = format!(r#"{{"pattern": "{usual}"}}"#);
        assert!(AnswerSchema::parse(&text).is_ok(), "{usual}: {:?}", AnswerSchema::parse(&text).err());
    }
}

#[test]
fn parts_with_names_are_few() {
    // Each names two others, so there are two to the power of the levels ways to the last.
    let levels = |count: usize| {
        let mut parts = serde_json::Map::new();
        for level in 0..count {
            let below = [format!("http://x/a{}", level + 1), format!("http://x/b{}", level + 1)];
            let below: Vec<Value> = below.iter().map(|name| json!({"$ref": name})).collect();
            let body = if level + 1 == count { json!([true]) } else { json!(below) };
            for side in ["a", "b"] {
                let name = format!("{side}{level}");
                let part = json!({"$id": format!("http://x/{name}"), "allOf": body});
                parts.insert(name, part);
            }
        }
        json!({"$defs": parts, "$ref": "http://x/a0"}).to_string()
    };
    assert!(AnswerSchema::parse(&levels(NAMES_MAX / 2)).is_ok());
    assert_eq!(AnswerSchema::parse(&levels(20)).unwrap_err(), InvalidSchema::Names(40));
    let answer = json!({"properties": {"id": {"type": "string"}}, "required": ["id"]}).to_string();
    assert!(AnswerSchema::parse(&answer).unwrap().check(r#"{"id": "x"}"#).is_ok());
}

#[test]
fn strict_is_what_providers_take_as_strict() {
    assert!(is_strict(schema().value()));
    assert!(is_strict(&json!({"type": "array", "items": schema().value()})));
    assert!(is_strict(&json!({"type": "string", "enum": [{"type": "object"}]})));
    for loose in [
        json!({"type": "object"}),
        json!({"type": "object", "properties": {"a": {}}, "additionalProperties": false}),
        json!({"type": "object", "properties": {"a": {}}, "required": ["a"]}),
        json!({"type": ["object", "null"], "properties": {}, "additionalProperties": true}),
        json!({"anyOf": [{"type": "object"}]}),
        json!({"type": "array", "items": {"properties": {}}}),
        json!({"$defs": {"a": {"type": "object"}}}),
    ] {
        assert!(!is_strict(&loose), "{loose}");
    }
}

proptest! {
    #[test]
    fn nothing_that_a_model_may_say_or_a_person_may_write_breaks_anything(
        answer in any::<String>(), text in any::<String>(),
    ) {
        if let Ok(value) = schema().check(&answer) {
            prop_assert!(value["ok"].is_boolean());
        }
        let _ = AnswerSchema::parse(&text);
    }
}
