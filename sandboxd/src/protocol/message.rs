//! Lines to messages and back.

use std::borrow::Cow;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::FRAME_MAX;
use super::error::{ErrorCode, RpcError};
use super::fs::{BlobPut, BlobPutResult, FsApply, FsApplyResult, FsState, FsStateResult};
use super::process::{
    Ack, Acknowledge, Acknowledged, Closed, Exited, Output, Read, ReadResult, Start, StartResult, Terminate,
    TerminateResult, Write, WriteResult,
};
use super::proxy::{ProxyAck, ProxyClosed, ProxyData, ProxyOpened};
use super::session::{
    Heartbeat, Hello, Initialize, InitializeResult, PhaseBegin, PhaseBeginResult, PhaseEnd, PhaseEndResult,
};

/// The parameters of a request: they know their method and the type of the answer.
pub trait Request: Serialize + DeserializeOwned {
    /// The method's name on the wire.
    const METHOD: &'static str;
    /// What a successful response carries.
    type Response: Serialize + DeserializeOwned + Send + 'static;
}

/// The parameters of a notice, which nobody answers.
pub trait Notice: Serialize + DeserializeOwned {
    /// The method's name on the wire.
    const METHOD: &'static str;
}

/// Why a message cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// It is longer than a frame.
    #[error("a {method} message of {length} bytes is over the limit of {FRAME_MAX}; send less at once")]
    TooLong {
        /// Its method.
        method: &'static str,
        /// Its length as a line.
        length: usize,
    },
    /// It has no JSON form.
    #[error("a message cannot be written as JSON")]
    Json(#[from] serde_json::Error),
}

macro_rules! requests {
    ($($(#[$doc:meta])* $name:ident = $method:literal => $response:ty;)*) => {
        /// A request as the supervisor sees it.
        #[derive(Debug)]
        pub enum Call {
            $($(#[$doc])* $name($name),)*
        }

        $(impl Request for $name {
            const METHOD: &'static str = $method;
            type Response = $response;
        })*

        impl Call {
            fn parse(method: &str, params: &RawValue) -> Result<Self, RpcError> {
                match method {
                    $($method => parse_params(method, params).map(Self::$name),)*
                    _ => Err(unknown_method(method)),
                }
            }
        }
    };
}

macro_rules! notices {
    ($(#[$enum_doc:meta])* $enum:ident; $($(#[$doc:meta])* $name:ident;)*) => {
        $(#[$enum_doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum $enum {
            $($(#[$doc])* $name($name),)*
        }

        impl $enum {
            fn parse(method: &str, params: &RawValue) -> Result<Self, RpcError> {
                match method {
                    $(<$name as Notice>::METHOD => parse_params(method, params).map(Self::$name),)*
                    _ => Err(unknown_method(method)),
                }
            }
        }
    };
}

requests! {
    /// Authenticates a stream.
    Initialize = "initialize" => InitializeResult;
    /// Opens a phase.
    PhaseBegin = "phase/begin" => PhaseBeginResult;
    /// Ends a phase and every process.
    PhaseEnd = "phase/end" => PhaseEndResult;
    /// Runs a command.
    Start = "process/start" => StartResult;
    /// Reads output again.
    Read = "process/read" => ReadResult;
    /// Writes standard input.
    Write = "process/write" => WriteResult;
    /// Ends a process.
    Terminate = "process/terminate" => TerminateResult;
    /// Forgets an ended process.
    Acknowledge = "process/acknowledge" => Acknowledged;
    /// Stages file content.
    BlobPut = "fs/blob" => BlobPutResult;
    /// Changes files.
    FsApply = "fs/apply" => FsApplyResult;
    /// Looks at files.
    FsState = "fs/state" => FsStateResult;
}

notices! {
    /// A notice of the client.
    ClientNotice;
    /// It is alive.
    Heartbeat;
    /// Output has arrived.
    Ack;
    /// Bytes for a proxied connection.
    ProxyData;
    /// Bytes of a proxied connection have gone on.
    ProxyAck;
    /// A proxied connection is over.
    ProxyClosed;
}

notices! {
    /// A notice of the supervisor.
    ServerNotice;
    /// Its greeting.
    Hello;
    /// It is alive.
    Heartbeat;
    /// Output.
    Output;
    /// A process has ended.
    Exited;
    /// A process's output has ended.
    Closed;
    /// A command has connected to the proxy.
    ProxyOpened;
    /// Bytes of a proxied connection.
    ProxyData;
    /// Bytes for a proxied connection have gone on.
    ProxyAck;
    /// A proxied connection is over.
    ProxyClosed;
}

macro_rules! notice_names {
    ($($name:ident = $method:literal;)*) => {
        $(impl Notice for $name { const METHOD: &'static str = $method; })*
    };
}

notice_names! {
    Hello = "hello";
    Heartbeat = "heartbeat";
    Ack = "process/ack";
    Output = "process/output";
    Exited = "process/exited";
    Closed = "process/closed";
    ProxyOpened = "proxy/opened";
    ProxyData = "proxy/data";
    ProxyAck = "proxy/ack";
    ProxyClosed = "proxy/closed";
}

/// A line from the client.
#[derive(Debug)]
pub enum ClientFrame {
    /// A request, to be answered under its number.
    Request {
        /// The client's number of it.
        id: u64,
        /// The request; or why it cannot be understood, which is the answer.
        call: Result<Call, RpcError>,
    },
    /// A notice.
    Notice(ClientNotice),
}

/// A line from the supervisor.
#[derive(Debug)]
pub enum ServerFrame {
    /// The answer to a request.
    Response {
        /// The request's number.
        id: u64,
        /// Its result, to be read as [`Request::Response`] of what was asked.
        result: Result<Box<RawValue>, RpcError>,
    },
    /// A notice.
    Notice(ServerNotice),
}

#[derive(Deserialize)]
struct Incoming<'a> {
    id: Option<u64>,
    #[serde(borrow)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    error: Option<RpcError>,
}

#[derive(Serialize)]
struct Outgoing<'a, P> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    params: Option<&'a P>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a P>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a RpcError>,
}

impl ClientFrame {
    /// Reads one line, with or without its newline.
    ///
    /// # Errors
    /// [`ErrorCode::Malformed`] when the line is no message at all, so that nobody can be answered; the
    /// stream is then of no use. A notice that is not understood is an error of the same kind.
    pub fn decode(line: &[u8]) -> Result<Self, RpcError> {
        let incoming = Incoming::decode(line)?;
        let (Some(method), None, None) = (&incoming.method, incoming.result, &incoming.error) else {
            return Err(malformed("neither a request nor a notice"));
        };
        let params = incoming.params.unwrap_or(RawValue::NULL);
        match incoming.id {
            Some(id) => Ok(Self::Request { id, call: Call::parse(method, params) }),
            None => ClientNotice::parse(method, params).map(Self::Notice),
        }
    }
}

impl ServerFrame {
    /// Reads one line, with or without its newline.
    ///
    /// # Errors
    /// [`ErrorCode::Malformed`] when the line is no message at all, other codes when it is a notice that is
    /// not understood; the stream is then of no use.
    pub fn decode(line: &[u8]) -> Result<Self, RpcError> {
        let incoming = Incoming::decode(line)?;
        match (incoming.id, incoming.method, incoming.result, incoming.error) {
            (Some(id), None, Some(result), None) => Ok(Self::Response { id, result: Ok(result.to_owned()) }),
            (Some(id), None, None, Some(error)) => Ok(Self::Response { id, result: Err(error) }),
            (None, Some(method), None, None) => {
                ServerNotice::parse(&method, incoming.params.unwrap_or(RawValue::NULL)).map(Self::Notice)
            }
            _ => Err(malformed("neither a response nor a notice")),
        }
    }
}

impl<'a> Incoming<'a> {
    fn decode(line: &'a [u8]) -> Result<Self, RpcError> {
        if line.len() > FRAME_MAX {
            return Err(malformed("longer than a frame"));
        }
        serde_json::from_slice(line).map_err(|error| malformed(&error.to_string()))
    }
}

/// The line of a request, newline included.
///
/// # Errors
/// [`EncodeError`] when it is longer than a frame.
pub fn encode_request<R: Request>(id: u64, params: &R) -> Result<Vec<u8>, EncodeError> {
    let message =
        Outgoing { id: Some(id), method: Some(R::METHOD), params: Some(params), result: None, error: None };
    encode(R::METHOD, &message)
}

/// The line of a notice, newline included.
///
/// # Errors
/// [`EncodeError`] when it is longer than a frame.
pub fn encode_notice<N: Notice>(params: &N) -> Result<Vec<u8>, EncodeError> {
    let message =
        Outgoing { id: None, method: Some(N::METHOD), params: Some(params), result: None, error: None };
    encode(N::METHOD, &message)
}

/// The line of a successful response, newline included. The type names the request, so that no request can
/// be answered by another's result.
///
/// # Errors
/// [`EncodeError`] when it is longer than a frame.
pub fn encode_response<R: Request>(id: u64, result: &R::Response) -> Result<Vec<u8>, EncodeError> {
    let message = Outgoing { id: Some(id), method: None, params: None, result: Some(result), error: None };
    encode(R::METHOD, &message)
}

/// The line of an error response, newline included.
///
/// # Errors
/// [`EncodeError`] when it is longer than a frame.
pub fn encode_error(id: u64, error: &RpcError) -> Result<Vec<u8>, EncodeError> {
    let message =
        Outgoing::<()> { id: Some(id), method: None, params: None, result: None, error: Some(error) };
    encode("error", &message)
}

fn encode<M: Serialize>(method: &'static str, message: &M) -> Result<Vec<u8>, EncodeError> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    if line.len() > FRAME_MAX {
        return Err(EncodeError::TooLong { method, length: line.len() });
    }
    Ok(line)
}

fn parse_params<P: DeserializeOwned>(method: &str, params: &RawValue) -> Result<P, RpcError> {
    serde_json::from_str(params.get())
        .map_err(|error| RpcError::new(ErrorCode::InvalidParams, format!("{method}: {error}")))
}

fn unknown_method(method: &str) -> RpcError {
    RpcError::new(ErrorCode::UnknownMethod, format!("unknown method {method}"))
}

fn malformed(why: &str) -> RpcError {
    RpcError::new(ErrorCode::Malformed, format!("not a message of this protocol: {why}"))
}
