//! Files and links written as git hands over their contents.

use std::collections::VecDeque;
use std::io;
use std::path::Path;

use super::OverlayError;
use crate::workspace::git::{Git, GitError};
use crate::workspace::object::{Mode, ObjectId};
use crate::workspace::path::RepoPath;
use crate::workspace::tree::Entry;
use crate::workspace::writer::{NewFile, Writer};

/// Linux's own bound on a symbolic link's target.
const TARGET_MAX: u64 = 4095;

/// What stands before a content: an id, a kind and a length.
const HEAD_MAX: usize = 100;

/// What is to be written, and how far that is. Contents are written as they come: the agent's memory holds none of them.
pub(super) struct Incoming<'a> {
    writer: &'a Writer,
    expected: VecDeque<(RepoPath, Entry)>,
    at: At<'a>,
}

/// Where in git's answer we are.
enum At<'a> {
    /// In the line before a content.
    Head(Vec<u8>),
    /// In a content, of which so many bytes are left, or at the line feed after it.
    Content(u64, Target<'a>),
}

enum Target<'a> {
    File(NewFile<'a>),
    Link(RepoPath, Vec<u8>),
}

impl<'a> Incoming<'a> {
    pub(super) fn new(writer: &'a Writer) -> Self {
        Self { writer, expected: VecDeque::new(), at: At::Head(Vec::new()) }
    }

    /// A file or link that is to be written.
    pub(super) fn expect(&mut self, path: &RepoPath, entry: Entry) {
        self.expected.push_back((path.clone(), entry));
    }

    /// Writes all of them.
    pub(super) async fn run(mut self, git: &Git, git_dir: &Path) -> Result<(), OverlayError> {
        if self.expected.is_empty() {
            return Ok(());
        }
        let request: String = self.expected.iter().map(|(_, entry)| format!("{}\n", entry.id)).collect();
        let run = git.run_in(git_dir, ["cat-file", "--batch"]).env("GIT_DIR", git_dir);
        let mut result = Ok(());
        let streamed = run
            .input(request.into_bytes())
            .stream(|bytes| {
                if result.is_ok() {
                    result = self.take(bytes);
                }
            })
            .await;
        // It says more of what went wrong than a git that was not listened to.
        result?;
        streamed?;
        match &self.at {
            At::Head(head) if head.is_empty() && self.expected.is_empty() => Ok(()),
            At::Head(_) | At::Content(..) => Err(unexpected("it ended early")),
        }
    }

    fn take(&mut self, mut bytes: &[u8]) -> Result<(), OverlayError> {
        while let Some((first, rest)) = bytes.split_first() {
            match &mut self.at {
                At::Head(head) if *first == b'\n' => {
                    let head = std::mem::take(head);
                    self.at = self.begin(&head)?;
                    bytes = rest;
                }
                At::Head(head) => {
                    if head.len() == HEAD_MAX {
                        return Err(unexpected("a line that is too long"));
                    }
                    head.push(*first);
                    bytes = rest;
                }
                At::Content(0, _) => {
                    if let At::Content(_, target) = std::mem::replace(&mut self.at, At::Head(Vec::new())) {
                        self.done(target)?;
                    }
                    bytes = rest;
                }
                At::Content(left, target) => {
                    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    let (piece, rest) = bytes.split_at(length);
                    target.write(piece)?;
                    *left -= piece.len() as u64;
                    bytes = rest;
                }
            }
        }
        Ok(())
    }

    /// The target of the content with this head.
    fn begin(&mut self, head: &[u8]) -> Result<At<'a>, OverlayError> {
        let (Some((path, entry)), Some((id, size))) = (self.expected.pop_front(), parse(head)) else {
            return Err(unexpected("not a line before a content"));
        };
        if id != entry.id {
            return Err(unexpected("not the objects that were asked for"));
        }
        let target = match entry.mode {
            Mode::Symlink if size > TARGET_MAX => {
                return Err(OverlayError::HarmfulPath { path, why: "a link to a path that is too long" });
            }
            Mode::Symlink => Target::Link(path, Vec::new()),
            Mode::File | Mode::Executable | Mode::Gitlink => {
                Target::File(self.writer.file(&path, entry.mode == Mode::Executable)?)
            }
        };
        Ok(At::Content(size, target))
    }

    fn done(&self, target: Target<'_>) -> Result<(), OverlayError> {
        match target {
            Target::File(file) => file.done()?,
            Target::Link(path, target) => self.writer.link(&path, &target)?,
        }
        Ok(())
    }
}

impl Target<'_> {
    fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        match self {
            Self::File(file) => file.write(piece),
            Self::Link(_, target) => {
                target.extend_from_slice(piece);
                Ok(())
            }
        }
    }
}

/// The id and length of a blob in "<id> blob <length>".
fn parse(head: &[u8]) -> Option<(ObjectId, u64)> {
    let mut fields = std::str::from_utf8(head).ok()?.split(' ');
    let (id, kind, size) = (fields.next()?, fields.next()?, fields.next()?);
    (kind == "blob" && fields.next().is_none()).then_some((id.parse().ok()?, size.parse().ok()?))
}

fn unexpected(what: &str) -> OverlayError {
    GitError::Unexpected { command: "cat-file".to_owned(), what: what.to_owned() }.into()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::workspace::Layout;
    use crate::workspace::object::ObjectKind;

    fn stage() -> (tempfile::TempDir, Writer) {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("app")).unwrap();
        let layout = Layout::new(directory.path().join("repo"), directory.path(), "app").unwrap();
        let writer = Writer::open(&layout).unwrap();
        (directory, writer)
    }

    /// What git says of some contents.
    fn batch(contents: &[&[u8]]) -> Vec<u8> {
        let answers = contents.iter().map(|content| {
            let id = ObjectId::of(ObjectKind::Blob, content);
            [format!("{id} blob {}\n", content.len()).as_bytes(), content, b"\n"].concat()
        });
        answers.collect::<Vec<_>>().concat()
    }

    fn incoming<'a>(writer: &'a Writer, wanted: &[(&str, Mode, &[u8])]) -> Incoming<'a> {
        let mut incoming = Incoming::new(writer);
        for (path, mode, content) in wanted {
            let entry = Entry { mode: *mode, id: ObjectId::of(ObjectKind::Blob, content) };
            incoming.expect(&RepoPath::new(path.as_bytes()), entry);
        }
        incoming
    }

    #[test]
    fn contents_are_written_wherever_the_answer_is_cut() {
        let wanted: [(&str, Mode, &[u8]); 4] = [
            ("a/empty", Mode::File, b""),
            ("a/link", Mode::Symlink, b"../run"),
            ("lines", Mode::File, b"\n\n0 blob 1\n"),
            ("run", Mode::Executable, b"#!/bin/sh\n"),
        ];
        let answer = batch(&wanted.map(|(_, _, content)| content));
        for cut in 0..answer.len() {
            let (directory, writer) = stage();
            let mut incoming = incoming(&writer, &wanted);
            incoming.take(&answer[..cut]).unwrap();
            incoming.take(&answer[cut..]).unwrap();
            assert!(
                incoming.expected.is_empty() && matches!(&incoming.at, At::Head(head) if head.is_empty())
            );
            let at = |path: &str| directory.path().join("app").join(path);
            assert_eq!(fs::read(at("a/empty")).unwrap(), b"");
            assert_eq!(fs::read(at("lines")).unwrap(), b"\n\n0 blob 1\n", "cut at {cut}");
            assert_eq!(fs::read_link(at("a/link")).unwrap(), Path::new("../run"));
            let executable = |path: &str| fs::metadata(at(path)).unwrap().permissions().mode() & 0o100 != 0;
            assert!(executable("run") && !executable("lines"));
        }
    }

    #[test]
    fn another_answer_is_refused() {
        let (_directory, writer) = stage();
        for answer in [
            batch(&[b"other"]),
            b"ce013625030ba8dba906f756967f9e9ca394464a missing\n".to_vec(),
            vec![b'x'; 200],
        ] {
            let mut incoming = incoming(&writer, &[("a", Mode::File, b"this")]);
            assert!(incoming.take(&answer).is_err(), "{}", String::from_utf8_lossy(&answer));
        }
        let long = "x".repeat(4096);
        let mut incoming = incoming(&writer, &[("a", Mode::Symlink, long.as_bytes())]);
        let error = incoming.take(&batch(&[long.as_bytes()])).unwrap_err();
        assert!(matches!(error, OverlayError::HarmfulPath { .. }), "{error}");
    }
}
