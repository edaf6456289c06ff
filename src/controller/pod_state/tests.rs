use serde_json::{Value, json};

use super::*;
use crate::controller::tests::fixtures::{at, pod, running};

/// Second 100 is when the kubelet took the pod.
fn read(status: Value, now: i64) -> PodState {
    assess(&pod(status), at(now))
}

fn waiting(container: usize, reason: &str, message: &str) -> Value {
    let mut status = running();
    status["containerStatuses"][container]["state"] =
        json!({"waiting": {"reason": reason, "message": message}});
    status["containerStatuses"][container]["image"] = json!("some/image:1");
    status
}

fn ended(container: usize, code: i32, reason: &str) -> Value {
    let mut status = running();
    status["containerStatuses"][container]["state"] =
        json!({"terminated": {"exitCode": code, "reason": reason}});
    status
}

#[track_caller]
fn assert_broken(state: &PodState, wanted: Reason, part: &str) {
    let PodState::Broken { reason, message } = state else { panic!("{state:?}") };
    assert_eq!(*reason, wanted);
    assert!(message.contains(part), "{message}");
}

#[track_caller]
fn assert_lost(state: &PodState, part: &str) {
    let PodState::Lost { message } = state else { panic!("{state:?}") };
    assert!(message.contains(part), "{message}");
}

#[test]
fn a_pod_in_which_all_runs_is_well() {
    assert_eq!(read(running(), 200), PodState::Well { until: None });
    assert_eq!(read(json!({}), 200), PodState::Well { until: None });
    let creating = waiting(1, "ContainerCreating", "");
    assert_eq!(read(creating, 200), PodState::Well { until: None });
}

#[test]
fn an_image_that_can_not_be_pulled_has_five_minutes() {
    let message = "Back-off pulling image \"some/image:1\": ErrImagePull: no such host";
    let state = read(waiting(1, "ImagePullBackOff", message), 130);
    let PodState::HeldUp { reason, message: sentence, until } = state else { panic!("{state:?}") };
    assert_eq!((reason, until), (Reason::Preparing, Some(at(400))));
    assert_eq!(
        sentence,
        "image some/image:1 of the sandbox can't be pulled (no such host); check image and imagePullSecrets of the AgentEnvironment; the task ends with ImagePullFailed at 00:06:40 UTC"
    );
    // Between two tries the kubelet frames the same cause otherwise; the sentence stays.
    let again = read(waiting(1, "ErrImagePull", "no such host"), 140);
    assert!(matches!(again, PodState::HeldUp { message, .. } if message == sentence));
    assert_broken(
        &read(waiting(1, "ImagePullBackOff", message), 400),
        Reason::ImagePullFailed,
        "no such host",
    );
}

#[test]
fn an_image_that_never_can_be_pulled_ends_the_task_at_once() {
    for reason in ["ErrImageNeverPull", "InvalidImageName"] {
        assert_broken(&read(waiting(0, reason, "why"), 101), Reason::ImagePullFailed, "--agent-image");
    }
    let mut both = waiting(0, "ErrImageNeverPull", "never");
    both["containerStatuses"][1] = waiting(1, "ImagePullBackOff", "maybe")["containerStatuses"][1].clone();
    assert_broken(&read(both, 101), Reason::ImagePullFailed, "never");
}

#[test]
fn a_container_that_can_not_start_has_five_minutes_too() {
    let status = waiting(1, "CreateContainerError", "exec format error");
    assert!(matches!(read(status.clone(), 130), PodState::HeldUp { reason: Reason::Preparing, .. }));
    assert_broken(&read(status, 401), Reason::SandboxLost, "exec format error");
}

#[test]
fn a_pod_without_a_node_waits() {
    let status = json!({"phase": "Pending", "conditions": [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available"},
    ]});
    let state = read(status, 100_000);
    let PodState::HeldUp { reason, message, until } = state else { panic!("{state:?}") };
    assert_eq!((reason, until), (Reason::Unschedulable, None));
    for words in ["0/1 nodes are available", "add a node", "pod.nodeSelector or pod.tolerations"] {
        assert!(message.contains(words), "{words:?} is missing in: {message}");
    }
}

#[test]
fn an_agent_that_ended_in_silence_is_a_fault_of_ours() {
    assert_broken(&read(ended(0, 0, "Completed"), 200), Reason::InternalError, "without saying how");
    assert!(agent_is_done(&pod(ended(0, 0, "Completed"))));
    // Any other exit means "start me again", and the kubelet does.
    assert_eq!(read(ended(0, 1, "Error"), 200), PodState::Well { until: None });
    assert!(!agent_is_done(&pod(ended(0, 1, "Error"))));
    assert_eq!(read(ended(1, 1, "Error"), 200), PodState::Well { until: None });
}

#[test]
fn memory_is_told_apart() {
    let mut evicted = ended(1, 137, "OOMKilled");
    evicted["phase"] = json!("Failed");
    assert_broken(&read(evicted, 200), Reason::OutOfMemory, "resources.limits.memory");
    let mut silent = ended(0, 0, "Completed");
    silent["containerStatuses"][1]["lastState"] =
        json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}});
    assert_broken(&read(silent, 200), Reason::OutOfMemory, "the sandbox");
}

#[test]
fn a_container_that_keeps_crashing_is_given_up() {
    for (container, reason) in [(0, Reason::InternalError), (1, Reason::SandboxLost)] {
        let mut status = waiting(container, "CrashLoopBackOff", "back-off");
        status["containerStatuses"][container]["restartCount"] = json!(5);
        status["containerStatuses"][container]["lastState"] =
            json!({"terminated": {"exitCode": 3, "message": "no journal"}});
        assert_eq!(read(status.clone(), 200), PodState::Well { until: None });
        status["containerStatuses"][container]["restartCount"] = json!(6);
        assert_broken(&read(status, 200), reason, "ended 6 times (exit code 3) no journal");
    }
}

#[test]
fn a_pod_that_is_evicted_is_lost_unless_it_was_for_what_it_used_itself() {
    let own = "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi.";
    let status = json!({"phase": "Failed", "reason": "Evicted", "message": own});
    assert_broken(&read(status, 200), Reason::SandboxLost, own);
    let status = json!({"phase": "Failed", "reason": "x", "conditions": [
        {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": "preempting"},
    ]});
    assert_lost(&read(status, 200), "preempting");
}

#[test]
fn a_pod_that_is_being_deleted_has_its_grace_and_a_little_more() {
    let mut pod = pod(running());
    pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(300)));
    assert_eq!(assess(&pod, at(329)), PodState::Well { until: Some(at(330)) });
    assert_lost(&assess(&pod, at(330)), "deleted");
}
