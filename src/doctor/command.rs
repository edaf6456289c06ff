//! `podwright doctor model`.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use secrecy::SecretString;
use thiserror::Error;
use url::Url;

use super::{Diagnosis, Patient, probes};
use crate::api::provider::ModelApi;
use crate::files::read_text;
use crate::llm::{Endpoint, ModelClient, ModelError, Wire};

/// The largest key or bundle of certificates that is read: a bundle of every public authority is smaller.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Looks for what is wrong, or what can be had.
#[derive(Clone, Debug, Args)]
pub struct DoctorArgs {
    /// What to look at.
    #[command(subcommand)]
    pub what: Subject,
}

/// What to look at.
#[derive(Clone, Debug, Subcommand)]
pub enum Subject {
    /// Ask an endpoint what a model can do, and print the entry of the ModelProvider for it
    ///
    /// About 20 short requests are sent, and paid for. The key comes from a file or the environment.
    Model(ModelArgs),
}

/// An endpoint and a model.
#[derive(Clone, Debug, Args)]
pub struct ModelArgs {
    /// The API: Responses, ChatCompletions or Messages
    #[arg(long, value_parser = api)]
    pub api: ModelApi,
    /// The address, as spec.baseURL of the ModelProvider has it
    #[arg(long, value_name = "URL")]
    pub base_url: Url,
    /// The model's name at the provider
    #[arg(long)]
    pub model: String,
    /// The file that has the key
    #[arg(long, value_name = "FILE", conflicts_with = "key_env")]
    pub key_file: Option<PathBuf>,
    /// The environment variable that has the key
    #[arg(long, value_name = "NAME")]
    pub key_env: Option<String>,
    /// A header for every request, as spec.headers has it; not for secrets
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    pub headers: Vec<(String, String)>,
    /// Certificates (PEM) that the endpoint's are checked against besides the public ones
    #[arg(long, value_name = "FILE")]
    pub ca_bundle: Option<PathBuf>,
    /// Seconds without an event after which an answer counts as broken off
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub idle_seconds: u64,
}

/// Why an endpoint cannot be looked at.
#[derive(Debug, Error)]
pub enum DoctorError {
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is none of these.
    #[error("{path} has more than {MAX_FILE_BYTES} bytes: it is no key and no bundle of certificates")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The variable is not set.
    #[error("the environment has no variable {0}, which --key-env names; export it, or use --key-file")]
    NoVariable(String),
    /// The settings cannot be used.
    #[error("{0}")]
    Settings(ModelError),
}

impl ModelArgs {
    /// Looks at the model.
    ///
    /// # Errors
    /// [`DoctorError`] before anything is sent; what the endpoint says is in the diagnosis.
    pub async fn run(self) -> Result<Diagnosis, DoctorError> {
        let key = match (&self.key_file, self.key_env) {
            (Some(path), _) => Some(SecretString::from(read(path).await?)),
            (None, Some(name)) => {
                let value = std::env::var(&name).ok().filter(|value| !value.trim().is_empty());
                Some(SecretString::from(value.ok_or(DoctorError::NoVariable(name))?))
            }
            (None, None) => None,
        };
        let ca_bundle = match &self.ca_bundle {
            Some(path) => Some(read(path).await?.into_bytes()),
            None => None,
        };
        let endpoint = Endpoint {
            base_url: self.base_url,
            headers: self.headers,
            ca_bundle,
            idle_timeout: Duration::from_secs(self.idle_seconds),
        };
        let client = ModelClient::new(&endpoint).map_err(DoctorError::Settings)?;
        let mut patient = Patient::new(client, key, Wire::from(self.api), self.model);
        Ok(probes::examine(&mut patient).await)
    }
}

async fn read(path: &Path) -> Result<String, DoctorError> {
    let text = read_text(path, MAX_FILE_BYTES).await;
    let text = text.map_err(|source| DoctorError::Read { path: path.to_owned(), source })?;
    text.ok_or_else(|| DoctorError::TooLarge { path: path.to_owned() })
}

fn api(name: &str) -> Result<ModelApi, String> {
    serde_json::from_value(name.into()).map_err(|_| "one of Responses, ChatCompletions, Messages".to_owned())
}

fn header(pair: &str) -> Result<(String, String), String> {
    let (name, value) = pair.split_once('=').ok_or("NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}
