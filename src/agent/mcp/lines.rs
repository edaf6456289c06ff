//! Lines of a bounded length, cut from bytes that come in pieces.

/// A line is longer than the bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it wrote a line of more than {limit} bytes")]
pub struct LineTooLong {
    /// The bound, in bytes.
    pub limit: usize,
}

/// The line that is not yet ended.
#[derive(Debug)]
pub struct Lines {
    rest: Vec<u8>,
    limit: usize,
}

impl Lines {
    /// Lines of up to `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { rest: Vec::new(), limit }
    }

    /// Takes the next bytes and gives every line that they end, without its end.
    ///
    /// # Errors
    /// [`LineTooLong`]; no more can be read then.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, LineTooLong> {
        let mut lines = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            if self.rest.len() + text.len() > self.limit {
                return Err(LineTooLong { limit: self.limit });
            }
            self.rest.extend_from_slice(text);
            if ends {
                let mut line = std::mem::take(&mut self.rest);
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                lines.push(line);
            }
        }
        Ok(lines)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_the_bytes_are_cut(
            text in "[ab\r\n]{0,60}",
            cuts in proptest::collection::vec(0usize..60, 0..8),
        ) {
            let whole = Lines::new(100).push(text.as_bytes()).unwrap();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let mut lines = Lines::new(100);
            let mut pieces = Vec::new();
            for pair in cuts.windows(2) {
                pieces.extend(lines.push(&text.as_bytes()[pair[0]..pair[1]]).unwrap());
            }
            prop_assert_eq!(pieces, whole);
        }
    }

    #[test]
    fn a_line_over_the_bound_is_refused_wherever_it_is_cut() {
        assert_eq!(Lines::new(3).push(b"abc\r").unwrap_err(), LineTooLong { limit: 3 });
        let mut lines = Lines::new(3);
        assert_eq!(lines.push(b"abc\nab").unwrap(), [b"abc"]);
        assert!(lines.push(b"cd").is_err());
    }
}
