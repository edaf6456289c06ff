//! Steps: asking the model, taking in its response, repeating what failed.

use std::time::Duration;

use podwright_sandboxd::protocol::Digest;

use super::{Effect, Machine, Progress};
use crate::agent::budget;
use crate::agent::events::{Event, ItemDetails, ThreadEventItem};
use crate::agent::journal::Barrier;
use crate::agent::journal::record::{
    ItemAppended, ModelEnd, ModelEnded, ModelIntent, RequestKind, Retries, TurnStatus,
};
use crate::agent::machine::AskModel;
use crate::agent::thread::Thread;
use crate::api::attempt::Outcome;
use crate::api::reasons::Reason;
use crate::llm::retry::{self, Attempts, Decision};
use crate::llm::{
    Completed, Fatal, FatalKind, Item, ModelError, PreparedRequest, Request, RetryCause, Role, ThreadItem,
    Usage,
};

impl Machine {
    /// An item of the response under way. Its call, if it is one, may start at once.
    pub(super) fn model_item(&mut self, request: u64, item: ThreadItem, effects: &mut Vec<Effect>) {
        let Some(thread) = self.asking(request) else { return };
        if !can_come_from_a_model(&item.item) {
            effects.push(Effect::Emit(Event::Error {
                message: "The model's response held an item that no model may send; it was left out."
                    .to_owned(),
                will_retry: false,
            }));
            return;
        }
        let ordinal = thread.history.len() as u64;
        let details = shown(&item.item);
        self.append(ItemAppended { ordinal, request: Some(request), item }, effects);
        if let Some(details) = details {
            let item = ThreadEventItem::new(ordinal, details);
            effects.push(Effect::Emit(Event::ItemCompleted { item }));
        }
    }

    pub(super) fn model_completed(&mut self, request: u64, completed: Completed, effects: &mut Vec<Effect>) {
        if self.asking(request).is_none() {
            return;
        }
        // A request that is answered was work, also when nobody knew yet that it would be.
        self.state.spent.active += std::mem::take(&mut self.probing);
        let Completed { response_id, usage, end_turn, items: _ } = completed;
        let end = ModelEnd::Completed { response_id, end_turn };
        self.append(ModelEnded { request, end, usage }, effects);
    }

    pub(super) fn model_failed(
        &mut self,
        request: u64,
        error: ModelError,
        jitter: f64,
        effects: &mut Vec<Effect>,
    ) {
        let Some(thread) = self.asking(request) else { return };
        let Some(intent) = &thread.request else { return };
        let usage = cost(&error, thread, intent);
        let Retries { request: again, stream, outage } = intent.retries;
        let attempts = Attempts { request: again, stream, outage };
        let message = error.to_string();
        let end = match retry::decide(self.config.retry, attempts, error, jitter) {
            Decision::Retry(retry) => ModelEnd::Retry {
                message,
                after_ms: u64::try_from(retry.after.as_millis()).unwrap_or(u64::MAX),
                retries: Retries {
                    request: retry.attempts.request,
                    stream: retry.attempts.stream,
                    outage: retry.attempts.outage,
                },
                reread_credential: retry.reread_credential,
            },
            Decision::Outage(outage) => self.wait_out(attempts, outage, jitter),
            Decision::Fail(error) => ModelEnd::Failed { outcome: failure(&error) },
        };
        if let ModelEnd::Retry { message, .. } | ModelEnd::Unavailable { message, .. } = &end {
            effects.push(Effect::Emit(Event::Error { message: message.clone(), will_retry: true }));
        }
        self.append(ModelEnded { request, end, usage }, effects);
    }

    /// Between two steps: all calls have their outputs in history and no request is under way.
    pub(super) fn next_step(&mut self, effects: &mut Vec<Effect>) -> Progress {
        let Some(thread) = self.thread() else { return Progress::Wait };
        match &thread.last_end {
            None | Some(ModelEnd::Broken { .. }) => self.ask(Retries::default(), false, effects),
            Some(ModelEnd::Completed { end_turn, .. }) => {
                let goes_on = thread.step_calls > 0 || *end_turn == Some(false) || thread.steered;
                if let Some(prompt) = self.state.prompts.front().cloned() {
                    self.steer(prompt, effects);
                    Progress::Again
                } else if goes_on {
                    self.ask(Retries::default(), false, effects)
                } else {
                    self.end_turn(TurnStatus::Completed, effects);
                    Progress::Again
                }
            }
            Some(ModelEnd::Retry { after_ms, retries, reread_credential, message: _ }) => {
                let after = Duration::from_millis(*after_ms);
                self.ask_after(after, *retries, *reread_credential, effects)
            }
            Some(ModelEnd::Unavailable { after_ms, retries, message: _ }) => {
                let after = Duration::from_millis(*after_ms).min(self.outage_left());
                self.ask_after(after, *retries, false, effects)
            }
            Some(ModelEnd::Failed { outcome }) => {
                let outcome = outcome.clone();
                self.end(outcome, effects);
                Progress::Wait
            }
        }
    }

    fn ask_after(
        &mut self,
        after: Duration,
        retries: Retries,
        reread_credential: bool,
        effects: &mut Vec<Effect>,
    ) -> Progress {
        let now = self.at.monotonic;
        let at = *self.retry_at.get_or_insert(now + after);
        if now < at {
            return Progress::Wait;
        }
        self.ask(retries, reread_credential, effects)
    }

    fn ask(&mut self, retries: Retries, reread_credential: bool, effects: &mut Vec<Effect>) -> Progress {
        let Some(thread) = self.thread() else { return Progress::Wait };
        // A repetition belongs to a step that was counted already.
        let repeats = retries != Retries::default() || thread.repeats_broken_request();
        if !repeats {
            self.tell_of_new_life(effects);
        }
        let Some(thread) = self.thread() else { return Progress::Wait };
        let (limits, spent) = (&self.config.limits, &self.state.spent);
        let step = if repeats { None } else { budget::forbids_step(limits, spent) };
        let unsent = thread.unsent_tokens();
        let request = || budget::forbids_request(limits, spent, self.config.prices.as_ref(), unsent);
        if let Some(limit) = step.or_else(request) {
            return self.trip(limit, effects);
        }
        self.retry_at = None;
        self.probing = Duration::ZERO;
        self.held = self.suspended;
        if self.held {
            return Progress::Wait;
        }
        let Some(thread) = self.thread() else { return Progress::Wait };
        let prepared = match prepare(thread) {
            Ok(prepared) => prepared,
            Err(fault) => {
                self.fault = Some(fault);
                return Progress::Wait;
            }
        };
        let exited = thread.exited.clone();
        let intent = ModelIntent {
            request: self.state.spent.requests + 1,
            kind: RequestKind::Turn,
            items: thread.history.len() as u64,
            body: Digest::of(&prepared.body),
            estimated_input_tokens: (prepared.body.len() as u64).div_ceil(4),
            retries,
        };
        let request = intent.request;
        self.append(intent, effects);
        effects.push(Effect::Barrier(Barrier::Request));
        if !exited.is_empty() {
            effects.push(Effect::Barrier(Barrier::Acknowledge));
            effects.push(Effect::Acknowledge(exited));
        }
        effects.push(Effect::AskModel(Box::new(AskModel { request, prepared, reread_credential })));
        Progress::Wait
    }

    /// The thread, when `request` is the one under way: what comes late of an earlier one is dropped.
    fn asking(&self, request: u64) -> Option<&Thread> {
        self.thread().filter(|thread| thread.request.as_ref().is_some_and(|intent| intent.request == request))
    }
}

/// What a request that was broken off has probably cost.
pub(super) fn estimate(thread: &Thread, intent: &ModelIntent) -> Usage {
    let kept = thread.history.bytes_from(usize::try_from(intent.items).unwrap_or(usize::MAX));
    Usage::estimate(intent.estimated_input_tokens * 4, kept)
}

fn prepare(thread: &Thread) -> Result<PreparedRequest, String> {
    let input = thread.history.input().map_err(|error| error.to_string())?;
    let request = Request {
        model: thread.opened.model.clone(),
        input,
        tools: thread.tools.clone(),
        thread_id: thread.opened.thread_id.clone(),
        reasoning_effort: thread.opened.reasoning_effort.clone(),
    };
    Ok(thread.opened.wire.prepare(&request, &thread.opened.capabilities))
}

fn cost(error: &ModelError, thread: &Thread, intent: &ModelIntent) -> Usage {
    match error {
        ModelError::Fatal(Fatal { usage, .. }) => usage.unwrap_or_default(),
        ModelError::Misconfigured(_) => Usage::default(),
        ModelError::Retryable(failure) => match failure.cause {
            RetryCause::StreamBroken | RetryCause::Timeout | RetryCause::ResponseFailed => {
                estimate(thread, intent)
            }
            RetryCause::Connect
            | RetryCause::Transport
            | RetryCause::Server { .. }
            | RetryCause::RateLimited
            | RetryCause::Overloaded
            | RetryCause::Unauthorized { .. } => Usage::default(),
        },
    }
}

fn failure(error: &ModelError) -> Outcome {
    let reason = match error {
        ModelError::Retryable(_) => Reason::ModelFailed,
        ModelError::Misconfigured(_) => Reason::ModelMisconfigured,
        ModelError::Fatal(fatal) => match fatal.kind {
            FatalKind::InvalidPrompt | FatalKind::Refused => Reason::ModelRefused,
            FatalKind::ContextWindowExceeded
            | FatalKind::Quota
            | FatalKind::InvalidRequest
            | FatalKind::Incomplete
            | FatalKind::Oversized => Reason::ModelFailed,
        },
    };
    Outcome { reason, message: error.to_string() }
}

fn can_come_from_a_model(item: &Item) -> bool {
    match item {
        Item::Message(message) => message.role == Role::Assistant,
        Item::Reasoning(_) | Item::FunctionCall(_) | Item::CustomCall(_) | Item::Opaque(_) => true,
        Item::FunctionCallOutput(_) | Item::CustomCallOutput(_) => false,
    }
}

/// What surfaces show of an item. Calls are shown when they run.
fn shown(item: &Item) -> Option<ItemDetails> {
    match item {
        Item::Message(message) => Some(ItemDetails::AgentMessage { text: message.text() }),
        Item::Reasoning(reasoning) if !reasoning.text.is_empty() => {
            Some(ItemDetails::Reasoning { text: reasoning.text.join("\n\n") })
        }
        Item::Reasoning(_)
        | Item::FunctionCall(_)
        | Item::CustomCall(_)
        | Item::FunctionCallOutput(_)
        | Item::CustomCallOutput(_)
        | Item::Opaque(_) => None,
    }
}
