//! Three tasks against a model's endpoint, recorded: by `make live PROVIDER=…` against a real one, otherwise against
//! the scripted model in its place. The traces become scripts, and these are played to the same end.

mod endpoint;
mod recorder;

use std::fs;
use std::path::PathBuf;

use podwright::api::AgentAttemptStatus;
use podwright::api::reasons::Reason;
use podwright::scripted::trace::{Exchange, Sanitiser, script};
use serde_json::{Value, json};

use crate::stage::Stage;
use endpoint::Endpoint;
use recorder::Recorder;

/// The tasks: a change after a look, a change with a plan, an answer without a change.
const TASKS: [(&str, &str); 3] = [
    (
        "mend",
        "greet.sh prints a greeting with a wrong letter: hullo for hello. Mend it, run it, and say in one sentence what you did.",
    ),
    (
        "add",
        "Add a file notes/usage.txt of one line that says how greet.sh is run. Make a plan of two steps first, and keep it up \
         to date. Show the file when you are done.",
    ),
    ("read", "What does greet.sh print? Look, change nothing, and answer in one sentence."),
];

/// What each of the tasks may cost at most.
fn limits() -> Value {
    json!({"steps": 30, "outputTokens": 20_000, "uncachedInputTokens": 400_000, "activeSeconds": 600})
}

#[tokio::test(flavor = "multi_thread")]
async fn three_tasks_are_recorded_and_played_again() {
    let into = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("live");
    fs::create_dir_all(&into).unwrap();
    for (name, prompt) in TASKS {
        // The scripted model knows a thread by its id, and all of these have one.
        let endpoint = Endpoint::chosen().await;
        let recorder = Recorder::start(&endpoint.base_url).await;
        let live = run(&endpoint, recorder.url.clone(), prompt).await;
        let exchanges = sanitised(&endpoint, &recorder.take().await);
        let played = script(name, endpoint.wire, &exchanges).unwrap();
        let (trace, file) =
            (into.join(format!("{name}.trace.json")), into.join(format!("{name}.script.yaml")));
        fs::write(&trace, serde_json::to_string_pretty(&exchanges).unwrap()).unwrap();
        fs::write(&file, &played).unwrap();
        let outcome = live.outcome.clone().unwrap();
        println!("{name}: {:?} after {} requests, {}", outcome.reason, exchanges.len(), file.display());
        assert_eq!(outcome.reason, Reason::Completed, "{name}: {}", outcome.message);
        if let Some(key) = &endpoint.key {
            let kept = fs::read_to_string(&trace).unwrap() + &played;
            assert!(!kept.contains(key.trim()), "the key is in a trace of {name}");
        }
        let scripted = endpoint.scripted(&played).await;
        let again = run(&scripted, scripted.base_url.clone(), prompt).await;
        let outcome = again.outcome.clone().unwrap();
        assert_eq!(outcome.reason, Reason::Completed, "{name}: {}\n{played}", outcome.message);
        assert_eq!(files(&again), files(&live), "{name}: {played}");
    }
}

/// Runs a task at an address.
async fn run(endpoint: &Endpoint, base_url: String, prompt: &str) -> AgentAttemptStatus {
    let mut stage = Stage::with_model(base_url.clone());
    stage.job["prompt"] = json!(prompt);
    stage.job["limits"] = limits();
    stage.job["model"] = endpoint.model.clone();
    stage.job["model"]["baseURL"] = json!(base_url);
    if let Some(key) = &endpoint.key {
        stage.job["model"]["credentialsSecretName"] = json!("model");
        let secret = [("apiKey".to_owned(), key.clone().into_bytes())].into();
        stage.cluster.secrets.lock().unwrap().insert("model".into(), secret);
    }
    stage.run().await
}

fn sanitised(endpoint: &Endpoint, exchanges: &[Exchange]) -> Vec<Exchange> {
    let mut sanitiser = Sanitiser::new(endpoint.key.clone()).unwrap();
    exchanges.iter().map(|exchange| sanitiser.exchange(exchange)).collect()
}

fn files(status: &AgentAttemptStatus) -> Option<i64> {
    status.patch.as_ref().map(|patch| patch.files)
}
