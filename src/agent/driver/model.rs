//! Model requests: sending one and telling the machine what comes.

use futures::StreamExt as _;
use rustix::rand::{GetRandomFlags, getrandom};
use secrecy::SecretString;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::Message;
use super::cluster::{Cluster, ClusterError};
use crate::agent::machine::{AskModel, Signal};
use crate::api::attempt::JobModel;
use crate::llm::{
    Endpoint, Misconfiguration, Misconfigured, ModelClient, ModelError, RetryCause, RetryLayer, Retryable,
    StreamEvent,
};

/// The key of a provider's Secret.
const API_KEY: &str = "apiKey";

/// What a Secret is called that is to be made for a provider which names none.
const NEW_SECRET: &str = "model-key";

/// The provider of an attempt.
pub(super) struct Provider<C> {
    cluster: C,
    model: JobModel,
    namespace: String,
    client: Option<ModelClient>,
    key: Option<SecretString>,
    request: Option<AbortOnDropHandle<()>>,
}

impl<C: Cluster> Provider<C> {
    /// The provider that a job names. Nothing is read before the first request.
    pub(super) fn new(cluster: C, model: JobModel, namespace: String) -> Self {
        Self { cluster, model, namespace, client: None, key: None, request: None }
    }

    /// Sends a request. What comes of it is told through `messages`, its end always, its parts if asked for.
    pub(super) async fn ask(&mut self, ask: AskModel, messages: mpsc::Sender<Message>, in_parts: bool) {
        self.stop();
        let request = ask.request;
        if ask.reread_credential {
            self.key = None;
        }
        let ready = match self.ready().await {
            Ok(ready) => ready,
            Err(error) => {
                let failed = Signal::ModelFailed { request, error, jitter: jitter() };
                // The driver is gone when nobody listens.
                let _ = messages.send(Message::Signal(failed)).await;
                return;
            }
        };
        let (client, key) = ready;
        let remedy = how_to_set_key(&self.model, &self.namespace);
        let sent = tokio::spawn(async move {
            let mut events = Box::pin(client.stream(ask.prepared, key));
            while let Some(event) = events.next().await {
                let message = match event {
                    Ok(StreamEvent::ItemCompleted(item)) => {
                        Message::Signal(Signal::ModelItem { request, item })
                    }
                    Ok(StreamEvent::Completed(completed)) => {
                        Message::Signal(Signal::ModelCompleted { request, completed })
                    }
                    Err(error) => {
                        let error = with_remedy(error, &remedy);
                        Message::Signal(Signal::ModelFailed { request, error, jitter: jitter() })
                    }
                    Ok(
                        part @ (StreamEvent::ItemStarted { .. }
                        | StreamEvent::TextDelta { .. }
                        | StreamEvent::ReasoningDelta { .. }
                        | StreamEvent::CallInputDelta { .. }),
                    ) if in_parts => Message::Part(part),
                    Ok(
                        StreamEvent::Created { .. }
                        | StreamEvent::ItemStarted { .. }
                        | StreamEvent::TextDelta { .. }
                        | StreamEvent::ReasoningDelta { .. }
                        | StreamEvent::CallInputDelta { .. },
                    ) => continue,
                };
                if messages.send(message).await.is_err() {
                    return;
                }
            }
        });
        self.request = Some(AbortOnDropHandle::new(sent));
    }

    /// Drops the request that is under way.
    pub(super) fn stop(&mut self) {
        self.request = None;
    }

    async fn ready(&mut self) -> Result<(ModelClient, Option<SecretString>), ModelError> {
        let client = match &self.client {
            Some(client) => client.clone(),
            None => {
                let client = self.client().await?;
                self.client.insert(client).clone()
            }
        };
        if self.key.is_none()
            && let Some(secret) = self.model.credentials_secret_name.clone()
        {
            self.key = Some(self.read_key(&secret).await?);
        }
        Ok((client, self.key.clone()))
    }

    async fn client(&self) -> Result<ModelClient, ModelError> {
        let ca_bundle = match &self.model.ca_bundle {
            None => None,
            Some(reference) => {
                let value = self.cluster.config_map_value(&reference.name, &reference.key).await;
                let value = value.map_err(|error| self.unreadable(&error))?;
                Some(value.ok_or_else(|| self.no_bundle(&reference.name, &reference.key))?.into_bytes())
            }
        };
        let base_url = self.model.base_url.parse().map_err(|error| {
            settings(format!(
                "The baseURL of the ModelProvider {} is no URL: {error}.",
                self.model.provider_name
            ))
        })?;
        let headers = self.model.headers.iter();
        ModelClient::new(&Endpoint {
            base_url,
            headers: headers.map(|header| (header.name.clone(), header.value.clone())).collect(),
            ca_bundle,
            idle_timeout: std::time::Duration::from_secs(self.model.retry.idle_seconds.max(1).unsigned_abs()),
        })
    }

    async fn read_key(&self, secret: &str) -> Result<SecretString, ModelError> {
        let mut values = self.cluster.secret(secret).await.map_err(|error| match error {
            ClusterError::Refused { code: 404, .. } => self.no_key(secret, "does not exist"),
            ClusterError::Refused { .. } | ClusterError::Unreachable { .. } => self.unreadable(&error),
        })?;
        let value = values.remove(API_KEY).ok_or_else(|| self.no_key(secret, "has no key apiKey"))?;
        let text =
            String::from_utf8(value).map_err(|_| self.no_key(secret, "has an apiKey that is no text"))?;
        Ok(text.into())
    }

    fn no_key(&self, secret: &str, what: &str) -> ModelError {
        let provider = &self.model.provider_name;
        let remedy = how_to_set_key(&self.model, &self.namespace);
        ModelError::Misconfigured(Misconfigured {
            kind: Misconfiguration::Credential,
            message: format!(
                "The Secret {secret}, which the ModelProvider {provider} names in credentialsSecretName, {what}. {remedy}"
            ),
        })
    }

    fn no_bundle(&self, name: &str, key: &str) -> ModelError {
        let provider = &self.model.provider_name;
        settings(format!("The ConfigMap {name}, which the ModelProvider {provider} names, has no key {key}."))
    }

    /// The API server's trouble, not the provider's: worth another try all the same.
    fn unreadable(&self, error: &ClusterError) -> ModelError {
        ModelError::Retryable(Retryable {
            layer: RetryLayer::Stream,
            cause: RetryCause::Connect,
            server_delay: None,
            message: format!("The ModelProvider {} cannot be used: {error}.", self.model.provider_name),
        })
    }
}

/// What to do for a key that is missing or refused. The command makes the Secret, or replaces what is in it.
fn how_to_set_key(model: &JobModel, namespace: &str) -> String {
    let command = |secret: &str| {
        format!(
            "kubectl create secret generic {secret} -n {namespace} --from-literal=apiKey=KEY --dry-run=client -o yaml \
             | kubectl apply -f -"
        )
    };
    let provider = &model.provider_name;
    match &model.credentials_secret_name {
        Some(secret) => format!("Run: {}, and create a new task.", command(secret)),
        None => format!(
            "The ModelProvider {provider} names no Secret. Run: {}, set credentialsSecretName: {NEW_SECRET} on the \
             ModelProvider {provider}, and create a new task.",
            command(NEW_SECRET)
        ),
    }
}

/// The refusal of a key with the command that mends it: whoever was refused knows neither Secret nor namespace.
fn with_remedy(mut error: ModelError, remedy: &str) -> ModelError {
    if let ModelError::Retryable(failure) = &mut error
        && matches!(failure.cause, RetryCause::Unauthorized { .. })
    {
        failure.message = format!("{} {remedy}", failure.message);
    }
    error
}

fn settings(message: String) -> ModelError {
    ModelError::Misconfigured(Misconfigured { kind: Misconfiguration::Settings, message })
}

/// A number from 0 to 1 that other agents do not have, so that their retries do not meet.
fn jitter() -> f64 {
    let mut bytes = [0; 4];
    // Without random numbers retries merely meet.
    let _ = getrandom(&mut bytes, GetRandomFlags::empty());
    f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
}
