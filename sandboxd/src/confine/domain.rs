//! The Landlock domain of a phase: which files, connections and processes its commands reach.

use std::os::fd::AsFd;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetStatus, Scope,
};
use rustix::fs::{FileType, fstat};

use super::{Network, Policy, Profile, Support};

/// Devices that a command may open for reading and writing. Everything else in `/dev` stays shut, above all other
/// terminals: with `/dev` open as a whole a command could write to a person's terminal.
const DEVICES: [&str; 7] =
    ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/ptmx"];

/// The domain cannot be built or entered.
#[derive(Debug, thiserror::Error)]
pub(super) enum DomainError {
    /// Landlock refused.
    #[error(transparent)]
    Landlock(#[from] landlock::RulesetError),
    /// A path exists but no rule can be made for it.
    #[error("{path}: {reason}")]
    Path {
        /// The path.
        path: String,
        /// Why.
        reason: String,
    },
    /// The kernel took the rules but does not enforce all of them.
    #[error("the kernel enforces Landlock only in part")]
    Partial,
}

/// A domain that is not entered yet.
#[derive(Debug)]
pub(super) struct Domain(RulesetCreated);

impl Domain {
    /// Builds the domain of a policy. `terminals` are the devices that the phase's own terminals use.
    pub(super) fn build(
        policy: &Policy,
        support: Support,
        terminals: impl IntoIterator<Item = impl AsFd>,
    ) -> Result<Self, DomainError> {
        let abi = support.abi();
        let every = AccessFs::from_all(abi);
        let device = AccessFs::from_file(abi) & !BitFlags::from(AccessFs::Execute);

        let mut ruleset =
            Ruleset::default().set_compatibility(CompatLevel::HardRequirement).handle_access(every)?;
        if support.confines_tcp() && policy.network != Network::Open {
            // Handled without any rule: even a call that slips past the supervisor connects to nothing.
            ruleset = ruleset.handle_access(AccessNet::BindTcp | AccessNet::ConnectTcp)?;
        }
        if support.profile() == Profile::Strict {
            ruleset = ruleset.scope(Scope::Signal | Scope::AbstractUnixSocket)?;
        }
        let mut domain = Self(ruleset.create()?);
        // Names are no secret, and much is done by walking directories, so they can be listed everywhere.
        domain.allow(Path::new("/"), AccessFs::ReadDir.into())?;
        // Readable only: a write would reach the out-of-memory scores of everything with the same UID.
        domain.allow(Path::new("/proc"), AccessFs::ReadFile | AccessFs::ReadDir)?;
        for path in DEVICES {
            domain.allow(Path::new(path), device)?;
        }
        for path in &policy.readable {
            domain.allow(path, AccessFs::Execute | AccessFs::ReadFile | AccessFs::ReadDir)?;
        }
        for path in &policy.writable {
            domain.allow(path, every)?;
        }
        for terminal in terminals {
            (&mut domain.0).add_rule(PathBeneath::new(terminal, device))?;
        }
        Ok(domain)
    }

    /// Confines the calling thread and everything that it starts from now on.
    pub(super) fn enter(self) -> Result<(), DomainError> {
        match self.0.restrict_self()?.ruleset {
            RulesetStatus::FullyEnforced => Ok(()),
            RulesetStatus::PartiallyEnforced | RulesetStatus::NotEnforced => Err(DomainError::Partial),
        }
    }

    /// Allows access to a path and everything beneath, or nothing if it cannot be reached anyway.
    fn allow(&mut self, path: &Path, access: BitFlags<AccessFs>) -> Result<(), DomainError> {
        if !path.exists() {
            return Ok(());
        }
        let failed = |reason: String| DomainError::Path { path: path.display().to_string(), reason };
        let fd = PathFd::new(path).map_err(|error| failed(error.to_string()))?;
        let mode = fstat(&fd).map_err(|errno| failed(errno.to_string()))?.st_mode;
        // Rights over directories are an error on anything else.
        let is_directory = FileType::from_raw_mode(mode) == FileType::Directory;
        let access = if is_directory { access } else { access & AccessFs::from_file(ABI::V7) };
        (&mut self.0).add_rule(PathBeneath::new(fd, access))?;
        Ok(())
    }
}
