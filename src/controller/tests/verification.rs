//! Patches that are verified in a pod of their own.

use serde_json::{Value, json};

use super::fixtures::{self, id};
use super::server::{Fault, failure};
use super::{ATTEMPT, PATCH, World, assert_old_views_are_harmless, work_of};
use crate::controller::observe::observe_live;
use crate::controller::observed::{Epoch, Try};
use crate::controller::reconcile::pass;

const FIRST: Epoch = Epoch::Verification(Try::First);
const SECOND: Epoch = Epoch::Verification(Try::Second);
const THIRD: Epoch = Epoch::Verification(Try::Third);

fn world() -> World {
    World::new().with_spec(&json!({"verification": [{"name": "test", "command": "make test"}]}))
}

fn names(epoch: Epoch) -> String {
    id().pod_name(1, epoch)
}

/// The agent is done.
fn agent_asks(world: &World) {
    let mut report = work_of(world, 1);
    report["phase"] = json!("Verifying");
    world.agent_reports(report);
}

/// What the pod that verifies reports.
fn verification(world: &World, phase: &str, state: &str) -> Value {
    let mut report = work_of(world, 1);
    report["phase"] = json!(phase);
    // The newest one on record, or the first before that is.
    let recorded = world.task()["status"]["attempts"][0]["epoch"].as_i64().unwrap();
    report["epoch"] = json!(recorded.max(2));
    report["verification"] = json!([{"name": "test", "state": state, "exitCode": 1, "seconds": 3}]);
    report
}

fn ends(world: &World, state: &str, reason: &str) {
    let mut report = verification(world, "Ended", state);
    report["outcome"] = json!({"reason": reason, "message": "so it is"});
    world.agent_reports(report);
}

async fn until_it_is_verified(world: &World) {
    world.settle().await;
    world.kubelet_reports(fixtures::running());
    world.agent_reports(json!({"phase": "Running", "epoch": 1, "turn": 1}));
    world.settle().await;
    agent_asks(world);
    world.settle().await;
}

#[tokio::test]
async fn a_patch_is_verified_in_the_attempts_next_pod() {
    let world = world();
    until_it_is_verified(&world).await;
    assert_eq!(world.succeeded().1, "Verifying");
    // The fence: of the agent's own pod nothing is left.
    for resource in ["pods", "roles", "rolebindings", "serviceaccounts"] {
        assert_eq!(world.server.names(resource), [names(FIRST)], "{resource}");
    }
    let pod = world.server.get("pods", &names(FIRST)).unwrap();
    assert_eq!(pod["spec"]["containers"][0]["command"], json!(["podwright", "verify"]));
    assert_eq!(world.task()["status"]["attempts"][0]["epoch"], 2);
    world.agent_reports(verification(&world, "Verifying", "Running"));
    world.settle().await;
    assert_eq!(world.succeeded().1, "Verifying");

    ends(&world, "Passed", "Completed");
    world.settle().await;
    assert_eq!((world.succeeded().0.as_str(), world.succeeded().1.as_str()), ("True", "Completed"));
    let status = world.task()["status"].clone();
    assert_eq!(status["result"]["verified"], true);
    assert_eq!(status["result"]["patch"]["inline"], PATCH);
    assert_eq!((&status["selectedAttempt"], &status["attempts"][0]["verified"]), (&json!(1), &json!(true)));
    assert!(world.has_no_rights());
    assert!(world.server.names("pods").is_empty());
}

#[tokio::test]
async fn the_pod_that_verifies_is_like_the_agents_whatever_became_of_the_environment() {
    let world = world();
    world.settle().await;
    world.server.change("agentenvironments", "default", |environment| {
        environment["spec"]["image"] = json!("another:2");
    });
    world.agent_reports(json!({"phase": "Running", "epoch": 1}));
    world.settle().await;
    agent_asks(&world);
    world.settle().await;
    let pod = world.server.get("pods", &names(FIRST)).unwrap();
    assert_eq!(pod["spec"]["containers"][1]["image"], "sandbox:1");
}

#[tokio::test]
async fn a_command_that_fails_fails_the_task_and_keeps_the_patch() {
    let world = world();
    until_it_is_verified(&world).await;
    ends(&world, "Failed", "VerificationFailed");
    world.settle().await;
    let (status, reason, message) = world.succeeded();
    assert_eq!(
        (status.as_str(), reason.as_str(), message.as_str()),
        ("False", "VerificationFailed", "so it is")
    );
    let result = world.task()["status"]["result"].clone();
    assert_eq!((&result["verified"], &result["patch"]["inline"]), (&json!(false), &json!(PATCH)));
}

#[tokio::test]
async fn a_verification_that_broke_off_says_nothing_about_the_patch() {
    let world = world();
    until_it_is_verified(&world).await;
    // Whatever becomes of them is the nodes' doing.
    for (lost, next) in [(FIRST, SECOND), (SECOND, THIRD)] {
        world.server.remove("pods", &names(lost));
        world.settle().await;
        let (status, reason, message) = world.succeeded();
        assert_eq!((status.as_str(), reason.as_str()), ("Unknown", "Verifying"), "{message}");
        for resource in ["pods", "roles", "rolebindings", "serviceaccounts"] {
            assert_eq!(world.server.names(resource), [names(next)], "{resource}");
        }
        assert_eq!(world.task()["status"]["attempts"][0]["epoch"], next.number());
    }
    world.server.remove("pods", &names(THIRD));
    world.settle().await;
    let (_, reason, message) = world.succeeded();
    assert_eq!(reason, "SandboxLost");
    assert!(message.contains("its patch is kept, but it could not be verified: three pods"), "{message}");
    let result = world.task()["status"]["result"].clone();
    assert_eq!((&result["verified"], &result["patch"]["inline"]), (&Value::Null, &json!(PATCH)));
    assert!(world.server.names("pods").is_empty(), "no fourth one is made");
    assert!(world.has_no_rights());
}

#[tokio::test]
async fn what_the_pod_in_place_of_a_lost_one_says_counts() {
    let world = world();
    until_it_is_verified(&world).await;
    world.agent_reports(verification(&world, "Verifying", "Running"));
    world.settle().await;
    world.server.remove("pods", &names(FIRST));
    world.settle().await;
    let pod = world.server.get("pods", &names(SECOND)).unwrap();
    assert_eq!(pod["spec"]["containers"][0]["command"], json!(["podwright", "verify"]));
    // The lost one had this under way when its rights went.
    let mut late = verification(&world, "Ended", "Passed");
    late["epoch"] = json!(FIRST.number());
    late["outcome"] = json!({"reason": "Completed", "message": "too late"});
    world.agent_reports(late);
    world.settle().await;
    assert_eq!(world.succeeded().1, "Verifying");
    ends(&world, "Failed", "VerificationFailed");
    world.settle().await;
    assert_eq!(world.succeeded().1, "VerificationFailed");
    assert_eq!(world.task()["status"]["result"]["patch"]["inline"], PATCH);
    assert!(world.server.names("pods").is_empty() && world.has_no_rights());
}

/// A node that is gone takes the object of its pod with it only later, or never.
#[tokio::test]
async fn a_pod_that_is_lost_but_not_gone_is_replaced_too_and_one_that_broke_is_not() {
    let disrupted = json!({"phase": "Failed", "reason": "Evicted", "conditions": [
        {"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet", "message": "no memory"},
    ]});
    let crashed = json!({"phase": "Failed", "reason": "Evicted", "message": "it used too much itself"});
    for (status, pod, reason) in
        [(disrupted, Some(names(SECOND)), "Verifying"), (crashed, None, "SandboxLost")]
    {
        let world = world();
        until_it_is_verified(&world).await;
        world.server.change("pods", &names(FIRST), |pod| pod["status"] = status);
        world.settle().await;
        assert_eq!(world.succeeded().1, reason);
        assert_eq!(world.server.names("pods"), Vec::from_iter(pod));
    }
    let world = world();
    until_it_is_verified(&world).await;
    world.server.change("pods", &names(FIRST), |pod| {
        pod["status"] = fixtures::running();
        pod["metadata"]["deletionTimestamp"] = json!(fixtures::at(1_000).to_string());
    });
    world.settle().await;
    assert_eq!(world.server.names("pods"), [names(FIRST)], "it may still be ending");
    world.later(60);
    world.settle().await;
    assert_eq!(world.server.names("pods"), [names(SECOND)]);
    assert_eq!(world.succeeded().1, "Verifying");
}

#[tokio::test]
async fn a_pod_that_spoke_before_its_making_was_recorded_counts_when_it_is_lost() {
    let world = world();
    until_it_is_verified(&world).await;
    world.server.remove("pods", &names(FIRST));
    world.settle().await;
    world.agent_reports(verification(&world, "Verifying", "Running"));
    // The status write after the making was lost.
    world.server.change("agenttasks", &id().name, |task| task["status"]["attempts"][0]["epoch"] = json!(2));
    world.server.remove("pods", &names(SECOND));
    world.settle().await;
    assert_eq!(world.server.names("pods"), [names(THIRD)]);
}

#[tokio::test]
async fn a_lost_verification_can_be_cancelled_held_back_and_refused() {
    let world = world();
    until_it_is_verified(&world).await;
    world.server.refuse_pods(Some(failure(403, "Forbidden", "exceeded quota: team")));
    world.server.remove("pods", &names(FIRST));
    world.once().await.unwrap();
    assert_eq!(world.succeeded().1, "Queued");
    world.server.change("agenttasks", "fix", |task| task["spec"]["suspend"] = json!(true));
    world.server.refuse_pods(None);
    world.settle().await;
    assert_eq!(world.succeeded().1, "Suspended");
    world.server.change("agenttasks", "fix", |task| task["spec"]["suspend"] = json!(false));
    world.settle().await;
    assert_eq!(world.server.names("pods"), [names(SECOND)]);

    world.server.refuse_pods(Some(failure(403, "Forbidden", "violates PodSecurity")));
    world.server.remove("pods", &names(SECOND));
    world.settle().await;
    assert_eq!(world.succeeded().1, "Refused");
    assert!(world.has_no_rights(), "what was made for the pod goes with it");

    let world = self::world();
    until_it_is_verified(&world).await;
    world.say("stop", &json!({"kind": "Cancel"}), 10);
    world.server.remove("pods", &names(FIRST));
    world.settle().await;
    assert_eq!(world.succeeded().1, "Cancelled");
    assert!(world.server.names("pods").is_empty() && world.has_no_rights());
}

/// Neither the agent's own pod nor a report without results can say that the work was verified.
#[tokio::test]
async fn nobody_but_the_verification_says_that_a_patch_is_good() {
    // The agent skips the verification.
    let own = world();
    own.settle().await;
    let mut report = work_of(&own, 1);
    report["phase"] = json!("Ended");
    report["outcome"] = json!({"reason": "Completed", "message": "trust me"});
    report["verification"] = json!([{"name": "test", "state": "Passed"}]);
    own.agent_reports(report.clone());
    own.settle().await;
    assert_eq!(own.succeeded().1, "InternalError", "{}", own.succeeded().2);
    // The agent speaks for a pod that is not made.
    let other = world();
    other.settle().await;
    work_of(&other, 1);
    report["epoch"] = json!(2);
    other.agent_reports(report);
    other.settle().await;
    assert_eq!(other.succeeded().1, "Preparing", "it is not believed");
    // The pod that verifies has not run every command.
    let half = world();
    until_it_is_verified(&half).await;
    ends(&half, "Running", "Completed");
    half.settle().await;
    assert_eq!(half.succeeded().1, "InternalError");
}

/// A compromised agent has until its rights are gone to say something else than what was seen.
#[tokio::test]
async fn what_an_agent_says_in_the_moment_of_the_fence_is_not_taken_for_the_verification() {
    let world = world();
    world.settle().await;
    world.kubelet_reports(fixtures::running());
    world.agent_reports(json!({"phase": "Running", "epoch": 1}));
    world.settle().await;
    agent_asks(&world);
    let known = fixtures::task(|task| *task = world.task());
    let observed = observe_live(&world.context.client, &id(), &known).await.unwrap();
    ends(&world, "Passed", "Completed");
    pass(&world.context, observed).await.unwrap();
    assert!(world.server.names("pods").is_empty() && world.has_no_rights(), "nothing is begun on its word");
    world.settle().await;
    assert_eq!(world.succeeded().1, "SandboxLost");
    assert_eq!(world.task()["status"]["result"]["verified"], Value::Null);
}

#[tokio::test]
async fn a_quota_holds_the_verification_back_as_it_does_the_work() {
    let world = world();
    world.settle().await;
    world.agent_reports(json!({"phase": "Running", "epoch": 1}));
    world.settle().await;
    world.server.refuse_pods(Some(failure(403, "Forbidden", "exceeded quota: team")));
    agent_asks(&world);
    world.once().await.unwrap();
    assert_eq!(world.succeeded().1, "Queued");
    world.server.refuse_pods(None);
    world.settle().await;
    assert_eq!(world.succeeded().1, "Verifying");
    assert_eq!(world.server.names("pods"), [names(FIRST)]);
}

#[tokio::test]
async fn a_task_can_be_cancelled_and_held_back_before_its_patch_is_verified() {
    let world = world();
    world.settle().await;
    world.agent_reports(json!({"phase": "Running", "epoch": 1}));
    world.settle().await;
    world.server.change("agenttasks", "fix", |task| task["spec"]["suspend"] = json!(true));
    agent_asks(&world);
    world.settle().await;
    assert_eq!(world.succeeded().1, "Suspended");
    assert!(!world.server.names("pods").contains(&names(FIRST)));
    world.say("stop", &json!({"kind": "Cancel"}), 10);
    world.settle().await;
    assert_eq!(world.succeeded().1, "Cancelled");
    assert_eq!(world.accepted("stop"), "True/HandedOver");
    assert_eq!(world.task()["status"]["result"]["patch"]["inline"], PATCH);
    assert!(world.server.names("pods").is_empty() && world.has_no_rights());
}

#[tokio::test]
async fn a_prompt_that_comes_when_the_agent_is_done_is_told_so() {
    let world = world();
    until_it_is_verified(&world).await;
    world.server.change("pods", &names(FIRST), |pod| pod["status"] = fixtures::running());
    world.say("more", &json!({"kind": "Prompt", "text": "And this."}), 10);
    world.say("stop", &json!({"kind": "Cancel"}), 11);
    world.settle().await;
    assert_eq!(world.accepted("more"), "False/NotTaken");
    assert_eq!(world.accepted("stop"), "Unknown/Delivered", "the pod that verifies takes it in");
    let attempt = world.server.get(ATTEMPT, &id().attempt_name(1)).unwrap();
    assert_eq!(attempt["spec"]["inbox"].as_array().unwrap().len(), 1);
}

/// As for the agent's own pod, whichever request meets whichever fault.
#[tokio::test]
async fn whatever_request_fails_the_end_is_the_same() {
    let life = async |world: &World| {
        until_it_is_verified(world).await;
        world.server.remove("pods", &names(FIRST));
        world.settle().await;
        ends(world, "Passed", "Completed");
        world.settle().await;
    };
    let sound = world();
    life(&sound).await;
    let (requests, expected) = (sound.server.asked_count(), sound.server.masked());
    for fault in [Fault::LostRequest, Fault::LostAnswer] {
        for nth in 0..requests {
            let world = world();
            world.server.fail(nth, fault);
            life(&world).await;
            assert_eq!(world.server.masked(), expected, "{fault:?} of request {nth}");
        }
    }
}

/// As for the agent's own pod: a pass from any earlier state of the world ends in the present.
#[tokio::test]
async fn no_old_view_leads_to_a_wrong_step() {
    let mut world = world();
    let mut views = vec![world.view()];
    world.settle().await;
    views.push(world.view());
    world.kubelet_reports(fixtures::running());
    world.agent_reports(json!({"phase": "Running", "epoch": 1, "turn": 1}));
    world.settle().await;
    views.push(world.view());
    agent_asks(&world);
    views.push(world.view());
    world.settle().await;
    views.push(world.view());
    world.agent_reports(verification(&world, "Verifying", "Running"));
    world.settle().await;
    views.push(world.view());
    assert_old_views_are_harmless(&mut world, &views).await;
    world.server.remove("pods", &names(FIRST));
    views.push(world.view());
    world.settle().await;
    views.push(world.view());
    assert_old_views_are_harmless(&mut world, &views).await;
    ends(&world, "Passed", "Completed");
    views.push(world.view());
    world.settle().await;
    views.push(world.view());
    assert_old_views_are_harmless(&mut world, &views).await;
    assert_eq!(world.succeeded().1, "Completed");
}
