use serde_json::{Value, json};

use super::*;
use crate::scripted::seen::Api;

fn script(text: &str) -> Script {
    Script::from_yaml(text).unwrap()
}

fn request(thread: &str, input: Value) -> Received {
    let body = json!({"model": "m", "stream": true, "input": input, "prompt_cache_key": thread});
    Received::parse(Api::Responses, body.to_string().as_bytes(), vec![]).unwrap()
}

fn said(text: &str) -> Value {
    json!([{"role": "user", "content": text}])
}

fn ran(output: &str) -> Value {
    json!([
        {"role": "user", "content": "go"},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": output},
    ])
}

/// The text of the reply that a request gets, or why it is refused.
fn reply(threads: &mut Threads, script: &Script, mut request: Received) -> Result<String, Refused> {
    let turn = threads.take(script, &mut request)?;
    let super::super::script::Output::Text(text) = &turn.reply.output[0] else { panic!() };
    Ok(super::super::template::expand(text, &turn.values))
}

#[test]
fn the_first_request_chooses_the_scenario_for_good() {
    let script = script(
        "scenarios:
        - {name: a, match: {prompt: apple}, replies: [{output: [{text: a1}]}, {output: [{text: a2}]}]}
        - {name: b, replies: [{output: [{text: b1}]}]}",
    );
    let mut threads = Threads::default();
    assert_eq!(reply(&mut threads, &script, request("1", said("an apple"))).unwrap(), "a1");
    assert_eq!(reply(&mut threads, &script, request("2", said("a pear"))).unwrap(), "b1");
    assert_eq!(reply(&mut threads, &script, request("1", said("a pear"))).unwrap(), "a2");
    let refused = reply(&mut threads, &script, request("1", said("a pear"))).unwrap_err();
    assert_eq!(refused.code, "script_exhausted");
    assert_eq!(
        refused.message,
        "scenario \"a\" has 2 replies and none is left for request 3 of thread \"1\""
    );
}

#[test]
fn after_a_compaction_the_input_begins_anew_behind_the_same_instructions() {
    let script = script(
        "checks: {prefix: true}
scenarios:
  - name: a
    replies:
      - {output: [{text: a1}]}
      - {expect: {compaction: true}, compaction: true, output: [{text: a2}]}
      - {expect: {compaction: false}, output: [{text: a3}]}
      - {output: [{text: a4}]}",
    );
    let layered = |instructions: &str, said: &[&str]| {
        let instructions = json!([{"role": "developer", "content": instructions}]);
        let said = said.iter().map(|text| match *text {
            "compact" => json!({"type": "compaction_trigger"}),
            text => json!({"role": "user", "content": text}),
        });
        request("1", instructions.as_array().unwrap().iter().cloned().chain(said).collect())
    };
    let mut threads = Threads::default();
    let mut ask = |received| reply(&mut threads, &script, received);
    assert_eq!(ask(layered("base", &["one"])).unwrap(), "a1");
    assert_eq!(ask(layered("base", &["other", "compact"])).unwrap_err().code, "prefix_changed");
    assert_eq!(ask(layered("base", &["one", "two", "compact"])).unwrap(), "a2");
    assert_eq!(ask(layered("another base", &["anew"])).unwrap_err().code, "prefix_changed");
    assert_eq!(ask(layered("base", &["anew"])).unwrap(), "a3");
    assert_eq!(ask(layered("base", &["again"])).unwrap_err().code, "prefix_changed");
    assert_eq!(ask(layered("base", &["anew", "on"])).unwrap(), "a4");
}

#[test]
fn after_a_compaction_only_tools_of_mcp_servers_are_others() {
    let script = script(
        "checks: {prefix: true}
scenarios: [{name: a, cycle: true, replies: [{compaction: true, output: [{text: x}]}]}]",
    );
    let with = |names: &[&str]| {
        let tools: Vec<Value> =
            names.iter().map(|name| json!({"type": "function", "name": name, "parameters": {}})).collect();
        let body = json!({"model": "m", "stream": true, "input": said("go"), "tools": tools});
        Received::parse(Api::Responses, body.to_string().as_bytes(), vec![]).unwrap()
    };
    let mut threads = Threads::default();
    let mut ask = |names: &[&str]| reply(&mut threads, &script, with(names)).map_err(|refused| refused.code);
    assert!(ask(&["run", "mcp__a__old"]).is_ok());
    assert!(ask(&["run", "mcp__a__new", "mcp__b__new"]).is_ok());
    assert_eq!(ask(&["walk", "mcp__a__new"]), Err("prefix_changed"));
    assert_eq!(ask(&["mcp__a__new"]), Err("prefix_changed"));
    assert!(ask(&["run"]).is_ok());
}

#[test]
fn a_thread_that_matches_nothing_is_told_why() {
    let script = script("scenarios: [{name: a, match: {prompt: apple}, replies: [{}]}]");
    let refused = reply(&mut Threads::default(), &script, request("1", said("a pear"))).unwrap_err();
    assert_eq!(refused.code, "no_scenario");
    assert_eq!(
        refused.message,
        "no scenario of the script matches this thread: \"a\": prompt must contain \"apple\", and is \"a pear\""
    );
}

#[test]
fn replies_are_skipped_repeated_and_begun_again() {
    let script = script(
        "scenarios:
        - name: a
          cycle: true
          replies:
          - {when: {lastOutput: failed}, output: [{text: mend}]}
          - {when: {request: 2}, repeat: 2, output: [{text: twice}]}
          - {output: [{text: last}]}",
    );
    let mut threads = Threads::default();
    let mut next = |output| reply(&mut threads, &script, request("1", ran(output))).unwrap();
    assert_eq!(next("it failed"), "mend");
    assert_eq!(next("fine"), "twice");
    assert_eq!(next("it failed"), "twice");
    assert_eq!(next("it failed"), "last");
    assert_eq!(next("it failed"), "mend");
    assert_eq!(next("fine"), "last");
    assert_eq!(next("fine"), "last");
}

#[test]
fn an_expectation_refuses_until_it_holds() {
    let script = script(
        "scenarios: [{name: a, replies: [{expect: {lastOutput: {matches: '^ok', excludes: bad}}, output: [{text: x}]}]}]",
    );
    let mut threads = Threads::default();
    for _ in 0..2 {
        let refused = reply(&mut threads, &script, request("1", ran("ok, but bad"))).unwrap_err();
        assert_eq!(refused.code, "expectation_failed");
        assert_eq!(
            refused.message,
            "scenario \"a\", reply 1: lastOutput must not contain \"bad\" and match /^ok/, and is \"ok, but bad\""
        );
    }
    assert_eq!(reply(&mut threads, &script, request("1", ran("ok"))).unwrap(), "x");
}

#[test]
fn captured_values_come_back_in_later_replies() {
    let script = script(
        r"
scenarios:
- name: a
  replies:
  - {capture: {id: 'ID (\d+)', who: {from: prompt, pattern: 'g.'}, no: {pattern: zzz, default: d}}, output: [{text: '{{id}} {{who}} {{no}}'}]}
  - {capture: {id: 'ID (\d+)'}, output: [{text: '{{id}} {{who}}'}]}
  - {capture: {id: 'ID (\d+)'}, output: [{text: '{{id}}'}]}",
    );
    let mut threads = Threads::default();
    let mut next = |output| reply(&mut threads, &script, request("1", ran(output)));
    assert_eq!(next("session ID 12").unwrap(), "12 go d");
    assert_eq!(next("session ID 345").unwrap(), "345 go");
    let refused = next("no session").unwrap_err();
    assert_eq!(refused.code, "capture_failed");
    assert_eq!(
        refused.message,
        r#"scenario "a", reply 3: capture id: /ID (\d+)/ is not found in LastOutput; the newest is "no session""#
    );
}

#[test]
fn unpaired_calls_are_refused_unless_the_script_allows_them() {
    let open = json!([{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}]);
    let replies = "scenarios: [{name: a, replies: [{output: [{text: x}]}]}]";
    let refused = reply(&mut Threads::default(), &script(replies), request("1", open.clone())).unwrap_err();
    assert_eq!(refused.code, "unpaired_call");
    let lenient = script(&format!("checks: {{pairing: false}}\n{replies}"));
    assert!(reply(&mut Threads::default(), &lenient, request("1", open)).is_ok());
}

#[test]
fn a_quirk_of_the_server_refuses_what_others_take() {
    let body = json!({"model": "m", "stream": true, "seed": 1, "messages": [
        {"role": "system", "content": "a"}, {"role": "system", "content": "b"},
        {"role": "user", "content": "c"}, {"role": "user", "content": "d"},
        {"role": "assistant", "content": "e", "reasoning_content": "f"},
        {"role": "assistant", "tool_calls": [{"id": "g", "type": "function", "function": {"name": "h", "arguments": ""}}]},
        {"role": "tool", "tool_call_id": "g", "content": "i"},
    ]});
    let code = |quirk: &str| {
        let script = script(&format!(
            "{{quirks: [{quirk}], scenarios: [{{name: a, replies: [{{output: [{{text: x}}]}}]}}]}}"
        ));
        let received = Received::parse(Api::Chat, body.to_string().as_bytes(), vec![]).unwrap();
        reply(&mut Threads::default(), &script, received).map_err(|refused| refused.code)
    };
    assert_eq!(code(""), Ok("x".to_owned()));
    assert_eq!(code("noUsage"), Ok("x".to_owned()));
    for (quirk, refused) in [
        ("strictAlternation", "roles_not_alternating"),
        ("systemOnlyFirst", "system_not_first"),
        ("refuseUnknownParameters", "unknown_parameter"),
        ("requireReasoning", "missing_reasoning"),
        ("refuseReasoning", "unexpected_reasoning"),
    ] {
        assert_eq!(code(quirk), Err(refused), "{quirk}");
    }
}

#[test]
fn a_changed_prefix_is_refused_when_the_script_asks() {
    let script = script(
        "checks: {prefix: true}
scenarios: [{name: a, cycle: true, replies: [{output: [{text: x}]}]}]",
    );
    let mut threads = Threads::default();
    let mut next = |input| reply(&mut threads, &script, request("1", input)).map_err(|refused| refused.code);
    assert!(next(json!([])).is_ok());
    assert!(next(said("one")).is_ok());
    assert!(next(said("one")).is_ok());
    let longer = json!([{"role": "user", "content": "one"}, {"role": "user", "content": "two"}]);
    assert!(next(longer.clone()).is_ok());
    assert_eq!(next(said("one")), Err("prefix_changed"));
    assert_eq!(
        next(json!([{"role": "user", "content": "uno"}, {"role": "user", "content": "two"}])),
        Err("prefix_changed")
    );
    assert!(next(longer).is_ok());
}

#[test]
fn the_thread_that_was_idle_longest_is_forgotten() {
    let script = script(
        "scenarios: [{name: a, replies: [{output: [{text: x}]}, {output: [{text: y}]}, {output: [{text: z}]}]}]",
    );
    let mut threads = Threads::default();
    for thread in 0..MAX_THREADS {
        assert_eq!(reply(&mut threads, &script, request(&thread.to_string(), said("hi"))).unwrap(), "x");
    }
    assert_eq!(reply(&mut threads, &script, request("0", said("hi"))).unwrap(), "y");
    assert_eq!(reply(&mut threads, &script, request("new", said("hi"))).unwrap(), "x");
    assert_eq!(threads.by_name.len(), MAX_THREADS);
    assert_eq!(reply(&mut threads, &script, request("0", said("hi"))).unwrap(), "z");
    assert_eq!(reply(&mut threads, &script, request("1", said("hi"))).unwrap(), "x");
}
