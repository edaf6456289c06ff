//! The open thread of an attempt, as its journal tells it.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::history::{History, PairingError};
use super::journal::record::{
    BrokenBy, CallEnded, CallIntent, Inherited, ModelEnd, ModelIntent, Record, SessionOpened, ThreadOpened,
};
use super::tools::ToolCall;
use super::tools::plan::PlanStep;
use crate::llm::{CallKind, Item, RenderedTools, Role, ThreadItem};

/// The open thread of an attempt.
#[derive(Clone, Debug)]
pub struct Thread {
    /// What stays as it is.
    pub opened: ThreadOpened,
    /// How many items its prefix has.
    pub layers: usize,
    /// The tools as the wire carries them.
    pub tools: RenderedTools,
    /// Everything said and done.
    pub history: History,
    /// Turns begun.
    pub turn: u32,
    /// Whether the newest turn goes on.
    pub in_turn: bool,
    /// The request that is under way.
    pub request: Option<ModelIntent>,
    /// How the newest request of this turn ended.
    pub last_end: Option<ModelEnd>,
    /// Calls that the newest request of this turn led to.
    pub step_calls: usize,
    /// Whether something was said since the newest request of this turn, which the next one has to bring.
    pub steered: bool,
    /// Final answers of this turn that were sent back.
    pub rejections: u32,
    /// Calls without output in history, in the order of history.
    pub calls: Vec<OpenCall>,
    /// Commands that go on in the background, by the number that the model knows.
    pub sessions: BTreeMap<i32, SessionOpened>,
    /// The model's plan.
    pub plan: Vec<PlanStep>,
    /// The model's newest words.
    pub last_message: String,
    /// What the model said in this turn since its last call: in the end, its answer.
    pub answer: String,
    /// Operations whose process's exit was told since the newest request: the next one makes it durable, and
    /// then the supervisor may forget them.
    pub exited: Vec<u64>,
    /// Number of the next operation.
    pub next_op: u64,
    /// Bytes of what was appended since the newest request and did not come from the model.
    unsent_bytes: u64,
}

/// A call without output in history.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenCall {
    /// Its place in history.
    pub ordinal: u64,
    /// That it left for the sandbox.
    pub intent: Option<CallIntent>,
    /// Its output.
    pub ended: Option<CallEnded>,
}

impl Thread {
    /// The thread at its beginning.
    ///
    /// # Errors
    /// [`PairingError`] when the prefix holds a call.
    pub fn open(opened: &ThreadOpened) -> Result<Self, PairingError> {
        let mut thread = Self {
            // The prefix is in history from here on.
            opened: ThreadOpened { prefix: Vec::new(), inherited: Box::default(), ..opened.clone() },
            layers: opened.prefix.len(),
            tools: RenderedTools {
                bytes: Bytes::from(opened.tools.clone()),
                custom_as_function: opened.custom_as_function.clone(),
            },
            history: History::new(opened.wire, opened.capabilities),
            turn: 0,
            in_turn: false,
            request: None,
            last_end: None,
            step_calls: 0,
            steered: false,
            rejections: 0,
            calls: Vec::new(),
            sessions: BTreeMap::new(),
            plan: Vec::new(),
            last_message: String::new(),
            answer: String::new(),
            exited: Vec::new(),
            next_op: 1,
            unsent_bytes: 0,
        };
        opened.prefix.iter().try_for_each(|item| thread.append(item.clone()))?;
        thread.inherit(&opened.inherited)?;
        Ok(thread)
    }

    /// Takes in one more fact.
    ///
    /// # Errors
    /// [`PairingError`] when it would break history.
    pub fn apply(&mut self, record: &Record) -> Result<(), PairingError> {
        match record {
            Record::TurnStarted(started) => {
                self.turn += 1;
                self.in_turn = true;
                self.last_end = None;
                self.rejections = 0;
                self.step_calls = 0;
                self.answer.clear();
                started.items.iter().try_for_each(|item| self.append(item.clone()))?;
            }
            Record::TurnSteered(steered) => {
                self.steered = true;
                // What was said before answers nothing of it.
                self.answer.clear();
                steered.items.iter().try_for_each(|item| self.append(item.clone()))?;
            }
            Record::AnswerRejected(rejected) => {
                self.rejections += 1;
                self.steered = true;
                self.answer.clear();
                rejected.items.iter().try_for_each(|item| self.append(item.clone()))?;
            }
            Record::TurnEnded(ended) => {
                self.in_turn = false;
                self.steered = false;
                if !ended.last_message.is_empty() {
                    self.last_message.clone_from(&ended.last_message);
                }
            }
            Record::ItemAppended(appended) => self.append(appended.item.clone())?,
            Record::ModelIntent(intent) => {
                // What is sent now is never changed again.
                self.history.seal();
                self.request = Some(intent.clone());
                self.step_calls = 0;
                self.steered = false;
                self.unsent_bytes = 0;
                self.exited.clear();
            }
            Record::ModelEnded(ended) => {
                self.request = None;
                self.last_end = Some(ended.end.clone());
            }
            Record::CallIntent(intent) => {
                self.next_op = self.next_op.max(intent.op + 1);
                if let Some(call) = self.call_mut(intent.ordinal) {
                    call.intent = Some(intent.clone());
                }
            }
            Record::CallEnded(ended) => {
                self.exited.extend(ended.process);
                if let Some(plan) = self.plan_of(ended) {
                    self.plan = plan;
                }
                if let Some(call) = self.call_mut(ended.ordinal) {
                    call.ended = Some(ended.clone());
                }
            }
            Record::SessionOpened(opened) => {
                self.sessions.insert(opened.session, opened.clone());
            }
            Record::SessionMoved(moved) => {
                if let Some(session) = self.sessions.get_mut(&moved.session) {
                    session.cursor = moved.cursor;
                }
            }
            Record::SessionClosed(closed) => {
                self.sessions.remove(&closed.session);
            }
            Record::EpochStarted(_)
            | Record::ThreadOpened(_)
            | Record::InputAccepted(_)
            | Record::TimePassed(_)
            | Record::BudgetTripped(_)
            | Record::FinishIntent(_)
            | Record::FinishDone(_) => {}
        }
        Ok(())
    }

    /// The id of an operation.
    pub fn op_id(&self, op: u64) -> String {
        format!("{}-{op}", self.opened.thread_id)
    }

    /// Whether the next request repeats one that was broken off by a crash.
    pub fn repeats_broken_request(&self) -> bool {
        matches!(self.last_end, Some(ModelEnd::Broken { cause: BrokenBy::AgentRestart }))
            && self.step_calls == 0
    }

    /// Whether a call left for the sandbox, or was about to.
    pub fn has_left(&self, ordinal: u64) -> bool {
        self.calls.iter().any(|call| call.ordinal == ordinal && call.intent.is_some())
    }

    /// Whether a call left to change files.
    pub fn is_patch(&self, ordinal: u64) -> bool {
        let intents = self.calls.iter().filter(|call| call.ordinal == ordinal);
        intents.filter_map(|call| call.intent.as_ref()).any(|intent| intent.patch.is_some())
    }

    /// Tokens, at four bytes each, of what came from us and was in no request yet. What came from the model is left out,
    /// since a provider may have it in its cache.
    pub fn unsent_tokens(&self) -> u64 {
        self.unsent_bytes.div_ceil(4)
    }

    /// The call item of an open call.
    pub fn call_item(&self, call: &OpenCall) -> Option<&Item> {
        self.history.get(usize::try_from(call.ordinal).ok()?)
    }

    /// Takes in what came in the thread that this one goes on with, in the messages in which it was sent.
    fn inherit(&mut self, inherited: &Inherited) -> Result<(), PairingError> {
        let mut sealed = inherited.sealed.iter().copied().peekable();
        for (place, item) in inherited.items.iter().enumerate() {
            while sealed.next_if(|end| *end <= place).is_some() {
                self.history.seal();
                // A provider may have it in its cache.
                self.unsent_bytes = 0;
            }
            self.append(item.clone())?;
        }
        // Nobody waits for these any more.
        self.step_calls = 0;
        self.answer.clear();
        self.last_message.clear();
        Ok(())
    }

    fn append(&mut self, item: ThreadItem) -> Result<(), PairingError> {
        let is_call = item.item.is_call();
        let is_output = matches!(item.item, Item::FunctionCallOutput(_) | Item::CustomCallOutput(_));
        let words = assistant_words(&item.item);
        let is_ours =
            is_output || matches!(&item.item, Item::Message(message) if message.role != Role::Assistant);
        let place = self.history.append(item)?;
        let ordinal = place as u64;
        if is_ours {
            self.unsent_bytes += self.history.bytes_from(place);
        }
        if is_call {
            self.step_calls += 1;
            self.answer.clear();
            self.calls.push(OpenCall { ordinal, intent: None, ended: None });
        }
        if is_output {
            // History took it, so it answers the oldest.
            self.calls.remove(0);
        }
        if let Some(words) = words {
            self.answer.clone_from(&words);
            self.last_message = words;
        }
        Ok(())
    }

    /// The plan that a call brought.
    fn plan_of(&self, ended: &CallEnded) -> Option<Vec<PlanStep>> {
        let Item::FunctionCall(call) = self.history.get(usize::try_from(ended.ordinal).ok()?)? else {
            return None;
        };
        match ToolCall::parse(CallKind::Function, &call.name, &call.arguments) {
            Ok(ToolCall::UpdatePlan(update)) => Some(update.plan),
            Ok(
                ToolCall::ExecCommand(_)
                | ToolCall::WriteStdin(_)
                | ToolCall::ApplyPatch(_)
                | ToolCall::ViewImage(_),
            )
            | Err(_) => None,
        }
    }

    fn call_mut(&mut self, ordinal: u64) -> Option<&mut OpenCall> {
        self.calls.iter_mut().find(|call| call.ordinal == ordinal)
    }
}

fn assistant_words(item: &Item) -> Option<String> {
    match item {
        Item::Message(message) if message.role == Role::Assistant => {
            Some(message.text()).filter(|text| !text.trim().is_empty())
        }
        Item::Message(_)
        | Item::Reasoning(_)
        | Item::FunctionCall(_)
        | Item::CustomCall(_)
        | Item::FunctionCallOutput(_)
        | Item::CustomCallOutput(_)
        | Item::Opaque(_) => None,
    }
}
