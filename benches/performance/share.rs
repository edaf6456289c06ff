//! The agent's share of a processor while its commands run.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::Bench;
use crate::memory::{container, end_idle, processes};
use crate::report::Row;
use crate::world::succeeded;

/// The run that the budget is about.
const WHOLE: f64 = 600.0;

/// Ticks of a second, as Linux shows times to programs on every architecture that it runs on today.
const TICKS: f64 = 100.0;

const TASK: &str = "share";

pub(crate) async fn measure(bench: &Bench) -> Vec<Row> {
    let spec = json!({"prompt": "MEASURE-SHARE", "idle": {"keepSeconds": 600}});
    bench.world.create_task(TASK, "small", &spec).await;
    bench.world.task_when(TASK, "running", |task| succeeded(task).1 == "Running").await;
    let agent = container(bench, TASK, "agent").await;
    // What the beginning costs is over when the model was asked for the first time.
    for _ in 0..600 {
        if bench.model.count() > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (begun, beginning) = (Instant::now(), seconds(&agent));
    bench.world.task_when(TASK, "idle", |task| succeeded(task).1 == "Idle").await;
    let (elapsed, used) = (begun.elapsed().as_secs_f64(), seconds(&agent) - beginning);
    end_idle(bench, TASK).await;
    let share = (beginning + used / elapsed * WHOLE) / WHOLE * 100.0;
    vec![Row::number("The agent's share of a processor over ten minutes", share, 2.0, "%").note(format!(
        "Scaled from a run of {elapsed:.0} s with a step of 5 s each: all processes of the agent's container used {used:.2} s of \
         a processor in it, which is taken for as much in each further minute, and {beginning:.2} s before the first request \
         (the fetch with its git children among them), which come once."
    ))]
}

/// Processor time of a container so far, with that of children which have ended.
fn seconds(container: &str) -> f64 {
    let ticks: u64 = processes(container).iter().map(|process| ticks(process.id)).sum();
    ticks as f64 / TICKS
}

/// utime, stime, cutime and cstime of proc_pid_stat(5): the 14th to 17th fields, counted after the name, which may hold
/// anything.
fn ticks(process: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(4).filter_map(|field| field.parse::<u64>().ok()).sum()
}
