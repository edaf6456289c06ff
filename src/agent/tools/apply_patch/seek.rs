//! Where a sequence of lines is in a file.

use super::lines::Lines;

/// Whether two lines count as equal.
type Same = fn(&str, &str) -> bool;

/// Ways to compare two lines, from strict to lenient.
const PASSES: [Same; 4] = [
    |have, want| have == want,
    |have, want| have.trim_end() == want.trim_end(),
    |have, want| have.trim() == want.trim(),
    |have, want| have.trim().chars().map(to_ascii).eq(want.trim().chars().map(to_ascii)),
];

/// Lines that may be looked at for one file: ten times what the largest patch for a file of 10 MB takes, and a second of a
/// processor. Each chunk whose lines are nearly right is looked for in the whole file, and a patch may have thousands.
pub(super) const LOOKS_MAX: usize = 100_000_000;

/// The index of the first line, not before `from`, where `pattern` begins; with `at_end` only the place where
/// it reaches the end. The whole file is searched in one way before a more lenient one is tried, so that a
/// near miss never hides an exact match further down. An empty pattern is at `from`. `looks` is how many lines may be
/// looked at, and less each time; nothing is found once it is 0.
pub(super) fn seek(
    lines: &Lines<'_>,
    pattern: &[&str],
    from: usize,
    at_end: bool,
    looks: &mut usize,
) -> Option<usize> {
    if pattern.is_empty() {
        return Some(from);
    }
    let last = lines.len().checked_sub(pattern.len())?;
    let from = if at_end { last.max(from) } else { from };
    PASSES.iter().find_map(|&same| first_match(lines, pattern, from, same, looks))
}

/// Knuth, Morris and Pratt: linear, so that a patch of many equal lines for a file of many equal lines, which
/// a model may be talked into, costs no more than any other. Each way to compare is an equivalence.
fn first_match(
    lines: &Lines<'_>,
    pattern: &[&str],
    from: usize,
    same: Same,
    looks: &mut usize,
) -> Option<usize> {
    // borders[n]: length of the longest proper prefix of the first n + 1 lines that also ends them.
    let mut borders = vec![0; pattern.len()];
    let advance = |borders: &[usize], mut matched: usize, line: &str| {
        while matched > 0 && !same(line, pattern[matched]) {
            matched = borders[matched - 1];
        }
        if same(line, pattern[matched]) { matched + 1 } else { 0 }
    };
    for at in 1..pattern.len() {
        borders[at] = advance(&borders, borders[at - 1], pattern[at]);
    }
    let mut matched = 0;
    for at in from..lines.len() {
        let line = lines.line(at);
        // A long line takes longer to compare.
        *looks = looks.saturating_sub(1 + line.len() / 64);
        if *looks == 0 {
            return None;
        }
        matched = advance(&borders, matched, line);
        if matched == pattern.len() {
            return Some(at + 1 - matched);
        }
    }
    None
}

/// Typographic dashes, quotes and spaces, as they get into text that passed through an editor or a model,
/// in plain form.
fn to_ascii(character: char) -> char {
    match character {
        '\u{2010}'..='\u{2015}' | '\u{2212}' => '-',
        '\u{2018}'..='\u{201b}' => '\'',
        '\u{201c}'..='\u{201f}' => '"',
        '\u{a0}' | '\u{2002}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}' => ' ',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(file: &[&str], pattern: &[&str], from: usize, at_end: bool) -> Option<usize> {
        seek(&Lines::of(&file.join("\n")), pattern, from, at_end, &mut 1000)
    }

    #[test]
    fn an_exact_match_further_down_wins_over_a_near_one() {
        assert_eq!(find(&["one ", "one"], &["one"], 0, false), Some(1));
        assert_eq!(find(&[" one", "one "], &["one"], 0, false), Some(1));
        assert_eq!(find(&["\u{2013}", " -"], &["-"], 0, false), Some(1));
    }

    #[test]
    fn each_pass_forgives_more() {
        assert_eq!(find(&["\tx  "], &["\tx"], 0, false), Some(0));
        assert_eq!(find(&["\tx  "], &["  x"], 0, false), Some(0));
        assert_eq!(
            find(&["it\u{2019}s \u{2014} \u{201c}q\u{201d}\u{a0}z"], &["it's - \"q\" z"], 0, false),
            Some(0)
        );
        assert_eq!(find(&["X"], &["x"], 0, false), None);
    }

    #[test]
    fn nothing_before_the_cursor_and_nothing_past_the_end() {
        assert_eq!(find(&["a", "b"], &["a"], 1, false), None);
        assert_eq!(find(&["a"], &["a", "b"], 0, false), None);
        assert_eq!(find(&["a"], &[], 1, false), Some(1));
        assert_eq!(find(&["a"], &["a"], 5, false), None);
    }

    #[test]
    fn no_more_is_looked_at_than_may_be() {
        let lines = Lines::of("a\nb\nc\nd");
        let mut looks = 10;
        assert_eq!(seek(&lines, &["c"], 0, false, &mut looks), Some(2));
        assert_eq!(looks, 7);
        assert_eq!(seek(&Lines::of(&"x".repeat(64)), &["y"], 0, true, &mut 9), None);
        assert_eq!(seek(&lines, &["x"], 0, false, &mut looks), None);
        assert_eq!(looks, 0);
        assert_eq!(seek(&lines, &["a"], 0, false, &mut looks), None);
    }

    #[test]
    fn at_the_end_means_only_there() {
        assert_eq!(find(&["x", "x"], &["x"], 0, true), Some(1));
        assert_eq!(find(&["x", "y"], &["x"], 0, true), None);
        assert_eq!(find(&["x", "y"], &["y"], 2, true), None);
    }
}
