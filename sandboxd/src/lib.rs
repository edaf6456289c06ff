//! The sandbox supervisor and the protocol it speaks.
//!
//! The agent uses [`protocol`] and [`output`] alone; everything else is the program `podwright-sandboxd`,
//! which is PID 1 of the sandbox container.

pub mod attach;
pub mod confine;
pub mod output;
pub mod protocol;
pub mod supervisor;
