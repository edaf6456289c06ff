//! What the figures were measured on.

use std::fmt::Write as _;
use std::fs;

use k8s_openapi::api::core::v1::Node;
use kube::Client;
use kube::api::{Api, ListParams};

/// A machine's description.
pub(crate) struct Machine {
    lines: Vec<(&'static str, String)>,
    load_before: String,
}

impl Machine {
    /// Describes this machine, which is the cluster's one node.
    pub(crate) async fn describe(client: &Client, profile: &str) -> Self {
        let nodes: Api<Node> = Api::all(client.clone());
        let nodes = nodes.list(&ListParams::default()).await.expect("nodes can be listed").items;
        let [node] = nodes.as_slice() else { panic!("this measures a cluster of one node, its own machine") };
        let info =
            node.status.as_ref().and_then(|status| status.node_info.as_ref()).expect("a node's description");
        let cores = std::thread::available_parallelism().expect("a number of processors");
        let lines = vec![
            ("Processor", format!("{cores} cores, {}", after("/proc/cpuinfo", "model name"))),
            ("Memory", memory()),
            ("System", format!("{}, Linux {}", info.os_image, version(&info.kernel_version))),
            ("Kubernetes", info.kubelet_version.clone()),
            ("Container runtime", info.container_runtime_version.clone()),
            ("Build", profile.to_owned()),
            ("Measured", jiff::Timestamp::now().strftime("%Y-%m-%d").to_string()),
        ];
        Self { lines, load_before: load() }
    }

    /// As a table.
    pub(crate) fn markdown(&self) -> String {
        let mut text = String::from("| The machine | |\n|---|---|\n");
        for (name, value) in &self.lines {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "| {name} | {value} |");
        }
        let _ = writeln!(text, "| Load (1, 5, 15 minutes) | before {}; after {} |", self.load_before, load());
        text
    }
}

/// Without what a builder of kernels adds for himself.
fn version(kernel: &str) -> &str {
    kernel.split_once('-').map_or(kernel, |(version, _)| version)
}

fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").expect("the load");
    text.split_whitespace().take(3).collect::<Vec<_>>().join(", ")
}

fn memory() -> String {
    let kib: f64 = after("/proc/meminfo", "MemTotal").trim_end_matches(" kB").parse().expect("a number");
    format!("{:.0} GiB", kib / 1024.0 / 1024.0)
}

/// What stands after `key:` in a file of lines.
fn after(file: &str, key: &str) -> String {
    let text = fs::read_to_string(file).expect("a file of /proc");
    let line = text.lines().find_map(|line| line.split_once(':').filter(|(name, _)| name.trim() == key));
    line.map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
}
