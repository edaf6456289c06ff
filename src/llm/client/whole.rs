//! Answers in one piece, as a provider's compaction endpoint gives them.

use tokio::time::timeout_at;

use super::{Open, causes};

/// The most bytes of one: as much as one event of a stream may have.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// What stands around it to make it the end of a response, which brings all items that did not come before.
const BEFORE: &[u8] = br#"{"type":"response.completed","response":"#;
const AFTER: &[u8] = b"}";

impl Open {
    /// Reads the answer to its end and folds it.
    pub(super) async fn read_whole(&mut self) {
        let mut event = BEFORE.to_vec();
        loop {
            match timeout_at(self.limits.next(), self.response.chunk()).await {
                Err(_) => return self.fail(self.limits.expired(self.fold.asked())),
                Ok(Err(error)) => return self.ended(&causes(&error)),
                Ok(Ok(None)) => break,
                Ok(Ok(Some(chunk))) if event.len() + chunk.len() > MAX_BYTES => {
                    return self.oversized(&format_args!("the answer has more than {MAX_BYTES} bytes"));
                }
                Ok(Ok(Some(chunk))) => event.extend_from_slice(&chunk),
            }
        }
        event.extend_from_slice(AFTER);
        self.fold(&event.into());
        if !self.finished {
            self.ended("the answer is no JSON");
        }
    }
}
