//! From a task to its first command, and the controller's own share of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Resource, ResourceExt as _};
use podwright::api::AgentTask;
use podwright::names;
use serde_json::json;

use crate::Bench;
use crate::peer::Peers;
use crate::recorder::Exchange;
use crate::report::Row;
use crate::samples::Samples;
use crate::world::succeeded;

/// The golden ratio's fraction: its multiples spread evenly over the second, however many there are.
const GOLDEN: f64 = 0.618_033_988_749_895;

pub(crate) async fn measure(bench: &Bench, peers: &Peers) -> Vec<Row> {
    let births = Births::watch(bench);
    let (mut ours, mut theirs) = (Samples::default(), Samples::default());
    for round in 0..bench.rounds.starts {
        // Each is first in every other round, so that neither always has the warmer machine.
        if round % 2 == 0 {
            theirs.add(bare_pod(bench, peers, round).await);
        }
        ours.add(task(bench, round).await);
        if round % 2 == 1 {
            theirs.add(bare_pod(bench, peers, round).await);
        }
    }
    let share = births.pods_after_tasks();
    vec![
        Row::ratio("AgentTask created to first command running", &ours, &theirs, 1.25).note(
            "`date` says when it runs. The peer is a bare pod with the same two containers, images, volumes and `postStart` \
             hook, a shell in the agent's place that clones the same repository at the same depth, and one `pods/exec` call, \
             tried every 50 ms, that runs `date` in the sandbox as soon as the clone is there. Alternating, at moments spread \
             over the second, since the kubelet looks at its containers once a second.",
        ),
        Row::time("Controller: task created to pod object created", &share, 30.0).note(
            "One client watches both kinds; the time is that between the two events. In between the controller makes an \
             AgentAttempt, a ServiceAccount, a Role, a RoleBinding and the pod.",
        ),
    ]
}

/// Bare pods like that of a first task, which also has both images unpacked.
pub(crate) async fn peers(bench: &Bench) -> Peers {
    // The pod is kept to be read.
    let spec = json!({"prompt": "MEASURE-START", "retention": {"podSeconds": 5}});
    bench.world.create_task("first", "small", &spec).await;
    let pod = bench.world.pod("first").await;
    let peers = Peers::like(&bench.world, &pod, "small");
    completed(bench, "first").await;
    bench.model.take();
    peers
}

/// Waits until a task has ended well and its pod is gone.
pub(crate) async fn completed(bench: &Bench, name: &str) -> AgentTask {
    let task = bench.world.ended(name).await;
    let (status, reason, message) = succeeded(&task);
    assert!(status == "True", "{name} ended with {reason}: {message}");
    bench.quiet().await;
    task
}

async fn task(bench: &Bench, round: u32) -> Duration {
    let name = format!("start-{round}");
    phase(round).await;
    let asked = Timestamp::now();
    bench.world.create_task(&name, "small", &json!({"prompt": "MEASURE-START"})).await;
    completed(bench, &name).await;
    between(asked, command_ran(&bench.model.take()))
}

async fn bare_pod(bench: &Bench, peers: &Peers, round: u32) -> Duration {
    let name = format!("bare-{round}");
    phase(round).await;
    let asked = peers.create(&name).await;
    let printed = peers.first_command(&name, "date +%s.%N").await;
    let pod = peers.pods.get(&name).await.expect("the pod");
    peers.delete(&pod).await;
    bench.quiet().await;
    between(asked, moment(printed.trim()))
}

/// Waits for the round's own moment of a second.
async fn phase(round: u32) {
    let now = Timestamp::now().subsec_nanosecond() as f64 / 1e9;
    let wanted = (f64::from(round) * GOLDEN).fract();
    tokio::time::sleep(Duration::from_secs_f64((wanted - now).rem_euclid(1.0))).await;
}

/// What `date` said in the output that the last request carries.
fn command_ran(exchanges: &[Exchange]) -> Timestamp {
    let last = exchanges.last().expect("the model was asked");
    let body = String::from_utf8_lossy(&last.body);
    let pattern = regex::Regex::new(r"\d{10}\.\d{9}").expect("a pattern");
    moment(pattern.find(&body).expect("the command's output is in the request").as_str())
}

fn moment(text: &str) -> Timestamp {
    let (seconds, nanos) = text.split_once('.').expect("seconds and nanoseconds");
    let seconds = seconds.parse().expect("seconds");
    Timestamp::new(seconds, nanos.parse().expect("nanoseconds")).expect("a time")
}

fn between(from: Timestamp, to: Timestamp) -> Duration {
    to.duration_since(from).try_into().expect("one machine has one clock")
}

/// When tasks and their pods were first seen, by the task's name.
#[derive(Clone, Default)]
struct Births {
    tasks: Arc<Mutex<HashMap<String, Instant>>>,
    pods: Arc<Mutex<HashMap<String, Instant>>>,
}

impl Births {
    fn watch(bench: &Bench) -> Self {
        let births = Self::default();
        follow(bench.world.api::<AgentTask>(), births.tasks.clone(), |task| Some(task.name_any()));
        follow(bench.world.api::<Pod>(), births.pods.clone(), |pod| {
            pod.labels().get(names::TASK_LABEL).cloned()
        });
        births
    }

    fn pods_after_tasks(&self) -> Samples {
        let tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        let mut samples = Samples::default();
        for (name, pod) in pods.iter().filter(|(name, _)| name.starts_with("start-")) {
            samples.add(pod.duration_since(tasks[name]));
        }
        samples
    }
}

fn follow<K>(api: Api<K>, born: Arc<Mutex<HashMap<String, Instant>>>, name: fn(&K) -> Option<String>)
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    tokio::spawn(async move {
        let mut events = watcher(api, watcher::Config::default()).boxed();
        while let Some(event) = events.next().await {
            let Ok(Event::Apply(object) | Event::InitApply(object)) = event else { continue };
            let now = Instant::now();
            if let Some(name) = name(&object) {
                born.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_insert(now);
            }
        }
    });
}
