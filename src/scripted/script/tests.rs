use super::*;

/// A script of one scenario with the replies given as YAML, indented by four.
fn with_replies(replies: &str) -> Result<Script, ScriptError> {
    Script::from_yaml(&format!("scenarios:\n- name: s\n  replies:\n{replies}"))
}

fn problem(replies: &str) -> String {
    with_replies(replies).unwrap_err().to_string()
}

#[test]
fn the_default_script_and_the_samples_are_valid() {
    Script::default_script().unwrap();
    for sample in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/config/samples/scripts")).unwrap() {
        let path = sample.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        Script::from_yaml(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

#[test]
fn every_script_in_the_manual_is_valid() {
    let manual = include_str!("../../../docs/scripted-model.md");
    let mut scripts = 0;
    for block in manual.split("```yaml\n").skip(1) {
        let script = block.split("```").next().unwrap();
        if script.contains("scenarios:") {
            Script::from_yaml(script).unwrap_or_else(|error| panic!("{error}\n{script}"));
            scripts += 1;
        }
    }
    assert!(scripts > 1);
}

#[test]
fn every_field_is_read() {
    let script = Script::from_yaml(
        r#"
models: [a, b]
apiKey: k
checks: {pairing: false, prefix: true, systemFirst: false}
quirks: [strictAlternation, systemOnlyFirst, refuseUnknownParameters, refuseReasoning]
pace: {firstEventMillis: 1, eventMillis: 2, deltaCharacters: 3}
scenarios:
  - name: one
    match: {model: a, prompt: fix, headers: {x-y: {matches: "^z"}}}
    cycle: true
    replies:
      - when: {request: 1, tools: [exec_command]}
        expect: {instructions: {contains: [a, b], excludes: c}, lastUserMessage: d}
        capture:
          session: 'ID (\d+)'
          name: {from: prompt, pattern: x, default: y}
        repeat: 2
        pace: {eventMillis: 9}
        output:
          - reasoning: r
          - text: "{{session}} {{name}}"
          - call: {tool: t, arguments: {a: [1, 2.5, null, true, "s"]}, callId: c}
          - call: {tool: t, arguments: '{"a'}
          - call: {tool: t}
          - custom: {tool: p, input: "x\n"}
          - plan: [{step: s, status: pending}]
          - refusal: no
          - item: {type: web_search_call}
        usage: {inputTokens: 1, cachedInputTokens: 2, cacheWriteInputTokens: 5, outputTokens: 3, reasoningTokens: 4}
        endTurn: false
        inject: [{afterEvents: 1, raw: "data: {\n\n"}]
        end: {stall: {afterEvents: 3, seconds: 4}}
      - end: completed
        quirks: [repeatedIds, wholeArguments, textInsteadOfCalls, noUsage, missingIndex, repeatedName, usageInLastChunk, usageWithFinish, shortReasoning]
      - {end: {cut: {afterEvents: 1}}}
      - {end: {close: {afterEvents: 1}}}
      - {end: {failed: {code: a, message: b}}}
      - {end: {incomplete: {reason: a}}}
      - {http: {status: 429, headers: {Retry-After: "2"}, error: {code: a, message: b}}}
      - {http: {status: 200, body: "<html>"}, when: {anyOutput: a, lastOutput: {excludes: b}}}
      - {output: [], omitUsage: true}
"#,
    )
    .unwrap();
    assert_eq!(script.scenarios[0].replies.len(), 9);
    assert_eq!((script.quirks.len(), script.scenarios[0].replies[1].quirks.len()), (4, 9));
    assert_eq!(script.scenarios[0].replies[0].output.len(), 9);
    assert_eq!(script.scenarios[0].replies[0].repeat, 2);
    let Output::Call(call) = &script.scenarios[0].replies[0].output[2] else { panic!() };
    assert_eq!(call.arguments.to_string(), r#"{"a":[1,2.5,null,true,"s"]}"#);
    assert!(matches!(script.scenarios[0].replies[0].end, End::Stall { after_events: 3, seconds: 4 }));
}

#[test]
fn a_mistake_in_the_form_is_shown_with_its_line() {
    for (replies, line, word) in [
        ("    - ouput: []\n", "line 4", "ouput"),
        ("    - output:\n      - txt: x\n", "line 5", "txt"),
        ("    - output:\n      - call: {tool: t, args: {}}\n", "line 5", "args"),
        ("    - capture: {a: '('}\n", "line 4", "unclosed group"),
        ("    - expect: {prompt: {like: x}}\n", "line 4", "like"),
        ("    - expect: {prompt: {}}\n", "line 4", "one of contains"),
        ("    - quirks: [odd]\n", "line 4", "odd"),
        ("    - end: {cut: {afterEvents: 1, soon: true}}\n", "line 4", "soon"),
    ] {
        let problem = problem(replies);
        assert!(problem.contains(line) && problem.contains(word), "{replies}{problem}");
    }
}

#[test]
fn a_contradiction_is_shown_with_its_place() {
    for (replies, expected) in [
        ("    - {}\n    - repeat: 0\n", "scenario \"s\", reply 2: repeat must be at least 1"),
        (
            "    - output: [{text: '{{later}}'}]\n    - capture: {later: x}\n",
            "scenario \"s\", reply 1: {{later}} is captured neither here nor in an earlier reply; write \\{{ for the braces themselves",
        ),
        (
            "    - {http: {status: 500}, output: [{text: x}]}\n",
            "scenario \"s\", reply 1: http stands alone: output, usage, inject and end belong to a stream",
        ),
        ("    - http: {status: 100}\n", "scenario \"s\", reply 1: http.status 100 is no final HTTP status"),
        (
            "    - http: {status: 200, body: a, error: {message: b}}\n",
            "scenario \"s\", reply 1: http.body and http.error exclude each other",
        ),
        (
            "    - http: {status: 200, headers: {'a b': c}}\n",
            "scenario \"s\", reply 1: http.headers: \"a b\" is no valid HTTP header",
        ),
        (
            "    - {usage: {}, omitUsage: true}\n",
            "scenario \"s\", reply 1: usage and omitUsage exclude each other",
        ),
        ("    - pace: {deltaCharacters: 0}\n", "scenario \"s\", reply 1: deltaCharacters must be at least 1"),
        (
            "    - end: {stall: {afterEvents: 0, seconds: 4000}}\n",
            "scenario \"s\", reply 1: a stall may have up to 3600 s",
        ),
        (
            "    - capture: {a-b: x}\n",
            "scenario \"s\", reply 1: capture \"a-b\": a name has letters, digits and _ only",
        ),
        ("    - output: [{item: {a: b}}]\n", "scenario \"s\", reply 1: an item needs a type"),
        (
            "    - quirks: [noUsage, strictAlternation]\n",
            "scenario \"s\", reply 1: StrictAlternation judges requests: it belongs to the quirks of the whole script",
        ),
        ("    []\n", "scenario \"s\": at least one reply is needed"),
    ] {
        assert_eq!(problem(replies), expected);
    }
    assert_eq!(
        Script::from_yaml("scenarios: []").unwrap_err().to_string(),
        "scenarios: at least one is needed"
    );
    let both = "{quirks: [requireReasoning, refuseReasoning], scenarios: [{name: s, replies: [{}]}]}";
    assert_eq!(
        Script::from_yaml(both).unwrap_err().to_string(),
        "quirks: requireReasoning and refuseReasoning exclude each other"
    );
    let twice = "scenarios: [{name: a, replies: [{}]}, {name: a, replies: [{}]}]";
    assert_eq!(Script::from_yaml(twice).unwrap_err().to_string(), "scenario \"a\": the name is used twice");
}

#[test]
fn calls_that_could_not_be_sent_back_are_shown() {
    let script = |output: &str| {
        let text = format!(
            "{{quirks: [requireReasoning], scenarios: [{{name: s, replies: [{{output: [{output}]}}]}}]}}"
        );
        Script::from_yaml(&text).map(|_| ()).map_err(|error| error.to_string())
    };
    let problem = "scenario \"s\", reply 1: requireReasoning: the calls need a reasoning before them";
    assert_eq!(script("{text: x}"), Ok(()));
    assert_eq!(script("{reasoning: r}, {text: x}, {call: {tool: t}}"), Ok(()));
    assert_eq!(script("{call: {tool: t}}"), Err(problem.to_owned()));
    assert_eq!(script("{plan: []}, {reasoning: r}"), Err(problem.to_owned()));
}
