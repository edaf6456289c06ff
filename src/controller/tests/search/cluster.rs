//! What lives in the cluster beside controllers: kubelets, and the agents in the pods.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::controller::tests::fixtures::{at, running};
use crate::controller::tests::server::Server;
use crate::controller::tests::{ATTEMPT, PATCH};
use crate::names;
use crate::search::Dice;

/// The agent in a pod.
#[derive(Clone, Debug)]
pub(super) struct Agent {
    pub(super) pod: String,
    pub(super) uid: String,
    attempt: String,
    attempt_uid: String,
    epoch: i64,
    verifies: bool,
    /// Reports that it makes before its last one.
    left: usize,
    /// The reason of its end.
    end: &'static str,
    cancelled: bool,
    /// Whether it has said its last word.
    is_done: bool,
}

impl Agent {
    /// The agent of a pod that has begun to run.
    pub(super) fn of(pod: &Value, dice: &mut Dice) -> Self {
        let metadata = &pod["metadata"];
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let annotation = |name: &str| text(&metadata["annotations"][name]);
        let verifies = pod["spec"]["containers"][0]["command"][2] == "verify";
        let ends: &[&str] = if verifies {
            &["Completed", "Completed", "VerificationFailed"]
        } else {
            &["Completed", "Completed", "Completed", "BudgetExceeded", "ModelFailed"]
        };
        Self {
            pod: text(&metadata["name"]),
            uid: text(&metadata["uid"]),
            attempt: annotation(names::ATTEMPT_ANNOTATION),
            attempt_uid: annotation(names::ATTEMPT_UID_ANNOTATION),
            epoch: annotation(names::EPOCH_ANNOTATION).parse().unwrap(),
            verifies,
            left: dice.below(4),
            end: ends[dice.below(ends.len())],
            cancelled: false,
            is_done: false,
        }
    }

    /// Says the next thing, if it still may. Gives what it did, in words.
    pub(super) fn step(&mut self, server: &Server, now: i64) -> Option<String> {
        let pod = server.get("pods", &self.pod).filter(|pod| pod["metadata"]["uid"] == self.uid.as_str())?;
        let runs = pod["status"]["phase"] == "Running";
        let attempt = server.get(ATTEMPT, &self.attempt)?;
        if self.is_done
            || !runs
            || attempt["metadata"]["uid"] != self.attempt_uid.as_str()
            || !self.may(server)
        {
            return None;
        }
        let spec = &attempt["spec"];
        let mut status = attempt["status"].clone();
        if !status.is_object() {
            status = json!({});
        }
        let taken = status["inboxSeq"].as_i64().unwrap_or(0);
        let inbox = spec["inbox"].as_array().map(Vec::as_slice).unwrap_or_default();
        let news = inbox.iter().filter(|entry| entry["seq"].as_i64().unwrap() > taken);
        self.cancelled |= news.clone().any(|entry| entry["kind"] == "Cancel");
        let highest = news.map(|entry| entry["seq"].as_i64().unwrap()).max().unwrap_or(taken);
        status["inboxSeq"] = json!(highest);
        status["epoch"] = json!(self.epoch);
        status["step"] = json!(status["step"].as_i64().unwrap_or(0) + 1);
        status["lastProgressTime"] = json!(at(now).to_string());
        status["suspended"] = json!(spec["suspend"] == true && !self.cancelled);
        let phase = if status["suspended"] == true || (self.left > 0 && !self.cancelled) {
            self.left = self.left.saturating_sub(1);
            "Running"
        } else {
            self.is_done = true;
            let end = if self.cancelled { "Cancelled" } else { self.end };
            if !self.verifies && end != "ModelFailed" {
                status["patch"] = self.leave_patch(server, spec)?;
            }
            self.last_words(&mut status, spec, end)
        };
        status["phase"] = json!(phase);
        server.change(ATTEMPT, &self.attempt, |attempt| attempt["status"] = status);
        Some(format!("agent {} says {phase}", self.pod))
    }

    /// The phase in which it ends; the rest goes into its status.
    fn last_words(&self, status: &mut Value, spec: &Value, end: &str) -> &'static str {
        if !self.verifies && end == "Completed" && !spec["job"]["verification"].is_null() {
            return "Verifying";
        }
        if self.verifies {
            let state = if end == "Completed" { "Passed" } else { "Failed" };
            status["verification"] = json!([{"name": "test", "state": state}]);
        }
        status["outcome"] = json!({"reason": end, "message": "so it is"});
        "Ended"
    }

    /// Fills the patch artifact. None when there is none, as after a deletion by hand.
    fn leave_patch(&self, server: &Server, spec: &Value) -> Option<Value> {
        let name = spec["job"]["patchArtifactName"].as_str().unwrap();
        let artifact = server.get("configmaps", name)?;
        if artifact["metadata"]["ownerReferences"][0]["uid"] != self.attempt_uid.as_str() {
            return None;
        }
        let sha256: String = Sha256::digest(PATCH).iter().map(|byte| format!("{byte:02x}")).collect();
        let packed = STANDARD.encode(zstd::encode_all(PATCH.as_bytes(), 3).unwrap());
        server.change("configmaps", name, |artifact| artifact["binaryData"] = json!({"patch.zst": packed}));
        let bytes = PATCH.len();
        Some(json!({
            "inline": PATCH, "files": 1, "bytes": bytes, "sha256": sha256, "baseCommit": "abc",
            "artifact": {"configMapName": name, "key": "patch.zst", "sha256": sha256, "bytes": bytes},
        }))
    }

    /// Rights are looked up at each request: Role and RoleBinding have to be there.
    fn may(&self, server: &Server) -> bool {
        ["roles", "rolebindings"].iter().all(|kind| {
            server.get(kind, &self.pod).is_some_and(|right| {
                right["metadata"]["ownerReferences"][0]["uid"] == self.attempt_uid.as_str()
            })
        })
    }

    pub(super) fn is_done(&self) -> bool {
        self.is_done
    }
}

/// What befalls a pod next. Gives what happened, in words.
pub(super) fn befall(
    server: &Server,
    name: &str,
    agents: &mut Vec<Agent>,
    dice: &mut Dice,
    is_calm: bool,
) -> Option<String> {
    let pod = server.get("pods", name)?;
    let uid = pod["metadata"]["uid"].as_str().unwrap().to_owned();
    let trouble = if is_calm { 100 } else { dice.below(100) };
    if !pod["metadata"]["deletionTimestamp"].is_null() && trouble > 30 {
        server.finish("pods", name);
        return Some(format!("pod {name} is gone"));
    }
    let is_ours = pod["metadata"]["labels"][names::MANAGED_BY_LABEL] == names::MANAGED_BY;
    let status = match pod["status"]["phase"].as_str() {
        Some("Failed" | "Succeeded") => return None,
        _ if !is_ours => return None,
        Some("Running") if trouble < 4 => lost(),
        Some("Running") if trouble < 6 => starved(),
        Some("Running") => {
            let agent = agents.iter().find(|agent| agent.uid == uid);
            if agent.is_some_and(|agent| !agent.is_done() && !agent.may(server)) && (is_calm || trouble < 30)
            {
                return crash(server, name, &pod);
            }
            let is_over = pod["status"]["containerStatuses"][0]["state"]["terminated"].is_object();
            if is_over || !agent.is_some_and(Agent::is_done) {
                return None;
            }
            let mut status = running();
            status["startTime"] = pod["status"]["startTime"].clone();
            status["containerStatuses"][0]["state"] = json!({"terminated": {"exitCode": 0}});
            status
        }
        _ if trouble < 8 => image_missing(server),
        _ if trouble < 14 => json!({
            "phase": "Pending",
            "conditions": [{"type": "PodScheduled", "status": "False", "message": "no room"}],
        }),
        _ => {
            agents.push(Agent::of(&pod, dice));
            let mut status = running();
            status["startTime"] = json!(at(server.now()).to_string());
            status
        }
    };
    if status == pod["status"] {
        return None;
    }
    let what = format!("pod {name}: {}", status["phase"].as_str().unwrap());
    server.change("pods", name, |pod| pod["status"] = status);
    Some(what)
}

/// An agent without rights ends, and is started again, and again.
fn crash(server: &Server, name: &str, pod: &Value) -> Option<String> {
    let mut status = running();
    status["startTime"] = pod["status"]["startTime"].clone();
    let agent = &mut status["containerStatuses"][0];
    agent["restartCount"] = json!(6);
    agent["state"] = json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}});
    agent["lastState"] = json!({"terminated": {"exitCode": 1}});
    if status == pod["status"] {
        return None;
    }
    server.change("pods", name, |pod| pod["status"] = status);
    Some(format!("the agent of {name} crashes"))
}

/// Evicted for no fault of its own.
fn lost() -> Value {
    json!({
        "phase": "Failed", "reason": "Evicted", "message": "the node has no room",
        "conditions": [{"type": "DisruptionTarget", "status": "True", "message": "preempted"}],
    })
}

fn starved() -> Value {
    let killed = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}});
    json!({
        "phase": "Failed",
        "containerStatuses": [{
            "name": "sandbox", "image": "x", "imageID": "", "ready": false, "restartCount": 0, "state": killed,
        }],
    })
}

fn image_missing(server: &Server) -> Value {
    let waiting = json!({"waiting": {"reason": "ErrImagePull", "message": "not there"}});
    json!({
        "phase": "Pending",
        "startTime": at(server.now()).to_string(),
        "containerStatuses": [{
            "name": "sandbox", "image": "x", "imageID": "", "ready": false, "restartCount": 0, "state": waiting,
        }],
    })
}
