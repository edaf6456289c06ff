//! The same scripted replies to both agents: what they send to the model, how they end, and which files they leave.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use futures::{StreamExt as _, stream};
use podwright::api::attempt::{EMPTY_REPLY, Phase};
use podwright::api::message::MessageKind;
use podwright::api::reasons::Reason;
use podwright::scripted::Script;
use serde_json::{Value, json};

use super::compare::{Mismatch, compare};
use super::differences::Differences;
use super::normal::normal;
use super::recorder::Recorder;
use super::reference::{Ended, Reference};
use crate::stage::{Agent, Stage, repository};

/// The model of the catalogue that both believe to speak to.
pub(crate) const MODEL: &str = "gpt-5.5";

/// How hard it is told to think.
pub(crate) const EFFORT: &str = "medium";

/// How often a request is repeated, and how often a stream: fewer than by default, since the waits double.
pub(crate) const RETRIES: i32 = 2;

/// The model's context window, in tokens: smaller than the catalogue says, so that both go by this one.
pub(crate) const WINDOW: u32 = 100_000;

/// Fewer scripts would leave a part of the agent out.
const FEWEST_SCRIPTS: usize = 30;

const PROMPT: &str = "Do what the script says.";

/// What is said after the end of a turn, by script: a turn each.
const SAID_THEN: &[(&str, &[&str])] = &[
    ("compaction-between-turns", &["And now the second part."]),
    ("two-turns", &["And now the second part."]),
];

/// Scripts whose first turn is interrupted by a person once there is a file `begun`.
const INTERRUPTED: &[&str] = &["interrupt", "interrupt-many", "interrupt-session"];

/// What is said after an interrupt.
const GO_ON: &str = "Go on.";

/// A script to play.
#[derive(Clone)]
struct Case {
    name: String,
    script: Script,
    /// What begins each turn.
    prompts: Vec<&'static str>,
    interrupted: bool,
}

/// What an agent made of it.
struct Played {
    requests: Vec<Value>,
    /// `None` when it is of no interest.
    ended: Option<Ended>,
    /// Content and whether it may be executed, by path.
    files: BTreeMap<String, (Vec<u8>, bool)>,
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_those_of_the_reference_agent() {
    let list = Differences::read();
    let chosen = std::env::var("PODWRIGHT_TEST_SCRIPTS").ok();
    let is_chosen =
        |case: &Case| chosen.as_ref().is_none_or(|names| names.split(',').any(|name| name == case.name));
    let all = Case::all();
    assert!(all.len() >= FEWEST_SCRIPTS);
    // Four at a time: they wait more than they work.
    let played = stream::iter(all.into_iter().filter(is_chosen))
        .map(|case| tokio::spawn(async move { (case.name.clone(), case.mismatches().await) }))
        .buffered(4);
    let mut unlisted = Vec::new();
    let mut occurred = BTreeSet::new();
    for (script, mismatches) in played.map(|ended| ended.unwrap()).collect::<Vec<_>>().await {
        let mut told = BTreeSet::new();
        for (request, mismatch) in mismatches {
            match list.requests.iter().find_map(|listed| listed.explains(&script, &mismatch)) {
                Some(place) => drop(occurred.insert(place)),
                // A place that differs does so in every later request.
                None if !told.insert(mismatch.path.clone()) => {}
                None => unlisted.push(format!("{script}, {request}, {}", shown(&mismatch))),
            }
        }
    }
    assert!(unlisted.is_empty(), "{} differences are not listed:\n{}", unlisted.len(), unlisted.join("\n"));
    let places = list.requests.iter().flat_map(|listed| listed.places());
    let gone: Vec<(&str, &str)> = places.filter(|place| !occurred.contains(place)).collect();
    assert!(chosen.is_some() || gone.is_empty(), "these are listed and do not occur any more: {gone:?}");
}

impl Case {
    /// Every script of the folder.
    fn all() -> Vec<Self> {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/agent/differential/scripts"));
        let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let cases: Vec<Self> = files.iter().map(|file| Self::read(file)).collect();
        for name in SAID_THEN.iter().map(|(name, _)| name).chain(INTERRUPTED) {
            assert!(cases.iter().any(|case| case.name == *name), "{name} is no script");
        }
        cases
    }

    fn read(file: &Path) -> Self {
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let script = Script::from_yaml(&fs::read_to_string(file).unwrap());
        let script = script.unwrap_or_else(|error| panic!("{name}: {error}"));
        let then = SAID_THEN.iter().find(|(script, _)| *script == name).map_or(&[][..], |(_, said)| said);
        let interrupted = INTERRUPTED.contains(&name.as_str());
        Self { name, script, prompts: [PROMPT].iter().chain(then).copied().collect(), interrupted }
    }

    /// Plays it twice, in the same directory, and says where the two differ: in which request, or after the last.
    async fn mismatches(&self) -> Vec<(String, Mismatch)> {
        let (ours, worktree) = self.ours().await;
        let reference = self.reference(&worktree).await;
        let counts = (json!(reference.requests.len()), json!(ours.requests.len()));
        let mut all: Vec<_> = in_each("after the last request", compare(&counts.0, &counts.1)).collect();
        let (theirs, own) = (normal(&reference.requests, PROMPT), normal(&ours.requests, PROMPT));
        for (number, (theirs, own)) in theirs.iter().zip(&own).enumerate() {
            all.extend(in_each(&format!("request {}", number + 1), compare(theirs, own)));
        }
        all.extend(in_each("after the last request", compare(&reference.left(), &ours.left())));
        all
    }

    /// By our agent. Gives the work tree's path too: the other one shall find its files at the same place.
    async fn ours(&self) -> (Played, PathBuf) {
        let recorder = Recorder::new(self.script.clone()).await;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut stage = Stage::with_model(format!("http://{}/v1", listener.local_addr().unwrap()));
        recorder.serve(listener);
        stage.job["prompt"] = json!(PROMPT);
        stage.job["model"]["name"] = json!(MODEL);
        stage.job["model"]["capabilities"] = json!({
            "customTools": true, "parallelToolCalls": true, "developerRole": true, "promptCacheKey": true,
            "reasoning": true, "reasoningSummary": true, "encryptedReasoning": true, "imageInput": true,
            "imageInToolResult": true,
        });
        stage.job["model"]["reasoningEffort"] = json!("Medium");
        stage.job["model"]["contextWindow"] = json!(WINDOW);
        stage.job["model"]["retry"] = json!({"requestMax": RETRIES, "streamMax": RETRIES});
        // Outages are waited out by our agent alone.
        stage.job["model"]["outageSeconds"] = json!(0);
        stage.job["idle"] = json!({"keepSeconds": 3600});
        let agent = stage.agent();
        if self.interrupted {
            return self.ours_interrupted(&stage, agent, &recorder).await;
        }
        let mut ended = stage.turn_ended(1).await;
        for (turn, prompt) in (2..).zip(&self.prompts[1..]) {
            stage.say(i64::from(turn), MessageKind::Prompt, prompt);
            ended = stage.turn_ended(turn).await;
        }
        agent.crash();
        let worktree = stage.worktree();
        (Played { requests: recorder.requests(), ended: Some(ended), files: files(&worktree) }, worktree)
    }

    /// An interrupt is also the end of our agent: the request that would come next is put together from its journal.
    async fn ours_interrupted(&self, stage: &Stage, agent: Agent, recorder: &Recorder) -> (Played, PathBuf) {
        let worktree = stage.worktree();
        stage.until(|_| worktree.join("begun").exists()).await;
        stage.say(1, MessageKind::Cancel, "");
        agent.ended().await;
        let mut requests = recorder.requests();
        let input = stage.thread().history.input().unwrap().messages;
        let items = input.iter().map(|item| serde_json::from_slice::<Value>(item).unwrap());
        let content = json!([{"type": "input_text", "text": GO_ON}]);
        let said = json!({"type": "message", "role": "user", "content": content});
        let mut next = requests[0].clone();
        next["input"] = items.chain([said]).collect();
        requests.push(next);
        (Played { requests, ended: None, files: files(&worktree) }, worktree)
    }

    async fn reference(&self, worktree: &Path) -> Played {
        let recorder = Recorder::new(self.script.clone()).await;
        fs::create_dir_all(worktree.parent().unwrap()).unwrap();
        repository(worktree);
        let mut reference = Reference::new();
        let serve = |listener| recorder.serve(listener);
        let mut ended = None;
        if self.interrupted {
            let begun = worktree.join("begun");
            reference.interrupted_turn(worktree, PROMPT, serve, || begun.exists()).await;
            reference.turn(worktree, GO_ON, serve).await;
        } else {
            for prompt in &self.prompts {
                ended = Some(reference.turn(worktree, prompt, serve).await);
            }
        }
        let played = Played { requests: recorder.requests(), ended, files: files(worktree) };
        fs::remove_dir_all(worktree.parent().unwrap()).unwrap();
        played
    }
}

impl Played {
    /// How it ended and what it left.
    fn left(&self) -> Value {
        let shown = |(content, executable): &(Vec<u8>, bool)| json!({"content": String::from_utf8_lossy(content), "executable": executable});
        let files: BTreeMap<&String, Value> =
            self.files.iter().map(|(path, file)| (path, shown(file))).collect();
        let ended =
            self.ended.as_ref().map(|ended| json!({"completed": ended.completed, "message": ended.message}));
        json!({"ended": ended, "files": files})
    }
}

impl Stage {
    /// Waits for the end of a turn: the agent waits for the next one, or has come to its own end.
    async fn turn_ended(&self, turn: i32) -> Ended {
        self.until(|stage| {
            let status = stage.status();
            status.outcome.is_some() || status.phase == Some(Phase::Idle) && status.turn == turn
        })
        .await;
        let status = self.status();
        let completed = status.outcome.is_none_or(|outcome| outcome.reason == Reason::Completed);
        let message = Some(status.last_message).filter(|message| completed && message != EMPTY_REPLY);
        Ended { completed, message: message.unwrap_or_default() }
    }
}

/// Every regular file of a work tree but git's own.
fn files(worktree: &Path) -> BTreeMap<String, (Vec<u8>, bool)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![worktree.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap()) {
            let path = entry.path();
            let name = path.strip_prefix(worktree).unwrap().to_str().unwrap().to_owned();
            if entry.file_type().unwrap().is_dir() {
                folders.extend(Some(path).filter(|_| name != ".git"));
            } else if entry.file_type().unwrap().is_file() {
                let executable = entry.metadata().unwrap().permissions().mode() & 0o100 != 0;
                found.insert(name, (fs::read(&path).unwrap(), executable));
            }
        }
    }
    found
}

fn in_each(request: &str, mismatches: Vec<Mismatch>) -> impl Iterator<Item = (String, Mismatch)> {
    let request = request.to_owned();
    mismatches.into_iter().map(move |mismatch| (request.clone(), mismatch))
}

fn shown(mismatch: &Mismatch) -> String {
    let side = |value: &Option<Value>| value.as_ref().map_or("nothing".to_owned(), Value::to_string);
    let path = if mismatch.path.is_empty() { "the number of requests" } else { &mismatch.path };
    format!("{path}\n    reference: {}\n    ours:      {}", side(&mismatch.reference), side(&mismatch.ours))
}
