//! The agent's side of the sandbox.
//!
//! A [`Sandbox`] is a handle on one supervisor. A task behind it owns the connection, makes it again when it ends, and
//! sees to it that nothing is run twice and nothing unknown passes for success: a request whose answer was lost is sent
//! again only because its repetition is harmless (an operation's id, a position, an image before and after make it so),
//! output that was missed is read again, and an end counts only with its record and digests.
//!
//! A process belongs to one *boot* of the supervisor. Callers name the boot that they mean, as they wrote it into their
//! journal before, and are told [`Outcome::Interrupted`] or [`SandboxError::Restarted`] when there is another.

mod converse;
mod dial;
mod edit;
mod observe;
mod outcome;
mod process;
mod proxy;
mod session;
mod token;
mod transcript;
mod wire;

pub use dial::{ChildDial, Dial, DialError, PodDial, Transport};
pub use edit::{Edit, NewFile};
pub use outcome::{Boot, Ended, Known, Link, Observation, Outcome, SandboxError};
pub use podwright_sandboxd::protocol;
pub use proxy::{Guest, GuestStream};
pub use token::TokenFile;
pub use transcript::Delta;

use std::sync::Arc;
use std::time::Duration;

use podwright_sandboxd::protocol::{
    Acknowledge, BootId, Bytes, CHUNK_MAX, ErrorCode, Network, OpId, PhaseBegin, PhaseBeginResult, PhaseEnd,
    PhaseEndResult, Request, RpcError, Start, StartResult, Terminate, Write,
};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

use proxy::Lanes;
use session::{CallError, Command, Session, Shared};

/// Time for an answer while the connection is alive. The slowest request hashes the files of a patch; a phase's end
/// may take longer and is asked for again.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);

/// Time that a write waits for a process that does not read its input.
const WRITE_PATIENCE: Duration = Duration::from_secs(10);

/// Pause before input is offered again to a process that had enough.
const WRITE_PAUSE: Duration = Duration::from_millis(20);

/// A handle on the sandbox. Cheap to clone; the connection ends with the last one.
#[derive(Debug, Clone)]
pub struct Sandbox {
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
    guests: Arc<Mutex<mpsc::Receiver<Guest>>>,
}

/// How to connect.
#[derive(Debug, Clone)]
pub struct Options {
    /// Who connects, for the supervisor's log.
    pub client_name: String,
    /// Where the boot's token is kept.
    pub tokens: TokenFile,
    /// Time for the first connection: as long as the sandbox's image may take to come.
    pub first_within: Duration,
    /// Time without a connection, later on, after which the sandbox is given up: more than the kubelet's longest pause
    /// between two starts of a container (5 minutes).
    pub give_up_after: Duration,
}

impl Sandbox {
    /// Begins to connect, in a task of the current runtime.
    pub fn connect(dial: impl Dial, options: Options) -> Self {
        let (sender, commands) = mpsc::channel(session::QUEUE);
        let (lanes, guests) = Lanes::new();
        let shared = Arc::new(Shared::new(lanes));
        let session = Session {
            dial,
            tokens: options.tokens,
            client_name: options.client_name,
            first_within: options.first_within,
            give_up_after: options.give_up_after,
            shared: shared.clone(),
            commands,
        };
        tokio::spawn(session.run());
        Self { commands: sender, shared, guests: Arc::new(Mutex::new(guests)) }
    }

    /// State of the connection, to be watched.
    pub fn link(&self) -> watch::Receiver<Link> {
        self.shared.link.subscribe()
    }

    /// Waits until there is a connection.
    ///
    /// # Errors
    /// [`SandboxError::Lost`] when the sandbox was given up.
    pub async fn ready(&self) -> Result<Boot, SandboxError> {
        let mut link = self.shared.link.subscribe();
        let settled = link.wait_for(|link| !matches!(link, Link::Connecting(_))).await;
        match settled.as_deref() {
            Ok(Link::Up(boot)) => Ok(boot.clone()),
            Ok(Link::Lost(reason)) => Err(SandboxError::Lost(reason.clone())),
            Ok(Link::Connecting(_)) | Err(_) => {
                Err(SandboxError::Lost("the connection's task is gone".into()))
            }
        }
    }

    /// Waits for the next connection of a command to the proxy, in a phase that has one. Whoever waits has one after the
    /// other; those that nobody takes wait.
    pub async fn next_guest(&self) -> Option<Guest> {
        self.guests.lock().await.recv().await
    }

    /// Opens a phase: commands can run until it ends. Safe to repeat.
    ///
    /// # Errors
    /// [`ErrorCode::Unconfinable`] when the kernel offers too little; see [`SandboxError`].
    pub async fn begin_phase(
        &self,
        boot: &BootId,
        phase: OpId,
        network: Network,
    ) -> Result<PhaseBeginResult, SandboxError> {
        self.call_until_answered(PhaseBegin { phase, network }, Some(boot)).await
    }

    /// Ends a phase: every process is killed and temporary files are wiped, the connection is lost and made again.
    /// Safe to repeat.
    ///
    /// # Errors
    /// See [`SandboxError`]. After [`SandboxError::Restarted`] the processes are gone as well, but files in memory
    /// that outlive a container's restart (`/dev/shm`) may be there still.
    pub async fn end_phase(&self, boot: &BootId, phase: OpId) -> Result<PhaseEndResult, SandboxError> {
        self.call_until_answered(PhaseEnd { phase }, Some(boot)).await
    }

    /// Runs a command once in this boot, however often this is called with the same operation; an operation that is
    /// known is found again. `seen` is the position where the next [`Sandbox::observe`] begins: 0 but for an agent that
    /// was restarted.
    ///
    /// # Errors
    /// [`SandboxError::Restarted`] when the boot is another: then nobody knows whether it ran.
    /// [`ErrorCode::LaunchFailed`] when it could not be started, [`ErrorCode::OpConflict`] when the operation is known
    /// with other parameters.
    pub async fn start(&self, boot: &BootId, command: Start, seen: u64) -> Result<StartResult, SandboxError> {
        // Before the request, since its output may arrive before its answer.
        let new = self.shared.processes().follow(&command.process_id, boot, seen);
        let id = command.process_id.clone();
        if command.pipe_stdin {
            self.shared.processes().converse(&id);
        }
        let started = self.call_until_answered(command, Some(boot)).await;
        if new && matches!(started, Err(SandboxError::Refused(_) | SandboxError::TooLarge(_))) {
            self.shared.processes().forget(&id);
        }
        if matches!(&started, Ok(result) if result.existing) {
            self.find_end(&id).await?;
        }
        started
    }

    /// Writes input at a position and returns the position of the next byte, which is lower than expected when the
    /// process did not read for 10 s. Repeating a write at its position writes nothing twice.
    ///
    /// # Errors
    /// [`ErrorCode::StdinClosed`] and [`ErrorCode::UnknownProcess`] among [`SandboxError`]'s.
    pub async fn write(&self, id: &OpId, seq: u64, bytes: &[u8], close: bool) -> Result<u64, SandboxError> {
        let boot = self.boot_of(id)?;
        let end = seq + bytes.len() as u64;
        let patience = Instant::now() + WRITE_PATIENCE;
        let mut next = seq;
        loop {
            let rest =
                usize::try_from(next.saturating_sub(seq)).ok().and_then(|at| bytes.get(at..)).unwrap_or(&[]);
            let (chunk, more) = rest.split_at(rest.len().min(CHUNK_MAX));
            let close = close && more.is_empty();
            let request = Write { process_id: id.clone(), seq: next, chunk: Bytes(chunk.to_vec()), close };
            let accepted = self.call_until_answered(request, Some(&boot)).await?.next_seq;
            let taken = accepted >= next + chunk.len() as u64;
            next = accepted.max(next);
            if next >= end && taken {
                return Ok(next);
            }
            if !taken {
                if Instant::now() >= patience {
                    return Ok(next);
                }
                sleep(WRITE_PAUSE).await;
            }
        }
    }

    /// Asks a command and all that it started to end; what has not ended after 2 s is killed. Returns whether it ran.
    ///
    /// # Errors
    /// See [`SandboxError`].
    pub async fn terminate(&self, id: &OpId) -> Result<bool, SandboxError> {
        let boot = self.boot_of(id)?;
        let result = self.call_until_answered(Terminate { process_id: id.clone() }, Some(&boot)).await?;
        Ok(result.running)
    }

    /// Lets the supervisor forget an ended command, once its record is stored. Safe to repeat; after a restart there is
    /// nothing to forget.
    ///
    /// # Errors
    /// See [`SandboxError`].
    pub async fn acknowledge(&self, boot: &BootId, id: &OpId) -> Result<(), SandboxError> {
        match self.call_until_answered(Acknowledge { process_id: id.clone() }, Some(boot)).await {
            Ok(_) | Err(SandboxError::Restarted { .. }) => {
                self.shared.processes().forget(id);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Sends a request and waits for its answer, over as many connections as it takes. Only for requests whose
    /// repetition is harmless, which all of the protocol's are.
    async fn call_until_answered<R>(
        &self,
        request: R,
        boot: Option<&BootId>,
    ) -> Result<R::Response, SandboxError>
    where
        R: Request + Clone + Send + 'static,
    {
        loop {
            let now = self.ready().await?;
            match self.call_once(request.clone(), boot.cloned()).await {
                Ok(response) => return Ok(response),
                Err(CallError::Disconnected) => self.leave(&now).await,
                Err(CallError::Restarted(boot)) => return Err(SandboxError::Restarted { boot }),
                Err(CallError::Refused(error)) => return Err(SandboxError::Refused(error)),
                Err(CallError::Strange(reason)) => return Err(SandboxError::Lost(reason)),
                Err(CallError::TooLarge(error)) => return Err(error.into()),
            }
        }
    }

    async fn call_once<R>(&self, request: R, boot: Option<BootId>) -> Result<R::Response, CallError>
    where
        R: Request + Send + 'static,
    {
        let (command, answered) = Command::new(request, boot);
        self.commands.send(command).await.map_err(|_| CallError::Disconnected)?;
        let late = || CallError::Strange(format!("{} was not answered within {ANSWER_WITHIN:?}", R::METHOD));
        let answer = timeout(ANSWER_WITHIN, answered).await.map_err(|_| late())?;
        let result = answer.map_err(|_| CallError::Disconnected)??;
        serde_json::from_str(result.get())
            .map_err(|error| CallError::Strange(format!("a strange answer to {}: {error}", R::METHOD)))
    }

    /// Waits until the connection is another than this one.
    async fn leave(&self, boot: &Boot) {
        let mut link = self.shared.link.subscribe();
        // The task being gone is seen by whoever asks next.
        let _ = link.wait_for(|link| !matches!(link, Link::Up(up) if up == boot)).await;
    }

    /// The boot of a command that is followed.
    fn boot_of(&self, id: &OpId) -> Result<BootId, SandboxError> {
        let boot = self.shared.processes().get(id).map(|followed| followed.boot.clone());
        let unknown =
            || RpcError::new(ErrorCode::UnknownProcess, format!("operation {id} was not started here"));
        boot.ok_or_else(|| SandboxError::Refused(unknown()))
    }
}
