//! Lines of code as a search sees them: a `use` with braces says no path in full.

/// The lines with each `use` as one line for each path that it names, which has the number of its first line.
pub(crate) fn spelt_out(lines: Vec<(usize, &str)>) -> Vec<(usize, String)> {
    let mut spelt = Vec::new();
    let mut lines = lines.into_iter();
    while let Some((number, line)) = lines.next() {
        let Some((_, tree)) = line.split_once("use ").filter(|(before, _)| begins_a_use(before)) else {
            spelt.push((number, line.to_owned()));
            continue;
        };
        let mut tree = tree.to_owned();
        while !tree.contains(';') {
            let Some((_, more)) = lines.next() else { break };
            tree.push_str(more.trim());
        }
        let tree = tree.split(';').next().unwrap_or_default();
        spelt.extend(alternatives(tree).into_iter().map(|path| (number, format!("use {path};"))));
    }
    spelt
}

/// What may stand before the word: nothing, or a visibility.
fn begins_a_use(before: &str) -> bool {
    let before = before.trim();
    before.is_empty() || before == "pub" || (before.starts_with("pub(") && before.ends_with(')'))
}

/// `a::{b, c::{d, self}}` as `a::b`, `a::c::d` and `a::c::self`.
pub(crate) fn alternatives(tree: &str) -> Vec<String> {
    let Some((before, rest)) = tree.split_once('{') else { return vec![tree.trim().to_owned()] };
    let inside = rest.trim_end().strip_suffix('}').expect("the braces of a use are its end");
    let mut depth = 0_i32;
    let parts = inside.split(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    let parts = parts.map(str::trim).filter(|part| !part.is_empty());
    parts.flat_map(|part| alternatives(&format!("{}{part}", before.trim()))).collect()
}

#[test]
fn a_use_is_spelt_out_and_all_else_is_kept() {
    let text = "use a::b;\nfn c() {}\n    pub(crate) use a::{\n    b, c::{d,\n    self},\n};\nlet user = \"use {}\";";
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line)).collect();
    let expected = [
        (1, "use a::b;"),
        (2, "fn c() {}"),
        (3, "use a::b;"),
        (3, "use a::c::d;"),
        (3, "use a::c::self;"),
        (7, "let user = \"use {}\";"),
    ];
    assert_eq!(spelt_out(lines), expected.map(|(number, line)| (number, line.to_owned())));
}
