//! The child's side of a confined git: this program runs itself, shuts itself in and becomes git.
//!
//! A confinement that is put on between fork and exec needs `unsafe` code in the caller. So the caller
//! starts `podwright git-child`, which reads what to do from its standard input (nothing of it is ever an
//! argument or in the environment, since others can read both), applies Landlock to itself and executes
//! git. What follows on standard input is git's.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible, NetPort, RestrictionStatus, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};
use rustix::process::{Resource, Rlimit, setrlimit};
use serde::{Deserialize, Serialize};

use super::askpass;

/// The hidden subcommand.
pub(crate) const SUBCOMMAND: &str = "git-child";

/// The child's exit status when it did not become git. Git itself uses 1, 128 and 129.
pub(crate) const NOT_STARTED: u8 = 121;

/// The digits, in hexadecimal, of the length that comes before the instructions.
const LENGTH_DIGITS: usize = 8;

/// A child's instructions are a few KiB: paths, arguments and at most one credential.
const INSTRUCTIONS_MAX: usize = 1 << 20;

/// What a git child may reach; everything else is refused by the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Access {
    pub(crate) read: Vec<PathBuf>,
    pub(crate) execute: Vec<PathBuf>,
    pub(crate) write: Vec<PathBuf>,
    /// TCP ports that may be connected to (needs Linux 6.7; on an older one ports are not limited).
    pub(crate) connect: Vec<u16>,
}

/// What the child is to become.
#[derive(Serialize, Deserialize)]
pub(crate) struct Instructions {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) directory: PathBuf,
    pub(crate) access: Access,
    /// Bytes that any one file may grow to.
    pub(crate) file_max: u64,
    /// Bytes of memory that it may have for itself; files that it maps to read them do not count.
    pub(crate) memory_max: u64,
    pub(crate) credential: Option<askpass::Answer>,
}

/// Why the child did not become git.
#[derive(Debug, thiserror::Error)]
enum ChildError {
    #[error("cannot read what to run: {0}")]
    Instructions(io::Error),
    #[error(
        "this kernel has no sufficient Landlock (Linux 6.2 or newer with `landlock` in its list of LSMs is \
         needed): use such nodes"
    )]
    NoLandlock,
    #[error("cannot limit the size of files or memory: {0}")]
    Limit(rustix::io::Errno),
    #[error("cannot hand over the credential: {0}")]
    Credential(io::Error),
    #[error("cannot execute {0}: {1}")]
    Execute(PathBuf, io::Error),
}

/// Runs this program's hidden subcommands; `None` when the arguments are an ordinary command line.
///
/// `main` calls this first, before it starts a thread: Landlock holds for the calling thread and what it
/// executes.
pub fn dispatch(args: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let args: Vec<OsString> = args.into_iter().take(3).collect();
    match args.as_slice() {
        [_, subcommand] if subcommand == SUBCOMMAND => {
            let error = become_git();
            // The caller makes this sentence the error's.
            eprintln!("{error}");
            Some(ExitCode::from(NOT_STARTED))
        }
        [_, prompt] => askpass::answer(prompt),
        _ => None,
    }
}

/// The instructions as the child reads them.
pub(crate) fn encode(instructions: &Instructions) -> serde_json::Result<Vec<u8>> {
    let body = serde_json::to_vec(instructions)?;
    let mut frame = format!("{:0width$x}", body.len(), width = LENGTH_DIGITS).into_bytes();
    frame.extend_from_slice(&body);
    Ok(frame)
}

fn become_git() -> ChildError {
    match prepare() {
        Ok((mut command, program)) => ChildError::Execute(program, command.exec()),
        Err(error) => error,
    }
}

fn prepare() -> Result<(Command, PathBuf), ChildError> {
    let instructions = read_instructions().map_err(ChildError::Instructions)?;
    let mut command = Command::new(&instructions.program);
    command
        .args(&instructions.args)
        .env_clear()
        .envs(instructions.environment.iter().map(|(name, value)| (name, value)))
        .current_dir(&instructions.directory);
    if let Some(credential) = &instructions.credential {
        askpass::hand_over(credential, &mut command).map_err(ChildError::Credential)?;
    }
    for (resource, max) in
        [(Resource::Fsize, instructions.file_max), (Resource::Data, instructions.memory_max)]
    {
        let limit = Rlimit { current: Some(max), maximum: Some(max) };
        setrlimit(resource, limit).map_err(ChildError::Limit)?;
    }
    // A hard requirement that the kernel lacks is an error of the rule set.
    let status = restrict(&instructions.access).map_err(|_| ChildError::NoLandlock)?;
    if status.ruleset == RulesetStatus::NotEnforced {
        return Err(ChildError::NoLandlock);
    }
    Ok((command, instructions.program))
}

/// Reads exactly the instructions: what follows is git's standard input.
fn read_instructions() -> io::Result<Instructions> {
    let mut stdin = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut digits = [0; LENGTH_DIGITS];
    stdin.read_exact(&mut digits)?;
    let digits = std::str::from_utf8(&digits).map_err(io::Error::other)?;
    let length = usize::from_str_radix(digits, 16).map_err(io::Error::other)?;
    if length > INSTRUCTIONS_MAX {
        return Err(io::Error::other("too long"));
    }
    let mut body = vec![0; length];
    stdin.read_exact(&mut body)?;
    serde_json::from_slice(&body).map_err(io::Error::other)
}

fn restrict(access: &Access) -> Result<RestrictionStatus, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let connect = access.connect.iter().map(|port| Ok(NetPort::new(*port, AccessNet::ConnectTcp)));
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V3))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI::V5))?
        .handle_access(AccessNet::from_all(ABI::V4))?
        .scope(Scope::from_all(ABI::V6))?
        .create()?
        .add_rules(path_beneath_rules(&access.read, read))?
        .add_rules(path_beneath_rules(&access.execute, read | AccessFs::Execute))?
        .add_rules(path_beneath_rules(&access.write, AccessFs::from_all(ABI::V3) & !AccessFs::Execute))?
        .add_rules(connect.collect::<Vec<Result<NetPort, RulesetError>>>())?
        .restrict_self()
}
