//! What a task brings along: its prompt, and what it names in ConfigMaps.

use podwright_sandboxd::protocol::FileImage;

use super::cluster::Cluster;
use super::prepare::{Preparation, internal, invalid, lost, op, unreadable};
use crate::agent::prompt::inputs::{self, DIRECTORY, Given};
use crate::agent::review;
use crate::agent::tools::image;
use crate::agent::transcript::{self, Former};
use crate::answer::{AnswerSchema, is_strict};
use crate::api::attempt::{ArtifactRef, Outcome};
use crate::api::task::{ConfigMapKeyRef, Input, Mode, Shown};
use crate::artifacts::decode;
use crate::llm::{AnswerFormat, ContentPart};
use crate::sandbox::{Edit, NewFile, Sandbox, SandboxError};

/// What [`DIRECTORY`] is in: always there, and the sandbox's own.
const HOME: &str = "/home/agent";

/// What a task brings along.
pub(super) struct Brought {
    /// What the agent is asked to do.
    pub(super) prompt: String,
    /// What the model is shown after it.
    pub(super) attachments: Vec<ContentPart>,
    /// Files for commands, beneath [`DIRECTORY`].
    pub(super) files: Vec<Edit>,
    /// What the final answer has to look like.
    pub(super) answer: Option<AnswerFormat>,
    /// The thread that is gone on with.
    pub(super) former: Option<Former>,
}

impl<C: Cluster> Preparation<C> {
    /// Reads all of it.
    ///
    /// # Errors
    /// How the attempt ends.
    pub(super) async fn brought(&self) -> Result<Brought, Outcome> {
        let (attachments, files) = self.inputs().await?;
        Ok(Brought {
            prompt: self.prompt().await?,
            attachments,
            files,
            answer: self.answer_format().await?,
            former: self.former().await?,
        })
    }

    async fn former(&self) -> Result<Option<Former>, Outcome> {
        let Some(from) = &self.assignment.job.continue_from else { return Ok(None) };
        let document = self.former_artifact(&from.transcript).await?;
        let unusable = |why| {
            invalid(&format!(
                "it is not possible to continue from AgentTask {}: its transcript cannot be used, since {why}",
                from.task_name
            ))
        };
        transcript::read(&document).map(Some).map_err(unusable)
    }

    /// Something that the attempt has left with which this one goes on.
    ///
    /// # Errors
    /// How the attempt ends.
    pub(super) async fn former_artifact(&self, artifact: &ArtifactRef) -> Result<Vec<u8>, Outcome> {
        let ArtifactRef { config_map_name: name, key, sha256, .. } = artifact;
        let packed = self.cluster.config_map_bytes(name, key).await.map_err(unreadable)?;
        let gone = || {
            invalid(&format!(
                "the ConfigMap {name}, which the task goes on with, has no {key}; it was deleted meanwhile"
            ))
        };
        decode(&packed.ok_or_else(gone)?, sha256)
            .map_err(|error| invalid(&format!("the ConfigMap {name}: {error}")))
    }

    /// Puts the files where commands find them. Done again after a restart it changes nothing.
    ///
    /// # Errors
    /// How the attempt ends.
    pub(super) async fn place(&self, sandbox: &Sandbox, files: &[Edit]) -> Result<(), Outcome> {
        if files.is_empty() {
            return Ok(());
        }
        let id = op(&self.assignment.attempt_uid, "inputs")?;
        match sandbox.fs_apply(id, HOME, files).await {
            Ok(_) => Ok(()),
            Err(SandboxError::Refused(error)) => Err(invalid(&format!(
                "the task's inputs cannot be put into {DIRECTORY}: {}. The environment's setup script must leave that \
                 directory alone, and image and volume must allow for it",
                error.message
            ))),
            Err(error) => Err(lost(error)),
        }
    }

    async fn inputs(&self) -> Result<(Vec<ContentPart>, Vec<Edit>), Outcome> {
        let job = &self.assignment.job;
        let mut contents = Vec::new();
        for input in &job.inputs {
            let ConfigMapKeyRef { name, key } = &input.config_map_key_ref;
            let bytes = self.cluster.config_map_bytes(name, key).await.map_err(unreadable)?;
            let missing =
                || invalid(&format!("the ConfigMap {name}, named by input {}, has no key {key}", input.name));
            let bytes = bytes.ok_or_else(missing)?;
            let url = match input.shown() {
                Shown::Image => Some(self.picture(input, bytes.clone()).await?),
                Shown::Text | Shown::Name => None,
            };
            contents.push((input, bytes, url));
        }
        let given: Vec<Given<'_>> =
            contents.iter().map(|(input, bytes, url)| Given { input, bytes, url: url.clone() }).collect();
        let parts = inputs::parts(&given);
        let files = contents.into_iter().map(|(input, bytes, _)| file(input, bytes)).collect();
        Ok((parts, files))
    }

    /// An input as `view_image` would show it.
    async fn picture(&self, input: &Input, bytes: Vec<u8>) -> Result<String, Outcome> {
        let name = &input.name;
        if !self.assignment.job.model.capabilities.image_input {
            return Err(invalid(&format!("input {name} is an image, and the model takes none (imageInput)")));
        }
        // Decoding takes a good part of a second, and of the agent's memory: one at a time.
        let shown = tokio::task::spawn_blocking(move || image::show(&bytes)).await;
        let shown = shown.map_err(|error| internal(&error))?;
        let ConfigMapKeyRef { name: map, key } = &input.config_map_key_ref;
        let refused =
            |why| invalid(&format!("input {name} (key {key} of ConfigMap {map}) cannot be shown: {why}"));
        shown.map(|shown| shown.url).map_err(refused)
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

fn file(input: &Input, content: Vec<u8>) -> Edit {
    Edit {
        path: format!("inputs/{}", input.name),
        before: FileImage::Absent,
        after: NewFile::File { content, executable: None },
    }
}
