use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::names::{NAME_MAX, Place, names};
use super::result::{CallFailed, Content, ToolResult, output};
use super::schema::{SCHEMA_MAX, SchemaRefused, canonical};
use super::selection::{
    Changes, Held, ListedTool, Listing, Renewal, TOOLS_MAX, compare, offer, renew, select,
};
use super::*;
use crate::api::mcp::McpServer;
use crate::llm::ToolDefinition;

fn server(value: Value) -> McpServer {
    let mut server = json!({"name": "docs", "stdio": {"command": "docs"}});
    server.as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
    serde_json::from_value(server).unwrap()
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn tool(name: &str) -> ListedTool {
    ListedTool { name: name.into(), description: format!("{name}!"), schema: Map::new() }
}

fn places(of: &[(&str, &str)]) -> BTreeSet<Place> {
    of.iter().map(|(server, tool)| ((*server).to_owned(), (*tool).to_owned())).collect()
}

fn chosen(listings: Vec<Listing<'_>>) -> Vec<String> {
    select(listings).tools.into_iter().map(|tool| tool.name).collect()
}

proptest! {
    #[test]
    fn w9_names_are_different_and_short_and_the_same_in_any_order(
        list in proptest::collection::btree_set(("[a-b_]{0,3}|[a-z]{20,32}", "[ab_./]{0,6}|[a-b]{30,70}|\\PC{0,5}"), 0..40),
    ) {
        let given = names(&list, &BTreeMap::new());
        prop_assert_eq!(given.len(), list.len());
        prop_assert_eq!(given.values().collect::<BTreeSet<_>>().len(), list.len());
        for name in given.values() {
            prop_assert!(name.starts_with("mcp__") && name.len() <= NAME_MAX, "{}", name);
            prop_assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')));
        }
        let again: BTreeSet<Place> = list.iter().rev().cloned().collect();
        prop_assert_eq!(names(&again, &BTreeMap::new()), given);
    }

    /// What has a name of its own keeps it, whatever else there is.
    #[test]
    fn an_ordinary_name_does_not_depend_on_the_others(
        others in proptest::collection::btree_set(("[a-b]{1,2}", "[a-z_/]{0,70}"), 0..20),
    ) {
        let mut list = others;
        let place: Place = ("docs".into(), "search".into());
        list.insert(place.clone());
        prop_assert_eq!(&names(&list, &BTreeMap::new())[&place], "mcp__docs__search");
    }

    #[test]
    fn a_schema_is_the_same_whatever_the_order_of_its_members(value in json_value(), seed in any::<u64>()) {
        let schema = json!({"type": "object", "properties": {"x": value}});
        let shuffled = shuffled(&schema, seed);
        let (one, other) = (canonical(object(schema)), canonical(object(shuffled)));
        prop_assert_eq!(one.map(|schema| schema.to_string()), other.map(|schema| schema.to_string()));
    }
}

proptest! {
    /// Whatever a server offers from one time to the next: names are sorted, short and different, and who stays keeps his.
    #[test]
    fn w9_a_tool_that_stays_keeps_its_name_and_one_that_stays_the_same_its_bytes(
        lists in proptest::collection::vec(
            proptest::collection::btree_map("[ab./]{1,3}|a{60}[ab]{0,9}|a_b_[0-9a-f]{12}", 0u8..2, 0..12), 1..5,
        ),
    ) {
        let (docs, other) = (server(json!({})), server(json!({"name": "other"})));
        let beside = Listing { server: &other, tools: vec![tool("stays")] };
        let mut held = select(vec![beside]).tools;
        for list in lists {
            let tools = list.iter().map(|(name, version)| ListedTool {
                description: version.to_string(), ..tool(name)
            });
            let before = held.clone();
            let sizes: Vec<Held<'_>> = before.iter().map(|tool| Held { tool, size: 100 }).collect();
            let Renewal { tools, .. } = renew(&sizes, vec![offer(Listing { server: &docs, tools: tools.collect() })]);
            prop_assert_eq!(tools.len(), list.len() + 1);
            let names: Vec<&String> = tools.iter().map(|(tool, _)| &tool.name).collect();
            prop_assert!(names.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", names);
            prop_assert!(names.iter().all(|name| name.len() <= NAME_MAX));
            for (now, definition) in &tools {
                let was = before.iter().find(|was| (&was.server, &was.tool) == (&now.server, &now.tool));
                prop_assert!(was.is_none_or(|was| was.name == now.name));
                prop_assert_eq!(definition.is_none(), was == Some(now));
                if let Some(ToolDefinition::Function { name, .. }) = definition {
                    prop_assert_eq!(name, &now.name);
                }
            }
            held = tools.into_iter().map(|(tool, _)| tool).collect();
        }
    }
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        "[a-z]{0,4}".prop_map(Value::from)
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("[a-d]{1,2}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// The same with the members of each object turned round by some places.
fn shuffled(value: &Value, seed: u64) -> Value {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> =
                members.iter().map(|(key, value)| (key.clone(), shuffled(value, seed / 3))).collect();
            let by = if members.is_empty() { 0 } else { seed as usize % members.len() };
            members.rotate_left(by);
            Value::Object(members.into_iter().collect())
        }
        Value::Array(items) => items.iter().map(|item| shuffled(item, seed / 3)).collect(),
        other => other.clone(),
    }
}

#[test]
fn names_are_told_apart_where_servers_make_them_meet() {
    let long = "x".repeat(60);
    let fresh = |list: &[(&str, &str)]| names(&places(list), &BTreeMap::new());
    let given = fresh(&[("docs", "a/b"), ("docs", "a.b"), ("docs", "a_b"), ("docs", &long)]);
    let given: Vec<&str> = given.values().map(String::as_str).collect();
    assert_eq!(given[2], "mcp__docs__a_b");
    assert_eq!(given[3].len(), NAME_MAX);
    assert!(given[0].starts_with("mcp__docs__a_b_") && given[1].starts_with("mcp__docs__a_b_"), "{given:?}");
    // A server that calls a tool by the name to which another is shortened does not take it over.
    let stolen = given[0].strip_prefix("mcp__docs__").unwrap();
    let both = fresh(&[("docs", "a.b"), ("docs", stolen)]);
    assert_eq!(both.values().collect::<BTreeSet<_>>().len(), 2);
    assert_eq!(both[&("docs".to_owned(), stolen.to_owned())], given[0]);
    // Unless a thread knows another one by it.
    let (thief, owner): (Place, Place) = (("docs".into(), stolen.into()), ("docs".into(), "a.b".into()));
    let known = BTreeMap::from([(owner.clone(), given[0].to_owned())]);
    let later = names(&[thief.clone(), owner.clone()].into(), &known);
    assert!(later[&owner] == given[0] && later[&thief] != given[0], "{later:?}");
    let later = names(&[thief.clone()].into(), &known);
    assert!(later.len() == 1 && later[&thief] != given[0], "{later:?}");
}

#[test]
fn a_schema_gets_what_every_api_wants_and_loses_its_dialect() {
    let schema =
        canonical(object(json!({"required": ["b"], "$schema": "x", "properties": {"b": {}, "a": {}}})));
    let expected = r#"{"properties":{"a":{},"b":{}},"required":["b"],"type":"object"}"#;
    assert_eq!(schema.unwrap().to_string(), expected);
    assert_eq!(canonical(Map::new()).unwrap().to_string(), r#"{"properties":{},"type":"object"}"#);
    assert_eq!(canonical(object(json!({"type": "array"}))), Err(SchemaRefused::NoObject));
    let deep = (0..40).fold(json!(1), |inner, _| json!([inner]));
    assert_eq!(canonical(object(json!({"properties": {"x": deep}}))), Err(SchemaRefused::TooDeep));
    let long = json!({"description": "x".repeat(SCHEMA_MAX)});
    assert_eq!(canonical(object(long)), Err(SchemaRefused::TooLong));
}

#[test]
fn w9_tools_are_offered_as_the_operator_says_and_sorted() {
    let docs = server(
        json!({"enabledTools": ["search", "drop", "fetch"], "disabledTools": ["drop"], "parallelTools": ["search"]}),
    );
    let web = server(
        json!({"name": "a-web", "stdio": null, "http": {"url": "https://x"}, "retryableTools": ["get"]}),
    );
    let listings = || {
        let tools = ["search", "fetch", "drop", "other"].map(tool).to_vec();
        vec![
            Listing { server: &docs, tools },
            Listing { server: &web, tools: vec![tool("get"), tool("get")] },
        ]
    };
    let selection = select(listings());
    let names: Vec<&str> = selection.tools.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!(names, ["mcp__a-web__get", "mcp__docs__fetch", "mcp__docs__search"]);
    let facts: Vec<_> =
        selection.tools.iter().map(|tool| (tool.sandboxed, tool.parallel, tool.retryable)).collect();
    assert_eq!(facts, [(false, false, true), (true, false, false), (true, true, false)]);
    let declared: Vec<&str> = selection
        .definitions
        .iter()
        .map(|definition| match definition {
            ToolDefinition::Function { name, .. } | ToolDefinition::Custom { name, .. } => name.as_str(),
        })
        .collect();
    assert_eq!(declared, names);
    assert_eq!(selection.left_out, [""; 0]);
    // In another order they give the same.
    let mut turned = listings();
    turned.reverse();
    assert_eq!(select(turned), selection);
}

#[test]
fn a_thread_has_no_more_tools_than_fit_and_the_operator_is_told() {
    let docs = server(json!({}));
    let many = (0..10_000).map(|number| tool(&format!("tool_{number:05}"))).collect();
    let selection = select(vec![Listing { server: &docs, tools: many }]);
    assert_eq!(selection.tools.len(), TOOLS_MAX);
    assert_eq!(selection.tools[TOOLS_MAX - 1].tool, format!("tool_{:05}", TOOLS_MAX - 1));
    assert!(
        selection.left_out[0].contains("9888 tools of MCP servers are left out"),
        "{:?}",
        selection.left_out
    );

    let large = |number: usize| ListedTool {
        schema: object(json!({"description": "x".repeat(30_000)})),
        ..tool(&format!("t{number}"))
    };
    let selection = select(vec![Listing { server: &docs, tools: (0..9).map(large).collect() }]);
    assert_eq!((selection.tools.len(), selection.left_out.len()), (4, 1));
}

#[test]
fn w9_new_tools_take_the_place_of_none_that_the_thread_has() {
    let (docs, many) = (server(json!({})), server(json!({"name": "a-many"})));
    let held = select(vec![Listing { server: &docs, tools: ["a", "b", "c"].map(tool).to_vec() }]).tools;
    let held: Vec<Held<'_>> = held.iter().map(|tool| Held { tool, size: 10 }).collect();
    let first = (0..200).map(|number| tool(&format!("tool_{number:03}"))).collect();
    let otherwise = ListedTool { description: "other".into(), ..tool("b") };
    let offers = vec![
        offer(Listing { server: &many, tools: first }),
        offer(Listing { server: &docs, tools: vec![tool("a"), otherwise] }),
    ];
    let Renewal { tools, left_out } = renew(&held, offers);
    assert_eq!(tools.len(), TOOLS_MAX);
    let own: Vec<(&str, bool)> = tools
        .iter()
        .filter(|(tool, _)| tool.server == "docs")
        .map(|(tool, definition)| (tool.tool.as_str(), definition.is_some()))
        .collect();
    assert_eq!(own, [("a", false), ("b", true)], "c is gone");
    assert!(left_out[0].contains("90 tools of MCP servers are left out"), "{left_out:?}");
    // A server that is not heard of keeps what it has.
    let Renewal { tools, left_out } = renew(&held, vec![]);
    assert!(
        tools.len() == 3 && tools.iter().all(|(_, definition)| definition.is_none()) && left_out.is_empty()
    );
}

#[test]
fn what_cannot_be_declared_is_left_out_by_name() {
    let docs = server(json!({}));
    let broken = ListedTool { schema: object(json!({"type": "string"})), ..tool("broken") };
    let control = tool("a\u{1b}[2Jb");
    let listing = Listing { server: &docs, tools: vec![broken, control, tool(""), tool("fine")] };
    let selection = select(vec![listing]);
    assert_eq!(selection.tools.iter().map(|tool| tool.tool.as_str()).collect::<Vec<_>>(), ["fine"]);
    assert_eq!(
        selection.left_out,
        ["MCP server docs: left out are broken (its arguments are no object), and 2 more."]
    );
    let long = ListedTool { description: "é".repeat(5000), ..tool("long") };
    let selection = select(vec![Listing { server: &docs, tools: vec![long] }]);
    let ToolDefinition::Function { description, .. } = &selection.definitions[0] else {
        panic!("a function")
    };
    assert!(description.len() <= 4 * 1024 + 3 && description.ends_with('…'));
}

#[test]
fn a_server_that_was_started_again_is_compared_with_what_the_thread_has() {
    let docs = server(json!({"disabledTools": ["hidden"]}));
    let listed = |names: &[&str]| names.iter().map(|name| tool(name)).collect::<Vec<_>>();
    let frozen = select(vec![Listing { server: &docs, tools: listed(&["a", "b", "c"]) }]).tools;
    assert_eq!(compare(&frozen, &docs, listed(&["c", "b", "a", "hidden"])), Changes::default());
    let mut now = listed(&["b", "c", "d", "e"]);
    now[0].description = "something else".into();
    let changes = compare(&frozen, &docs, now);
    assert_eq!(changes, Changes { missing: vec!["a".into()], changed: vec!["b".into()], new: 2 });
    assert_eq!(chosen(vec![Listing { server: &docs, tools: listed(&["hidden"]) }]), [""; 0]);
}

#[test]
fn arguments_are_an_object_or_a_text_for_the_model() {
    let docs = server(json!({}));
    let tool = select(vec![Listing { server: &docs, tools: vec![tool("a")] }]).tools.remove(0);
    for nothing in ["", "  ", "null", "{}"] {
        assert_eq!(McpCall::parse(&tool, nothing).unwrap().arguments, Map::new());
    }
    let call = McpCall::parse(&tool, r#"{"b": 1, "a": [2]}"#).unwrap();
    assert_eq!(serde_json::to_string(&call.arguments).unwrap(), r#"{"b":1,"a":[2]}"#);
    for wrong in ["[1]", "{", "1", "\"x\""] {
        let error = McpCall::parse(&tool, wrong).unwrap_err();
        assert!(error.starts_with("failed to parse function arguments: "), "{error}");
    }
}

#[test]
fn a_result_is_its_structure_or_its_text() {
    let content = vec![
        Content::Text("one".into()),
        Content::Image("AA==".into()),
        Content::Other("audio".into()),
        Content::Text("two".into()),
    ];
    let result = ToolResult { structured: None, content: content.clone(), is_error: false };
    assert_eq!(result.text(&["[note]".into()]), "one\n[audio left out]\ntwo\n[note]");
    assert_eq!(result.images().collect::<Vec<_>>(), ["AA=="]);
    let result = ToolResult { structured: Some(json!({"b": 1, "a": 2})), content, is_error: false };
    assert_eq!(result.text(&[]), "{\"b\":1,\"a\":2}\n[audio left out]");
    assert_eq!(ToolResult::default().text(&[]), "");
}

#[test]
fn an_output_is_cut_by_the_usual_rule() {
    assert_eq!(output("x", Duration::from_millis(1500)), "Wall time: 1.5000 seconds\nOutput:\nx");
    let long = output(&"x".repeat(50_000), Duration::ZERO);
    let expected =
        "Wall time: 0.0000 seconds\nOutput:\nWarning: truncated output (original token count: 12500)\n";
    assert!(long.starts_with(expected) && long.contains("…2500 tokens truncated…"));
}

#[test]
fn what_may_have_happened_is_told_as_unknown() {
    let server = || "docs".to_owned();
    let after = Duration::from_secs(60);
    let timed_out = CallFailed::TimedOut { server: server(), after };
    assert!(timed_out.is_unknown() && timed_out.to_string().contains("within 60 seconds. Whether"));
    assert!(CallFailed::BrokenOff { server: server(), why: "it ended".into() }.is_unknown());
    assert!(!CallFailed::Unavailable { server: server(), why: "x".into() }.is_unknown());
    assert!(!CallFailed::Missing { server: server(), tool: "t".into() }.is_unknown());
    assert!(!CallFailed::Refused { server: server(), message: "m".into() }.is_unknown());
}

#[test]
fn notes_name_servers_and_nothing_of_theirs() {
    assert_eq!(missing_note(&[]), None);
    let note = missing_note(&["a".into(), "b".into()]).unwrap();
    assert!(note.contains("missing: a, b."), "{note}");
    assert_eq!(restarted_note(&[]), None);
    let web = server(json!({"stdio": null, "http": {"url": "https://x"}}));
    let docs = server(json!({}));
    let of = |server| select(vec![Listing { server, tools: vec![tool("a"), tool("b")] }]).tools;
    assert_eq!(restarted_note(&of(&web)), None);
    assert!(restarted_note(&of(&docs)).unwrap().contains("its MCP servers (docs)"));
}
