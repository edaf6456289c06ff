//! The client of the supervisor in the sandbox.
