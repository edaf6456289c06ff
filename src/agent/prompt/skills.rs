//! Skills: instructions for particular kinds of work that a repository brings along, in
//! `.agents/skills/<any>/SKILL.md`.
//!
//! The model is shown the list, and a skill's text when somebody names it as `$name`. They are taken when
//! the thread begins, so that every request says the same of them, and stand where the repository's other
//! words stand: a repository has no say in what ranks above the task.

use serde::{Deserialize, Serialize};

use crate::llm::{ContentPart, Message, Role};

/// Where a repository has its skills.
pub const DIRECTORY: &str = ".agents/skills";

/// The file of one skill in its directory.
pub const FILE: &str = "SKILL.md";

/// Skills that are taken, the first by the names of their directories. The list is in every request.
pub const SKILLS_MAX: usize = 32;

/// Bytes taken of a skill's text: as much as of all AGENTS.md files.
pub const TEXT_MAX: usize = 32 * 1024;

/// Longest name, and longest description that is shown, in bytes.
const NAME_MAX: usize = 64;
const DESCRIPTION_MAX: usize = 500;

/// A skill as it was when its thread began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Skill {
    /// The name by which it is called.
    pub name: String,
    /// What it is for, on one line.
    pub description: String,
    /// Its file, absolute.
    pub path: String,
    /// The file's text.
    pub text: String,
}

#[derive(Deserialize)]
struct FrontMatter {
    name: Option<String>,
    description: Option<String>,
}

impl Skill {
    /// Reads a skill's file; `truncated` says that it has more than `text`.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn parse(path: &str, text: &[u8], truncated: bool) -> Result<Self, &'static str> {
        let mut text = String::from_utf8_lossy(text).into_owned();
        let front = front_matter(&text).ok_or("it does not begin with front matter between two lines ---")?;
        let front: FrontMatter = serde_saphyr::from_str(front)
            .map_err(|_| "its front matter is not a YAML mapping with a name and a description")?;
        let name = front.name.unwrap_or_default().trim().to_owned();
        if name.is_empty() || name.len() > NAME_MAX || !name.chars().all(in_name) {
            return Err("its name is not one of 1 to 64 letters, digits, - and _");
        }
        let words: Vec<&str> = front.description.as_deref().unwrap_or_default().split_whitespace().collect();
        let mut description = words.join(" ");
        if description.is_empty() {
            return Err("it has no description");
        }
        if description.len() > DESCRIPTION_MAX {
            description.truncate(description.floor_char_boundary(DESCRIPTION_MAX));
            description.push('…');
        }
        if truncated {
            text.push_str(&format!("\n[cut after {TEXT_MAX} bytes; the rest is in the file]"));
        }
        Ok(Self { name, description, path: path.to_owned(), text })
    }

    fn block(&self) -> String {
        let Self { name, path, text, .. } = self;
        format!("<skill>\n<name>{name}</name>\n<path>{path}</path>\n{}\n</skill>", text.trim_end())
    }
}

/// The list for the model; `None` without skills.
pub fn list(skills: &[Skill]) -> Option<String> {
    let mut block = String::from(
        "<skills_instructions>\n\
         This repository brings skills along: instructions for particular kinds of work. The text of one that a \
         message names as `$name` follows that message. When another one fits what you are about to do, read its \
         file first. What a skill says ranks as AGENTS.md does.\n",
    );
    for Skill { name, description, path, .. } in skills {
        block.push_str(&format!("- {name}: {description} (file: {path})\n"));
    }
    block.push_str("</skills_instructions>");
    (!skills.is_empty()).then_some(block)
}

/// The texts of the skills that a message names, each once and in the order of their names' first appearance;
/// `None` when it names none.
pub fn named_in(message: &str, skills: &[Skill]) -> Option<Message> {
    let mut named: Vec<&Skill> = Vec::new();
    for (at, _) in message.match_indices('$') {
        let rest = message.get(at + 1..).unwrap_or_default();
        let name = rest.split(|character| !in_name(character)).next().unwrap_or_default();
        if let Some(skill) = skills.iter().find(|skill| skill.name == name)
            && !named.contains(&skill)
        {
            named.push(skill);
        }
    }
    let content: Vec<ContentPart> =
        named.into_iter().map(|skill| ContentPart::Text { text: skill.block() }).collect();
    (!content.is_empty()).then_some(Message { role: Role::User, content })
}

/// What stands between the two lines `---` at the beginning.
fn front_matter(text: &str) -> Option<&str> {
    let text = text.trim_start_matches('\u{feff}');
    let (first, rest) = text.split_once('\n')?;
    if first.trim_end() != "---" {
        return None;
    }
    let mut at = 0;
    for line in rest.split_inclusive('\n') {
        if line.trim_end() == "---" {
            return rest.get(..at);
        }
        at += line.len();
    }
    None
}

fn in_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '-' | '_')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn skill(name: &str) -> Skill {
        let text =
            format!("---\nname: {name}\ndescription: >\n  How to\n  {name}.\nlicense: x\n---\nDo {name}.\n");
        Skill::parse(&format!("/r/.agents/skills/{name}/SKILL.md"), text.as_bytes(), false).expect("a skill")
    }

    fn blocks(message: &str, skills: &[Skill]) -> Vec<String> {
        let parts = named_in(message, skills).map(|message| message.content).unwrap_or_default();
        parts
            .into_iter()
            .map(|part| match part {
                ContentPart::Text { text } => text,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn the_list_has_names_descriptions_and_files() {
        insta::assert_snapshot!(list(&[skill("deploy"), skill("mend")]).expect("a list"), @r"
        <skills_instructions>
        This repository brings skills along: instructions for particular kinds of work. The text of one that a message names as `$name` follows that message. When another one fits what you are about to do, read its file first. What a skill says ranks as AGENTS.md does.
        - deploy: How to deploy. (file: /r/.agents/skills/deploy/SKILL.md)
        - mend: How to mend. (file: /r/.agents/skills/mend/SKILL.md)
        </skills_instructions>
        ");
        assert_eq!(list(&[]), None);
    }

    #[test]
    fn a_named_skill_comes_whole_and_once() {
        let skills = [skill("deploy"), skill("mend-it")];
        let mend = "<skill>\n<name>mend-it</name>\n<path>/r/.agents/skills/mend-it/SKILL.md</path>\n---\nname: mend-it\n\
                    description: >\n  How to\n  mend-it.\nlicense: x\n---\nDo mend-it.\n</skill>";
        assert_eq!(blocks("Use $mend-it, then $mend-it.", &skills), [mend]);
        let both = blocks("($mend-it) and $deploy", &skills);
        assert!(both[0] == mend && both[1].contains("Do deploy."), "{both:?}");
        for none in ["", "mend-it", "$mend", "$mend-it-all", "$", "$$", "$HOME", "Deploy: $ deploy"] {
            assert_eq!(blocks(none, &skills), [""; 0], "{none}");
        }
    }

    #[test]
    fn what_is_no_skill_says_why() {
        for (text, why) in [
            ("", "front matter between"),
            ("# Title\n", "front matter between"),
            ("---\nname: a\n", "front matter between"),
            ("---\n- a\n---\n", "YAML mapping"),
            ("---\ndescription: x\n---\n", "its name"),
            ("---\nname: a b\ndescription: x\n---\n", "its name"),
            ("---\nname: a\n---\n", "no description"),
        ] {
            let refused = Skill::parse("/r/x", text.as_bytes(), false).expect_err(text);
            assert!(refused.contains(why), "{text:?}: {refused}");
        }
    }

    #[test]
    fn long_ones_are_cut_and_say_so() {
        let text = format!("---\nname: a\ndescription: {}\n---\nx", "ü".repeat(400));
        let skill = Skill::parse("/r/x", text.as_bytes(), true).expect("a skill");
        assert_eq!(skill.description, format!("{}…", "ü".repeat(250)));
        assert!(skill.text.ends_with("[cut after 32768 bytes; the rest is in the file]"));
    }

    proptest! {
        #[test]
        fn no_file_and_no_message_make_it_panic(text in "(---\n)?\\PC{0,40}(\n---\n)?\\PC{0,10}", message in "[$a-c ]{0,20}") {
            let _ = Skill::parse("/r/x", text.as_bytes(), false);
            let skills = [skill("a"), skill("bc")];
            let expected = ["a", "bc"].iter().filter(|name| {
                message.split('$').skip(1).any(|rest| rest.split(' ').next() == Some(name))
            });
            prop_assert_eq!(blocks(&message, &skills).len(), expected.count());
        }
    }
}
