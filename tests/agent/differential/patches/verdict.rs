//! Whether two outcomes are the same, and which intended difference it is where they are not.

use super::{Applied, ROOT};
use podwright::agent::tools::apply_patch::{Action, parse};
use podwright::agent::tools::path::resolve;

use super::generate::Case;

/// How failures to read a patch, or to find its lines, begin on a command line, and how a model reads them. Others are
/// told by the operating system there, and not compared in words.
const WORDS: [(&str, &str); 4] = [
    ("Invalid patch: ", "invalid patch: "),
    ("Invalid patch hunk on line ", "invalid hunk at line "),
    (
        "Failed to find expected lines in ",
        "apply_patch verification failed: Failed to find expected lines in ",
    ),
    ("Failed to find context ", "apply_patch verification failed: Failed to find context "),
];

/// Whether both did the same and told it in the same words.
pub(crate) fn same(reference: &Applied, ours: &Applied) -> bool {
    match (reference, ours) {
        (Ok(reference), Ok(ours)) => reference == ours,
        (Err(reference), Err(ours)) => {
            let reference = reference.trim_end();
            let told = WORDS.iter().find_map(|(there, here)| Some((reference.strip_prefix(there)?, *here)));
            told.is_none_or(|(rest, here)| {
                // One puts a colon behind the number of the line, the other a comma.
                let plain = |text: &str| text.replacen([':', ','], " ", 1);
                ours.strip_prefix(here).is_some_and(|ours| plain(ours.trim_end()) == plain(rest))
            })
        }
        (Ok(_), Err(_)) | (Err(_), Ok(_)) => false,
    }
}

/// The name in `differences.yaml` of what is different, `None` when it is none of them.
pub(crate) fn difference(case: &Case, reference: &Applied, ours: &Applied) -> Option<&'static str> {
    let names_environment = || parse(&case.patch).is_ok_and(|patch| patch.environment.is_some());
    match (reference, ours) {
        (_, Err(_)) if names_environment() => Some("no-other-environment"),
        // Whatever comes after it finds the file gone there, and a way free that it lies in here.
        (Ok(_), _) | (_, Ok(_)) if moves_to_itself(case) => Some("a-moved-file-stays"),
        (Ok(_) | Err(_), Ok(_) | Err(_)) => None,
    }
}

fn moves_to_itself(case: &Case) -> bool {
    let Ok(patch) = parse(&case.patch) else { return false };
    patch.hunks.iter().any(|hunk| match &hunk.action {
        Action::Update { move_to: Some(target), .. } => resolve(ROOT, target) == resolve(ROOT, &hunk.path),
        Action::Update { move_to: None, .. } | Action::Add { .. } | Action::Delete => false,
    })
}
