use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::controller::tests::fixtures::{at, task};

fn place(uid: &str, second: i64, standing: Standing) -> Place {
    Place { since: at(second), uid: uid.into(), standing }
}

fn key() -> ProviderKey {
    ("team".into(), "default".into())
}

#[test]
fn the_oldest_begin_and_those_of_one_second_in_a_fixed_order() {
    let places = [
        place("late", 30, Standing::Waits),
        place("b", 10, Standing::Waits),
        place("a", 10, Standing::Waits),
        place("runs", 50, Standing::Runs),
        place("aside", 1, Standing::Aside),
        place("over", 1, Standing::Over),
    ];
    assert_eq!(due(1, &places), Vec::<&str>::new());
    assert_eq!(due(2, &places), ["a"]);
    assert_eq!(due(3, &places), ["a", "b"]);
    assert_eq!(due(100, &places), ["a", "b", "late"]);
    assert_eq!(due(0, &places), Vec::<&str>::new(), "more run than may: nobody begins");
}

#[test]
fn a_task_stands_where_the_watches_show_it() {
    let with = |status: serde_json::Value| task(|task| task["status"] = status);
    let because = |status: &str, reason: &str| {
        with(json!({"conditions": [{"type": "Succeeded", "status": status, "reason": reason, "message": "",
            "lastTransitionTime": "1970-01-01T00:00:00Z"}]}))
    };
    let fresh = task(|_| {});
    assert_eq!(standing(&fresh, false, false), Standing::Waits);
    assert_eq!(standing(&because("Unknown", "Queued"), false, false), Standing::Waits);
    assert_eq!(standing(&because("Unknown", "Queued"), true, false), Standing::Aside, "a quota keeps it");
    assert_eq!(standing(&because("Unknown", "WaitingForReference"), false, false), Standing::Aside);
    assert_eq!(standing(&task(|task| task["spec"]["suspend"] = json!(true)), false, false), Standing::Aside);
    assert_eq!(standing(&fresh, true, true), Standing::Runs);
    assert_eq!(standing(&with(json!({"resolved": {}})), true, false), Standing::Runs, "its pod was made");
    for status in ["True", "False"] {
        assert_eq!(
            standing(&because(status, "Completed"), true, true),
            Standing::Over,
            "its pod is only kept"
        );
    }
}

#[test]
fn without_a_bound_nobody_waits() {
    let mut queue = Queue::default();
    let places = vec![place("a", 1, Standing::Runs), place("b", 2, Standing::Waits)];
    queue.bound(&key(), Some(1));
    assert!(matches!(queue.enter(&key(), "b", at(2), places.clone()), Turn::Waits { limit: 1, .. }));
    queue.bound(&key(), None);
    assert_eq!(queue.enter(&key(), "b", at(2), places), Turn::Free);
    assert_eq!(queue.bounds().count(), 0);
}

#[test]
fn who_was_let_through_is_remembered_until_the_watches_show_it() {
    let mut queue = Queue::default();
    queue.bound(&key(), Some(1));
    let waiting = || vec![place("a", 1, Standing::Waits), place("b", 2, Standing::Waits)];
    assert_eq!(queue.enter(&key(), "a", at(1), waiting()), Turn::Free);
    assert_eq!(queue.enter(&key(), "a", at(1), waiting()), Turn::Free, "a pass that is made again");
    assert!(matches!(queue.enter(&key(), "b", at(2), waiting()), Turn::Waits { .. }));
    // No pod came of it.
    assert!(queue.step_aside("a") && !queue.step_aside("a"));
    assert_eq!(due(1, &queue.with_told(waiting())), ["b"], "it is not sent again and again");
    assert_eq!(queue.enter(&key(), "a", at(1), waiting()), Turn::Free);
    // Its task was deleted.
    queue.forget(|uid| uid != "a");
    assert_eq!(queue.enter(&key(), "b", at(2), vec![place("b", 2, Standing::Waits)]), Turn::Free);
    // It was seen, and then its end.
    let over = vec![place("b", 2, Standing::Over), place("c", 3, Standing::Waits)];
    assert_eq!(queue.enter(&key(), "c", at(3), over), Turn::Free);
}

#[test]
fn who_fails_to_get_a_pod_lets_others_go_first_and_comes_in_its_turn_again() {
    let mut queue = Queue::default();
    queue.bound(&key(), Some(1));
    // The watches show an AgentAttempt that the failed pass has made, or nothing of it yet.
    for of_a in [Standing::Waits, Standing::Aside] {
        let places = |of_b| vec![place("a", 1, of_a), place("b", 2, of_b)];
        assert_eq!(queue.enter(&key(), "a", at(1), places(Standing::Waits)), Turn::Free);
        assert!(queue.step_aside("a"));
        assert_eq!(due(1, &queue.with_told(places(Standing::Waits))), ["b"]);
        assert_eq!(queue.enter(&key(), "b", at(2), places(Standing::Waits)), Turn::Free);
        assert!(matches!(queue.enter(&key(), "a", at(1), places(Standing::Runs)), Turn::Waits { .. }));
        assert_eq!(due(1, &queue.with_told(places(Standing::Over))), ["a"], "it is woken when b has ended");
        // It waits for something else now.
        queue.withdraw("a");
        assert_eq!(queue.with_told(places(Standing::Over))[0].standing, of_a);
    }
}

#[derive(Clone, Debug)]
enum Move {
    /// A pass over the task with the watches as they are.
    Look(usize),
    /// The same, and it fails once the task has its AgentAttempt and before it has its pod.
    Fail(usize),
    /// The watches show all that has happened.
    Catch,
    /// The task ends.
    End(usize),
    /// The process begins anew, with the watches up to date.
    Restart,
}

proptest! {
    /// However old the views are, no more run than may; and when all rests, as many run as can, the oldest first.
    #[test]
    fn no_more_run_than_may_and_none_is_forgotten(
        limit in 1..4_usize,
        moves in prop::collection::vec(
            prop_oneof![
                6 => (0..8_usize).prop_map(Move::Look),
                2 => (0..8_usize).prop_map(Move::Fail),
                2 => Just(Move::Catch),
                2 => (0..8_usize).prop_map(Move::End),
                1 => Just(Move::Restart),
            ],
            0..80,
        ),
    ) {
        let mut queue = Queue::default();
        queue.bound(&key(), Some(limit));
        let mut truth: BTreeMap<String, Standing> =
            (0..8).map(|number| (number.to_string(), Standing::Waits)).collect();
        let mut seen = truth.clone();
        let mut made = BTreeSet::new();
        let places = |seen: &BTreeMap<String, Standing>, made: &BTreeSet<String>| -> Vec<Place> {
            let shown = seen.iter().map(|(uid, standing)| match standing {
                Standing::Waits if made.contains(uid) => (uid, Standing::Aside),
                other => (uid, *other),
            });
            shown.map(|(uid, standing)| place(uid, uid.parse().unwrap(), standing)).collect()
        };
        let running = |truth: &BTreeMap<String, Standing>| {
            truth.values().filter(|standing| **standing == Standing::Runs).count()
        };
        for step in moves {
            match step {
                Move::Look(number) => {
                    let uid = number.to_string();
                    if truth[&uid] == Standing::Waits
                        && queue.enter(&key(), &uid, at(number as i64), places(&seen, &made)) == Turn::Free
                    {
                        truth.insert(uid, Standing::Runs);
                    }
                }
                Move::Fail(number) => {
                    let uid = number.to_string();
                    if truth[&uid] == Standing::Waits
                        && queue.enter(&key(), &uid, at(number as i64), places(&seen, &made)) == Turn::Free
                    {
                        queue.step_aside(&uid);
                        made.insert(uid);
                    }
                }
                Move::Catch => seen = truth.clone(),
                Move::End(number) => {
                    let uid = number.to_string();
                    if truth[&uid] == Standing::Runs {
                        truth.insert(uid, Standing::Over);
                    }
                }
                Move::Restart => {
                    queue = Queue::default();
                    queue.bound(&key(), Some(limit));
                    seen = truth.clone();
                }
            }
            prop_assert!(running(&truth) <= limit);
        }
        // Those that failed are looked at again, and do not fail any more.
        seen = truth.clone();
        for uid in made.clone() {
            if truth[&uid] == Standing::Waits
                && queue.enter(&key(), &uid, at(uid.parse().unwrap()), places(&seen, &made)) == Turn::Free
            {
                truth.insert(uid, Standing::Runs);
            }
        }
        // Each is woken when it is its turn.
        while truth.values().any(|standing| *standing != Standing::Over) {
            seen = truth.clone();
            let now = queue.with_told(places(&seen, &made));
            for uid in due(limit, &now) {
                let turn = queue.enter(&key(), uid, at(uid.parse().unwrap()), places(&seen, &made));
                prop_assert_eq!(turn, Turn::Free);
                truth.insert(uid.to_owned(), Standing::Runs);
            }
            prop_assert!(running(&truth) > 0, "{:?}", truth);
            let oldest = truth.iter().find(|(_, standing)| **standing == Standing::Runs);
            let oldest = oldest.map(|(uid, _)| uid.clone()).unwrap();
            truth.insert(oldest, Standing::Over);
        }
    }
}
