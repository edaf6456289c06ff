//! The tools as they are declared to a model.

use serde_json::{Value, json};

use super::apply_patch::GRAMMAR;
use super::image::VIEW_IMAGE;
use crate::api::provider::Surface;
use crate::llm::ToolDefinition;

const EXEC_COMMAND: &str = "Runs a shell command in the sandbox and returns its output. A command that is still running \
     when the wait is over goes on in the background; the answer then holds a session ID for `write_stdin`.";

const WRITE_STDIN: &str = "Writes to a command that is running in a session, or looks at it without writing, and returns \
     the output since the last look.";

const APPLY_PATCH: &str =
    "Edits files. The input is the patch itself, not JSON. It is applied as a whole or not at all.";

const UPDATE_PLAN: &str = "Records the steps of the task and how far each one is, for the people who follow it. Every call \
     gives the whole list. At most one step is in progress at a time.";

const SHOW_IMAGE: &str =
    "Shows an image of the workspace: PNG, JPEG, GIF or WebP. Larger ones are scaled down.";

const SHELL: &str = "Runs a command in a shell and returns its output and exit code. A command that is still running when \
     the wait is over goes on in the background; the answer then holds a session ID for `shell_input`.";

const SHELL_INPUT: &str =
    "Looks at a command that is still running, or writes to it, and returns its output since the last look.";

const STR_REPLACE: &str = "Replaces a text in a file by another one.";

const WRITE_FILE: &str =
    "Writes a whole file, over an existing one too, and makes the directories on the way to it.";

const MAX_OUTPUT_TOKENS: &str =
    "Most tokens of output to return; what is beyond is cut from the middle. Default and maximum: 10000.";

/// The tools of a surface. `images`: whether the model takes images.
pub fn of(surface: Surface, images: bool) -> Vec<ToolDefinition> {
    match surface {
        Surface::Codex => codex(images),
        Surface::Generic => generic(images),
    }
}

/// The tools for models that are trained on the Codex surface, sorted by name. The list is frozen: the same
/// bytes go with every request of a thread. `images`: whether the model takes them.
pub fn codex(images: bool) -> Vec<ToolDefinition> {
    let mut tools = vec![
        ToolDefinition::Custom {
            name: "apply_patch".to_owned(),
            description: APPLY_PATCH.to_owned(),
            grammar: GRAMMAR.to_owned(),
        },
        function(
            "exec_command",
            EXEC_COMMAND,
            &["cmd"],
            json!({
                "cmd": {"type": "string", "description": "The command, for a shell."},
                "login": {
                    "type": "boolean",
                    "description": "Whether the shell reads the login profile. Default: true.",
                },
                "max_output_tokens": {"type": "number", "description": MAX_OUTPUT_TOKENS},
                "shell": {
                    "type": "string",
                    "description": "The shell: bash, sh or zsh, or a path of one. Default: the sandbox's own.",
                },
                "tty": {
                    "type": "boolean",
                    "description": "Whether to run on a terminal, which programs that read input need. Default: \
                                    false, which closes standard input.",
                },
                "workdir": {
                    "type": "string",
                    "description": "The working directory, absolute or relative to the default, which is the \
                                    repository.",
                },
                "yield_time_ms": {
                    "type": "number",
                    "description": "How long to wait for the end before returning the output so far, in \
                                    milliseconds: 250 to 30000. Default: 10000.",
                },
            }),
        ),
        function(
            "update_plan",
            UPDATE_PLAN,
            &["plan"],
            json!({
                "explanation": {"type": "string", "description": "Why the plan changed."},
                "plan": {
                    "type": "array",
                    "description": "All steps, in order.",
                    "items": plan_step(),
                },
            }),
        ),
    ];
    tools.extend(images.then(view_image));
    tools.push(
        function(
            "write_stdin",
            WRITE_STDIN,
            &["session_id"],
            json!({
                "chars": {
                    "type": "string",
                    "description": "What to write; \\u0003 interrupts. Needs a command that was started with tty. \
                                    Default: nothing, which only looks.",
                },
                "max_output_tokens": {"type": "number", "description": MAX_OUTPUT_TOKENS},
                "session_id": {"type": "number", "description": "The session ID from exec_command."},
                "yield_time_ms": {
                    "type": "number",
                    "description": "How long to wait for output, in milliseconds. After writing: 250 to 30000, \
                                    default 250. Without writing: 5000 to 300000, default 5000.",
                },
            }),
        ),
    );
    tools
}

/// The tools for other models, sorted by name and frozen as those are. `images`: whether the model takes them.
pub fn generic(images: bool) -> Vec<ToolDefinition> {
    let wait = |default: &str| format!("How many seconds to wait for it: 1 to 300. Default: {default}.");
    let path = "The file, absolute or relative to the repository.";
    let mut tools = vec![
        function(
            "plan",
            UPDATE_PLAN,
            &["steps"],
            json!({"steps": {"type": "array", "description": "All steps, in order.", "items": plan_step()}}),
        ),
        function(
            "shell",
            SHELL,
            &["command"],
            json!({
                "command": {"type": "string", "description": "The command, for bash where there is one, else for sh."},
                "terminal": {
                    "type": "boolean",
                    "description": "Whether to run on a terminal, so that shell_input can write to it. Default: false.",
                },
                "wait_seconds": {"type": "number", "description": wait("60")},
                "workdir": {
                    "type": "string",
                    "description": "The directory to run in, absolute or relative to the repository, which is the \
                                    default.",
                },
            }),
        ),
        function(
            "shell_input",
            SHELL_INPUT,
            &["session_id"],
            json!({
                "input": {
                    "type": "string",
                    "description": "What to write; a line ends with \\n, and \\u0003 interrupts. Needs a command that was \
                                    started with terminal. Default: nothing, which only looks.",
                },
                "session_id": {"type": "number", "description": "The session ID that shell gave."},
                "wait_seconds": {"type": "number", "description": wait("10 to look, 2 after writing")},
            }),
        ),
        function(
            "str_replace",
            STR_REPLACE,
            &["path", "old_str", "new_str"],
            json!({
                "new_str": {"type": "string", "description": "What stands there afterwards; empty to delete."},
                "old_str": {"type": "string", "description": "The text to replace, exactly as it is in the file."},
                "path": {"type": "string", "description": path},
                "replace_all": {
                    "type": "boolean",
                    "description": "Whether to replace every occurrence. Default: false, which needs exactly one.",
                },
            }),
        ),
    ];
    tools.extend(images.then(view_image));
    tools.push(function(
        "write_file",
        WRITE_FILE,
        &["path", "content"],
        json!({
            "content": {"type": "string", "description": "The whole content."},
            "path": {"type": "string", "description": path},
        }),
    ));
    tools
}

fn plan_step() -> Value {
    json!({
        "type": "object",
        "properties": {
            "status": {
                "type": "string",
                "description": "How far the step is.",
                "enum": ["pending", "in_progress", "completed"],
            },
            "step": {"type": "string", "description": "What is to be done, in a few words."},
        },
        "required": ["step", "status"],
        "additionalProperties": false,
    })
}

fn view_image() -> ToolDefinition {
    let path = "The file, absolute or relative to the repository.";
    function(VIEW_IMAGE, SHOW_IMAGE, &["path"], json!({"path": {"type": "string", "description": path}}))
}

fn function(name: &str, description: &str, required: &[&str], properties: Value) -> ToolDefinition {
    ToolDefinition::Function {
        name: name.to_owned(),
        description: description.to_owned(),
        parameters: json!({
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": false,
        }),
    }
}
