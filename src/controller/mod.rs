//! The controller: from an AgentTask to its pods and back.
