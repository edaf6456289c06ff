//! Steps: asking the model, taking in its response, repeating what failed.

use std::time::Duration;

use jiff::SignedDuration;
use podwright_sandboxd::protocol::Digest;

use super::mend::mend;
use super::{Effect, Machine, Progress};
use crate::agent::budget;
use crate::agent::compaction;
use crate::agent::events::{Event, ItemDetails, ThreadEventItem};
use crate::agent::journal::Barrier;
use crate::agent::journal::record::{ItemAppended, ModelEnd, ModelEnded, ModelIntent, RequestKind, Retries};
use crate::agent::machine::AskModel;
use crate::agent::thread::Thread;
use crate::api::attempt::Outcome;
use crate::api::reasons::Reason;
use crate::llm::retry::{self, Attempts, Decision};
use crate::llm::wire::NativeCompaction;
use crate::llm::{
    Completed, Fatal, FatalKind, Misconfiguration, Misconfigured, ModelError, PreparedRequest, Request,
    RetryCause, TOKEN_BYTES, ThreadItem, Usage, tokens,
};

/// How long a provider keeps what it cached unless it is asked to keep it longer.
const CACHE_LIFE: SignedDuration = SignedDuration::from_mins(5);

/// What is asked of the model.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    pub(super) kind: RequestKind,
    /// How many units of history stay away.
    pub(super) left_out: u64,
    pub(super) retries: Retries,
    pub(super) reread_credential: bool,
}

impl Question {
    /// For the next step of the turn.
    pub(super) fn turn() -> Self {
        Self { kind: RequestKind::Turn, left_out: 0, retries: Retries::default(), reread_credential: false }
    }
}

impl Machine {
    /// An item of the response under way. Its call, if it is one, may start at once.
    pub(super) fn model_item(&mut self, request: u64, item: ThreadItem, effects: &mut Vec<Effect>) {
        let Some(thread) = self.asking(request) else { return };
        let ordinal = thread.history.len() as u64;
        if thread.compacts() {
            self.draft(item);
            return;
        }
        if !item.item.is_the_models() {
            effects.push(Effect::Emit(Event::Error {
                message: "The model's response held an item that no model may send; it was left out."
                    .to_owned(),
                will_retry: false,
            }));
            return;
        }
        let details = ItemDetails::of_model(&item.item);
        self.append(ItemAppended { ordinal, request: Some(request), item }, effects);
        if let Some(details) = details {
            let item = ThreadEventItem::new(ordinal, details);
            effects.push(Effect::Emit(Event::ItemCompleted { item }));
        }
    }

    pub(super) fn model_completed(&mut self, request: u64, completed: Completed, effects: &mut Vec<Effect>) {
        let Some(kind) =
            self.asking(request).and_then(|thread| thread.request.as_ref()).map(|intent| intent.kind)
        else {
            return;
        };
        // A request that is answered was work, also when nobody knew yet that it would be.
        self.state.spent.active += std::mem::take(&mut self.probing);
        let Completed { response_id, usage, end_turn, items: _ } = completed;
        let (end, summary) = match kind {
            RequestKind::Turn => (ModelEnd::Completed { response_id, end_turn }, None),
            RequestKind::Compaction => self.drafted(response_id),
        };
        if let ModelEnd::Unusable { message } = &end {
            effects.push(Effect::Emit(Event::Error { message: message.clone(), will_retry: true }));
        }
        self.append(ModelEnded { request, end, usage }, effects);
        if let Some(summary) = summary {
            self.replace_history(summary, effects);
        }
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
        let (kind, usage) = (intent.kind, cost(&error, thread, intent));
        let is_native = kind == RequestKind::Compaction && compaction::native(thread).is_some();
        // What a compaction can still do about a request that is too long.
        let can_shrink = match kind {
            RequestKind::Turn => thread.history.has_answers(),
            RequestKind::Compaction => {
                let end = compaction::end(thread, self.config.context_window);
                intent.left_out < thread.history.units(end) as u64
            }
        };
        let message = error.to_string();
        let before = intent.retries;
        if let Some(mend) = mend(thread, intent, &error) {
            self.ask_mended(request, mend, message, usage, effects);
            return;
        }
        let Retries { request: again, stream, outage, .. } = before;
        let attempts = Attempts { request: again, stream, outage };
        let end = match retry::decide(self.config.retry, attempts, error, jitter) {
            Decision::Retry(retry) => ModelEnd::Retry {
                message,
                after_ms: u64::try_from(retry.after.as_millis()).unwrap_or(u64::MAX),
                retries: Retries {
                    request: retry.attempts.request,
                    stream: retry.attempts.stream,
                    outage: retry.attempts.outage,
                    ..before
                },
                reread_credential: retry.reread_credential,
                leave_out: None,
            },
            Decision::Outage(outage) => self.wait_out(before, outage, jitter),
            Decision::Fail(ModelError::Fatal(Fatal { kind: FatalKind::ContextWindowExceeded, .. })) => {
                ModelEnd::TooLong { message }
            }
            // A summary that was cut off is none.
            Decision::Fail(ModelError::Fatal(Fatal { kind: FatalKind::Incomplete, .. }))
                if kind == RequestKind::Compaction =>
            {
                ModelEnd::Unusable { message }
            }
            // A server that does not know its own way to compact can still be asked in words.
            Decision::Fail(
                ModelError::Fatal(Fatal { kind: FatalKind::InvalidRequest, .. })
                | ModelError::Misconfigured(Misconfigured { kind: Misconfiguration::WrongApi, .. }),
            ) if is_native => ModelEnd::Unusable { message },
            Decision::Fail(error) => ModelEnd::Failed { outcome: failure(&error) },
        };
        match &end {
            ModelEnd::TooLong { .. } if !can_shrink => {}
            ModelEnd::Retry { message, .. }
            | ModelEnd::Unavailable { message, .. }
            | ModelEnd::TooLong { message }
            | ModelEnd::Unusable { message } => {
                effects.push(Effect::Emit(Event::Error { message: message.clone(), will_retry: true }));
            }
            ModelEnd::Completed { .. } | ModelEnd::Failed { .. } | ModelEnd::Broken { .. } => {}
        }
        self.append(ModelEnded { request, end, usage }, effects);
    }

    /// Between two steps: all calls have their outputs in history and no request is under way.
    pub(super) fn next_step(&mut self, effects: &mut Vec<Effect>) -> Progress {
        let Some(thread) = self.thread() else { return Progress::Wait };
        if let Some(compaction) = thread.compaction.clone() {
            return self.go_on_compacting(compaction, effects);
        }
        match &thread.last_end {
            None | Some(ModelEnd::Broken { .. }) => self.ask_step(effects),
            Some(ModelEnd::Completed { end_turn, .. }) => {
                let goes_on = thread.step_calls > 0 || *end_turn == Some(false) || thread.steered;
                if let Some(prompt) = self.state.prompts.front().cloned() {
                    self.steer(prompt, effects);
                    Progress::Again
                } else if goes_on {
                    self.ask_step(effects)
                } else {
                    self.settle(effects)
                }
            }
            Some(ModelEnd::Retry { after_ms, retries, reread_credential, message: _, leave_out: _ }) => {
                let after = Duration::from_millis(*after_ms);
                let (retries, reread_credential) = (*retries, *reread_credential);
                self.ask_after(after, Question { retries, reread_credential, ..Question::turn() }, effects)
            }
            Some(ModelEnd::Unavailable { after_ms, retries, message: _ }) => {
                let after = Duration::from_millis(*after_ms).min(self.outage_left());
                self.ask_after(after, Question { retries: *retries, ..Question::turn() }, effects)
            }
            Some(ModelEnd::TooLong { message } | ModelEnd::Unusable { message }) => {
                let message = message.clone();
                self.too_long(&message, effects)
            }
            Some(ModelEnd::Failed { outcome }) => {
                let outcome = outcome.clone();
                self.end(outcome, effects);
                Progress::Wait
            }
        }
    }

    pub(super) fn ask_after(
        &mut self,
        after: Duration,
        question: Question,
        effects: &mut Vec<Effect>,
    ) -> Progress {
        let now = self.at.monotonic;
        let at = *self.retry_at.get_or_insert(now + after);
        if now < at {
            return Progress::Wait;
        }
        self.ask(question, effects)
    }

    pub(super) fn ask(&mut self, question: Question, effects: &mut Vec<Effect>) -> Progress {
        let Some(thread) = self.thread() else { return Progress::Wait };
        let Question { kind, left_out, retries, reread_credential } = question;
        // A repetition belongs to a step that was counted already, and what follows a compaction is a step.
        let repeats = retries != Retries::default() || thread.repeats_request();
        if !repeats && kind == RequestKind::Turn {
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
        if kind == RequestKind::Turn {
            self.end_with_the_users_word(effects);
        }
        let Some(thread) = self.thread() else { return Progress::Wait };
        let prepared = match prepare(thread, &question, self.config.context_window, self.waited_long()) {
            Ok(prepared) => prepared,
            Err(fault) => {
                self.fault = Some(fault);
                return Progress::Wait;
            }
        };
        let exited = thread.exited.clone();
        let begins = kind == RequestKind::Compaction && thread.compaction.is_none();
        let intent = ModelIntent {
            request: self.state.spent.requests + 1,
            kind,
            items: thread.history.len() as u64,
            body: Digest::of(&prepared.body),
            estimated_input_tokens: tokens(prepared.counted_bytes),
            retries,
            left_out,
        };
        let request = intent.request;
        self.draft.clear();
        if begins {
            self.compaction_begins(effects);
        }
        self.append(intent, effects);
        effects.push(Effect::Barrier(Barrier::Request));
        if !exited.is_empty() {
            effects.push(Effect::Barrier(Barrier::Acknowledge));
            effects.push(Effect::Acknowledge(exited));
        }
        effects.push(Effect::AskModel(Box::new(AskModel { request, prepared, reread_credential })));
        Progress::Wait
    }

    /// Whether the provider's usual five minutes with what it cached were over before this request: the next pause may be
    /// as long. By the wall clock, which pauses of every kind move and a restart does not set back.
    fn waited_long(&self) -> bool {
        let asked = self.state.asked_at;
        asked.is_some_and(|at| self.at.wall.duration_since(at) > CACHE_LIFE)
    }

    /// The thread, when `request` is the one under way: what comes late of an earlier one is dropped.
    fn asking(&self, request: u64) -> Option<&Thread> {
        self.thread().filter(|thread| thread.request.as_ref().is_some_and(|intent| intent.request == request))
    }
}

/// What a request that was broken off has probably cost.
pub(super) fn estimate(thread: &Thread, intent: &ModelIntent) -> Usage {
    let kept = thread.history.bytes_from(usize::try_from(intent.items).unwrap_or(usize::MAX));
    Usage::estimate(intent.estimated_input_tokens * TOKEN_BYTES, kept)
}

fn prepare(
    thread: &Thread,
    question: &Question,
    window: Option<u64>,
    keeps_long: bool,
) -> Result<PreparedRequest, String> {
    let native = match question.kind {
        RequestKind::Turn => None,
        RequestKind::Compaction => compaction::native(thread),
    };
    let input = match question.kind {
        RequestKind::Turn => thread.history.input(),
        RequestKind::Compaction => {
            let left_out = usize::try_from(question.left_out).unwrap_or(usize::MAX);
            let last = match &native {
                Some(NativeCompaction::Item(item)) => Some(item.clone()),
                Some(NativeCompaction::Parameter | NativeCompaction::Endpoint) => None,
                None => Some(compaction::instruction(thread)),
            };
            thread.history.input_with(last.as_ref(), compaction::end(thread, window), left_out)
        }
    };
    let input = input.map_err(|error| error.to_string())?;
    let request = Request {
        model: thread.opened.model.clone(),
        input,
        tools: thread.tools.clone(),
        thread_id: thread.opened.cache_key().to_owned(),
        reasoning_effort: thread.opened.reasoning_effort.clone(),
        compacts: matches!(native, Some(NativeCompaction::Parameter | NativeCompaction::Endpoint)),
        keeps_long,
        // A summary is not the final answer.
        answer: match question.kind {
            RequestKind::Turn => thread.opened.answer.clone(),
            RequestKind::Compaction => None,
        },
    };
    Ok(thread.opened.wire.prepare(&request, &thread.opened.capabilities))
}

fn cost(error: &ModelError, thread: &Thread, intent: &ModelIntent) -> Usage {
    match error {
        ModelError::Fatal(Fatal { usage: Some(usage), .. }) => *usage,
        // A response that was not whole was paid for, whether the provider says so or not.
        ModelError::Fatal(Fatal { kind: FatalKind::Incomplete | FatalKind::Oversized, .. }) => {
            estimate(thread, intent)
        }
        ModelError::Fatal(_) => Usage::default(),
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
