//! Secret values in the words of a setup script: recognised, and named instead of shown.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use super::status::keep_end;

/// Shorter values would turn half of a text into names: what has three characters is no secret.
const SHORTEST: usize = 4;

/// What is not shown, longest first, so that no value leaves the rest of a longer one behind.
pub(super) struct Redaction(Vec<(String, String)>);

impl Redaction {
    /// Recognises these values: as they are, each line of one, in base64, and as they stand in a URL.
    pub(super) fn of(secrets: &BTreeMap<String, String>) -> Self {
        let mut forms: Vec<(String, String)> = secrets
            .iter()
            .flat_map(|(key, value)| {
                forms(value).into_iter().map(move |form| (form, format!("[secret {key}]")))
            })
            .filter(|(form, _)| form.len() >= SHORTEST)
            .collect();
        forms.sort_by_key(|(form, _)| std::cmp::Reverse(form.len()));
        Self(forms)
    }

    /// The longest value, in bytes: how much more of a text must be kept than is shown.
    pub(super) fn longest(&self) -> usize {
        self.0.first().map_or(0, |(form, _)| form.len())
    }

    /// The last `max` bytes of a text, without the values. When the text had more before it (`is_cut`), its beginning may
    /// be the rest of a value, so as much as a value can be long is not shown.
    pub(super) fn end_of(&self, text: &str, max: usize, is_cut: bool) -> String {
        let found = self.0.iter().flat_map(|(form, name)| {
            text.match_indices(form.as_str()).map(move |(from, form)| (from, from + form.len(), name))
        });
        let mut found: Vec<(usize, usize, &String)> = found.collect();
        found.sort_by_key(|(from, to, _)| (*from, std::cmp::Reverse(*to)));
        let mut at = if is_cut { text.ceil_char_boundary(self.longest().min(text.len())) } else { 0 };
        let mut shown = String::new();
        for (from, to, name) in found {
            if from >= at {
                shown.push_str(text.get(at..from).unwrap_or_default());
                shown.push_str(name);
            }
            at = at.max(to);
        }
        shown.push_str(text.get(at..).unwrap_or_default());
        keep_end(&mut shown, max);
        shown
    }
}

fn forms(value: &str) -> Vec<String> {
    let whole = value.trim();
    let mut forms: Vec<String> = whole.lines().map(|line| line.trim().to_owned()).collect();
    forms.push(whole.to_owned());
    forms.push(url::form_urlencoded::byte_serialize(whole.as_bytes()).collect());
    for bytes in [value.as_bytes(), whole.as_bytes()] {
        forms.push(STANDARD.encode(bytes));
        forms.push(STANDARD_NO_PAD.encode(bytes));
        forms.push(URL_SAFE_NO_PAD.encode(bytes));
    }
    forms
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redaction(value: &str) -> Redaction {
        Redaction::of(&BTreeMap::from([("TOKEN".to_owned(), value.to_owned())]))
    }

    #[test]
    fn a_value_is_named_in_every_form() {
        let secret = "s3cret/+ü";
        let redaction = redaction(secret);
        for form in [secret, "s3cret%2F%2B%C3%BC", &STANDARD.encode(secret), &URL_SAFE_NO_PAD.encode(secret)]
        {
            let text =
                redaction.end_of(&format!("fetch https://u:{form}@idx.example/simple failed"), 1000, false);
            assert_eq!(text, "fetch https://u:[secret TOKEN]@idx.example/simple failed");
        }
    }

    #[test]
    fn each_line_of_a_long_value_is_a_value() {
        let key = "-----BEGIN KEY-----\nMIIEowIBAAKCAQEA\n-----END KEY-----\n";
        assert_eq!(redaction(key).end_of("line: MIIEowIBAAKCAQEA!", 1000, false), "line: [secret TOKEN]!");
    }

    #[test]
    fn no_cut_leaves_half_a_value() {
        let redaction = redaction("0123456789abcdef");
        let once = format!("{}0123456789abcdef{}", "x".repeat(50), "y".repeat(20));
        // What is put in the place of values is shorter, so all that was kept may be shown.
        for text in [once, "+ curl 0123456789abcdef;".repeat(9)] {
            for max in 0..text.len() {
                let kept = &text[text.len().saturating_sub(max + redaction.longest())..];
                let shown = redaction.end_of(kept, max, kept.len() < text.len());
                assert!(!shown.contains("cdef") && !shown.contains("0123"), "{max}: {shown}");
            }
        }
    }

    #[test]
    fn values_that_overlap_are_both_left_out() {
        let secrets = [("A", "one-two"), ("B", "two-three-four")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        let redaction = Redaction::of(&secrets.into());
        assert_eq!(redaction.end_of("<one-two-three-four>", 100, false), "<[secret A]>");
    }

    #[test]
    fn a_short_value_is_not_taken_for_a_secret() {
        assert_eq!(redaction("abc").end_of("abc", 10, false), "abc");
    }
}
