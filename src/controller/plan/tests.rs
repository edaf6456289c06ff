use serde_json::{Value, json};

use super::*;
use crate::api::AgentMessage;
use crate::api::message::MessageKind;
use crate::controller::tests::fixtures::{
    accepted, at, at_work, fresh, message, pod, running, stored_attempt, task,
};
use std::sync::Arc;

/// The kubelet took the pod at second 100.
const NOW: i64 = 200;

fn decided(observed: &Observed) -> Plan {
    plan(observed, at(NOW))
}

fn working(observed: &Observed, now: i64) -> (Reason, Option<Timestamp>) {
    let situation = plan(observed, at(now)).situation;
    let Situation::Working { reason, until, .. } = situation else { panic!("{situation:?}") };
    (reason, until)
}

fn ending(observed: &Observed, now: i64) -> Ending {
    let situation = plan(observed, at(now)).situation;
    let Situation::Ended(ending) = situation else { panic!("{situation:?}") };
    ending
}

fn report(phase: &str) -> Value {
    json!({"phase": phase, "epoch": 1, "activeSeconds": 0, "lastProgressTime": "1970-01-01T00:03:20Z"})
}

#[test]
fn a_task_that_can_be_run_gets_its_pod() {
    let plan = decided(&fresh());
    assert_eq!(plan.situation, Situation::Start);
    assert!(plan.attempt.is_some() && plan.pod.is_some());
}

#[test]
fn nothing_irrevocable_rests_on_a_watch() {
    let ended =
        at_work(json!({"phase": "Ended", "epoch": 1, "outcome": {"reason": "Completed", "message": "x"}}));
    assert!(decided(&fresh()).is_irrevocable());
    assert!(decided(&ended).is_irrevocable());
    assert!(!decided(&at_work(report("Running"))).is_irrevocable());
}

#[test]
fn the_agents_phase_is_the_tasks_reason() {
    for (phase, reason) in
        [("Preparing", Reason::Preparing), ("Running", Reason::Running), ("Idle", Reason::Idle)]
    {
        assert_eq!(working(&at_work(report(phase)), NOW).0, reason);
    }
    assert_eq!(working(&at_work(json!({"epoch": 1})), NOW).0, Reason::Preparing);
}

#[test]
fn a_report_of_another_epoch_is_not_believed() {
    let stale = json!({"phase": "Ended", "epoch": 0, "outcome": {"reason": "Completed", "message": "x"}});
    assert_eq!(working(&at_work(stale), NOW).0, Reason::Preparing);
}

#[test]
fn an_end_that_is_none_is_a_fault_of_ours() {
    for outcome in [json!({"reason": "Running", "message": "x"}), Value::Null] {
        let mut status = json!({"phase": "Ended", "epoch": 1});
        if !outcome.is_null() {
            status["outcome"] = outcome;
        }
        assert_eq!(ending(&at_work(status), NOW).reason, Reason::InternalError);
    }
}

#[test]
fn success_without_a_patch_is_a_fault_of_ours() {
    let ended = |reason: &str, patch: Value| {
        let outcome = json!({"reason": reason, "message": "x"});
        at_work(json!({"phase": "Ended", "epoch": 1, "outcome": outcome, "patch": patch}))
    };
    let artifact = json!({"configMapName": "a", "key": "patch.zst", "sha256": "x", "bytes": 1});
    for patch in [Value::Null, json!({"bytes": 1}), json!({"bytes": 1, "inline": "x"})] {
        let ending = self::ending(&ended("Completed", patch.clone()), NOW);
        assert_eq!(ending.reason, Reason::InternalError, "{patch}");
        assert!(ending.message.contains("patch"), "{}", ending.message);
        // A failure may come before there is anything to keep.
        let failed = self::ending(&ended("ModelFailed", patch), NOW);
        assert_eq!(failed.reason, Reason::ModelFailed);
    }
    assert_eq!(ending(&ended("Completed", json!({"artifact": artifact})), NOW).reason, Reason::Completed);
}

#[test]
fn a_suspended_task_gets_no_pod_and_a_running_one_keeps_it() {
    let suspended = Arc::new(task(|task| task["spec"]["suspend"] = json!(true)));
    let before = Observed { task: suspended.clone(), ..fresh() };
    let plan = decided(&before);
    assert!(matches!(plan.situation, Situation::Waiting { reason: Reason::Suspended, .. }));
    assert!(plan.attempt.is_none() && plan.pod.is_none());

    let asked = Observed { task: suspended.clone(), ..at_work(report("Running")) };
    let plan = decided(&asked);
    assert!(plan.attempt.is_some_and(|attempt| attempt.spec.suspend), "the agent is told");
    assert_eq!(working(&asked, NOW).0, Reason::Running, "until it has stopped");
    let mut stopped = report("Running");
    stopped["suspended"] = json!(true);
    let stopped = Observed { task: suspended, ..at_work(stopped) };
    assert_eq!(working(&stopped, NOW), (Reason::Suspended, None));
}

#[test]
fn an_agent_far_past_its_time_is_ended() {
    // The default is 7,200 s of active time, and 10 minutes more; the report was at second 200.
    let limit = 200 + 7_200 + 600;
    let running = at_work(report("Running"));
    assert_eq!(working(&running, limit - 1), (Reason::Running, Some(at(limit))));
    assert_eq!(ending(&running, limit).reason, Reason::DeadlineExceeded);
    let mut spent = report("Running");
    spent["activeSeconds"] = json!(7_000);
    assert_eq!(ending(&at_work(spent), limit - 7_000).reason, Reason::DeadlineExceeded);
    // Waiting for a person is not active time.
    assert_eq!(working(&at_work(report("Idle")), limit * 10), (Reason::Idle, None));
    // An agent that never reports anything is noticed as well: from the moment the kubelet took the pod.
    let mute = at_work(json!({"epoch": 0}));
    assert_eq!(ending(&mute, limit - 100).reason, Reason::DeadlineExceeded);
}

#[test]
fn a_cancellation_gives_the_agent_two_minutes() {
    let cancel = Arc::new(accepted(message("stop", "Cancel", 10), "True", 300));
    let observed = Observed { messages: vec![cancel], ..at_work(report("Running")) };
    assert_eq!(working(&observed, 419), (Reason::Running, Some(at(420))));
    let ending = ending(&observed, 420);
    assert_eq!((ending.reason, ending.by), (Reason::Cancelled, EndedBy::Controller));
}

#[test]
fn a_task_whose_agent_never_began_is_cancelled_at_once() {
    let messages = vec![Arc::new(message("stop", "Cancel", 10))];
    let pending = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False"}]});
    let observed = Observed {
        attempt: Some(Arc::new(stored_attempt())),
        pod: Some(Arc::new(pod(pending))),
        messages,
        references: None,
        ..fresh()
    };
    assert_eq!(ending(&observed, NOW).reason, Reason::Cancelled);
    // One that runs may have begun, whatever it has not said yet.
    let observed = Observed { pod: Some(Arc::new(pod(running()))), ..observed };
    assert_eq!(working(&observed, NOW).0, Reason::Preparing);
}

#[test]
fn a_message_to_an_earlier_task_of_the_same_name_is_not_for_this_one() {
    let mut old = message("stop", "Cancel", 10);
    old.metadata.owner_references =
        Some(vec![k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference {
            kind: "AgentTask".into(),
            uid: "earlier".into(),
            ..Default::default()
        }]);
    let observed = Observed { messages: vec![Arc::new(old)], ..fresh() };
    assert_eq!(decided(&observed).situation, Situation::Start);
}

#[test]
fn a_prompt_before_the_pod_waits_and_is_told_so() {
    let suspended = Arc::new(task(|task| task["spec"]["suspend"] = json!(true)));
    let messages = vec![Arc::new(message("more", "Prompt", 10))];
    let observed = Observed { task: suspended, messages, ..fresh() };
    let answers = decided(&observed).answers;
    assert_eq!(answers.iter().map(|answer| answer.reason).collect::<Vec<_>>(), ["NoPodYet"]);
    let told = Arc::new(accepted(message("more", "Prompt", 10), "Unknown", 20));
    let observed = Observed { messages: vec![told], ..observed };
    assert!(decided(&observed).answers.is_empty(), "once");
}

#[test]
fn an_agent_has_sixteen_messages_at_most_and_prompts_leave_a_place_for_a_cancellation() {
    let mut messages: Vec<_> = (0..20).map(|n| Arc::new(message(&format!("m{n:02}"), "Prompt", n))).collect();
    let seqs = |messages: &[Arc<AgentMessage>]| {
        let observed = Observed { messages: messages.to_vec(), ..at_work(report("Running")) };
        let plan = decided(&observed);
        let inbox = plan.attempt.unwrap().spec.inbox;
        assert_eq!(plan.answers.len(), inbox.len());
        inbox.iter().map(|entry| (entry.seq, entry.kind)).collect::<Vec<_>>()
    };
    let prompts: Vec<_> = (1..=15).map(|seq| (seq, MessageKind::Prompt)).collect();
    assert_eq!(seqs(&messages), prompts);
    for n in 20..23 {
        messages.push(Arc::new(message(&format!("m{n:02}"), "Cancel", n)));
    }
    assert_eq!(seqs(&messages), [prompts, vec![(16, MessageKind::Cancel)]].concat());
}

#[test]
fn a_cancellation_of_an_earlier_task_of_the_name_is_left_alone() {
    let turned_down = Arc::new(accepted(message("old", "Cancel", 10), "False", 20));
    let observed = Observed { messages: vec![turned_down], ..at_work(report("Running")) };
    assert!(matches!(decided(&observed).situation, Situation::Working { .. }));
}

#[test]
fn a_missing_message_is_believed_only_on_fresh_reads() {
    let mut observed = at_work(json!({"phase": "Running", "epoch": 1, "inboxSeq": 1}));
    let mut attempt = AgentAttempt::clone(observed.attempt.as_ref().unwrap());
    attempt.spec.inbox = vec![crate::api::attempt::InboxMessage {
        uid: "uid-gone".into(),
        seq: 1,
        kind: MessageKind::Prompt,
        text: "x".into(),
    }];
    observed.attempt = Some(Arc::new(attempt));
    assert!(decided(&observed).is_irrevocable());
    observed.messages = vec![Arc::new(message("gone", "Prompt", 1))];
    assert!(!decided(&observed).is_irrevocable());
}

#[test]
fn looks_are_spread_and_never_late() {
    let waiting = Situation::Waiting {
        reason: Reason::WaitingForReference,
        message: String::new(),
        again: Some(LOOK_AGAIN),
    };
    for spread in [0.0, 0.5, 1.0] {
        let again = waiting.again(at(0), spread).unwrap();
        assert!(again >= LOOK_AGAIN && again <= LOOK_AGAIN * 2, "{again:?}");
    }
    let exact = |until| Situation::Working {
        reason: Reason::Running,
        message: String::new(),
        until: Some(at(until)),
    };
    assert_eq!(exact(10).again(at(0), 0.7), Some(Duration::from_secs(11)));
    assert_eq!(exact(10).again(at(60), 0.7), Some(Duration::from_secs(1)));
    assert!(exact(100_000).again(at(0), 1.0) < Some(SAFETY * 2));
}
