//! What was found out, as the entry of a ModelProvider's `models` that says it.

use std::fmt::{self, Display, Formatter};

use super::patient::NoAnswer;
use crate::llm::Wire;

/// What is known of one capability.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It is there; its value in the provider.
    Has(String),
    /// It is not, and how that showed.
    Lacks(String),
    /// It could not be found out, and why.
    Unknown(String),
}

/// What was found out about a model behind an endpoint. Shown, it is YAML with comments.
#[derive(Clone, Debug)]
pub struct Diagnosis {
    wire: Wire,
    model: String,
    /// Whether it answers at all.
    pub answers: bool,
    /// Whether it calls tools.
    pub calls: bool,
    /// How many requests that took.
    pub requests: usize,
    found: Vec<(&'static str, Finding)>,
    problems: Vec<String>,
}

/// What no request can find out, and where it is to be had.
const UNKNOWABLE: [(&str, &str); 4] = [
    ("contextWindow", "the model's documentation has it"),
    (
        "compaction",
        "the provider's documentation has it; without it the model sums a long thread up in words",
    ),
    ("prices", "the provider's price list has them; spec.limits.cost of a task needs them"),
    ("surface", "Codex suits models that were trained on its tools, Generic all others"),
];

impl Finding {
    /// It is there.
    pub fn yes() -> Self {
        Self::Has("true".to_owned())
    }

    /// It is not.
    pub fn lacks(why: &str) -> Self {
        Self::Lacks(why.to_owned())
    }

    /// It is there when the request was answered.
    pub fn of<T>(answered: Result<T, NoAnswer>) -> Self {
        match answered {
            Ok(_) => Self::yes(),
            Err(error) => Self::from(error),
        }
    }
}

impl From<NoAnswer> for Finding {
    fn from(error: NoAnswer) -> Self {
        match error {
            NoAnswer::Refused(words) => Self::Lacks(words),
            NoAnswer::Failed(words) => Self::Unknown(words),
        }
    }
}

impl Diagnosis {
    /// Nothing is known.
    pub fn new(wire: Wire, model: &str) -> Self {
        Self {
            wire,
            model: model.to_owned(),
            answers: false,
            calls: false,
            requests: 0,
            found: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// Notes what was found out about a capability, by its name in the provider.
    pub fn found(&mut self, capability: &'static str, finding: Finding) {
        self.found.push((capability, finding));
    }

    /// Whether a capability is there.
    pub fn has(&self, capability: &str) -> bool {
        self.found.iter().any(|(name, finding)| *name == capability && matches!(finding, Finding::Has(_)))
    }

    /// Notes something that a person has to look at.
    pub fn problem(&mut self, what: &str) {
        self.problems.push(what.to_owned());
    }

    /// Whether agents can work with it.
    pub fn is_usable(&self) -> bool {
        self.answers && self.calls
    }
}

impl Display for Diagnosis {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.answers {
            let (requests, api) = (self.requests, self.wire.name());
            writeln!(
                f,
                "# What {requests} requests over the {api} API showed, for spec.models of the ModelProvider:"
            )?;
            writeln!(f, "models:")?;
            // A JSON string is one of YAML too.
            writeln!(f, "  - name: {}", serde_json::Value::from(self.model.as_str()))?;
            let mut has = self.found.iter().filter_map(|(name, finding)| match finding {
                Finding::Has(value) => Some((name, value)),
                Finding::Lacks(_) | Finding::Unknown(_) => None,
            });
            match has.next() {
                None => writeln!(f, "    capabilities: {{}}")?,
                Some(first) => {
                    writeln!(f, "    capabilities:")?;
                    for (name, value) in std::iter::once(first).chain(has) {
                        writeln!(f, "      {name}: {value}")?;
                    }
                }
            }
            self.comments(f, "Left out, and why", |finding| match finding {
                Finding::Lacks(why) => Some(why),
                Finding::Has(_) | Finding::Unknown(_) => None,
            })?;
            self.comments(f, "Left out, because it could not be found out", |finding| match finding {
                Finding::Unknown(why) => Some(why),
                Finding::Has(_) | Finding::Lacks(_) => None,
            })?;
            writeln!(f, "# For you to add, since no request can find it out:")?;
            for (name, where_) in UNKNOWABLE {
                writeln!(f, "#   {name}: {where_}")?;
            }
        }
        if !self.problems.is_empty() {
            writeln!(f, "# Problems:")?;
            for problem in &self.problems {
                writeln!(f, "#   - {}", line(problem))?;
            }
        }
        Ok(())
    }
}

impl Diagnosis {
    fn comments<'a>(
        &'a self,
        f: &mut Formatter<'_>,
        title: &str,
        why: impl Fn(&'a Finding) -> Option<&'a String>,
    ) -> fmt::Result {
        let mut said = self.found.iter().filter_map(|(name, finding)| Some((name, why(finding)?))).peekable();
        if said.peek().is_some() {
            writeln!(f, "# {title}:")?;
        }
        for (name, why) in said {
            writeln!(f, "#   {name}: {}", line(why))?;
        }
        Ok(())
    }
}

/// Words of a server on one line that a terminal obeys nothing in.
fn line(words: &str) -> String {
    let words: String = words.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}
