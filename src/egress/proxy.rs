//! The proxy itself: requests of commands, judged and passed on.
//!
//! Requests are read and answers written by hyper, with its bounds set here. Each request gets a connection of its own
//! to its host: what one request was judged by says nothing about the next.

mod answer;
mod idle;

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1 as client;
use hyper::header::{CONNECTION, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRAILER, UPGRADE};
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use podwright_sandboxd::protocol::OpId;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use self::answer::{Answer, Failure};
use self::idle::Watched;
use super::name::Host;
use super::refusals::Refusals;
use super::route::Route;
use super::rules::{Refused, Rules};
use crate::sandbox::{Guest, Sandbox};

/// Bytes of a request's first part, with its header: what most servers take.
const HEAD_MAX: usize = 16 * 1024;

/// Lines of a request's header: package managers send a dozen.
const FIELDS_MAX: usize = 64;

/// How long a command may take for the first part of a request, or leave its connection unused between two.
const HEAD_WITHIN: Duration = Duration::from_secs(60);

/// How long a name is looked up: two tries of a resolver with its usual 5 s.
const LOOKUP_WITHIN: Duration = Duration::from_secs(10);

/// Names looked up at a time. Each takes a thread that nothing ends but the resolver; a package manager asks for a
/// handful of names.
const LOOKUPS_MAX: usize = 16;

/// Addresses of a name that are tried, and how long one may take: a host that is there answers in a second, and a name
/// rarely has more than two that differ in whether they can be reached.
const ADDRESSES_MAX: usize = 4;
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// How long nothing may pass before a connection is ended: longer than a registry takes for its slowest answer, shorter
/// than the time after which what lies in between forgets a connection.
const IDLE_WITHIN: Duration = Duration::from_secs(300);

/// Bytes of a tunnel's beginning that are looked at.
const BEGINNING_MAX: usize = 1024;

/// The proxy of a phase's commands.
pub struct Proxy {
    rules: Rules,
    route: Arc<dyn Route>,
    refusals: Refusals,
    lookups: Semaphore,
}

/// One connection of a command, which may carry several requests.
struct Visit {
    proxy: Arc<Proxy>,
    process: Option<OpId>,
    /// A tunnel that was granted; what follows on the connection goes there.
    tunnel: Mutex<Option<(OnUpgrade, TcpStream, String)>>,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy").field("rules", &self.rules).finish_non_exhaustive()
    }
}

impl Proxy {
    /// A proxy that lets through what the rules allow, on this route.
    #[must_use]
    pub fn new(rules: Rules, route: Arc<dyn Route>, refusals: Refusals) -> Self {
        Self { rules, route, refusals, lookups: Semaphore::new(LOOKUPS_MAX) }
    }

    /// Serves the commands of a sandbox until it is given up. How many connections there are at a time the sandbox's
    /// protocol bounds.
    pub async fn serve(self: Arc<Self>, sandbox: Sandbox) {
        let mut visits = JoinSet::new();
        loop {
            tokio::select! {
                guest = sandbox.next_guest() => match guest {
                    Some(Guest { process, stream }) => {
                        visits.spawn(self.clone().receive(process, stream));
                    }
                    None => return,
                },
                Some(_) = visits.join_next() => {}
            }
        }
    }

    /// Serves one connection to its end.
    pub async fn receive(
        self: Arc<Self>,
        process: Option<OpId>,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) {
        let (stream, activity) = Watched::new(stream);
        let visit = Arc::new(Visit { proxy: self, process, tunnel: Mutex::new(None) });
        tokio::select! {
            () = visit.serve(stream) => {}
            () = activity.idle_for(IDLE_WITHIN) => {}
        }
    }

    /// Connects to a host, if that is allowed wherever it leads.
    async fn dial(&self, host: &Host, port: u16) -> Result<TcpStream, Failure> {
        self.rules.host(host, port)?;
        let addresses = match host {
            Host::Address(address) => vec![*address],
            Host::Name(name) => self.resolve(name).await?,
        };
        let (mut allowed, mut refused) = (Vec::new(), None);
        for address in addresses {
            match self.rules.address(address) {
                Ok(()) => allowed.push(address),
                Err(why) => refused = refused.or(Some(why)),
            }
        }
        match (allowed.is_empty(), refused) {
            (true, Some(why)) => Err(why.into()),
            (true, None) => Err(Failure::Unknown),
            (false, _) => self.connect(&allowed, port).await,
        }
    }

    async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, Failure> {
        let looking = async {
            let _turn = self.lookups.acquire().await.map_err(io::Error::other)?;
            self.route.resolve(name).await
        };
        match timeout(LOOKUP_WITHIN, looking).await {
            Ok(Ok(addresses)) => Ok(addresses),
            // The system's resolver tells "no such name" and "no answer" alike.
            Ok(Err(_)) => Err(Failure::Unknown),
            Err(_) => Err(Failure::Late("the name was not looked up in time")),
        }
    }

    async fn connect(&self, addresses: &[IpAddr], port: u16) -> Result<TcpStream, Failure> {
        let mut last = Failure::Unknown;
        for address in addresses.iter().take(ADDRESSES_MAX) {
            let connecting = self.route.connect(SocketAddr::new(*address, port));
            last = match timeout(CONNECT_WITHIN, connecting).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => Failure::Unreachable(error.to_string()),
                Err(_) => Failure::Late("it did not take the connection in time"),
            };
        }
        Err(last)
    }
}

impl Visit {
    async fn serve<S>(self: &Arc<Self>, stream: Watched<S>)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let service = service_fn(|request| {
            let visit = self.clone();
            async move { Ok::<_, Infallible>(visit.answer(request).await) }
        });
        let connection = server::Builder::new()
            .half_close(true)
            .max_headers(FIELDS_MAX)
            .max_buf_size(HEAD_MAX)
            .preserve_header_case(true)
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_WITHIN)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        // A command that talks nonsense, or leaves, is its own affair.
        let _ = connection.await;
        let granted = self.tunnel.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((upgrade, upstream, to)) = granted
            && let Ok(upgraded) = upgrade.await
        {
            let _ = self.tunnel(TokioIo::new(upgraded), upstream, &to).await;
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Answer> {
        let (host, port) = match target(&request) {
            Ok(target) => target,
            Err(why) => return answer::nonsense(why),
        };
        let at = format!("{host}:{port}");
        let answered = if request.method() == Method::CONNECT {
            self.grant(request, &host, port, &at).await
        } else {
            self.pass_on(request, &host, port).await
        };
        answered.unwrap_or_else(|failure| {
            if let Failure::Refused(why) = &failure {
                self.refuse(&at, why);
            }
            answer::failed(&at, &failure)
        })
    }

    fn refuse(&self, at: &str, why: &Refused) {
        tracing::info!(process = self.process.as_ref().map(OpId::as_str), %at, %why, "refused");
        self.proxy.refusals.record(self.process.as_ref(), format!("{at}: {why}"));
    }

    /// `CONNECT`: what follows goes through unseen.
    async fn grant(
        &self,
        mut request: Request<Incoming>,
        host: &Host,
        port: u16,
        at: &str,
    ) -> Result<Response<Answer>, Failure> {
        let upstream = self.proxy.dial(host, port).await?;
        let upgrade = hyper::upgrade::on(&mut request);
        let granted = Some((upgrade, upstream, at.to_owned()));
        *self.tunnel.lock().unwrap_or_else(PoisonError::into_inner) = granted;
        Ok(Response::new(answer::empty()))
    }

    async fn tunnel(
        &self,
        mut command: TokioIo<hyper::upgrade::Upgraded>,
        mut upstream: TcpStream,
        at: &str,
    ) -> io::Result<()> {
        if self.proxy.rules.looks_into_tunnels() {
            let mut beginning = [0; BEGINNING_MAX];
            let length = command.read(&mut beginning).await?;
            if length == 0 {
                return Ok(());
            }
            if let Err(why) = self.proxy.rules.tunnel(&beginning[..length]) {
                self.refuse(at, &why);
                return Ok(());
            }
            upstream.write_all(&beginning[..length]).await?;
        }
        copy_bidirectional(&mut command, &mut upstream).await.map(drop)
    }

    /// A request over plain http: passed on as one of our own.
    async fn pass_on(
        &self,
        request: Request<Incoming>,
        host: &Host,
        port: u16,
    ) -> Result<Response<Answer>, Failure> {
        // Before anything is looked up: what is refused for its name is told so.
        self.proxy.rules.host(host, port)?;
        self.proxy.rules.request(request.method().as_str(), !request.body().is_end_stream())?;
        let upstream = self.proxy.dial(host, port).await?;
        let broken = |error: hyper::Error| Failure::Unreachable(error.to_string());
        let connection = client::Builder::new()
            .preserve_header_case(true)
            .max_headers(2 * FIELDS_MAX)
            .max_buf_size(4 * HEAD_MAX)
            .handshake(TokioIo::new(upstream))
            .await;
        let (mut sender, connection) = connection.map_err(broken)?;
        // It ends with the body of its one answer, or when the command goes.
        let serving = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(async move {
            let _ = connection.await;
        }));
        let response = sender.send_request(forwarded(request, host, port)?).await.map_err(broken)?;
        let (mut parts, body) = response.into_parts();
        strip(&mut parts.headers);
        Ok(Response::from_parts(parts, answer::passed_on(body, serving)))
    }
}

/// Where a request goes.
fn target(request: &Request<Incoming>) -> Result<(Host, u16), &'static str> {
    let uri = request.uri();
    let authority = uri.authority().ok_or("this is a proxy: say where the request goes")?;
    if authority.as_str().contains('@') {
        return Err("a user name has no place before the host's name");
    }
    let host = Host::parse(authority.host()).map_err(|_| "that is no host's name")?;
    let port = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
    let port = match (port.strip_prefix(':'), uri.scheme_str()) {
        (Some(digits), _) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().ok().filter(|port| *port != 0).ok_or("that is no port")?
        }
        (Some(_), _) => return Err("that is no port"),
        (None, Some("http")) => 80,
        (None, _) => return Err("the port is missing"),
    };
    match (request.method() == Method::CONNECT, uri.scheme_str()) {
        (true, None) | (false, Some("http")) => Ok((host, port)),
        (true, Some(_)) => Err("CONNECT takes a host and a port"),
        (false, _) => Err("only http is passed on; use CONNECT for anything else"),
    }
}

/// The request as its host gets it.
fn forwarded(request: Request<Incoming>, host: &Host, port: u16) -> Result<Request<Incoming>, Failure> {
    let (mut parts, body) = request.into_parts();
    strip(&mut parts.headers);
    let name = if port == 80 { host.to_string() } else { format!("{host}:{port}") };
    let name = HeaderValue::from_str(&name).map_err(|_| Failure::Unknown)?;
    parts.headers.insert(HOST, name);
    parts.headers.insert(CONNECTION, HeaderValue::from_static("close"));
    // The body was asked for when the request was read on.
    parts.headers.remove(EXPECT);
    let path = parts.uri.path_and_query().cloned();
    parts.uri = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    Ok(Request::from_parts(parts, body))
}

/// Takes out what is said from one end of a connection to the other, and not from end to end.
fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let always = [CONNECTION, TE, TRAILER, UPGRADE];
    let others = ["keep-alive", "proxy-connection", "proxy-authorization", "proxy-authenticate"];
    for name in named.into_iter().chain(always).chain(others.map(HeaderName::from_static)) {
        // How long a body is decides how it is read, and nobody may take that away.
        if name != hyper::header::CONTENT_LENGTH && name != hyper::header::HOST {
            headers.remove(name);
        }
    }
    headers.remove(hyper::header::TRANSFER_ENCODING);
}

#[cfg(test)]
mod tests;
