//! Edits of files: a patch, or one of the two plain edits for models that do not write patches.
//!
//! Whatever the form, the files that decide are named first, and what comes out is the same list of changes,
//! verified whole before anything is written.

use std::collections::BTreeMap;
use std::time::Duration;

use super::apply_patch::{
    FileBefore, FileChange, FileImage, Patch, Place, Summary, failure as patch_failure,
};

/// Largest file that an edit reads or makes, in bytes: a few times the largest that people write.
pub const FILE_MAX: usize = 16 * 1024 * 1024;

/// What an edit does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Applies a patch.
    Patch(Patch),
    /// Replaces text of a file.
    Replace(Replace),
    /// Writes a file whole.
    Write(WriteFile),
}

/// A text for another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replace {
    /// The file as the model named it.
    pub path: String,
    /// What is there.
    pub old: String,
    /// What shall be there instead.
    pub new: String,
    /// Whether at every place; else there must be exactly one.
    pub all: bool,
}

/// A file's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteFile {
    /// The file as the model named it.
    pub path: String,
    /// The content.
    pub content: String,
}

/// What the model is told once an edit is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Success {
    /// Of a patch.
    Patch(Summary),
    /// Of a plain edit.
    Plain(String),
}

impl Edit {
    /// The paths whose content decides what the edit does, relative to the root.
    ///
    /// # Errors
    /// What can be refused without a look at any file, in the words that the model reads.
    pub fn paths_to_read(&self, place: Place<'_>) -> Result<Vec<String>, String> {
        match self {
            Self::Patch(patch) => patch.paths_to_read(place).map_err(|rejection| rejection.to_string()),
            Self::Replace(Replace { path, .. }) | Self::Write(WriteFile { path, .. }) => {
                Ok(vec![beneath(place, path)?])
            }
        }
    }

    /// What the edit comes to, given what is at each of [`Self::paths_to_read`].
    ///
    /// # Errors
    /// Why it does not fit, in the words that the model reads.
    pub fn changes(
        &self,
        place: Place<'_>,
        files: &BTreeMap<String, FileBefore>,
    ) -> Result<(Vec<FileChange>, Success), String> {
        match self {
            Self::Patch(patch) => {
                let changes = patch.changes(place, files).map_err(|rejection| rejection.to_string())?;
                Ok((changes.files, Success::Patch(changes.summary)))
            }
            Self::Replace(replace) => {
                let path = beneath(place, &replace.path)?;
                let Some(before) = present(&replace.path, files.get(&path))? else {
                    return Err(format!("There is no file {}.", replace.path));
                };
                let (after, places) = replace.apply(before)?;
                let what = if places == 1 { "occurrence".to_owned() } else { "occurrences".to_owned() };
                let told = format!("Replaced {places} {what} in {}.", replace.path);
                Ok((changed(path, Some(before), after.into_bytes()), Success::Plain(told)))
            }
            Self::Write(WriteFile { path: named, content }) => {
                let path = beneath(place, named)?;
                let before = present(named, files.get(&path))?;
                let done = if before.is_some() { "Replaced the content of" } else { "Created" };
                let told = format!("{done} {named} ({} bytes).", content.len());
                Ok((changed(path, before, content.clone().into_bytes()), Success::Plain(told)))
            }
        }
    }

    /// What the model reads when the edit fitted but could not be written.
    pub fn failure(&self, reason: &str, wall: Duration) -> String {
        match self {
            Self::Patch(_) => patch_failure(reason, wall),
            Self::Replace(Replace { path, .. }) | Self::Write(WriteFile { path, .. }) => {
                format!("{path} could not be written: {reason}")
            }
        }
    }
}

impl Success {
    /// The text.
    pub fn text(&self, wall: Duration) -> String {
        match self {
            Self::Patch(summary) => summary.success(wall),
            Self::Plain(text) => text.clone(),
        }
    }
}

impl Replace {
    /// The text after, and at how many places it changed.
    fn apply(&self, before: &[u8]) -> Result<(String, usize), String> {
        let path = &self.path;
        let text = std::str::from_utf8(before).map_err(|_| format!("{path} is no UTF-8 text."))?;
        if self.old.is_empty() {
            return Err("old_str is empty; write_file makes a new file.".to_owned());
        }
        if self.old == self.new {
            return Err("old_str and new_str are the same.".to_owned());
        }
        let (mut old, mut new) = (self.old.clone(), self.new.clone());
        if !text.contains(&old) && text.contains("\r\n") && !old.contains('\r') {
            (old, new) = (old.replace('\n', "\r\n"), new.replace("\r\n", "\n").replace('\n', "\r\n"));
        }
        match text.matches(&old).count() {
            0 => Err(format!(
                "old_str does not occur in {path}. Read the file again: every character must be the same, blanks and \
                 line ends too."
            )),
            places if places == 1 || self.all => {
                // Before it is made: a thousand bytes at a million places are more than there is memory.
                let grown = new.len().saturating_sub(old.len()).saturating_mul(places);
                if text.len().saturating_add(grown) > FILE_MAX {
                    return Err(format!("{path} would have more than {FILE_MAX} bytes."));
                }
                Ok((text.replace(&old, &new), places))
            }
            places => Err(format!(
                "old_str occurs {places} times in {path}. Add lines around it until it is the only one, or set \
                 replace_all."
            )),
        }
    }
}

fn beneath(place: Place<'_>, path: &str) -> Result<String, String> {
    place.relative(path).ok().filter(|relative| !relative.is_empty()).ok_or_else(|| {
        format!("{path} cannot be changed: only files of the repository, outside .git, can be.")
    })
}

/// The content of a file, if there is one.
fn present<'f>(path: &str, before: Option<&'f FileBefore>) -> Result<Option<&'f [u8]>, String> {
    match before {
        Some(FileBefore::File { content, executable: _ }) => Ok(Some(content)),
        Some(FileBefore::Absent) => Ok(None),
        Some(FileBefore::NotAFile) => {
            Err(format!("{path} is not a regular file, or lies behind one or a link."))
        }
        Some(FileBefore::Unreadable(why)) => Err(format!("{path} cannot be read: {why}")),
        None => Err(format!("{path} was not read.")),
    }
}

fn changed(path: String, before: Option<&[u8]>, after: Vec<u8>) -> Vec<FileChange> {
    if before == Some(after.as_slice()) {
        return Vec::new();
    }
    vec![FileChange {
        path,
        before: before.map_or(FileImage::Absent, |before| FileImage::of(before, None)),
        after: FileImage::of(&after, None),
        content: Some(after),
    }]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLACE: Place<'_> = Place { root: "/r", cwd: "/r" };

    fn file(content: impl Into<Vec<u8>>) -> FileBefore {
        FileBefore::File { content: content.into(), executable: true }
    }

    fn replace(old: &str, new: &str, all: bool) -> Edit {
        Edit::Replace(Replace { path: "a/f".into(), old: old.into(), new: new.into(), all })
    }

    fn write(path: &str, content: &str) -> Edit {
        Edit::Write(WriteFile { path: path.into(), content: content.into() })
    }

    /// The content after and what is told.
    fn done(edit: &Edit, before: FileBefore) -> Result<(Option<String>, String), String> {
        let [path] = &edit.paths_to_read(PLACE)?[..] else { panic!("one path") };
        let (files, success) = edit.changes(PLACE, &BTreeMap::from([(path.clone(), before)]))?;
        let content = files.into_iter().next().and_then(|change| change.content);
        Ok((content.map(|content| String::from_utf8(content).expect("text")), success.text(Duration::ZERO)))
    }

    fn told(content: &str, text: &str) -> Result<(Option<String>, String), String> {
        Ok((Some(content.to_owned()), text.to_owned()))
    }

    #[test]
    fn a_replacement_is_made_at_the_one_place_or_at_all() {
        assert_eq!(
            done(&replace("b", "x", false), file("abc")),
            told("axc", "Replaced 1 occurrence in a/f.")
        );
        assert_eq!(done(&replace("b", "", true), file("abcb")), told("ac", "Replaced 2 occurrences in a/f."));
        let crlf = done(&replace("b\nc", "x\ny\nz", false), file("a\r\nb\r\nc\r\n"));
        assert_eq!(crlf, told("a\r\nx\r\ny\r\nz\r\n", "Replaced 1 occurrence in a/f."));
    }

    #[test]
    fn a_replacement_that_does_not_fit_says_why() {
        for (edit, before, why) in [
            (replace("b", "x", false), file("abcb"), "occurs 2 times"),
            (replace("d", "x", true), file("abc"), "does not occur"),
            (replace("", "x", false), file("abc"), "is empty"),
            (replace("b", "b", false), file("abc"), "are the same"),
            (replace("b", "x", false), file(*b"\xff"), "no UTF-8"),
            (replace("b", "x", false), FileBefore::Absent, "no file a/f"),
            (replace("b", "x", false), FileBefore::NotAFile, "not a regular file"),
            (replace("b", "x", false), FileBefore::Unreadable("no".into()), "cannot be read: no"),
        ] {
            let refused = done(&edit, before).expect_err("refused");
            assert!(refused.contains(why), "{refused}");
        }
    }

    #[test]
    fn a_file_does_not_outgrow_memory() {
        let many = "a".repeat(1 << 20);
        let refused =
            done(&replace("a", &"b".repeat(1 << 20), true), file(many.clone())).expect_err("2^40 bytes");
        assert_eq!(refused, format!("a/f would have more than {FILE_MAX} bytes."));
        let (content, _) = done(&replace("a", "bbbb", true), file(many)).expect("4 MiB");
        assert_eq!(content.map(|content| content.len()), Some(4 << 20));
    }

    #[test]
    fn a_file_is_written_whole() {
        assert_eq!(done(&write("n", "x\n"), FileBefore::Absent), told("x\n", "Created n (2 bytes)."));
        assert_eq!(done(&write("/r/n", ""), file("y")), told("", "Replaced the content of /r/n (0 bytes)."));
        let same = (None, "Replaced the content of n (1 bytes).".to_owned());
        assert_eq!(done(&write("n", "y"), file("y")), Ok(same));
        assert!(done(&write("n", "y"), FileBefore::NotAFile).is_err());
    }

    #[test]
    fn images_name_what_must_be_there_and_keep_the_mode() {
        let files = BTreeMap::from([("a/f".to_owned(), file("b"))]);
        let (changes, _) = replace("b", "x", false).changes(PLACE, &files).expect("changes");
        assert_eq!(changes[0].before, FileImage::of(b"b", None));
        assert_eq!(changes[0].after, FileImage::of(b"x", None));
    }

    #[test]
    fn nothing_outside_the_repository_and_nothing_of_git_is_touched() {
        for path in ["/etc/passwd", "../x", ".git/config", "/r/.git/hooks/x", ".", ""] {
            let refused = write(path, "x").paths_to_read(PLACE).expect_err(path);
            assert!(refused.contains("only files of the repository"), "{refused}");
        }
    }

    proptest! {
        #[test]
        fn a_replacement_changes_nothing_else(head in "[ab\n]{0,9}", tail in "[ab\n]{0,9}", new in "[abd]{0,3}") {
            let edit = replace("c", &new, false);
            let (content, _) = done(&edit, file(format!("{head}c{tail}"))).expect("one place");
            prop_assert_eq!(content.expect("changed"), format!("{head}{new}{tail}"));
        }
    }
}
