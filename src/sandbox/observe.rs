//! Following a command to its end.

use std::time::Duration;

use podwright_sandboxd::protocol::{BootId, CHUNK_MAX, ErrorCode, ExitRecord, OpId, Read};
use tokio::time::{Instant, timeout_at};

use super::outcome::{Link, Observation, Outcome, SandboxError};
use super::session::Command;
use super::{Delta, Sandbox};

/// Times that an output is read again from its beginning when it does not agree with its record.
const REREADS: usize = 1;

/// What is known of a command once its output was read.
enum Known {
    Running,
    Exited(ExitRecord),
    Interrupted(BootId),
    Unknown(String),
}

impl Sandbox {
    /// Waits until the command ends, at most `wait`, and tells what it wrote since the last look and what became of it.
    /// While there is no connection this is told from what was heard before.
    ///
    /// # Errors
    /// [`SandboxError::Lost`]; everything else is an [`Outcome`].
    pub async fn observe(&self, id: &OpId, wait: Duration) -> Result<Observation, SandboxError> {
        self.wait_for_end(id, Instant::now() + wait).await?;
        let outcome = self.read_whole(id).await?;
        let mut processes = self.shared.processes();
        let Some(followed) = processes.get(id) else {
            return Ok(Observation {
                output: Delta::default(),
                seen: 0,
                outcome: Outcome::Unknown { why: not_followed() },
            });
        };
        let (output, seen) = followed.look();
        if let Some(ack) = followed.due_ack(id.clone()) {
            // When too much waits to be sent, the next look does it.
            let _ = self.commands.try_send(Command::notice(ack));
        }
        Ok(Observation { output, seen, outcome })
    }

    /// Waits until the command has ended, its boot is over, or the time is.
    async fn wait_for_end(&self, id: &OpId, until: Instant) -> Result<(), SandboxError> {
        let mut exits = self.shared.exits.subscribe();
        let mut link = self.shared.link.subscribe();
        loop {
            let boot = match self.shared.processes().get(id) {
                Some(followed) if followed.exit.is_none() => followed.boot.clone(),
                Some(_) | None => return Ok(()),
            };
            match &*link.borrow_and_update() {
                Link::Up(up) if up.id != boot => return Ok(()),
                Link::Lost(reason) => return Err(SandboxError::Lost(reason.clone())),
                Link::Up(_) | Link::Connecting(_) => {}
            }
            let change = async {
                tokio::select! {
                    changed = exits.changed() => changed.is_ok(),
                    changed = link.changed() => changed.is_ok(),
                }
            };
            if !matches!(timeout_at(until, change).await, Ok(true)) {
                return Ok(());
            }
        }
    }

    /// Reads what has not arrived, checks it against the record, and decides what became of the command.
    async fn read_whole(&self, id: &OpId) -> Result<Outcome, SandboxError> {
        for _ in 0..=REREADS {
            let record = match self.read_on(id).await? {
                Known::Running => return Ok(Outcome::Running),
                Known::Interrupted(boot) => return Ok(Outcome::Interrupted { boot }),
                Known::Unknown(why) => return Ok(Outcome::Unknown { why }),
                Known::Exited(record) => record,
            };
            match self.shared.processes().get(id) {
                Some(followed) if followed.agrees_with(&record) => return Ok(Outcome::of(record)),
                Some(followed) => followed.restart_transcript(),
                None => return Ok(Outcome::Unknown { why: not_followed() }),
            }
        }
        Ok(Outcome::Unknown { why: "its output does not agree with the digests of its exit record".into() })
    }

    /// Reads until everything is here that had been written when this began.
    async fn read_on(&self, id: &OpId) -> Result<Known, SandboxError> {
        let mut written = None;
        loop {
            let (boot, wanted) = {
                let mut processes = self.shared.processes();
                let Some(followed) = processes.get(id) else { return Ok(Known::Unknown(not_followed())) };
                let total = followed.exit.as_ref().map(|record| record.bytes).or(written);
                match (total.map(|total| followed.next_wanted(total)), &followed.exit) {
                    (Some(None), Some(record)) => return Ok(Known::Exited(record.clone())),
                    (Some(None), None) => return Ok(Known::Running),
                    (Some(Some(wanted)), _) => (followed.boot.clone(), wanted),
                    (None, _) => (followed.boot.clone(), followed.received()),
                }
            };
            if matches!(&*self.shared.link.borrow(), Link::Connecting(_)) {
                return Ok(Known::Running);
            }
            let request = Read { process_id: id.clone(), after_seq: wanted, max_bytes: CHUNK_MAX };
            let result = match self.call_until_answered(request, Some(&boot)).await {
                Ok(result) => result,
                Err(SandboxError::Restarted { boot }) => return Ok(Known::Interrupted(boot)),
                Err(SandboxError::Refused(error)) if error.code == ErrorCode::UnknownProcess => {
                    return Ok(Known::Unknown("the supervisor does not know it".into()));
                }
                Err(error) => return Err(error),
            };
            let asked_for_more = written.replace(written.unwrap_or(result.total)).is_some();
            let mut processes = self.shared.processes();
            let Some(followed) = processes.get(id) else { return Ok(Known::Unknown(not_followed())) };
            let before = followed.received();
            followed.accept(result);
            if asked_for_more && followed.received() == before && before < wanted.max(1) {
                return Ok(Known::Unknown("the supervisor does not give its output".into()));
            }
        }
    }

    /// Learns of an end that was announced before anybody followed the command.
    pub(super) async fn find_end(&self, id: &OpId) -> Result<(), SandboxError> {
        self.read_on(id).await.map(|_| ())
    }
}

fn not_followed() -> String {
    "it was not started through this connection, or was acknowledged".into()
}
