//! A model that answers from a script, over real HTTP.
//!
//! It speaks the streaming Responses, Chat Completions and Messages APIs, so that manifests, pipelines and
//! Podwright itself can be tried without a key and with the same answers each time.
//! `docs/scripted-model.md` is its manual.
//!
//! [`script`] holds the format, [`condition`], [`capture`] and [`template`] what a script can say about a
//! request, [`seen`] what is read of a request on each API, [`threads`] which reply is next, [`render`] a
//! reply as the events of each API, [`trace`] a recorded endpoint as a script; all of them are pure. [`server`] and [`command`] do the rest.

pub mod capture;
pub mod command;
pub mod condition;
pub mod render;
pub mod script;
pub mod seen;
pub mod server;
pub mod template;
pub mod threads;
pub mod trace;

pub use command::ScriptedModelArgs;
pub use script::{Script, ScriptError};
pub use server::serve;
