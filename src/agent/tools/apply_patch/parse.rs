//! The text of a patch.
//!
//! ```text
//! patch := BEGIN NL [ "*** Environment ID: " id NL ] hunk+ END
//! hunk  := "*** Add File: " path NL ("+" text NL)*
//!        | "*** Delete File: " path NL
//!        | "*** Update File: " path NL [ "*** Move to: " path NL ] chunk+
//! chunk := [ "@@" | "@@ " anchor ] NL ( (" "|"+"|"-") text NL | NL )+ [ "*** End of File" NL ]
//! ```
//!
//! Models write patches that are nearly right; what is tolerated and what is refused, and in which words,
//! follows what they are trained on.

use thiserror::Error;

const BEGIN: &str = "*** Begin Patch";
const END: &str = "*** End Patch";
const ENVIRONMENT: &str = "*** Environment ID:";
const ADD: &str = "*** Add File: ";
const DELETE: &str = "*** Delete File: ";
const UPDATE: &str = "*** Update File: ";
const MOVE: &str = "*** Move to: ";
const END_OF_FILE: &str = "*** End of File";

const NO_BEGIN: ParseError = ParseError::Frame("The first line of the patch must be '*** Begin Patch'");
const NO_END: ParseError = ParseError::Frame("The last line of the patch must be '*** End Patch'");

/// A patch as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    /// Another environment that the patch is meant for.
    pub environment: Option<String>,
    /// What it does to files, in order.
    pub hunks: Vec<Hunk>,
}

/// What a patch does to one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hunk {
    /// The path as written: relative to the working directory, or absolute.
    pub path: String,
    /// What happens to it.
    pub action: Action,
}

/// What happens to a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is written whole, over an existing one too. Every line ends with a line feed.
    Add {
        /// The content.
        content: String,
    },
    /// It is removed.
    Delete,
    /// Parts of it are replaced.
    Update {
        /// Where the result goes instead, as written.
        move_to: Option<String>,
        /// The parts, in file order; at least one.
        chunks: Vec<Chunk>,
    },
}

/// A replaced part of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chunk {
    /// A line somewhere before the part, behind which it is searched.
    pub anchor: Option<String>,
    /// The lines, at least one.
    pub lines: Vec<ChunkLine>,
    /// The part must reach the end of the file.
    pub end_of_file: bool,
}

/// A line of a chunk, without its first column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChunkLine {
    /// There before and after.
    Context(String),
    /// There before.
    Removed(String),
    /// There after.
    Added(String),
}

/// Why a text is no patch.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ParseError {
    /// The frame around the hunks is wrong.
    #[error("invalid patch: {0}")]
    Frame(&'static str),
    /// A line within is wrong.
    #[error("invalid hunk at line {line}, {message}")]
    Hunk {
        /// The line, counted from 1 at the line that begins the patch.
        line: usize,
        /// What is wrong.
        message: String,
    },
}

/// Parses a patch. Whitespace around it is ignored, and so is a here-document around it, in which models
/// wrap patches by habit.
///
/// # Errors
/// The first thing that is wrong.
pub fn parse(text: &str) -> Result<Patch, ParseError> {
    let lines: Vec<&str> = text.trim().split('\n').map(|line| line.trim_end_matches('\r')).collect();
    let body = match framed(&lines) {
        Ok(body) => body,
        Err(error) => framed(unwrap_here_document(&lines).ok_or(error)?)?,
    };
    Parser { lines: body, at: 0 }.patch()
}

/// The lines between those that begin and end a patch.
fn framed<'l, 't>(lines: &'l [&'t str]) -> Result<&'l [&'t str], ParseError> {
    match lines {
        [] | [""] => Err(NO_END),
        [first, ..] if first.trim() != BEGIN => Err(NO_BEGIN),
        [_, body @ .., last] if last.trim() == END => Ok(body),
        [..] => Err(NO_END),
    }
}

/// The inside of `<<EOF … EOF`, quoted or not. Only this tag is taken for a mistake.
fn unwrap_here_document<'l, 't>(lines: &'l [&'t str]) -> Option<&'l [&'t str]> {
    match lines {
        ["<<EOF" | "<<'EOF'" | "<<\"EOF\"", inner @ .., last]
            if inner.len() >= 2 && last.ends_with("EOF") =>
        {
            Some(inner)
        }
        _ => None,
    }
}

/// Stands on one of the lines between BEGIN and END.
struct Parser<'l, 't> {
    lines: &'l [&'t str],
    at: usize,
}

impl<'t> Parser<'_, 't> {
    fn patch(mut self) -> Result<Patch, ParseError> {
        let environment = self.environment()?;
        let mut hunks = Vec::new();
        while let Some(line) = self.peek() {
            if line.trim() == END {
                self.nothing_more()?;
                break;
            }
            hunks.push(self.hunk(line.trim())?);
        }
        Ok(Patch { environment, hunks })
    }

    fn environment(&mut self) -> Result<Option<String>, ParseError> {
        let mut environment = None;
        while let Some(id) = self.peek().and_then(|line| line.trim().strip_prefix(ENVIRONMENT)) {
            if id.trim().is_empty() {
                return Err(ParseError::Frame("apply_patch environment_id cannot be empty"));
            }
            if environment.replace(id.trim().to_owned()).is_some() {
                return Err(ParseError::Frame(
                    "apply_patch environment_id cannot be specified more than once",
                ));
            }
            self.at += 1;
        }
        Ok(environment)
    }

    /// The end may be written twice, here and as the last line; more text behind it makes the patch one without an
    /// end.
    fn nothing_more(&self) -> Result<(), ParseError> {
        let mut rest = self.lines.iter().skip(self.at + 1);
        if rest.all(|line| line.trim().is_empty()) { Ok(()) } else { Err(NO_END) }
    }

    fn hunk(&mut self, header: &str) -> Result<Hunk, ParseError> {
        let number = self.number();
        self.at += 1;
        if let Some(path) = header.strip_prefix(ADD) {
            Ok(Hunk { path: path.to_owned(), action: Action::Add { content: self.added_lines() } })
        } else if let Some(path) = header.strip_prefix(DELETE) {
            Ok(Hunk { path: path.to_owned(), action: Action::Delete })
        } else if let Some(path) = header.strip_prefix(UPDATE) {
            let move_to = self.move_to();
            let chunks = self.chunks()?;
            if chunks.is_empty() {
                let message = format!("Update file hunk for path '{path}' is empty");
                return Err(ParseError::Hunk { line: number, message });
            }
            Ok(Hunk { path: path.to_owned(), action: Action::Update { move_to, chunks } })
        } else {
            let message = format!(
                "'{header}' is not a valid hunk header. Valid hunk headers: '*** Add File: {{path}}', \
                 '*** Delete File: {{path}}', '*** Update File: {{path}}'"
            );
            Err(ParseError::Hunk { line: number, message })
        }
    }

    fn added_lines(&mut self) -> String {
        let mut content = String::new();
        while let Some(line) = self.peek().and_then(|line| line.strip_prefix('+')) {
            content.push_str(line);
            content.push('\n');
            self.at += 1;
        }
        content
    }

    fn move_to(&mut self) -> Option<String> {
        self.skip_end_of_file();
        let path = self.peek()?.trim_end().strip_prefix(MOVE)?;
        self.at += 1;
        self.skip_end_of_file();
        Some(path.to_owned())
    }

    /// Where no chunk has begun, the end of the file says nothing.
    fn skip_end_of_file(&mut self) {
        while self.peek().is_some_and(|line| line.trim_end() == END_OF_FILE) {
            self.at += 1;
        }
    }

    fn chunks(&mut self) -> Result<Vec<Chunk>, ParseError> {
        let mut chunks: Vec<Chunk> = Vec::new();
        while let Some(line) = self.peek() {
            let behind_end_of_file = chunks.last().is_some_and(|chunk| chunk.end_of_file);
            if is_header(line) {
                break;
            } else if line.trim().is_empty() && behind_end_of_file {
                self.at += 1;
            } else if let Some(anchor) = chunk_marker(line) {
                self.at += 1;
                chunks.push(self.chunk(anchor)?);
            } else if chunks.is_empty() {
                chunks.push(self.chunk(None)?);
            } else {
                return Err(self.wrong(format!(
                    "Expected update hunk to start with a @@ context marker, got: '{line}'"
                )));
            }
        }
        Ok(chunks)
    }

    fn chunk(&mut self, anchor: Option<String>) -> Result<Chunk, ParseError> {
        let mut chunk = Chunk { anchor, lines: Vec::new(), end_of_file: false };
        while let Some(line) = self.peek() {
            if line.trim_end() == END_OF_FILE {
                chunk.end_of_file = true;
                break;
            }
            if let Some(line) = chunk_line(line) {
                chunk.lines.push(line);
            } else if chunk.lines.is_empty() && line.trim_end() != END {
                let line = if is_header(line) { line.trim_end() } else { line };
                return Err(self.wrong(format!(
                    "Unexpected line found in update hunk: '{line}'. Every line should start with ' ' \
                     (context line), '+' (added line), or '-' (removed line)"
                )));
            } else {
                break;
            }
            self.at += 1;
        }
        if chunk.lines.is_empty() {
            return Err(self.wrong("Update hunk does not contain any lines".to_owned()));
        }
        if chunk.end_of_file {
            self.at += 1;
        }
        Ok(chunk)
    }

    fn peek(&self) -> Option<&'t str> {
        self.lines.get(self.at).copied()
    }

    /// The number of the line that the parser stands on; BEGIN is line 1.
    fn number(&self) -> usize {
        self.at + 2
    }

    fn wrong(&self, message: String) -> ParseError {
        ParseError::Hunk { line: self.number(), message }
    }
}

fn is_header(line: &str) -> bool {
    let line = line.trim_end();
    [ADD, DELETE, UPDATE].iter().any(|header| line.starts_with(header)) || line == END
}

/// The anchor of a line that begins a chunk.
fn chunk_marker(line: &str) -> Option<Option<String>> {
    match line.trim_end().strip_prefix("@@")? {
        "" => Some(None),
        rest => rest.strip_prefix(' ').map(|anchor| Some(anchor.to_owned())),
    }
}

fn chunk_line(line: &str) -> Option<ChunkLine> {
    let mut characters = line.chars();
    let kind = characters.next();
    let text = characters.as_str().to_owned();
    match kind {
        None | Some(' ') => Some(ChunkLine::Context(text)),
        Some('-') => Some(ChunkLine::Removed(text)),
        Some('+') => Some(ChunkLine::Added(text)),
        Some(_) => None,
    }
}
