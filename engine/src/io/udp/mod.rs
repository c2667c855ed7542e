//! UDP, many packets per system call.
//!
//! The only `unsafe` of the workspace lives below: `recvmmsg`, `sendmmsg` and their control
//! messages, which no safe crate offers with GSO and GRO.

mod address;
mod control;
mod receive;
mod send;
mod socket;

pub(super) use self::{
    receive::ReceiveBatch,
    send::{Blocked, Built, Limits, SendBatch, Written},
    socket::Socket,
};
