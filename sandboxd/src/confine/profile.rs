//! Which layers of confinement this kernel has.

use landlock::ABI;
use serde::{Deserialize, Serialize};

use super::sys;
use crate::protocol::Profile;

/// What the kernel offers, found out once at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Support {
    landlock: i32,
}

/// Commands cannot be confined on this kernel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("commands cannot be confined on this node, which lacks {}; run the task on a node that has it", missing.join(" and "))]
pub struct Insufficient {
    /// What is missing, in words for a person.
    pub missing: Vec<&'static str>,
}

impl Support {
    /// Asks the kernel.
    ///
    /// # Errors
    /// [`Insufficient`] when not even [`Profile::Reduced`] is possible.
    pub fn probe() -> Result<Self, Insufficient> {
        Self::judge(sys::landlock_abi(), sys::seccomp_can_notify())
    }

    pub(super) fn judge(landlock: i32, can_notify: bool) -> Result<Self, Insufficient> {
        let mut missing = Vec::new();
        if landlock < 3 {
            missing.push("Landlock ABI 3 (Linux 6.2, Landlock enabled at boot)");
        }
        if !can_notify {
            missing.push("seccomp user notification (Linux 5.19)");
        }
        if missing.is_empty() { Ok(Self { landlock }) } else { Err(Insufficient { missing }) }
    }

    /// As on a kernel whose Landlock is older: to try out how commands fare on other nodes.
    ///
    /// # Errors
    /// [`Insufficient`] when that is too old for [`Profile::Reduced`].
    pub fn at_most(self, landlock_abi: i32) -> Result<Self, Insufficient> {
        Self::judge(self.landlock.min(landlock_abi), true)
    }

    /// The profile that these features amount to.
    #[must_use]
    pub fn profile(self) -> Profile {
        if self.landlock >= 6 { Profile::Strict } else { Profile::Reduced }
    }

    /// Whether Landlock refuses TCP by itself (ABI 4). Without it the address of a mediated call could be swapped
    /// behind the supervisor's back, so such a kernel gets no sockets at all.
    pub(super) fn confines_tcp(self) -> bool {
        self.landlock >= 4
    }

    /// The rights to confine: those of the kernel's ABI, up to the newest one that the rules here were written for.
    pub(super) fn abi(self) -> ABI {
        match self.landlock {
            ..=3 => ABI::V3,
            4 => ABI::V4,
            5 => ABI::V5,
            6 => ABI::V6,
            7.. => ABI::V7,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let refused = Support::judge(2, false).unwrap_err();
        assert_eq!(refused.missing.len(), 2);
        assert!(refused.to_string().contains("Landlock ABI 3"), "{refused}");
        assert!(refused.to_string().contains("user notification"), "{refused}");
        assert_eq!(Support::judge(7, false).unwrap_err().missing.len(), 1);
        assert_eq!(Support::judge(0, true).unwrap_err().missing.len(), 1);
    }

    #[test]
    fn profiles_by_landlock_abi() {
        let of = |abi| Support::judge(abi, true).unwrap();
        assert_eq!((of(3).profile(), of(3).confines_tcp()), (Profile::Reduced, false));
        assert_eq!((of(4).profile(), of(4).confines_tcp()), (Profile::Reduced, true));
        assert_eq!(of(5).profile(), Profile::Reduced);
        assert_eq!(of(6).profile(), Profile::Strict);
        assert_eq!(of(9).profile(), Profile::Strict);
    }
}
