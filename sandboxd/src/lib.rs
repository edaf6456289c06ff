//! The sandbox supervisor and the protocol it speaks.
