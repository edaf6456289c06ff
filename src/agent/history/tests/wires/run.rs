//! A thread under way, and what was sent of it.

use super::server::{Facts, joined, read_chat, read_messages, read_responses};
use super::thread::{Move, Response, custom, folded, written};
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
                if self.wire == Wire::Responses || leading && self.sent.is_empty() {
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
        for item in folded(self.wire, response) {
            self.history.append(item).unwrap();
        }
        if response.reasoning {
            self.expected.push(("reasoning", "sealed".into()));
        }
        self.expected.extend(response.text.iter().map(|text| ("assistant", text.clone())));
        for (_, is_custom, argument, _) in &response.calls {
            let (name, arguments) = written(*is_custom, argument);
            // Arguments come back as they were written, or as the JSON they are.
            let arguments = match self.wire {
                Wire::Responses | Wire::Chat => arguments,
                Wire::Messages => serde_json::from_str::<Value>(&arguments).unwrap().to_string(),
            };
            self.expected.push(("call", format!("{name} {arguments}")));
        }
        for (id, is_custom, _, output) in &response.calls {
            let kind = if *is_custom { CallKind::Custom } else { CallKind::Function };
            let item = self.wire.call_output(kind, CallOutput::text(id, output), &self.capabilities);
            self.history.append(item).unwrap();
            let nothing = self.wire == Wire::Messages && output.is_empty();
            self.expected.push(("output", if nothing { "(no output)".into() } else { output.clone() }));
        }
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
