//! The beginning of a thread, for tests.

use super::ThreadOpened;
use crate::llm::{Capabilities, Wire};

/// A thread without tools and without a prefix.
pub(crate) fn opened() -> ThreadOpened {
    ThreadOpened {
        thread_id: "t".into(),
        task_uid: "task".into(),
        attempt: "a-1".into(),
        base_commit: "c0".into(),
        baseline_tree: "t0".into(),
        provider: "default".into(),
        model: "m".into(),
        reasoning_effort: None,
        shell: "/bin/sh".into(),
        wire: Wire::Responses,
        capabilities: Capabilities::default(),
        tools: "[]".into(),
        custom_as_function: vec![],
        prefix: vec![],
        skills: vec![],
        answer: None,
        cache_key: None,
        inherited: Box::default(),
        mcp_tools: vec![],
        boot: None,
    }
}
