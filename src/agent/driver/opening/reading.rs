//! What the repository says to agents, read where commands may have been at work: through the workspace
//! reader alone. What is there and cannot be taken as it is becomes a warning.

use std::path::Path;

use rustix::fs::FileType;

use crate::agent::agents_md::{self, AgentsMd, BUDGET, Found};
use crate::agent::prompt::skills::{DIRECTORY, FILE, SKILLS_MAX, Skill, TEXT_MAX};
use crate::workspace::reader::{Content, names, stat};
use crate::workspace::{ReadError, Reader};

/// Entries that a directory of skills may have: more is no list that somebody wrote.
const ENTRIES_MAX: usize = 1000;

/// The reader and what it is told.
pub(super) struct Reading<'a> {
    /// The reader.
    pub(super) reader: &'a Reader,
    /// Its directory.
    pub(super) mount: &'a Path,
    /// The repository's directory.
    pub(super) cwd: &'a str,
    /// What people should know.
    pub(super) warnings: Vec<String>,
}

impl Reading<'_> {
    /// AGENTS.md, from the repository's root to the working directory, which are the same.
    pub(super) fn agents_md(&mut self) -> Option<AgentsMd> {
        let mut found = Vec::new();
        for names in agents_md::candidates(self.cwd, self.cwd) {
            let mut files = Vec::new();
            for path in names {
                if let Some(Content { bytes, truncated }) = self.file(&path, BUDGET) {
                    files.push(Found { path, content: bytes, truncated });
                }
            }
            found.push(files);
        }
        let agents_md = agents_md::assemble(&found);
        self.warnings.extend(agents_md.iter().flat_map(|agents_md| agents_md.warnings.clone()));
        agents_md
    }

    /// The skills, in the order of their directories' names.
    pub(super) fn skills(&mut self) -> Vec<Skill> {
        let directory = format!("{}/{DIRECTORY}", self.cwd);
        let mut directories = match self.directories(&directory) {
            Ok(directories) => directories,
            Err(ReadError::Missing) => return Vec::new(),
            Err(error) => {
                self.warnings.push(format!("Left out the skills in {directory} ({error})."));
                return Vec::new();
            }
        };
        directories.sort();
        let mut skills: Vec<Skill> = Vec::new();
        for name in directories {
            let path = format!("{directory}/{name}/{FILE}");
            let Some(Content { bytes, truncated }) = self.file(&path, TEXT_MAX) else { continue };
            if skills.len() == SKILLS_MAX {
                self.warnings.push(format!("Left out {path} and further skills: {SKILLS_MAX} are taken."));
                break;
            }
            match Skill::parse(&path, &bytes, truncated) {
                Ok(skill) if skills.iter().any(|other| other.name == skill.name) => {
                    self.warnings.push(format!("Left out the skill {path}: another one has its name."));
                }
                Ok(skill) => skills.push(skill),
                Err(why) => self.warnings.push(format!("Left out the skill {path}: {why}.")),
            }
        }
        skills
    }

    fn directories(&self, directory: &str) -> Result<Vec<String>, ReadError> {
        let relative = Path::new(directory).strip_prefix(self.mount).map_err(|_| ReadError::Leads)?;
        let directory = self.reader.directory(relative)?;
        let names = names(&directory, ENTRIES_MAX, 0, usize::MAX)?;
        // Their names stand in a prompt.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let plain = names.into_iter().filter(|name| name.iter().all(|byte| plain(*byte)));
        let plain = plain.filter_map(|name| String::from_utf8(name).ok());
        // A link is kept, so that it is reported. A file beside the directories is nobody's skill.
        let kind =
            |name: &str| stat(&directory, Path::new(name)).map(|stat| FileType::from_raw_mode(stat.st_mode));
        Ok(plain.filter(|name| matches!(kind(name), Ok(FileType::Directory | FileType::Symlink))).collect())
    }

    fn file(&mut self, path: &str, max: usize) -> Option<Content> {
        let relative = Path::new(path).strip_prefix(self.mount).ok()?;
        match self.reader.read(relative, max) {
            Ok(content) => Some(content),
            Err(ReadError::Missing) => None,
            Err(error) => {
                self.warnings.push(agents_md::unread(path, &error.to_string()));
                None
            }
        }
    }
}
