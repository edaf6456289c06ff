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
    for text in
        [r#"{"type": "sting"}"#, r#"{"type": "object", "required": "name"}"#, r#"{"pattern": "("}"#, "[]"]
    {
        assert!(matches!(refused(text), InvalidSchema::Schema(_)), "{text}");
    }
    for reference in [
        "https://schemas.example.com/answer.json",
        "file:///etc/passwd",
        "#/$defs/missing",
        "#missing",
        "other#/$defs/a",
        "#/%zz",
        "#/%2",
    ] {
        let text = json!({"properties": {"a": {"$ref": reference}}, "$defs": {"a": {}}}).to_string();
        assert_eq!(refused(&text), InvalidSchema::Reference(reference.to_owned()));
    }
    assert_eq!(refused(&" ".repeat(SCHEMA_MAX + 1)), InvalidSchema::TooLong(SCHEMA_MAX + 1));
}

#[test]
fn a_schema_may_refer_to_itself_for_what_is_in_a_value_alone() {
    for (text, reference) in [
        (r##"{"$ref": "#"}"##, "#"),
        (r#"{"$ref": ""}"#, ""),
        (r##"{"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}"##, "#/$defs/"),
        (r##"{"anyOf": [{"type": "string"}, {"$ref": "#"}]}"##, "#"),
        (r##"{"not": {"$ref": "#"}}"##, "#"),
        (r##"{"if": true, "then": {"dependentSchemas": {"a": {"$ref": "#"}}}}"##, "#"),
        (r##"{"$dynamicAnchor": "a", "$dynamicRef": "#a", "unevaluatedProperties": false}"##, "#a"),
    ] {
        let error = AnswerSchema::parse(text).unwrap_err();
        assert!(
            matches!(&error, InvalidSchema::Endless(found) if found.starts_with(reference)),
            "{text}: {error}"
        );
    }
    let tree =
        r##"{"type": "object", "properties": {"child": {"$ref": "#"}}, "additionalProperties": false}"##;
    let tree = AnswerSchema::parse(tree).unwrap();
    assert!(tree.check(r#"{"child": {"child": {}}}"#).is_ok());
    assert!(tree.check(r#"{"child": {"leaf": {}}}"#).is_err());
}

/// Each part refers twice to the next one, so there are two to the power of the levels ways to the last.
fn levels(count: usize, part: fn(Value) -> Value) -> String {
    let parts = (0..count).map(|level| {
        let below = json!({"$ref": format!("#/%24defs/a{}", level + 1)});
        (format!("a{level}"), part(json!([below, below])))
    });
    let parts: serde_json::Map<String, Value> =
        parts.chain([(format!("a{count}"), json!({"type": "object"}))]).collect();
    json!({"$defs": parts, "$ref": "#/$defs/a0"}).to_string()
}

#[test]
fn parts_that_double_for_a_value_are_refused() {
    let twice: [fn(Value) -> Value; 3] = [
        |two| json!({"allOf": two}),
        |two| json!({"if": two[0], "else": two[1]}),
        |two| json!({"oneOf": two}),
    ];
    for part in twice {
        let few = AnswerSchema::parse(&levels(6, part)).unwrap();
        let _ = few.check("{}");
        for many in [20, 64, 200] {
            let error = AnswerSchema::parse(&levels(many, part)).unwrap_err();
            assert_eq!(error, InvalidSchema::Work);
            assert!(error.to_string().contains("let fewer parts refer to the same ones"));
        }
    }
    // Many ways to one part are no doubling.
    let chain: serde_json::Map<String, Value> = (0..100)
        .map(|level| (format!("a{level}"), json!({"$ref": format!("#/$defs/a{}", level + 1)})))
        .chain([("a100".to_owned(), json!({"type": "integer"}))])
        .collect();
    let names: Vec<Value> = (0..100).map(|_| json!({"$ref": "#/$defs/a90"})).collect();
    let text = json!({"$defs": chain, "anyOf": names}).to_string();
    assert!(AnswerSchema::parse(&text).unwrap().check("1").is_ok());
}

#[test]
fn an_answer_that_doubles_in_its_schema_is_sent_back() {
    let branches: [fn(Value) -> Value; 4] = [
        |two| json!({"properties": {"x": {"allOf": two}}}),
        |two| json!({"additionalProperties": two[0], "patternProperties": {"x": two[1]}}),
        |two| json!({"allOf": [{"properties": {"x": two[0]}}, {"properties": {"x": two[1]}}]}),
        |two| json!({"properties": {"x": two[0]}, "allOf": [{"properties": {"x": true}}], "unevaluatedProperties": two[1]}),
    ];
    let nested = |depth: usize| format!("{}{{}}{}", "{\"x\":".repeat(depth), "}".repeat(depth));
    for (number, part) in branches.into_iter().enumerate() {
        // One part for all levels, and one for each.
        let own = part(json!([{"$ref": "#"}, {"$ref": "#"}])).to_string();
        for text in [own, levels(30, part)] {
            let schema = AnswerSchema::parse(&text).unwrap();
            assert_eq!(schema.check(&nested(3)).err(), None, "{number}");
            if number < 3 {
                let told = schema.check(&nested(100)).unwrap_err().to_string();
                assert!(told.ends_with("make it flatter or shorter"), "{number}: {told}");
            } else {
                let _ = schema.check(&nested(100));
            }
        }
    }
}

#[test]
fn trees_and_long_lists_are_no_great_work() {
    let tree = json!({
        "$defs": {"tree": {"anyOf": [
            {"type": "integer"},
            {"type": "object", "required": ["op", "left", "right"], "additionalProperties": false, "properties": {
                "op": {"enum": ["+", "-"]}, "left": {"$ref": "#/$defs/tree"}, "right": {"$ref": "#/$defs/tree"}}},
            {"type": "array", "items": {"$ref": "#/$defs/tree"}},
        ]}},
        "$ref": "#/$defs/tree",
    });
    let tree = AnswerSchema::parse(&tree.to_string()).unwrap();
    let mut value = json!(1);
    for _ in 0..6 {
        value = json!({"op": "+", "left": value, "right": value});
    }
    assert!(tree.check(&value.to_string()).is_ok());
    assert!(tree.check(&json!(vec![1; 4000]).to_string()).is_ok());
    assert!(tree.check(&format!("{}1{}", "[".repeat(95), "]".repeat(95))).is_ok());
    let text = AnswerSchema::parse(r#"{"type": "string", "pattern": "^a*$", "maxLength": 9000}"#).unwrap();
    assert!(text.check(&json!("a".repeat(ANSWER_MAX - 2)).to_string()).is_ok());
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

/// Each of them made a search, a comparison or a fault that nothing counted: minutes, or gigabytes, for one answer.
#[test]
fn large_patterns_and_lists_are_work_for_each_text() {
    let many = |part: Value, times: usize| {
        let parts: Vec<Value> = (0..times).map(|_| json!({"$ref": "#/$defs/part"})).collect();
        json!({"$defs": {"part": part}, "allOf": parts}).to_string()
    };
    let large = r"^(?:a?b?){20000}$";
    let names: Vec<String> = (0..2000).map(|number| format!("{number}")).collect();
    let text = json!("a".repeat(8000)).to_string();
    let member = format!(r#"{{"{}": 1}}"#, "a".repeat(8000));
    let objects = json!(vec![json!({}); 40]).to_string();
    let texts = json!(vec!["a"; 2000]).to_string();
    for (case, part, answer) in [
        ("a pattern", json!({"pattern": large}), &text),
        ("a pattern of members", json!({"patternProperties": {large: true}}), &member),
        ("a pattern of their names", json!({"propertyNames": {"pattern": large}}), &member),
        ("a choice", json!({"items": {"enum": names}}), &texts),
        ("names that are missing", json!({"items": {"required": names}}), &objects),
        ("a long pattern", json!({"items": {"pattern": format!("^{}$", "b".repeat(20_000))}}), &texts),
    ] {
        let schema = AnswerSchema::parse(&many(part, 4)).unwrap();
        let told = schema.check(answer).unwrap_err().to_string();
        assert!(told.ends_with("make it flatter or shorter"), "{case}: {told}");
        let _ = schema.check("[]").map_err(|told| assert!(!told.0.ends_with("shorter"), "{case}: {told}"));
    }
}

#[test]
fn usual_patterns_and_lists_take_long_answers() {
    let address = json!({"pattern": r"^[\w.+-]+@[\w-]+(\.[\w-]+)+$"});
    let codes: Vec<String> = (0..250).map(|number| format!("c{number}")).collect();
    for (schema, answer) in [
        (json!({"items": address}), json!(vec!["somebody@mail.example.com"; 280])),
        (json!({"items": {"pattern": r"^\d{4}-\d{2}-\d{2}$"}}), json!(vec!["2026-11-23"; 600])),
        (json!({"items": {"pattern": r"^\p{L}[\p{L}\p{M}' -]{0,63}$"}}), json!(vec!["Ada Lovelace"; 30])),
        (json!({"items": {"enum": codes}}), json!(vec!["c249"; 1000])),
        (
            json!({"items": {"required": ["path", "line", "text"], "properties": {"path": {"pattern": "^[^/]"}}}}),
            json!(vec![json!({"path": "src/main.rs", "line": 1, "text": "It is."}); 150]),
        ),
    ] {
        let parsed = AnswerSchema::parse(&schema.to_string()).unwrap();
        assert_eq!(parsed.check(&answer.to_string()).err(), None, "{schema}");
    }
}

#[test]
fn only_the_whole_has_a_name() {
    let own = r##"{"$id": "http://x/answer", "$defs": {"a": {"$anchor": "here"}}, "properties": {"b": {"$ref": "#here"}}}"##;
    assert!(AnswerSchema::parse(own).is_ok());
    let parts = json!({"$defs": {"a": {"$id": "a"}, "b": {"id": "b"}}, "$ref": "a"}).to_string();
    assert_eq!(AnswerSchema::parse(&parts).unwrap_err(), InvalidSchema::Names(2));
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
