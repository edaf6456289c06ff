use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jsonschema::{Keyword, ValidationError};
use proptest::prelude::*;
use serde_json::json;

use super::*;

/// Counts how often the part that it is in is compared.
struct Tick(Arc<AtomicU64>);

impl<'i> Keyword<'i> for Tick {
    fn validate(&self, value: &'i Value) -> Result<(), ValidationError<'i>> {
        assert!(self.is_valid(value));
        Ok(())
    }

    fn is_valid(&self, _: &'i Value) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed);
        true
    }
}

/// How often parts are in fact compared.
fn compared(schema: &Value, value: &Value) -> u64 {
    let ticks = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&ticks);
    let options =
        jsonschema::options().with_keyword("tick", move |_, _, _| Ok(Box::new(Tick(Arc::clone(&counted)))));
    let validator = options.build(schema).unwrap();
    let _ = validator.iter_errors(value).count();
    ticks.load(Ordering::Relaxed)
}

/// A part with a tick, of which there are four to refer to. What is in place refers to later ones alone.
fn part(number: usize) -> impl Strategy<Value = Value> {
    let next = (number + 1).min(4)..=4;
    let place = |number: usize| json!({"$ref": format!("#/$defs/{number}")});
    let later = next.prop_map(place);
    let any = (0..=4_usize).prop_map(place);
    let (some, more) = (prop::collection::vec(later.clone(), 1..3), prop::collection::vec(any.clone(), 1..3));
    let in_place = prop::sample::select(vec!["allOf", "anyOf", "oneOf"]);
    let inside =
        prop::sample::select(vec!["additionalProperties", "unevaluatedProperties", "items", "contains"]);
    (in_place, some, inside, any, more, any_type()).prop_map(|(name, some, below, any, more, kind)| {
        json!({
            "tick": 1, name: some, below: any, "type": kind,
            "properties": {"a": more.first(), "b": {"allOf": more}},
        })
    })
}

/// Of a schema without any.
fn none() -> Patterns {
    Patterns::of(&Value::Null, 0)
}

fn any_type() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![json!(["object", "array", "null"]), json!("object"), json!("array")])
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = Just(Value::Null);
    leaf.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::hash_map("[abc]", inner, 0..3)
                .prop_map(|members| members.into_iter().collect::<Map<_, _>>().into()),
        ]
    })
}

proptest! {
    #[test]
    fn no_more_is_compared_than_was_counted(
        parts in (part(0), part(1), part(2), part(3)), value in value(),
    ) {
        let (a, b, c, d) = parts;
        let schema = json!({"$defs": {"0": a, "1": b, "2": c, "3": d, "4": {"tick": 1}}, "$ref": "#/$defs/0"});
        prop_assert_eq!(check_parts(&schema, &none()), Ok(()));
        let none = none();
        let mut counter = Counter::new(&schema, &none, u64::MAX);
        let counted = counter.count(&schema, &value).unwrap().work;
        // What does not fit is compared once more for each way out of a choice, to say why.
        let compared = compared(&schema, &value);
        prop_assert!(compared <= counted.saturating_mul(4), "{compared} of {counted}");
    }
}

#[test]
fn ways_are_counted_and_pairs_are_walked() {
    let ways = |levels: u32| {
        let parts: Map<String, Value> = (0..levels)
            .map(|level| {
                let next = json!({"$ref": format!("#/{}", level + 1)});
                (level.to_string(), json!({"tick": 1, "allOf": [next, next]}))
            })
            .chain([(levels.to_string(), json!({"tick": 1}))])
            .collect();
        Value::from(parts)
    };
    let none = none();
    let of = |schema: &Value| {
        let mut counter = Counter::new(schema, &none, u64::MAX);
        let count = counter.count(&schema["0"], SINGLE).unwrap().work;
        (count, counter.known.len())
    };
    for levels in [1, 4, 10] {
        let schema = ways(levels);
        let (count, _) = of(&schema);
        assert!(count >= 2_u64.pow(levels + 1) - 1, "{count}");
    }
    let (count, pairs) = of(&ways(70));
    assert_eq!((count, pairs < 1000), (u64::MAX, true), "it is saturated, in few steps");
}

#[test]
fn chains_are_bounded_before_they_fill_a_stack() {
    let parts: Map<String, Value> = (0..1000)
        .map(|level| (level.to_string(), json!({"$ref": format!("#/{}", level + 1)})))
        .chain([("1000".to_owned(), json!({"properties": {"a": {"$ref": "#/0"}}}))])
        .collect();
    assert_eq!(check_parts(&Value::from(parts), &none()), Err(Excess::Depth));
    let tree = json!({"properties": {"a": {"$ref": "#/$defs/b"}}, "$defs": {"b": {"allOf": [{"allOf": [{"$ref": "#"}]}]}}});
    check_parts(&tree, &none()).unwrap();
    let nested = |depth: usize| (0..depth).fold(json!({}), |inner, _| json!({"a": inner}));
    assert_eq!(check_value(&tree, &none(), &nested(30)), Ok(()));
    assert_eq!(check_value(&tree, &none(), &nested(120)), Err(Excess::Depth));
}
