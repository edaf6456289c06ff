//! `apply_patch`: edits of files in the one format that models write without counting lines.
//!
//! [`parse`] reads the text, [`Patch::paths_to_read`] says which files decide the outcome, and
//! [`Patch::changes`] verifies the whole patch against them. Only then does anything change, in one request
//! with the image of each file before and after, so that a bad hunk leaves no trace and a request whose
//! answer was lost can be repeated or judged.

mod changes;
mod lines;
mod parse;
mod seek;
mod shell;
mod update;

#[cfg(test)]
mod tests;

pub use changes::{Changes, FileBefore, FileChange, FileImage, Place, Rejection, Summary, failure};
pub use parse::{Action, Chunk, ChunkLine, Hunk, ParseError, Patch, parse};
pub(super) use shell::{BARE_PATCH, ShellForm, shell_form};

/// The grammar in which a model that takes free text writes a patch.
pub const GRAMMAR: &str = include_str!("grammar.lark");
