use serde_json::{Value, json};

use super::situation::SAFETY;
use super::*;
use crate::api::attempt::{InboxMessage, Phase};
use crate::api::conditions::ConditionStatus;
use crate::api::message::MessageKind;
use crate::api::{AgentAttempt, AgentAttemptStatus, AgentMessage};
use crate::controller::tests::fixtures::{
    TASK_UID, accepted, at, at_work, fresh, knowing, message, pod, running, seeing, stored_attempt, task,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
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
    assert!(plan.attempts[0].attempt.is_some() && plan.attempts[0].pod.is_some());
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
fn a_parked_agent_waits_for_its_model_and_is_not_past_its_time() {
    let mut parked = report("Parked");
    parked["modelFailure"] = json!("http://model fails (HTTP 503).\u{1b}[2J");
    let observed = at_work(parked);
    assert_eq!(working(&observed, NOW + 100_000), (Reason::ModelUnavailable, None));
    let Situation::Working { message, .. } = decided(&observed).situation else { panic!("it works") };
    assert!(message.ends_with("http://model fails (HTTP 503).[2J"), "{message}");
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
    assert!(plan.attempts[0].attempt.is_none() && plan.attempts[0].pod.is_none());

    let asked = Observed { task: suspended.clone(), ..at_work(report("Running")) };
    let plan = decided(&asked);
    let amended = plan.attempts[0].attempt.as_ref();
    assert!(amended.is_some_and(|attempt| attempt.spec.suspend), "the agent is told");
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
    // On the way in most is no active time: the fetch, and the pull of the sandbox's image.
    let entering = at_work(report("Preparing"));
    assert_eq!(working(&entering, limit).0, Reason::Preparing);
    assert_eq!(ending(&entering, limit + 90 * 60).reason, Reason::DeadlineExceeded);
    // An agent that never reports anything is noticed as well: from the moment the kubelet took the pod.
    let mute = at_work(json!({"epoch": 0}));
    assert_eq!(ending(&mute, limit - 100).reason, Reason::DeadlineExceeded);
}

#[test]
fn an_agent_that_has_taken_a_cancellation_in_has_more_time_to_end() {
    for (status, patience) in [("Unknown", 120), ("True", 600)] {
        let cancel = Arc::new(accepted(message("stop", "Cancel", 10), status, 300));
        let observed = Observed { messages: vec![cancel], ..at_work(report("Running")) };
        let limit = 300 + patience;
        assert_eq!(working(&observed, limit - 1), (Reason::Running, Some(at(limit))));
        let ending = ending(&observed, limit);
        assert_eq!((ending.reason, ending.by), (Reason::Cancelled, EndedBy::Controller));
    }
}

#[test]
fn a_cancellation_that_was_just_taken_in_is_not_cut_short() {
    // Delivered long ago, taken in now: the sender is told in this very pass.
    let cancel = Arc::new(accepted(message("stop", "Cancel", 10), "Unknown", 20));
    let mut status = report("Running");
    status["inboxSeq"] = json!(1);
    let mut observed = Observed { messages: vec![cancel], ..at_work(status) };
    observed.attempts[0].attempt = Some(with_inbox(&observed, "stop", MessageKind::Cancel));
    assert_eq!(working(&observed, NOW).0, Reason::Running);
    assert_eq!(told(&observed), ["HandedOver"]);
}

/// The attempt with one entry in its inbox.
fn with_inbox(observed: &Observed, name: &str, kind: MessageKind) -> Arc<AgentAttempt> {
    let mut attempt = AgentAttempt::clone(observed.attempts[0].attempt.as_ref().unwrap());
    let uid = format!("uid-{name}");
    attempt.spec.inbox = vec![InboxMessage { uid, seq: 1, kind, text: "x".into() }];
    Arc::new(attempt)
}

/// The reasons that senders are told.
fn told(observed: &Observed) -> Vec<&'static str> {
    decided(observed).answers.iter().map(|answer| answer.reason).collect()
}

#[test]
fn a_sender_is_told_yes_only_when_the_agent_has_the_message() {
    let messages = vec![Arc::new(message("more", "Prompt", 10))];
    let said = Observed { messages, ..at_work(report("Running")) };
    assert_eq!(told(&said), ["Delivered"]);
    assert_eq!(decided(&said).answers[0].status, ConditionStatus::Unknown);
    let inbox = with_inbox(&said, "more", MessageKind::Prompt);
    let lies = seeing(said, |seen| seen.attempt = Some(inbox));
    assert_eq!(told(&lies), ["Delivered"], "it was not told yet");
    let with = |change: fn(&mut AgentAttemptStatus)| {
        let mut attempt = AgentAttempt::clone(lies.attempts[0].attempt.as_ref().unwrap());
        change(attempt.status.as_mut().unwrap());
        seeing(lies.clone(), |seen| seen.attempt = Some(Arc::new(attempt)))
    };
    let taken = with(|status| status.inbox_seq = 1);
    assert_eq!(told(&taken), ["HandedOver"]);
    assert_eq!(decided(&taken).answers[0].status, ConditionStatus::True);
    // The agent ends without it.
    let ended = with(|status| status.phase = Some(Phase::Ended));
    assert_eq!(told(&ended), ["NotTaken"]);
    assert_eq!(decided(&ended).answers[0].status, ConditionStatus::False);
}

#[test]
fn a_message_after_the_end_is_told_so() {
    let ended = task(|task| {
        task["status"] = json!({"observedGeneration": 1, "completionTime": "1970-01-01T00:01:00Z",
            "conditions": [{"type": "Succeeded", "status": "False", "reason": "Cancelled", "message": "",
                "lastTransitionTime": "1970-01-01T00:01:00Z"}]});
    });
    let messages = [("open", "Cancel", 50), ("prompt", "Prompt", 51), ("late", "Cancel", 61)];
    let observed = Observed {
        task: Arc::new(ended),
        messages: messages.iter().map(|(name, kind, at)| Arc::new(message(name, kind, *at))).collect(),
        ..fresh()
    };
    assert_eq!(told(&observed), ["HandedOver", "NotTaken", "TaskEnded"]);
}

#[test]
fn a_cancellation_older_than_the_task_was_meant_for_another() {
    let born = task(|task| task["metadata"]["creationTimestamp"] = json!("1970-01-01T00:01:00Z"));
    let old = |kind| Arc::new(message("old", kind, 59));
    let observed = Observed { task: Arc::new(born), messages: vec![old("Cancel")], ..fresh() };
    assert_eq!(decided(&observed).situation, Situation::Start);
    let running = Observed { task: observed.task.clone(), ..at_work(report("Running")) };
    let running = Observed { messages: vec![old("Cancel")], ..running };
    assert_eq!(told(&running), ["EarlierTask"]);
    assert!(decided(&running).attempts[0].attempt.is_none(), "the agent is not told");
    // A prompt may be applied before its task, and a cancellation in the same second counts.
    let prompted = Observed { messages: vec![old("Prompt")], ..running };
    assert!(decided(&prompted).attempts[0].attempt.is_some());
    let messages = vec![Arc::new(message("now", "Cancel", 60))];
    let cancelled = Observed { messages, ..observed };
    assert_eq!(ending(&cancelled, NOW).reason, Reason::Cancelled);
}

#[test]
fn messages_of_one_second_keep_the_order_in_which_they_were_stored() {
    let said = |name: &str, version: &str, is_seen: bool| {
        let mut message = message(name, "Prompt", 10);
        message.metadata.resource_version = Some(version.into());
        if is_seen {
            let owner = json!([{"apiVersion": "podwright.dev/v1alpha1", "kind": "AgentTask", "name": "fix",
                "uid": TASK_UID}]);
            message.metadata.owner_references = Some(serde_json::from_value(owner).unwrap());
        }
        Arc::new(message)
    };
    // The one that was seen before has been written to since.
    let messages = vec![said("a", "100", false), said("b", "99", false), said("c", "101", true)];
    let observed = Observed { messages, ..at_work(report("Running")) };
    let inbox = decided(&observed).attempts.remove(0).attempt.unwrap().spec.inbox;
    let order: Vec<_> = inbox.iter().map(|entry| entry.uid.as_str()).collect();
    assert_eq!(order, ["uid-c", "uid-b", "uid-a"]);
}

#[test]
fn a_task_whose_agent_never_began_is_cancelled_at_once() {
    let messages = vec![Arc::new(message("stop", "Cancel", 10))];
    let pending = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False"}]});
    let observed = seeing(Observed { messages, references: None, ..fresh() }, |seen| {
        seen.attempt = Some(Arc::new(stored_attempt()));
        seen.pod = Some(Arc::new(pod(pending)));
    });
    assert_eq!(ending(&observed, NOW).reason, Reason::Cancelled);
    // One that runs may have begun, whatever it has not said yet.
    let observed = seeing(observed, |seen| seen.pod = Some(Arc::new(pod(running()))));
    assert_eq!(working(&observed, NOW).0, Reason::Preparing);
}

#[test]
fn a_pod_that_was_taken_back_is_waited_out_and_is_no_lost_one() {
    let mut going = pod(running());
    going.metadata.deletion_timestamp = Some(Time(at(NOW + 10)));
    let observed = seeing(at_work(json!({"epoch": 0})), |seen| seen.pod = Some(Arc::new(going)));
    assert!(matches!(decided(&observed).situation, Situation::Waiting { reason: Reason::Preparing, .. }));
    assert!(!decided(&observed).attempts[0].rights, "it gets no rights any more");
    // One on record is somebody's deletion of a pod that worked.
    let recorded = json!([{"index": 1, "name": "fix-1", "epoch": 1}]);
    let known = task(|task| task["status"]["attempts"] = recorded);
    let observed = knowing(observed, known);
    assert_eq!(working(&observed, NOW).0, Reason::Preparing);
    assert_eq!(ending(&observed, NOW + 100).reason, Reason::SandboxLost);
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
        let mut plan = decided(&observed);
        let inbox = plan.attempts.remove(0).attempt.unwrap().spec.inbox;
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
    observed.attempts[0].attempt = Some(with_inbox(&observed, "gone", MessageKind::Prompt));
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
