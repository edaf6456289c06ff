//! `podwright-sandboxd`: PID 1 of a sandbox container.

fn main() {}
