//! Conversing with a process: every line of it, as it comes.

use std::time::Duration;

use podwright_sandboxd::protocol::{BootId, ErrorCode, OpId};
use tokio::sync::mpsc::error::TrySendError;

use super::outcome::{Link, Observation, Outcome, SandboxError};
use super::session::Command;
use super::{Ended, Sandbox};

/// How long a process that was asked to end is waited for: the supervisor kills it after 2 s.
const END_WITHIN: Duration = Duration::from_secs(10);

impl Sandbox {
    /// Waits until a command with piped input has written something since the last look, or has ended, and tells which.
    /// Nothing is left out: the command waits while nobody looks. Dropping the wait loses nothing.
    ///
    /// # Errors
    /// [`SandboxError::Lost`]; everything else is an [`Outcome`].
    pub async fn listen(&self, id: &OpId) -> Result<Observation, SandboxError> {
        let mut arrivals = self.shared.arrivals.subscribe();
        let mut exits = self.shared.exits.subscribe();
        let mut link = self.shared.link.subscribe();
        loop {
            arrivals.mark_unchanged();
            exits.mark_unchanged();
            if let Some(observation) = self.heard(id) {
                return Ok(observation);
            }
            let running = self.running_in(id);
            // What has not arrived of its output is read now.
            let Some(boot) = running else { return self.observe(id, Duration::ZERO).await };
            match &*link.borrow_and_update() {
                Link::Up(up) if up.id != boot => {
                    return Ok(Observation {
                        output: super::Delta::default(),
                        seen: 0,
                        outcome: Outcome::Interrupted { boot: up.id.clone() },
                    });
                }
                Link::Lost(reason) => return Err(SandboxError::Lost(reason.clone())),
                Link::Up(_) | Link::Connecting(_) => {}
            }
            tokio::select! {
                _ = arrivals.changed() => {}
                _ = exits.changed() => {}
                _ = link.changed() => {}
            }
        }
    }

    /// Ends a command of this boot, whoever started it, and forgets it. An unknown one is no error.
    ///
    /// # Errors
    /// See [`SandboxError`].
    pub async fn end(&self, boot: &BootId, id: &OpId) -> Result<(), SandboxError> {
        // Followed, so that its end is heard of.
        self.shared.processes().follow(id, boot, 0);
        let asked = self.terminate(id).await;
        let unknown = |error: &SandboxError| error.code() == Some(ErrorCode::UnknownProcess);
        match asked {
            Ok(_) => {}
            Err(SandboxError::Restarted { .. }) => {
                self.shared.processes().forget(id);
                return Ok(());
            }
            Err(error) => {
                self.shared.processes().forget(id);
                return if unknown(&error) { Ok(()) } else { Err(error) };
            }
        }
        match self.observe(id, END_WITHIN).await?.outcome {
            Outcome::Exited(Ended { .. }) => self.acknowledge(boot, id).await,
            // It is kept by the supervisor until its phase ends.
            Outcome::Running | Outcome::Interrupted { .. } | Outcome::Unknown { .. } => {
                self.shared.processes().forget(id);
                Ok(())
            }
        }
    }

    /// The boot of a command of whose end nothing was heard.
    fn running_in(&self, id: &OpId) -> Option<BootId> {
        let mut processes = self.shared.processes();
        processes.get(id).filter(|followed| followed.exit.is_none()).map(|followed| followed.boot.clone())
    }

    /// What has arrived of a command since the last look, if anything has.
    fn heard(&self, id: &OpId) -> Option<Observation> {
        let mut processes = self.shared.processes();
        let followed = processes.get(id).filter(|followed| followed.has_news())?;
        let (output, seen) = followed.look();
        if let Some(ack) = followed.due_ack(id.clone())
            && let Err(TrySendError::Full(notice)) = self.commands.try_send(Command::notice(ack))
        {
            // The process may wait for nothing but this word.
            let commands = self.commands.clone();
            tokio::spawn(async move { commands.send(notice).await });
        }
        Some(Observation { output, seen, outcome: Outcome::Running })
    }
}
