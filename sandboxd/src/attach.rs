//! `podwright-sandboxd attach`: joins an exec stream to the supervisor.
//!
//! Runs as a process that was put into the container by exec. It reads nothing of the container, takes no argument
//! (arguments are visible to every command through `/proc`) and ends as soon as either side does.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::thread;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use crate::confine::sys::init as sys;
use crate::protocol::{FRAME_MAX, SOCKET_NAME};

/// Why the two could not be joined.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// Nobody listens: the supervisor is starting or ending.
    #[error("cannot reach the supervisor: {0}")]
    Unreachable(#[source] io::Error),
    /// Somebody else listens under the supervisor's name.
    #[error("process {0} listens in the supervisor's place")]
    Impostor(i32),
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
}

/// Joins standard input and output to the supervisor until one of them ends.
///
/// # Errors
/// [`AttachError`] when they cannot be joined; an end of either side is none.
pub fn attach() -> Result<(), AttachError> {
    // The stream carries the token: no command may look into this process.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(unreachable)?;
    let socket = dial()?;
    let reader = UnixStream::from(socket);
    let writer = reader.try_clone().map_err(AttachError::Unreachable)?;
    thread::Builder::new()
        .name("to-supervisor".into())
        .spawn(move || {
            // However the input ends, the supervisor sees the end, and its answer ends the process.
            let _ = copy(&mut io::stdin().lock(), &mut &writer);
            let _ = writer.shutdown(Shutdown::Both);
        })
        .map_err(AttachError::Thread)?;
    // A reader that has gone away is an end like any other.
    let _ = copy(&mut &reader, &mut io::stdout().lock());
    Ok(())
}

fn dial() -> Result<OwnedFd, AttachError> {
    let address = SocketAddrUnix::new_abstract_name(SOCKET_NAME).map_err(unreachable)?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
    let socket = socket.map_err(unreachable)?;
    connect(&socket, &address).map_err(unreachable)?;
    match sys::peer_credentials(&socket).map_err(unreachable)?.pid {
        1 => Ok(socket),
        other => Err(AttachError::Impostor(other)),
    }
}

/// Copies until an end or a failure, passing on each piece at once.
fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; FRAME_MAX];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => {
                to.write_all(&buffer[..length])?;
                to.flush()?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn unreachable(error: rustix::io::Errno) -> AttachError {
    AttachError::Unreachable(error.into())
}
