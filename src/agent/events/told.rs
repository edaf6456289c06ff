//! An event with its place in the stream, and who hears of it.

use serde::Serialize;
use tokio::sync::broadcast;

use super::Event;
use crate::api::conditions::steers;

/// Events that a surface may lag behind before it loses the oldest: a response of some thousand deltas. It is told how many it
/// lost, and reads the journalled ones again from its cursor.
const WAITING: usize = 4096;

/// How far a surface has heard. It goes on from there after a restart of the agent too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Cursor {
    /// Number of the pod whose agent told the event.
    pub epoch: u32,
    /// The journal's newest record when it was told: everything of this and of earlier records is told by then.
    pub seq: u64,
}

/// An event as it is told.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Told {
    /// The event.
    #[serde(flatten)]
    pub event: Event,
    /// Where a surface that has heard it goes on; none of what the journal does not keep (deltas, what goes on at the
    /// moment), and none while more is to come of the same record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<Cursor>,
}

/// Whoever hears of events while they happen.
pub type Surfaces = broadcast::Sender<Told>;

/// Surfaces of which none is there yet.
pub fn surfaces() -> Surfaces {
    broadcast::Sender::new(WAITING)
}

impl Told {
    /// The event as one line of JSON. What in a command's output steers a terminal or turns the direction of writing is
    /// escaped in it, so a terminal that shows the log obeys none of it.
    pub fn to_line(&self) -> String {
        // Strings, numbers and enums always have a JSON form. Its own escapes end at the space; C1 controls and DEL are
        // beyond, and stand, like all that is not ASCII, in strings alone.
        let json = serde_json::to_string(self).unwrap_or_default();
        let mut line = String::with_capacity(json.len() + 1);
        for letter in json.chars() {
            if steers(letter) {
                line.push_str(&format!("\\u{:04x}", u32::from(letter)));
            } else {
                line.push(letter);
            }
        }
        line.push('\n');
        line
    }
}

impl From<Event> for Told {
    fn from(event: Event) -> Self {
        Self { event, cursor: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cursor_stands_beside_the_members_of_the_event() {
        let told = Told { event: Event::TurnStarted {}, cursor: Some(Cursor { epoch: 2, seq: 7 }) };
        assert_eq!(told.to_line(), "{\"type\":\"turn.started\",\"cursor\":{\"epoch\":2,\"seq\":7}}\n");
        assert_eq!(Told::from(Event::TurnStarted {}).to_line(), "{\"type\":\"turn.started\"}\n");
        let older = Cursor { epoch: 1, seq: 900 };
        assert!(older < Cursor { epoch: 2, seq: 7 });
    }
}
