use super::*;
use crate::agent::agents_md::{Found, assemble};
use crate::agent::tools::definitions;
use crate::llm::ToolDefinition;

const PERMISSIONS: Permissions<'_> = Permissions {
    writable_roots: &["/workspace", "/home/agent", "/tmp"],
    network: NetworkAccess::None,
    loopback: true,
    command_limit: Duration::from_secs(1800),
};

fn input<'a>(instructions: &'a str, agents_md: Option<&'a AgentsMd>) -> PromptInput<'a> {
    PromptInput {
        missing_servers: &[],
        surface: Surface::Codex,
        images: false,
        instructions,
        permissions: PERMISSIONS,
        work: Work::Change,
        answer_schema: None,
        agents_md,
        skills: &[],
        environment: EnvironmentContext {
            cwd: "/workspace/main",
            workspace_root: "/workspace/main",
            shell: "bash",
            date: jiff::civil::date(2026, 11, 23),
        },
        prompt: "Mend the failing test.",
    }
}

/// Roles and parts, without the base instructions.
fn shown(messages: &[Message]) -> String {
    let mut text = String::new();
    for message in &messages[1..] {
        text.push_str(&format!("[{:?}]\n", message.role));
        for part in &message.content {
            let ContentPart::Text { text: part } = part else { panic!("{part:?}") };
            text.push_str(part);
            text.push_str("\n--\n");
        }
    }
    text
}

#[test]
fn four_messages_in_a_fixed_order() {
    let found = vec![Found {
        path: "/workspace/main/AGENTS.md".into(),
        content: b"Run `make`.\n".into(),
        truncated: false,
    }];
    let agents_md = assemble(&[found]);
    let messages = initial_messages(&input("Answer in French.", agents_md.as_ref()));
    assert_eq!(messages[0].role, Role::Developer);
    assert_eq!(messages[0].text(), base_instructions(Surface::Codex, false));
    insta::assert_snapshot!(shown(&messages), @r"
    [Developer]
    Answer in French.
    --
    <permissions instructions>
    `sandbox_mode` is `workspace-write`: commands may read the files of the sandbox, and write beneath `/workspace`, `/home/agent`, `/tmp`. Writing elsewhere fails. `apply_patch` changes files of the repository only, and not its `.git`.
    Network access is restricted: connections are refused, and so is the look-up of names, except between processes of the sandbox over the loopback addresses 127.0.0.1 and ::1, on which they may listen. Downloads and package installation from the network will fail; work with what is there.
    A command that runs longer than 1800 seconds is ended with everything that it started.
    Approval policy is currently never: there is nobody to ask, and a request for more rights is rejected. Find a way within these limits, or report what could not be done.
    </permissions instructions>
    --
    [User]
    # AGENTS.md instructions for /workspace/main

    <INSTRUCTIONS>
    Run `make`.

    </INSTRUCTIONS>
    --
    <environment_context>
      <cwd>/workspace/main</cwd>
      <shell>bash</shell>
      <current_date>2026-11-23</current_date>
      <timezone>Etc/UTC</timezone>
      <network_access>restricted</network_access>
      <workspace_root>/workspace/main</workspace_root>
    </environment_context>
    --
    [User]
    Mend the failing test.
    --
    ");
}

#[test]
fn loopback_is_promised_only_where_there_is_one() {
    let block = |loopback| Permissions { loopback, ..PERMISSIONS }.block(Surface::Codex);
    assert!(block(true).contains("over the loopback addresses 127.0.0.1 and ::1, on which they may listen"));
    let without = block(false);
    assert!(without.contains("not even for the loopback addresses") && !without.contains("they may listen"));
}

#[test]
fn what_is_absent_leaves_no_part() {
    let messages = initial_messages(&input(" \n", None));
    let parts: Vec<_> = messages.iter().map(|message| message.content.len()).collect();
    assert_eq!(parts, [1, 1, 1, 1]);
    assert!(messages[1].text().starts_with("<permissions instructions>\n"));
    assert!(messages[2].text().starts_with("<environment_context>\n"));
}

#[test]
fn skills_stand_between_the_instructions_of_the_repository_and_the_place() {
    let text = b"---\nname: mend\ndescription: How to mend.\n---\n";
    let skills = [Skill::parse("/r/SKILL.md", text, false).expect("a skill")];
    let found = Found { path: "/r/AGENTS.md".into(), content: b"x".into(), truncated: false };
    let agents_md = assemble(&[vec![found]]);
    let messages = initial_messages(&PromptInput { skills: &skills, ..input("", agents_md.as_ref()) });
    let ContentPart::Text { text } = &messages[2].content[1] else { panic!("{messages:?}") };
    assert!(
        messages[2].content.len() == 3 && text.contains("- mend: How to mend. (file: /r/SKILL.md)"),
        "{text}"
    );
}

#[test]
fn the_prompt_is_passed_on_unchanged() {
    let mut input = input("", None);
    input.prompt = " <environment_context>\n\ttext \n";
    assert_eq!(initial_messages(&input)[3].text(), input.prompt);
}

#[test]
fn the_base_instructions_name_every_tool_and_no_other_product() {
    let surfaces = [Surface::Codex, Surface::Generic];
    for (surface, images) in surfaces.into_iter().flat_map(|surface| [(surface, false), (surface, true)]) {
        let base = base_instructions(surface, images);
        let permissions = PERMISSIONS.block(surface);
        let others = surfaces.into_iter().filter(|other| *other != surface);
        for tool in others.flat_map(|other| definitions::of(other, false)) {
            let (ToolDefinition::Function { name, .. } | ToolDefinition::Custom { name, .. }) = tool;
            assert!(!format!("{base}{permissions}").contains(&format!("`{name}`")), "{name}");
        }
        for tool in definitions::of(surface, images) {
            let (ToolDefinition::Function { name, .. } | ToolDefinition::Custom { name, .. }) = tool;
            assert!(base.contains(&format!("`{name}`")), "{name}");
        }
        assert_eq!(base.contains("`view_image`"), images);
        assert!(!base.contains("\n\n\n") && !base.ends_with('\n'), "{base}");
        for word in ["Codex", "OpenAI", "GPT"] {
            assert!(!base.contains(word), "{word}");
        }
    }
}

#[test]
fn the_kind_of_work_comes_after_what_is_enforced() {
    let messages = initial_messages(&PromptInput { work: Work::Ask, ..input("Answer in French.", None) });
    let change = initial_messages(&input("Answer in French.", None));
    assert_eq!(messages[0], change[0], "the base instructions are shared by all kinds of work");
    assert_eq!(messages[1].content[..2], change[1].content[..]);
    let Some(ContentPart::Text { text }) = messages[1].content.get(2) else { panic!("{:?}", messages[1]) };
    assert!(text.starts_with("<task_mode>"), "{text}");
}

#[test]
fn the_form_of_the_answer_comes_last_in_the_developer_message() {
    let schema = r#"{"type":"string"}"#;
    let messages = initial_messages(&PromptInput { answer_schema: Some(schema), ..input("", None) });
    let Some(ContentPart::Text { text }) = messages[1].content.last() else { panic!("{:?}", messages[1]) };
    assert!(text.starts_with("<answer_format>") && text.contains("\n{\"type\":\"string\"}\n"), "{text}");
}
