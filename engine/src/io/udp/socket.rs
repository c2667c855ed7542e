//! One UDP socket with the options that QUIC wants.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsRawFd as _, RawFd},
};

use socket2::{Domain, Protocol, Type};

/// Bytes that may wait in the kernel on each side; the system may grant less.
const BUFFER: usize = 4 << 20;

/// A bound socket that never blocks.
#[derive(Debug)]
pub(in crate::io) struct Socket {
    socket: mio::net::UdpSocket,
    local: SocketAddr,
    /// Whether it is bound to no address, so that each datagram says which one it was sent to.
    wildcard: bool,
    /// Whether the system cuts trains into datagrams.
    gso: bool,
    /// Whether something may be there to be received.
    pub(in crate::io) readable: bool,
}

impl Socket {
    /// A socket at `address`; port 0 lets the system choose.
    ///
    /// One that is `listening` at no address in particular answers from the address it was asked
    /// at; for one that is not, the system chooses.
    pub(in crate::io) fn bind(address: SocketAddr, listening: bool) -> io::Result<Self> {
        Self::bind_beside(address, listening, false)
    }

    /// So many sockets that listen at one address, of which the kernel chooses one for each datagram:
    /// the first by number, in the order in which they are returned. The first is bound alone, so
    /// that no other process has the address, not even one of the same program.
    pub(in crate::io) fn bind_group(address: SocketAddr, count: usize) -> io::Result<Vec<Self>> {
        let first = Self::bind(address, true)?;
        if 1 < count {
            share_port(first.fd())?;
        }
        let address = first.local();
        let others = (1..count).map(|_| Self::bind_beside(address, true, true));
        std::iter::once(Ok(first)).chain(others).collect()
    }

    fn bind_beside(address: SocketAddr, listening: bool, shared: bool) -> io::Result<Self> {
        let domain = Domain::for_address(address);
        let socket = socket2::Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        // What the system does not grant costs speed only.
        socket.set_recv_buffer_size(BUFFER).ok();
        socket.set_send_buffer_size(BUFFER).ok();
        let fd = socket.as_raw_fd();
        let wildcard = listening && address.ip().is_unspecified();
        if wildcard {
            ask_for_local_address(fd, address.is_ipv6())?;
        }
        forbid_fragments(fd, address.is_ipv6()).ok();
        set_option(fd, libc::SOL_UDP, libc::UDP_GRO, 1).ok();
        let gso = set_option(fd, libc::SOL_UDP, libc::UDP_SEGMENT, 0).is_ok();
        if shared {
            share_port(fd)?;
        }
        socket.bind(&address.into())?;
        let socket = mio::net::UdpSocket::from_std(socket.into());
        let local = socket.local_addr()?;
        Ok(Self { socket, local, wildcard, gso, readable: true })
    }

    /// Where it is bound, with the real port.
    pub(in crate::io) const fn local(&self) -> SocketAddr {
        self.local
    }

    /// The address that a datagram was sent to, given what the system said of it.
    pub(in crate::io) fn to(&self, said: Option<IpAddr>) -> SocketAddr {
        match said {
            Some(address) if self.wildcard => SocketAddr::new(address, self.local.port()),
            _ => self.local,
        }
    }

    /// The address to send from, where the system would have to choose one.
    pub(in crate::io) fn from(&self, path: SocketAddr) -> Option<IpAddr> {
        (self.wildcard && !path.ip().is_unspecified()).then(|| path.ip())
    }

    /// Whether a path with this local address is this socket's.
    pub(in crate::io) fn is_home_of(&self, path: SocketAddr) -> bool {
        path.port() == self.local.port()
            && path.is_ipv4() == self.local.is_ipv4()
            && (self.wildcard || path.ip() == self.local.ip())
    }

    /// Whether trains of several datagrams may be sent.
    pub(in crate::io) const fn gso(&self) -> bool {
        self.gso
    }

    /// Sends single datagrams from now on: the system or its network card cannot cut trains.
    pub(in crate::io) const fn give_up_gso(&mut self) {
        self.gso = false;
    }

    /// The system's handle.
    pub(in crate::io) fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// What to register with a poll.
    pub(in crate::io) const fn source(&mut self) -> &mut mio::net::UdpSocket {
        &mut self.socket
    }
}

/// Other sockets may be bound to the same address.
fn share_port(fd: RawFd) -> io::Result<()> {
    set_option(fd, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)
}

/// Each datagram shall say which address it was sent to.
fn ask_for_local_address(fd: RawFd, v6: bool) -> io::Result<()> {
    if v6 {
        set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)
    } else {
        set_option(fd, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)
    }
}

/// QUIC finds out itself what fits the path.
fn forbid_fragments(fd: RawFd, v6: bool) -> io::Result<()> {
    if v6 {
        set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE)
    } else {
        set_option(fd, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE)
    }
}

fn set_option(
    fd: RawFd,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or_default();
    // SAFETY: the system reads `length` bytes, which are those of `value`.
    let result = unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
