//! Calls that the supervisor answers in a command's place.
//!
//! Landlock lets a phase without network connect and bind to nothing. Its commands get their TCP sockets from here,
//! already tied to loopback; `connect` and `bind` are carried out here, on the supervisor's copy of the very same
//! socket, with an address that was read once and checked. So options and event registrations of the socket stay,
//! `listen` and everything else is the kernel's, and no address that a command rewrites during the call is ever used.
//!
//! A phase with a proxy may connect to that port of 127.0.0.1 as well, and whose connection it is is noted ([`Gate`]).
//!
//! UNIX sockets are let through with "continue", after which the kernel reads the address again: by then it may be
//! another one, and a TCP one is refused by Landlock.
//!
//! Known limits: a socket that was bound and then connects is replaced by a new one, without the options set before;
//! a connection to one of the pod's own addresses other than loopback is refused even if a command listens on all.

mod address;
mod caller;
mod listeners;
mod ports;
mod signals;
mod sockets;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::net::{AddressFamily, getsockname, sockopt};

use super::gate::Gate;
use super::sys::{self, Notification, Place, Reply};
use super::tree::tree_of;
use address::{Binding, Given};
use caller::Caller;
use listeners::{Listeners, Listening};
use ports::Ports;
use sockets::{Sockets, State};

/// How long a connection may take that its caller waits for. On loopback it is immediate, or the listener's queue is
/// full.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);
/// How many connections may wait at a time. One that waits holds up no other call.
const MAX_WAITING: usize = 64;
/// How often waiting callers are checked for being alive.
const SWEEP: Duration = Duration::from_secs(1);

/// Answers a phase's calls on a thread of its own until the last of its processes has ended. With a gate its commands
/// may connect there, too.
pub(super) fn spawn(notifications: OwnedFd, gate: Option<Arc<Gate>>) -> io::Result<()> {
    let _ = sys::wake_on_same_processor(&notifications);
    let mut mediator = Mediator {
        notifications,
        gate,
        listeners: Listeners::open(),
        ports: Ports::default(),
        sockets: Sockets::default(),
        waiting: Vec::new(),
    };
    std::thread::Builder::new().name("pw-mediator".into()).spawn(move || mediator.run()).map(drop)
}

struct Mediator {
    notifications: OwnedFd,
    gate: Option<Arc<Gate>>,
    listeners: Listeners,
    ports: Ports,
    sockets: Sockets,
    waiting: Vec<Waiting>,
}

/// A connection that is not made yet.
struct Waiting {
    socket: OwnedFd,
    inode: u64,
    /// The call that waits for it. None if its caller does not wait, but may ask again.
    call: Option<u64>,
    install: Option<Install>,
    deadline: Instant,
}

/// Where a connection goes.
#[derive(Clone, Copy, Debug)]
enum Target {
    /// To a listener of the phase's own.
    Listener(SocketAddr),
    /// To the proxy, for the command of this subreaper.
    Gate(SocketAddr, Option<i32>),
}

/// A descriptor that a new socket takes the place of.
#[derive(Clone, Copy, Debug)]
struct Install {
    descriptor: u32,
    close_on_exec: bool,
}

/// What becomes of a call.
enum Answer {
    Now(Reply),
    /// It was answered, or will be.
    Later,
}

impl From<Result<Self, Errno>> for Answer {
    fn from(result: Result<Self, Errno>) -> Self {
        result.unwrap_or_else(|errno| Self::Now(Reply::Fail(errno)))
    }
}

impl Mediator {
    fn run(&mut self) {
        loop {
            let mut fds = vec![PollFd::from_borrowed_fd(self.notifications.as_fd(), PollFlags::IN)];
            fds.extend(
                self.waiting.iter().map(|w| PollFd::from_borrowed_fd(w.socket.as_fd(), PollFlags::OUT)),
            );
            let sweep = Timespec { tv_sec: SWEEP.as_secs().cast_signed(), tv_nsec: 0 };
            let polled = poll(&mut fds, (!self.waiting.is_empty()).then_some(&sweep));
            let events: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
            drop(fds);
            match polled {
                Ok(_) | Err(Errno::INTR) => {}
                // Without memory for a poll there is nothing better to do than to try again.
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
            self.finish_waiting(events.get(1..).unwrap_or_default());
            match events.first() {
                Some(events) if events.contains(PollFlags::IN) => self.serve_one(),
                // Every process of the phase has ended.
                Some(events) if events.intersects(PollFlags::HUP | PollFlags::ERR) => return,
                _ => {}
            }
        }
    }

    fn serve_one(&mut self) {
        // The caller may have been killed since.
        let Ok(call) = sys::receive_notification(&self.notifications) else { return };
        let answer = match call.call {
            libc::SYS_socket => self.socket(call).into(),
            libc::SYS_connect => self.connect(call).into(),
            libc::SYS_bind => self.bind(call).into(),
            libc::SYS_ioctl => self.open_terminal(call).into(),
            libc::SYS_sched_setscheduler
            | libc::SYS_sched_setparam
            | libc::SYS_sched_setattr
            | libc::SYS_sched_setaffinity => schedule(call),
            libc::SYS_kill
            | libc::SYS_tkill
            | libc::SYS_tgkill
            | libc::SYS_rt_sigqueueinfo
            | libc::SYS_rt_tgsigqueueinfo => Answer::Now(signals::judge(low(call.arguments[0]))),
            _ => Answer::Now(Reply::Fail(Errno::NOSYS)),
        };
        if let Answer::Now(reply) = answer {
            let _ = sys::reply(&self.notifications, call.id, reply);
        }
    }

    fn is_valid(&self, call: &Notification) -> Result<(), Errno> {
        if sys::notification_is_valid(&self.notifications, call.id) { Ok(()) } else { Err(Errno::SRCH) }
    }

    /// `socket(family, type, protocol)` for TCP: the filter refused everything else.
    fn socket(&mut self, call: Notification) -> Result<Answer, Errno> {
        let [family, kind, ..] = call.arguments.map(low);
        let flag = |flag: i32| kind & flag.unsigned_abs() != 0;
        let ipv6 = family == libc::AF_INET6.unsigned_abs();
        let socket = sockets::make(ipv6, flag(libc::SOCK_NONBLOCK))?;
        let inode = sockets::inode(&socket)?;
        sys::hand_over(&self.notifications, call.id, &socket, Place::Returned, flag(libc::SOCK_CLOEXEC))?;
        self.sockets.keep(inode, socket);
        Ok(Answer::Later)
    }

    /// `connect(descriptor, address, length)`.
    fn connect(&mut self, call: Notification) -> Result<Answer, Errno> {
        let caller = Caller { thread: call.thread };
        let Given::Inet(wanted) = given_address(caller, &call)? else {
            return Ok(Answer::Now(Reply::Continue));
        };
        let descriptor = low(call.arguments[0]);
        let inode = caller.socket(descriptor)?;
        let flags = caller.flags(descriptor)?;
        self.is_valid(&call)?;

        let home = address::loopback(wanted.ip()).ok_or(Errno::NETUNREACH)?;
        let home = SocketAddr::new(home, wanted.port());
        let in_family = |address| address::in_family(address, wanted.is_ipv6());
        let target = match &self.gate {
            Some(gate) if gate.address() == home => Target::Gate(in_family(home), tree_of(call.thread)),
            Some(_) | None => Target::Listener(in_family(self.listener(home).ok_or(Errno::CONNREFUSED)?)),
        };
        let nonblocking = flags & libc::O_NONBLOCK.unsigned_abs() != 0;
        if self.waiting.iter().any(|waiting| waiting.inode == inode) {
            return Err(Errno::ALREADY);
        }
        match self.sockets.take(inode) {
            State::Connected => Err(Errno::ISCONN),
            State::Fresh(socket) if is_ipv6(&socket) != wanted.is_ipv6() => {
                self.sockets.keep(inode, socket);
                Err(Errno::AFNOSUPPORT)
            }
            State::Fresh(socket) => self.begin(call.id, socket, inode, target, nonblocking, None),
            State::Bound => {
                let socket = sockets::make(wanted.is_ipv6(), nonblocking)?;
                let inode = sockets::inode(&socket)?;
                let close_on_exec = flags & libc::O_CLOEXEC.unsigned_abs() != 0;
                self.begin(
                    call.id,
                    socket,
                    inode,
                    target,
                    nonblocking,
                    Some(Install { descriptor, close_on_exec }),
                )
            }
        }
    }

    /// The phase's own listener that a loopback address means. To a command, a port where somebody else listens is one
    /// where nobody does.
    fn listener(&self, wanted: SocketAddr) -> Option<SocketAddr> {
        let target = self.ports.route(wanted)?;
        let own = match self.listeners.at(target) {
            Listening::Socket(inode) => self.ports.owns(inode),
            Listening::Nobody => false,
            Listening::Unknown => true,
        };
        own.then_some(target)
    }

    /// Begins a connection. A caller that does not block is told so at once, as the kernel would.
    fn begin(
        &mut self,
        call: u64,
        socket: OwnedFd,
        inode: u64,
        target: Target,
        nonblocking: bool,
        install: Option<Install>,
    ) -> Result<Answer, Errno> {
        if self.waiting.len() == MAX_WAITING {
            self.sockets.keep(inode, socket);
            return Err(Errno::AGAIN);
        }
        let connect = |address: SocketAddr| {
            sockets::prepare_for(&socket, address)
                .and_then(|()| set_nonblocking(&socket, true))
                .and_then(|()| rustix::net::connect(&socket, &address))
        };
        let begun = match (target, &self.gate) {
            (Target::Gate(address, tree), Some(gate)) => gate.let_in(&socket, tree, || connect(address)),
            (Target::Gate(address, _) | Target::Listener(address), _) => connect(address),
        };
        let mut waiting =
            Waiting { socket, inode, call: Some(call), install, deadline: Instant::now() + CONNECT_LIMIT };
        match begun {
            Ok(()) => self.end(waiting, Ok(())),
            Err(Errno::INPROGRESS) if nonblocking => {
                self.answer(&waiting, Err(Errno::INPROGRESS));
                waiting.call = None;
                self.waiting.push(waiting);
            }
            Err(Errno::INPROGRESS) => match outcome(&waiting.socket) {
                Some(result) => self.end(waiting, result),
                None => self.waiting.push(waiting),
            },
            Err(errno) => self.end(waiting, Err(errno)),
        }
        Ok(Answer::Later)
    }

    fn finish_waiting(&mut self, events: &[PollFlags]) {
        let now = Instant::now();
        for (at, waiting) in std::mem::take(&mut self.waiting).into_iter().enumerate() {
            let ready = events.get(at).is_some_and(|events| !events.is_empty());
            let gone =
                waiting.call.is_some_and(|call| !sys::notification_is_valid(&self.notifications, call));
            if gone {
                // The caller was killed; with the socket its connection goes too.
            } else if ready && waiting.call.is_none() {
                // Its caller reads the outcome off the socket, so it must stay there.
                self.settle(waiting);
            } else if let (true, Some(result)) = (ready, outcome(&waiting.socket)) {
                self.end(waiting, result);
            } else if waiting.deadline <= now {
                self.end(waiting, Err(Errno::TIMEDOUT));
            } else {
                self.waiting.push(waiting);
            }
        }
    }

    /// A connection that its caller waited for came to its end.
    fn end(&mut self, waiting: Waiting, result: Result<(), Errno>) {
        if waiting.call.is_some() && waiting.install.is_none() {
            let _ = set_nonblocking(&waiting.socket, false);
        }
        self.answer(&waiting, result);
        match result {
            Ok(()) => self.sockets.connected(waiting.inode),
            Err(_) if waiting.install.is_none() => self.sockets.keep(waiting.inode, waiting.socket),
            Err(_) => {}
        }
    }

    /// A connection that its caller did not wait for came to its end: the socket is left to it.
    fn settle(&mut self, waiting: Waiting) {
        if rustix::net::getpeername(&waiting.socket).is_ok_and(|peer| peer.is_some()) {
            self.sockets.connected(waiting.inode);
        } else {
            self.sockets.keep(waiting.inode, waiting.socket);
        }
    }

    fn answer(&self, waiting: &Waiting, result: Result<(), Errno>) {
        let Some(call) = waiting.call else { return };
        let mut reply = match result {
            Ok(()) => Reply::Success,
            Err(errno) => Reply::Fail(errno),
        };
        if let (Some(Install { descriptor, close_on_exec }), Ok(()) | Err(Errno::INPROGRESS)) =
            (waiting.install, result)
        {
            let place = Place::Over(descriptor);
            if let Err(errno) =
                sys::hand_over(&self.notifications, call, &waiting.socket, place, close_on_exec)
            {
                reply = Reply::Fail(errno);
            }
        }
        let _ = sys::reply(&self.notifications, call, reply);
    }

    /// `bind(descriptor, address, length)`.
    fn bind(&mut self, call: Notification) -> Result<Answer, Errno> {
        let caller = Caller { thread: call.thread };
        let Given::Inet(asked) = given_address(caller, &call)? else {
            return Ok(Answer::Now(Reply::Continue));
        };
        let inode = caller.socket(low(call.arguments[0]))?;
        self.is_valid(&call)?;
        let State::Fresh(socket) = self.sockets.take(inode) else { return Err(Errno::INVAL) };
        match bind_on_loopback(&socket, asked) {
            Ok(listener) => {
                // The supervisor keeps no copy of a socket with a port: the port is free again when the command
                // closes it.
                self.ports.add(listener, inode);
                Ok(Answer::Now(Reply::Success))
            }
            Err(errno) => {
                self.sockets.keep(inode, socket);
                Err(errno)
            }
        }
    }

    /// `ioctl(master, TIOCGPTPEER, flags)`: opens the other end of the caller's own terminal.
    fn open_terminal(&self, call: Notification) -> Result<Answer, Errno> {
        let caller = Caller { thread: call.thread };
        let [master, _, flags, ..] = call.arguments.map(low);
        let index = caller.terminal(master)?;
        self.is_valid(&call)?;
        let flags = OFlags::from_bits_retain(flags);
        let mode = flags & (OFlags::RWMODE | OFlags::NONBLOCK);
        let path = format!("/dev/pts/{index}");
        let slave = rustix::fs::open(path, mode | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
        // Still the caller's, after it was opened: the number was not passed on to somebody else's meanwhile.
        if caller.terminal(master)? != index {
            return Err(Errno::IO);
        }
        let close_on_exec = flags.contains(OFlags::CLOEXEC);
        sys::hand_over(&self.notifications, call.id, &slave, Place::Returned, close_on_exec)?;
        Ok(Answer::Later)
    }
}

/// `sched_set*(thread, …)`: a thread of the caller's own process, and nobody else's. The arguments are numbers, so
/// nothing can change behind the decision.
fn schedule(call: Notification) -> Answer {
    let caller = Caller { thread: call.thread };
    let own = caller.owns_thread(low(call.arguments[0]));
    Answer::Now(if own { Reply::Continue } else { Reply::Fail(Errno::PERM) })
}

fn given_address(caller: Caller, call: &Notification) -> Result<Given, Errno> {
    let [_, pointer, length, ..] = call.arguments;
    let mut buffer = [0; address::MAX_ADDRESS];
    let bytes = buffer.get_mut(..low(length) as usize).ok_or(Errno::INVAL)?;
    caller.memory(pointer, bytes)?;
    address::parse(bytes)
}

fn bind_on_loopback(socket: &OwnedFd, asked: SocketAddr) -> Result<Binding, Errno> {
    let ipv6 = is_ipv6(socket);
    if ipv6 != asked.is_ipv6() {
        return Err(Errno::AFNOSUPPORT);
    }
    let v6_only = ipv6 && sockopt::ipv6_v6only(socket)?;
    let Binding { address, reach } = address::binding(asked, v6_only).ok_or(Errno::ADDRNOTAVAIL)?;
    sys::bind_leaves_port_open(socket, false)?;
    rustix::net::bind(socket, &address::in_family(address, ipv6))?;
    let bound = SocketAddr::try_from(getsockname(socket)?)?;
    Ok(Binding { address: SocketAddr::new(address.ip(), bound.port()), reach })
}

fn is_ipv6(socket: &OwnedFd) -> bool {
    sockopt::socket_domain(socket) == Ok(AddressFamily::INET6)
}

/// How a connection that was begun has ended, if it has.
fn outcome(socket: &OwnedFd) -> Option<Result<(), Errno>> {
    let mut fds = [PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::OUT)];
    let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
    match poll(&mut fds, Some(&zero)) {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(sockopt::socket_error(socket).and_then(|result| result)),
    }
}

/// The flag belongs to the socket, not to a descriptor, so the command has it too while its call waits.
fn set_nonblocking(socket: &OwnedFd, on: bool) -> Result<(), Errno> {
    let flags = fcntl_getfl(socket)?;
    let mut wanted = flags;
    wanted.set(OFlags::NONBLOCK, on);
    if wanted == flags { Ok(()) } else { fcntl_setfl(socket, wanted) }
}

/// The kernel takes descriptors, flags and thread numbers from the lower half of a register.
fn low(argument: u64) -> u32 {
    (argument & u64::from(u32::MAX)) as u32
}
