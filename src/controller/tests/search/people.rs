//! What people do: they create, change and delete, and say things.

use serde_json::{Value, json};

use super::law::FOREIGN;
use crate::controller::tests::server::Server;
use crate::controller::tests::{ATTEMPT, TASK, fixtures};
use crate::names;
use crate::search::Dice;

/// Tasks of one life, at most, each with its own name or the name of one that is gone.
const TASKS: usize = 3;

/// Messages of one life, at most.
const MESSAGES: usize = 6;

#[derive(Default)]
pub(super) struct People {
    tasks: usize,
    messages: usize,
    /// What was put in the way, to be taken away again.
    foreign: Vec<(String, String)>,
    /// What is away for a while.
    away: Vec<(&'static str, Value)>,
}

impl People {
    /// Somebody does something. Gives what, in words.
    pub(super) fn act(&mut self, server: &Server, dice: &mut Dice) -> Option<String> {
        let tasks = server.names(TASK);
        match dice.below(24) {
            0..=3 => self.create(server, dice),
            4..=8 => self.speak(server, dice, &tasks),
            9 | 10 => self.suspend(server, dice, &tasks),
            11 => Self::delete(server, dice, TASK),
            12 | 13 => Self::delete(server, dice, "pods"),
            14 => {
                let kind = *dice.pick(&["rolebindings", "roles", "agentmessages", ATTEMPT]);
                Self::delete(server, dice, kind)
            }
            15 => self.hide(server, dice),
            16 | 17 => self.bring_back(server),
            18 => Self::change_environment(server),
            19 => self.obstruct(server, dice, &tasks),
            20 => self.make_way(server),
            21 => Self::foreground(server, dice, &tasks),
            _ => None,
        }
    }

    /// A task with what chance gives it.
    pub(super) fn create(&mut self, server: &Server, dice: &mut Dice) -> Option<String> {
        let name = *dice.pick(&["fix", "mend"]);
        if self.tasks == TASKS || server.get(TASK, name).is_some() {
            return None;
        }
        self.tasks += 1;
        let mut task = fixtures::task_json();
        task["metadata"] = json!({"name": name, "namespace": fixtures::NAMESPACE, "generation": 1});
        if dice.chance(40) {
            task["spec"]["verification"] = json!([{"name": "test", "command": "make test"}]);
        }
        if dice.chance(35) {
            let is_verified = task["spec"]["verification"].is_array();
            let policy = if is_verified { "FirstVerified" } else { "Manual" };
            task["spec"]["attempts"] = json!({"count": 2, "selection": {"policy": policy}});
        }
        if dice.chance(20) {
            task["spec"]["suspend"] = json!(true);
        }
        if dice.chance(20) {
            task["spec"]["retention"] = json!({"podSeconds": 60, "artifactSeconds": 600});
        }
        if dice.chance(15) {
            task["spec"]["ttlSecondsAfterFinished"] = json!(300);
        }
        let spec = task["spec"].clone();
        server.put(TASK, task);
        Some(format!("somebody creates {name}: {spec}"))
    }

    fn speak(&mut self, server: &Server, dice: &mut Dice, tasks: &[String]) -> Option<String> {
        if tasks.is_empty() || self.messages == MESSAGES {
            return None;
        }
        self.messages += 1;
        let name = format!("m{}", self.messages);
        let kind = *dice.pick(&["Prompt", "Prompt", "Prompt", "Cancel", "SelectAttempt"]);
        let mut spec = json!({"taskName": dice.pick(tasks), "kind": kind});
        if kind == "Prompt" {
            spec["text"] = json!(format!("text of {name}"));
        }
        if kind == "SelectAttempt" || dice.chance(40) {
            spec["attempt"] = json!(1 + dice.below(2));
        }
        let words = format!("somebody says {name}: {spec}");
        server.put(
            "agentmessages",
            json!({
                "apiVersion": "podwright.dev/v1alpha1", "kind": "AgentMessage",
                "metadata": {"name": name, "namespace": fixtures::NAMESPACE}, "spec": spec,
            }),
        );
        Some(words)
    }

    fn suspend(&mut self, server: &Server, dice: &mut Dice, tasks: &[String]) -> Option<String> {
        if tasks.is_empty() {
            return None;
        }
        let name = dice.pick(tasks);
        set_suspended(server, name, dice.chance(50))
    }

    fn delete(server: &Server, dice: &mut Dice, resource: &str) -> Option<String> {
        let there = server.names(resource);
        if there.is_empty() {
            return None;
        }
        let name = dice.pick(&there);
        server.remove(resource, name);
        Some(format!("somebody deletes {resource} {name}"))
    }

    /// A deletion in the foreground: the task stays until what it owns is gone.
    fn foreground(server: &Server, dice: &mut Dice, tasks: &[String]) -> Option<String> {
        if tasks.is_empty() {
            return None;
        }
        let name = dice.pick(tasks);
        let now = fixtures::at(server.now()).to_string();
        server.change(TASK, name, |task| task["metadata"]["deletionTimestamp"] = json!(now));
        Some(format!("somebody deletes {name} in the foreground"))
    }

    fn hide(&mut self, server: &Server, dice: &mut Dice) -> Option<String> {
        let (resource, name) = *dice.pick(&[("agentenvironments", "default"), ("modelproviders", "default")]);
        let object = server.get(resource, name)?;
        server.remove(resource, name);
        self.away.push((resource, object));
        Some(format!("somebody deletes {resource} {name}"))
    }

    pub(super) fn bring_back(&mut self, server: &Server) -> Option<String> {
        let (resource, mut object) = self.away.pop()?;
        object["metadata"]["uid"] = Value::Null;
        server.put(resource, object);
        Some(format!("somebody creates {resource} again"))
    }

    fn change_environment(server: &Server) -> Option<String> {
        server.get("agentenvironments", "default")?;
        server.change("agentenvironments", "default", |environment| {
            let generation = environment["metadata"]["generation"].as_i64().unwrap() + 1;
            environment["metadata"]["generation"] = json!(generation);
            environment["spec"]["image"] = json!(format!("sandbox:{generation}"));
        });
        Some("somebody changes the environment".into())
    }

    /// Something of somebody else's under a name that a task is going to need.
    fn obstruct(&mut self, server: &Server, dice: &mut Dice, tasks: &[String]) -> Option<String> {
        if tasks.is_empty() {
            return None;
        }
        let task = server.get(TASK, dice.pick(tasks).as_str())?;
        let (name, uid) =
            (task["metadata"]["name"].as_str().unwrap(), task["metadata"]["uid"].as_str().unwrap());
        let pod = names::pod(name, uid, 1, 1 + i32::try_from(dice.below(2)).unwrap());
        let artifact = names::patch_artifact(&names::attempt(name, uid, 1));
        let (resource, name) = dice
            .pick(&[
                ("pods", pod.clone()),
                ("roles", pod.clone()),
                ("serviceaccounts", pod),
                ("configmaps", artifact),
            ])
            .clone();
        if server.get(resource, &name).is_some() {
            return None;
        }
        server.put(
            resource,
            json!({"metadata": {"name": name, "namespace": fixtures::NAMESPACE, "labels": {FOREIGN: "yes"}}}),
        );
        self.foreign.push((resource.to_owned(), name.clone()));
        Some(format!("somebody puts a {resource} {name} there"))
    }

    pub(super) fn make_way(&mut self, server: &Server) -> Option<String> {
        let (resource, name) = self.foreign.pop()?;
        server.remove(&resource, &name);
        server.finish(&resource, &name);
        Some(format!("somebody takes {resource} {name} away"))
    }
}

pub(super) fn set_suspended(server: &Server, name: &str, suspended: bool) -> Option<String> {
    if (server.get(TASK, name)?["spec"]["suspend"] == true) == suspended {
        return None;
    }
    server.change(TASK, name, |task| {
        let generation = task["metadata"]["generation"].as_i64().unwrap() + 1;
        task["metadata"]["generation"] = json!(generation);
        task["spec"]["suspend"] = json!(suspended);
    });
    Some(format!("somebody sets suspend of {name} to {suspended}"))
}
