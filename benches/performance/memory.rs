//! Resident memory of each part while it has nothing to do.

use std::fs;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, ListParams};
use serde_json::{Value, json};

use crate::Bench;
use crate::report::Row;
use crate::world::succeeded;

/// What may be freed after work is freed by then.
const SETTLE: Duration = Duration::from_secs(5);

/// A process of a container.
pub(crate) struct Process {
    /// Its number on this machine.
    pub(crate) id: u32,
    name: String,
    resident_kib: u64,
    /// Of it what is no page of a file.
    anonymous_kib: u64,
    /// With what it shares with others counted in parts: several processes here run one program.
    proportional_kib: u64,
}

/// The controller's resident memory, in MiB.
pub(crate) async fn controller(client: &Client) -> f64 {
    let pods: Api<Pod> = Api::namespaced(client.clone(), "podwright-system");
    let wanted = ListParams::default().labels("app.kubernetes.io/component=controller");
    let pods = pods.list(&wanted).await.expect("pods can be listed").items;
    let running: Vec<&Pod> =
        pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none() && !ids(pod).is_empty()).collect();
    let [pod] = running.as_slice() else {
        panic!("one controller is measured, and there are {}", running.len())
    };
    mebibytes(&ids(pod).iter().flat_map(|(_, id)| processes(id)).collect::<Vec<_>>())
}

pub(crate) async fn measure(bench: &Bench, controller_before: f64) -> Vec<Row> {
    tokio::time::sleep(SETTLE).await;
    let controller_after = controller(&bench.world.client).await;
    let spec = json!({"prompt": "MEASURE-IDLE", "idle": {"keepSeconds": 600}});
    at_rest(bench, "idle", &spec).await;
    let agent = processes(&container(bench, "idle", "agent").await);
    let sandbox = processes(&container(bench, "idle", "sandbox").await);
    end_idle(bench, "idle").await;
    vec![
        Row::number("Resident memory of the controller, idle", controller_before.max(controller_after), 25.0, "MiB")
            .note(format!(
                "VmRSS: {controller_before:.1} MiB before the first task of the run, {controller_after:.1} MiB after the last."
            )),
        Row::number("Resident memory of an agent, idle", mebibytes(&agent), 20.0, "MiB")
            .note(parts(&agent)),
        Row::number("Resident memory of a supervisor, idle", mebibytes(&sandbox), 4.0, "MiB")
            .note(parts(&sandbox)),
        thread(bench).await,
    ]
}

/// An agent whose thread is long.
async fn thread(bench: &Bench) -> Row {
    let turns = bench.rounds.turns;
    let spec =
        json!({"prompt": "MEASURE-THREAD", "idle": {"keepSeconds": 600}, "limits": {"steps": turns + 1}});
    at_rest(bench, "thread", &spec).await;
    let agent = processes(&container(bench, "thread", "agent").await);
    let history =
        bench.model.take().last().map_or(0, |exchange| exchange.body.len()) as f64 / 1024.0 / 1024.0;
    end_idle(bench, "thread").await;
    let what = format!("Resident memory of an agent with a thread of {turns} calls of 4 KiB");
    Row::number(&what, mebibytes(&agent), 20.0 + 2.0 * history, "MiB")
        .note(format!("20 MiB and twice the history, which is the last request's body: {history:.2} MiB."))
        .note(parts(&agent))
}

/// Runs a new task until its agent waits for a message.
async fn at_rest(bench: &Bench, task: &str, spec: &Value) {
    bench.world.create_task(task, "small", spec).await;
    bench.world.task_when(task, "idle", |task| succeeded(task).1 == "Idle").await;
    tokio::time::sleep(SETTLE).await;
}

/// Ends a task that waits for a message.
pub(crate) async fn end_idle(bench: &Bench, task: &str) {
    bench.world.say(&format!("enough-of-{task}"), &json!({"taskName": task, "kind": "Cancel"})).await;
    bench.world.ended(task).await;
    bench.quiet().await;
    bench.model.take();
}

/// The id of one container of a task's pod. The agent may say that it runs before the kubelet says in the pod's status
/// what it has started, which it does within seconds: a minute is waited for that.
pub(crate) async fn container(bench: &Bench, task: &str, name: &str) -> String {
    for _ in 0..600 {
        let pod = bench.world.pod(task).await;
        if let Some((_, id)) = ids(&pod).into_iter().find(|(container, _)| container == name) {
            return id;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the pod of {task} has no container {name}")
}

fn ids(pod: &Pod) -> Vec<(String, String)> {
    let statuses =
        pod.status.as_ref().and_then(|status| status.container_statuses.clone()).unwrap_or_default();
    let id = |id: &str| id.rsplit("//").next().unwrap_or_default().to_owned();
    statuses.into_iter().filter_map(|status| Some((status.name, id(&status.container_id?)))).collect()
}

/// The processes of a container on this machine, which is the node.
pub(crate) fn processes(container: &str) -> Vec<Process> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let path = entry.path();
        let group = fs::read_to_string(path.join("cgroup")).unwrap_or_default();
        let Ok(status) = fs::read_to_string(path.join("status")) else { continue };
        if !group.contains(container) {
            continue;
        }
        let field = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .unwrap_or_default()
                .trim()
        };
        let rollup = fs::read_to_string(path.join("smaps_rollup")).unwrap_or_default();
        let proportional = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap_or_default();
        let kib = |value: &str| value.trim_end_matches(" kB").trim().parse().unwrap_or_default();
        let id = entry.file_name().to_string_lossy().parse().unwrap_or_default();
        found.push(Process {
            id,
            name: field("Name").to_owned(),
            resident_kib: kib(field("VmRSS")),
            anonymous_kib: kib(field("RssAnon")),
            proportional_kib: kib(proportional),
        });
    }
    assert!(!found.is_empty(), "the container {container} has no process on this machine");
    found
}

fn mebibytes(processes: &[Process]) -> f64 {
    processes.iter().map(|process| process.resident_kib).sum::<u64>() as f64 / 1024.0
}

/// Of what the memory of a container consists.
fn parts(processes: &[Process]) -> String {
    let part = |process: &Process| {
        let Process { name, resident_kib, anonymous_kib, .. } = process;
        format!(
            "{name} {:.1} MiB ({:.1} RssAnon)",
            *resident_kib as f64 / 1024.0,
            *anonymous_kib as f64 / 1024.0
        )
    };
    let parts = processes.iter().map(part).collect::<Vec<_>>().join(", ");
    let proportional = processes.iter().map(|process| process.proportional_kib).sum::<u64>() as f64 / 1024.0;
    format!(
        "VmRSS of all processes of the container: {parts}; {proportional:.1} MiB when what they share is counted once (Pss)."
    )
}
