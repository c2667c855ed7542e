//! Who serves: bare quiche, or our relay. Each on a core of its own, which it keeps busy.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use aip_engine::{
    io::{Config, Handle, Identity, spawn},
    relay::{self, Command, Relay},
};
use bytes::Bytes;

use super::{Files, end::now};
use crate::control::{
    affinity,
    batch::{Incoming, Outgoing},
    links::Links,
};

/// How often connections are asked whether a timer of theirs is due.
const SWEEP: Duration = Duration::from_millis(10);

const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Bare quiche that sends back what comes, or passes it on.
pub(super) struct BareServer {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl BareServer {
    /// One that sends everything back on the stream that it came on; or, `crossed`, between its first
    /// two connections, each stream on one of its own.
    pub(super) fn start(core: usize, files: &Files, crossed: bool) -> io::Result<Self> {
        let links = Links::new(LISTEN, &files.certificate, &files.key)?;
        let address = links.local();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let mut board = Board { links, crossed, streams: [Vec::new(), Vec::new()] };
        #[expect(clippy::disallowed_methods, reason = "a server beside the one who asks it")]
        let thread = thread::spawn(move || {
            // Without a core of its own it is only slower.
            _ = affinity::pin(core);
            board.run(&stopped);
        });
        Ok(Self { address, stop, thread: Some(thread) })
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for BareServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // Whatever it had to say, it has failed the measurement already.
            _ = thread.join();
        }
    }
}

struct Board {
    links: Links,
    crossed: bool,
    /// By connection: its streams and those that they go on by, of the other connection.
    streams: [Vec<(u64, u64)>; 2],
}

impl Board {
    fn run(&mut self, stopped: &AtomicBool) {
        let mut incoming = Incoming::default();
        let mut outgoing = Outgoing::new(self.links.socket());
        let mut swept = now();
        let mut turns = 0_u32;
        while !stopped.load(Ordering::Relaxed) {
            self.links.receive(&mut incoming);
            for index in self.links.take_touched() {
                self.links.touch(index);
                while let Some(stream) = self.links.get(index).stream_readable_next() {
                    self.pass_on(index, stream);
                }
            }
            for index in self.links.take_touched() {
                self.links.transmit(index, &mut outgoing);
            }
            outgoing.flush();
            turns = turns.wrapping_add(1);
            if turns.is_multiple_of(256) && SWEEP < now() - swept {
                swept = now();
                self.links.sweep(swept);
            }
        }
    }

    fn pass_on(&mut self, index: usize, stream: u64) {
        while let Some((bytes, fin)) = self.links.read(index, stream) {
            let (to, on) = self.way(index, stream);
            self.links.send(to, on, bytes, fin);
            if fin {
                return;
            }
        }
    }

    /// Where a stream goes on.
    fn way(&mut self, index: usize, stream: u64) -> (usize, u64) {
        if !self.crossed {
            return (index, stream);
        }
        let (own, to) = (index.min(1), 1 - index.min(1));
        let known = self.streams[own].iter().position(|(from, _)| *from == stream);
        if let Some(place) = known {
            // Its answer is all that comes on it.
            return (to, self.streams[own].swap_remove(place).1);
        }
        // The number is that of the client's stream, with who opened it turned round.
        let on = stream ^ 1;
        self.streams[to].push((on, stream));
        (to, on)
    }
}

/// Our relay.
pub(super) struct RelayServer {
    handle: Option<Handle<Command>>,
    address: SocketAddr,
}

impl RelayServer {
    /// One that never sleeps.
    pub(super) fn start(core: usize, files: &Files) -> io::Result<Self> {
        let (certificate, key) = (files.certificate.clone(), files.key.clone());
        let mut config = Config::server(vec![LISTEN], Identity::Files { certificate, key });
        config.awake = Duration::from_secs(3_600);
        let unlimited = relay::Rate { per_second: 0, burst: 0 };
        let mut limits = relay::Config::default();
        (limits.session_request_rate, limits.identity_request_rate) = (unlimited, unlimited);
        let handle = spawn(config, move || {
            // Without a core of its own it is only slower.
            _ = affinity::pin(core);
            Relay::new(limits)
        })
        .map_err(io::Error::other)?;
        let address = handle.addresses().first().copied().ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { handle: Some(handle), address })
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for RelayServer {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            handle.shutdown();
            // As above.
            _ = handle.join();
        }
    }
}

/// So many bytes.
pub(super) fn filler(size: usize) -> Bytes {
    Bytes::from(vec![b'x'; size])
}
