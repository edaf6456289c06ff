//! What a task brings along in ConfigMaps besides its prompt.

use super::{Problem, check_config_map};
use crate::answer::AnswerSchema;
use crate::api::AgentTask;
use crate::api::provider::Model;
use crate::api::task::Shown;
use crate::controller::observed::{References, TaskId};

/// The schema of the final answer is one.
pub(super) fn check_output(
    task: &AgentTask,
    id: &TaskId,
    references: &References,
    problems: &mut Vec<Problem>,
) {
    let Some(output) = &task.spec.output else { return };
    let key = &output.schema_from.config_map_key_ref;
    check_config_map(key, "spec.output", id, references, problems);
    let Some(text) = &references.output_schema else { return };
    if let Err(why) = AnswerSchema::parse(text) {
        problems.push(Problem::Wrong(format!(
            "key {} of ConfigMap {}, named by spec.output, is no schema for answers: {why}; mend it and create the task again",
            key.key, key.name
        )));
    }
}

/// Everything that comes with the prompt is there, and the model can look at its images.
pub(super) fn check_inputs(
    task: &AgentTask,
    model: Option<&Model>,
    id: &TaskId,
    references: &References,
    problems: &mut Vec<Problem>,
) {
    for input in &task.spec.inputs {
        let (name, key) = (&input.name, &input.config_map_key_ref);
        if !references.has_binary(&key.name, &key.key) {
            check_config_map(key, &format!("input {name}"), id, references, problems);
        }
        let blind = model.filter(|model| input.shown() == Shown::Image && !model.capabilities.image_input);
        if let Some(model) = blind {
            problems.push(Problem::Wrong(format!(
                "input {name} is an image, and ModelProvider {} does not say that the model {} takes images; if it does, add imageInput: true to its capabilities; else name another model in a new task, or give the input the mediaType application/octet-stream, which makes it a file for commands alone",
                task.spec.model.provider_name, model.name
            )));
        }
    }
}
