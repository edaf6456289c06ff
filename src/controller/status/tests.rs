use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::controller::plan::EndedBy;
use crate::controller::tests::fixtures::{at, at_work, fresh, task};
use std::sync::Arc;

fn working(reason: Reason) -> Situation {
    Situation::Working { reason, message: "why".into(), until: None }
}

fn ended(reason: Reason) -> Situation {
    Situation::Ended(Ending { reason, message: "why".into(), by: EndedBy::Agent })
}

fn of<'a>(status: &'a AgentTaskStatus, type_: &str) -> &'a Condition {
    conditions::find(&status.conditions, type_).unwrap()
}

#[test]
fn the_first_status_says_what_generic_tools_look_for() {
    let situation = Situation::Waiting { reason: Reason::Queued, message: "why".into(), again: None };
    let status = next(&fresh(), &situation, None, at(50));
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
        let status = next(&fresh(), &working(reason), None, at(50));
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
    let attempt = observed.attempt.clone();
    let first = next(&observed, &working(Reason::Running), attempt.as_deref(), at(50));
    let seen = task(|task| task["status"] = serde_json::to_value(&first).unwrap());
    let observed = Observed { task: Arc::new(seen), ..observed };
    let second = next(&observed, &working(Reason::Running), attempt.as_deref(), at(90));
    assert_eq!(change(observed.task.status.as_ref(), &second), Change::None);
}

#[test]
fn figures_are_progress_and_reasons_are_milestones() {
    let observed = at_work(json!({"phase": "Running", "epoch": 1, "step": 3}));
    let attempt = observed.attempt.clone();
    let first = next(&observed, &working(Reason::Running), attempt.as_deref(), at(50));
    let mut step = first.clone();
    step.attempts[0].step = 4;
    assert_eq!(change(Some(&first), &step), Change::Progress);
    let mut words = first.clone();
    words.conditions[0].message = "others".into();
    assert_eq!(change(Some(&first), &words), Change::Progress);
    let idle = next(&observed, &working(Reason::Idle), attempt.as_deref(), at(50));
    assert_eq!(change(Some(&first), &idle), Change::Milestone);
    assert_eq!(change(None, &first), Change::Milestone);
}

#[test]
fn an_unchecked_patch_is_not_passed_on() {
    let report =
        json!({"phase": "Ended", "epoch": 1, "lastMessage": "done", "patch": {"files": 1, "bytes": 3}});
    let observed = at_work(report);
    let attempt = observed.attempt.clone();
    let status = next(&observed, &ended(Reason::Completed), attempt.as_deref(), at(50));
    let result = status.result.unwrap();
    assert_eq!((result.message.as_str(), result.patch), ("done", None));
    let checked = Observed { patch: Some(ArtifactCheck::Good), ..observed };
    let status = next(&checked, &ended(Reason::Completed), attempt.as_deref(), at(50));
    assert!(status.result.unwrap().patch.is_some());
}

#[test]
fn what_is_known_of_the_pod_is_kept_when_the_pod_is_gone() {
    let observed = at_work(json!({"phase": "Running", "epoch": 1, "workspace": {"baseCommit": "abc"}}));
    let attempt = observed.attempt.clone();
    let first = next(&observed, &working(Reason::Running), attempt.as_deref(), at(50));
    let seen = task(|task| task["status"] = serde_json::to_value(&first).unwrap());
    let gone = Observed { task: Arc::new(seen), pod: None, attempt: None, ..observed };
    let last = next(&gone, &ended(Reason::SandboxLost), None, at(60));
    assert_eq!(last.resolved, first.resolved);
    assert!(gone.pod_was_made());
}

fn text(max: usize) -> impl Strategy<Value = String> {
    proptest::string::string_regex(&format!("[a-zé\"\\\\\n\u{1}]{{0,{max}}}")).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_status_stays_below_its_bound(
        message in text(4096),
        last in text(4096),
        inline in proptest::option::of(text(12_000)),
        paths in proptest::collection::vec(text(256), 0..64),
        skipped in proptest::collection::vec((text(256), text(128)), 0..32),
        flags in proptest::collection::vec(text(256), 0..16),
    ) {
        let skipped: Vec<Value> =
            skipped.iter().map(|(path, reason)| json!({"path": path, "reason": reason})).collect();
        let flags: Vec<Value> =
            flags.iter().map(|path| json!({"kind": "TouchedBySetup", "path": path})).collect();
        let mut patch = json!({"paths": paths, "skipped": skipped, "flags": flags, "bytes": 1});
        if let Some(inline) = inline {
            patch["inline"] = json!(inline);
        }
        let observed = at_work(json!({"phase": "Ended", "epoch": 1, "lastMessage": last, "patch": patch}));
        let observed = Observed { patch: Some(ArtifactCheck::Good), ..observed };
        let attempt = observed.attempt.clone();
        let ending = Ending { reason: Reason::Completed, message, by: EndedBy::Agent };
        let status = next(&observed, &Situation::Ended(ending), attempt.as_deref(), at(50));
        prop_assert!(encoded_bytes(&status) <= MAX_BYTES, "{}", encoded_bytes(&status));
        prop_assert!(status.result.unwrap().patch.is_some());
    }
}
