//! Lines of the journal: `crc32c SP json LF`, and the envelope around a record.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use super::record::{Entry, Record, VERSION};

/// Digits of the checksum and the space after it.
const CHECKSUM_LEN: usize = 9;

/// Why a line is not an entry.
#[derive(Debug, Error)]
pub enum FrameError {
    /// The line is incomplete, or its checksum is another.
    #[error("the checksum does not fit the line")]
    Checksum,
    /// The checksum fits and the content does not: written by a faulty program, not by a torn write.
    #[error("a whole line cannot be read: {0}")]
    Content(#[from] serde_json::Error),
    /// A newer program wrote something that must be understood.
    #[error(
        "a newer version wrote the record {name:?} (version {version}); run the attempt with that version"
    )]
    Version {
        /// The record's type.
        name: String,
        /// The format's version.
        version: u32,
    },
}

/// A line that was read.
#[derive(Clone, Debug, PartialEq)]
pub enum Decoded {
    /// An entry.
    Entry(Box<Entry>),
    /// A record that this program does not know and need not know.
    Skipped {
        /// Its number.
        seq: u64,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    v: u32,
    seq: u64,
    at: Timestamp,
    epoch: u32,
    turn: u32,
    step: u64,
    active_ms: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    outage_ms: u64,
    critical: bool,
    #[serde(rename = "type")]
    name: String,
    data: Value,
}

/// The envelope and the record of an entry as one JSON object.
///
/// # Errors
/// Never for an entry made by this program.
pub fn to_json(entry: &Entry) -> Result<Value, serde_json::Error> {
    serde_json::to_value(Envelope {
        v: VERSION,
        seq: entry.seq,
        at: entry.at,
        epoch: entry.epoch,
        turn: entry.turn,
        step: entry.step,
        active_ms: entry.active_ms,
        outage_ms: entry.outage_ms,
        critical: entry.record.is_critical(),
        name: entry.record.name().to_owned(),
        data: entry.record.to_data()?,
    })
}

/// Reads what [`to_json`] wrote.
///
/// # Errors
/// [`FrameError::Content`] for another shape, [`FrameError::Version`] for a critical record of the future.
pub fn from_json(json: Value) -> Result<Decoded, FrameError> {
    let envelope: Envelope = serde_json::from_value(json)?;
    let Envelope { v, seq, at, epoch, turn, step, active_ms, outage_ms, critical, name, data } = envelope;
    if v > VERSION {
        return Err(FrameError::Version { name, version: v });
    }
    match Record::from_data(&name, data)? {
        Some(record) => {
            Ok(Decoded::Entry(Box::new(Entry { seq, at, epoch, turn, step, active_ms, outage_ms, record })))
        }
        None if critical => Err(FrameError::Version { name, version: v }),
        None => Ok(Decoded::Skipped { seq }),
    }
}

/// Most journals know of no outage.
fn is_zero(outage_ms: &u64) -> bool {
    *outage_ms == 0
}

/// A JSON value as a line. JSON text holds no line feed, so a line is found again by its end alone.
pub fn encode_line(json: &Value) -> Vec<u8> {
    let text = json.to_string();
    let mut line = String::with_capacity(text.len() + CHECKSUM_LEN + 1);
    // Writing into a String cannot fail.
    let _ = write!(line, "{:08x} ", crc32c::crc32c(text.as_bytes()));
    line.push_str(&text);
    line.push('\n');
    line.into_bytes()
}

/// Reads a line, which must end with its line feed.
///
/// # Errors
/// [`FrameError::Checksum`] or [`FrameError::Content`].
pub fn decode_line(line: &[u8]) -> Result<Value, FrameError> {
    let text = line.strip_suffix(b"\n").ok_or(FrameError::Checksum)?;
    let (checksum, json) = text.split_at_checked(CHECKSUM_LEN).ok_or(FrameError::Checksum)?;
    let expected = format!("{:08x} ", crc32c::crc32c(json));
    if checksum != expected.as_bytes() {
        return Err(FrameError::Checksum);
    }
    Ok(serde_json::from_slice(json)?)
}
