//! `podwright doctor`: finds out what an endpoint can do before tasks find out that it cannot.
//!
//! [`probes`] asks a live endpoint, one capability a question, over the same wires as an agent; [`diagnosis`] says what
//! came of it, in the form of a ModelProvider's `models`; [`command`] is what was typed.

pub mod command;
pub mod diagnosis;
pub mod patient;
pub mod probes;

pub use command::{DoctorArgs, DoctorError};
pub use diagnosis::{Diagnosis, Finding};
pub use patient::Patient;

#[cfg(test)]
mod tests;
