//! Conformance of any MOQT relay over QUIC or WebTransport, drafts 18 to 22: the cases of
//! `aip-conformance`.
//!
//! Cases speak through `peer::Peer`: real QUIC and our codec, but no session that would keep
//! them from sending what is wrong. Below it lie one connection (`quic`, `web`) and all of a thread's
//! (`network`); above it [`case::Case`] and what runs and reports them.

mod build;
mod case;
mod cases;
mod data;
mod failure;
mod network;
mod peer;
mod quic;
mod report;
mod runner;
mod stage;
mod target;
mod web;

pub use self::{
    case::{Case, Over},
    cases::all,
    failure::{Failure, Outcome},
    quic::{Closed, End},
    report::{Tap, json},
    runner::{Run, plan, probe, run},
    stage::Stage,
    target::{Endpoint, drafts},
};
