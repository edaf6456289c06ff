//! Patches that arrive as shell commands.
//!
//! There is no `apply_patch` program in the sandbox: a command that is nothing but a call of it is taken
//! for the tool. Everything else is left to the shell.

/// A command that is a patch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::agent::tools) enum ShellForm<'c> {
    /// `apply_patch <<'EOF' …`, perhaps after `cd DIRECTORY &&`.
    Call {
        /// The directory.
        directory: Option<&'c str>,
        /// The here-document's text.
        patch: &'c str,
    },
    /// A patch without a call.
    Bare,
}

/// What the model is told about a bare patch.
pub(in crate::agent::tools) const BARE_PATCH: &str = "apply_patch verification failed: patch detected without explicit \
     call to apply_patch. Rerun as [\"apply_patch\", \"<patch>\"]";

/// Recognises a patch in a shell command.
///
/// One simple command with one here-document as its only redirection, alone or behind one `cd DIRECTORY &&`;
/// any tag, quoted or not. The directory may be quoted but holds nothing that a shell would expand.
pub(in crate::agent::tools) fn shell_form(command: &str) -> Option<ShellForm<'_>> {
    if super::parse::parse(command).is_ok() {
        return Some(ShellForm::Bare);
    }
    let (line, body) = command.trim_start().split_once('\n')?;
    let (directory, call) = match line.strip_prefix("cd").filter(|rest| rest.starts_with([' ', '\t'])) {
        Some(rest) => {
            let (directory, rest) = word(rest.trim_start())?;
            (Some(directory), rest.trim_start().strip_prefix("&&")?.trim_start())
        }
        None => (None, line),
    };
    let redirection = call.strip_prefix("apply_patch").or_else(|| call.strip_prefix("applypatch"))?;
    let tag = redirection.trim_start().strip_prefix("<<")?;
    let (tag, rest) = word(tag.strip_prefix('-').unwrap_or(tag).trim_start())?;
    let patch = here_document(body, tag)?;
    rest.trim().is_empty().then_some(ShellForm::Call { directory, patch })
}

/// The text up to the line that is the tag, which must be the last one. A missing one is forgiven, as shells do.
fn here_document<'c>(body: &'c str, tag: &str) -> Option<&'c str> {
    let mut at = 0;
    for line in body.split_inclusive('\n') {
        if line.trim_end_matches(['\n', '\r']).trim_start_matches('\t') == tag {
            let rest = body.get(at + line.len()..)?;
            return if rest.trim().is_empty() { body.get(..at) } else { None };
        }
        at += line.len();
    }
    Some(body)
}

/// The first word of a command and what is behind it.
fn word(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|&first| first == '\'' || first == '"');
    let (word, rest) = match quote {
        Some(quote) => text.get(1..)?.split_once(quote)?,
        None => text.split_at(text.find([' ', '\t', '&', ';', '|', '<', '>']).unwrap_or(text.len())),
    };
    let expanded = match quote {
        Some('\'') => false,
        Some(_) => word.contains(['$', '`', '\\']),
        None => {
            word.starts_with('~')
                || word.contains(['$', '`', '\\', '*', '?', '[', '(', ')', '\'', '"', '#', '!', '{'])
        }
    };
    // A quoted part that goes on unquoted is one word to a shell.
    let goes_on = quote.is_some() && rest.starts_with(|next: char| !next.is_whitespace() && next != '&');
    (!word.is_empty() && !expanded && !goes_on).then_some((word, rest))
}
