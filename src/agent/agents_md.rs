//! AGENTS.md: what a repository tells agents that work in it.
//!
//! Which files count, which of them win, and how much of them is taken. Reading them is the caller's, by the
//! workspace reader: they are written by whoever wrote the repository. There are no other names to fall back
//! to, and no file outside the repository: what platform people and a task's author have to say is in the
//! developer message.

use super::tools::path::{beneath, resolve};

/// Bytes taken of all files together, in order from the root. Enough for dense instructions, and a fraction
/// of any context window.
pub const BUDGET: usize = 32 * 1024;

/// Names in one directory, the first that has more than whitespace wins.
const NAMES: [&str; 2] = ["AGENTS.override.md", "AGENTS.md"];

/// A file that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its absolute path.
    pub path: String,
    /// Its beginning: [`BUDGET`] bytes of it are enough.
    pub content: Vec<u8>,
    /// Whether the file has more.
    pub truncated: bool,
}

/// The instructions of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentsMd {
    /// The texts, from the root down, an empty line between two.
    pub text: String,
    /// What did not fit, in words for a warning event; empty when all did.
    pub warnings: Vec<String>,
}

/// The files to look for, directory by directory from `root` down to `cwd`, both absolute; in each directory
/// in order of precedence. Only `cwd` itself when it is not beneath the root. Files deeper than `cwd` are the
/// model's to find: the base instructions say so.
pub fn candidates(root: &str, cwd: &str) -> Vec<[String; 2]> {
    let (root, cwd) = (resolve("/", root), resolve("/", cwd));
    let mut directories = Vec::new();
    match beneath(&root, &cwd) {
        None => directories.push(cwd.clone()),
        Some(below) => {
            directories.push(root.clone());
            let mut directory = root;
            for part in below.split('/').filter(|part| !part.is_empty()) {
                directory = resolve(&directory, part);
                directories.push(directory.clone());
            }
        }
    }
    directories.iter().map(|directory| NAMES.map(|name| resolve(directory, name))).collect()
}

/// Puts the files together; `found` holds those of [`candidates`] that exist, by directory in the same order,
/// in each in order of precedence. `None` when they say nothing.
///
/// A file that goes beyond the budget is cut at the byte, and those after it are left out.
pub fn assemble(found: &[Vec<Found>]) -> Option<AgentsMd> {
    let chosen = found.iter().filter_map(|directory| directory.iter().find(|file| !is_blank(&file.content)));
    let mut left = BUDGET;
    let mut texts = Vec::new();
    let mut warnings = Vec::new();
    for file in chosen {
        if left == 0 {
            warnings.push(format!(
                "Left out {} and files below it: the {BUDGET} bytes for project instructions are used up.",
                file.path
            ));
            break;
        }
        let taken = file.content.get(..left).unwrap_or(&file.content);
        if file.truncated || taken.len() < file.content.len() {
            warnings.push(format!(
                "Took the first {} bytes of {} only: the {BUDGET} bytes for project instructions are used up.",
                taken.len(),
                file.path
            ));
        }
        left -= taken.len();
        texts.push(String::from_utf8_lossy(taken).into_owned());
    }
    (!texts.is_empty()).then(|| AgentsMd { text: texts.join("\n\n"), warnings })
}

/// The warning about a file that is there and was not read, and so counts as absent; `why` is the reader's word.
pub fn unread(path: &str, why: &str) -> String {
    format!("Left out {path} ({why}): instructions are taken from regular files only.")
}

impl AgentsMd {
    /// The block for the model.
    pub fn block(&self, cwd: &str) -> String {
        format!("# AGENTS.md instructions for {cwd}\n\n<INSTRUCTIONS>\n{}\n</INSTRUCTIONS>", self.text)
    }
}

fn is_blank(content: &[u8]) -> bool {
    String::from_utf8_lossy(content).trim().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, content: impl AsRef<[u8]>) -> Found {
        let content = content.as_ref().to_vec();
        Found { path: path.to_owned(), content, truncated: false }
    }

    #[test]
    fn looks_from_the_root_down_to_the_working_directory() {
        assert_eq!(
            candidates("/workspace/main", "/workspace/main/a/b"),
            [
                ["/workspace/main/AGENTS.override.md", "/workspace/main/AGENTS.md"],
                ["/workspace/main/a/AGENTS.override.md", "/workspace/main/a/AGENTS.md"],
                ["/workspace/main/a/b/AGENTS.override.md", "/workspace/main/a/b/AGENTS.md"],
            ]
        );
        assert_eq!(candidates("/workspace/main", "/workspace/main/").len(), 1);
        assert_eq!(
            candidates("/workspace/main", "/elsewhere/x"),
            [["/elsewhere/x/AGENTS.override.md", "/elsewhere/x/AGENTS.md"]]
        );
    }

    #[test]
    fn one_file_a_directory_and_texts_as_they_are() {
        let found = [
            vec![file("/r/AGENTS.md", "root\n\n")],
            vec![],
            vec![file("/r/a/b/AGENTS.override.md", "OVR\n\n"), file("/r/a/b/AGENTS.md", "  SUB \n")],
        ];
        let agents = assemble(&found).expect("instructions");
        assert_eq!(
            agents.block("/r/a/b"),
            "# AGENTS.md instructions for /r/a/b\n\n<INSTRUCTIONS>\nroot\n\n\n\nOVR\n\n\n</INSTRUCTIONS>"
        );
        assert!(agents.warnings.is_empty());
    }

    #[test]
    fn whitespace_is_no_file() {
        assert_eq!(assemble(&[vec![file("/r/AGENTS.md", " \n\t")], vec![]]), None);
        let found = [vec![file("/r/AGENTS.override.md", "\n"), file("/r/AGENTS.md", "base")]];
        assert_eq!(assemble(&found).expect("instructions").text, "base");
    }

    #[test]
    fn the_file_that_crosses_the_budget_is_cut_at_the_byte_and_the_rest_left_out() {
        let found = [
            vec![file("/r/AGENTS.md", "a".repeat(BUDGET - 3))],
            vec![file("/r/s/AGENTS.md", "éééé")],
            vec![file("/r/s/x/AGENTS.md", "zz")],
        ];
        let agents = assemble(&found).expect("instructions");
        assert_eq!(agents.text.strip_prefix(&"a".repeat(BUDGET - 3)), Some("\n\né\u{fffd}"));
        assert_eq!(
            agents.warnings,
            [
                "Took the first 3 bytes of /r/s/AGENTS.md only: the 32768 bytes for project instructions are used up.",
                "Left out /r/s/x/AGENTS.md and files below it: the 32768 bytes for project instructions are used up.",
            ]
        );
    }

    #[test]
    fn a_file_that_fills_the_budget_exactly_is_whole() {
        let found = [vec![file("/r/AGENTS.md", "a".repeat(BUDGET))]];
        assert!(assemble(&found).expect("instructions").warnings.is_empty());
    }

    #[test]
    fn a_file_of_which_only_the_beginning_was_read_is_reported() {
        let found =
            [vec![Found { path: "/r/AGENTS.md".into(), content: vec![b'a'; BUDGET], truncated: true }]];
        let agents = assemble(&found).expect("instructions");
        assert_eq!(agents.text.len(), BUDGET);
        assert_eq!(
            agents.warnings,
            [
                "Took the first 32768 bytes of /r/AGENTS.md only: the 32768 bytes for project instructions are used up."
            ]
        );
    }
}
