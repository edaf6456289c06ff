use super::*;

fn command(name: &str) -> VerificationCommand {
    VerificationCommand { name: name.into(), command: "true".into(), timeout_seconds: 60 }
}

fn result(name: &str, state: VerificationState, exit_code: Option<i32>) -> VerificationResult {
    VerificationResult { state, exit_code, ..pending(&command(name)) }
}

#[test]
fn the_work_is_good_when_every_command_passed() {
    let commands = [command("test"), command("lint")];
    let passed = |name| result(name, VerificationState::Passed, Some(0));
    let outcome = verdict("fix-1", &commands, &[passed("test"), passed("lint")], "I mended it.");
    assert_eq!((outcome.reason, outcome.message.as_str()), (Reason::Completed, "I mended it."));
}

#[test]
fn every_command_that_did_not_pass_is_told_of() {
    let commands = [command("test"), command("lint"), command("build"), command("gone")];
    let results = [
        result("test", VerificationState::Failed, Some(3)),
        result("lint", VerificationState::TimedOut, None),
        result("build", VerificationState::Passed, Some(0)),
        result("gone", VerificationState::Failed, None),
    ];
    let outcome = verdict("fix-1", &commands, &results, "I mended it.");
    assert_eq!(outcome.reason, Reason::VerificationFailed);
    let told =
        "test exited with code 3; lint ran longer than its timeoutSeconds (60); gone could not be started.";
    assert!(outcome.message.contains(told), "{}", outcome.message);
    assert!(outcome.message.contains("AgentAttempt fix-1"), "{}", outcome.message);
}

#[test]
fn what_has_not_ended_is_interrupted_and_what_has_stays() {
    for (before, after) in [
        (VerificationState::Pending, VerificationState::Interrupted),
        (VerificationState::Running, VerificationState::Interrupted),
        (VerificationState::Passed, VerificationState::Passed),
        (VerificationState::Failed, VerificationState::Failed),
        (VerificationState::TimedOut, VerificationState::TimedOut),
    ] {
        assert_eq!(closed(result("test", before, None)).state, after);
    }
}
