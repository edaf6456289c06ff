//! What a task brings along in ConfigMaps besides its prompt.

use super::{Problem, check_config_map};
use crate::answer::AnswerSchema;
use crate::api::AgentTask;
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
