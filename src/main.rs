//! `podwright`: one binary for the controller, the agent and the tools around them.

#![forbid(unsafe_code)]

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, Patch, PatchParams};
use podwright::agent::driver::{Directories, Stopped, boot};
use podwright::agent::parent::Verdict;
use podwright::api::crd;
use podwright::cli::{AgentArgs, Cli, Command, ControllerArgs};
use podwright::config::ControllerConfig;
use podwright::doctor::DoctorArgs;
use podwright::doctor::command::{ModelArgs, Subject};
use podwright::scripted::ScriptedModelArgs;
use podwright::telemetry::tracing::LogFormat;
use podwright::{agent, apiserver, controller, names, telemetry};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    // First, while there is one thread: a git child confines itself and becomes git.
    if let Some(code) = podwright::workspace::confine::dispatch(std::env::args_os()) {
        return code;
    }
    let outcome = match Cli::parse().command {
        Command::Agent(typed) => run_agent(typed, boot::Work::Agent),
        Command::Verify(typed) => run_agent(typed, boot::Work::Verification),
        Command::Install => install(),
        Command::Crd { apply: true, .. } => block_on(apply_crds()).map(|()| ExitCode::SUCCESS),
        Command::Crd { out, apply: false } => print_crds(out.as_deref()).map(|()| ExitCode::SUCCESS),
        Command::Controller(typed) => block_on(run_controller(*typed)).map(|()| ExitCode::SUCCESS),
        Command::ScriptedModel(typed) => block_on(run_scripted_model(typed)).map(|()| ExitCode::SUCCESS),
        Command::Doctor(DoctorArgs { what: Subject::Model(typed) }) => block_on(diagnose(typed)),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("podwright: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Runtime::new().context("cannot start the runtime")?.block_on(work)
}

fn run_agent(typed: AgentArgs, work: boot::Work) -> anyhow::Result<ExitCode> {
    let AgentArgs { state, repo, workspace, log_filter } = typed;
    telemetry::tracing::init(LogFormat::Json, &log_filter)?;
    let directories = Directories { state, repo, workspace };
    // It mostly waits: a thread for each of a large node's processors would only take memory.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let verdict = runtime.context("cannot start the runtime")?.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let stopped = tokio::select! {
            stopped = boot::run(directories, work) => stopped?,
            // The pod is being deleted, or the container restarted: everything is in the journal.
            _ = terminate.recv() => return Ok(Verdict::Again),
        };
        anyhow::Ok(match stopped {
            Stopped::Published => Verdict::Published,
            Stopped::Gone(why) => {
                tracing::warn!(why, "the agent stops");
                Verdict::Gone
            }
        })
    })?;
    Ok(ExitCode::from(verdict.code()))
}

fn install() -> anyhow::Result<ExitCode> {
    let directory = Path::new(names::SUPERVISOR_PATH).parent().unwrap_or(Path::new("/"));
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    agent::install::install(Path::new(agent::install::SOURCE), directory, uid, gid)?;
    Ok(ExitCode::SUCCESS)
}

async fn run_controller(typed: ControllerArgs) -> anyhow::Result<()> {
    let config = ControllerConfig::new(typed)?;
    telemetry::tracing::init(config.log_format, &config.log_filter)?;
    let cluster = kube::Config::infer().await.context("cannot find out how to reach the cluster")?;
    let client = apiserver::connect(&cluster).context("cannot build a client for the cluster")?;
    let stop = CancellationToken::new();
    tokio::spawn(cancel_on_signal(stop.clone()));
    Ok(controller::run(config, client, stop).await?)
}

async fn run_scripted_model(typed: ScriptedModelArgs) -> anyhow::Result<()> {
    telemetry::tracing::init(LogFormat::Text, "info")?;
    let stop = CancellationToken::new();
    tokio::spawn(cancel_on_signal(stop.clone()));
    Ok(typed.run(stop.cancelled_owned()).await?)
}

async fn diagnose(typed: ModelArgs) -> anyhow::Result<ExitCode> {
    let diagnosis = typed.run().await?;
    write!(std::io::stdout(), "{diagnosis}")?;
    Ok(if diagnosis.is_usable() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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
