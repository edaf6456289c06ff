//! The repository's way through an attempt, with the real git: fetched from a real server, checked out,
//! changed by honest and hostile hands, and turned into a patch.

// In an integration test Clippy takes everything outside the test functions for shipped code.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod checkout;
mod confine;
mod fetch;
mod hostile;
mod memory;
mod patch;
mod patched;
mod repositories;
mod round_trip;
mod support;
