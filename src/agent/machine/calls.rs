//! Calls: which run when, one output each in the order of the calls, and what becomes of them after a
//! restart.
//!
//! Shared calls run beside each other. An exclusive one starts when every earlier call has ended, and
//! nothing starts while it runs. Limits are checked before a command starts.

use std::time::Duration;

use podwright_sandboxd::protocol::{BootId, Digest};

use super::model::estimate;
use super::{CallResult, Effect, Machine, Progress, RunCall, SessionChange};
use crate::agent::budget;
use crate::agent::events::replay;
use crate::agent::journal::Barrier;
use crate::agent::journal::record::{
    BrokenBy, CallEnded, CallIntent, CallOutcome, EffectClass, ItemAppended, ModelEnd, ModelEnded,
    PatchIntent, SessionClosed, SessionMoved,
};
use crate::agent::recover::{self, Recovery, World};
use crate::agent::thread::{OpenCall, Thread};
use crate::agent::tools::image::{self, IMAGES_MAX, VIEW_IMAGE};
use crate::agent::tools::plan::PLAN_UPDATED;
use crate::agent::tools::{CallClass, ToolCall, exec, mcp, output_parts, unsupported};
use crate::llm::{Call, CallOutput, ContentPart, Item, ThreadItem};

impl Machine {
    /// Starts the next call that may start.
    pub(super) fn start_calls(&mut self, effects: &mut Vec<Effect>) -> Progress {
        let Some(thread) = self.thread() else { return Progress::Wait };
        let mut earlier_runs = false;
        let mut next = None;
        for call in thread.calls.iter().filter(|call| call.ended.is_none()) {
            let Some(written) = thread.call_at(call.ordinal) else { continue };
            let parsed = thread.meaning(written);
            let exclusive =
                parsed.as_ref().map_or(CallClass::Exclusive, ToolCall::class) == CallClass::Exclusive;
            if self.running.contains_key(&call.ordinal) {
                if exclusive {
                    return Progress::Wait;
                }
                earlier_runs = true;
            } else if exclusive && earlier_runs {
                return Progress::Wait;
            } else {
                next = Some((call.ordinal, parsed));
                break;
            }
        }
        let Some((ordinal, parsed)) = next else { return Progress::Wait };
        match parsed {
            Ok(call) => self.start_call(ordinal, call, effects),
            Err(output) => {
                self.conclude(ordinal, CallOutcome::Error, output, effects);
                Progress::Again
            }
        }
    }

    fn start_call(&mut self, ordinal: u64, call: ToolCall, effects: &mut Vec<Effect>) -> Progress {
        match call {
            ToolCall::UpdatePlan(_) => {
                self.conclude(ordinal, CallOutcome::Ok, PLAN_UPDATED.to_owned(), effects);
            }
            ToolCall::ApplyPatch(patch) => {
                self.running.insert(ordinal, self.at.monotonic);
                effects.push(Effect::ComputePatch { ordinal, patch });
            }
            ToolCall::ViewImage(view) => match self.refuses_image() {
                None => {
                    self.running.insert(ordinal, self.at.monotonic);
                    effects.push(Effect::ViewImage { ordinal, view });
                }
                Some(output) => self.conclude(ordinal, CallOutcome::Error, output, effects),
            },
            ToolCall::ExecCommand(_) | ToolCall::WriteStdin(_) if self.boot_over => return Progress::Wait,
            ToolCall::ExecCommand(_) => {
                // One that never left was counted when it was about to.
                if self.op_of(ordinal).is_none()
                    && let Some(limit) = budget::forbids_command(&self.config.limits, &self.state.spent)
                {
                    return self.trip(limit, effects);
                }
                self.run(ordinal, call, effects);
            }
            ToolCall::WriteStdin(_) => self.run(ordinal, call, effects),
            ToolCall::Mcp(call) => {
                if self.intend(ordinal, EffectClass::External, None, effects).is_none() {
                    return Progress::Wait;
                }
                self.running.insert(ordinal, self.at.monotonic);
                effects.push(Effect::Barrier(Barrier::Call));
                effects.push(Effect::CallMcp { ordinal, call });
            }
        }
        Progress::Again
    }

    /// Why no picture can be shown, in the words that the model reads.
    fn refuses_image(&self) -> Option<String> {
        let thread = self.thread()?;
        if !thread.opened.capabilities.image_input {
            return Some(unsupported(VIEW_IMAGE));
        }
        (self.images_held(thread) >= IMAGES_MAX).then(image::too_many)
    }

    /// Pictures in history, and those of this step that are not there yet.
    fn images_held(&self, thread: &Thread) -> usize {
        let shown: usize = thread.history.window().map(|item| images_in(&item.item)).sum();
        let coming = thread.calls.iter().map(|call| {
            let (began, more) = match &call.ended {
                Some(ended) => (ended.outcome == CallOutcome::Ok, ended.images.len()),
                None => (self.running.contains_key(&call.ordinal), 0),
            };
            let views = began && thread.call_at(call.ordinal).is_some_and(|call| call.name == VIEW_IMAGE);
            usize::from(views) + more
        });
        shown + coming.sum::<usize>()
    }

    fn run(&mut self, ordinal: u64, call: ToolCall, effects: &mut Vec<Effect>) {
        let written = self.thread().and_then(|thread| thread.call_at(ordinal));
        let Some(call_id) = written.map(|call| call.call_id.to_owned()) else { return };
        let Some((op, boot)) = self.intend(ordinal, EffectClass::SandboxDurable, None, effects) else {
            return;
        };
        self.running.insert(ordinal, self.at.monotonic);
        effects.push(Effect::Barrier(Barrier::Call));
        effects.push(Effect::RunCall(RunCall { ordinal, op, call_id, boot, resumed: false, call }));
    }

    /// The patch fits: from here on it may have happened.
    pub(super) fn patch_computed(&mut self, ordinal: u64, patch: PatchIntent, effects: &mut Vec<Effect>) {
        if !self.running.contains_key(&ordinal) {
            return;
        }
        let class = EffectClass::SandboxDurable;
        let Some((op, _)) = self.intend(ordinal, class, Some(patch), effects) else { return };
        effects.push(Effect::Barrier(Barrier::Call));
        effects.push(Effect::ApplyPatch { ordinal, op });
    }

    /// Records that a call leaves, and gives its operation.
    fn intend(
        &mut self,
        ordinal: u64,
        class: EffectClass,
        patch: Option<PatchIntent>,
        effects: &mut Vec<Effect>,
    ) -> Option<(u64, BootId)> {
        let thread = self.thread()?;
        let written = thread.call_at(ordinal)?;
        let Some(boot) = self.boot.clone() else {
            self.fault = Some("a call was started before the sandbox was reached".to_owned());
            return None;
        };
        let op = thread.next_op;
        let intent = CallIntent {
            op,
            ordinal,
            tool: written.name.to_owned(),
            arguments: Digest::of(written.arguments.as_bytes()),
            class,
            boot: boot.clone(),
            patch,
        };
        self.append(intent, effects);
        Some((op, boot))
    }

    pub(super) fn call_ended(&mut self, result: CallResult, effects: &mut Vec<Effect>) {
        if self.running.remove(&result.ordinal).is_none() {
            return;
        }
        let CallResult { ordinal, outcome, mut output, mut images, exit, session } = result;
        if !images.is_empty() {
            let room = self.thread().map_or(0, |thread| IMAGES_MAX.saturating_sub(self.images_held(thread)));
            let left_out = images.split_off(room.min(images.len()));
            if !left_out.is_empty() {
                output.push_str(&mcp::result::images_left_out(left_out.len()));
            }
        }
        let op = self.op_of(ordinal);
        let (process, exit) = exit.unzip();
        self.append(CallEnded { ordinal, op, outcome, process, exit, output, images }, effects);
        match session {
            Some(SessionChange::Opened(opened)) => self.append(opened, effects),
            Some(SessionChange::Moved { session, cursor }) => {
                self.append(SessionMoved { session, cursor }, effects);
            }
            Some(SessionChange::Closed { session }) => self.append(SessionClosed { session }, effects),
            None => {}
        }
    }

    /// Puts the outputs of all calls into history, in the order of the calls.
    pub(super) fn append_outputs(&mut self, effects: &mut Vec<Effect>) {
        let Some(thread) = self.thread() else { return };
        let outputs: Vec<ThreadItem> =
            thread.calls.iter().filter_map(|call| output_item(thread, call)).collect();
        let first = thread.history.len() as u64;
        for (ordinal, item) in (first..).zip(outputs) {
            self.append(ItemAppended { ordinal, request: None, item }, effects);
        }
    }

    /// Decides about everything that was under way when the process before this one ended.
    pub(super) fn recover_calls(&mut self, world: &World, effects: &mut Vec<Effect>) {
        self.break_request(BrokenBy::AgentRestart, effects);
        let Some(thread) = self.thread() else { return };
        for recovery in recover::recover(thread, world) {
            match recovery {
                Recovery::Resume { ordinal, op } => self.resume(ordinal, op, world.boot.clone(), effects),
                // Started again like one that never left.
                Recovery::Restart { ordinal: _ } => {}
                Recovery::Conclude { ordinal, outcome, output } => {
                    self.conclude(ordinal, outcome, output, effects);
                }
            }
        }
    }

    fn resume(&mut self, ordinal: u64, op: u64, boot: BootId, effects: &mut Vec<Effect>) {
        let Some(thread) = self.thread() else { return };
        let Some(written) = thread.call_at(ordinal) else { return };
        if let Ok(call) = thread.meaning(written) {
            let call_id = written.call_id.to_owned();
            self.running.insert(ordinal, self.at.monotonic);
            effects.push(Effect::RunCall(RunCall { ordinal, op, call_id, boot, resumed: true, call }));
        }
    }

    /// Ends the request under way, if there is one, as broken off.
    pub(super) fn break_request(&mut self, cause: BrokenBy, effects: &mut Vec<Effect>) {
        let Some(thread) = self.thread() else { return };
        let Some(intent) = &thread.request else { return };
        let (request, usage) = (intent.request, estimate(thread, intent));
        self.append(ModelEnded { request, end: ModelEnd::Broken { cause }, usage }, effects);
    }

    /// Gives every call that has no output one that says by what it was aborted.
    pub(super) fn abort_calls(&mut self, cause: &str, effects: &mut Vec<Effect>) {
        if !self.running.is_empty() {
            effects.push(Effect::StopCalls);
        }
        let running = std::mem::take(&mut self.running);
        let Some(thread) = self.thread() else { return };
        let open: Vec<u64> =
            thread.calls.iter().filter(|call| call.ended.is_none()).map(|call| call.ordinal).collect();
        for ordinal in open {
            let since = running.get(&ordinal).copied().unwrap_or(self.at.monotonic);
            let wall: Duration = self.at.monotonic.saturating_sub(since);
            let tool = self.thread().and_then(|thread| thread.call_at(ordinal)).map_or("", |call| call.name);
            let output = exec::aborted(tool, wall, cause);
            self.conclude(ordinal, CallOutcome::Interrupted, output, effects);
        }
        self.append_outputs(effects);
    }

    /// Ends a call that the driver has not, or no longer, so that nobody else tells of its end.
    fn conclude(&mut self, ordinal: u64, outcome: CallOutcome, output: String, effects: &mut Vec<Effect>) {
        let op = self.op_of(ordinal);
        let ended = CallEnded { ordinal, op, outcome, process: None, exit: None, output, images: Vec::new() };
        self.append(ended.clone(), effects);
        effects.extend(replay::ended_call(&ended, &self.state).map(Effect::Emit));
    }

    fn op_of(&self, ordinal: u64) -> Option<u64> {
        let call = self.thread()?.calls.iter().find(|call| call.ordinal == ordinal)?;
        call.intent.as_ref().map(|intent| intent.op)
    }
}

fn output_item(thread: &Thread, call: &OpenCall) -> Option<ThreadItem> {
    let ended = call.ended.as_ref()?;
    let Call { kind, call_id, name, .. } = thread.call_at(call.ordinal)?;
    let mut output = CallOutput::text(call_id, String::new());
    output.content = output_parts(name, ended.outcome == CallOutcome::Ok, ended.output.clone());
    output.content.extend(ended.images.iter().map(|url| ContentPart::Image { url: url.clone() }));
    output.failed = ended.outcome != CallOutcome::Ok;
    let (wire, capabilities) = (thread.opened.wire, &thread.opened.capabilities);
    Some(wire.call_output(kind, output, capabilities))
}

fn images_in(item: &Item) -> usize {
    let content = match item {
        Item::FunctionCallOutput(output) => &output.content,
        Item::Message(message) => &message.content,
        Item::Reasoning(_)
        | Item::FunctionCall(_)
        | Item::CustomCall(_)
        | Item::CustomCallOutput(_)
        | Item::Opaque(_) => return 0,
    };
    content.iter().filter(|part| matches!(part, ContentPart::Image { .. })).count()
}
