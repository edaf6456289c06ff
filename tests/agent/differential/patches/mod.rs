//! Generated files and patches: what our `apply_patch` makes of them, and what the reference agent's program does under
//! that name. The program is not atomic, so what it leaves behind is compared where it succeeds.

mod dice;
mod generate;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use podwright::agent::tools::apply_patch::{FileBefore, Place, parse};
use tempfile::TempDir;

use self::generate::Case;
use self::verdict::{difference, same};
use super::differences::Differences;
use super::reference::Patcher;

/// Cases that `make test` runs: some ten seconds.
const CASES: u64 = 600;

/// Cases further on that have once found something; `make test` runs them as well.
const ONCE_FOUND: [u64; 4] = [2_235, 3_825, 12_565, 15_627];

/// Cases of the long form.
const LONG_CASES: u64 = 24_000;

/// Mismatches that are shown; the first ones say enough.
const SHOWN: usize = 10;

/// A directory tree: relative paths of files and their content.
pub(crate) type Tree = BTreeMap<String, Vec<u8>>;

/// What became of a patch: the tree and the lines that say what was done, or why nothing was.
pub(crate) type Applied = Result<(Tree, String), String>;

#[test]
fn patches_come_to_what_they_do_at_the_reference_agent() {
    let list = Differences::read();
    let long = std::env::var_os("PODWRIGHT_TEST_LONG").is_some();
    let numbers: Vec<u64> =
        if long { (0..LONG_CASES).collect() } else { (0..CASES).chain(ONCE_FOUND).collect() };
    let cases = numbers.len() as u64;
    let next = AtomicUsize::new(0);
    let occurred = Mutex::new(BTreeMap::<&str, u64>::new());
    let succeeded = AtomicU64::new(0);
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                let patcher = Patcher::new();
                while let Some(&number) = numbers.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if wrong.lock().unwrap().len() >= SHOWN {
                        break;
                    }
                    let case = Case::new(number);
                    let (reference, ours) = (by_reference(&patcher, &case), by_us(&case));
                    succeeded.fetch_add(u64::from(reference.is_ok()), Ordering::Relaxed);
                    if same(&reference, &ours) {
                        continue;
                    }
                    match difference(&case, &reference, &ours) {
                        Some(name) => *occurred.lock().unwrap().entry(name).or_default() += 1,
                        None => wrong.lock().unwrap().push(shown(number, &case, &reference, &ours)),
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let succeeded = succeeded.into_inner();
    assert!(succeeded > cases / 4 && succeeded < cases * 3 / 4, "{succeeded} of {cases} patches apply");
    let occurred = occurred.into_inner().unwrap();
    println!("{cases} patches, of which {succeeded} apply; intended differences: {occurred:?}");
    let listed: BTreeSet<&str> = list.patches.iter().map(|listed| listed.name.as_str()).collect();
    let found: BTreeSet<&str> = occurred.into_keys().collect();
    assert_eq!(found, listed, "found, and listed in differences.yaml");
}

fn by_reference(patcher: &Patcher, case: &Case) -> Applied {
    let directory = TempDir::new().unwrap();
    for (path, content) in &case.files {
        let path = directory.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let output = patcher.apply(directory.path(), &case.patch);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    if output.status.success() {
        Ok((read(directory.path()), text(output.stdout)))
    } else {
        Err(text(output.stderr).replace(directory.path().to_str().unwrap(), ROOT))
    }
}

fn read(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap()) {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                tree.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    tree
}

/// Where our files are said to be.
pub(crate) const ROOT: &str = "/root-of-the-case";

fn by_us(case: &Case) -> Applied {
    let place = Place { root: ROOT, cwd: ROOT };
    let patch = parse(&case.patch).map_err(|error| error.to_string())?;
    let paths = patch.paths_to_read(place).map_err(|error| error.to_string())?;
    let files = paths.into_iter().map(|path| (path.clone(), before(&case.files, &path))).collect();
    let changes = patch.changes(place, &files).map_err(|error| error.to_string())?;
    let mut tree = case.files.clone();
    for change in changes.files {
        match change.content {
            Some(content) => tree.insert(change.path, content),
            None => tree.remove(&change.path),
        };
    }
    let told = changes.summary.success(std::time::Duration::ZERO);
    let (_, lines) = told.split_once("Output:\n").unwrap();
    Ok((tree, lines.to_owned()))
}

/// What a reader finds at a path.
fn before(tree: &Tree, path: &str) -> FileBefore {
    let above = |path: &str, other: &str| other.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
    if let Some(content) = tree.get(path) {
        FileBefore::File { content: content.clone(), executable: false }
    } else if tree.keys().any(|file| above(file, path)) {
        FileBefore::Unreadable("Not a directory (os error 20)".to_owned())
    } else if path.is_empty() || tree.keys().any(|file| above(path, file)) {
        FileBefore::NotAFile
    } else {
        FileBefore::Absent
    }
}

fn shown(number: u64, case: &Case, reference: &Applied, ours: &Applied) -> String {
    let tree = |tree: &Tree| {
        let files = tree
            .iter()
            .map(|(path, content)| format!("    {path}: {:?}\n", String::from_utf8_lossy(content)));
        files.collect::<String>()
    };
    let side = |applied: &Applied| match applied {
        Ok((files, told)) => format!("{told:?}\n{}", tree(files)),
        Err(why) => format!("{why:?}\n"),
    };
    format!(
        "case {number}:\n{}\n  files before:\n{}  reference: {}  ours: {}",
        case.patch,
        tree(&case.files),
        side(reference),
        side(ours)
    )
}
