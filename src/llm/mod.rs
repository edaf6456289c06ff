//! How Podwright speaks to models.
//!
//! Neutral types ([`item`], [`tool`], [`request`], [`event`], [`error`]) are what the agent knows; a
//! [`Wire`] renders them for one API and never the other way round: what a model sent is kept as bytes
//! and replayed.

pub mod client;
pub mod error;
pub mod event;
pub mod failure;
pub mod fold;
pub mod item;
pub mod request;
pub mod retry;
pub mod sse;
pub mod tool;
pub mod wire;

pub use client::{Endpoint, ModelClient};
pub use error::{
    Fatal, FatalKind, Misconfiguration, Misconfigured, ModelError, RetryCause, RetryLayer, Retryable,
};
pub use event::{Completed, ItemKind, StreamEvent};
pub use item::{
    Call, CallKind, CallOutput, ContentPart, CustomCall, FunctionCall, Item, Message, Opaque, Reasoning,
    Role, ThreadItem, WireJson,
};
pub use request::{AnswerFormat, Images, Input, PreparedRequest, Request, TOKEN_BYTES, Usage, tokens};
pub use tool::{RenderedTools, ToolDefinition};
pub use wire::{Capabilities, Wire};
