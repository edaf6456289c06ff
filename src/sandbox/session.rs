//! The task that owns the connection, and makes it again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use podwright_sandboxd::protocol::{
    BootId, EncodeError, ErrorCode, Hello, Initialize, InitializeResult, Notice, PROTOCOL_VERSION, Request,
    RpcError, ServerFrame, ServerNotice, encode_notice, encode_request,
};
use serde_json::value::RawValue;
use tokio::select;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout};

use super::dial::{Dial, DialError};
use super::outcome::{Boot, Link};
use super::process::Processes;
use super::proxy::Lanes;
use super::token::TokenFile;
use super::wire::{End, Wire};

/// Requests that wait to be sent. Callers wait for room beyond it.
pub(super) const QUEUE: usize = 64;

/// Requests sent and not answered; no more are sent then.
const PENDING_MAX: usize = 256;

/// Time for one attempt to open a stream, and for the greeting on it.
const DIAL_WITHIN: Duration = Duration::from_secs(10);
const GREET_WITHIN: Duration = Duration::from_secs(10);

/// Pauses between attempts: short at first, since a pod's container is usually there within a second and everything
/// waits for it; then doubled up to the last.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_LAST: Duration = Duration::from_secs(2);
const QUICK_ATTEMPTS: u32 = 20;

/// Why a request has no answer.
#[derive(Debug)]
pub(super) enum CallError {
    /// The connection ended before the answer came: the request may or may not have been carried out.
    Disconnected,
    /// The request was meant for an earlier boot, and was not sent.
    Restarted(BootId),
    /// The supervisor refused.
    Refused(RpcError),
    /// The connection is alive, but the answer did not come or makes no sense.
    Strange(String),
    /// It does not fit a frame.
    TooLarge(EncodeError),
}

/// A request on its way to the task.
pub(super) struct Command {
    encode: Box<dyn FnOnce(u64) -> Result<Vec<u8>, EncodeError> + Send>,
    boot: Option<BootId>,
    /// Nobody waits for the answer to a notice.
    answer: Option<Sender>,
}

type Sender = oneshot::Sender<Result<Box<RawValue>, CallError>>;

/// What the task and the handles share.
#[derive(Debug)]
pub(super) struct Shared {
    processes: Mutex<Processes>,
    /// Connections of commands to the proxy.
    pub(super) lanes: Arc<Lanes>,
    pub(super) link: watch::Sender<Link>,
    /// Changes whenever a process has ended.
    pub(super) exits: watch::Sender<u64>,
    /// Changes whenever output has arrived.
    pub(super) arrivals: watch::Sender<u64>,
}

/// The task's own.
pub(super) struct Session<D> {
    pub(super) dial: D,
    pub(super) tokens: TokenFile,
    pub(super) client_name: String,
    pub(super) first_within: Duration,
    pub(super) give_up_after: Duration,
    pub(super) shared: Arc<Shared>,
    pub(super) commands: mpsc::Receiver<Command>,
}

enum Failure {
    /// Another attempt may help.
    Again(String),
    /// None will.
    Final(String),
}

impl Command {
    /// A request, and where its answer will be. With a boot, it is sent to that boot alone.
    pub(super) fn new<R: Request + Send + 'static>(
        params: R,
        boot: Option<BootId>,
    ) -> (Self, oneshot::Receiver<Result<Box<RawValue>, CallError>>) {
        let (answer, answered) = oneshot::channel();
        (
            Self { encode: Box::new(move |id| encode_request(id, &params)), boot, answer: Some(answer) },
            answered,
        )
    }

    /// A notice, which matters to the current connection alone.
    pub(super) fn notice<N: Notice + Send + 'static>(params: N) -> Self {
        Self { encode: Box::new(move |_| encode_notice(&params)), boot: None, answer: None }
    }
}

impl Shared {
    pub(super) fn new(lanes: Lanes) -> Self {
        Self {
            processes: Mutex::default(),
            lanes: Arc::new(lanes),
            link: watch::Sender::new(Link::Connecting(None)),
            exits: watch::Sender::new(0),
            arrivals: watch::Sender::new(0),
        }
    }

    pub(super) fn processes(&self) -> MutexGuard<'_, Processes> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<D: Dial> Session<D> {
    /// Connects again and again, until every handle is gone or it is of no use any more.
    pub(super) async fn run(mut self) {
        let mut patience = self.first_within;
        loop {
            let (wire, boot) = match self.connect(patience).await {
                Ok(connected) => connected,
                Err(reason) => {
                    self.shared.link.send_replace(Link::Lost(reason));
                    return;
                }
            };
            patience = self.give_up_after;
            self.shared.link.send_replace(Link::Up(boot.clone()));
            match self.serve(wire, &boot).await {
                Some(end) => {
                    tracing::info!(boot = %boot.id, stream = boot.stream, reason = %end, "sandbox disconnected");
                    self.shared.link.send_replace(Link::Connecting(Some(end.to_string())));
                }
                None => return,
            }
        }
    }

    /// Makes a connection, however many attempts it takes within the time.
    async fn connect(&self, patience: Duration) -> Result<(Wire, Boot), String> {
        let begun = Instant::now();
        let mut pause = PAUSE_FIRST;
        for attempt in 1_u32.. {
            let reason = match self.connect_once().await {
                Ok(connected) => return Ok(connected),
                Err(Failure::Final(reason)) => return Err(reason),
                Err(Failure::Again(reason)) => reason,
            };
            if self.commands.is_closed() {
                return Err("nobody uses it any more".into());
            }
            if begun.elapsed() + pause > patience {
                return Err(format!("not reached within {} s: {reason}", patience.as_secs()));
            }
            tracing::debug!(attempt, %reason, "sandbox not reached");
            self.shared.link.send_replace(Link::Connecting(Some(reason)));
            sleep(pause).await;
            if attempt >= QUICK_ATTEMPTS {
                pause = (pause * 2).min(PAUSE_LAST);
            }
        }
        Err("not reached".into())
    }

    async fn connect_once(&self) -> Result<(Wire, Boot), Failure> {
        let dialled = timeout(DIAL_WITHIN, self.dial.dial()).await;
        let late =
            || Failure::Again(format!("the exec stream did not open within {} s", DIAL_WITHIN.as_secs()));
        let transport = dialled.map_err(|_| late())?.map_err(|DialError(reason)| Failure::Again(reason))?;
        let mut wire = Wire::new(transport, self.shared.lanes.clone());
        let greeted = timeout(GREET_WITHIN, self.greet(&mut wire)).await;
        let late = || Failure::Again(format!("no greeting within {} s", GREET_WITHIN.as_secs()));
        match greeted.unwrap_or_else(|_| Err(late())) {
            Ok(boot) => Ok((wire, boot)),
            Err(failure) => {
                wire.close().await;
                Err(failure)
            }
        }
    }

    /// Learns which boot it is, and authenticates with that boot's token.
    async fn greet(&self, wire: &mut Wire) -> Result<Boot, Failure> {
        const REQUEST: u64 = 0;
        let Hello { protocol_version, boot_id } = match next_frame(wire).await? {
            ServerFrame::Notice(ServerNotice::Hello(hello)) => hello,
            ServerFrame::Response { .. } | ServerFrame::Notice(_) => {
                return Err(Failure::Again("the supervisor did not say hello".into()));
            }
        };
        if protocol_version != PROTOCOL_VERSION {
            return Err(Failure::Final(format!(
                "the supervisor speaks version {protocol_version} and the agent {PROTOCOL_VERSION}; \
                 both have to come from one release"
            )));
        }
        let (tokens, boot) = (self.tokens.clone(), boot_id.clone());
        let token = tokio::task::spawn_blocking(move || tokens.token_for(&boot)).await;
        let token = token
            .map_err(std::io::Error::other)
            .and_then(|token| token)
            .map_err(|error| Failure::Again(format!("the sandbox's token cannot be kept: {error}")))?;
        let request = Initialize {
            protocol_version,
            client_name: self.client_name.clone(),
            boot_id: boot_id.clone(),
            token,
        };
        let line = encode_request(REQUEST, &request).map_err(|error| Failure::Final(error.to_string()))?;
        wire.queue(&line);
        loop {
            match next_frame(wire).await? {
                ServerFrame::Response { id: REQUEST, result: Ok(result) } => {
                    let result: InitializeResult = serde_json::from_str(result.get()).map_err(|error| {
                        Failure::Again(format!("a strange answer to initialize: {error}"))
                    })?;
                    let InitializeResult { stream, profile, phase } = result;
                    return Ok(Boot { id: boot_id, stream, profile, phase });
                }
                ServerFrame::Response { id: REQUEST, result: Err(error) } => {
                    let lasting = matches!(error.code, ErrorCode::Unauthorized | ErrorCode::VersionMismatch);
                    let failure = if lasting { Failure::Final } else { Failure::Again };
                    return Err(failure(error.message));
                }
                ServerFrame::Response { .. } | ServerFrame::Notice(_) => {}
            }
        }
    }

    /// Serves the connection until it ends. `None` when every handle is gone.
    async fn serve(&mut self, mut wire: Wire, boot: &Boot) -> Option<End> {
        let mut pending: HashMap<u64, Sender> = HashMap::new();
        let mut next = 1_u64;
        let end = loop {
            select! {
                line = wire.next_line() => {
                    let frame = line.and_then(|line| {
                        ServerFrame::decode(&line).map_err(|error| End::Protocol(error.message))
                    });
                    match frame {
                        Ok(frame) => {
                            if let Err(end) = self.take_frame(frame, boot, &mut pending, &mut wire) {
                                break Some(end);
                            }
                        }
                        Err(end) => break Some(end),
                    }
                }
                command = self.commands.recv(), if wire.has_room() && pending.len() < PENDING_MAX => {
                    let Some(command) = command else { break None };
                    send(command, next, boot, &mut pending, &mut wire);
                    next += 1;
                }
            }
        };
        for (_, answer) in pending {
            // The caller may have stopped waiting.
            let _ = answer.send(Err(CallError::Disconnected));
        }
        self.shared.lanes.reset();
        wire.close().await;
        end
    }

    fn take_frame(
        &self,
        frame: ServerFrame,
        boot: &Boot,
        pending: &mut HashMap<u64, Sender>,
        wire: &mut Wire,
    ) -> Result<(), End> {
        let lanes = &self.shared.lanes;
        match frame {
            ServerFrame::Response { id, result } => {
                if let Some(answer) = pending.remove(&id) {
                    // The caller may have stopped waiting.
                    let _ = answer.send(result.map_err(CallError::Refused));
                }
            }
            ServerFrame::Notice(ServerNotice::ProxyOpened(opened)) => lanes.opened(opened),
            ServerFrame::Notice(ServerNotice::ProxyData(data)) => {
                if !lanes.data(data) {
                    return Err(End::Protocol("bytes of a connection that do not follow".into()));
                }
            }
            ServerFrame::Notice(ServerNotice::ProxyAck(ack)) => lanes.ack(ack),
            ServerFrame::Notice(ServerNotice::ProxyClosed(closed)) => lanes.closed(closed),
            ServerFrame::Notice(notice) => {
                let noticed = self.shared.processes().notice(&boot.id, notice);
                if let Some(Ok(line)) = noticed.ack.map(|ack| encode_notice(&ack)) {
                    wire.queue(&line);
                }
                if noticed.exited {
                    self.shared.exits.send_modify(|count| *count += 1);
                }
                if noticed.arrived {
                    self.shared.arrivals.send_modify(|count| *count += 1);
                }
            }
        }
        Ok(())
    }
}

fn send(command: Command, id: u64, boot: &Boot, pending: &mut HashMap<u64, Sender>, wire: &mut Wire) {
    let Command { encode, boot: meant, answer } = command;
    let refused = match encode(id) {
        _ if meant.is_some_and(|meant| meant != boot.id) => CallError::Restarted(boot.id.clone()),
        Err(error) => CallError::TooLarge(error),
        Ok(line) => {
            wire.queue(&line);
            pending.extend(answer.map(|answer| (id, answer)));
            return;
        }
    };
    if let Some(answer) = answer {
        // The caller may have stopped waiting.
        let _ = answer.send(Err(refused));
    }
}

async fn next_frame(wire: &mut Wire) -> Result<ServerFrame, Failure> {
    let line = wire.next_line().await.map_err(|end| Failure::Again(end.to_string()))?;
    ServerFrame::decode(&line).map_err(|error| Failure::Again(error.message))
}
