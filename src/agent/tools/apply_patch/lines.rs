//! A text as lines.

/// A text cut into lines at `\n`, `\r\n` and `\r`. Holds eight bytes a line, so that a file of nothing but
/// line feeds costs no more than eight times itself.
pub(super) struct Lines<'t> {
    text: &'t str,
    /// Where each line begins, and where the last one ends.
    bounds: Vec<usize>,
}

impl<'t> Lines<'t> {
    pub(super) fn of(text: &'t str) -> Self {
        let bytes = text.as_bytes();
        let mut bounds = vec![0];
        bounds.extend(bytes.iter().enumerate().filter_map(|(at, &byte)| {
            let ends = byte == b'\n' || byte == b'\r' && bytes.get(at + 1) != Some(&b'\n');
            ends.then_some(at + 1)
        }));
        if bounds.last() != Some(&text.len()) {
            bounds.push(text.len());
        }
        Self { text, bounds }
    }

    pub(super) fn text(&self) -> &'t str {
        self.text
    }

    pub(super) fn len(&self) -> usize {
        self.bounds.len() - 1
    }

    /// The line without its ending; empty beyond the last one.
    pub(super) fn line(&self, index: usize) -> &'t str {
        let whole = self.whole(index);
        whole.trim_end_matches(['\n', '\r'])
    }

    /// The line's ending: `\n`, `\r\n`, `\r`, or nothing.
    pub(super) fn ending(&self, index: usize) -> &'t str {
        let whole = self.whole(index);
        whole.get(self.line(index).len()..).unwrap_or_default()
    }

    fn whole(&self, index: usize) -> &'t str {
        let bounds = self.bounds.get(index).zip(self.bounds.get(index + 1));
        bounds.and_then(|(&from, &to)| self.text.get(from..to)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_kind_of_ending() {
        let lines = Lines::of("a\nb\r\n\rc\r\r\n\n\nd");
        let all: Vec<_> = (0..lines.len()).map(|index| (lines.line(index), lines.ending(index))).collect();
        assert_eq!(
            all,
            [
                ("a", "\n"),
                ("b", "\r\n"),
                ("", "\r"),
                ("c", "\r"),
                ("", "\r\n"),
                ("", "\n"),
                ("", "\n"),
                ("d", "")
            ]
        );
        assert_eq!(Lines::of("").len(), 0);
        assert_eq!(Lines::of("a\n").len(), 1);
    }

    proptest! {
        #[test]
        fn nothing_is_lost(text in "[ab\r\n\u{e9}]{0,40}") {
            let lines = Lines::of(&text);
            let joined: String = (0..lines.len()).flat_map(|at| [lines.line(at), lines.ending(at)]).collect();
            prop_assert_eq!(joined, text);
        }
    }
}
