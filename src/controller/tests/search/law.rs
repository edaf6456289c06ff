//! What must hold in every state, checked at every change of an object.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::controller::tests::ATTEMPT;
use crate::controller::tests::server::{Change, Server};
use crate::names;

/// The label of objects that are somebody else's.
pub(super) const FOREIGN: &str = "foreign";

/// An attempt and one of its pods.
type AttemptEpoch = (String, i64);

/// What has happened so far, as far as a rule needs it.
#[derive(Default)]
pub(super) struct Law {
    /// The stored end of each task, by UID.
    ends: BTreeMap<String, Value>,
    /// The stored reason of each attempt, by the task's UID and the attempt's number.
    reasons: BTreeMap<(String, i64), Value>,
    /// What senders were told for good, by the message's UID.
    told: BTreeMap<String, Value>,
    /// The number of each message in the inbox of each attempt, by both UIDs.
    numbers: BTreeMap<(String, String), i64>,
    /// Pods of which an agent has spoken, and the UID of that pod's attempt.
    spoken: BTreeSet<AttemptEpoch>,
    /// What agents have said last, by the attempt's UID.
    said: BTreeMap<String, Value>,
    /// Whether the namespace's quota has ever been full: then a pod may be taken back.
    pub(super) quota: bool,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn uid(object: &Value) -> String {
    text(&object["metadata"]["uid"])
}

fn owner(object: &Value) -> String {
    let owners = object["metadata"]["ownerReferences"].as_array();
    let owner = owners.and_then(|owners| owners.iter().find(|owner| owner["controller"] == true));
    owner.map(|owner| text(&owner["uid"])).unwrap_or_default()
}

fn succeeded(task: &Value) -> &Value {
    let conditions = task["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    conditions.iter().find(|condition| condition["type"] == "Succeeded").unwrap_or(&Value::Null)
}

/// Whether a task's status says that it has ended.
pub(super) fn has_ended(task: &Value) -> bool {
    matches!(succeeded(task)["status"].as_str(), Some("True" | "False"))
}

/// The number of a pod, from its name: `pw-TASK-ATTEMPT-EPOCH-HASH`.
fn epoch(name: &str) -> i64 {
    name.rsplit('-').nth(1).and_then(|number| number.parse().ok()).unwrap_or(0)
}

impl Law {
    /// Judges a change. The error says which promise is broken.
    pub(super) fn judge(&mut self, server: &Server, change: &Change) -> Result<(), String> {
        let Change { resource, name, before, after, asked_for } = change;
        let is_foreign = |object: &Value| object["metadata"]["labels"][FOREIGN] == "yes";
        if *asked_for && before.as_deref().is_some_and(is_foreign) {
            return Err(format!("somebody else's {resource} {name} was touched"));
        }
        match (resource.as_str(), before.as_deref(), after.as_deref()) {
            ("agenttasks", before, Some(after)) if *asked_for => self.task(before, after)?,
            ("agenttasks", Some(before), None) if *asked_for && !has_ended(before) => {
                return Err(format!("task {name} was deleted before its end"));
            }
            (ATTEMPT, before, Some(after)) => self.attempt(before, after, *asked_for)?,
            (ATTEMPT, Some(before), None) if *asked_for => self.attempt_goes(before)?,
            ("pods", None, Some(pod)) if *asked_for => self.pod_comes(server, name, pod)?,
            ("pods", Some(pod), after) if *asked_for => {
                let is_deletion =
                    after.is_some_and(|after| !after["metadata"]["deletionTimestamp"].is_null());
                if !is_deletion {
                    return Err(format!("pod {name} was changed"));
                }
                self.pod_goes(server, name, pod)?;
            }
            ("rolebindings", None, Some(binding)) if *asked_for => Self::one_epoch(server, &owner(binding))?,
            ("configmaps", Some(_), _) if *asked_for => return Err(format!("artifact {name} was touched")),
            ("agentmessages", Some(_), Some(after)) => self.message(after)?,
            _ => {}
        }
        Ok(())
    }

    /// Terminal is terminal, for a task and for each of its attempts; and a good end is an agent's word.
    fn task(&mut self, before: Option<&Value>, after: &Value) -> Result<(), String> {
        let uid = uid(after);
        if let Some(before) = before
            && before["spec"] != after["spec"]
        {
            return Err("the spec of a task was changed".into());
        }
        for attempt in after["status"]["attempts"].as_array().into_iter().flatten() {
            let key = (uid.clone(), attempt["index"].as_i64().unwrap());
            let reason = &attempt["reason"];
            match self.reasons.get(&key) {
                Some(known) if known != reason => {
                    return Err(format!("attempt {key:?} ended with {known}, and then with {reason}"));
                }
                None if !reason.is_null() => drop(self.reasons.insert(key, reason.clone())),
                Some(_) | None => {}
            }
        }
        let end = {
            let succeeded = succeeded(after);
            let [status, reason] = [&succeeded["status"], &succeeded["reason"]];
            has_ended(after).then(|| serde_json::json!([status, reason, after["status"]["completionTime"]]))
        };
        match (self.ends.get(&uid), end) {
            (Some(known), end) if Some(known) != end.as_ref() => {
                return Err(format!("a task ended with {known}, and is now {end:?}"));
            }
            (None, Some(end)) => {
                self.is_true_end(&uid, after)?;
                self.ends.insert(uid, end);
            }
            _ => {}
        }
        if let Some(before) = before {
            let result = &before["status"]["result"];
            if !result.is_null() && *result != after["status"]["result"] {
                return Err("a result was changed".into());
            }
        }
        Ok(())
    }

    /// No success that no agent has reported, and no verification that no harness has.
    fn is_true_end(&self, uid: &str, task: &Value) -> Result<(), String> {
        let attempts = task["status"]["attempts"].as_array().map(Vec::as_slice).unwrap_or_default();
        for attempt in attempts.iter().filter(|attempt| attempt["reason"] == "Completed") {
            let said =
                self.said.values().find(|said| said["taskUID"] == uid && said["index"] == attempt["index"]);
            let said = said.map(|said| said["status"].clone()).unwrap_or_default();
            if said["outcome"]["reason"] != "Completed" {
                return Err(format!("an attempt is Completed, and its agent said {said}"));
            }
            let has_verification = task["spec"]["verification"].is_array();
            if has_verification
                && (attempt["verified"] != true || said["verification"][0]["state"] != "Passed")
            {
                return Err(format!("an attempt is Completed and was not verified: {said}"));
            }
        }
        if task["spec"]["attempts"]["count"].as_i64().unwrap_or(1) == 1
            && succeeded(task)["status"] == "True"
            && task["status"]["result"].is_null()
        {
            return Err("a task that succeeded has no result".into());
        }
        Ok(())
    }

    fn attempt(&mut self, before: Option<&Value>, after: &Value, asked_for: bool) -> Result<(), String> {
        let uid = uid(after);
        if let Some(before) = before {
            if before["spec"]["job"] != after["spec"]["job"] {
                return Err("the job of an attempt was changed".into());
            }
            if asked_for && before["status"] != after["status"] {
                return Err("the controller has written an agent's status".into());
            }
        }
        if !asked_for {
            let status = &after["status"];
            let epoch = status["epoch"].as_i64().unwrap_or(0);
            self.spoken.insert((uid.clone(), epoch));
            let said = serde_json::json!({
                "taskUID": after["spec"]["taskUID"], "index": after["spec"]["index"], "status": status,
            });
            // One that was deleted has said what no longer counts.
            self.said
                .retain(|_, other| other["taskUID"] != said["taskUID"] || other["index"] != said["index"]);
            self.said.insert(uid, said);
            return Ok(());
        }
        let entries = after["spec"]["inbox"].as_array().map(Vec::as_slice).unwrap_or_default();
        let was_there = |number: i64| {
            let entries = before.and_then(|before| before["spec"]["inbox"].as_array());
            entries.into_iter().flatten().any(|entry| entry["seq"] == number)
        };
        let taken = after["status"]["inboxSeq"].as_i64().unwrap_or(0);
        let mut last = 0;
        for entry in entries {
            let number = entry["seq"].as_i64().unwrap();
            if number <= last {
                return Err(format!("an inbox is out of order: {entries:?}"));
            }
            last = number;
            if !was_there(number) && number <= taken {
                return Err(format!("message {number} comes below what the agent has taken in ({taken})"));
            }
            let key = (uid.clone(), text(&entry["uid"]));
            match self.numbers.get(&key) {
                Some(known) if *known != number => {
                    return Err(format!("a message is delivered twice, as {known} and as {number}"));
                }
                _ => drop(self.numbers.insert(key, number)),
            }
        }
        Ok(())
    }

    /// An attempt goes with its task's retention, or before anything came of it.
    fn attempt_goes(&self, attempt: &Value) -> Result<(), String> {
        let uid = uid(attempt);
        let is_over = self.ends.contains_key(&owner(attempt));
        if is_over || !self.spoken.iter().any(|(spoke, _)| *spoke == uid) {
            return Ok(());
        }
        Err("an attempt whose agent has worked was deleted".into())
    }

    /// No second pod in the place of one that has worked, and no two epochs at a time.
    fn pod_comes(&self, server: &Server, name: &str, pod: &Value) -> Result<(), String> {
        let attempt = owner(pod);
        let epoch = epoch(name);
        if self.spoken.iter().any(|(spoke, at)| *spoke == attempt && *at >= epoch) {
            return Err(format!("pod {name} is made although the agent of epoch {epoch} has spoken"));
        }
        Self::one_epoch(server, &attempt)
    }

    /// Where a pod of an epoch is, the agents of those before it have no rights any more.
    fn one_epoch(server: &Server, attempt: &str) -> Result<(), String> {
        let own = |kind: &str| -> Vec<i64> {
            let names = server.names(kind);
            let own = names
                .into_iter()
                .filter(|name| server.get(kind, name).is_some_and(|object| owner(&object) == attempt));
            own.map(|name| epoch(&name)).collect()
        };
        let newest = own("pods").into_iter().max();
        match (newest, own("rolebindings").into_iter().min()) {
            (Some(newest), Some(oldest)) if oldest < newest => {
                Err(format!("epoch {oldest} still has its rights while epoch {newest} has its pod"))
            }
            _ => Ok(()),
        }
    }

    /// The controller deletes a pod whose attempt has ended, which has another one after it, or which is lost already.
    fn pod_goes(&self, server: &Server, name: &str, pod: &Value) -> Result<(), String> {
        let attempt = owner(pod);
        let said = self.said.get(&attempt).map(|said| &said["status"]);
        let is_done = said.is_some_and(|said| matches!(said["phase"].as_str(), Some("Ended" | "Verifying")));
        let is_lost = pod["status"]["phase"] == "Failed" || !pod["metadata"]["deletionTimestamp"].is_null();
        let label = |label: &str| text(&pod["metadata"]["labels"][label]);
        let task = server.get("agenttasks", &label(names::TASK_LABEL));
        let task = task.filter(|task| uid(task) == label(names::TASK_UID_LABEL));
        let attempts =
            task.iter().flat_map(|task| task["status"]["attempts"].as_array().into_iter().flatten());
        let mut own = attempts.filter(|attempt| {
            server.get(ATTEMPT, &text(&attempt["name"])).is_none_or(|stored| uid(&stored) == owner(pod))
        });
        let is_over = own.any(|attempt| !attempt["reason"].is_null()) || task.as_ref().is_none_or(has_ended);
        if is_done || is_lost || is_over || self.quota {
            return Ok(());
        }
        Err(format!("pod {name} was deleted while its attempt goes on"))
    }

    /// What a sender was told in the end is for good.
    fn message(&mut self, after: &Value) -> Result<(), String> {
        let condition = &after["status"]["conditions"][0];
        let key = uid(after);
        if let Some(known) = self.told.get(&key)
            && (*known != condition["status"])
        {
            return Err(format!("a sender was told {known}, and then {condition}"));
        }
        if matches!(condition["status"].as_str(), Some("True" | "False")) {
            self.told.insert(key, condition["status"].clone());
        }
        Ok(())
    }
}
