//! MOQT as state machines, and quiche on mio beneath them.
//!
//! [`schedule`] decides what is sent next, [`account`] counts what waits; [`session`] is one MOQT
//! session, [`client`] a publisher, subscriber and caller on one session,
//! [`relay`] many sessions and the tracks between them, [`shard`] several of these that
//! are one relay. None of them knows a clock, a socket or a
//! thread: they meet the world at [`transport`]. The feature `io` (on by default) adds the world.
#![warn(missing_docs)]

pub mod account;
pub mod client;
pub mod metrics;
pub mod relay;
pub mod schedule;
pub mod session;
pub mod shard;
mod stream_map;
pub mod transport;

#[cfg(feature = "io")]
#[expect(clippy::disallowed_methods, reason = "here the clock is read and threads begin")]
pub mod io;
