//! The figures of docs/performance.md: each against its peer in the same run, on the local cluster, where the chart is
//! installed and nothing else runs. `hack/bench` sees to all of that.
//!
//! No figure makes it fail: it prints, and writes. It stops only when something does not work.
#![allow(clippy::expect_used, clippy::panic, reason = "what cannot be measured ends the run, as in a test")]
#![allow(clippy::wildcard_enum_match_arm, reason = "JSON is not an enum of ours")]

#[path = "../../tests/support/cluster.rs"]
mod cluster;
#[path = "../../tests/support/git.rs"]
mod git;
#[path = "../../tests/support/world.rs"]
mod world;

mod inward;
mod machine;
mod memory;
mod peer;
mod recorder;
mod report;
mod samples;
mod share;
mod start;
mod steps;
mod stream;
mod workspace;
mod writes;

use std::path::PathBuf;

use clap::Parser;
use kube::api::ListParams;
use serde_json::json;

use machine::Machine;
use recorder::Recorder;
use report::{Report, Row};
use world::World;

/// The tasks of all rows. A thread takes the scenario that its prompt names.
const SCRIPT: &str = r#"
scenarios:
  - name: first command
    match: {prompt: MEASURE-START}
    replies:
      - output: [{call: {tool: exec_command, arguments: {cmd: "date +%s.%N"}}}]
      - output: [{text: Done.}]
  - name: many steps
    match: {prompt: MEASURE-STEPS}
    replies:
      - repeat: @STEPS@
        output: [{call: {tool: exec_command, arguments: {cmd: "true"}}}]
      - output: [{text: Done.}]
  - name: slow progress
    match: {prompt: MEASURE-PROGRESS}
    replies:
      - repeat: @SECONDS@
        output: [{call: {tool: exec_command, arguments: {cmd: "sleep 1"}}}]
      - output: [{text: Done.}]
  - name: long thread
    match: {prompt: MEASURE-THREAD}
    replies:
      - repeat: @TURNS@
        output: [{call: {tool: exec_command, arguments: {cmd: "head -c 3072 /dev/urandom | base64 -w 0"}}}]
      - output: [{text: Waiting.}]
  - name: long wait
    match: {prompt: MEASURE-SHARE}
    replies:
      - repeat: @WAITS@
        output: [{call: {tool: exec_command, arguments: {cmd: "sleep 5"}}}]
      - output: [{text: Waiting.}]
  - name: idle
    match: {prompt: MEASURE-IDLE}
    replies:
      - output: [{call: {tool: exec_command, arguments: {cmd: "true"}}}]
      - output: [{text: Waiting.}]
"#;

/// How often each thing is done. Medians of fewer move with every disturbance; more takes longer than the figures
/// gain by it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rounds {
    /// Tasks and bare pods.
    pub(crate) starts: u32,
    /// Commands and `pods/exec` calls.
    pub(crate) commands: u32,
    /// Steps of the one long task.
    pub(crate) steps: u32,
    /// Tasks whose writes are counted.
    pub(crate) counted: u32,
    /// Seconds of the slow task.
    pub(crate) seconds: u32,
    /// Calls of the long thread.
    pub(crate) turns: u32,
    /// Commands of five seconds each, over which the agent's share of a processor is taken.
    pub(crate) waits: u32,
    /// Responses that are folded, and patches.
    pub(crate) folds: u32,
    /// Workspaces and clones.
    pub(crate) workspaces: u32,
}

const FULL: Rounds = Rounds {
    starts: 20,
    commands: 100,
    steps: 100,
    counted: 5,
    seconds: 60,
    turns: 200,
    waits: 24,
    folds: 200,
    workspaces: 10,
};
const SHORT: Rounds = Rounds {
    starts: 2,
    commands: 10,
    steps: 10,
    counted: 2,
    seconds: 20,
    turns: 20,
    waits: 2,
    folds: 20,
    workspaces: 2,
};

/// Measures what docs/performance.md shows.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only tries whether everything can be measured: few rounds.
    #[arg(long)]
    short: bool,
    /// Only these: start, stream, steps, inward, writes, share, memory, workspace.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// The page whose measured part is replaced.
    #[arg(long)]
    write: Option<PathBuf>,
    /// The profile that the installed image was built with, for the page.
    #[arg(long, default_value = "unknown")]
    profile: String,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What every row of the cluster needs.
pub(crate) struct Bench {
    pub(crate) world: World,
    /// What the model was asked, and when.
    pub(crate) model: Recorder,
    pub(crate) rounds: Rounds,
}

impl Bench {
    async fn new(rounds: Rounds) -> Self {
        let script = SCRIPT
            .replace("@STEPS@", &rounds.steps.to_string())
            .replace("@SECONDS@", &rounds.seconds.to_string())
            .replace("@TURNS@", &rounds.turns.to_string())
            .replace("@WAITS@", &rounds.waits.to_string());
        let world = World::new("bench", &script).await;
        world.git.repository("small", &[("README.md", "# Small\n"), ("src/main.py", "print(1)\n")]);
        let model = Recorder::start(&world.model_url).await;
        world.apply_provider("default", &json!({"baseURL": model.url})).await;
        Self { world, model, rounds }
    }

    /// Waits until the pods of earlier tasks are gone, which would take processor time from what comes next.
    pub(crate) async fn quiet(&self) {
        let pods = self.world.api::<k8s_openapi::api::core::v1::Pod>();
        for _ in 0..1200 {
            if pods.list(&ListParams::default()).await.expect("pods can be listed").items.is_empty() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        panic!("pods of {} do not go away", self.world.namespace.name);
    }
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    let rounds = if arguments.short { SHORT } else { FULL };
    let wanted = |name: &str| arguments.only.is_empty() || arguments.only.iter().any(|only| only == name);
    let bench = Bench::new(rounds).await;
    let mut report = Report::new(Machine::describe(&bench.world.client, &arguments.profile).await);
    let mut add = |rows: Vec<Row>| rows.into_iter().for_each(|row| report.add(row));
    // The controller has done nothing yet that it would still hold memory for.
    let idle = memory::controller(&bench.world.client).await;
    let peers = start::peers(&bench).await;
    if wanted("start") {
        add(start::measure(&bench, &peers).await);
    }
    if wanted("stream") {
        add(stream::measure(&bench, &peers).await);
    }
    if wanted("steps") {
        add(steps::measure(&bench).await);
    }
    if wanted("inward") {
        add(inward::measure(rounds));
    }
    if wanted("writes") {
        add(writes::measure(&bench).await);
    }
    if wanted("share") {
        add(share::measure(&bench).await);
    }
    if wanted("memory") {
        add(memory::measure(&bench, idle).await);
    }
    if wanted("workspace") {
        add(workspace::measure(rounds).await);
    }
    bench.world.end().await;
    print!("{}", report.markdown());
    if let Some(page) = &arguments.write {
        report.write(page);
    }
}
