//! The agent: the thread of one attempt, driven from the sidecar.
