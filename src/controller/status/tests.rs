use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::bound::{MAX_BYTES, encoded_bytes};
use super::*;
use crate::api::AgentTask;
use crate::controller::observed::{ArtifactCheck, SeenAttempt};
use crate::controller::plan::{EndedBy, Ending};
use crate::controller::tests::fixtures::{at, at_work, fresh, knowing, seeing, task};
use std::sync::Arc;

fn working(reason: Reason) -> Situation {
    Situation::Working { reason, message: "why".into(), until: None }
}

fn ended(reason: Reason) -> Situation {
    Situation::Ended(Ending { reason, message: "why".into(), by: EndedBy::Agent })
}

/// The status of a task with one attempt, in whose situation it is as well.
fn next_of(observed: &Observed, situation: &Situation, second: i64) -> AgentTaskStatus {
    next(observed, situation, std::slice::from_ref(situation), None, at(second))
}

fn of<'a>(status: &'a AgentTaskStatus, type_: &str) -> &'a Condition {
    conditions::find(&status.conditions, type_).unwrap()
}

#[test]
fn the_first_status_says_what_generic_tools_look_for() {
    let situation = Situation::Waiting { reason: Reason::Queued, message: "why".into(), again: None };
    let status = next_of(&fresh(), &situation, 50);
    assert_eq!(status.observed_generation, 1);
    assert_eq!(status.start_time, Some(Time(at(50))));
    assert_eq!(of(&status, "Succeeded").status, "Unknown");
    assert_eq!(of(&status, "Reconciling").status, "True");
    assert_eq!(of(&status, "Stalled").status, "False");
    assert_eq!(status.resolved, None, "there was no pod");
}

#[test]
fn every_reason_has_its_conditions() {
    for reason in Reason::ALL {
        let status = next_of(&fresh(), &working(reason), 50);
        let (succeeded, reconciling, stalled) = match reason.verdict() {
            Verdict::Working => ("Unknown", "True", "False"),
            Verdict::Succeeded => ("True", "False", "False"),
            Verdict::Failed => ("False", "False", "True"),
        };
        assert_eq!(of(&status, "Succeeded").status, succeeded);
        assert_eq!(of(&status, "Succeeded").reason, reason.as_str());
        assert_eq!(of(&status, "Reconciling").status, reconciling);
        assert_eq!(of(&status, "Stalled").status, stalled);
    }
}

#[test]
fn the_same_world_gives_the_same_status_at_any_time() {
    let observed = at_work(json!({"phase": "Running", "epoch": 1, "step": 3}));
    let first = next_of(&observed, &working(Reason::Running), 50);
    let seen = task(|task| task["status"] = serde_json::to_value(&first).unwrap());
    let observed = knowing(observed, seen);
    let second = next_of(&observed, &working(Reason::Running), 90);
    assert_eq!(change(observed.task.status.as_ref(), &second), Change::None);
}

#[test]
fn figures_are_progress_and_reasons_are_milestones() {
    let observed = at_work(json!({"phase": "Running", "epoch": 1, "step": 3}));
    let first = next_of(&observed, &working(Reason::Running), 50);
    let mut step = first.clone();
    step.attempts[0].step = 4;
    assert_eq!(change(Some(&first), &step), Change::Progress);
    let mut words = first.clone();
    words.conditions[0].message = "others".into();
    assert_eq!(change(Some(&first), &words), Change::Progress);
    let idle = next_of(&observed, &working(Reason::Idle), 50);
    assert_eq!(change(Some(&first), &idle), Change::Milestone);
    assert_eq!(change(None, &first), Change::Milestone);
}

#[test]
fn whether_the_model_can_be_used_is_said_once_it_could_not() {
    let observed = at_work(json!({"phase": "Running", "epoch": 1}));
    let available = |stored: &AgentTaskStatus, situation: &Situation| {
        let seen = task(|task| task["status"] = serde_json::to_value(stored).unwrap());
        let observed = knowing(observed.clone(), seen);
        next_of(&observed, situation, 50)
    };
    let before = next_of(&observed, &working(Reason::Running), 50);
    assert_eq!(conditions::find(&before.conditions, "ModelAvailable"), None);
    let out = available(&before, &working(Reason::ModelUnavailable));
    assert_eq!(change(Some(&before), &out), Change::Milestone);
    let condition = of(&out, "ModelAvailable");
    assert_eq!(
        (condition.status.as_str(), condition.reason.as_str(), condition.message.as_str()),
        ("False", "ModelUnavailable", "why")
    );
    assert_eq!(of(&out, "Reconciling").status, "True");
    for (situation, status) in [
        (working(Reason::Running), "True"),
        (ended(Reason::Completed), "True"),
        (working(Reason::Suspended), "False"),
        (ended(Reason::ModelFailed), "False"),
        (ended(Reason::Cancelled), "False"),
    ] {
        let next = available(&out, &situation);
        assert_eq!(of(&next, "ModelAvailable").status, status, "{situation:?}");
    }
    let back = available(&out, &working(Reason::Running));
    assert_eq!(of(&available(&back, &ended(Reason::ModelFailed)), "ModelAvailable").status, "True");
}

#[test]
fn an_unchecked_patch_is_not_passed_on() {
    let report =
        json!({"phase": "Ended", "epoch": 1, "lastMessage": "done", "patch": {"files": 1, "bytes": 3}});
    let observed = at_work(report);
    let status = next_of(&observed, &ended(Reason::Completed), 50);
    let result = status.result.unwrap();
    assert_eq!((result.message.as_str(), result.patch), ("done", None));
    let checked = seeing(observed, |seen| seen.patch = Some(ArtifactCheck::Good(None)));
    let status = next_of(&checked, &ended(Reason::Completed), 50);
    assert!(status.result.unwrap().patch.is_some());
}

#[test]
fn what_is_known_of_the_pod_is_kept_when_the_pod_is_gone() {
    let observed = at_work(json!({"phase": "Running", "epoch": 1, "workspace": {"baseCommit": "abc"}}));
    let first = next_of(&observed, &working(Reason::Running), 50);
    let seen = task(|task| task["status"] = serde_json::to_value(&first).unwrap());
    let gone = seeing(knowing(observed, seen), |seen| (seen.pod, seen.attempt) = (None, None));
    let last = next_of(&gone, &ended(Reason::SandboxLost), 60);
    assert_eq!(last.resolved, first.resolved);
    assert!(gone.attempts[0].pod_was_made());
}

/// A text at the schema's bound, which counts characters, of those that take the most room or do the most harm.
fn text(max: usize) -> impl Strategy<Value = String> {
    let hostile =
        prop::sample::select(vec!['a', '"', '\\', '\n', '\u{1}', '\u{7f}', '\u{202e}', 'é', '\u{10ffff}']);
    let one = hostile.clone().prop_map(move |c| c.to_string().repeat(max));
    let mixed = prop::collection::vec(hostile, 0..=max).prop_map(|chars| chars.into_iter().collect());
    prop_oneof![one, mixed]
}

fn texts(most: usize, max: usize) -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(text(max), 0..=most)
}

fn artifact() -> impl Strategy<Value = Value> {
    (text(253), text(253), text(64), any::<i64>()).prop_map(|(name, key, sha256, bytes)| {
        json!({"configMapName": name, "key": key, "sha256": sha256, "bytes": bytes})
    })
}

fn patch() -> impl Strategy<Value = Value> {
    let lists = (texts(64, 256), texts(32, 256), text(128), texts(16, 256));
    let names = (text(64), text(64), prop::option::of(artifact()), prop::option::of(text(12_288)));
    (lists, names, any::<i64>()).prop_map(|(lists, names, number)| {
        let (paths, skipped, why, flags) = lists;
        let (sha256, base_commit, artifact, inline) = names;
        let skipped: Vec<_> = skipped.iter().map(|path| json!({"path": path, "reason": why})).collect();
        let flags: Vec<_> = flags.iter().map(|path| json!({"kind": "TouchedBySetup", "path": path})).collect();
        let mut patch = json!({
            "files": number, "insertions": number, "deletions": number, "bytes": number, "skippedCount": number,
            "sha256": sha256, "baseCommit": base_commit, "paths": paths, "skipped": skipped, "flags": flags,
        });
        patch["artifact"] = json!(artifact);
        patch["inline"] = json!(inline);
        patch
    })
}

fn report() -> impl Strategy<Value = Value> {
    let texts = (text(4096), text(1024), text(64), text(32));
    let plan = prop::collection::vec(text(256), 0..=32);
    (texts, plan, patch(), any::<i64>(), any::<i32>()).prop_map(|(texts, plan, patch, long, short)| {
        let (last, tail, commit, confinement) = texts;
        let plan: Vec<_> = plan.iter().map(|step| json!({"step": step, "status": "Pending"})).collect();
        let usage = json!({"requests": long, "inputTokens": long, "cachedInputTokens": long,
            "cacheWriteInputTokens": long, "outputTokens": long, "reasoningTokens": long, "commands": long});
        json!({
            "phase": "Ended", "epoch": 1, "inboxSeq": long, "turn": short, "step": long, "plan": plan,
            "logTail": tail, "lastMessage": last, "usage": usage, "activeSeconds": long, "patch": patch,
            "workspace": {"baseCommit": commit, "confinement": confinement},
        })
    })
}

proptest! {
    // A case makes several statuses of the largest size: fewer than usual.
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.div_ceil(4)))]

    /// Whatever the agents report within the schema of their AgentAttempts.
    #[test]
    fn a_status_stays_below_its_bound_and_steers_no_terminal(
        reports in prop::collection::vec(report(), 1..=4),
        message in text(4096),
        image in text(2000),
        has_ended: bool,
    ) {
        let count = reports.len();
        let mut attempts: Vec<SeenAttempt> = Vec::new();
        for (index, report) in (1..).zip(reports) {
            let mut seen = at_work(report).attempts.remove(0);
            let mut pod = seen.pod.as_deref().unwrap().clone();
            for status in pod.status.as_mut().unwrap().container_statuses.as_mut().unwrap() {
                status.image_id.clone_from(&image);
            }
            seen.pod = Some(Arc::new(pod));
            attempts.push(SeenAttempt { index, patch: Some(ArtifactCheck::Good(None)), ..seen });
        }
        let task = task(|task| task["spec"]["attempts"] = json!({"count": count}));
        let observed = Observed { task: Arc::new(task), attempts, ..fresh() };
        let situation = if has_ended {
            Situation::Ended(Ending { reason: Reason::Completed, message, by: EndedBy::Agent })
        } else {
            Situation::Working { reason: Reason::Running, message, until: None }
        };
        let mut status = next(&observed, &situation, &vec![situation.clone(); count], None, at(50));
        prop_assert!(encoded_bytes(&status) <= MAX_BYTES, "{}", encoded_bytes(&status));
        prop_assert_eq!(status.result.is_some(), has_ended && count == 1);
        if has_ended && count > 1 {
            // Whichever a person selects.
            let seen = SeenAttempt::clone(&observed.attempts[0]);
            let summary = status.attempts.first().cloned();
            let mut attempts = observed.attempts.clone();
            attempts[0] = SeenAttempt { summary, ..seen };
            let mut stored = AgentTask::clone(&observed.task);
            stored.status = Some(status);
            let observed = Observed { task: Arc::new(stored), attempts, ..observed };
            status = next(&observed, &Situation::Finished, &[], Some(1), at(60));
            prop_assert!(encoded_bytes(&status) <= MAX_BYTES, "{}", encoded_bytes(&status));
            prop_assert_eq!(status.selected_attempt, Some(1));
        }
        let shown = serde_json::to_string(&status).unwrap();
        prop_assert!(!shown.contains("\\u00") && !shown.contains(['\u{7f}', '\u{202e}']), "{}", shown);
    }
}

#[test]
fn what_fits_is_shown_whole() {
    let patch = json!({
        "inline": "diff", "files": 2, "insertions": 3, "deletions": 4, "bytes": 5, "skippedCount": 6,
        "sha256": "ab12", "baseCommit": "cd34", "paths": ["p"],
        "skipped": [{"path": "s", "reason": "a socket"}],
        "flags": [{"kind": "TouchedBySetup", "path": "f"}], "flagCount": 7,
        "artifact": {"configMapName": "c", "key": "k", "sha256": "ab12", "bytes": 5},
    });
    let patch: crate::api::attempt::PatchSummary = serde_json::from_value(patch).unwrap();
    assert_eq!(bound::patch(&patch, None), patch);
}
