//! The bare repository's own configuration: everything that git may do is decided here.

use std::fs;
use std::io;
use std::path::Path;

use super::FetchSpec;

/// File contents are the blobs' bytes, whatever a repository's own attributes ask for: no line endings
/// are changed, no filter runs. A repository's `diff` and `merge` attributes do not change its patch.
pub(crate) const ATTRIBUTES: &str = "* -text !eol -ident !filter !working-tree-encoding !diff !merge\n";

/// What old, honest repositories contain; everything else that git's check finds ends the fetch (paths
/// named like `.git`, module files that attack old versions, links in place of configuration).
const TOLERATED: [&str; 12] = [
    "badDate",
    "badDateOverflow",
    "badEmail",
    "badName",
    "badTimezone",
    "missingEmail",
    "missingNameBeforeEmail",
    "missingSpaceBeforeDate",
    "missingSpaceBeforeEmail",
    "missingTaggerEntry",
    "zeroPaddedDate",
    "zeroPaddedFilemode",
];

/// Where distributions keep the certificates that they trust, as one file.
const SYSTEM_CERTIFICATES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Larger files than any that the work tree's reader takes are unpacked and written piece by piece, not in memory.
pub(crate) const BIG_FILES: &str = "\tbigFileThreshold = 32m\n";

/// As many threads as there are processors, and `most` of them: each has some megabytes of the memory that git may have,
/// on a node with many processors as well.
pub(crate) fn threads(most: usize) -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(most)
}

/// Makes the empty bare repository. By hand: `git init` would need a child and copies templates.
pub(super) fn init(directory: &Path, spec: &FetchSpec) -> io::Result<()> {
    for name in ["objects/info", "objects/pack", "refs/heads", "refs/tags", "info"] {
        fs::create_dir_all(directory.join(name))?;
    }
    // A branch that is never made: attributes and the like are read from HEAD by some versions.
    fs::write(directory.join("HEAD"), "ref: refs/heads/none\n")?;
    fs::write(directory.join("info/attributes"), ATTRIBUTES)?;
    let certificates = match &spec.ca_bundle {
        Some(bundle) => {
            // Git's setting replaces the system's certificates, so they are put in again.
            let system = SYSTEM_CERTIFICATES.iter().find_map(|path| fs::read_to_string(path).ok());
            let path = directory.join("ca.pem");
            fs::write(&path, format!("{bundle}\n{}", system.unwrap_or_default()))?;
            Some(path)
        }
        None => None,
    };
    fs::write(directory.join("config"), render(spec, certificates.as_deref()))
}

fn render(spec: &FetchSpec, certificates: Option<&Path>) -> String {
    let scheme = spec.url.scheme();
    let stall = spec.bounds.stall.as_secs();
    let tolerated: String = TOLERATED.iter().map(|name| format!("\t{name} = ignore\n")).collect();
    let certificates = certificates
        .map(|path| format!("\tsslCAInfo = {}\n", quoted(&path.to_string_lossy())))
        .unwrap_or_default();
    let threads = threads(3);
    // unpackLimit 1: everything stays one pack, which the first checkout can copy.
    format!(
        "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n\tsymlinks = true\n\
         \tprotectHFS = true\n\tprotectNTFS = true\n\thooksPath = /dev/null\n\tfsmonitor = false\n\
         \tattributesFile = /dev/null\n\texcludesFile = /dev/null\n\tlogAllRefUpdates = false\n\
         {BIG_FILES}[pack]\n\tthreads = {threads}\n[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n\
         [transfer]\n\tunpackLimit = 1\n\tbundleURI = false\n\tcredentialsInUrl = die\n\
         [fetch]\n\tunpackLimit = 1\n\tfsckObjects = true\n\trecurseSubmodules = false\n\
         \twriteCommitGraph = false\n[fetch \"fsck\"]\n{tolerated}\
         [submodule]\n\trecurse = false\n[credential]\n\thelper =\n\
         [protocol]\n\tallow = never\n\tversion = 2\n[protocol \"{scheme}\"]\n\tallow = always\n\
         [http]\n\tfollowRedirects = false\n\tlowSpeedLimit = 1\n\tlowSpeedTime = {stall}\n\
         \tdelegation = none\n\tsslVerify = true\n{certificates}"
    )
}

/// A value of git's configuration in quotes.
pub(crate) fn quoted(value: &str) -> String {
    let escaped: String = value
        .chars()
        .filter(|c| !c.is_control())
        .flat_map(|c| matches!(c, '"' | '\\').then_some('\\').into_iter().chain([c]))
        .collect();
    format!("\"{escaped}\"")
}
