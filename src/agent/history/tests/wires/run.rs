//! A thread under way, and what was sent of it.

use super::server::{Facts, joined, read_chat, read_messages, read_responses};
use super::thread::{Called, Move, PIXEL, Response, custom, folded, takes_text, written};
use super::*;
use crate::api::provider::{ReasoningField, Thinking};
use crate::llm::{PreparedRequest, RenderedTools, Request};

pub(super) fn capabilities(strict: bool, markers: bool) -> Capabilities {
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

/// A thread under way, and what its server must read.
pub(super) struct Run {
    pub(super) wire: Wire,
    pub(super) capabilities: Capabilities,
    pub(super) history: History,
    pub(super) expected: Facts,
    /// What is expected of the layers.
    pub(super) layers: Option<Facts>,
    pub(super) sent: Vec<Input>,
    /// The number of the window of each.
    pub(super) windows: Vec<usize>,
}

impl Run {
    pub(super) fn new(wire: Wire, capabilities: Capabilities) -> Self {
        let history = History::new(wire, capabilities);
        let (expected, sent, windows) = (Vec::new(), Vec::new(), Vec::new());
        Self { wire, capabilities, history, expected, layers: None, sent, windows }
    }

    pub(super) fn of(wire: Wire, capabilities: Capabilities, moves: &[Move]) -> Self {
        let mut run = Self::new(wire, capabilities);
        for step in moves {
            run.make(step);
        }
        run.send();
        run
    }

    pub(super) fn make(&mut self, step: &Move) {
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

    pub(super) fn send(&mut self) {
        self.sent.push(self.history.input().unwrap());
        self.windows.push(self.history.windows().len());
        self.history.seal();
    }

    pub(super) fn body(&self, input: &Input) -> Bytes {
        self.prepared(input, false).body
    }

    pub(super) fn prepared(&self, input: &Input, keeps_long: bool) -> PreparedRequest {
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
    pub(super) fn read(&self) -> Facts {
        self.read_in(self.sent.last().unwrap())
    }

    /// What the server reads in a request.
    pub(super) fn read_in(&self, input: &Input) -> Facts {
        let body: Value = serde_json::from_slice(&self.body(input)).unwrap();
        let facts = match self.wire {
            Wire::Responses => read_responses(&body),
            Wire::Chat => read_chat(&body),
            Wire::Messages => read_messages(&body),
        };
        joined(facts)
    }
}

/// The messages of the last request, as text.
pub(super) fn last_messages(wire: Wire, capabilities: Capabilities, moves: &[Move]) -> Vec<String> {
    let run = Run::of(wire, capabilities, moves);
    let messages = &run.sent.last().unwrap().messages;
    messages.iter().map(|message| String::from_utf8(message.to_vec()).unwrap()).collect()
}

/// What a server may take beyond the rest without making another thread of it.
pub(super) fn variations() -> impl Strategy<Value = Capabilities> {
    (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(strict, custom_tools, developer_role, image_in_tool_result)| Capabilities {
            custom_tools,
            developer_role,
            image_in_tool_result,
            ..capabilities(strict, false)
        },
    )
}
