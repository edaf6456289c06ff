//! A controller: what its watches have shown it so far, the passes that it owes, and those under way.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kube::Resource;
use kube::core::DeserializeGuard;
use kube::runtime::events::Reporter;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::Event;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::task::JoinHandle;

use super::gate::Gate;
use crate::controller::caches::{Caches, Feed};
use crate::controller::context::{Context, lock};
use crate::controller::error::Error;
use crate::controller::reconcile::{after_failure, guarded};
use crate::controller::tests::server::Change;
use crate::controller::tests::{SetClock, fixtures};
use crate::controller::turns;
use crate::names;
use crate::telemetry::metrics::Metrics;

/// What is watched and kept.
pub(super) const KEPT: [&str; 4] = ["agenttasks", "agentattempts", "pods", "agentmessages"];

/// What a pass has come to.
pub(super) struct Done {
    pub(super) task: String,
    pub(super) again: Option<Duration>,
    /// Why it failed.
    pub(super) error: Option<Error>,
}

pub(super) struct Process {
    pub(super) number: u32,
    context: Arc<Context>,
    feed: Feed,
    /// For each kind that is kept, how many of the changes its watch has shown.
    shown: BTreeMap<&'static str, usize>,
    /// When each task is due, in milliseconds.
    pub(super) due: BTreeMap<String, i64>,
    running: BTreeMap<String, JoinHandle<()>>,
    done: Arc<Mutex<Vec<Done>>>,
    /// Whether it has lost its place to another one: it begins no pass any more.
    pub(super) retired: bool,
    filled: bool,
}

impl Process {
    pub(super) fn new(number: u32, gate: &Gate, clock: &Arc<SetClock>) -> Self {
        let (caches, feed) = Caches::fed();
        let instance = Some(number.to_string());
        let context = Context {
            store: None,
            client: gate.client(number),
            caches,
            reporter: Reporter { controller: names::CONTROLLER_MANAGER.into(), instance },
            metrics: Arc::new(Metrics::new().unwrap()),
            agent: fixtures::image(),
            clock: clock.clone(),
            backoff: Mutex::default(),
            pace: Mutex::default(),
            queue: Mutex::default(),
        };
        Self {
            number,
            context: Arc::new(context),
            feed,
            shown: KEPT.map(|kind| (kind, 0)).into(),
            due: BTreeMap::new(),
            running: BTreeMap::new(),
            done: Arc::default(),
            retired: false,
            filled: false,
        }
    }

    /// How far behind its watch of a kind is.
    pub(super) fn lag(&self, kind: &str, changes: usize) -> usize {
        changes - self.shown[kind]
    }

    pub(super) fn is_filled(&self) -> bool {
        self.filled
    }

    /// The watch of a kind shows these changes at once: of each object only the newest state, as a watch that begins
    /// anew does. Every task that they are about is due.
    pub(super) fn show(&mut self, kind: &'static str, changes: &[Change], now: i64) {
        *self.shown.get_mut(kind).unwrap() += changes.len();
        let own = changes.iter().filter(|change| change.resource == kind);
        let newest: BTreeMap<&str, &Change> = own.map(|change| (change.name.as_str(), change)).collect();
        for change in newest.into_values() {
            let object = change.after.as_deref().or(change.before.as_deref()).unwrap();
            let is_there = change.after.is_some();
            let touched = match kind {
                "agenttasks" => {
                    let known = self.task(&change.name);
                    write(&mut self.feed.tasks, guarded_of(object), is_there);
                    let generation = |task: &kube::api::ObjectMeta| {
                        (task.uid.clone(), task.generation, task.deletion_timestamp.clone())
                    };
                    let is_news = known.is_none_or(|known| {
                        generation(known.meta())
                            != generation(guarded_of::<crate::api::AgentTask>(object).meta())
                    });
                    (is_news || !is_there).then(|| change.name.clone())
                }
                "agentattempts" if is_ours(object) => {
                    write(&mut self.feed.attempts, guarded_of(object), is_there);
                    let owner = &object["metadata"]["ownerReferences"][0]["name"];
                    owner.as_str().map(str::to_owned)
                }
                "pods" if is_ours(object) => {
                    let mut pod: k8s_openapi::api::core::v1::Pod = fixtures::read(object.clone());
                    pod.spec = None;
                    write(&mut self.feed.pods, pod, is_there);
                    object["metadata"]["labels"][names::TASK_LABEL].as_str().map(str::to_owned)
                }
                "agentmessages" => {
                    write(&mut self.feed.messages, guarded_of(object), is_there);
                    object["spec"]["taskName"].as_str().map(str::to_owned)
                }
                _ => None,
            };
            touched.into_iter().for_each(|task| self.owe(task, now));
        }
        self.wake(now);
    }

    /// The first lists are whole.
    pub(super) fn fill(&mut self, now: i64) {
        self.feed.fill();
        self.filled = true;
        self.wake(now);
    }

    /// The tasks whose turn has come are due.
    pub(super) fn wake(&mut self, now: i64) {
        let found = turns::next(&self.context.caches, &mut lock(&self.context.queue));
        found.into_iter().for_each(|task| self.owe(task.name, now));
    }

    /// What tasks may wait for has changed.
    pub(super) fn wake_waiting(&mut self, now: i64) {
        let waiting = self.context.caches.waiting(Some(super::NAMESPACE), |_| true);
        waiting.into_iter().for_each(|task| self.owe(task.name, now));
    }

    /// A pass that was due later is made earlier.
    fn owe(&mut self, task: String, at: i64) {
        let due = self.due.entry(task).or_insert(at);
        *due = at.min(*due);
    }

    fn task(&self, name: &str) -> Option<Arc<DeserializeGuard<crate::api::AgentTask>>> {
        self.context.caches.tasks.get(&ObjectRef::new(name).within(super::NAMESPACE))
    }

    /// The tasks of which a pass can begin: never two of one task at a time.
    pub(super) fn ready(&self, now: i64) -> Vec<String> {
        if self.retired {
            return Vec::new();
        }
        let due = self.due.iter().filter(|(task, at)| **at <= now && !self.running.contains_key(*task));
        due.map(|(task, _)| task.clone()).collect()
    }

    /// Begins a pass; says whether there is such a task.
    pub(super) fn begin(&mut self, name: &str) -> bool {
        self.due.remove(name);
        let Some(task) = self.task(name) else { return false };
        let (context, done, name) = (self.context.clone(), self.done.clone(), name.to_owned());
        let key = name.clone();
        let pass = tokio::spawn(async move {
            let (again, error) = match guarded(task.clone(), context.clone()).await {
                Ok(again) => (again, None),
                Err(error) => (Some(after_failure(&task, &error, &context)), Some(error)),
            };
            done.lock().unwrap().push(Done { task: name, again, error });
        });
        self.running.insert(key, pass);
        true
    }

    /// The passes that have ended since the last call.
    pub(super) fn ended(&mut self, now: i64) -> Vec<Done> {
        let done = std::mem::take(&mut *self.done.lock().unwrap());
        for Done { task, again, .. } in &done {
            self.running.remove(task);
            if let Some(again) = again {
                self.owe(task.clone(), now + i64::try_from(again.as_millis()).unwrap());
            }
        }
        done
    }

    pub(super) fn is_busy(&self) -> bool {
        !self.running.is_empty()
    }

    /// Ends as a killed process does.
    pub(super) fn die(self) {
        self.running.values().for_each(JoinHandle::abort);
    }
}

fn is_ours(object: &Value) -> bool {
    object["metadata"]["labels"][names::MANAGED_BY_LABEL] == names::MANAGED_BY
}

fn guarded_of<K: DeserializeOwned + Resource>(object: &Value) -> DeserializeGuard<K>
where
    DeserializeGuard<K>: DeserializeOwned,
{
    fixtures::read(object.clone())
}

fn write<K>(writer: &mut Writer<K>, object: K, is_there: bool)
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let event = if is_there { Event::Apply(object) } else { Event::Delete(object) };
    writer.apply_watcher_event(&event);
}
