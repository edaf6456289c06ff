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

/// What a request says in a header that lists features: those that the provider's settings ask for, and the one that the
/// request needs.
pub(super) fn with_feature(settings: &HeaderMap, name: &str, feature: &'static str) -> HeaderValue {
    let asked = settings.get_all(name).iter().map(|value| value.as_bytes().trim_ascii());
    let mut list: Vec<&[u8]> = asked.filter(|value| !value.is_empty()).collect();
    let is_there =
        |value: &&[u8]| value.split(|byte| *byte == b',').any(|it| it.trim_ascii() == feature.as_bytes());
    if !list.iter().any(is_there) {
        list.push(feature.as_bytes());
    }
    // Of valid values and what stands between them; anything else is no list of features.
    HeaderValue::from_bytes(&list.join(&b", "[..])).unwrap_or(HeaderValue::from_static(feature))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_features_of_the_settings_stand_beside_the_one_that_is_needed() {
        for (settings, expected) in [
            (&[][..], "new-1"),
            (&["a-1"], "a-1, new-1"),
            (&["a-1,b-2", "", "c-3"], "a-1,b-2, c-3, new-1"),
            (&["a-1, new-1", "c-3"], "a-1, new-1, c-3"),
            (&["new-10"], "new-10, new-1"),
        ] {
            let pairs: Vec<_> =
                settings.iter().map(|value| ("X-Beta".to_owned(), (*value).to_owned())).collect();
            assert_eq!(with_feature(&headers(&pairs).unwrap(), "x-beta", "new-1"), expected);
        }
    }
}
