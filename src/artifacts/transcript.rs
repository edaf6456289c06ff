//! The transcript as a document: one JSON value a line, cut where it is longest until it fits.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::{Value, json};

use super::encoding::{ENCODED_MAX, Encoded, TooLarge, encode};

/// The lengths in bytes to which strings are cut, one after the other, until the document fits. At the last
/// one 900 KiB hold some ten thousand records.
const STRING_MAX: [usize; 7] = [usize::MAX, 256 << 10, 64 << 10, 16 << 10, 4 << 10, 1 << 10, 256];

/// How many records are kept at each end when cutting strings was not enough.
const ENDS: [usize; 4] = [5000, 1000, 200, 40];

/// A transcript that fits an artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transcript {
    /// The artifact.
    pub encoded: Encoded,
    /// Whether something was left out; each place in the document says how much.
    pub cut: bool,
}

/// Renders records, in their order, into an artifact.
///
/// When they do not fit, the middle of the longest strings is left out, and only when that is not enough
/// the middle of the records; the document says so in each place. Of the first `whole` records nothing is left out.
///
/// # Errors
/// [`TooLarge`] when even the ends do not fit, which takes records of many thousand strings.
pub fn transcript<T: Serialize>(records: &[T], whole: usize) -> Result<Transcript, TooLarge> {
    let records: Vec<Value> = records.iter().map(to_value).collect();
    fit(&records, whole, ENCODED_MAX)
}

fn fit(records: &[Value], uncut: usize, max: usize) -> Result<Transcript, TooLarge> {
    let mut last = TooLarge { bytes: 0, encoded: 0 };
    let whole = STRING_MAX.into_iter().map(|length| (length, records.len()));
    let ends = ENDS.into_iter().filter(|ends| 2 * ends < records.len()).map(|ends| (STRING_MAX[6], ends));
    for (length, ends) in whole.chain(ends) {
        let (document, cut) = render(records, uncut, length, ends);
        match encode(&document) {
            Ok(encoded) if encoded.data.len() <= max => return Ok(Transcript { encoded, cut }),
            Ok(encoded) => last = TooLarge { bytes: encoded.bytes, encoded: encoded.data.len() },
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The document with strings of at most `length` bytes and `ends` records at each end; whether it is less
/// than everything. The first `uncut` records keep their strings.
fn render(records: &[Value], uncut: usize, length: usize, ends: usize) -> (Vec<u8>, bool) {
    let mut out = Vec::new();
    let mut cut = false;
    let left_out = records.len().saturating_sub(ends.saturating_mul(2));
    for (index, record) in records.iter().enumerate() {
        if left_out > 0 && index >= ends && index < ends + left_out {
            if index == ends {
                cut = true;
                line(&mut out, &json!({ "leftOut": { "records": left_out } }));
            }
            continue;
        }
        let mut record = record.clone();
        if index >= uncut {
            cut |= shorten(&mut record, length);
        }
        line(&mut out, &record);
    }
    (out, cut)
}

/// Leaves out the middle of every string over `length` bytes.
fn shorten(value: &mut Value, length: usize) -> bool {
    match value {
        Value::String(text) if text.len() > length => {
            let head = text.floor_char_boundary(length / 2);
            let tail = text.ceil_char_boundary(text.len() - length / 2);
            let left_out = tail - head;
            *text = format!("{}\n[{left_out} bytes left out]\n{}", &text[..head], &text[tail..]);
            true
        }
        Value::Array(values) => values.iter_mut().fold(false, |cut, value| shorten(value, length) | cut),
        Value::Object(fields) => fields.values_mut().fold(false, |cut, value| shorten(value, length) | cut),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn line(out: &mut Vec<u8>, record: &Value) {
    // Neither writing a value nor writing into memory fails.
    let _: io::Result<()> =
        serde_json::to_writer(&mut *out, record).map_err(io::Error::from).and_then(|()| out.write_all(b"\n"));
}

/// A record that cannot be JSON says so in its place.
fn to_value<T: Serialize>(record: &T) -> Value {
    serde_json::to_value(record).unwrap_or_else(|error| json!({ "unreadable": error.to_string() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifacts::decode;

    fn lines(transcript: &Transcript) -> Vec<Value> {
        let text = decode(&transcript.encoded.data, &transcript.encoded.sha256).unwrap();
        String::from_utf8(text).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Text that compresses badly.
    fn noise(seed: u64, length: usize) -> String {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b'!' + u8::try_from((state >> 40) % 90).unwrap())
        };
        (0..length).map(|_| next()).collect()
    }

    #[test]
    fn what_fits_is_whole() {
        let records = vec![json!({ "type": "message", "text": "grün\n" }), json!({ "n": 1 })];
        let transcript = transcript(&records, 0).unwrap();
        assert!(!transcript.cut);
        assert_eq!(lines(&transcript), records);
    }

    #[test]
    fn the_longest_strings_lose_their_middle_first() {
        let records =
            vec![json!({ "text": "short" }), json!({ "nested": [{ "output": noise(1, 2 << 20) }] })];
        let transcript = transcript(&records, 0).unwrap();
        assert!(transcript.cut);
        let lines = lines(&transcript);
        assert_eq!(lines[0], records[0]);
        let (cut, whole) = (
            lines[1]["nested"][0]["output"].as_str().unwrap(),
            records[1]["nested"][0]["output"].as_str().unwrap(),
        );
        assert!(cut.contains(&format!("\n[{} bytes left out]\n", (2 << 20) - (256 << 10))));
        assert_eq!(&cut[..100], &whole[..100]);
        assert_eq!(&cut[cut.len() - 100..], &whole[whole.len() - 100..]);
    }

    #[test]
    fn at_last_records_are_left_out_and_counted() {
        let records: Vec<Value> = (0..500).map(|n| json!({ "n": n, "text": noise(n, 200) })).collect();
        let transcript = fit(&records, 0, 40_000).unwrap();
        assert!(transcript.cut);
        let lines = lines(&transcript);
        assert_eq!(lines[0]["n"], 0);
        assert_eq!(lines.last().unwrap()["n"], 499);
        let left_out = lines.iter().find_map(|line| line["leftOut"]["records"].as_u64()).unwrap();
        assert_eq!(left_out as usize + lines.len() - 1, 500);
    }

    #[test]
    fn the_first_records_keep_their_strings() {
        let long = noise(2, 20_000);
        let mut records = vec![json!({ "tools": long })];
        records.extend((0..20).map(|n| json!({ "text": noise(100 + n, 20_000) })));
        let transcript = fit(&records, 1, 100_000).unwrap();
        assert!(transcript.cut);
        let lines = lines(&transcript);
        assert_eq!(lines[0], records[0]);
        assert!(lines[1]["text"].as_str().unwrap().contains("bytes left out"));
    }

    #[test]
    fn strings_are_cut_between_characters() {
        let mut value = json!("ü".repeat(300));
        assert!(shorten(&mut value, 255));
        assert!(value.as_str().unwrap().contains("bytes left out"));
    }
}
