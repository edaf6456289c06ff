//! How often statuses are written, and what comes of those that the API server does not take. The clock is tokio's
//! own, which jumps to the next timer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::*;
use crate::api::attempt::{PatchFlag, PatchFlagKind, SkippedPath};
use crate::api::reasons::Reason;
use crate::artifacts::Encoded;

type Answer = Arc<dyn Fn(&AgentAttemptStatus) -> Option<u16> + Send + Sync>;

/// An API server that keeps what it takes, with the second in which it came.
#[derive(Clone)]
struct Api {
    answer: Arc<Mutex<Answer>>,
    taken: Arc<Mutex<Vec<(u64, AgentAttemptStatus)>>>,
    tries: Arc<Mutex<u32>>,
    born: Instant,
}

impl Api {
    fn new() -> Self {
        let answer: Answer = Arc::new(|_| None);
        let answer = Arc::new(Mutex::new(answer));
        Self { answer, taken: Arc::default(), tries: Arc::default(), born: Instant::now() }
    }

    /// From now on statuses are refused with the code that `answer` gives.
    fn refuse(&self, answer: impl Fn(&AgentAttemptStatus) -> Option<u16> + Send + Sync + 'static) {
        *self.answer.lock().unwrap() = Arc::new(answer);
    }

    fn seconds(&self) -> Vec<u64> {
        self.taken.lock().unwrap().iter().map(|(second, _)| *second).collect()
    }

    fn newest(&self) -> AgentAttemptStatus {
        self.taken.lock().unwrap().last().unwrap().1.clone()
    }
}

impl Cluster for Api {
    async fn secret(&self, _: &str) -> Result<BTreeMap<String, Vec<u8>>, ClusterError> {
        Ok(BTreeMap::new())
    }

    async fn config_map_value(&self, _: &str, _: &str) -> Result<Option<String>, ClusterError> {
        Ok(None)
    }

    async fn config_map_bytes(&self, _: &str, _: &str) -> Result<Option<Vec<u8>>, ClusterError> {
        Ok(None)
    }

    async fn write_status(&self, status: &AgentAttemptStatus) -> Result<(), ClusterError> {
        *self.tries.lock().unwrap() += 1;
        let answer = Arc::clone(&self.answer.lock().unwrap());
        if let Some(code) = answer(status) {
            return Err(ClusterError::Refused { what: "status".into(), code, message: "no".into() });
        }
        self.taken.lock().unwrap().push((self.born.elapsed().as_secs(), status.clone()));
        Ok(())
    }

    async fn put_artifact(&self, _: &str, _: &str, _: &Encoded) -> Result<ArtifactRef, ClusterError> {
        Ok(ArtifactRef::default())
    }

    async fn sandbox_ran_out_of_memory(&self) -> bool {
        false
    }
}

fn reporter(api: &Api) -> (Reporter, watch::Receiver<Option<ClusterError>>) {
    let (sender, refused) = watch::channel(None);
    (Reporter::new(api.clone(), sender), refused)
}

fn working(step: i64) -> AgentAttemptStatus {
    AgentAttemptStatus { phase: Some(Phase::Running), step, ..AgentAttemptStatus::default() }
}

async fn let_pass(seconds: u64) {
    sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn progress_is_written_every_15_s_and_later_every_minute() {
    let api = Api::new();
    let (mut reporter, _refused) = reporter(&api);
    for second in 0..900 {
        reporter.say(&working(second), Timestamp::UNIX_EPOCH);
        let_pass(1).await;
    }
    let seconds = api.seconds();
    let pauses: Vec<u64> = seconds.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(seconds[0], 0);
    assert!(pauses[..40].iter().all(|pause| *pause == 15), "{seconds:?}");
    assert!(pauses[40..].iter().all(|pause| *pause == 60) && pauses.len() > 43, "{seconds:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_acted_on_is_written_at_once_and_nothing_new_never() {
    let api = Api::new();
    let (mut reporter, _refused) = reporter(&api);
    reporter.say(&working(1), Timestamp::UNIX_EPOCH);
    let_pass(2).await;
    reporter.say(&working(2), Timestamp::UNIX_EPOCH);
    let_pass(1).await;
    let heard = AgentAttemptStatus { inbox_seq: 1, ..working(2) };
    reporter.say(&heard, Timestamp::UNIX_EPOCH);
    let_pass(1).await;
    assert_eq!(api.seconds(), [0, 3]);
    let later = AgentAttemptStatus { active_seconds: 100, ..heard };
    for _ in 0..100 {
        reporter.say(&later, Timestamp::UNIX_EPOCH);
        let_pass(1).await;
    }
    assert_eq!(api.seconds(), [0, 3], "the passing of time is no news");
    // The end waits for its own write, whatever was written just before.
    reporter.say(&working(3), Timestamp::UNIX_EPOCH);
    reporter.say(&AgentAttemptStatus { phase: Some(Phase::Ended), ..working(3) }, Timestamp::UNIX_EPOCH);
    assert!(reporter.flush(Duration::from_secs(1)).await);
    assert_eq!(api.newest().phase, Some(Phase::Ended));
}

#[tokio::test(start_paused = true)]
async fn a_passing_refusal_of_rights_is_lived_through() {
    for code in [401, 403, 405] {
        let api = Api::new();
        let (mut reporter, refused) = reporter(&api);
        api.refuse(move |_| Some(code));
        reporter.say(&working(1), Timestamp::UNIX_EPOCH);
        let_pass(14).await;
        api.refuse(|_| None);
        reporter.say(&working(2), Timestamp::UNIX_EPOCH);
        assert!(reporter.flush(Duration::from_secs(10)).await);
        assert_eq!(api.newest().step, 2);
        // A later refusal counts from its own beginning.
        api.refuse(move |_| Some(code));
        reporter.say(&working(3), Timestamp::UNIX_EPOCH);
        let_pass(30).await;
        assert!(refused.borrow().is_none(), "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lasting_refusal_of_rights_and_a_missing_attempt_end_the_agent() {
    for (code, after) in [(401, 20), (403, 20), (404, 0)] {
        let api = Api::new();
        let (mut reporter, mut refused) = reporter(&api);
        api.refuse(move |_| Some(code));
        reporter.say(&working(1), Timestamp::UNIX_EPOCH);
        refused.changed().await.unwrap();
        assert!(
            matches!(&*refused.borrow(), Some(ClusterError::Refused { code: found, .. }) if *found == code)
        );
        assert_eq!(api.born.elapsed().as_secs(), after, "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_status_whose_texts_are_refused_is_written_without_them() {
    for code in [400, 413, 422] {
        let api = Api::new();
        let (mut reporter, refused) = reporter(&api);
        api.refuse(move |status| (!status.log_tail.is_empty()).then_some(code));
        let outcome = Outcome { reason: Reason::Completed, message: "Done.".into() };
        let path = || "a".to_owned();
        let patch = PatchSummary {
            inline: Some("diff".into()),
            files: 3,
            sha256: "abc".into(),
            flags: vec![PatchFlag { kind: PatchFlagKind::TouchedBySetup, path: path() }],
            skipped: vec![SkippedPath { path: path(), reason: "odd".into() }],
            paths: vec![path()],
            ..PatchSummary::default()
        };
        let status = AgentAttemptStatus {
            phase: Some(Phase::Ended),
            outcome: Some(outcome),
            inbox_seq: 7,
            active_seconds: 60,
            log_tail: "odd".into(),
            patch: Some(patch),
            ..working(5)
        };
        reporter.say(&status, Timestamp::UNIX_EPOCH);
        assert!(reporter.flush(Duration::from_secs(1)).await, "{code}");
        let written = api.newest();
        assert_eq!(written.outcome.as_ref().unwrap().reason, Reason::Completed);
        assert_eq!((written.phase, written.inbox_seq), (Some(Phase::Ended), 7));
        assert_eq!((written.step, written.active_seconds), (5, 60));
        let kept = PatchSummary { files: 3, sha256: "abc".into(), ..PatchSummary::default() };
        assert_eq!(written.patch, Some(kept), "its figures, by which the artifact is checked");
        assert_eq!(*api.tries.lock().unwrap(), 2, "the refused one is not repeated");
        assert!(refused.borrow().is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_status_that_is_refused_even_without_texts_is_tried_again_slowly() {
    let api = Api::new();
    let (mut reporter, refused) = reporter(&api);
    api.refuse(|_| Some(422));
    reporter.say(&working(1), Timestamp::UNIX_EPOCH);
    let_pass(60).await;
    assert!((20..=26).contains(&*api.tries.lock().unwrap()));
    assert!(refused.borrow().is_none());
    api.refuse(|_| None);
    assert!(reporter.flush(Duration::from_secs(10)).await);
}
