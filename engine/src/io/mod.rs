//! Sockets, clock, threads and QUIC beneath a [`Driver`](crate::transport::Driver).
//!
//! [`spawn`] runs a driver on a thread of its own and leaves a [`Handle`], by whose [`Mailbox`]
//! other threads talk to it, [`spawn_workers`] several; [`run`] runs them, one on the current thread,
//! until they are told to end. All bind every address and read every file first, so that what is
//! wrong with a [`Config`] is said before anything begins.

mod accept;
mod admin;
/// What [`ring`] and [`park`] are made of; a test makes them of things that try every order.
mod atomic {
    pub(super) use std::sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering, fence},
    };
}
mod chunk_pool;
mod cid;
mod clock;
mod config;
mod config_file;
mod connection;
mod connection_table;
mod dial;
mod endpoint;
mod error;
mod export;
mod follow;
mod gathering;
mod http3;
mod hub;
mod incoming;
mod keys;
mod log;
mod mailbox;
mod memory;
mod outgoing;
mod packet;
mod park;
mod queue {
    pub(super) use crossbeam::queue::ArrayQueue;
}
mod quic;
mod record;
mod resolver;
mod ring;
mod runtime;
mod signals;
mod stateless_reset;
mod status;
mod steering;
mod target;
mod timer_wheel;
mod tls;
mod token;
mod udp;
mod wake;
mod webtransport;
mod worker;

#[cfg(test)]
mod tests;

#[doc(hidden)]
pub use self::webtransport::Probe as __WebTransportProbe;
pub use self::{
    config::{Config, Dial, Handshake, Identity, Quic, RetryPolicy},
    config_file::{ConfigFile, EXAMPLE, RelayLimits},
    error::Error,
    log::{LogFormat, log_to_stderr},
    mailbox::{Mailbox, Rejected},
    memory::{give_back, memory_limit},
    runtime::{Handle, Ready, run, spawn, spawn_workers},
    target::{Scheme, Target, Trust, Url, random_relay_id},
};
