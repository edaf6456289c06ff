//! Final answers that have a form to keep to.

use super::{Effect, Machine, Progress};
use crate::agent::events::Event;
use crate::agent::journal::record::AnswerRejected;
use crate::answer::AnswerSchema;
use crate::api::attempt::Outcome;
use crate::api::reasons::Reason;
use crate::llm::Role;

/// How often a turn's answer is sent back. A model that has read twice what is wrong does not do better the third
/// time.
const REJECTIONS_MAX: u32 = 2;

impl Machine {
    /// The model has given its final answer: the turn ends with it, or the model is told what is wrong with it.
    pub(super) fn settle(&mut self, effects: &mut Vec<Effect>) -> Progress {
        let Some(problem) = self.problem_of_answer() else {
            self.complete_turn(effects);
            return Progress::Again;
        };
        let Some(thread) = self.thread() else { return Progress::Wait };
        if thread.rejections >= REJECTIONS_MAX {
            self.end(no_answer(&problem), effects);
            return Progress::Wait;
        }
        let text = format!(
            "<answer_rejected>\nYour final answer does not have the form that it must have: {problem}. Answer again, \
             with one JSON value that fits the schema, and with nothing else: no words around it and no \
             Markdown.\n</answer_rejected>"
        );
        let items = vec![thread.message(Role::User, text)];
        let rejected = AnswerRejected { problem, items };
        effects.push(Effect::Emit(Event::Error { message: rejected.told(), will_retry: true }));
        self.append(rejected, effects);
        Progress::Again
    }

    fn problem_of_answer(&self) -> Option<String> {
        let thread = self.thread()?;
        let format = thread.opened.answer.as_ref()?;
        match AnswerSchema::parse(&format.schema) {
            Ok(schema) => schema.check(&thread.answer).err().map(|problem| problem.to_string()),
            // It was read before the thread was opened.
            Err(error) => Some(error.to_string()),
        }
    }
}

fn no_answer(problem: &str) -> Outcome {
    Outcome {
        reason: Reason::ModelFailed,
        message: format!(
            "The model's final answer did not have the form that spec.output asks for, {} times: {problem}. Say in the \
             prompt what belongs where, make the schema simpler, try another model, or declare structuredOutput in the \
             ModelProvider if its server has it. The patch so far is kept.",
            REJECTIONS_MAX + 1
        ),
    }
}
