//! Paths of the sandbox as text: resolved by their letters alone, since the agent never walks them itself.

/// The absolute path that `path` means in the directory `base` (absolute): `.`, `..` and empty parts are
/// resolved lexically, so a link is *not* followed. `..` above `/` stays at `/`.
pub fn resolve(base: &str, path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let base = if path.starts_with('/') { "" } else { base };
    for part in base.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// `path` relative to `root`, both absolute and resolved; empty for the root itself, `None` outside it.
pub fn beneath<'p>(root: &str, path: &'p str) -> Option<&'p str> {
    let rest = path.strip_prefix(root.trim_end_matches('/'))?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolves_by_letters() {
        for (base, path, expected) in [
            ("/workspace/main", "a/b", "/workspace/main/a/b"),
            ("/workspace/main", "./a//b/", "/workspace/main/a/b"),
            ("/workspace/main", "", "/workspace/main"),
            ("/workspace/main", "..", "/workspace"),
            ("/workspace/main", "a/../../x", "/workspace/x"),
            ("/workspace/main", "../../../../x", "/x"),
            ("/workspace/main", "/etc/passwd", "/etc/passwd"),
            ("/workspace/main", "/workspace/main/../main/a", "/workspace/main/a"),
            ("/", "a", "/a"),
        ] {
            assert_eq!(resolve(base, path), expected, "{base} + {path}");
        }
    }

    #[test]
    fn a_sibling_with_the_same_beginning_is_outside() {
        assert_eq!(beneath("/workspace/main", "/workspace/main"), Some(""));
        assert_eq!(beneath("/workspace/main", "/workspace/main/a/b"), Some("a/b"));
        assert_eq!(beneath("/workspace/main", "/workspace/main2/a"), None);
        assert_eq!(beneath("/workspace/main", "/workspace"), None);
        assert_eq!(beneath("/", "/a"), Some("a"));
    }
}
