//! Writes to the API server, as it counts them itself.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::events::v1::Event;
use kube::Client;
use kube::api::ListParams;
use podwright::api::AgentTask;
use serde_json::json;

use crate::Bench;
use crate::report::Row;
use crate::start;

/// What a task's life writes; tokens, leases, bindings and pod status are the kubelet's and the scheduler's.
const RESOURCES: [&str; 9] = [
    "agentattempts",
    "agentattempts/status",
    "agenttasks",
    "agenttasks/status",
    "configmaps",
    "pods",
    "rolebindings",
    "roles",
    "serviceaccounts",
];

const WRITES: [&str; 6] = ["APPLY", "DELETE", "DELETECOLLECTION", "PATCH", "POST", "PUT"];

/// The longest pause between two writes of an AgentAttempt's progress.
const PROGRESS: f64 = 15.0;

/// How long the cluster is watched without a task.
const QUIET: Duration = Duration::from_secs(10);

type Counts = BTreeMap<(String, String), u64>;

pub(crate) async fn measure(bench: &Bench) -> Vec<Row> {
    let client = &bench.world.client;
    let before = counts(client).await;
    tokio::time::sleep(QUIET).await;
    let others: u64 = since(&before, &counts(client).await).values().sum();

    let before = counts(client).await;
    let mut short_seconds = 0;
    for round in 0..bench.rounds.counted {
        let name = format!("counted-{round}");
        bench.world.create_task(&name, "small", &json!({"prompt": "MEASURE-START"})).await;
        short_seconds += active(&start::completed(bench, &name).await);
    }
    let short = since(&before, &counts(client).await);
    let events = events(bench).await;

    let before = counts(client).await;
    bench.world.create_task("progress", "small", &json!({"prompt": "MEASURE-PROGRESS"})).await;
    let long_seconds = active(&start::completed(bench, "progress").await);
    let long = since(&before, &counts(client).await);

    let tasks = f64::from(bench.rounds.counted);
    let per_task = |counts: &Counts, resource: &str| {
        counts.iter().filter(|((found, _), _)| found == resource).map(|(_, count)| *count).sum::<u64>() as f64
            / tasks
    };
    // The bench creates the task, and the kubelet takes the pod's object away when its containers have ended.
    let by_others = 2.0;
    let ours = RESOURCES.iter().map(|resource| per_task(&short, resource)).sum::<f64>() + events - by_others;
    let progress = status_writes(&long) - status_writes(&short) / tasks;
    let seconds = (long_seconds as f64 - short_seconds as f64 / tasks).max(1.0);
    let parts: Vec<String> = short
        .iter()
        .map(|((resource, verb), count)| format!("{} {verb} {resource}", *count as f64 / tasks))
        .collect();
    vec![
        Row::number("API writes of a short task, all of controller and agent", ours, 20.0, "").note(format!(
            "Counted by the API server (`apiserver_request_total`) over {} tasks: {}; and {events} events. The one APPLY of \
             agenttasks is the bench's own and one DELETE of pods the kubelet's; both are left out. In {} s without a task \
             others wrote {others} times.",
            bench.rounds.counted,
            parts.join(", "),
            QUIET.as_secs(),
        )),
        Row::number("API writes of an AgentTask's status", per_task(&short, "agenttasks/status"), 5.0, ""),
        Row::number("API writes of progress, each 15 s", progress / (seconds / PROGRESS), 1.0, "").note(format!(
            "AgentAttempt status of a task with a step a second: {progress} more in {seconds:.0} s than a short one."
        )),
    ]
}

fn status_writes(counts: &Counts) -> f64 {
    counts
        .iter()
        .filter(|((resource, _), _)| resource == "agentattempts/status")
        .map(|(_, count)| *count)
        .sum::<u64>() as f64
}

fn active(task: &AgentTask) -> i64 {
    task.status.as_ref().and_then(|status| status.active_seconds).unwrap_or_default()
}

/// Our events of one task. The scheduler's and the kubelet's count under the same resource, so these are listed.
async fn events(bench: &Bench) -> f64 {
    let events =
        bench.world.api::<Event>().list(&ListParams::default()).await.expect("events can be listed").items;
    let ours = events.iter().filter(|event| {
        let regarding =
            event.regarding.as_ref().and_then(|object| object.name.as_deref()).unwrap_or_default();
        let component = event.reporting_controller.as_deref().unwrap_or_default();
        component.contains("podwright") && regarding.starts_with("counted-")
    });
    ours.count() as f64 / f64::from(bench.rounds.counted)
}

/// All writes until now, by resource and verb.
async fn counts(client: &Client) -> Counts {
    let request = http::Request::get("/metrics").body(Vec::new()).expect("a request");
    let metrics = client.request_text(request).await.expect("the API server's metrics");
    let mut counts = Counts::new();
    for line in metrics.lines() {
        let Some(rest) = line.strip_prefix("apiserver_request_total{") else { continue };
        let Some((labels, count)) = rest.split_once("} ") else { continue };
        let label = |name: &str| {
            labels
                .split(',')
                .find_map(|label| label.strip_prefix(name)?.strip_prefix("=\"")?.strip_suffix('"'))
        };
        let (resource, sub, verb) =
            (label("resource").unwrap_or_default(), label("subresource").unwrap_or_default(), label("verb"));
        let resource = if sub.is_empty() { resource.to_owned() } else { format!("{resource}/{sub}") };
        let verb = verb.unwrap_or_default();
        if RESOURCES.contains(&resource.as_str()) && WRITES.contains(&verb) {
            let count: f64 = count.parse().expect("a count");
            *counts.entry((resource, verb.to_owned())).or_default() += count as u64;
        }
    }
    counts
}

fn since(before: &Counts, after: &Counts) -> Counts {
    let difference = |(key, count): (&(String, String), &u64)| {
        let new = count - before.get(key).copied().unwrap_or_default();
        (new > 0).then(|| (key.clone(), new))
    };
    after.iter().filter_map(difference).collect()
}
