//! Sockets, clock, threads and QUIC beneath a [`Driver`](crate::transport::Driver).
//!
//! [`spawn`] runs a driver on a thread of its own and leaves a [`Handle`], by whose [`Mailbox`]
//! other threads talk to it; [`run`] runs one on the current thread until it is told to end. Both
//! bind every address and read every file first, so that what is wrong with a [`Config`] is said
//! before anything begins.

mod config;
mod config_file;
mod error;
mod mailbox;
mod runtime;
mod target;

pub use self::{
    config::{Config, Dial, Handshake, Identity, Quic, RetryPolicy},
    error::Error,
    mailbox::{Mailbox, Rejected},
    runtime::{Handle, run, spawn},
    target::{Target, Trust, Url},
};
