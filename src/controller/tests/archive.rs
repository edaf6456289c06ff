//! Artifacts that are carried to an object store, which is a directory here.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::fixtures::{self, NAMESPACE, at, id, task_json};
use super::server::Fault;
use super::{ATTEMPT, PATCH, TASK, World, work_of};
use crate::api::AgentTask;
use crate::artifacts::ArtifactStore;
use crate::controller::archive;
use crate::controller::caches::Caches;
use crate::controller::observe::observe_live;
use crate::controller::observed::TaskId;
use crate::controller::reconcile::pass;
use crate::names::{PATCH_KEY, TRANSCRIPT_KEY};

const TRANSCRIPT: &str = "{\"a\":1}\n";

fn world(directory: &Path) -> World {
    let mut world = World::new();
    world.context.store = Some(ArtifactStore::open(&format!("file://{}", directory.display()), []).unwrap());
    world
}

fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// The files below a directory.
fn files(directory: &Path) -> Vec<String> {
    let mut files = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                files.push(path.strip_prefix(directory).unwrap().display().to_string());
            }
        }
    }
    files.sort();
    files
}

fn hex(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The agent of an attempt fills both artifacts and reports a good end.
fn ends(world: &World, index: i32) {
    let name = format!("{}-transcript", id().attempt_name(index));
    let packed = zstd::encode_all(TRANSCRIPT.as_bytes(), 3).unwrap();
    world.server.change("configmaps", &name, |map| {
        map["binaryData"] = json!({TRANSCRIPT_KEY: STANDARD.encode(packed)});
    });
    let mut report = work_of(world, index);
    report["phase"] = json!("Ended");
    report["outcome"] = json!({"reason": "Completed", "message": "the work is done"});
    report["lastProgressTime"] = json!(at(1_000).to_string());
    report["workspace"]["baseCommit"] = json!("ab".repeat(20));
    report["transcript"] = json!({"configMapName": name, "key": TRANSCRIPT_KEY, "sha256": hex(TRANSCRIPT), "bytes": TRANSCRIPT.len()});
    world.agent_of_reports(index, report);
}

fn attempt_uid(world: &World, index: i32) -> String {
    let attempt = world.server.get(ATTEMPT, &id().attempt_name(index)).unwrap();
    attempt["metadata"]["uid"].as_str().unwrap().to_owned()
}

async fn life(world: &World) {
    world.settle().await;
    ends(world, 1);
    world.settle().await;
}

/// What watches show of the attempts.
fn showing_attempts(world: &World) -> Caches {
    Caches::showing(Vec::new(), world.server.all(ATTEMPT), Vec::new(), Vec::new())
}

#[tokio::test]
async fn artifacts_are_in_the_store_when_the_task_has_ended() {
    let directory = directory();
    let world = world(directory.path());
    life(&world).await;
    assert_eq!(world.succeeded().1, "Completed");
    assert_eq!(world.server.names("configmaps"), Vec::<String>::new());
    let status = world.task()["status"].clone();
    let folder = format!("{NAMESPACE}/{}", attempt_uid(&world, 1));
    let names = [
        format!("{folder}/patch-{}.zst", hex(PATCH)),
        format!("{folder}/transcript-{}.jsonl.zst", hex(TRANSCRIPT)),
    ];
    assert_eq!(files(directory.path()), names);
    let urls = names.map(|name| format!("file://{}/{name}", directory.path().display()));
    assert_eq!(status["attempts"][0]["artifacts"], json!(urls));
    let patch = json!({"url": urls[0], "sha256": hex(PATCH), "bytes": PATCH.len()});
    assert_eq!(status["result"]["patch"]["artifact"], patch);
    let packed = std::fs::read(urls[0].strip_prefix("file://").unwrap()).unwrap();
    assert_eq!(zstd::decode_all(&packed[..]).unwrap(), PATCH.as_bytes());
}

#[tokio::test]
async fn without_a_store_no_attempt_is_held() {
    let world = World::new();
    life(&world).await;
    let attempt = world.server.get(ATTEMPT, &id().attempt_name(1)).unwrap();
    assert!(attempt["metadata"]["finalizers"].is_null(), "{attempt}");
    assert_eq!(world.server.names("configmaps").len(), 2);
}

#[tokio::test]
async fn a_store_that_is_away_delays_the_end_and_loses_nothing() {
    let directory = directory();
    let world = world(directory.path());
    // No directory can be made where a file is.
    let in_the_way = directory.path().join(NAMESPACE);
    std::fs::write(&in_the_way, "").unwrap();
    life(&world).await;
    let (status, _, message) = world.succeeded();
    assert_eq!(status, "Unknown", "{message}");
    assert!(message.contains("wait for the artifact store"), "{message}");
    assert_eq!(world.server.names("configmaps").len(), 2);
    assert!(world.has_no_rights(), "the agent is done nevertheless");
    std::fs::remove_file(&in_the_way).unwrap();
    world.later(20);
    world.settle().await;
    assert_eq!(world.succeeded(), ("True".into(), "Completed".into(), "the work is done".into()));
    assert_eq!(files(directory.path()).len(), 2);
}

#[tokio::test]
async fn a_store_that_stays_away_keeps_nobody_waiting() {
    let directory = directory();
    let world = world(directory.path());
    std::fs::write(directory.path().join(NAMESPACE), "").unwrap();
    life(&world).await;
    world.later(601);
    world.settle().await;
    let (_, reason, message) = world.succeeded();
    assert_eq!(reason, "Completed");
    assert!(message.starts_with("the work is done (its artifacts stay in ConfigMaps:"), "{message}");
    let task = world.task();
    let name = format!("{}-patch", id().attempt_name(1));
    assert_eq!(task["status"]["result"]["patch"]["artifact"]["configMapName"], json!(name));
    assert!(task["status"]["attempts"][0]["artifacts"].is_null(), "{task}");
}

#[tokio::test]
async fn a_time_that_an_agent_claims_does_not_hold_the_end_back() {
    let directory = directory();
    let world = world(directory.path());
    std::fs::write(directory.path().join(NAMESPACE), "").unwrap();
    world.settle().await;
    ends(&world, 1);
    world.server.change(ATTEMPT, &id().attempt_name(1), |attempt| {
        attempt["status"]["lastProgressTime"] = json!(at(1_000_000).to_string());
    });
    world.settle().await;
    assert_eq!(world.succeeded().1, "Completed");
}

#[tokio::test]
async fn a_transcript_that_is_not_what_it_says_stays_where_it_is() {
    let directory = directory();
    let world = world(directory.path());
    world.settle().await;
    ends(&world, 1);
    world.server.change(ATTEMPT, &id().attempt_name(1), |attempt| {
        attempt["status"]["transcript"]["sha256"] = json!("../../../x");
    });
    world.settle().await;
    assert_eq!(world.succeeded().1, "Completed");
    assert_eq!(files(directory.path()).len(), 1, "the patch alone");
    assert_eq!(world.server.names("configmaps"), [format!("{}-transcript", id().attempt_name(1))]);
}

#[tokio::test]
async fn whatever_request_fails_the_artifacts_are_in_the_store_in_the_end() {
    let directory = directory();
    let run = async |fault: Option<(usize, Fault)>| {
        for entry in std::fs::read_dir(directory.path()).unwrap() {
            std::fs::remove_dir_all(entry.unwrap().path()).unwrap();
        }
        let world = world(directory.path());
        if let Some((nth, fault)) = fault {
            world.server.fail(nth, fault);
        }
        life(&world).await;
        // The attempt's UID differs from run to run.
        let end = format!("{:?}", world.server.masked()).replace(&attempt_uid(&world, 1), "UID");
        let files: Vec<_> =
            files(directory.path()).iter().map(|file| file.replace(&attempt_uid(&world, 1), "UID")).collect();
        (end, files, world.server.asked_count())
    };
    let (end, stored, requests) = run(None).await;
    assert_eq!(stored.len(), 2);
    for fault in [Fault::LostRequest, Fault::LostAnswer] {
        for nth in 0..requests {
            let (ended, files, _) = run(Some((nth, fault))).await;
            assert_eq!(ended, end, "{fault:?} of request {nth}");
            assert_eq!(files, stored, "{fault:?} of request {nth}");
        }
    }
}

#[tokio::test]
async fn what_an_attempt_has_in_the_store_goes_with_it() {
    let directory = directory();
    let mut world = world(directory.path());
    life(&world).await;
    let folder = directory.path().join(NAMESPACE);
    std::fs::create_dir(folder.join("another")).unwrap();
    std::fs::write(folder.join("another/patch-00.zst"), "x").unwrap();
    world.context.caches = showing_attempts(&world);
    archive::release(&world.context).await;
    assert_eq!(files(directory.path()).len(), 3, "it is still there");

    world.server.remove(TASK, "fix");
    assert_eq!(world.server.names(ATTEMPT).len(), 1, "held until its objects are gone");
    world.context.caches = showing_attempts(&world);
    archive::release(&world.context).await;
    assert_eq!(files(directory.path()), ["team/another/patch-00.zst"]);
    assert_eq!(world.server.names(ATTEMPT), Vec::<String>::new());
}

#[tokio::test]
async fn an_attempt_is_let_go_when_there_is_no_store_any_more() {
    let directory = directory();
    let mut world = world(directory.path());
    life(&world).await;
    world.server.remove(TASK, "fix");
    world.context.caches = showing_attempts(&world);
    world.context.store = None;
    archive::release(&world.context).await;
    assert_eq!(world.server.names(ATTEMPT), Vec::<String>::new());
    assert_eq!(files(directory.path()).len(), 2, "nobody can delete them");
}

#[tokio::test]
async fn a_choice_after_the_end_reads_the_patch_from_the_store() {
    let directory = directory();
    let world = world(directory.path()).with_spec(&json!({"attempts": {"count": 2}}));
    world.settle().await;
    ends(&world, 1);
    ends(&world, 2);
    world.settle().await;
    let patch = |index| {
        let file = format!("{NAMESPACE}/{}/patch-{}.zst", attempt_uid(&world, index), hex(PATCH));
        directory.path().join(file)
    };
    std::fs::write(patch(1), zstd::encode_all(&b"something else\n"[..], 3).unwrap()).unwrap();
    world.say("changed", &json!({"kind": "SelectAttempt", "attempt": 1}), 2_000);
    world.say("sound", &json!({"kind": "SelectAttempt", "attempt": 2}), 2_001);
    world.settle().await;
    assert_eq!(
        (world.accepted("changed").as_str(), world.accepted("sound").as_str()),
        ("False/NoResult", "True/Selected")
    );
    let artifact = world.task()["status"]["result"]["patch"]["artifact"].clone();
    assert_eq!(artifact["url"], json!(format!("file://{}", patch(2).display())));
}

/// Another task that goes on with the first one, after one pass: its message, its job's continueFrom.
async fn goes_on(world: &World) -> (String, Value) {
    let mut anew = task_json();
    anew["metadata"]["name"] = json!("anew");
    anew["metadata"]["uid"] = json!("another");
    anew["spec"]["continueFrom"] = json!({"taskName": "fix"});
    if world.server.get(TASK, "anew").is_none() {
        world.server.put(TASK, anew);
    }
    let task: AgentTask = fixtures::read(world.server.get(TASK, "anew").unwrap());
    let id = TaskId::of(&task).unwrap();
    let observed = observe_live(&world.context.client, &id, &task).await.unwrap();
    pass(&world.context, observed).await.unwrap();
    let message = world.server.get(TASK, "anew").unwrap()["status"]["conditions"][0]["message"].clone();
    let attempt = world.server.get(ATTEMPT, &id.attempt_name(1)).unwrap();
    (message.as_str().unwrap().to_owned(), attempt["spec"]["job"]["continueFrom"].clone())
}

#[tokio::test]
async fn who_goes_on_finds_what_the_store_has_in_config_maps_of_its_own() {
    let directory = directory();
    let mut world = world(directory.path());
    life(&world).await;
    let store = world.context.store.take();
    let (message, _) = goes_on(&world).await;
    assert!(message.contains("artifactStore of the chart"), "{message}");
    assert_eq!(world.server.names("pods").len(), 0, "nothing is begun without it");

    world.context.store = store;
    let (_, job) = goes_on(&world).await;
    assert_eq!(world.server.names("pods").len(), 1);
    for (what, key, content) in [("transcript", TRANSCRIPT_KEY, TRANSCRIPT), ("patch", PATCH_KEY, PATCH)] {
        let name = job[what]["configMapName"].as_str().unwrap();
        let map = world.server.get("configmaps", name).unwrap();
        let packed = STANDARD.decode(map["binaryData"][key].as_str().unwrap()).unwrap();
        assert_eq!(zstd::decode_all(&packed[..]).unwrap(), content.as_bytes(), "{what}");
        assert_eq!(map["metadata"]["ownerReferences"][0]["kind"], "AgentAttempt");
        let role = world.server.get("roles", world.server.names("roles")[0].as_str()).unwrap();
        assert!(role.to_string().contains(name), "its agent may read it: {role}");
    }
}
