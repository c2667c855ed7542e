//! What stands at the ends of links: relays and clients.

use std::{any::Any, fmt::Debug, time::Instant};

use aip_engine::{
    client::Client,
    relay::Relay,
    transport::{Action, Closed, Driver, Peer, SessionId, StreamId},
};
use bytes::Bytes;

/// A node of a world: told and asked as `transport::Driver` says.
#[expect(missing_docs, reason = "each method is the one of the same name of transport::Driver")]
pub trait Node: Debug {
    fn as_any(&mut self) -> &mut dyn Any;
    /// Something is about to be told to it, of this session or none: what it has to do before that
    /// comes first.
    fn handle_turn(&mut self, _session: Option<SessionId>, _now: Instant) {}
    fn handle_connected(&mut self, session: SessionId, peer: Peer, now: Instant);
    fn handle_stream(
        &mut self,
        session: SessionId,
        stream: StreamId,
        bytes: Bytes,
        fin: bool,
        now: Instant,
    );
    fn handle_reset(&mut self, session: SessionId, stream: StreamId, code: u64, now: Instant);
    fn handle_stop(&mut self, session: SessionId, stream: StreamId, code: u64, now: Instant);
    fn handle_datagram(&mut self, session: SessionId, bytes: Bytes, now: Instant);
    fn handle_sent(&mut self, session: SessionId, stream: StreamId, length: usize, now: Instant);
    fn handle_silence(&mut self, _session: SessionId, _is_silent: bool, _now: Instant) {}
    fn handle_closed(&mut self, session: SessionId, closed: Closed, now: Instant);
    fn handle_timeout(&mut self, now: Instant);
    fn poll_action(&mut self) -> Option<(SessionId, Action)>;
    fn poll_timeout(&self) -> Option<Instant>;
}

macro_rules! node {
    ($type:ident, $face:ident) => {
        impl Node for $type {
            fn as_any(&mut self) -> &mut dyn Any {
                self
            }
            fn handle_connected(&mut self, session: SessionId, peer: Peer, now: Instant) {
                $face::handle_connected(self, session, peer, now);
            }
            fn handle_stream(
                &mut self,
                session: SessionId,
                stream: StreamId,
                bytes: Bytes,
                fin: bool,
                now: Instant,
            ) {
                $face::handle_stream(self, session, stream, bytes, fin, now);
            }
            fn handle_reset(
                &mut self,
                session: SessionId,
                stream: StreamId,
                code: u64,
                now: Instant,
            ) {
                $face::handle_reset(self, session, stream, code, now);
            }
            fn handle_stop(
                &mut self,
                session: SessionId,
                stream: StreamId,
                code: u64,
                now: Instant,
            ) {
                $face::handle_stop(self, session, stream, code, now);
            }
            fn handle_datagram(&mut self, session: SessionId, bytes: Bytes, now: Instant) {
                $face::handle_datagram(self, session, bytes, now);
            }
            fn handle_sent(
                &mut self,
                session: SessionId,
                stream: StreamId,
                length: usize,
                now: Instant,
            ) {
                $face::handle_sent(self, session, stream, length, now);
            }
            fn handle_closed(&mut self, session: SessionId, closed: Closed, now: Instant) {
                $face::handle_closed(self, session, closed, now);
            }
            fn handle_timeout(&mut self, now: Instant) {
                $face::handle_timeout(self, now);
            }
            fn poll_action(&mut self) -> Option<(SessionId, Action)> {
                $face::poll_action(self)
            }
            fn poll_timeout(&self) -> Option<Instant> {
                $face::poll_timeout(self)
            }
        }
    };
}

node!(Relay, Driver);
node!(Client, Client);
