//! Output cut to what a model is given of it.

use crate::llm::{TOKEN_BYTES, tokens};

/// Most tokens of one tool output that reach the model, whatever it asks for: 40,000 bytes.
pub const OUTPUT_TOKENS: usize = 10_000;

/// Most tokens of the whole text that answers a call: 48,000 bytes. An output of [`OUTPUT_TOKENS`] and what is said about
/// it are always less.
pub const ANSWER_TOKENS: usize = 12_000;

/// What is kept of a process's output: the whole, or its beginning and its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Captured<'a> {
    /// The beginning; the whole output when nothing was dropped.
    pub head: &'a [u8],
    /// The end; empty when nothing was dropped.
    pub tail: &'a [u8],
    /// Bytes dropped between the two.
    pub omitted: u64,
}

impl Captured<'_> {
    /// Estimated tokens of the whole output, dropped bytes included.
    pub fn tokens(&self) -> u64 {
        tokens(self.kept() as u64 + self.omitted)
    }

    /// The text for the model, of at most `max_tokens` and [`OUTPUT_TOKENS`] without the notes that say what
    /// is missing. Bytes that are no UTF-8 become U+FFFD.
    pub fn text(&self, max_tokens: usize) -> String {
        let mut bytes = Vec::with_capacity(self.kept());
        bytes.extend_from_slice(self.head);
        if self.omitted > 0 {
            bytes.extend_from_slice(format!("\n{}\n", omission(self.omitted)).as_bytes());
        }
        bytes.extend_from_slice(self.tail);
        let text = String::from_utf8_lossy(&bytes);
        let Some(shortened) = shorten(&text, max_tokens.min(OUTPUT_TOKENS)) else {
            return text.into_owned();
        };
        let (original, second) = match self.omitted {
            0 => (tokens(text.len() as u64), format!("Total output lines: {}", text.lines().count())),
            omitted => (self.tokens(), omission(omitted)),
        };
        format!("Warning: truncated output (original token count: {original})\n{second}\n\n{shortened}")
    }

    fn kept(&self) -> usize {
        self.head.len() + self.tail.len()
    }
}

/// The first and the last half of what `max_tokens` allow and a marker between them; `None` when the text fits.
pub fn shorten(text: &str, max_tokens: usize) -> Option<String> {
    let budget = max_tokens.saturating_mul(TOKEN_BYTES as usize);
    if text.len() <= budget {
        return None;
    }
    let half = budget / 2;
    let head = text.floor_char_boundary(half);
    let tail = text.ceil_char_boundary(text.len() - half);
    let removed = tokens(text.len() as u64) - max_tokens as u64;
    Some(format!("{}…{removed} tokens truncated…{}", text.get(..head)?, text.get(tail..)?))
}

fn omission(bytes: u64) -> String {
    format!("... {bytes} bytes omitted ...")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole(text: &str, max_tokens: usize) -> String {
        Captured { head: text.as_bytes(), ..Captured::default() }.text(max_tokens)
    }

    #[test]
    fn forty_thousand_bytes_pass_and_one_more_does_not() {
        let limit = "x".repeat(40_000);
        assert_eq!(whole(&limit, 1_000_000), limit);
        let half = "x".repeat(20_000);
        assert_eq!(
            whole(&"x".repeat(40_001), 1_000_000),
            format!(
                "Warning: truncated output (original token count: 10001)\nTotal output lines: 1\n\n\
                 {half}…1 tokens truncated…{half}"
            )
        );
    }

    #[test]
    fn observed_cases() {
        let numbers = |to: u32| (1..=to).map(|n| format!("{n}\n")).collect::<String>();
        for (text, max_tokens, expected) in [
            (
                numbers(20),
                0,
                "Warning: truncated output (original token count: 13)\nTotal output lines: 20\n\n\
                 …13 tokens truncated…",
            ),
            (
                numbers(200),
                10,
                "Warning: truncated output (original token count: 173)\nTotal output lines: 200\n\n\
                 1\n2\n3\n4\n5\n6\n7\n8\n9\n10…163 tokens truncated…196\n197\n198\n199\n200\n",
            ),
            (
                "é".repeat(30),
                3,
                "Warning: truncated output (original token count: 15)\nTotal output lines: 1\n\n\
                 ééé…12 tokens truncated…ééé",
            ),
            (
                "€".repeat(20),
                2,
                "Warning: truncated output (original token count: 15)\nTotal output lines: 1\n\n\
                 €…13 tokens truncated…€",
            ),
            (
                "a\nb\n\nc".to_owned(),
                1,
                "Warning: truncated output (original token count: 2)\nTotal output lines: 4\n\n\
                 a\n…1 tokens truncated…\nc",
            ),
        ] {
            assert_eq!(whole(&text, max_tokens), expected);
        }
    }

    #[test]
    fn invalid_utf8_is_replaced_and_counted_as_replaced() {
        assert_eq!(Captured { head: b"\xff\xfeab", ..Captured::default() }.text(10), "\u{fffd}\u{fffd}ab");
        let noise = Captured { head: &[0xff; 13_334], ..Captured::default() };
        assert_eq!(noise.tokens(), 3_334);
        let half = "\u{fffd}".repeat(6_666);
        assert_eq!(
            noise.text(OUTPUT_TOKENS),
            format!(
                "Warning: truncated output (original token count: 10001)\nTotal output lines: 1\n\n\
                 {half}…1 tokens truncated…{half}"
            )
        );
    }

    #[test]
    fn dropped_bytes_stand_in_the_place_of_the_line_count() {
        let half = "abcdefg\n".repeat(65_536);
        let captured = Captured { head: half.as_bytes(), tail: half.as_bytes(), omitted: 1_951_424 };
        assert_eq!(captured.tokens(), 750_000);
        let shown = "abcdefg\n".repeat(5);
        assert_eq!(
            captured.text(20),
            format!(
                "Warning: truncated output (original token count: 750000)\n... 1951424 bytes omitted ...\n\n\
                 {shown}…262132 tokens truncated…{shown}"
            )
        );
    }

    #[test]
    fn text_that_fits_is_untouched_also_when_empty() {
        for text in ["", "a\r\n\0\u{1b}[31mb", "é"] {
            assert_eq!(whole(text, OUTPUT_TOKENS), text);
        }
    }

    proptest! {
        #[test]
        fn never_more_than_the_budget_and_always_from_both_ends(text in ".{0,400}", max_tokens in 0usize..60) {
            let shown = whole(&text, max_tokens);
            if text.len() <= max_tokens * 4 {
                prop_assert_eq!(shown, text);
            } else {
                let (_, shortened) = shown.split_once("\n\n").expect("notes and text");
                let removed = tokens(text.len() as u64) - max_tokens as u64;
                let marker = format!("…{removed} tokens truncated…");
                prop_assert!(shortened.len() <= max_tokens * 4 + marker.len());
                let at = (0..=shortened.len())
                    .filter(|&at| shortened.is_char_boundary(at))
                    .find(|&at| {
                        shortened[at..].starts_with(&marker)
                            && text.starts_with(&shortened[..at])
                            && text.ends_with(&shortened[at + marker.len()..])
                    });
                let at = at.expect("a marker between a beginning and an end of the text");
                // A character has at most four bytes, so a half is short of its budget by less.
                prop_assert!(max_tokens * 2 - at < 4);
                prop_assert!(max_tokens * 2 - (shortened.len() - at - marker.len()) < 4);
            }
        }

        #[test]
        fn any_bytes_give_text(
            head in proptest::collection::vec(any::<u8>(), 0..200),
            tail in proptest::collection::vec(any::<u8>(), 0..200),
            omitted in 0u64..5,
            max_tokens in 0usize..40,
        ) {
            let captured = Captured { head: &head, tail: &tail, omitted };
            let shown = captured.text(max_tokens);
            prop_assert!(shown.len() <= max_tokens * 4 + 200);
        }
    }
}
