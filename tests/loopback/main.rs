//! The transport alone, over real sockets on 127.0.0.1.
//!
//! Every wait is for something that was told, and has a deadline; nothing sleeps.
#![expect(clippy::disallowed_methods, reason = "threads and the clock are what is tested")]

#[cfg(test)]
mod closing;
#[cfg(test)]
mod datagrams;
#[cfg(test)]
mod handshake;
#[cfg(test)]
mod lifecycle;
#[cfg(test)]
mod migration;
#[cfg(test)]
mod node;
#[cfg(test)]
mod streams;
#[cfg(test)]
mod transfer;
#[cfg(test)]
mod web;
#[cfg(test)]
mod workers;
