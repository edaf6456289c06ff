//! The repositories: what each is called, what becomes of it, and how it is made.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::Expected::{self, Harmless, Refused, There};
use super::Maker;

/// The longest name that Linux takes is 255 bytes.
const TOO_LONG: usize = 300;

/// One repository.
pub(super) type Case = (&'static str, Expected, fn(&Maker));

pub(super) const LOOKALIKES: &[Case] = &[
    (".git", Refused("damaged or harmful"), |m| m.serve_one("40000", b".git", &m.trap(b"config"))),
    (".GIT", Refused("damaged or harmful"), |m| m.serve_one("40000", b".GIT", &m.trap(b"config"))),
    (".Git in a directory", Refused("damaged or harmful"), |m| {
        let inner = m.tree(&[("40000", b".Git", &m.trap(b"hooks"))]);
        m.serve_one("40000", b"sub", &inner);
    }),
    ("git~1", Refused("damaged or harmful"), |m| m.serve_one("40000", b"git~1", &m.trap(b"config"))),
    ("GIT~1", Refused("damaged or harmful"), |m| m.serve_one("40000", b"GIT~1", &m.trap(b"config"))),
    (".git and a space", Refused("damaged or harmful"), |m| {
        m.serve_one("40000", b".git ", &m.trap(b"config"))
    }),
    (".git and a dot", Refused("damaged or harmful"), |m| m.serve_one("40000", b".git.", &m.trap(b"config"))),
    (".git as a stream", Refused("damaged or harmful"), |m| {
        m.serve_one("40000", b".git::$INDEX_ALLOCATION", &m.trap(b"config"));
    }),
    (".git with a joiner", Refused("damaged or harmful"), |m| {
        m.serve_one("40000", ".g\u{200c}it".as_bytes(), &m.trap(b"config"));
    }),
    (".git with a mark", Refused("damaged or harmful"), |m| {
        m.serve_one("40000", ".gi\u{feff}t".as_bytes(), &m.trap(b"config"));
    }),
    (".git behind a backslash", Refused("damaged or harmful"), |m| {
        m.serve_one("100644", b"a\\.git\\config", &m.blob(m.configuration()));
    }),
    (".git as a file", Refused("damaged or harmful"), |m| {
        m.serve_one("100644", b".git", &m.blob(format!("gitdir: {}\n", m.secret.display())));
    }),
    ("..", Refused("damaged or harmful"), |m| m.serve_one("40000", b"..", &m.trap(b"escaped"))),
    (".", Refused("damaged or harmful"), |m| m.serve_one("40000", b".", &m.trap(b"x"))),
    ("a slash in a name", Refused("damaged or harmful"), |m| {
        m.serve_one("100644", b"../escaped", &m.blob("x"))
    }),
    ("no name", Refused(""), |m| m.serve_one("100644", b"", &m.blob("x"))),
];

pub(super) const MODULES: &[Case] = &[
    (".gitmodules as a link", Refused("damaged or harmful"), |m| {
        m.serve_one("120000", b".gitmodules", &m.blob(m.secret.join("key").to_str().unwrap()));
    }),
    ("its short name as a link", Refused("damaged or harmful"), |m| {
        m.serve_one("120000", b"GITMOD~1", &m.blob("elsewhere"));
    }),
    ("a URL that is an option", Refused("damaged or harmful"), |m| {
        m.modules("[submodule \"s\"]\n\tpath = sub\n\turl = -u./payload\n");
    }),
    ("a path that is an option", Refused("damaged or harmful"), |m| {
        m.modules("[submodule \"s\"]\n\tpath = -sub\n\turl = https://example.com/x\n");
    }),
    ("a name that climbs", Refused("damaged or harmful"), |m| {
        m.modules("[submodule \"../../hooks\"]\n\tpath = sub\n\turl = https://example.com/x\n");
    }),
    ("an update that is a command", Refused("damaged or harmful"), |m| {
        m.modules(&format!(
            "[submodule \"s\"]\n\tpath = sub\n\turl = https://example.com/x\n\tupdate = !touch {}\n",
            m.marker.display()
        ));
    }),
    ("a URL with a line break", Refused("damaged or harmful"), |m| {
        m.modules("[submodule \"s\"]\n\tpath = sub\n\turl = \"https://example.com/x\\n[core]\"\n");
    }),
    ("a module by ext", There("sub"), |m| {
        m.modules(&format!(
            "[submodule \"s\"]\n\tpath = sub\n\turl = ext::sh -c touch% {}\n",
            m.marker.display()
        ));
    }),
    ("a module from a file", There("sub"), |m| {
        m.modules(&format!("[submodule \"s\"]\n\tpath = sub\n\turl = file://{}\n", m.secret.display()));
    }),
    ("a module without a list", There("sub"), |m| m.serve_one("160000", b"sub", &"1".repeat(40))),
];

pub(super) const OBJECTS: &[Case] = &[
    ("twice the same name", Refused("damaged or harmful"), |m| {
        let link = m.blob(m.secret.to_str().unwrap());
        m.serve(&m.tree(&[("120000", b"d", &link), ("40000", b"d", &m.trap(b"key"))]));
    }),
    ("names out of order", Refused("damaged or harmful"), |m| {
        let file = m.blob("x");
        m.serve(&m.tree(&[("100644", b"b", &file), ("100644", b"a", &file)]));
    }),
    ("a missing object", Refused(""), |m| m.serve_one("100644", b"a", &"2".repeat(40))),
    ("the null object", Refused(""), |m| m.serve_one("100644", b"a", &"0".repeat(40))),
    ("a commit without a tree", Refused(""), |m| {
        m.serve_commit(
            "author Eve <eve@example.com> 0 +0000\ncommitter Eve <eve@example.com> 0 +0000\n\nx\n",
        );
    }),
    ("a commit without an author", Refused("damaged or harmful"), |m| {
        m.serve_commit(&format!("tree {}\n\nx\n", m.tree(&[("100644", b"a", &m.blob("x"))])));
    }),
    ("a branch that is a blob", Refused(""), |m| {
        let blob = m.blob("x");
        fs::write(m.source.path.join(".git/refs/heads/main"), format!("{blob}\n")).unwrap();
    }),
    ("a name that no file system takes", Refused(""), |m| {
        m.serve_one("100644", &[b'n'; TOO_LONG], &m.blob("x"));
    }),
    ("a link that is too long", Refused(""), |m| m.serve_one("120000", b"l", &m.blob("x".repeat(5000)))),
    ("a link to nothing", Refused(""), |m| m.serve_one("120000", b"l", &m.blob(""))),
    ("directories without end", Refused(""), |m| {
        let mut tree = m.trap(b"end");
        for _ in 0..5000 {
            tree = m.tree(&[("40000", b"d", &tree)]);
        }
        m.serve(&tree);
    }),
    ("a file for another user", Harmless, |m| m.serve_one("104755", b"a", &m.blob("x"))),
    ("a device", Harmless, |m| m.serve_one("60000", b"a", &m.blob("x"))),
    ("a date before all time", Harmless, |m| {
        let tree = m.tree(&[("100644", b"a", &m.blob("x"))]);
        let who = "Eve <eve@example.com> 99999999999999999999 +9999";
        m.serve_commit(&format!("tree {tree}\nauthor {who}\ncommitter {who}\n\nx\n"));
    }),
    ("words that steer a terminal", There("a"), |m| {
        let tree = m.tree(&[("100644", b"a", &m.blob("x"))]);
        let who = "\x1b]0;title\x07Eve\u{202e} <eve@example.com> 1767225600 +0000";
        m.serve_commit(&format!("tree {tree}\nauthor {who}\ncommitter {who}\n\n\x1b[2J\r\n"));
    }),
];

pub(super) const FILES: &[Case] = &[
    ("a link to the secret", There("l"), |m| {
        m.serve_one("120000", b"l", &m.blob(m.secret.join("key").to_str().unwrap()));
    }),
    ("AGENTS.md as a link", There("AGENTS.md"), |m| {
        m.serve_one("120000", b"AGENTS.md", &m.blob(m.secret.join("key").to_str().unwrap()));
    }),
    (".gitignore as a link", Harmless, |m| {
        m.serve_one("120000", b".gitignore", &m.blob(m.secret.join("key").to_str().unwrap()));
    }),
    (".gitattributes as a link", Harmless, |m| {
        m.serve_one("120000", b".gitattributes", &m.blob(m.secret.join("key").to_str().unwrap()));
    }),
    ("a link up, and a file with its name in other case", There("d"), |m| {
        let link = m.blob("../../state");
        m.serve(&m.tree(&[("120000", b"D", &link), ("40000", b"d", &m.trap(b"key"))]));
    }),
    ("filters", There("a"), |m| {
        m.serve_files(&[("a", "x\n"), (".gitattributes", "* filter=evil diff=evil merge=evil -text\n")]);
    }),
    ("another encoding", There("a"), |m| {
        let attributes = m.blob("* working-tree-encoding=UTF-16 eol=crlf ident\n");
        m.serve(&m.tree(&[("100644", b".gitattributes", &attributes), ("100644", b"a", &m.blob("x\n"))]));
    }),
    ("large files elsewhere", There("a"), |m| {
        let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";
        m.serve_files(&[
            ("a", pointer),
            (".lfsconfig", &format!("[lfs]\n\turl = file://{}\n", m.secret.display())),
            (".gitattributes", "* filter=lfs diff=lfs merge=lfs\n"),
        ]);
    }),
    ("hooks and a configuration beside .git", There("hooks"), |m| {
        m.serve_files(&[
            ("hooks/post-checkout", &m.script()),
            ("config", &m.configuration()),
            ("HEAD", "ref: x\n"),
        ]);
    }),
    ("a whole repository under another name", There("nest"), |m| {
        m.serve_files(&[
            ("nest/HEAD", "ref: refs/heads/main\n"),
            ("nest/config", &m.configuration()),
            ("nest/objects/x", ""),
            ("nest/refs/x", ""),
        ]);
    }),
    ("the name of our own new files", There(".podwright-new"), |m| {
        m.serve_files(&[(".podwright-new", "x\n")])
    }),
    ("names that are no text", There("a"), |m| {
        let file = m.blob("x");
        let names: [&[u8]; 4] = [b"\x1b[2J", b"\xff\xfe", b"a", b"new\nline"];
        let mut entries: Vec<(&str, &[u8], &str)> = names.map(|name| ("100644", name, file.as_str())).into();
        entries.sort_by_key(|entry| entry.1);
        m.serve(&m.tree(&entries));
    }),
    ("names that are options", There("--upload-pack=x"), |m| {
        m.serve_files(&[("--upload-pack=x", "x\n"), ("-c", "x\n")]);
    }),
    ("ignore rules that are slow", There("a"), |m| {
        let slow = format!("{}b\n", "*a".repeat(60));
        m.serve_files(&[(".gitignore", &slow), ("a", "x\n")]);
    }),
    ("a server's own hooks, replacements and alternates", There("a"), |m| {
        m.serve_files(&[("a", "x\n")]);
        let git = m.source.path.join(".git");
        let hook = git.join("hooks/post-checkout");
        fs::create_dir_all(git.join("hooks")).unwrap();
        fs::write(&hook, m.script()).unwrap();
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
        let replaced = m.source.git(&["rev-parse", "HEAD:a"]);
        let other = m.blob("replaced\n");
        m.source.git(&["replace", &replaced, &other]);
    }),
];
