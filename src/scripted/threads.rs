//! Where each thread stands in its scenario.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sha2::{Digest, Sha256};

use super::{
    script::{Quirk, Reply, Scenario, Script},
    seen::Received,
};

/// How many threads are remembered; the one that was idle longest is forgotten first. A thread's state
/// is a few hundred bytes, and no test runs a thousand at once.
const MAX_THREADS: usize = 1000;

/// What the names of MCP servers' tools begin with.
const MCP_PREFIX: &str = "mcp__";

/// The state of all threads.
#[derive(Debug, Default)]
pub struct Threads {
    by_name: HashMap<String, Thread>,
    /// Counts requests, to know which thread was idle longest.
    requests: u64,
}

/// What is to be answered.
#[derive(Debug)]
pub struct Turn<'a> {
    /// The reply.
    pub reply: &'a Reply,
    /// The script's quirks and the reply's.
    pub quirks: BTreeSet<Quirk>,
    /// The values captured so far.
    pub values: BTreeMap<String, String>,
    /// The number of the request in its thread, counted from 1.
    pub request: u32,
    /// The size of the thread's previous body in bytes: what a cache could have held.
    pub previous_body_bytes: u64,
}

/// Why a request is refused, as code and words of the error object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The code.
    pub code: &'static str,
    /// The words.
    pub message: String,
}

#[derive(Debug)]
struct Thread {
    scenario: usize,
    /// The reply to be looked at next.
    next: usize,
    /// How often the reply before `next` may still be given.
    repeats: u32,
    requests: u32,
    values: BTreeMap<String, String>,
    input: Option<InputDigest>,
    /// What a compaction must leave as it was, until the request after it came.
    opening: Option<Opening>,
    body_bytes: u64,
    used: u64,
}

/// What every request of a thread begins with, compacted or not.
#[derive(Debug)]
struct Opening {
    instructions: String,
    /// But for those of MCP servers, which may offer others after a compaction.
    tools: Vec<String>,
}

#[derive(Clone, Debug)]
struct InputDigest {
    bytes: usize,
    sha256: [u8; 32],
}

impl Threads {
    /// Takes a request and moves its thread on. A refused request moves nothing but its count, so that
    /// a client that sends it again is refused again.
    ///
    /// # Errors
    /// [`Refused`] when no scenario or reply is left for it, or when it fails an expectation or a check.
    pub fn take<'a>(&mut self, script: &'a Script, received: &mut Received) -> Result<Turn<'a>, Refused> {
        if let Some(fault) = received.faults.iter().find(|fault| script.enforces(fault.rule)) {
            return Err(Refused { code: fault.rule.code(), message: fault.problem.clone() });
        }
        self.requests += 1;
        let thread = self.thread(script, received)?;
        let scenario = &script.scenarios[thread.scenario];
        received.seen.request = thread.requests;
        if script.checks.prefix {
            thread.check_opening(received)?;
            thread.check_prefix(&received.input)?;
        }
        let index = thread.choose(scenario, received)?;
        let reply = &scenario.replies[index];
        if let Some(problem) = reply.expect.unmet(&received.seen) {
            return Err(refused("expectation_failed", scenario, index, &problem));
        }
        let mut captured = BTreeMap::new();
        for (name, capture) in &reply.capture {
            let value = capture.value(&received.seen).map_err(|problem| {
                refused("capture_failed", scenario, index, &format!("capture {name}: {problem}"))
            })?;
            captured.insert(name.clone(), value);
        }
        thread.values.extend(captured);
        thread.repeats = if thread.repeats > 0 { thread.repeats - 1 } else { reply.repeat - 1 };
        thread.next = index + 1;
        thread.opening = None;
        if reply.compaction {
            thread.input = None;
            thread.opening = Some(Opening::of(received));
        }
        let previous_body_bytes = std::mem::replace(&mut thread.body_bytes, received.seen.body_bytes);
        Ok(Turn {
            reply,
            quirks: &script.quirks | &reply.quirks,
            values: thread.values.clone(),
            request: thread.requests,
            previous_body_bytes,
        })
    }

    fn thread(&mut self, script: &Script, received: &mut Received) -> Result<&mut Thread, Refused> {
        if !self.by_name.contains_key(&received.thread) {
            received.seen.request = 1;
            let scenario =
                script.scenarios.iter().position(|scenario| scenario.matches.unmet(&received.seen).is_none());
            let scenario = scenario.ok_or_else(|| no_scenario(script, received))?;
            if self.by_name.len() >= MAX_THREADS {
                self.forget_oldest();
            }
            self.by_name.insert(received.thread.clone(), Thread::new(scenario));
        }
        let thread = self.by_name.entry(received.thread.clone()).or_insert_with(|| Thread::new(0));
        thread.used = self.requests;
        thread.requests += 1;
        Ok(thread)
    }

    fn forget_oldest(&mut self) {
        let oldest = self.by_name.iter().min_by_key(|(_, thread)| thread.used).map(|(name, _)| name.clone());
        if let Some(name) = oldest {
            self.by_name.remove(&name);
        }
    }
}

impl Thread {
    fn new(scenario: usize) -> Self {
        Self {
            scenario,
            next: 0,
            repeats: 0,
            requests: 0,
            values: BTreeMap::new(),
            input: None,
            opening: None,
            body_bytes: 0,
            used: 0,
        }
    }

    fn choose(&self, scenario: &Scenario, received: &Received) -> Result<usize, Refused> {
        if self.repeats > 0 {
            return Ok(self.next - 1);
        }
        let replies = &scenario.replies;
        let again = if scenario.cycle { 0..self.next.min(replies.len()) } else { 0..0 };
        let found = (self.next..replies.len())
            .chain(again)
            .find(|&index| replies[index].when.unmet(&received.seen).is_none());
        found.ok_or_else(|| Refused {
            code: "script_exhausted",
            message: format!(
                "scenario {:?} has {} replies and none is left for request {} of thread {:?}",
                scenario.name,
                replies.len(),
                self.requests,
                received.thread
            ),
        })
    }

    /// After a compaction the instructions and our own tools are still those from before.
    fn check_opening(&self, received: &Received) -> Result<(), Refused> {
        if self.opening.as_ref().is_none_or(|before| before.fits(&Opening::of(received))) {
            return Ok(());
        }
        Err(Refused {
            code: "prefix_changed",
            message: format!(
                "request {} comes after a compaction and has other instructions or tools than before",
                self.requests
            ),
        })
    }

    fn check_prefix(&mut self, input: &str) -> Result<(), Refused> {
        let now = InputDigest { bytes: input.len(), sha256: Sha256::digest(input).into() };
        if let Some(before) = &self.input {
            let kept = input.as_bytes().get(..before.bytes);
            if kept.is_none_or(|kept| <[u8; 32]>::from(Sha256::digest(kept)) != before.sha256) {
                return Err(Refused {
                    code: "prefix_changed",
                    message: format!(
                        "the input of request {} does not begin with the {} bytes of request {}'s",
                        self.requests,
                        before.bytes,
                        self.requests - 1
                    ),
                });
            }
        }
        self.input = Some(now);
        Ok(())
    }
}

impl Opening {
    fn of(received: &Received) -> Self {
        let own = received.seen.tools.iter().filter(|tool| !tool.starts_with(MCP_PREFIX));
        Self { instructions: received.seen.instructions.clone(), tools: own.cloned().collect() }
    }

    /// A request to the compaction endpoint has no tools.
    fn fits(&self, after: &Self) -> bool {
        self.instructions == after.instructions && (self.tools.is_empty() || self.tools == after.tools)
    }
}

fn refused(code: &'static str, scenario: &Scenario, index: usize, problem: &str) -> Refused {
    Refused { code, message: format!("scenario {:?}, reply {}: {problem}", scenario.name, index + 1) }
}

fn no_scenario(script: &Script, received: &Received) -> Refused {
    let problems: Vec<String> = script
        .scenarios
        .iter()
        .filter_map(|scenario| {
            let problem = scenario.matches.unmet(&received.seen)?;
            Some(format!("{:?}: {problem}", scenario.name))
        })
        .collect();
    Refused {
        code: "no_scenario",
        message: format!("no scenario of the script matches this thread: {}", problems.join("; ")),
    }
}

#[cfg(test)]
mod tests;
