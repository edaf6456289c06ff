//! Takes out of a trace what belongs to an account.

use std::collections::BTreeMap;

use regex::{Captures, Regex};

use super::Exchange;

/// Ids of providers: a word for their kind, and at least eight characters that mean nothing.
const IDS: &str = r"\b(resp|msg|rs|fc|ctc|call|toolu|srvtoolu|chatcmpl|chatcmpl-tool|gen|req|item|ws|org|user|proj|batch|fp)[_-][A-Za-z0-9][A-Za-z0-9_-]{7,}";

/// UUIDs.
const UUIDS: &str = r"\b[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\b";

/// Days, with their time of day if it is there.
const DATES: &str = r"\b20\d\d-\d\d-\d\d(T\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?)?";

/// Members that have a moment in seconds or milliseconds.
const MOMENTS: &str = r#"("(?:created|created_at|completed_at|expires_at)"\s*:\s*)\d{9,}(\.\d+)?"#;

/// Members with what only the provider can read.
const PAYLOADS: &str = r#"("(?:encrypted_content|signature|system_fingerprint|safety_identifier|obfuscation)"\s*:\s*)"(?:[^"\\]|\\.)*""#;

/// Keys as providers make them, wherever they stand.
const KEYS: &str = r"\b(?:sk|pk|rk|gsk|xai|AIza|hf|nvapi)[-_][A-Za-z0-9_-]{12,}";

/// Replaces keys, ids, dates and payloads. The same id always becomes the same one, so that what belonged together still
/// does.
#[derive(Debug)]
pub struct Sanitiser {
    secrets: Vec<String>,
    /// Ids that were found: their kind, and their number among those of it.
    known: BTreeMap<String, (String, usize)>,
    ids: Regex,
    uuids: Regex,
    dates: Regex,
    moments: Regex,
    payloads: Regex,
    keys: Regex,
}

impl Sanitiser {
    /// Takes these texts out, whatever else it finds.
    ///
    /// # Errors
    /// None: the expressions are part of the program, and tested with it.
    pub fn new(secrets: impl IntoIterator<Item = String>) -> Result<Self, regex::Error> {
        // A shorter one would be found in words.
        let secrets = secrets.into_iter().map(|secret| secret.trim().to_owned());
        Ok(Self {
            secrets: secrets.filter(|secret| secret.len() >= 8).collect(),
            known: BTreeMap::new(),
            ids: Regex::new(IDS)?,
            uuids: Regex::new(UUIDS)?,
            dates: Regex::new(DATES)?,
            moments: Regex::new(MOMENTS)?,
            payloads: Regex::new(PAYLOADS)?,
            keys: Regex::new(KEYS)?,
        })
    }

    /// An exchange without what belongs to an account.
    pub fn exchange(&mut self, exchange: &Exchange) -> Exchange {
        Exchange {
            request: self.text(&exchange.request),
            status: exchange.status,
            response: self.text(&exchange.response),
        }
    }

    /// A text without what belongs to an account.
    pub fn text(&mut self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.secrets {
            text = text.replace(secret, "KEY");
        }
        text = self.keys.replace_all(&text, "KEY").into_owned();
        text = self.payloads.replace_all(&text, r#"$1"left out""#).into_owned();
        text = self.moments.replace_all(&text, "${1}946684800").into_owned();
        text =
            self.dates
                .replace_all(&text, |found: &Captures<'_>| {
                    if found.get(1).is_some() { "2000-01-01T00:00:00Z" } else { "2000-01-01" }
                })
                .into_owned();
        let known = &mut self.known;
        text = self
            .uuids
            .replace_all(&text, |found: &Captures<'_>| {
                let number = number(known, &found[0], "uuid");
                format!("00000000-0000-4000-8000-{number:012}")
            })
            .into_owned();
        self.ids
            .replace_all(&text, |found: &Captures<'_>| {
                // Words have hyphens too, but no digits.
                if !found[0].bytes().any(|byte| byte.is_ascii_digit()) {
                    return found[0].to_owned();
                }
                let number = number(known, &found[0], &found[1]);
                format!("{}_{number}", &found[1])
            })
            .into_owned()
    }
}

/// The number of an id among those of its kind, from 1 in the order in which they came.
fn number(known: &mut BTreeMap<String, (String, usize)>, id: &str, kind: &str) -> usize {
    if let Some((_, number)) = known.get(id) {
        return *number;
    }
    let number = known.values().filter(|(other, _)| other == kind).count() + 1;
    known.insert(id.to_owned(), (kind.to_owned(), number));
    number
}
