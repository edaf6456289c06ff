use proptest::prelude::*;

use super::*;

/// Few lines, so that they meet often, with what the matching forgives and what the syntax uses.
fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => proptest::sample::select(vec!["a", "b", "c", ""]),
        1 => proptest::sample::select(vec![" a", "a ", "it’s", "it's", "@@", "*** End of File", "*** End Patch", "+", "-"]),
    ]
    .prop_map(str::to_owned)
}

fn text() -> impl Strategy<Value = String> {
    (
        proptest::collection::vec((line(), proptest::sample::select(vec!["\n", "\n", "\r\n"])), 0..8),
        any::<bool>(),
    )
        .prop_map(|(lines, ended)| {
            let text: String =
                lines.into_iter().flat_map(|(line, ending)| [line, ending.to_owned()]).collect();
            if ended { text } else { text.trim_end_matches(['\r', '\n']).to_owned() }
        })
}

fn path() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec!["p", "q", "r", "d/e", "./p", "d/../q", "p/x", "d"])
}

fn chunk() -> impl Strategy<Value = String> {
    let sign = proptest::sample::select(vec![" ", " ", "-", "+"]);
    let lines = proptest::collection::vec((sign, line()), 1..4);
    let anchor = proptest::option::weighted(0.2, line());
    (anchor, lines, proptest::bool::weighted(0.2)).prop_map(|(anchor, lines, end_of_file)| {
        let mut text = anchor.map_or("@@\n".to_owned(), |anchor| format!("@@ {anchor}\n"));
        text.extend(lines.into_iter().map(|(sign, line)| format!("{sign}{line}\n")));
        if end_of_file {
            text.push_str("*** End of File\n");
        }
        text
    })
}

fn hunk() -> impl Strategy<Value = String> {
    prop_oneof![
        2 => (path(), proptest::collection::vec(line(), 0..4)).prop_map(|(path, lines)| {
            let lines: String = lines.into_iter().map(|line| format!("+{line}\n")).collect();
            format!("*** Add File: {path}\n{lines}")
        }),
        1 => path().prop_map(|path| format!("*** Delete File: {path}\n")),
        5 => (path(), proptest::option::weighted(0.2, path()), proptest::collection::vec(chunk(), 1..3)).prop_map(
            |(path, target, chunks)| {
                let target = target.map(|target| format!("*** Move to: {target}\n")).unwrap_or_default();
                format!("*** Update File: {path}\n{target}{}", chunks.concat())
            }
        ),
    ]
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_or_the_recogniser_panic(text in "\\PC{0,60}", lines in proptest::collection::vec("[*@+ \\-\t\r<'EOFa]{0,12}", 0..12)) {
        for text in [text, lines.join("\n"), patch(&lines.join("\n")), update_a(&lines.join("\n"))] {
            let _ = parse(&text);
            let _ = shell_form(&text);
            let _ = shell_form(&format!("apply_patch <<{text}"));
        }
    }

    #[test]
    fn a_patch_is_the_sequence_of_its_hunks(
        p in text(),
        q in text(),
        hunks in proptest::collection::vec(hunk(), 1..5),
    ) {
        let start = tree([("p", &p), ("q", &q), ("d/e", "a\nb\n")]);
        let directories = BTreeSet::from(["d".to_owned()]);

        let (mut whole, mut whole_directories) = (start.clone(), directories.clone());
        let at_once = apply_with(&patch(&hunks.concat()), &mut whole, &mut whole_directories);

        let (mut stepwise, mut stepwise_directories) = (start.clone(), directories);
        let one_by_one: Result<Vec<String>, String> =
            hunks.iter().map(|hunk| apply_with(&patch(hunk), &mut stepwise, &mut stepwise_directories)).collect();

        prop_assert_eq!(at_once.is_ok(), one_by_one.is_ok(), "{:?} {:?}", at_once, one_by_one);
        if at_once.is_ok() {
            prop_assert_eq!(whole, stepwise);
        } else {
            prop_assert_eq!(whole, start);
        }
    }

    #[test]
    fn lines_outside_the_chunks_stay(before in text(), after in text(), old in "[x-z]{1,3}", new in "[x-z]{1,3}") {
        let before = if before.is_empty() { before } else { format!("{}\n", before.trim_end()) };
        let mut files = tree([("a", &format!("{before}{old}\n{after}"))]);
        apply(&update_a(&format!("@@\n-{old}\n+{new}\n")), &mut files).expect("a unique line");
        let result = String::from_utf8(files["a"].clone()).expect("text");
        let ending = if before.contains('\n') && before.find("\r\n").is_some_and(|at| before.find('\n') == Some(at + 1)) { "\r\n" } else { "\n" };
        let after = if after.is_empty() || after.ends_with('\n') { after } else { format!("{after}{ending}") };
        prop_assert_eq!(result, format!("{before}{new}{ending}{after}"));
    }
}
