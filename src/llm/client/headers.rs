//! Headers of requests.

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

use crate::llm::error::{Misconfiguration, Misconfigured, ModelError};

/// The headers that a provider's settings add to every request.
pub(super) fn headers(pairs: &[(String, String)]) -> Result<HeaderMap, ModelError> {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let (Ok(key), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value))
        else {
            return Err(settings(format!("The ModelProvider's header {name:?} is no valid HTTP header.")));
        };
        headers.append(key, value);
    }
    Ok(headers)
}

/// Secrets made with a text editor end in a newline, which is never part of a key.
pub(super) fn credential(scheme: &str, key: &SecretString) -> Result<HeaderValue, ModelError> {
    let mut value =
        HeaderValue::from_str(&format!("{scheme}{}", key.expose_secret().trim())).map_err(|_| {
            ModelError::Misconfigured(Misconfigured {
                kind: Misconfiguration::Credential,
                message:
                    "The API key holds characters that no HTTP header can: put the bare key under the key \
                          `apiKey` of the Secret that the ModelProvider names in credentialsSecretName."
                        .to_owned(),
            })
        })?;
    value.set_sensitive(true);
    Ok(value)
}

pub(super) fn settings(message: String) -> ModelError {
    ModelError::Misconfigured(Misconfigured { kind: Misconfiguration::Settings, message })
}
