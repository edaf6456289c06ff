//! `podwright`: one binary for the controller, the agent and the tools around them.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, Patch, PatchParams};
use podwright::api::crd;
use podwright::cli::{Cli, Command, ControllerArgs};
use podwright::config::ControllerConfig;
use podwright::scripted::ScriptedModelArgs;
use podwright::telemetry::tracing::LogFormat;
use podwright::{controller, telemetry};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    // First, while there is one thread: a git child confines itself and becomes git.
    if let Some(code) = podwright::workspace::confine::dispatch(std::env::args_os()) {
        return code;
    }
    let outcome = match Cli::parse().command {
        Command::Crd { apply: true, .. } => block_on(apply_crds()),
        Command::Crd { out, apply: false } => print_crds(out.as_deref()),
        Command::Controller(typed) => block_on(run_controller(*typed)),
        Command::ScriptedModel(typed) => block_on(run_scripted_model(typed)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("podwright: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn block_on(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Runtime::new().context("cannot start the runtime")?.block_on(work)
}

async fn run_controller(typed: ControllerArgs) -> anyhow::Result<()> {
    let config = ControllerConfig::new(typed)?;
    telemetry::tracing::init(config.log_format, &config.log_filter)?;
    let mut cluster = kube::Config::infer().await.context("cannot find out how to reach the cluster")?;
    // Repeated POSTs would be told apart by nobody; what can be repeated, the controller repeats itself.
    cluster.default_retry = false;
    let client = kube::Client::try_from(cluster).context("cannot build a client for the cluster")?;
    let stop = CancellationToken::new();
    tokio::spawn(cancel_on_signal(stop.clone()));
    controller::run(config, client, stop).await
}

async fn run_scripted_model(typed: ScriptedModelArgs) -> anyhow::Result<()> {
    telemetry::tracing::init(LogFormat::Text, "info")?;
    let stop = CancellationToken::new();
    tokio::spawn(cancel_on_signal(stop.clone()));
    Ok(typed.run(stop.cancelled_owned()).await?)
}

/// Cancels when the process is asked to end, as the kubelet and people do.
async fn cancel_on_signal(stop: CancellationToken) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    stop.cancel();
    Ok(())
}

async fn apply_crds() -> anyhow::Result<()> {
    let client = kube::Client::try_default().await.context("cannot find out how to reach the cluster")?;
    let api: Api<CustomResourceDefinition> = Api::all(client);
    // Forced: the definitions of one release replace those of another as a whole.
    let params = PatchParams::apply("podwright-crds").force();
    for definition in crd::all() {
        let name = crd::name(&definition);
        api.patch(name, &params, &Patch::Apply(&definition))
            .await
            .with_context(|| format!("cannot apply {name}"))?;
        writeln!(std::io::stdout(), "applied {name}")?;
    }
    Ok(())
}

fn print_crds(out: Option<&Path>) -> anyhow::Result<()> {
    for definition in crd::all() {
        let text = serde_saphyr::to_string(&definition)
            .context("cannot write a CustomResourceDefinition as YAML")?;
        match out {
            Some(directory) => {
                let file = directory.join(format!("{}.yaml", crd::name(&definition)));
                fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
            }
            None => write!(std::io::stdout(), "---\n{text}")?,
        }
    }
    Ok(())
}
