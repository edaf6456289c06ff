//! Condition types and the merge that keeps transition times.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

/// The one-look summary of an AgentTask: Unknown while there is work, then True or False for good.
pub const SUCCEEDED: &str = "Succeeded";

/// True from the first status write to the last. Generic tools (kstatus) read it as "in progress": without
/// it they take any object that has no `Ready` condition for finished.
pub const RECONCILING: &str = "Reconciling";

/// True together with Succeeded=False, so that generic tools see the failure.
pub const STALLED: &str = "Stalled";

/// Whether the model can be used, as of its newest answer. Missing on a task whose model was never out.
pub const MODEL_AVAILABLE: &str = "ModelAvailable";

/// Whether the agent has taken an AgentMessage in.
pub const ACCEPTED: &str = "Accepted";

/// The longest message of a condition, in bytes. The API server takes 32,768; a status of ours stays small.
pub const MAX_MESSAGE: usize = 4096;

/// The status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It is not known yet.
    Unknown,
}

impl ConditionStatus {
    /// The status as the API has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// A condition as it shall be, without its transition time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its type.
    pub type_: &'static str,
    /// Its status.
    pub status: ConditionStatus,
    /// Its reason, CamelCase.
    pub reason: &'static str,
    /// A sentence for people; cut at [`MAX_MESSAGE`].
    pub message: String,
}

impl Wanted {
    /// The condition to write: `lastTransitionTime` moves only when the status does.
    #[must_use]
    pub fn merge(self, existing: &[Condition], generation: Option<i64>, now: Timestamp) -> Condition {
        let before = existing.iter().find(|c| c.type_ == self.type_ && c.status == self.status.as_str());
        Condition {
            type_: self.type_.to_owned(),
            status: self.status.as_str().to_owned(),
            reason: self.reason.to_owned(),
            message: plain(&self.message, MAX_MESSAGE),
            observed_generation: generation,
            last_transition_time: before.map_or(Time(now), |c| c.last_transition_time.clone()),
        }
    }
}

/// The condition of a type, if it is there.
#[must_use]
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == type_)
}

/// The longest beginning of a text that is at most `max` bytes long and ends between characters.
#[must_use]
pub fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

/// A text of a model or a command as it may be shown: without the characters that steer a terminal, turn the
/// direction of writing or are not seen, and cut like [`cut`]. As JSON such a character takes six bytes, so this also keeps a
/// status within its size.
#[must_use]
pub fn plain(text: &str, max: usize) -> String {
    let shown: String = text.chars().filter(|c| matches!(c, '\n' | '\t') || !steers(*c)).take(max).collect();
    cut(&shown, max).to_owned()
}

/// Whether a text may be shown as it is, because [`plain`] would leave nothing out. Line ends may be those of Windows.
#[must_use]
pub fn is_plain(text: &str) -> bool {
    text.split_inclusive('\n').all(|line| {
        let line = line.strip_suffix("\r\n").unwrap_or(line);
        line.chars().all(|c| matches!(c, '\n' | '\t') || !steers(c))
    })
}

/// A JSON value as it may be shown: its texts and the names of its members are [`plain`].
#[must_use]
pub fn plain_json(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(plain(&text, text.len())),
        Value::Array(items) => Value::Array(items.into_iter().map(plain_json).collect()),
        Value::Object(members) => {
            let members =
                members.into_iter().map(|(name, value)| (plain(&name, name.len()), plain_json(value)));
            Value::Object(members.collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value,
    }
}

/// Whether a character steers a terminal, turns the direction of writing or is there without being seen; line feed and
/// tab do too. The joiners are not among them: Persian, Indian scripts and emoji are written with them.
#[must_use]
pub fn steers(c: char) -> bool {
    let turns_or_hides = matches!(c, '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
    c.is_control() || turns_or_hides
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn wanted(status: ConditionStatus, reason: &'static str) -> Wanted {
        Wanted { type_: SUCCEEDED, status, reason, message: "why".into() }
    }

    #[test]
    fn the_transition_time_moves_only_with_the_status() {
        let first = wanted(ConditionStatus::Unknown, "Preparing").merge(&[], Some(1), at(10));
        let second =
            wanted(ConditionStatus::Unknown, "Running").merge(std::slice::from_ref(&first), Some(1), at(20));
        let third =
            wanted(ConditionStatus::True, "Completed").merge(std::slice::from_ref(&second), Some(1), at(30));
        assert_eq!(first.last_transition_time, Time(at(10)));
        assert_eq!(second.last_transition_time, Time(at(10)));
        assert_eq!(third.last_transition_time, Time(at(30)));
    }

    #[test]
    fn what_steers_a_terminal_is_left_out() {
        assert_eq!(plain("a\u{1b}[31mb\r\n\tc\u{202e}d\u{9b}e\0", 100), "a[31mb\n\tcde");
        assert_eq!(plain(&"\u{1}".repeat(5000), 4096), "");
        assert_eq!(plain("aé", 2), "a");
        let hidden = "a\u{200b}\u{2028}\u{2066}\u{feff}\u{e0041}b";
        assert_eq!(plain(hidden, 100), "ab");
        let family = "\u{1f468}\u{200d}\u{1f469}";
        assert_eq!(plain(family, 100), family);
        assert!(
            is_plain("a\r\n\tb\n") && !is_plain("a\rb\n") && !is_plain("a\u{1b}[2K") && !is_plain(hidden)
        );
    }

    #[test]
    fn json_is_shown_without_them_too() {
        let value = json!({"a\u{1b}]0;x": ["\u{202e}b", {"c": "d\u{7}\n"}, 1, null]});
        assert_eq!(plain_json(value), json!({"a]0;x": ["b", {"c": "d\n"}, 1, null]}));
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(cut("aé", 2), "a");
        assert_eq!(cut("aé", 3), "aé");
    }
}
