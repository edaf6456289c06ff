//! What the controller watches: stores to read from, and the streams that say which task to look at.

use std::hash::Hash;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Resource;
use kube::api::Api;
use kube::core::{DeserializeGuard, NamespaceResourceScope};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{PredicateConfig, WatchStreamExt, watcher};
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, SetOnce};

use super::observed::{Epoch, TaskId};
use crate::api::{AgentAttempt, AgentEnvironment, AgentMessage, AgentTask, ModelProvider};
use crate::names;

/// A watched object, or the reason why it does not fit our types: one bad object must not end the watch of all.
pub(super) type Guarded<K> = DeserializeGuard<K>;

/// Stores filled by watches. They may lag; what can't be taken back is decided on fresh reads.
#[derive(Clone)]
pub(super) struct Caches {
    pub(super) tasks: Store<Guarded<AgentTask>>,
    pub(super) attempts: Store<Guarded<AgentAttempt>>,
    pub(super) pods: Store<Pod>,
    pub(super) messages: Store<Guarded<AgentMessage>>,
    filled: Vec<Filled>,
    /// Told of every change of a task.
    pub(super) changed: Arc<Notify>,
}

/// Set when a store has had its first list. Not the store's own `wait_until_ready`: that wakes only one of
/// several who wait, and the pass runner waits too.
type Filled = Arc<SetOnce<()>>;

/// Who hears of a store: of its first list, and of every change.
struct Heard {
    filled: Filled,
    changed: Arc<Notify>,
}

impl Heard {
    /// Only the first list matters.
    fn first(filled: Filled) -> Self {
        Self { filled, changed: Arc::default() }
    }
}

/// Streams of objects, each of which makes a task be looked at.
pub(super) struct Triggers {
    pub(super) tasks: Touched<Guarded<AgentTask>>,
    pub(super) attempts: Touched<Guarded<AgentAttempt>>,
    pub(super) pods: Touched<Pod>,
    pub(super) messages: Touched<Guarded<AgentMessage>>,
    pub(super) environments: Touched<Guarded<AgentEnvironment>>,
    pub(super) providers: Touched<Guarded<ModelProvider>>,
}

/// A stream of objects that were added, changed or deleted.
pub(super) type Touched<K> = futures::stream::BoxStream<'static, Result<K, watcher::Error>>;

/// Which namespaces a set of watches covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All of them.
    All,
    /// One.
    Namespace(String),
}

impl Scope {
    fn api<K>(&self, client: kube::Client) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        match self {
            Self::All => Api::all(client),
            Self::Namespace(namespace) => Api::namespaced(client, namespace),
        }
    }
}

/// Opens the watches. Nothing is read before the streams are driven.
pub(super) fn watch(client: &kube::Client, scope: &Scope) -> (Caches, Triggers) {
    let all = watcher::Config::default();
    let ours =
        watcher::Config::default().labels(&format!("{}={}", names::MANAGED_BY_LABEL, names::MANAGED_BY));
    let filled = <[Filled; 4]>::default();
    let [of_tasks, of_attempts, of_pods, of_messages] = filled.clone();
    let changed = Arc::new(Notify::new());
    let (tasks, task_events) = stored(
        scope.api(client.clone()),
        all.clone(),
        // A task's status is written by the controller itself, and nothing else in it matters between generations.
        generation,
        keep,
        Heard { filled: of_tasks, changed: changed.clone() },
    );
    let (attempts, attempt_events) =
        stored(scope.api(client.clone()), ours.clone(), version, keep, Heard::first(of_attempts));
    let (pods, pod_events) =
        stored(scope.api(client.clone()), ours, version, keep_status, Heard::first(of_pods));
    let (messages, message_events) =
        stored(scope.api(client.clone()), all.clone(), version, keep, Heard::first(of_messages));
    let caches = Caches { tasks, attempts, pods, messages, filled: filled.into(), changed };
    let triggers = Triggers {
        tasks: task_events,
        attempts: attempt_events,
        pods: pod_events,
        messages: message_events,
        environments: unstored(scope.api(client.clone()), all.clone()),
        providers: unstored(scope.api(client.clone()), all),
    };
    (caches, triggers)
}

impl Caches {
    /// Stores that are never filled: every pass reads the API server itself.
    #[cfg(test)]
    pub(super) fn empty() -> Self {
        let filled = vec![Filled::default()];
        Self { filled, ..Self::showing(Vec::new(), Vec::new(), Vec::new(), Vec::new()) }
    }

    /// Stores that show these objects, whatever the API server has by now.
    #[cfg(test)]
    pub(super) fn showing(
        tasks: Vec<AgentTask>,
        attempts: Vec<AgentAttempt>,
        pods: Vec<Pod>,
        messages: Vec<AgentMessage>,
    ) -> Self {
        fn store<K: Resource<DynamicType = ()> + Clone + 'static>(objects: Vec<K>) -> Store<K> {
            let (store, mut writer) = reflector::store();
            objects.into_iter().for_each(|object| writer.apply_watcher_event(&watcher::Event::Apply(object)));
            store
        }
        fn guarded<K>(objects: Vec<K>) -> Vec<Guarded<K>> {
            objects.into_iter().map(|object| DeserializeGuard(Ok(object))).collect()
        }
        Self {
            tasks: store(guarded(tasks)),
            attempts: store(guarded(attempts)),
            pods: store(pods),
            messages: store(guarded(messages)),
            filled: Vec::new(),
            changed: Arc::default(),
        }
    }

    /// Stores that show nothing yet, and the hand that fills them.
    #[cfg(test)]
    pub(super) fn fed() -> (Self, Feed) {
        let filled = Filled::default();
        let ((tasks, of_tasks), (attempts, of_attempts)) = (reflector::store(), reflector::store());
        let ((pods, of_pods), (messages, of_messages)) = (reflector::store(), reflector::store());
        let caches =
            Self { tasks, attempts, pods, messages, filled: vec![filled.clone()], changed: Arc::default() };
        let feed =
            Feed { tasks: of_tasks, attempts: of_attempts, pods: of_pods, messages: of_messages, filled };
        (caches, feed)
    }

    /// Waits until each store has had its first list.
    pub(super) async fn wait_until_filled(&self) {
        for filled in &self.filled {
            filled.wait().await;
        }
    }

    /// Whether each store has had its first list.
    pub(super) fn are_filled(&self) -> bool {
        self.filled.iter().all(|filled| filled.initialized())
    }

    pub(super) fn attempt(&self, id: &TaskId, index: i32) -> Option<AgentAttempt> {
        self.guarded_attempt(id, index)?.0.as_ref().ok().cloned()
    }

    pub(super) fn has_attempt(&self, id: &TaskId, index: i32) -> bool {
        self.guarded_attempt(id, index).is_some_and(|found| found.0.is_ok())
    }

    fn guarded_attempt(&self, id: &TaskId, index: i32) -> Option<Arc<Guarded<AgentAttempt>>> {
        self.attempts.get(&ObjectRef::new(&id.attempt_name(index)).within(&id.namespace))
    }

    pub(super) fn pod(&self, id: &TaskId, index: i32, epoch: Epoch) -> Option<Arc<Pod>> {
        self.pods.get(&ObjectRef::new(&id.pod_name(index, epoch)).within(&id.namespace))
    }

    pub(super) fn messages(&self, id: &TaskId) -> Vec<Arc<AgentMessage>> {
        let all = self.messages.state();
        let messages = all.iter().filter_map(|message| message.0.as_ref().ok());
        let own = messages.filter(|message| {
            message.spec.task_name == id.name && message.metadata.namespace.as_deref() == Some(&id.namespace)
        });
        own.cloned().map(Arc::new).collect()
    }

    /// Tasks that may wait for an object of a namespace.
    pub(super) fn waiting(
        &self,
        namespace: Option<&str>,
        names_it: impl Fn(&AgentTask) -> bool,
    ) -> Vec<ObjectRef<Guarded<AgentTask>>> {
        let found = self.tasks.state_filter(|task| {
            let task = task.0.as_ref().ok().filter(|task| super::observed::ended(task).is_none());
            task.is_some_and(|task| task.metadata.namespace.as_deref() == namespace && names_it(task))
        });
        found.iter().map(|task| ObjectRef::from_obj(task.as_ref())).collect()
    }
}

/// What watches would write.
#[cfg(test)]
pub(super) struct Feed {
    pub(super) tasks: reflector::store::Writer<Guarded<AgentTask>>,
    pub(super) attempts: reflector::store::Writer<Guarded<AgentAttempt>>,
    pub(super) pods: reflector::store::Writer<Pod>,
    pub(super) messages: reflector::store::Writer<Guarded<AgentMessage>>,
    filled: Filled,
}

#[cfg(test)]
impl Feed {
    /// The first lists are whole.
    pub(super) fn fill(&self) {
        let _ = self.filled.set(());
    }
}

fn stored<K>(
    api: Api<K>,
    config: watcher::Config,
    changed: fn(&K) -> Option<u64>,
    keep: fn(&mut K),
    heard: Heard,
) -> (Store<K>, Touched<K>)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    let (store, writer) = reflector::store();
    let events = watcher(api, config)
        .default_backoff()
        .modify(move |object: &mut K| {
            object.meta_mut().managed_fields = None;
            keep(object);
        })
        .reflect(writer)
        .inspect(move |event| {
            if matches!(event, Ok(watcher::Event::InitDone)) {
                // The second and later lists find it set.
                let _ = heard.filled.set(());
            }
            heard.changed.notify_one();
        })
        .touched_objects()
        .predicate_filter(changed, PredicateConfig::default())
        .boxed();
    (store, events)
}

fn unstored<K>(api: Api<K>, config: watcher::Config) -> Touched<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
{
    watcher(api, config)
        .default_backoff()
        .touched_objects()
        .predicate_filter(generation, PredicateConfig::default())
        .boxed()
}

fn generation<K: Resource>(object: &K) -> Option<u64> {
    let metadata = object.meta();
    // A deletion changes no generation, unless a finalizer holds it up.
    let deletion = metadata.deletion_timestamp.as_ref().map(|time| time.0.as_second());
    Some(hashed(&(metadata.generation, deletion)))
}

fn version<K: Resource>(object: &K) -> Option<u64> {
    object.meta().resource_version.as_ref().map(hashed)
}

fn hashed(value: &impl Hash) -> u64 {
    use std::hash::Hasher;
    let mut hasher = std::hash::DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn keep<K>(_: &mut K) {}

/// Of a pod only the status matters: its spec is ours, and ten times as large.
fn keep_status(pod: &mut Pod) {
    pod.spec = None;
}
