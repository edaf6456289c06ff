//! The sandbox client against a real supervisor, process 1 of namespaces of its own, whose commands run as an ordinary
//! user. Needs root and util-linux, and fails without.

#[cfg(test)]
mod client;
#[cfg(test)]
mod connections;
#[cfg(test)]
mod harness;
#[cfg(test)]
#[path = "../support/hosts.rs"]
mod hosts;
#[cfg(test)]
#[path = "../support/supervisor.rs"]
mod program;
#[cfg(test)]
mod proxy;
#[cfg(test)]
mod stream;
#[cfg(test)]
mod supervisor;
