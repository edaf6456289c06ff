//! Messages between the supervisor and a nursery: a length, JSON, and descriptors beside them.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::terminals::TERMINALS;
use crate::confine::{Launch, Policy, Support};

/// From the supervisor.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// Once, first: what to become. With it come the devices of the phase's terminals.
    Confine(Policy, Support),
    /// Prepare this, to be started by a word on a pipe of its own. With it come the descriptors of
    /// [`super::shim::Descriptors`].
    Launch(Launch),
}

/// From the nursery, one for each request.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Response {
    /// It is confined. With it comes the descriptor of the notifications.
    Confined,
    /// It is not, and has ended.
    Refused(String),
    /// The process number of the command's subreaper, which waits for the word to begin.
    Prepared(i32),
    /// There is no such process.
    Failed(Failure),
}

/// Why a command was not prepared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Failure {
    /// The request itself is wrong.
    Invalid(Invalid),
    /// No process could be made, by this error number.
    Fork(i32),
}

/// What is wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Invalid {
    /// No program.
    Empty,
    /// A NUL byte in an argument, a variable or the directory.
    Nul,
    /// An empty variable name or one with `=` in it.
    Variable,
}

/// Room for the largest command: the kernel takes arguments and environment up to a quarter of the stack, 2 MiB by
/// default, and JSON may double it.
const MAX_MESSAGE: usize = 4 << 20;

/// The most descriptors beside one message: the terminals of [`Request::Confine`].
const MAX_DESCRIPTORS: usize = TERMINALS;

/// Sends a message.
pub(super) fn send(stream: &UnixStream, message: &impl Serialize, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let body = serde_json::to_vec(message)?;
    let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= MAX_MESSAGE);
    let Some(length) = length else { return Err(io::Error::from(io::ErrorKind::FileTooLarge)) };
    let head = length.to_le_bytes();

    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    // The descriptors travel with the first byte; four bytes are never split by a stream socket with room for them.
    let sent = sendmsg(stream, &[IoSlice::new(&head)], &mut control, SendFlags::NOSIGNAL)?;
    let mut stream = stream;
    stream.write_all(&head[sent..])?;
    stream.write_all(&body)
}

/// Receives a message and its descriptors.
pub(super) fn receive<M: DeserializeOwned>(stream: &UnixStream) -> io::Result<(M, Vec<OwnedFd>)> {
    let mut head = [0; 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received =
        recvmsg(stream.as_fd(), &mut [IoSliceMut::new(&mut head)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    if received.bytes == 0 {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
    }
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    let mut stream = stream;
    stream.read_exact(&mut head[received.bytes..])?;
    let length = u32::from_le_bytes(head) as usize;
    if length > MAX_MESSAGE {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok((serde_json::from_slice(&body)?, fds))
}
