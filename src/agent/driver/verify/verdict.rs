//! What the commands of a verification say about the work. Pure.

use crate::api::attempt::{Outcome, VerificationResult, VerificationState};
use crate::api::reasons::Reason;
use crate::api::task::VerificationCommand;

/// The longest answer of the agent that is passed on as the message of the end.
const MAX_ANSWER: usize = 4096;

/// A command that has not begun.
pub(super) fn pending(command: &VerificationCommand) -> VerificationResult {
    VerificationResult {
        name: command.name.clone(),
        state: VerificationState::Pending,
        exit_code: None,
        seconds: 0,
        output: String::new(),
    }
}

/// A command at the end of the attempt: what has not ended by then never will.
pub(super) fn closed(result: VerificationResult) -> VerificationResult {
    let state = match result.state {
        VerificationState::Pending | VerificationState::Running => VerificationState::Interrupted,
        ended @ (VerificationState::Passed
        | VerificationState::Failed
        | VerificationState::TimedOut
        | VerificationState::Interrupted) => ended,
    };
    VerificationResult { state, ..result }
}

/// How the attempt ends whose commands have all ended. `answer` is the agent's own.
pub(super) fn verdict(
    attempt: &str,
    commands: &[VerificationCommand],
    results: &[VerificationResult],
    answer: &str,
) -> Outcome {
    let failures: Vec<String> =
        commands.iter().zip(results).filter_map(|(command, result)| failure(command, result)).collect();
    if failures.is_empty() {
        let message = crate::api::conditions::cut(answer, MAX_ANSWER).to_owned();
        return Outcome { reason: Reason::Completed, message };
    }
    let message = format!(
        "The verification failed: {}. The patch is kept; the ends of the outputs are in status.verification of the \
         AgentAttempt {attempt}.",
        failures.join("; ")
    );
    Outcome { reason: Reason::VerificationFailed, message }
}

/// How an attempt ends that a person cancelled meanwhile.
pub(super) fn cancelled() -> Outcome {
    let message = "Cancelled while its patch was verified; the patch is kept.".to_owned();
    Outcome { reason: Reason::Cancelled, message }
}

/// How an attempt ends whose verification broke off for a reason that says nothing about the patch.
pub(super) fn broken_off(Outcome { reason, message }: Outcome) -> Outcome {
    let message = format!("The agent is done and its patch is kept, but it could not be verified: {message}");
    Outcome { reason, message }
}

fn failure(command: &VerificationCommand, result: &VerificationResult) -> Option<String> {
    let name = &command.name;
    match (result.state, result.exit_code) {
        (VerificationState::Passed, _) => None,
        (VerificationState::TimedOut, _) => {
            Some(format!("{name} ran longer than its timeoutSeconds ({})", command.timeout_seconds))
        }
        (VerificationState::Failed, Some(code)) => Some(format!("{name} exited with code {code}")),
        (VerificationState::Failed, None) => Some(format!("{name} could not be started")),
        (VerificationState::Pending | VerificationState::Running | VerificationState::Interrupted, _) => {
            Some(format!("{name} did not run to its end"))
        }
    }
}

#[cfg(test)]
mod tests;
