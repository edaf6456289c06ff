use serde_json::{Value, json};

use super::super::told::{attempt, cluster, refusal};
use super::*;

fn orders(change: impl FnOnce(&mut Value)) -> Orders {
    let mut object = attempt("a");
    change(&mut object);
    Orders::of(&serde_json::from_value(object).unwrap())
}

fn message(seq: i64) -> Value {
    json!({"uid": format!("uid-{seq}"), "seq": seq, "kind": "Prompt", "text": "and this"})
}

/// What an agent hears last that follows the attempt `a`, and after how many seconds.
async fn heard(answer: impl Fn(&str) -> Option<(u16, Value)> + Send + Sync + 'static) -> (Orders, u64) {
    let (sender, mut orders) = watch::channel(Orders::Work { inbox: Vec::new(), suspend: false });
    let begun = Instant::now();
    let follow = follow(cluster(answer), "fix-1".into(), "a".into(), sender);
    tokio::time::timeout(Duration::from_secs(600), follow).await.expect("it stops");
    let last = orders.borrow_and_update().clone();
    (last, begun.elapsed().as_secs())
}

fn list(items: &[Value]) -> Value {
    let kind = "AgentAttemptList";
    json!({"apiVersion": "podwright.dev/v1alpha1", "kind": kind, "metadata": {"resourceVersion": "7"}, "items": items})
}

#[test]
fn orders_are_the_inbox_by_number_and_whether_to_stop() {
    let read = orders(|attempt| {
        attempt["spec"]["suspend"] = json!(true);
        attempt["spec"]["inbox"] = json!([message(3), message(1), message(2)]);
    });
    let Orders::Work { inbox, suspend } = read else { panic!("it goes on") };
    assert!(suspend);
    assert_eq!(inbox.iter().map(|message| message.seq).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(orders(|_| ()), Orders::Work { inbox: Vec::new(), suspend: false });
}

#[test]
fn an_attempt_that_is_being_deleted_is_gone() {
    let read = orders(|attempt| attempt["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"));
    assert!(matches!(read, Orders::Gone(_)));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_is_not_there_or_another_one_is_gone() {
    for items in [vec![], vec![attempt("b")]] {
        let (orders, after) = heard(move |_| Some((200, list(&items)))).await;
        assert!(matches!(orders, Orders::Gone(_)));
        assert_eq!(after, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_counts_only_when_it_lasts() {
    let (orders, after) = heard(|_| Some(refusal(403))).await;
    assert!(matches!(orders, Orders::Gone(_)));
    assert!(after >= 20, "{after}");
    // For less than that it is lived through: what ends it here is the deletion.
    let begun = Instant::now();
    let (orders, _) = heard(move |_| {
        Some(if begun.elapsed() < Duration::from_secs(15) { refusal(401) } else { (200, list(&[])) })
    })
    .await;
    assert_eq!(orders, Orders::Gone("the attempt does not exist any more".into()));
}
