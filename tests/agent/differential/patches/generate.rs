//! Cases: some files, and a patch that a model could have written for them, more or less well.

use super::Tree;
use super::dice::Dice;

/// Paths of files. Some lie in each other's directories.
const PATHS: [&str; 6] = ["a", "b.txt", "d/c", "d/e/f", "with space", "ü"];

/// Paths that only patches name: new ones, odd ways to write old ones, and files where directories are or the other way
/// round.
const FURTHER_PATHS: [&str; 7] = ["new", "d/new", "n/e/w", "./a", "d/../a", "d", "a/below"];

/// Lines of files and patches. Few, so that they repeat; some look alike, and some look like a patch.
const LINES: [&str; 24] = [
    "",
    "one",
    "two",
    "three",
    "  two",
    "two  ",
    "\ttwo",
    "}",
    "fn main() {",
    "    return 1;",
    "\"quoted\"",
    "\u{201c}quoted\u{201d}",
    "it's",
    "it\u{2019}s",
    "a - b",
    "a \u{2013} b",
    "a\u{a0}b",
    "a b",
    "+plus",
    "-minus",
    " blank",
    "@@ at",
    "*** End of File",
    "\u{1f600} \u{e9}",
];

/// Lines that mean something in a patch.
const MARKERS: [&str; 14] = [
    "*** Begin Patch",
    "*** End Patch",
    "*** End of File",
    "*** Update File: a",
    "*** Add File: new",
    "*** Delete File: a",
    "*** Move to: moved",
    "*** Environment ID: main",
    "*** update file: a",
    "*** Update File:a",
    "@@",
    "@@ one",
    "@@ -1,2 +1,2 @@",
    "text",
];

/// Files and a patch.
pub(crate) struct Case {
    pub(crate) files: Tree,
    pub(crate) patch: String,
}

impl Case {
    /// The case of a number: always the same.
    pub(crate) fn new(number: u64) -> Self {
        let mut dice = Dice::new(number);
        let files = files(&mut dice);
        let mut lines = vec!["*** Begin Patch".to_owned()];
        for _ in 0..=dice.of(&[0, 0, 0, 1, 1, 2]) {
            hunk(&mut dice, &files, &mut lines);
        }
        lines.push("*** End Patch".to_owned());
        if dice.percent(30) {
            for _ in 0..=dice.below(2) {
                spoil(&mut dice, &mut lines);
            }
        }
        Self { files, patch: framed(&mut dice, &lines) }
    }
}

fn files(dice: &mut Dice) -> Tree {
    let mut files = Tree::new();
    for path in PATHS {
        if dice.percent(45) {
            files.insert(path.to_owned(), content(dice));
        }
    }
    files
}

fn content(dice: &mut Dice) -> Vec<u8> {
    if dice.percent(3) {
        return vec![b'a', 0xff, b'\n'];
    }
    let (carriage_returns, last_newline) = (dice.of(&[0, 0, 0, 50, 100, 100]), dice.percent(75));
    let mut content = String::new();
    let count = dice.below(9);
    for number in 0..count {
        content.push_str(dice.of(&LINES));
        if number + 1 < count || last_newline {
            content.push_str(if dice.percent(carriage_returns) { "\r\n" } else { "\n" });
        }
    }
    content.into_bytes()
}

fn hunk(dice: &mut Dice, files: &Tree, lines: &mut Vec<String>) {
    let path = path(dice, files);
    match dice.below(10) {
        0 | 1 => {
            lines.push(format!("*** Add File: {path}"));
            for _ in 0..dice.below(4) {
                lines.push(format!("+{}", dice.of(&LINES)));
            }
        }
        2 => lines.push(format!("*** Delete File: {path}")),
        _ => {
            lines.push(format!("*** Update File: {path}"));
            if dice.percent(12) {
                lines.push(format!("*** Move to: {}", self::path(dice, files)));
            }
            let plain = path.trim_start_matches("./");
            let text = files.get(plain).map(|content| String::from_utf8_lossy(content).into_owned());
            chunks(dice, &text.unwrap_or_default(), lines);
        }
    }
}

/// Mostly one of a file that is there.
fn path(dice: &mut Dice, files: &Tree) -> String {
    let present: Vec<&String> = files.keys().collect();
    if !present.is_empty() && dice.percent(85) {
        dice.of(&present).clone()
    } else if dice.percent(60) {
        dice.of(&PATHS).to_owned()
    } else {
        dice.of(&FURTHER_PATHS).to_owned()
    }
}

/// Chunks for a text: from its own lines, in order more often than not.
fn chunks(dice: &mut Dice, text: &str, lines: &mut Vec<String>) {
    let file: Vec<&str> = text.lines().collect();
    let mut from = 0;
    for number in 0..dice.of(&[1, 1, 1, 2, 2, 3]) {
        if dice.percent(8) {
            from = 0;
        }
        let begins = from + dice.below((file.len().saturating_sub(from)).clamp(1, 4));
        let ends = (begins + dice.below(4)).min(file.len());
        match dice.below(10) {
            0..=2 if begins > 0 && begins <= file.len() => {
                let above = file[dice.below(begins)];
                lines.push(format!("@@ {}", alike(dice, above)));
            }
            3 if number == 0 => {}
            _ => lines.push("@@".to_owned()),
        }
        for line in file.get(begins..ends).unwrap_or_default() {
            let line = if dice.percent(12) { alike(dice, line) } else { (*line).to_owned() };
            match dice.below(10) {
                0..=3 => lines.push(format!("-{line}")),
                4 if line.is_empty() => lines.push(String::new()),
                _ => lines.push(format!(" {line}")),
            }
            if dice.percent(25) {
                lines.push(format!("+{}", dice.of(&LINES)));
            }
        }
        if begins >= ends || dice.percent(40) {
            lines.push(format!("+{}", dice.of(&LINES)));
        }
        if dice.percent(6) {
            lines.push(String::new());
        }
        if ends == file.len() && dice.percent(25) || dice.percent(3) {
            lines.push("*** End of File".to_owned());
        }
        from = ends;
    }
}

/// A line as a model may remember it.
fn alike(dice: &mut Dice, line: &str) -> String {
    match dice.below(7) {
        0 => line.trim().to_owned(),
        1 => line.trim_end().to_owned(),
        2 => format!("{line}  "),
        3 => format!("  {line}"),
        4 => line.replace(['\u{201c}', '\u{201d}'], "\"").replace('\u{2019}', "'").replace('\u{a0}', " "),
        5 => line.replace('\u{2013}', "-").replace('"', "\u{201c}"),
        _ => dice.of(&LINES).to_owned(),
    }
}

/// Makes a patch worse by one line.
fn spoil(dice: &mut Dice, lines: &mut Vec<String>) {
    let at = dice.below(lines.len());
    match dice.below(8) {
        0 => drop(lines.remove(at)),
        1 => lines.insert(at, lines[at].clone()),
        2 => lines.swap(at, 0),
        3 | 4 => lines.insert(at, dice.of(&MARKERS).to_owned()),
        5 => lines[at].push(' '),
        6 => lines[at].insert(0, ' '),
        _ => lines[at] = dice.of(&LINES).to_owned(),
    }
    if lines.is_empty() {
        lines.push(String::new());
    }
}

/// The text, mostly as it should be.
fn framed(dice: &mut Dice, lines: &[String]) -> String {
    let patch = lines.join("\n");
    match dice.below(40) {
        0 => lines.join("\r\n"),
        1 => format!("<<'EOF'\n{patch}\nEOF"),
        2 => format!("<<EOF\n{patch}\nEOF\n"),
        3 => format!("```\n{patch}\n```"),
        4 => format!("\n\n  {patch}\n\n"),
        5 => format!("Here it is:\n{patch}"),
        6..=20 => format!("{patch}\n"),
        _ => patch,
    }
}

#[test]
fn a_number_is_always_the_same_case() {
    for number in 0..50 {
        let (one, other) = (Case::new(number), Case::new(number));
        assert_eq!((one.patch, one.files), (other.patch, other.files));
    }
    assert_ne!(Case::new(1).patch, Case::new(2).patch);
}
