//! What surfaces hear while a task runs, and from its journal afterwards.

use podwright::agent::events::replay::replay;
use podwright::agent::events::{Cursor, Event, ItemDetails, Told};
use serde_json::{Value, json};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::TryRecvError;

use crate::stage::Stage;

const TASK: &str = r#"
pace: {deltaCharacters: 8}
scenarios:
  - name: look
    replies:
      - output:
          - reasoning: What is there to be seen?
          - text: I look at the greeting.
          - plan: [{step: Look, status: completed}]
          - call: {tool: exec_command, arguments: {cmd: sh greet.sh}}
      - output: [{text: It says hullo.}]
"#;

/// Everything that was told so far.
fn heard(surface: &mut Receiver<Told>) -> Vec<Told> {
    let mut all = Vec::new();
    loop {
        match surface.try_recv() {
            Ok(told) => all.push(told),
            Err(TryRecvError::Empty | TryRecvError::Closed) => return all,
            Err(TryRecvError::Lagged(lost)) => panic!("{lost} events were lost"),
        }
    }
}

fn shown(told: &Told) -> String {
    let value = serde_json::to_value(told).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let id = text(&value["item"]["id"]) + &text(&value["item_id"]);
    format!("{} {id} {}", text(&value["type"]), text(&value["item"]["type"])).trim_end().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_surface_hears_items_grow_and_the_journal_tells_the_rest_again() {
    let stage = Stage::new(TASK).await;
    let mut surface = stage.surfaces.subscribe();
    stage.run().await;
    let all = heard(&mut surface);
    let kinds: Vec<String> = all.iter().map(shown).collect();
    let place = |what: &str| {
        kinds.iter().position(|kind| kind == what).unwrap_or_else(|| panic!("no {what}: {kinds:#?}"))
    };
    let message = all.iter().find_map(|told| {
        let Event::ItemCompleted { item } = &told.event else { return None };
        matches!(item.details, ItemDetails::AgentMessage { .. }).then(|| item.id.clone())
    });
    let id = message.unwrap();
    let (begun, grown) =
        (place(&format!("item.started {id} agent_message")), place(&format!("item.delta {id}")));
    let whole = place(&format!("item.completed {id} agent_message"));
    assert!(begun < grown && grown < whole, "{kinds:#?}");
    let words: String = all
        .iter()
        .filter_map(|told| {
            let Event::ItemDelta { item_id, delta, .. } = &told.event else { return None };
            (*item_id == id).then_some(delta.as_str())
        })
        .collect();
    assert_eq!(words, "I look at the greeting.");
    for what in ["turn.plan.updated", "thread.usage.updated", "turn.diff.updated"] {
        place(what);
    }
    let run = |kind: &str| {
        all.iter().position(|told| {
            let value = serde_json::to_value(told).unwrap();
            value["type"] == kind && value["item"]["type"] == "command_execution"
        })
    };
    assert!(run("item.started") < run("item.completed"));

    // The log has neither parts nor what surfaces alone are told; what it has carries the same cursors.
    let lines: Vec<Value> =
        all.iter().filter(|told| told.event.is_logged()).map(|told| json!(told)).collect();
    assert_eq!(stage.events(), lines);
    assert!(stage.events().iter().all(|event| event["type"] != "item.delta"));

    let cursors: Vec<Cursor> = all.iter().filter_map(|told| told.cursor).collect();
    assert!(cursors.is_sorted() && cursors.len() > 8, "{cursors:?}");
    // Whoever left after any of them hears the rest of what was told with a cursor, from the journal.
    let journal = stage.journal();
    let kept = |told: &[Told]| -> Vec<String> {
        let kept = told.iter().filter(|told| told.cursor.is_some());
        kept.map(shown).collect()
    };
    for (place, told) in all.iter().enumerate().filter(|(_, told)| told.cursor.is_some()) {
        let again: Vec<String> = replay(&journal, told.cursor).unwrap().iter().map(shown).collect();
        for missed in kept(&all[place + 1..]) {
            assert!(again.contains(&missed), "{missed} after {}: {again:#?}", shown(told));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_that_a_killed_agent_had_begun_is_closed_by_the_next_one() {
    let stage = Stage::new(
        r#"
scenarios:
  - name: slow
    replies:
      - output: [{text: This takes its time.}]
        pace: {deltaCharacters: 4, eventMillis: 400}
      - output: [{text: Done.}]
"#,
    )
    .await;
    let mut surface = stage.surfaces.subscribe();
    let agent = stage.agent();
    let id = loop {
        if let Event::ItemDelta { item_id, .. } = surface.recv().await.unwrap().event {
            break item_id;
        }
    };
    agent.crash();
    let before = heard(&mut surface);
    assert!(before.iter().all(|told| shown(told) != format!("item.completed {id} agent_message")));
    stage.run().await;
    let kinds: Vec<String> = heard(&mut surface).iter().map(shown).collect();
    assert_eq!(kinds[0], format!("item.completed {id} unfinished"), "{kinds:#?}");
    assert_eq!(kinds[1], "error");
    assert!(kinds.contains(&format!("item.completed {id} agent_message")), "{kinds:#?}");
    let error = stage.events().into_iter().find(|event| event["willRetry"] == true).unwrap();
    assert!(error["message"].as_str().unwrap().contains("restarted in the middle"), "{error}");
}
