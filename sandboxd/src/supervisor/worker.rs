//! A thread for work that may take long, so that the poll loop never does.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::{io, thread};

/// Jobs that wait: the client has a handful of requests in flight, and there are as many processes to kill.
const WAITING: usize = 64;

/// A thread that does one job after the other.
#[derive(Debug)]
pub(super) struct Worker<Job, Done> {
    jobs: SyncSender<Job>,
    done: Receiver<Done>,
}

impl<Job: Send + 'static, Done: Send + 'static> Worker<Job, Done> {
    /// Starts the thread. It adds 1 to `wake`, an event counter, after each job.
    pub(super) fn start(
        name: &str,
        wake: Arc<OwnedFd>,
        mut perform: impl FnMut(Job) -> Done + Send + 'static,
    ) -> io::Result<Self> {
        let (jobs, waiting) = sync_channel(WAITING);
        // Rounds up to what may be done and not yet looked at, so that the thread never waits to report.
        let (report, done) = sync_channel(WAITING + 2);
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            for job in waiting {
                if report.send(perform(job)).is_err() {
                    return;
                }
                // Fails only when the counter is at its limit, and then the loop is woken already.
                let _ = rustix::io::write(&*wake, &1_u64.to_ne_bytes());
            }
        })?;
        Ok(Self { jobs, done })
    }

    /// Hands over a job; gives it back when too many wait.
    pub(super) fn submit(&self, job: Job) -> Result<(), Job> {
        self.jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(job) | TrySendError::Disconnected(job) => job,
        })
    }

    /// The next finished job.
    pub(super) fn finished(&self) -> Option<Done> {
        self.done.try_recv().ok()
    }
}
