use proptest::prelude::*;

use super::*;
use crate::agent::journal::record::fixture::opened;
use crate::agent::journal::record::{Record, ThreadOpened, TurnStarted};
use crate::llm::Wire;

fn thread(wire: Wire) -> Thread {
    Thread::open(&ThreadOpened { wire, ..opened() }).unwrap()
}

fn say(thread: &mut Thread, text: &str) {
    let items = vec![thread.message(Role::User, text)];
    thread.apply(&Record::TurnStarted(TurnStarted { input_uid: String::new(), items })).unwrap();
}

#[test]
fn what_there_is_nothing_of_is_not_carried_over() {
    let mut thread = thread(Wire::Responses);
    say(&mut thread, "do it");
    let replaced = replacement(&thread, None, None, Summary::Words("State: fine.".into()));
    assert_eq!((replaced.window, replaced.removed, replaced.said), (2, (0, 1), 1));
    assert_eq!(replaced.items.len(), 2, "words and summary");
    assert_eq!(carried_over(&[], &[]), None);
    let plan = [PlanStep { step: "look".into(), status: StepStatus::Pending }];
    let text = carried_over(&[], &plan).unwrap();
    assert_eq!(text, "<carried_over>\nYour plan as you last gave it:\n- [pending] look\n</carried_over>");
}

proptest! {
    /// The newest words are kept, in their order and within the bound, whatever was said.
    #[test]
    fn people_are_quoted_newest_first_and_within_the_bound(
        lengths in prop::collection::vec(0usize..40_000, 0..12),
        window in prop::option::of(4096u64..200_000),
    ) {
        for wire in [Wire::Responses, Wire::Chat, Wire::Messages] {
            let mut thread = thread(wire);
            let texts: Vec<String> =
                lengths.iter().enumerate().map(|(index, length)| format!("{index} {}", "x".repeat(*length))).collect();
            texts.iter().for_each(|text| say(&mut thread, text));
            let kept = words_of_people(&thread, window, usize::MAX);
            let kept: Vec<String> = kept.iter().map(|item| match &item.item {
                Item::Message(message) => message.text(),
                other => panic!("{other:?}"),
            }).collect();
            let bound = window.map_or(20_000, |window| (window / 4).min(20_000));
            // The marker of the one that was cut comes beside.
            let size: u64 = kept.iter().map(|text| text.len() as u64 / 4).sum();
            prop_assert!(size <= bound + 10, "{} of {}", size, bound);
            let newest = texts[texts.len() - kept.len()..].iter();
            for (index, (kept, said)) in kept.iter().zip(newest).enumerate() {
                prop_assert!(kept == said || index == 0 && kept.contains(" tokens truncated…"));
            }
            let all: u64 = texts.iter().map(|text| tokens(text.len() as u64)).sum();
            prop_assert!(kept == texts || all > bound);
        }
    }
}
