//! A task of many steps: the agent's own time for each, and whether each request begins with the one before.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::LogParams;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::Bench;
use crate::recorder::Exchange;
use crate::report::Row;
use crate::samples::{Samples, millis};
use crate::world::succeeded;

const TASK: &str = "steps";

pub(crate) async fn measure(bench: &Bench) -> Vec<Row> {
    bench.model.take();
    // The pod is kept for its log.
    let spec = json!({"prompt": "MEASURE-STEPS", "retention": {"podSeconds": 20}});
    bench.world.create_task(TASK, "small", &spec).await;
    let ended = bench.world.ended(TASK).await;
    assert_eq!(succeeded(&ended).1, "Completed", "{}", succeeded(&ended).2);
    let pod = bench.world.pod(TASK).await.name_any();
    let parameters = LogParams { container: Some("agent".into()), timestamps: true, ..LogParams::default() };
    let log = bench.world.api::<k8s_openapi::api::core::v1::Pod>().logs(&pod, &parameters).await;
    let commands = commands(&log.expect("the pod's log"));
    let exchanges = bench.model.take();
    bench.quiet().await;

    let (mut own, mut whole, mut command) = (Samples::default(), Samples::default(), Samples::default());
    assert_eq!(commands.len() + 1, exchanges.len(), "each request but the last leads to one command");
    for (pair, ran) in exchanges.windows(2).zip(&commands) {
        let step = seconds(pair[0].answered, pair[1].asked);
        whole.add_millis(step * 1000.0);
        command.add(*ran);
        own.add_millis((step - ran.as_secs_f64()) * 1000.0);
    }
    let requests = exchanges.len();
    let bytes: usize = exchanges.iter().map(|exchange| exchange.body.len()).sum();
    vec![
        Row::time("Agent's own time per step", &own, 10.0).note(format!(
            "A task of {} steps, each a command `true`, with an answer of the scripted model that takes no time: from the last \
             byte of an answer to the whole next request, as the model's side sees it ({} p50), less the time between the \
             command's two events in the agent's log ({} p50), as the container runtime stamps them. Both syncs of the journal \
             are in it.",
            commands.len(),
            millis(whole.p50()),
            millis(command.p50()),
        )),
        Row::whole("Bytes of request n+1 that begin with request n", prefix(&exchanges)).note(format!(
            "{requests} recorded requests, {} KiB in all: the body up to the end of its input, against the next body.",
            bytes / 1024
        )),
    ]
}

/// How long each command took, in order, by the two lines that the log has of it.
fn commands(log: &str) -> Vec<Duration> {
    let mut begun = HashMap::new();
    let mut times = Vec::new();
    for (stamp, line) in log.lines().filter_map(|line| line.split_once(' ')) {
        let (Ok(at), Ok(event)) = (stamp.parse::<Timestamp>(), serde_json::from_str::<Value>(line)) else {
            continue;
        };
        if event["item"]["type"] != "command_execution" {
            continue;
        }
        let id = event["item"]["id"].as_str().expect("an item has an id").to_owned();
        if event["type"] == "item.started" {
            begun.insert(id, at);
        } else if let Some(begun) = begun.remove(&id) {
            times.push(Duration::from_secs_f64(seconds(begun, at).max(0.0)));
        }
    }
    times
}

/// The part of all requests' beginnings that stands at the beginning of the next.
fn prefix(exchanges: &[Exchange]) -> f64 {
    let (mut wanted, mut found) = (0, 0);
    for pair in exchanges.windows(2) {
        let head = &pair[0].body[..input_end(&pair[0].body)];
        wanted += head.len();
        found += head.iter().zip(pair[1].body.iter()).take_while(|(one, other)| one == other).count();
    }
    found as f64 / wanted as f64
}

/// Where the input of a request ends, before its bracket: there the next request goes on.
fn input_end(body: &[u8]) -> usize {
    #[derive(Deserialize)]
    struct Request<'a> {
        #[serde(borrow)]
        input: &'a RawValue,
    }
    let request: Request<'_> = serde_json::from_slice(body).expect("a request");
    let input = request.input.get();
    let begin = input.as_ptr() as usize - body.as_ptr() as usize;
    begin + input.len() - 1
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64()
}
