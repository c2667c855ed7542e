//! One client's connection of bare quiche, that never sleeps.

use std::{
    collections::VecDeque,
    io,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::control::{
    batch,
    links::{DATAGRAM_MAX, Shared, settings},
};

/// How long anything may take before it is given up.
const PATIENCE: Duration = Duration::from_secs(10);
/// Turns between two looks at the clock.
const TURNS: u32 = 256;
/// What is read from a stream at once.
const CHUNK: usize = 64 << 10;

/// See the module.
pub(super) struct End {
    pub(super) quic: quiche::Connection<Shared>,
    socket: UdpSocket,
    local: SocketAddr,
    server: SocketAddr,
    packet: Vec<u8>,
    waiting: VecDeque<(u64, Bytes, bool)>,
    turns: u32,
}

impl End {
    /// A connection whose handshake has begun.
    pub(super) fn connect(server: SocketAddr) -> io::Result<Self> {
        let socket = batch::socket(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        socket.connect(server)?;
        let local = socket.local_addr()?;
        let mut settings = settings()?;
        settings.verify_peer(false);
        let mut id = [7; 16];
        id[..2].copy_from_slice(&local.port().to_be_bytes());
        let quic = quiche::connect_with_buffer_factory(
            None,
            &quiche::ConnectionId::from_ref(&id),
            local,
            server,
            &mut settings,
        )
        .map_err(io::Error::other)?;
        let (packet, waiting) = (vec![0; 2 * DATAGRAM_MAX], VecDeque::new());
        Ok(Self { quic, socket, local, server, packet, waiting, turns: 0 })
    }

    /// Takes what has come, and sends what there is.
    pub(super) fn turn(&mut self) -> io::Result<()> {
        let info = quiche::RecvInfo { from: self.server, to: self.local };
        while let Ok(length) = self.socket.recv(&mut self.packet) {
            // What cannot be read is dropped, as QUIC wants it.
            _ = self.quic.recv(&mut self.packet[..length], info);
        }
        self.turns = self.turns.wrapping_add(1);
        if self.turns.is_multiple_of(TURNS) {
            self.quic.on_timeout();
        }
        self.flush()
    }

    /// Sends what there is.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.quic.is_closed() {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if self.quic.is_established() {
            self.pump();
        }
        while let Ok((length, _)) = self.quic.send(&mut self.packet) {
            self.socket.send(&self.packet[..length])?;
        }
        Ok(())
    }

    fn pump(&mut self) {
        while let Some((stream, bytes, fin)) = self.waiting.pop_front() {
            let unknown = matches!(
                self.quic.stream_capacity(stream),
                Err(quiche::Error::InvalidStreamState(_))
            );
            let has_room = unknown || self.quic.stream_capacity(stream).is_ok_and(|it| 0 < it);
            let rest = if has_room || bytes.is_empty() {
                self.quic.stream_send_zc(stream, bytes, fin).ok().and_then(|(_, rest)| rest)
            } else {
                Some(bytes)
            };
            if let Some(rest) = rest {
                self.waiting.push_front((stream, rest, fin));
                return;
            }
        }
    }

    /// Sends on a stream, with the next turn.
    pub(super) fn send(&mut self, stream: u64, bytes: Bytes, fin: bool) {
        self.waiting.push_back((stream, bytes, fin));
    }

    /// The next piece of any stream: which, the bytes, and whether it has ended.
    pub(super) fn read(&mut self) -> Option<(u64, Bytes, bool)> {
        loop {
            let stream = self.quic.readable().next()?;
            let mut buffer = BytesMut::with_capacity(CHUNK).limit(CHUNK);
            let read = self.quic.stream_recv_buf(stream, &mut buffer);
            if let Ok((_, fin)) = read {
                return Some((stream, buffer.into_inner().freeze(), fin));
            }
        }
    }
}

/// Calls `step` until it says that all is done.
pub(super) fn until(mut step: impl FnMut() -> io::Result<bool>) -> io::Result<()> {
    let began = now();
    loop {
        for _ in 0..TURNS {
            if step()? {
                return Ok(());
            }
        }
        if PATIENCE < now() - began {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
}

/// The time.
#[expect(clippy::disallowed_methods, reason = "what is measured here is time")]
pub(super) fn now() -> Instant {
    Instant::now()
}
