//! Final answers that have a form to keep to.

use super::world::{World, command, config, prepared, reason, words};
use crate::agent::journal::record::Record;
use crate::agent::machine::{Config, Signal};
use crate::api::reasons::Reason;
use crate::llm::{AnswerFormat, Item, Role};

const GOOD: &str = r#"{"ok":true}"#;

/// A machine whose answers have to fit a schema, and whose first request is under way.
fn asked(config: Config) -> World {
    let schema = r#"{"type":"object","properties":{"ok":{"type":"boolean"}},"required":["ok"]}"#;
    let mut world = World::new(config);
    world.start();
    let Signal::Prepared(mut thread) = prepared() else { panic!("prepared") };
    thread.opened.answer = Some(AnswerFormat { schema: schema.into(), strict: false });
    world.tell(Signal::Prepared(thread));
    world
}

fn rejections(world: &World) -> Vec<String> {
    let records = world.journal.iter().map(|entry| &entry.record);
    records
        .filter_map(|record| match record {
            Record::AnswerRejected(rejected) => Some(rejected.problem.clone()),
            _ => None,
        })
        .collect()
}

fn answer(world: &mut World, text: &str) {
    world.item(words(text));
    world.completed(None);
}

fn newest_words_of_the_user(world: &World) -> String {
    let thread = world.machine.state().thread.as_ref().unwrap();
    let said = thread.history.items().filter_map(|item| match &item.item {
        Item::Message(message) if message.role == Role::User => Some(message.text()),
        _ => None,
    });
    said.last().unwrap()
}

#[test]
fn an_answer_that_fits_ends_the_turn() {
    let mut world = asked(config());
    world.item(words("I look."));
    world.item(command("c1", "make"));
    world.completed(None);
    world.ended(3, "built");
    answer(&mut world, GOOD);
    assert_eq!(reason(&world), Some(Reason::Completed));
    assert!(rejections(&world).is_empty(), "words on the way are no answer");
}

#[test]
fn an_answer_that_does_not_fit_is_sent_back_with_what_is_wrong() {
    let mut world = asked(config());
    answer(&mut world, "Yes.");
    assert_eq!((reason(&world), world.request()), (None, 2));
    assert!(newest_words_of_the_user(&world).contains("it is not one JSON value"));
    // The model may work on before it answers again.
    world.item(command("c1", "make"));
    world.completed(None);
    world.ended(4, "built");
    answer(&mut world, r#"{"ok":1}"#);
    assert!(newest_words_of_the_user(&world).contains("at /ok: "));
    answer(&mut world, GOOD);
    let outcome = world.machine.state().outcome.clone().unwrap();
    assert_eq!((outcome.reason, outcome.message.as_str()), (Reason::Completed, GOOD));
    assert_eq!(rejections(&world).len(), 2);
}

#[test]
fn an_answer_that_never_fits_ends_the_attempt() {
    let mut world = asked(config());
    for text in ["Yes.", "", "No."] {
        if text.is_empty() {
            world.completed(None);
        } else {
            answer(&mut world, text);
        }
    }
    let outcome = world.machine.state().outcome.clone().unwrap();
    assert_eq!(outcome.reason, Reason::ModelFailed);
    assert!(outcome.message.contains("3 times: it is not one JSON value"), "{}", outcome.message);
    assert_eq!(rejections(&world)[1], "it is empty");
}

#[test]
fn a_process_that_dies_after_a_rejection_asks_again_and_counts_on() {
    let mut world = asked(config());
    answer(&mut world, "Yes.");
    // The request had not left yet.
    world
        .journal
        .retain(|entry| !matches!(&entry.record, Record::ModelIntent(intent) if intent.request == 2));
    world.restart("crash");
    world.found(std::collections::BTreeMap::new());
    assert_eq!(world.request(), 2);
    answer(&mut world, "No.");
    answer(&mut world, "Never.");
    assert_eq!((reason(&world), rejections(&world).len()), (Some(Reason::ModelFailed), 2));
}

#[test]
fn each_turn_has_its_own_tries() {
    let mut world = asked(Config { keep: std::time::Duration::from_secs(60), ..config() });
    answer(&mut world, "Yes.");
    answer(&mut world, "Yes.");
    answer(&mut world, GOOD);
    let prompt = super::world::message(1, crate::agent::journal::record::InputKind::Prompt, "and this");
    world.say("prompt", Signal::Message(prompt));
    answer(&mut world, "Yes.");
    answer(&mut world, GOOD);
    world.wait(60);
    assert_eq!((reason(&world), rejections(&world).len()), (Some(Reason::Completed), 3));
}
