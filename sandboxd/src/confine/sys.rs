//! The only unsafe code of the project: system calls for which neither `rustix` nor `landlock` has a safe function.
#![allow(unsafe_code)]

/// The kernel's Landlock ABI, 0 when there is none.
pub(super) fn landlock_abi() -> i32 {
    const LANDLOCK_CREATE_RULESET_VERSION: libc::c_uint = 1;
    // SAFETY: with this flag the call takes a null pointer and a zero size, touches no memory and returns a number.
    let abi = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<u8>(),
            0usize,
            LANDLOCK_CREATE_RULESET_VERSION,
        )
    };
    i32::try_from(abi).unwrap_or(0).max(0)
}

/// Whether the kernel has seccomp user notification with the message layout that this program was built for.
pub(super) fn seccomp_can_notify() -> bool {
    false
}
