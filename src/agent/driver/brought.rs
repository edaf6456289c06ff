//! What a task brings along: its prompt, and what it names in ConfigMaps.

use super::cluster::Cluster;
use super::prepare::{Preparation, invalid};
use crate::agent::review;
use crate::answer::{AnswerSchema, is_strict};
use crate::api::attempt::Outcome;
use crate::api::task::{ConfigMapKeyRef, Mode};
use crate::llm::AnswerFormat;

/// What a task brings along.
pub(super) struct Brought {
    /// What the agent is asked to do.
    pub(super) prompt: String,
    /// What the final answer has to look like.
    pub(super) answer: Option<AnswerFormat>,
}

impl<C: Cluster> Preparation<C> {
    /// Reads all of it.
    ///
    /// # Errors
    /// How the attempt ends.
    pub(super) async fn brought(&self) -> Result<Brought, Outcome> {
        Ok(Brought { prompt: self.prompt().await?, answer: self.answer_format().await? })
    }

    async fn prompt(&self) -> Result<String, Outcome> {
        let job = &self.assignment.job;
        match (&job.prompt, &job.prompt_from) {
            (Some(prompt), _) => Ok(prompt.clone()),
            (None, Some(reference)) => self.value(reference).await,
            (None, None) => Err(invalid("the task has no prompt")),
        }
    }

    /// The task's own schema, or the one of reviews.
    async fn answer_format(&self) -> Result<Option<AnswerFormat>, Outcome> {
        let job = &self.assignment.job;
        match (&job.output_schema_from, job.mode) {
            (Some(reference), _) => {
                let text = self.value(reference).await?;
                let ConfigMapKeyRef { name, key } = reference;
                let refused = |why| {
                    invalid(&format!(
                        "key {key} of ConfigMap {name}, named by spec.output, is no schema for answers: {why}; mend it \
                         and create the task again"
                    ))
                };
                let schema = AnswerSchema::parse(&text).map_err(refused)?;
                let strict = is_strict(schema.value());
                Ok(Some(AnswerFormat { schema: schema.value().to_string(), strict }))
            }
            (None, Mode::Review) => Ok(Some(review::format())),
            (None, Mode::Change | Mode::Ask) => Ok(None),
        }
    }
}
