//! The endpoint that the tasks run against.

use std::fs;

use podwright::api::ModelProvider;
use podwright::api::provider::ModelApi;
use podwright::llm::Wire;
use serde_json::{Value, json};

use crate::stage::serving;

/// The manifest of a ModelProvider. Set by `make live`.
const PROVIDER: &str = "PODWRIGHT_LIVE_PROVIDER";

/// The file with its key, if it needs one.
const KEY_FILE: &str = "PODWRIGHT_LIVE_KEY_FILE";

/// The model, if it is not the first of the provider's.
const MODEL: &str = "PODWRIGHT_LIVE_MODEL";

/// What stands in the place of a real endpoint: it does the three tasks as a model would, on a bad day.
const STAND_IN: &str = r#"
apiKey: stand-in-key-4711
scenarios:
  - name: mend
    match: {prompt: wrong letter}
    replies:
      - output:
          - reasoning: The greeting first.
          - call: {tool: exec_command, arguments: {cmd: sh greet.sh}}
      - expect: {lastOutput: hullo}
        output:
          - custom:
              tool: apply_patch
              input: |
                *** Begin Patch
                *** Update File: greet.sh
                @@
                -echo hullo
                +echo hello
                *** End Patch
          - call: {tool: exec_command, arguments: {cmd: sh greet.sh}}
      - expect: {lastOutput: hello}
        output: [{text: The greeting says hello now.}]
  - name: add
    match: {prompt: usage.txt}
    replies:
      - output: [{plan: [{step: Write the file, status: in_progress}, {step: Show it, status: pending}]}]
      - http: {status: 503, error: {message: try again}}
      - output: [{call: {tool: exec_command, arguments: {cmd: "mkdir -p notes && echo 'Run it with: sh greet.sh' > notes/usage.txt; cat notes/usage.txt"}}}]
      - output: [{plan: [{step: Write the file, status: completed}, {step: Show it, status: completed}]}]
      - output: [{text: It is there.}]
  - name: read
    match: {prompt: change nothing}
    replies:
      - output: [{call: {tool: exec_command, arguments: {cmd: cat greet.sh}}}, {text: This breaks off.}]
        end: {cut: {afterEvents: 6}}
      - output: [{text: It prints hullo.}]
"#;

/// An endpoint and the model on it.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    /// The API.
    pub(crate) wire: Wire,
    /// Its address.
    pub(crate) base_url: String,
    /// The model as a job has it, without its address.
    pub(crate) model: Value,
    /// The key.
    pub(crate) key: Option<String>,
}

impl Endpoint {
    /// The one that was asked for, or the scripted model.
    pub(crate) async fn chosen() -> Self {
        match said(PROVIDER) {
            Some(path) => Self::of_manifest(&path),
            None => Self::stand_in().await,
        }
    }

    /// The same model, played by a script.
    pub(crate) async fn scripted(&self, script: &str) -> Self {
        Self { base_url: serving(script).await, key: None, ..self.clone() }
    }

    fn of_manifest(path: &str) -> Self {
        let provider: ModelProvider = serde_saphyr::from_str(&read(path))
            .unwrap_or_else(|error| panic!("{path} is no ModelProvider: {error}"));
        let spec = provider.spec;
        let wanted = said(MODEL);
        let model = spec.models.iter().find(|model| wanted.as_ref().is_none_or(|name| *name == model.name));
        let name = wanted.clone().or(model.map(|model| model.name.clone()));
        let name = name.unwrap_or_else(|| panic!("{path} lists no model: say MODEL=NAME"));
        let model = json!({
            "providerName": "live",
            "name": name,
            "api": spec.api,
            "headers": spec.headers,
            "retry": spec.retry,
            "capabilities": model.map(|model| model.capabilities.clone()).unwrap_or_default(),
            "surface": model.map(|model| model.surface).unwrap_or_default(),
        });
        let key = said(KEY_FILE).map(|path| read(&path));
        Self { wire: Wire::from(spec.api), base_url: spec.base_url, model, key }
    }

    async fn stand_in() -> Self {
        let model = json!({
            "providerName": "live", "name": "stand-in", "api": ModelApi::Responses,
            "capabilities": {
                "customTools": true, "parallelToolCalls": true, "developerRole": true, "encryptedReasoning": true,
                "promptCacheKey": true,
            },
        });
        let base_url = serving(STAND_IN).await;
        Self { wire: Wire::Responses, base_url, model, key: Some("stand-in-key-4711\n".to_owned()) }
    }
}

fn said(variable: &str) -> Option<String> {
    std::env::var(variable).ok().filter(|value| !value.is_empty())
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}
