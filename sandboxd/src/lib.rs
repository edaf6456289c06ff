//! The sandbox supervisor and the protocol it speaks.

pub mod confine;
