use serde_json::{Value, json};

use super::super::told::{attempt, cluster, refusal};
use super::*;

fn pod(uid: &str, annotations: Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "pod-1", "namespace": "default", "uid": uid, "annotations": annotations},
    })
}

fn annotations() -> Value {
    json!({
        names::ATTEMPT_ANNOTATION: "fix-1",
        names::ATTEMPT_UID_ANNOTATION: "a",
        names::EPOCH_ANNOTATION: "2",
    })
}

async fn claim_of(pod: Value) -> Result<Claim, BootError> {
    let cluster = cluster(move |path| {
        assert_eq!(path, "/api/v1/namespaces/default/pods/pod-1");
        Some((200, pod.clone()))
    });
    claim(&cluster, "pod-1", "p").await
}

#[tokio::test]
async fn the_pods_annotations_say_which_attempt_it_works_on() {
    let found = claim_of(pod("p", annotations())).await.unwrap();
    assert_eq!(found, Claim { attempt: "fix-1".into(), attempt_uid: "a".into(), epoch: 2 });
}

#[tokio::test]
async fn a_pod_that_is_not_assigned_works_on_nothing() {
    for missing in [names::ATTEMPT_ANNOTATION, names::ATTEMPT_UID_ANNOTATION, names::EPOCH_ANNOTATION] {
        let mut left = annotations();
        left.as_object_mut().unwrap().remove(missing);
        let error = claim_of(pod("p", left)).await.unwrap_err().to_string();
        assert!(error.contains(missing), "{error}");
    }
    let mut odd = annotations();
    odd[names::EPOCH_ANNOTATION] = json!("second");
    let error = claim_of(pod("p", odd)).await.unwrap_err().to_string();
    assert!(error.contains("\"second\" is no epoch"), "{error}");
    let error = claim_of(pod("other", annotations())).await.unwrap_err().to_string();
    assert!(error.contains("was replaced"), "{error}");
}

#[tokio::test]
async fn an_attempt_of_the_same_name_is_another_one() {
    let cluster = cluster(|path| {
        assert_eq!(path, "/apis/podwright.dev/v1alpha1/namespaces/default/agentattempts/fix-1");
        Some((200, attempt("a")))
    });
    assert_eq!(claimed(&cluster, "fix-1", "a").await.unwrap().spec.task_name, "fix");
    let error = claimed(&cluster, "fix-1", "b").await.unwrap_err();
    assert!(matches!(error, BootError::Assignment(_)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_new_role_is_waited_for_and_a_lasting_refusal_is_told() {
    let begun = tokio::time::Instant::now();
    let late = cluster(move |_| {
        Some(if begun.elapsed().as_secs() < 2 { refusal(403) } else { (200, attempt("a")) })
    });
    assert!(claimed(&late, "fix-1", "a").await.is_ok());
    let error = claimed(&cluster(|_| Some(refusal(403))), "fix-1", "a").await.unwrap_err();
    assert!(matches!(error, BootError::Cluster(ClusterError::Refused { code: 403, .. })), "{error}");
    let error = claimed(&cluster(|_| Some(refusal(500))), "fix-1", "a").await.unwrap_err();
    assert!(matches!(error, BootError::Cluster(ClusterError::Unreachable { .. })), "{error}");
}
