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
