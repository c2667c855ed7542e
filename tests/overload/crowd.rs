//! Many clients of one relay on one thread, over real sockets.

use std::{
    collections::BTreeMap,
    sync::mpsc,
    time::{Duration, Instant},
};

use aip_engine::{
    io::{self, Config, Handle, Quic, Target, Trust},
    session::Event,
    transport::{Action, Closed, Driver, Peer as Transport, SessionId, StreamId},
};
use aip_tests::sim::{node::Node as _, peer::Peer};
use bytes::Bytes;

/// What a test does with the clients, on their thread.
type Work = Box<dyn FnOnce(&mut Clients) + Send>;

/// The clients, by session.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    pub(crate) peers: BTreeMap<SessionId, Peer>,
    pub(crate) connected_at: Vec<Instant>,
    /// When something was heard, and what.
    pub(crate) heard: Vec<(SessionId, Instant, Event)>,
    pub(crate) closed: Vec<Closed>,
}

impl Clients {
    fn with(&mut self, id: SessionId, tell: impl FnOnce(&mut Peer)) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        tell(peer);
        let now = Instant::now();
        self.heard.extend(peer.take().into_iter().map(|event| (id, now, event)));
    }
}

impl Driver for Clients {
    type Command = Work;

    fn handle_connected(&mut self, id: SessionId, transport: Transport, now: Instant) {
        let mut peer = Peer::default();
        peer.handle_connected(id, transport, now);
        self.peers.insert(id, peer);
        self.connected_at.push(now);
    }

    fn handle_stream(
        &mut self,
        id: SessionId,
        stream: StreamId,
        bytes: Bytes,
        fin: bool,
        now: Instant,
    ) {
        self.with(id, |peer| peer.handle_stream(id, stream, bytes, fin, now));
    }

    fn handle_reset(&mut self, id: SessionId, stream: StreamId, code: u64, now: Instant) {
        self.with(id, |peer| peer.handle_reset(id, stream, code, now));
    }

    fn handle_stop(&mut self, id: SessionId, stream: StreamId, code: u64, now: Instant) {
        self.with(id, |peer| peer.handle_stop(id, stream, code, now));
    }

    fn handle_datagram(&mut self, id: SessionId, bytes: Bytes, now: Instant) {
        self.with(id, |peer| peer.handle_datagram(id, bytes, now));
    }

    fn handle_sent(&mut self, id: SessionId, stream: StreamId, length: usize, now: Instant) {
        self.with(id, |peer| peer.handle_sent(id, stream, length, now));
    }

    fn handle_closed(&mut self, id: SessionId, closed: Closed, _: Instant) {
        self.peers.remove(&id);
        self.closed.push(closed);
    }

    fn handle_unreachable(&mut self, _: usize, _: &str, _: Instant) {}

    fn handle_command(&mut self, work: Work, _: Instant) {
        work(self);
    }

    fn handle_drain(&mut self, _: Instant) {}

    fn is_drained(&self) -> bool {
        true
    }

    fn handle_timeout(&mut self, now: Instant) {
        let due: Vec<SessionId> = self.peers.keys().copied().collect();
        for id in due {
            self.with(id, |peer| peer.handle_timeout(now));
        }
    }

    fn poll_action(&mut self) -> Option<(SessionId, Action)> {
        self.peers.values_mut().find_map(Peer::poll_action)
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.peers.values().filter_map(Peer::poll_timeout).min()
    }
}

/// A thread of clients.
pub(crate) struct Crowd(Handle<Work>);

impl Crowd {
    /// So many clients of the relay at this port.
    pub(crate) fn new(port: u16, count: usize, quic: Quic) -> Self {
        let target = Target::new(&format!("moqt://127.0.0.1:{port}"), Trust::Insecure).unwrap();
        let config = Config::client(vec![target; count]).with_quic(quic);
        Self(io::spawn(config, Clients::default).unwrap())
    }

    /// Does something on their thread, and waits for what comes of it.
    pub(crate) fn ask<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Clients) -> R + Send + 'static,
    ) -> R {
        let (tell, told) = mpsc::channel();
        let work: Work = Box::new(move |clients| drop(tell.send(work(clients))));
        assert!(self.0.mailbox().send(work).is_ok(), "the clients' thread has ended");
        told.recv().unwrap()
    }

    /// Asks again and again until there is an answer; `None` if there is none within `patience`.
    pub(crate) fn wait<R: Send + 'static>(
        &self,
        patience: Duration,
        ask: impl Fn(&mut Clients) -> Option<R> + Clone + Send + 'static,
    ) -> Option<R> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(answer) = self.ask(ask.clone()) {
                return Some(answer);
            }
            if deadline < Instant::now() {
                return None;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until all are connected and their SETUPs are through.
    pub(crate) fn connected(&self, count: usize) {
        let up = move |clients: &mut Clients| {
            let up = clients.peers.values_mut().map(|peer| peer.session().is_established());
            (up.filter(|up| *up).count() == count).then_some(())
        };
        assert!(self.wait(Duration::from_secs(30), up).is_some(), "not all clients connect");
    }
}
