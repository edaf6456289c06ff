//! The endpoint that is looked at: conversations with it, and what its refusals mean.

use std::time::Duration;

use futures::StreamExt as _;
use secrecy::SecretString;
use tokio::time::{sleep, timeout};

use crate::agent::history::History;
use crate::llm::{
    AnswerFormat, CallKind, CallOutput, Capabilities, Completed, ContentPart, FatalKind, Item, Message,
    Misconfiguration, ModelClient, ModelError, RenderedTools, Request, RetryCause, Role, StreamEvent,
    ThreadItem, ToolDefinition, Wire,
};

/// Tries of a request whose failure may pass. A provider that is out for longer is to be asked another day.
const TRIES: u32 = 3;

/// The pause before another try, unless the server asks for one.
const PAUSE: Duration = Duration::from_secs(1);

/// The longest pause that a server may ask for: a person waits for the answer.
const MAX_PAUSE: Duration = Duration::from_secs(20);

/// How long one answer may take. The questions need a word each; a model that thinks first takes seconds.
const PATIENCE: Duration = Duration::from_secs(180);

/// Requests in all. Every probe together needs fewer than 30 when nothing is repeated.
pub const MAX_REQUESTS: usize = 90;

/// A model behind an endpoint.
#[derive(Debug)]
pub struct Patient {
    client: ModelClient,
    key: Option<SecretString>,
    /// The API.
    pub wire: Wire,
    /// The model's name.
    pub model: String,
    /// Requests sent so far.
    pub requests: usize,
    talks: usize,
}

/// A conversation under some capabilities.
#[derive(Debug)]
pub struct Talk {
    history: History,
    capabilities: Capabilities,
    tools: RenderedTools,
    thread_id: String,
    /// How hard the model shall think.
    pub effort: Option<String>,
    /// Whether caches shall be kept for long.
    pub keeps_long: bool,
    /// What the answer has to look like.
    pub answer: Option<AnswerFormat>,
}

/// An answer of the model.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What it said and called.
    pub items: Vec<ThreadItem>,
    /// How it ended.
    pub completed: Completed,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// The server does not take what is in the request. Its words.
    Refused(String),
    /// It cannot be told what it would take. What happened.
    Failed(String),
}

impl Patient {
    /// A model that nothing is known of.
    pub fn new(client: ModelClient, key: Option<SecretString>, wire: Wire, model: String) -> Self {
        Self { client, key, wire, model, requests: 0, talks: 0 }
    }

    /// Begins a conversation.
    pub fn talk(&mut self, capabilities: Capabilities, tools: &[ToolDefinition]) -> Talk {
        self.talks += 1;
        Talk {
            history: History::new(self.wire, capabilities),
            capabilities,
            tools: self.wire.tools(tools, &capabilities),
            thread_id: format!("podwright-doctor-{}", self.talks),
            effort: None,
            keeps_long: false,
            answer: None,
        }
    }

    /// Says something in a conversation. It is sent with the next request.
    ///
    /// # Errors
    /// [`NoAnswer::Failed`] when a call of the model's is not answered yet.
    pub fn say(&self, talk: &mut Talk, role: Role, content: Vec<ContentPart>) -> Result<(), NoAnswer> {
        let item = self.wire.message(Message { role, content }, &talk.capabilities);
        talk.append(item)
    }

    /// Answers every call of an answer with the same output.
    ///
    /// # Errors
    /// [`NoAnswer::Failed`] when there is nothing to answer.
    pub fn answer_calls(
        &self,
        talk: &mut Talk,
        answer: &Answer,
        content: &[ContentPart],
    ) -> Result<(), NoAnswer> {
        for item in &answer.items {
            let (kind, call_id) = match &item.item {
                Item::FunctionCall(call) => (CallKind::Function, call.call_id.clone()),
                Item::CustomCall(call) => (CallKind::Custom, call.call_id.clone()),
                Item::Message(_)
                | Item::Reasoning(_)
                | Item::FunctionCallOutput(_)
                | Item::CustomCallOutput(_)
                | Item::Opaque(_) => continue,
            };
            let output = CallOutput { call_id, content: content.to_vec(), failed: false };
            talk.append(self.wire.call_output(kind, output, &talk.capabilities))?;
        }
        Ok(())
    }

    /// Sends the conversation and takes the answer into it. What may pass is tried again, a few times.
    ///
    /// # Errors
    /// [`NoAnswer`].
    pub async fn ask(&mut self, talk: &mut Talk) -> Result<Answer, NoAnswer> {
        let input = talk.history.input().map_err(|error| NoAnswer::Failed(error.to_string()))?;
        let request = Request {
            model: self.model.clone(),
            input,
            tools: talk.tools.clone(),
            thread_id: talk.thread_id.clone(),
            reasoning_effort: talk.effort.clone(),
            answer: talk.answer.clone(),
            compacts: false,
            keeps_long: talk.keeps_long,
        };
        let prepared = self.wire.prepare(&request, &talk.capabilities);
        talk.history.seal();
        let mut tries = 1;
        let answer = loop {
            if self.requests == MAX_REQUESTS {
                return Err(NoAnswer::Failed(format!("{MAX_REQUESTS} requests were not enough")));
            }
            self.requests += 1;
            let asked = self.once(prepared.clone());
            match timeout(PATIENCE, asked).await {
                Ok(Ok(answer)) => break answer,
                Ok(Err(ModelError::Retryable(failure))) if tries < TRIES => {
                    sleep(failure.server_delay.unwrap_or(PAUSE).min(MAX_PAUSE)).await;
                }
                Ok(Err(error)) => return Err(NoAnswer::from(error)),
                Err(_) if tries < TRIES => {}
                Err(_) => {
                    return Err(NoAnswer::Failed(format!("no whole answer within {} s", PATIENCE.as_secs())));
                }
            }
            tries += 1;
        };
        for item in &answer.items {
            talk.append(item.clone())?;
        }
        Ok(answer)
    }

    async fn once(&self, prepared: crate::llm::PreparedRequest) -> Result<Answer, ModelError> {
        let mut events = Box::pin(self.client.stream(prepared, self.key.clone()));
        let mut items = Vec::new();
        while let Some(event) = events.next().await {
            match event? {
                StreamEvent::ItemCompleted(item) => items.push(*item),
                StreamEvent::Completed(completed) => return Ok(Answer { items, completed }),
                StreamEvent::Created { .. }
                | StreamEvent::ItemStarted { .. }
                | StreamEvent::TextDelta { .. }
                | StreamEvent::ReasoningDelta { .. }
                | StreamEvent::CallInputDelta { .. } => {}
            }
        }
        // A stream ends with one of the two above.
        Err(ModelError::Retryable(crate::llm::Retryable {
            layer: crate::llm::RetryLayer::Stream,
            cause: RetryCause::StreamBroken,
            server_delay: None,
            message: "the stream ended without an end".to_owned(),
        }))
    }
}

impl Talk {
    /// Ends the message that was said last, as if it had been sent: what is said next is in a message of its own.
    pub fn end_message(&mut self) {
        self.history.seal();
    }

    fn append(&mut self, item: ThreadItem) -> Result<(), NoAnswer> {
        self.history.append(item).map(drop).map_err(|error| NoAnswer::Failed(error.to_string()))
    }
}

impl Answer {
    /// Its words.
    pub fn words(&self) -> String {
        let words = self.items.iter().filter_map(|item| match &item.item {
            Item::Message(message) => Some(message.text()),
            Item::Reasoning(_)
            | Item::FunctionCall(_)
            | Item::CustomCall(_)
            | Item::FunctionCallOutput(_)
            | Item::CustomCallOutput(_)
            | Item::Opaque(_) => None,
        });
        words.collect::<Vec<_>>().join(" ")
    }

    /// Whether something was called.
    pub fn has_call(&self) -> bool {
        self.items.iter().any(|item| item.item.is_call())
    }

    /// Its reasoning: for each item, whether it is encrypted.
    pub fn reasoning(&self) -> Vec<bool> {
        let reasoning = self.items.iter().filter_map(|item| match &item.item {
            Item::Reasoning(reasoning) => Some(reasoning.encrypted),
            Item::Message(_)
            | Item::FunctionCall(_)
            | Item::CustomCall(_)
            | Item::FunctionCallOutput(_)
            | Item::CustomCallOutput(_)
            | Item::Opaque(_) => None,
        });
        reasoning.collect()
    }
}

impl NoAnswer {
    /// The words of either.
    pub fn words(&self) -> &str {
        match self {
            Self::Refused(words) | Self::Failed(words) => words,
        }
    }
}

impl From<ModelError> for NoAnswer {
    /// A server that keeps failing with one parameter and answers without it refuses that parameter in its own way.
    fn from(error: ModelError) -> Self {
        let words = error.to_string();
        let is_refusal = match &error {
            ModelError::Retryable(failure) => matches!(failure.cause, RetryCause::Server { .. }),
            ModelError::Fatal(fatal) => fatal.kind == FatalKind::InvalidRequest,
            ModelError::Misconfigured(wrong) => wrong.kind == Misconfiguration::Settings,
        };
        if is_refusal { Self::Refused(words) } else { Self::Failed(words) }
    }
}
