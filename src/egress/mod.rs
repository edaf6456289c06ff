//! What leaves the sandbox: the proxy's decisions, and the connections that follow from them.
//!
//! A command connects to the supervisor's port, the bytes come here, and here is decided. A request names a host; the
//! name is judged by the environment's list, looked up here, and the address judged again, since a name says nothing
//! about where it leads. Connected is only to an address that was judged: nothing is looked up twice.
//!
//! | Module | Holds |
//! |---|---|
//! | [`address`], [`name`], [`presets`], [`rules`] | what is decided; pure |
//! | [`refusals`] | what was refused, until it is told |
//! | [`route`], [`proxy`] | looking up, connecting, passing on |

pub mod address;
pub mod name;
pub mod presets;
pub mod proxy;
pub mod refusals;
pub mod route;
pub mod rules;
