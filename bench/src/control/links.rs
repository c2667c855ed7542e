//! Connections of bare quiche at one socket: what the controls that serve share.

use std::{
    collections::{HashMap, VecDeque},
    io,
    net::{SocketAddr, SocketAddrV4, UdpSocket},
    os::fd::AsRawFd as _,
    path::Path,
    time::Instant,
};

use aip_codec::Version;
use bytes::{BufMut as _, Bytes, BytesMut};

use super::batch::{self, Incoming, Outgoing};

/// Bytes of the longest packet that is sent.
pub const DATAGRAM_MAX: usize = 1_452;
/// Bytes of our connection ids: the connection's index, and filler.
const ID: usize = 16;
const TAG: u8 = 0xaa;
/// What is read from a stream at once.
const CHUNK: usize = 64 << 10;

/// Makes quiche keep references to bytes instead of copies.
#[derive(Clone, Debug, Default)]
pub struct Shared;

#[expect(clippy::disallowed_methods, reason = "these are quiche's own bytes, of control frames")]
impl quiche::BufFactory for Shared {
    type Buf = Bytes;
    type DgramBuf = Bytes;

    fn buf_from_slice(bytes: &[u8]) -> Bytes {
        Bytes::copy_from_slice(bytes)
    }

    fn dgram_buf_from_slice(bytes: &[u8]) -> Bytes {
        Bytes::copy_from_slice(bytes)
    }
}

/// One connection, of either side, and what quiche did not take yet.
pub struct Link {
    pub(crate) quic: quiche::Connection<Shared>,
    address: SocketAddrV4,
    waiting: VecDeque<(u64, Bytes, bool)>,
    touched: bool,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Link").field("address", &self.address).finish_non_exhaustive()
    }
}

/// See the module.
pub struct Links {
    socket: UdpSocket,
    local: SocketAddr,
    config: quiche::Config,
    all: Vec<Link>,
    /// Connections by the id that a client chose for its first packets.
    first_ids: HashMap<Vec<u8>, usize>,
    touched: Vec<usize>,
}

impl std::fmt::Debug for Links {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Links").field("local", &self.local).finish_non_exhaustive()
    }
}

fn failed(error: quiche::Error) -> io::Error {
    io::Error::other(error)
}

/// Settings of either side, without a certificate.
///
/// # Errors
/// If quiche refuses them: never.
pub fn settings() -> io::Result<quiche::Config> {
    let mut config = quiche::Config::new(quiche::PROTOCOL_VERSION).map_err(failed)?;
    let protocols: Vec<_> = Version::PREFERENCE.iter().map(|it| it.alpn().as_bytes()).collect();
    config.set_application_protos(&protocols).map_err(failed)?;
    config.set_max_idle_timeout(30_000);
    config.set_max_recv_udp_payload_size(2_048);
    config.set_max_send_udp_payload_size(DATAGRAM_MAX);
    config.set_initial_max_data(8 << 20);
    config.set_max_connection_window(8 << 20);
    config.set_initial_max_stream_data_bidi_local(4 << 20);
    config.set_initial_max_stream_data_bidi_remote(4 << 20);
    config.set_initial_max_stream_data_uni(4 << 20);
    config.set_max_stream_window(4 << 20);
    config.set_initial_max_streams_bidi(100);
    config.set_initial_max_streams_uni(1_000);
    config.set_initial_congestion_window_packets(100);
    config.set_cc_algorithm(quiche::CongestionControlAlgorithm::CUBIC);
    Ok(config)
}

impl Links {
    /// None yet, at an address of 127.0.0.1.
    ///
    /// # Errors
    /// If the address is taken, or the certificate is none.
    pub fn new(listen: SocketAddr, certificate: &Path, key: &Path) -> io::Result<Self> {
        let socket = batch::socket(listen)?;
        let mut config = settings()?;
        let text = |path: &Path| path.to_string_lossy().into_owned();
        config.load_cert_chain_from_pem_file(&text(certificate)).map_err(failed)?;
        config.load_priv_key_from_pem_file(&text(key)).map_err(failed)?;
        Ok(Self {
            local: socket.local_addr()?,
            socket,
            config,
            all: Vec::new(),
            first_ids: HashMap::new(),
            touched: Vec::new(),
        })
    }

    /// Where they come to.
    pub const fn local(&self) -> SocketAddr {
        self.local
    }

    /// The socket.
    pub const fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// How many there are.
    pub const fn count(&self) -> usize {
        self.all.len()
    }

    /// One of them.
    pub(crate) fn get(&mut self, index: usize) -> &mut quiche::Connection<Shared> {
        &mut self.all[index].quic
    }

    /// Takes what is there; how many packets there were.
    pub fn receive(&mut self, incoming: &mut Incoming) -> usize {
        let descriptor = self.socket.as_raw_fd();
        incoming.receive(descriptor, |bytes, from| self.packet(bytes, from))
    }

    fn packet(&mut self, bytes: &mut [u8], from: SocketAddrV4) {
        let Some(index) = self.whose(bytes, from) else { return };
        let info = quiche::RecvInfo { from: SocketAddr::V4(from), to: self.local };
        // What cannot be read is dropped, as QUIC wants it.
        _ = self.all[index].quic.recv(bytes, info);
        self.touch(index);
    }

    fn whose(&mut self, bytes: &mut [u8], from: SocketAddrV4) -> Option<usize> {
        let header = quiche::Header::from_slice(bytes, ID).ok()?;
        if let Some(index) = index_of(&header.dcid) {
            return (index < self.all.len()).then_some(index);
        }
        if let Some(index) = self.first_ids.get(&*header.dcid) {
            return Some(*index);
        }
        if header.ty != quiche::Type::Initial {
            return None;
        }
        let index = self.all.len();
        let id = id_of(index);
        let peer = SocketAddr::V4(from);
        let quic =
            quiche::accept_with_buf_factory(&id, None, self.local, peer, &mut self.config).ok()?;
        let waiting = VecDeque::new();
        self.all.push(Link { quic, address: from, waiting, touched: false });
        self.first_ids.insert(header.dcid.to_vec(), index);
        Some(index)
    }

    /// Puts one on the list of those that are attended to.
    pub fn touch(&mut self, index: usize) {
        if !std::mem::replace(&mut self.all[index].touched, true) {
            self.touched.push(index);
        }
    }

    /// Those on the list, which is then empty.
    pub fn take_touched(&mut self) -> Vec<usize> {
        for &index in &self.touched {
            self.all[index].touched = false;
        }
        std::mem::take(&mut self.touched)
    }

    /// Lets those see to their timers that are due.
    pub fn sweep(&mut self, now: Instant) {
        for index in 0..self.all.len() {
            let quic = &mut self.all[index].quic;
            if quic.timeout_instant().is_some_and(|due| due <= now) {
                quic.on_timeout();
                self.touch(index);
            }
        }
    }

    /// Reads a piece of a stream of one; `None` if there is none now.
    pub fn read(&mut self, index: usize, stream: u64) -> Option<(Bytes, bool)> {
        let mut buffer = BytesMut::with_capacity(CHUNK).limit(CHUNK);
        let (_, fin) = self.all[index].quic.stream_recv_buf(stream, &mut buffer).ok()?;
        Some((buffer.into_inner().freeze(), fin))
    }

    /// Sends on a stream of one, as soon as there is room.
    pub fn send(&mut self, index: usize, stream: u64, bytes: Bytes, fin: bool) {
        self.all[index].waiting.push_back((stream, bytes, fin));
        self.touch(index);
    }

    /// Builds what one has to send.
    pub fn transmit(&mut self, index: usize, outgoing: &mut Outgoing) {
        let link = &mut self.all[index];
        link.pump();
        let quic = &mut link.quic;
        outgoing.build(link.address, DATAGRAM_MAX, |room| {
            quic.send(room).ok().map(|(length, _)| length)
        });
    }
}

impl Link {
    /// Hands quiche as much as it takes.
    fn pump(&mut self) {
        while let Some((stream, bytes, fin)) = self.waiting.pop_front() {
            // quiche drops the bytes of a stream that it has no room for. One that was never used
            // is unknown until it is.
            let room = match self.quic.stream_capacity(stream) {
                Ok(room) => room,
                Err(quiche::Error::InvalidStreamState(_)) => 1,
                Err(_) => continue,
            };
            if room == 0 && !bytes.is_empty() {
                self.waiting.push_front((stream, bytes, fin));
                return;
            }
            if let Ok((_, Some(rest))) = self.quic.stream_send_zc(stream, bytes, fin) {
                self.waiting.push_front((stream, rest, fin));
                return;
            }
        }
    }
}

fn id_of(index: usize) -> quiche::ConnectionId<'static> {
    let mut id = vec![TAG; ID];
    id[1..9].copy_from_slice(&(index as u64).to_be_bytes());
    quiche::ConnectionId::from_vec(id)
}

fn index_of(id: &[u8]) -> Option<usize> {
    let ours = id.len() == ID && id[0] == TAG && id[9..].iter().all(|byte| *byte == TAG);
    let bytes = id.get(1..9)?.try_into().ok()?;
    ours.then(|| usize::try_from(u64::from_be_bytes(bytes)).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_says_its_index() {
        for index in [0, 7, 100_000] {
            assert_eq!(index_of(&id_of(index)), Some(index));
        }
        assert_eq!(index_of(&[1; ID]), None);
        assert_eq!(index_of(&[TAG; 4]), None);
    }
}
