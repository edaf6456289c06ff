//! Each row is behaviour that was observed in the reference agent, unless it says otherwise.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

mod files;
mod properties;
mod shell;
mod syntax;
mod text;

pub(super) const PLACE: Place<'_> = Place { root: "/workspace/main", cwd: "/workspace/main" };

/// A directory tree: relative paths of files and their content.
pub(super) type Tree = BTreeMap<String, Vec<u8>>;

pub(super) fn tree<const N: usize>(files: [(&str, &str); N]) -> Tree {
    files.into_iter().map(|(path, content)| (path.to_owned(), content.as_bytes().to_vec())).collect()
}

/// What a reader would find at a path; `directories` that are empty by now are there too.
pub(super) fn before(tree: &Tree, directories: &BTreeSet<String>, path: &str) -> FileBefore {
    let above = |path: &str, other: &str| other.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
    if let Some(content) = tree.get(path) {
        FileBefore::File { content: content.clone(), executable: false }
    } else if tree.keys().any(|file| above(file, path)) {
        FileBefore::Unreadable("Not a directory (os error 20)".to_owned())
    } else if path.is_empty() || directories.contains(path) || tree.keys().any(|file| above(path, file)) {
        FileBefore::NotAFile
    } else {
        FileBefore::Absent
    }
}

/// Parses, verifies and applies. Gives the lines of the summary without its head, or the text for the model.
pub(super) fn apply(patch: &str, tree: &mut Tree) -> Result<String, String> {
    apply_with(patch, tree, &mut BTreeSet::new())
}

pub(super) fn apply_with(
    patch: &str,
    tree: &mut Tree,
    directories: &mut BTreeSet<String>,
) -> Result<String, String> {
    let patch = parse(patch).map_err(|error| error.to_string())?;
    let paths = patch.paths_to_read(PLACE).map_err(|error| error.to_string())?;
    let files = paths.into_iter().map(|path| (path.clone(), before(tree, directories, &path))).collect();
    let changes = patch.changes(PLACE, &files).map_err(|error| error.to_string())?;
    for change in changes.files {
        directories.extend(change.path.match_indices('/').map(|(at, _)| change.path[..at].to_owned()));
        match change.content {
            Some(content) => tree.insert(change.path, content),
            None => tree.remove(&change.path),
        };
    }
    let success = changes.summary.success(std::time::Duration::ZERO);
    let lines = success.split_once("files:\n").expect("a head and a list").1;
    Ok(lines.trim_end().replace('\n', ", "))
}

/// `*** Begin Patch`, the body, `*** End Patch`.
pub(super) fn patch(body: &str) -> String {
    format!("*** Begin Patch\n{body}*** End Patch\n")
}

/// A patch that updates the file `a`.
pub(super) fn update_a(chunks: &str) -> String {
    patch(&format!("*** Update File: a\n{chunks}"))
}
