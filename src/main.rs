//! `podwright`: one binary for the controller, the agent and the tools around them.

fn main() {}
