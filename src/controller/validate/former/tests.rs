use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::super::named;
use super::super::tests::{assert_invalid, assert_waiting, judge};
use super::*;
use crate::api::task::Mode;
use crate::controller::build::{StoredAttempt, attempt, role};
use crate::controller::observed::Epoch;
use crate::controller::tests::fixtures::{self, id, references, reporting, stored_attempt, valid};

/// A task that goes on with the task "before", and what is left of that.
fn continuing(change: impl FnOnce(&mut Value)) -> (AgentTask, References) {
    let task = fixtures::task(|task| task["spec"]["continueFrom"] = json!({"taskName": "before"}));
    let artifact =
        |name: &str, key: &str| json!({"configMapName": name, "key": key, "sha256": "aa", "bytes": 9});
    let stored = stored_attempt();
    let (patch, transcript) =
        (&stored.spec.job.patch_artifact_name, stored.spec.job.transcript_artifact_name.clone());
    let transcript = transcript.unwrap();
    let mut status = json!({
        "workspace": {"baseCommit": "0123456789012345678901234567890123456789"},
        "transcript": artifact(&transcript, "transcript.zst"),
        "patch": {"bytes": 9, "artifact": artifact("somebody-elses", "patch.zst")},
    });
    change(&mut status);
    let binary_data = [(patch.clone(), PATCH_KEY), (transcript, TRANSCRIPT_KEY)];
    let binary_data = binary_data.map(|(name, key)| (name, [key.to_owned()].into())).into();
    let attempt = reporting(status);
    let former =
        Some(Former { ended: true, index: Some(1), attempt: Some(Arc::new(attempt)), stored: Vec::new() });
    (task, References { former, binary_data, ..references() })
}

#[test]
fn a_task_goes_on_with_the_commit_the_thread_and_the_patch_of_another_one() {
    let (task, references) = continuing(|_| {});
    let job = valid(&task, &references).job;
    assert_eq!(job.repository.reference, "0123456789012345678901234567890123456789");
    let from = job.continue_from.clone().unwrap();
    let former = references.former.as_ref().unwrap().attempt.as_ref().unwrap().spec.job.clone();
    assert_eq!(
        from.patch.unwrap().config_map_name,
        former.patch_artifact_name,
        "never a name that an agent reports"
    );
    assert_eq!(Some(from.transcript.config_map_name), former.transcript_artifact_name);
    let mut read = vec![former.patch_artifact_name, former.transcript_artifact_name.unwrap()];
    assert_eq!(named(&task, None, None, references.former.as_ref()).config_maps, read);
    let mut stored = attempt::attempt(&id(), 1, &valid(&task, &references));
    stored.metadata.uid = Some("u".into());
    let attempt = StoredAttempt::of(&stored, Epoch::Work).unwrap();
    let rules = role::role(&attempt).rules.unwrap();
    let readable = rules.into_iter().filter(|rule| {
        rule.verbs == ["get"] && rule.resources.as_deref() == Some(&["configmaps".to_owned()])
    });
    let mut readable: Vec<String> = readable.flat_map(|rule| rule.resource_names.unwrap()).collect();
    readable.sort();
    read.sort();
    assert_eq!(readable, read);
    let (task, references) = continuing(|status| status["patch"]["bytes"] = json!(0));
    assert_eq!(valid(&task, &references).job.continue_from.unwrap().patch, None);
}

#[test]
fn a_task_does_not_wait_for_itself() {
    let itself = fixtures::task(|task| task["spec"]["continueFrom"] = json!({"taskName": "fix"}));
    assert_invalid(&judge(&itself, &references()), "names the task itself");
    let (_, there) = continuing(|_| {});
    assert_invalid(&judge(&itself, &there), "names the task itself");
}

#[test]
fn what_a_question_was_asked_about_is_gone_on_with_after_it() {
    let (task, mut references) = continuing(|status| status["patch"]["bytes"] = json!(0));
    let patch = |name: &str| json!({"configMapName": name, "key": "patch.zst", "sha256": "bb", "bytes": 9});
    let former = references.former.as_mut().unwrap().attempt.as_mut().unwrap();
    let job = &mut Arc::make_mut(former).spec.job;
    job.mode = Mode::Ask;
    job.continue_from = serde_json::from_value(json!({
        "taskName": "first", "transcript": patch("first-1-transcript"), "patch": patch("first-1-patch"),
    }))
    .unwrap();
    assert_invalid(&judge(&task, &references), "its patch is gone");
    let asked = named(&task, None, None, references.former.as_ref()).config_maps;
    assert!(asked.contains(&"first-1-patch".to_owned()), "{asked:?}");
    references.binary_data.insert("first-1-patch".into(), ["patch.zst".to_owned()].into());
    let from = valid(&task, &references).job.continue_from.unwrap();
    assert_eq!(from.patch.unwrap().config_map_name, "first-1-patch");
}

#[test]
fn a_task_waits_for_the_one_that_it_goes_on_with_and_needs_what_is_left_of_it() {
    let (task, there) = continuing(|_| {});
    assert_waiting(&judge(&task, &references()), "AgentTask before, named by continueFrom, does not exist");
    let mut running = there.clone();
    running.former.as_mut().unwrap().ended = false;
    assert_waiting(&judge(&task, &running), "has not ended yet");
    let mut nothing = there.clone();
    nothing.former.as_mut().unwrap().attempt = None;
    assert_invalid(&judge(&task, &nothing), "it has no attempt 1");
    let mut open = there.clone();
    open.former = Some(Former { ended: true, index: None, attempt: None, stored: Vec::new() });
    assert_waiting(&judge(&task, &open), "none is selected; select one with an AgentMessage");
    let gone = References { binary_data: BTreeMap::new(), ..there.clone() };
    assert_invalid(&judge(&task, &gone), "its transcript is gone (retention.artifactSeconds are over");
    for (change, part) in [
        ((|status: &mut Value| drop(status["transcript"].take())) as fn(&mut Value), "it left no transcript"),
        (|status| drop(status["patch"]["artifact"].take()), "its patch was too large"),
        (|status| drop(status["patch"].take()), "no patch of its work"),
        (|status| status["workspace"]["baseCommit"] = json!("main"), "which commit it began with"),
    ] {
        let (task, references) = continuing(change);
        assert_invalid(&judge(&task, &references), part);
    }
    let elsewhere = fixtures::task(|task| {
        task["spec"]["continueFrom"] = json!({"taskName": "before", "attempt": 1});
        task["spec"]["repositories"][0]["url"] = json!("https://git.example.com/team/other.git");
    });
    assert_invalid(
        &judge(&elsewhere, &there),
        "its repository is main at https://git.example.com/team/app.git",
    );
}
