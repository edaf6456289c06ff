//! Whole threads over each wire: responses as the API streams them, and requests read back as a server would.

use proptest::sample::{Index, select};
use serde_json::Value;

use super::*;
use crate::api::provider::{ReasoningField, Thinking};
use crate::llm::failure::Asked;
use crate::llm::fold::{Fold, Progress};
use crate::llm::wire::messages::{CACHE_MARKER, LONG_CACHE_MARKER};
use crate::llm::{PreparedRequest, RenderedTools, Request, StreamEvent};

const WIRES: [Wire; 3] = [Wire::Responses, Wire::Chat, Wire::Messages];

/// A response: reasoning, what only the provider understands, words, calls with their outputs.
#[derive(Clone, Debug, Default)]
struct Response {
    reasoning: bool,
    opaque: bool,
    text: Option<String>,
    calls: Vec<Called>,
}

/// A call with its output.
#[derive(Clone, Debug)]
struct Called {
    id: String,
    is_custom: bool,
    argument: String,
    output: String,
    /// Whether a picture comes with the output.
    shows: bool,
}

/// One thing that happens in a thread.
#[derive(Clone, Debug)]
enum Move {
    Developer(String),
    User(String),
    Response(Response),
    /// History is replaced by this.
    Compact(String),
}

/// What a server reads: who, and what.
type Facts = Vec<(&'static str, String)>;

fn capabilities(strict: bool, markers: bool) -> Capabilities {
    Capabilities {
        encrypted_reasoning: true,
        reasoning_field: Some(ReasoningField::Reasoning),
        stream_usage: true,
        strict_alternation: strict,
        thinking: Some(Thinking::Adaptive),
        image_input: true,
        cache_markers: markers,
        ..Capabilities::default()
    }
}

fn text() -> impl Strategy<Value = String> {
    any::<String>().prop_map(|text| format!("t{text}"))
}

fn response() -> impl Strategy<Value = Response> {
    // Ids that repeat, are missing, or are not valid everywhere.
    let id = select(vec!["a", "b", "", "no id!"]).prop_map(str::to_owned);
    let call = (id, any::<bool>(), any::<String>(), any::<String>(), any::<bool>());
    let call = call.prop_map(|(id, is_custom, argument, output, shows)| Called {
        id,
        is_custom,
        argument,
        output,
        shows,
    });
    (any::<bool>(), any::<bool>(), prop::option::of(text()), prop::collection::vec(call, 0..4)).prop_map(
        |(reasoning, opaque, text, calls)| {
            let text = text.or_else(|| calls.is_empty().then(|| "done".to_owned()));
            Response { reasoning, opaque, text, calls }
        },
    )
}

/// What a server may take beyond the rest without making another thread of it.
fn variations() -> impl Strategy<Value = Capabilities> {
    (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(strict, custom_tools, developer_role, image_in_tool_result)| Capabilities {
            custom_tools,
            developer_role,
            image_in_tool_result,
            ..capabilities(strict, false)
        },
    )
}

fn thread() -> impl Strategy<Value = Vec<Move>> {
    let said = prop_oneof![
        text().prop_map(Move::Developer),
        text().prop_map(Move::User),
        response().prop_map(Move::Response),
        response().prop_map(Move::Response),
        text().prop_map(Move::Compact),
    ];
    (prop::collection::vec(text(), 0..3), text(), prop::collection::vec(said, 0..14)).prop_map(
        |(layers, prompt, moves)| {
            let begin = layers.into_iter().map(Move::Developer).chain([Move::User(prompt)]);
            begin.chain(moves).collect()
        },
    )
}

fn custom() -> Vec<String> {
    vec!["apply_patch".to_owned()]
}

/// The one picture.
const PIXEL: &str = "data:image/png;base64,AA==";

/// Whether tools take free text, and not a function's JSON in its place.
fn takes_text(wire: Wire, capabilities: &Capabilities) -> bool {
    capabilities.custom_tools && wire != Wire::Messages
}

/// A call's name and arguments as a model writes them.
fn written(call: &Called, as_text: bool) -> (&'static str, String) {
    let argument = &call.argument;
    match (call.is_custom, as_text) {
        (true, true) => ("apply_patch", argument.clone()),
        (true, false) => ("apply_patch", json!({"input": argument}).to_string()),
        (false, _) => ("exec_command", format!("{{ \"cmd\" : {} }}", json!(argument))),
    }
}

/// The data of the events by which an API streams a response.
fn events(wire: Wire, response: &Response, as_text: bool) -> Vec<String> {
    let calls = response.calls.iter().map(|call| {
        let (name, arguments) = written(call, as_text);
        (call.id.clone(), name, arguments, call.is_custom && as_text)
    });
    let events: Vec<Value> = match wire {
        Wire::Responses => {
            let reasoning = response
                .reasoning
                .then(|| json!({"type": "reasoning", "encrypted_content": "sealed", "summary": []}));
            let text = response.text.iter().map(|text| {
                json!({"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]})
            });
            let calls = calls.map(|(id, name, arguments, is_text)| {
                if is_text {
                    json!({"type": "custom_tool_call", "call_id": id, "name": name, "input": arguments})
                } else {
                    json!({"type": "function_call", "call_id": id, "name": name, "arguments": arguments})
                }
            });
            let opaque = response.opaque.then(|| json!({"type": "web_search_call", "id": "sealed"}));
            let items = reasoning.into_iter().chain(opaque).chain(text).chain(calls);
            items
                .map(|item| json!({"type": "response.output_item.done", "item": item}))
                .chain([json!({"type": "response.completed", "response": {}})])
                .collect()
        }
        Wire::Chat => {
            let delta = |delta: Value| json!({"choices": [{"index": 0, "delta": delta}]});
            let reasoning = response.reasoning.then(|| delta(json!({"reasoning_content": "sealed"})));
            let text = response.text.iter().map(|text| delta(json!({"content": text})));
            let calls = calls.enumerate().map(|(index, (id, name, arguments, is_text))| {
                let call = if is_text {
                    json!({"index": index, "id": id, "type": "custom", "custom": {"name": name, "input": arguments}})
                } else {
                    json!({"index": index, "id": id, "function": {"name": name, "arguments": arguments}})
                };
                delta(json!({"tool_calls": [call]}))
            });
            let opaque = response.opaque.then(|| delta(json!({"extra_content": {"id": "sealed"}})));
            let finish = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
            let deltas = reasoning.into_iter().chain(opaque).chain(text).chain(calls);
            deltas.chain([finish, json!("[DONE]")]).collect()
        }
        Wire::Messages => {
            let mut events = vec![json!({"type": "message_start", "message": {"id": "m"}})];
            let mut index = 0;
            let mut block = |block: Value, delta: Value| {
                events.push(json!({"type": "content_block_start", "index": index, "content_block": block}));
                events.push(json!({"type": "content_block_delta", "index": index, "delta": delta}));
                events.push(json!({"type": "content_block_stop", "index": index}));
                index += 1;
            };
            if response.reasoning {
                block(
                    json!({"type": "thinking", "thinking": "sealed"}),
                    json!({"type": "signature_delta", "signature": "s"}),
                );
            }
            if response.opaque {
                block(
                    json!({"type": "server_tool_use", "id": "sealed", "name": "web_search", "input": {}}),
                    json!({"type": "input_json_delta", "partial_json": "{}"}),
                );
            }
            if let Some(text) = &response.text {
                block(json!({"type": "text", "text": ""}), json!({"type": "text_delta", "text": text}));
            }
            for (id, name, arguments, _) in calls {
                block(
                    json!({"type": "tool_use", "id": id, "name": name, "input": {}}),
                    json!({"type": "input_json_delta", "partial_json": arguments}),
                );
            }
            events.push(json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}}));
            events.push(json!({"type": "message_stop"}));
            events
        }
    };
    events.iter().map(|event| event.as_str().map_or_else(|| event.to_string(), str::to_owned)).collect()
}

/// The items of a response, read from its stream.
fn folded(wire: Wire, response: &Response, as_text: bool) -> Vec<ThreadItem> {
    let asked = Asked { wire, url: "http://llm.test/v1".into(), model: "m".into() };
    let mut fold = Fold::new(asked, if as_text { vec![] } else { custom() }, 0);
    let (mut told, mut last) = (Vec::new(), Progress::None);
    for event in events(wire, response, as_text) {
        last = fold.event(event.as_bytes(), &mut told).unwrap();
    }
    assert_eq!(last, Progress::Finished);
    let items = told.into_iter().filter_map(|event| match event {
        StreamEvent::ItemCompleted(item) => Some(*item),
        _ => None,
    });
    items.collect()
}

/// A thread under way, and what its server must read.
struct Run {
    wire: Wire,
    capabilities: Capabilities,
    history: History,
    expected: Facts,
    /// What is expected of the layers.
    layers: Option<Facts>,
    sent: Vec<Input>,
    /// The number of the window of each.
    windows: Vec<usize>,
}

impl Run {
    fn new(wire: Wire, capabilities: Capabilities) -> Self {
        let history = History::new(wire, capabilities);
        let (expected, sent, windows) = (Vec::new(), Vec::new(), Vec::new());
        Self { wire, capabilities, history, expected, layers: None, sent, windows }
    }

    fn of(wire: Wire, capabilities: Capabilities, moves: &[Move]) -> Self {
        let mut run = Self::new(wire, capabilities);
        for step in moves {
            run.make(step);
        }
        run.send();
        run
    }

    fn make(&mut self, step: &Move) {
        match step {
            Move::Developer(text) => {
                let leading = self.expected.iter().all(|(who, _)| *who == "developer");
                let has_role = self.wire == Wire::Responses && self.capabilities.developer_role;
                if has_role || leading && self.sent.is_empty() {
                    self.expected.push(("developer", text.clone()));
                } else {
                    self.expected.push(("user", format!("<developer_note>\n{text}\n</developer_note>")));
                }
                self.say(Role::Developer, text);
            }
            Move::User(text) => {
                if self.layers.is_none() {
                    self.layers = Some(self.expected.clone());
                    self.history.keep_layers();
                }
                self.expected.push(("user", text.clone()));
                self.say(Role::User, text);
            }
            Move::Response(response) => self.respond(response),
            Move::Compact(text) => {
                self.history.begin_window(None).unwrap();
                self.expected = self.layers.clone().unwrap();
                self.expected.push(("user", text.clone()));
                self.say(Role::User, text);
                self.history.end_base();
            }
        }
    }

    fn say(&mut self, role: Role, text: &str) {
        let content = vec![ContentPart::Text { text: text.into() }];
        let item = self.wire.message(Message { role, content }, &self.capabilities);
        self.history.append(item).unwrap();
    }

    fn respond(&mut self, response: &Response) {
        self.send();
        let as_text = takes_text(self.wire, &self.capabilities);
        for item in folded(self.wire, response, as_text) {
            self.history.append(item).unwrap();
        }
        if response.reasoning {
            self.expected.push(("reasoning", "sealed".into()));
        }
        if response.opaque {
            self.expected.push(("opaque", "sealed".into()));
        }
        self.expected.extend(response.text.iter().map(|text| ("assistant", text.clone())));
        for call in &response.calls {
            let (name, arguments) = written(call, as_text);
            // Arguments come back as they were written, or as the JSON they are.
            let arguments = match self.wire {
                Wire::Responses | Wire::Chat => arguments,
                Wire::Messages => serde_json::from_str::<Value>(&arguments).unwrap().to_string(),
            };
            self.expected.push(("call", format!("{name} {arguments}")));
        }
        response.calls.iter().for_each(|call| self.answer(call));
        let moved = response.calls.iter().filter(|call| call.shows && !self.shows_in_outputs());
        let moved = moved.map(|_| ("image", PIXEL.to_owned())).collect::<Facts>();
        if !moved.is_empty() {
            self.expected.push(("user", "Images from the tool outputs above:".into()));
            self.expected.extend(moved);
        }
    }

    fn shows_in_outputs(&self) -> bool {
        self.capabilities.image_in_tool_result && self.wire != Wire::Chat
    }

    fn answer(&mut self, call: &Called) {
        let kind = if call.is_custom { CallKind::Custom } else { CallKind::Function };
        let mut output = CallOutput::text(&call.id, &call.output);
        output.content.extend(call.shows.then(|| ContentPart::Image { url: PIXEL.into() }));
        self.history.append(self.wire.call_output(kind, output, &self.capabilities)).unwrap();
        let shown = call.shows && self.shows_in_outputs();
        // Messages takes no text without a visible character; what came as text alone is left as it is.
        let nothing = match (self.wire, call.shows) {
            (Wire::Responses | Wire::Chat, _) => None,
            (Wire::Messages, false) => call.output.is_empty().then_some("(no output)"),
            (Wire::Messages, true) if !call.output.trim().is_empty() => None,
            (Wire::Messages, true) => Some(if shown { "" } else { "[image below]" }),
        };
        self.expected.push(("output", nothing.map_or_else(|| call.output.clone(), str::to_owned)));
        self.expected.extend(shown.then(|| ("image", PIXEL.to_owned())));
    }

    fn send(&mut self) {
        self.sent.push(self.history.input().unwrap());
        self.windows.push(self.history.windows().len());
        self.history.seal();
    }

    fn body(&self, input: &Input) -> Bytes {
        self.prepared(input, false).body
    }

    fn prepared(&self, input: &Input, keeps_long: bool) -> PreparedRequest {
        let tools =
            RenderedTools { bytes: Bytes::from_static(b"[{\"name\":\"f\"}]"), custom_as_function: custom() };
        let request = Request {
            model: "m".into(),
            input: input.clone(),
            tools,
            thread_id: "t".into(),
            reasoning_effort: None,
            compacts: false,
            keeps_long,
            answer: None,
        };
        self.wire.prepare(&request, &self.capabilities)
    }

    /// What the server reads in the last request.
    fn read(&self) -> Facts {
        self.read_in(self.sent.last().unwrap())
    }

    /// What the server reads in a request.
    fn read_in(&self, input: &Input) -> Facts {
        let body: Value = serde_json::from_slice(&self.body(input)).unwrap();
        let facts = match self.wire {
            Wire::Responses => read_responses(&body),
            Wire::Chat => read_chat(&body),
            Wire::Messages => read_messages(&body),
        };
        joined(facts)
    }
}

/// Words of one speaker in a row are one text, whatever they are cut into.
fn joined(facts: Facts) -> Facts {
    let mut joined: Facts = Vec::new();
    for (who, what) in facts {
        match joined.last_mut() {
            Some((last, text)) if *last == who && matches!(who, "developer" | "user" | "assistant") => {
                text.push_str("\n\n");
                text.push_str(&what);
            }
            _ => joined.push((who, what)),
        }
    }
    joined
}

fn string(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// Checks that every output answers its call: the calls of a step have different ids, and the outputs come in
/// their order.
#[derive(Default)]
struct Ids {
    seen: Vec<String>,
    open: VecDeque<String>,
}

impl Ids {
    fn call(&mut self, id: &Value) {
        let id = string(id);
        assert!(!id.is_empty() && !self.seen.contains(&id), "{id} of {:?}", self.seen);
        self.seen.push(id.clone());
        self.open.push_back(id);
    }

    fn output(&mut self, id: &Value) {
        assert_eq!(self.open.pop_front(), Some(string(id)));
    }
}

/// What a part of a content says, whatever the API calls it.
fn read_part(speaker: &'static str, part: &Value) -> (&'static str, String) {
    match part["type"].as_str().unwrap() {
        "input_image" => ("image", string(&part["image_url"])),
        "image_url" => ("image", string(&part["image_url"]["url"])),
        "image" => {
            let source = &part["source"];
            ("image", format!("data:{};base64,{}", string(&source["media_type"]), string(&source["data"])))
        }
        _ => (speaker, string(&part["text"])),
    }
}

/// What a content says: a text, or parts.
fn read_content(speaker: &'static str, content: &Value) -> Facts {
    match content {
        Value::String(text) => vec![(speaker, text.clone())],
        parts => parts.as_array().unwrap().iter().map(|part| read_part(speaker, part)).collect(),
    }
}

/// The same of an output, which has its text first, if only an empty one.
fn read_output(content: &Value) -> Facts {
    let mut facts = read_content("output", content);
    if facts.first().is_none_or(|(who, _)| *who != "output") {
        facts.insert(0, ("output", String::new()));
    }
    facts
}

fn read_responses(body: &Value) -> Facts {
    let mut facts = Facts::new();
    let mut ids = Ids::default();
    for item in body["input"].as_array().unwrap() {
        match item["type"].as_str().unwrap() {
            "message" => {
                let who = match item["role"].as_str().unwrap() {
                    "user" => "user",
                    "assistant" => "assistant",
                    _ => "developer",
                };
                facts.extend(read_content(who, &item["content"]));
            }
            "reasoning" => facts.push(("reasoning", string(&item["encrypted_content"]))),
            "web_search_call" => facts.push(("opaque", string(&item["id"]))),
            kind @ ("function_call" | "custom_tool_call") => {
                ids.call(&item["call_id"]);
                let arguments = &item[if kind == "function_call" { "arguments" } else { "input" }];
                facts.push(("call", format!("{} {}", string(&item["name"]), string(arguments))));
            }
            _ => {
                ids.output(&item["call_id"]);
                facts.extend(read_output(&item["output"]));
            }
        }
    }
    facts
}

fn read_chat(body: &Value) -> Facts {
    let mut facts = Facts::new();
    let mut ids = Ids::default();
    for message in body["messages"].as_array().unwrap() {
        match message["role"].as_str().unwrap() {
            "system" | "developer" => {
                assert!(facts.is_empty(), "the system message is the first");
                facts.push(("developer", string(&message["content"])));
            }
            "user" => facts.extend(read_content("user", &message["content"])),
            "assistant" => {
                assert!(ids.open.is_empty(), "outputs come before anything else");
                facts.extend(message["reasoning"].as_str().map(|text| ("reasoning", text.to_owned())));
                let opaque = message["extra_content"]["id"].as_str();
                facts.extend(opaque.map(|id| ("opaque", id.to_owned())));
                facts.extend(message["content"].as_str().map(|text| ("assistant", text.to_owned())));
                for call in message["tool_calls"].as_array().into_iter().flatten() {
                    ids.call(&call["id"]);
                    let (written, arguments) = match call["type"].as_str().unwrap() {
                        "custom" => (&call["custom"], "input"),
                        _ => (&call["function"], "arguments"),
                    };
                    let (name, arguments) = (string(&written["name"]), string(&written[arguments]));
                    facts.push(("call", format!("{name} {arguments}")));
                }
            }
            _ => {
                ids.output(&message["tool_call_id"]);
                facts.push(("output", string(&message["content"])));
            }
        }
    }
    facts
}

fn read_messages(body: &Value) -> Facts {
    let mut facts = Facts::new();
    let mut ids = Ids::default();
    for block in body["system"].as_array().into_iter().flatten() {
        facts.push(("developer", string(&block["text"])));
    }
    for message in body["messages"].as_array().unwrap() {
        let speaker = if message["role"] == "user" { "user" } else { "assistant" };
        for block in message["content"].as_array().unwrap() {
            match block["type"].as_str().unwrap() {
                "thinking" => {
                    assert_eq!(block["signature"], "s");
                    facts.push(("reasoning", string(&block["thinking"])));
                }
                "server_tool_use" => facts.push(("opaque", string(&block["id"]))),
                "tool_use" => {
                    ids.call(&block["id"]);
                    facts.push(("call", format!("{} {}", string(&block["name"]), block["input"])));
                }
                "tool_result" => {
                    ids.output(&block["tool_use_id"]);
                    facts.extend(read_output(&block["content"]));
                }
                _ => facts.push(read_part(speaker, block)),
            }
        }
        assert!(speaker == "assistant" || ids.open.is_empty(), "all outputs are in the next message");
    }
    facts
}

fn said(text: &str) -> Move {
    Move::User(text.into())
}

fn called(ids: &[&str]) -> Move {
    let calls = ids.iter().map(|id| Called {
        id: (*id).to_owned(),
        is_custom: false,
        argument: "ls".to_owned(),
        output: "out".to_owned(),
        shows: false,
    });
    Move::Response(Response { calls: calls.collect(), ..Response::default() })
}

fn answered(text: &str) -> Move {
    Move::Response(Response { text: Some(text.into()), ..Response::default() })
}

/// The messages of the last request, as text.
fn last_messages(wire: Wire, capabilities: Capabilities, moves: &[Move]) -> Vec<String> {
    let run = Run::of(wire, capabilities, moves);
    let messages = &run.sent.last().unwrap().messages;
    messages.iter().map(|message| String::from_utf8(message.to_vec()).unwrap()).collect()
}

proptest! {
    /// Nothing is lost and nothing changes its place on any wire.
    #[test]
    fn w1_every_wire_tells_the_server_what_happened_in_its_order(
        moves in thread(),
        capabilities in variations(),
    ) {
        for wire in WIRES {
            let run = Run::of(wire, Capabilities { strict_alternation: false, ..capabilities }, &moves);
            prop_assert_eq!(run.read(), joined(run.expected.clone()), "{:?}", wire);
        }
    }

    #[test]
    fn w2_each_request_begins_with_the_one_before_byte_for_byte(
        moves in thread(),
        capabilities in variations(),
    ) {
        for wire in WIRES {
            let run = Run::of(wire, capabilities, &moves);
            for (pair, windows) in run.sent.windows(2).zip(run.windows.windows(2)) {
                let same = windows[0] == windows[1];
                prop_assert!(!same || pair[1].messages.starts_with(&pair[0].messages), "{:?}", wire);
                prop_assert_eq!(&pair[1].system, &pair[0].system);
            }
            for input in &run.sent {
                let array = [&b"["[..], &input.messages.join(&b","[..]), b"]"].concat();
                let body = run.body(input);
                prop_assert!(body.windows(array.len()).any(|window| window == array), "{:?}", wire);
            }
        }
    }

    #[test]
    fn w21_markers_are_all_that_caching_adds(moves in thread()) {
        let marked = Run::of(Wire::Messages, capabilities(false, true), &moves);
        let plain = Run::of(Wire::Messages, capabilities(false, false), &moves);
        for (marked_input, plain_input) in marked.sent.iter().zip(&plain.sent) {
            let body = String::from_utf8(marked.body(marked_input).to_vec()).unwrap();
            prop_assert!(body.matches(CACHE_MARKER).count() <= 4);
            prop_assert_eq!(body.replace(CACHE_MARKER, "").into_bytes(), plain.body(plain_input).to_vec());
        }
    }

    #[test]
    fn w14_speakers_alternate_where_they_must(moves in thread()) {
        for wire in [Wire::Chat, Wire::Messages] {
            let run = Run::of(wire, capabilities(true, false), &moves);
            let body: Value = serde_json::from_slice(&run.body(run.sent.last().unwrap())).unwrap();
            let roles = body["messages"].as_array().unwrap().iter().map(|message| string(&message["role"]));
            let roles: Vec<String> = roles.filter(|role| role != "system").collect();
            for pair in roles.windows(2) {
                let fits = pair[0] != pair[1] || pair[0] == "tool";
                prop_assert!(fits && (pair[0] != "tool" || pair[1] != "user"), "{:?}", roles);
            }
        }
    }

    /// However a thread is cut into requests, what was not sent yet makes no difference to what was.
    #[test]
    fn w2_a_message_that_was_sent_is_sealed(moves in thread(), cut in any::<Index>()) {
        for wire in WIRES {
            let mut run = Run::new(wire, capabilities(true, false));
            let moves: Vec<&Move> = moves.iter().filter(|step| !matches!(step, Move::Compact(_))).collect();
            let cut = cut.index(moves.len());
            for step in &moves[..cut] {
                run.make(step);
            }
            run.send();
            let sent = run.sent.last().unwrap().messages.clone();
            for step in &moves[cut..] {
                run.make(step);
            }
            run.send();
            prop_assert!(run.sent.last().unwrap().messages.starts_with(&sent));
        }
    }
}

proptest! {
    /// What asks for a compaction comes after everything that was sent, byte for byte, and after what was not sent yet.
    #[test]
    fn w24_a_compaction_is_asked_for_behind_the_same_prefix(moves in thread(), strict in any::<bool>()) {
        for wire in WIRES {
            let run = Run::of(wire, capabilities(strict, false), &moves);
            let asked = run.history.input_with(Some(&instruction(&run)), run.history.len(), 0).unwrap();
            let sent = run.sent.last().unwrap();
            prop_assert!(asked.messages.starts_with(&sent.messages), "{:?}", wire);
            prop_assert!(asked.messages.len() > sent.messages.len());
            prop_assert_eq!(&asked.system, &sent.system);
            prop_assert_eq!(asked.previous, sent.messages.len());
        }
    }

    /// However much of it is left out, a server takes what is left: every call with its output, and nothing twice.
    #[test]
    fn w24_what_is_left_out_goes_with_what_belongs_to_it(moves in thread(), strict in any::<bool>()) {
        for wire in WIRES {
            let run = Run::of(wire, capabilities(strict, false), &moves);
            let units = run.history.units(run.history.len());
            let mut most = usize::MAX;
            for left_out in 1..=units {
                let input = run.history.input_with(Some(&instruction(&run)), run.history.len(), left_out).unwrap();
                let facts = run.read_in(&input);
                let (_, last) = facts.last().unwrap();
                prop_assert!(last.ends_with("sum it up"));
                let calls = facts.iter().filter(|(who, _)| *who == "call").count();
                prop_assert!(calls <= most, "{:?} at {}", wire, left_out);
                most = calls;
            }
            let layers = run.layers.clone().unwrap();
            let nothing = run.history.input_with(Some(&instruction(&run)), run.history.len(), units).unwrap();
            let expected = layers.into_iter().chain([("user", "sum it up".to_owned())]).collect();
            prop_assert_eq!(run.read_in(&nothing), joined(expected), "{:?}", wire);
        }
    }
}

fn instruction(run: &Run) -> ThreadItem {
    let content = vec![ContentPart::Text { text: "sum it up".into() }];
    run.wire.message(Message { role: Role::User, content }, &run.capabilities)
}

#[test]
fn w4_ids_that_repeat_or_do_not_fit_get_others_that_stay() {
    let moves = [said("go"), called(&["a", "a", "", "no id!"]), called(&["a"])];
    for (wire, expected) in [
        (Wire::Responses, ["a", "a00000002", "a00000003", "no id!", "a00000009"]),
        (Wire::Chat, ["a", "a00000002", "a00000003", "no id!", "a00000009"]),
        (Wire::Messages, ["a", "a00000002", "a00000003", "a00000004", "a00000009"]),
    ] {
        let text = last_messages(wire, capabilities(false, false), &moves).join(",");
        for id in expected {
            // Once at the call and once at its output.
            assert_eq!(text.matches(&format!("{id:?}")).count(), 2, "{wire:?} {id}: {text}");
        }
    }
}

#[test]
fn w14_one_leading_system_message_and_later_notes_as_the_users() {
    let moves = [
        Move::Developer("base".into()),
        Move::Developer("rules".into()),
        said("go"),
        answered("done"),
        Move::Developer("new rules".into()),
        said("on"),
    ];
    assert_eq!(
        last_messages(Wire::Chat, capabilities(false, false), &moves),
        [
            r#"{"role":"system","content":"base\n\nrules"}"#,
            r#"{"role":"user","content":"go"}"#,
            r#"{"role":"assistant","content":"done"}"#,
            r#"{"role":"user","content":"<developer_note>\nnew rules\n</developer_note>"}"#,
            r#"{"role":"user","content":"on"}"#,
        ]
    );
    let merged = last_messages(Wire::Chat, capabilities(true, false), &moves);
    assert_eq!(
        merged[3],
        r#"{"role":"user","content":"<developer_note>\nnew rules\n</developer_note>\n\non"}"#
    );
}

#[test]
fn w14_one_leading_system_message_and_later_notes_as_the_users_on_responses() {
    let moves = [
        Move::Developer("base".into()),
        Move::Developer("rules".into()),
        said("go"),
        answered("done"),
        Move::Developer("new rules".into()),
    ];
    let sent = |developer_role| {
        let capabilities = Capabilities { developer_role, ..capabilities(false, false) };
        last_messages(Wire::Responses, capabilities, &moves)
    };
    let item = |role: &str, parts: &[&str]| {
        let parts: Vec<String> =
            parts.iter().map(|text| format!(r#"{{"type":"input_text","text":"{text}"}}"#)).collect();
        format!(r#"{{"type":"message","role":"{role}","content":[{}]}}"#, parts.join(","))
    };
    let answer = r#"{"type":"message","role":"assistant","content":[{"type":"output_text","text":"done"}]}"#;
    let note = r"<developer_note>\nnew rules\n</developer_note>";
    assert_eq!(
        sent(false),
        [item("system", &["base", "rules"]), item("user", &["go"]), answer.to_owned(), item("user", &[note])]
    );
    let as_developer = |text| item("developer", &[text]);
    assert_eq!(
        sent(true),
        [
            as_developer("base"),
            as_developer("rules"),
            item("user", &["go"]),
            answer.to_owned(),
            as_developer("new rules")
        ]
    );
}

#[test]
fn w14_between_two_sealed_messages_of_the_user_stands_a_filler() {
    let mut run = Run::new(Wire::Chat, capabilities(true, false));
    for text in ["go", "stop"] {
        run.make(&said(text));
        run.send();
    }
    let messages = &run.sent[1].messages;
    assert_eq!(
        messages[..],
        [
            &br#"{"role":"user","content":"go"}"#[..],
            br#"{"role":"assistant","content":"Understood."}"#,
            br#"{"role":"user","content":"stop"}"#,
        ]
    );
}

#[test]
fn w15_one_tool_message_a_call_in_call_order_before_anything_else() {
    let moves = [said("go"), called(&["a", "b"]), said("steer")];
    assert_eq!(
        last_messages(Wire::Chat, capabilities(false, false), &moves)[1..],
        [
            r#"{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"exec_command","arguments":"{ \"cmd\" : \"ls\" }"}},{"id":"b","type":"function","function":{"name":"exec_command","arguments":"{ \"cmd\" : \"ls\" }"}}]}"#,
            r#"{"role":"tool","tool_call_id":"a","content":"out"}"#,
            r#"{"role":"tool","tool_call_id":"b","content":"out"}"#,
            r#"{"role":"user","content":"steer"}"#,
        ]
    );
}

#[test]
fn w19_all_results_in_one_user_message_and_the_steer_text_after_them() {
    let moves = [Move::Developer("base".into()), said("go"), called(&["a", "b"]), said("steer")];
    let run = Run::of(Wire::Messages, capabilities(false, false), &moves);
    let input = run.sent.last().unwrap();
    assert_eq!(input.system[..], [&br#"{"type":"text","text":"base"}"#[..]]);
    let messages: Vec<&str> =
        input.messages.iter().map(|message| std::str::from_utf8(message).unwrap()).collect();
    assert_eq!(
        messages,
        [
            r#"{"role":"user","content":[{"type":"text","text":"go"}]}"#,
            r#"{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"exec_command","input":{ "cmd" : "ls" }},{"type":"tool_use","id":"b","name":"exec_command","input":{ "cmd" : "ls" }}]}"#,
            r#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":"out"},{"type":"tool_result","tool_use_id":"b","content":"out"},{"type":"text","text":"steer"}]}"#,
        ]
    );
}

#[test]
fn w21_markers_stand_at_tools_system_the_end_before_and_this_end() {
    let moves = [Move::Developer("base".into()), said("go"), called(&["a"]), called(&["b"])];
    let run = Run::of(Wire::Messages, capabilities(false, true), &moves);
    let body: Value = serde_json::from_slice(&run.body(run.sent.last().unwrap())).unwrap();
    let marker = json!({"type": "ephemeral"});
    assert_eq!(body["system"][0]["cache_control"], marker);
    assert_eq!(body["tools"][0]["cache_control"], marker);
    let messages = body["messages"].as_array().unwrap();
    let marked: Vec<usize> = (0..messages.len())
        .filter(|index| messages[*index]["content"].to_string().contains("cache_control"))
        .collect();
    assert_eq!((messages.len(), marked), (5, vec![2, 4]));
    // A repetition of the same request still finds what the one before it kept.
    let mut again = Run::of(Wire::Messages, capabilities(false, true), &moves);
    again.send();
    assert_eq!(again.body(&again.sent[again.sent.len() - 1]), run.body(run.sent.last().unwrap()));
}

/// Where markers stand: which blocks of the messages, counted from the first.
fn marked_blocks(body: &[u8]) -> (Vec<usize>, usize) {
    let body: Value = serde_json::from_slice(body).unwrap();
    let messages = body["messages"].as_array().unwrap().iter();
    let blocks: Vec<&Value> = messages.flat_map(|message| message["content"].as_array().unwrap()).collect();
    let marked = (0..blocks.len()).filter(|place| blocks[*place].get("cache_control").is_some());
    (marked.collect(), blocks.len())
}

/// A provider finds what it kept at a marker or in the 20 blocks before it.
#[test]
fn w21_what_the_request_before_put_into_the_cache_is_found_however_large_its_step() {
    let ids: Vec<String> = (0..40).map(|number| format!("c{number}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let moves = [said("go"), called(&ids), called(&ids[..1]), called(&ids), answered("done"), said("on")];
    let run = Run::of(Wire::Messages, capabilities(false, true), &moves);
    let mut kept = None;
    for input in &run.sent {
        let (marked, blocks) = marked_blocks(&run.body(input));
        if let Some(kept) = kept {
            assert!(marked.iter().any(|place| (kept..kept + 20).contains(place)), "{kept}: {marked:?}");
        }
        assert!(marked.len() <= 2 && marked.last() == Some(&(blocks - 1)));
        kept = marked.last().copied();
    }
}

#[test]
fn w21_after_a_long_wait_every_marker_asks_for_an_hour() {
    let moves = [Move::Developer("base".into()), said("go"), called(&["a"])];
    let run = Run::of(Wire::Messages, capabilities(false, true), &moves);
    let input = run.sent.last().unwrap();
    let short = String::from_utf8(run.body(input).to_vec()).unwrap();
    let long = String::from_utf8(run.prepared(input, true).body.to_vec()).unwrap();
    assert_eq!(short.matches(CACHE_MARKER).count(), 4);
    assert_eq!(long, short.replace(CACHE_MARKER, LONG_CACHE_MARKER));
    for wire in [Wire::Responses, Wire::Chat] {
        let run = Run::of(wire, capabilities(false, true), &moves);
        let input = run.sent.last().unwrap();
        assert_eq!(run.prepared(input, true), run.prepared(input, false));
    }
}

#[test]
fn w8_an_image_counts_as_a_constant_and_its_bytes_do_not_matter() {
    let capabilities = Capabilities { image_input: true, ..capabilities(false, false) };
    for wire in WIRES {
        let counted = |bytes: usize| {
            let mut run = Run::new(wire, capabilities);
            let url = format!("data:image/png;base64,{}", "A".repeat(bytes));
            let content = vec![ContentPart::Image { url }, ContentPart::Text { text: "look".into() }];
            let item = wire.message(Message { role: Role::User, content }, &capabilities);
            run.history.append(item).unwrap();
            run.send();
            let prepared = run.prepared(&run.sent[0], false);
            assert!(prepared.body.len() > bytes);
            (run.history.bytes_from(0), prepared.counted_bytes)
        };
        let (small, large) = (counted(4), counted(4_000_000));
        for (small, large) in [(small.0, large.0), (small.1, large.1)] {
            // Messages does not send the few bytes before the data.
            assert!(
                small.abs_diff(large) < 32 && (6_400..7_000).contains(&large),
                "{wire:?} {small} {large}"
            );
        }
        let blind = Capabilities { image_input: false, ..capabilities };
        let mut run = Run::new(wire, blind);
        let content = vec![ContentPart::Image { url: "data:image/png;base64,AA==".into() }];
        run.history.append(wire.message(Message { role: Role::User, content }, &blind)).unwrap();
        assert!(run.history.bytes_from(0) < 200, "a note stands in its place");
    }
}

#[test]
fn w10_what_the_provider_refuses_is_left_out_and_nothing_else() {
    let reasoning = Move::Response(Response { reasoning: true, ..Response::default() });
    let moves = [said("go"), called(&["a"]), reasoning];
    let mut run = Run::of(Wire::Responses, capabilities(false, false), &moves);
    let before = run.sent.last().unwrap().messages.clone();
    let ordinal = run.history.dangling_reasoning().unwrap();
    assert_eq!(ordinal as usize, run.history.len() - 1);
    run.history.leave_out(ordinal);
    assert_eq!(run.history.dangling_reasoning(), None);
    run.make(&said("on"));
    run.send();
    let after = &run.sent.last().unwrap().messages;
    assert_eq!(after[..before.len() - 1], before[..before.len() - 1]);
    assert_eq!(after.len(), before.len());
    assert!(!after.concat().windows(9).any(|bytes| bytes == b"reasoning"));
    // Reasoning that something follows stays, and the other APIs take it or never send it.
    for (wire, text) in [(Wire::Responses, Some("words")), (Wire::Chat, None), (Wire::Messages, None)] {
        let text = text.map(str::to_owned);
        let reasoning = Move::Response(Response { reasoning: true, text, ..Response::default() });
        let run = Run::of(wire, capabilities(false, false), &[said("go"), reasoning]);
        assert_eq!(run.history.dangling_reasoning(), None, "{wire:?}");
    }
}

#[test]
fn w22_a_paused_turn_is_sent_again_as_it_came() {
    let mut run = Run::new(Wire::Messages, capabilities(false, false));
    run.make(&said("go"));
    run.send();
    let searched = r#"{"type":"server_tool_use","id":"s","name":"web_search","input":{"query":"x"}}"#;
    let block: Value = serde_json::from_str(searched).unwrap();
    let asked = Asked { wire: Wire::Messages, url: "http://llm.test/v1".into(), model: "m".into() };
    let (mut fold, mut told) = (Fold::new(asked, custom(), 0), Vec::new());
    for event in [
        json!({"type": "message_start", "message": {"id": "m"}}),
        json!({"type": "content_block_start", "index": 0, "content_block": block}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": "pause_turn"}}),
        json!({"type": "message_stop"}),
    ] {
        fold.event(event.to_string().as_bytes(), &mut told).unwrap();
    }
    for event in told {
        match event {
            StreamEvent::ItemCompleted(item) => drop(run.history.append(*item).unwrap()),
            StreamEvent::Completed(completed) => assert_eq!(completed.end_turn, Some(false)),
            _ => {}
        }
    }
    run.send();
    let messages = &run.sent[1].messages;
    assert_eq!(messages[0], run.sent[0].messages[0]);
    let expected = format!(r#"{{"role":"assistant","content":[{searched}]}}"#);
    assert_eq!(messages[1..], [expected.into_bytes()]);
}
