//! What the chart lets people do who may view, edit or administrate a namespace.

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::rbac::v1::{RoleBinding, RoleRef, Subject};
use kube::api::{Api, ObjectMeta, PostParams};

use crate::cluster::{TestNamespace, admin};

const TRIED: [(&str, &str); 7] = [
    ("get", "agentattempts"),
    ("watch", "agenttasks"),
    ("create", "agenttasks"),
    ("create", "agentmessages"),
    ("patch", "modelproviders"),
    ("create", "agentenvironments"),
    // The controller's own: nobody's role has it.
    ("patch", "agentattempts"),
];

#[tokio::test]
async fn the_clusters_own_roles_have_the_rights_on_our_kinds() {
    let client = admin().await;
    let namespace = TestNamespace::create(&client, "e2e-roles").await;
    let bindings: Api<RoleBinding> = Api::namespaced(client.clone(), &namespace.name);
    for role in ["view", "edit", "admin"] {
        let binding = RoleBinding {
            metadata: ObjectMeta { name: Some(role.into()), ..ObjectMeta::default() },
            role_ref: RoleRef {
                api_group: "rbac.authorization.k8s.io".into(),
                kind: "ClusterRole".into(),
                name: role.into(),
            },
            subjects: Some(vec![Subject {
                kind: "User".into(),
                name: format!("{}-{role}", namespace.name),
                api_group: Some("rbac.authorization.k8s.io".into()),
                namespace: None,
            }]),
        };
        bindings.create(&PostParams::default(), &binding).await.expect("a binding can be made");
    }
    for (role, allowed) in [("view", 2), ("edit", 4), ("admin", 6)] {
        for (place, (verb, resource)) in TRIED.into_iter().enumerate() {
            let expected = place < allowed;
            let user = format!("{}-{role}", namespace.name);
            let mut answer = may(&client, &namespace.name, &user, verb, resource).await;
            // The authorizer learns of a binding, and of what a role has come to, a moment later.
            for _ in 0..40 {
                if answer == expected {
                    break;
                }
                tokio::time::sleep(std::time::Duration::from_millis(250)).await;
                answer = may(&client, &namespace.name, &user, verb, resource).await;
            }
            assert_eq!(answer, expected, "{role}: {verb} {resource}");
        }
    }
    namespace.delete().await;
}

async fn may(client: &kube::Client, namespace: &str, user: &str, verb: &str, resource: &str) -> bool {
    let reviews: Api<SubjectAccessReview> = Api::all(client.clone());
    let attributes = ResourceAttributes {
        namespace: Some(namespace.into()),
        verb: Some(verb.into()),
        group: Some(podwright::api::GROUP.into()),
        resource: Some(resource.into()),
        ..ResourceAttributes::default()
    };
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(user.into()),
            resource_attributes: Some(attributes),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let made = reviews.create(&PostParams::default(), &review).await.expect("a review");
    made.status.expect("an answer").allowed
}
