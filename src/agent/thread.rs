//! The open thread of an attempt, as its journal tells it.

mod calls;
mod tools;

use std::collections::BTreeMap;

use bytes::Bytes;
use podwright_sandboxd::protocol::BootId;

use super::history::{History, PairingError};
use super::journal::record::{
    BrokenBy, CallEnded, CallIntent, EffectClass, HistoryReplaced, Inherited, ModelEnd, ModelEnded,
    ModelIntent, Record, RequestKind, SessionOpened, ThreadOpened,
};
use super::tools::mcp::McpTool;
use super::tools::plan::PlanStep;
use crate::llm::{ContentPart, Item, Message, RenderedTools, Role, ThreadItem, tokens};

/// The open thread of an attempt.
#[derive(Clone, Debug)]
pub struct Thread {
    /// What stays as it is.
    pub opened: ThreadOpened,
    /// The tools as the wire carries them in this window.
    pub tools: RenderedTools,
    /// The tools of MCP servers among them.
    pub mcp_tools: Vec<McpTool>,
    /// Everything said and done.
    pub history: History,
    /// Turns begun.
    pub turn: u32,
    /// Whether the newest turn goes on.
    pub in_turn: bool,
    /// The request that is under way.
    pub request: Option<ModelIntent>,
    /// How the newest request of this turn ended, those of compactions left aside.
    pub last_end: Option<ModelEnd>,
    /// The compaction that is under way.
    pub compaction: Option<Compaction>,
    /// Whether history was compacted since the newest request of this turn: once must do between two of them.
    pub compacted: bool,
    /// Places in history of what people said in this window.
    pub said: Vec<usize>,
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
    /// The life of the sandbox of which the model knows, where that matters to tools that it has.
    pub boot: Option<BootId>,
    /// Bytes of what was appended since the newest request and did not come from the model.
    unsent_bytes: u64,
    /// The tokens of the newest whole response of this window, input and output, by the provider's own count, and how
    /// many items were in history then.
    counted: Option<(u64, usize)>,
}

/// A compaction that is under way.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Compaction {
    /// How many units of history its newest request left out.
    pub left_out: u64,
    /// How that request ended.
    pub end: Option<ModelEnd>,
    /// Responses that it could not use.
    pub unusable: u32,
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
            tools: RenderedTools {
                bytes: Bytes::from(opened.tools.clone()),
                custom_as_function: opened.custom_as_function.clone(),
            },
            mcp_tools: opened.mcp_tools.clone(),
            history: History::new(opened.wire, opened.capabilities),
            turn: 0,
            in_turn: false,
            request: None,
            last_end: None,
            compaction: None,
            compacted: false,
            said: Vec::new(),
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
            boot: opened.boot.clone(),
            unsent_bytes: 0,
            counted: None,
        };
        opened.prefix.iter().try_for_each(|item| thread.append(item.clone()))?;
        thread.history.keep_layers();
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
                self.compacted = false;
                self.rejections = 0;
                self.step_calls = 0;
                self.answer.clear();
                self.said.push(self.history.len());
                started.items.iter().try_for_each(|item| self.append(item.clone()))?;
            }
            Record::TurnSteered(steered) => {
                self.steered = true;
                // What was said before answers nothing of it.
                self.answer.clear();
                self.said.push(self.history.len());
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
                self.compaction = None;
                if !ended.last_message.is_empty() {
                    self.last_message.clone_from(&ended.last_message);
                }
            }
            Record::ItemAppended(appended) => self.append(appended.item.clone())?,
            Record::ModelIntent(intent) => {
                match intent.kind {
                    RequestKind::Turn => {
                        // What is sent now is never changed again in this window.
                        self.history.seal();
                        self.compacted = false;
                        self.step_calls = 0;
                        self.steered = false;
                        self.unsent_bytes = 0;
                    }
                    RequestKind::Compaction => {
                        let unusable = self.compaction.as_ref().map_or(0, |compaction| compaction.unusable);
                        let left_out = intent.left_out;
                        self.compaction = Some(Compaction { left_out, end: None, unusable });
                    }
                }
                self.request = Some(intent.clone());
                self.exited.clear();
            }
            Record::ModelEnded(ended) => self.model_ended(ended),
            Record::HistoryReplaced(replaced) => self.replace(replaced)?,
            Record::CallIntent(intent) => {
                self.next_op = self.next_op.max(intent.op + 1);
                if let Some(call) = self.call_mut(intent.ordinal) {
                    call.intent = Some(intent.clone());
                }
            }
            Record::CallEnded(ended) => {
                self.exited.extend(ended.process);
                if let Some(plan) = self.plan_at(ended.ordinal) {
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
            Record::SandboxNoted(noted) => {
                self.boot = Some(noted.boot.clone());
                // The model knows that these are gone.
                self.sessions.retain(|_, session| session.boot == noted.boot);
                noted.items.iter().try_for_each(|item| self.append(item.clone()))?;
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

    /// A message of one text, as the thread's wire carries it.
    pub fn message(&self, role: Role, text: impl Into<String>) -> ThreadItem {
        let message = Message { role, content: vec![ContentPart::Text { text: text.into() }] };
        self.opened.wire.message(message, &self.opened.capabilities)
    }

    /// Whether the request under way asks for a compaction.
    pub fn compacts(&self) -> bool {
        self.request.as_ref().is_some_and(|request| request.kind == RequestKind::Compaction)
    }

    /// Whether the next request of the turn repeats one that was broken off by a crash, or did not fit.
    pub fn repeats_request(&self) -> bool {
        let again = matches!(
            self.last_end,
            Some(ModelEnd::Broken { cause: BrokenBy::AgentRestart } | ModelEnd::TooLong { .. })
        );
        again && self.step_calls == 0
    }

    /// Tokens of the next request, as far as they are known: what the provider counted for the newest response of this
    /// window, and an estimate of what came since. Without a count all of it is estimated.
    pub fn context_tokens(&self) -> u64 {
        match self.counted {
            Some((tokens, items)) => tokens.saturating_add(self.history.tokens_from(items)),
            None => self.history.window_tokens() + tokens(self.tools.bytes.len() as u64),
        }
    }

    /// Whether a call left for the sandbox, or was about to.
    pub fn has_left(&self, ordinal: u64) -> bool {
        self.calls.iter().any(|call| call.ordinal == ordinal && call.intent.is_some())
    }

    /// Whether a call left that has no exit code, but ends well or not: to change files, or for an MCP server.
    pub fn is_whole(&self, ordinal: u64) -> bool {
        let intents = self.calls.iter().filter(|call| call.ordinal == ordinal);
        let mut intents = intents.filter_map(|call| call.intent.as_ref());
        intents.any(|intent| intent.patch.is_some() || intent.class == EffectClass::External)
    }

    /// Estimated tokens of what came from us and was in no request yet. What came from the model is left out, since a
    /// provider may have it in its cache.
    pub fn unsent_tokens(&self) -> u64 {
        tokens(self.unsent_bytes)
    }

    fn model_ended(&mut self, ended: &ModelEnded) {
        let Some(request) = self.request.take() else { return };
        match (request.kind, &mut self.compaction) {
            (RequestKind::Compaction, Some(compaction)) => {
                compaction.unusable += u32::from(matches!(ended.end, ModelEnd::Unusable { .. }));
                compaction.end = Some(ended.end.clone());
            }
            (RequestKind::Turn | RequestKind::Compaction, _) => {
                if let ModelEnd::Retry { leave_out: Some(ordinal), .. } = ended.end {
                    self.history.leave_out(ordinal);
                }
                self.last_end = Some(ended.end.clone());
                if matches!(ended.end, ModelEnd::Completed { .. }) {
                    let usage = &ended.usage;
                    let tokens = usage.input_tokens.saturating_add(usage.output_tokens);
                    self.counted = (!usage.estimated).then_some((tokens, self.history.len()));
                }
            }
        }
    }

    fn replace(&mut self, replaced: &HistoryReplaced) -> Result<(), PairingError> {
        let (leads, items) = replaced.items.split_at(usize::from(replaced.leads).min(replaced.items.len()));
        let unsent = usize::try_from(replaced.unsent).unwrap_or(usize::MAX).min(items.len());
        let moved_from = self.history.len().saturating_sub(unsent);
        self.history.begin_window(leads.first().cloned())?;
        self.compaction = None;
        self.compacted = true;
        self.counted = None;
        self.unsent_bytes = 0;
        let first = self.history.len();
        let said = usize::try_from(replaced.said).unwrap_or(usize::MAX).min(items.len());
        let moved_to = first + items.len() - unsent;
        let moved =
            self.said.iter().filter_map(|place| place.checked_sub(moved_from)).map(|place| moved_to + place);
        self.said = (first..first + said).chain(moved).collect();
        self.plan.clone_from(&replaced.plan);
        if let Some(tools) = &replaced.tools {
            self.take_tools(tools);
        }
        items.iter().try_for_each(|item| self.append(item.clone()))?;
        self.history.end_base();
        Ok(())
    }

    /// Takes in what came in the thread that this one goes on with, in the messages in which it was sent.
    fn inherit(&mut self, inherited: &Inherited) -> Result<(), PairingError> {
        let mut sealed = inherited.sealed.iter().copied().peekable();
        let (leads, items) =
            inherited.items.split_at(usize::from(inherited.leads).min(inherited.items.len()));
        if !leads.is_empty() {
            self.history.begin_window(leads.first().cloned())?;
        }
        for (place, item) in items.iter().enumerate().map(|(place, item)| (place + leads.len(), item)) {
            while sealed.next_if(|end| *end <= place).is_some() {
                self.history.seal();
                // A provider may have it in its cache.
                self.unsent_bytes = 0;
            }
            if is_said(&item.item) {
                self.said.push(self.history.len());
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
        let is_output = item.item.is_output();
        let words = item.item.words().filter(|words| !words.trim().is_empty());
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

    fn call_mut(&mut self, ordinal: u64) -> Option<&mut OpenCall> {
        self.calls.iter_mut().find(|call| call.ordinal == ordinal)
    }
}

/// Whether an inherited item is what a person said: what the harness says as the user stands in tags.
fn is_said(item: &Item) -> bool {
    matches!(item, Item::Message(message) if message.role == Role::User && !message.text().starts_with('<'))
}
