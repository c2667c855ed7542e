//! Batched system calls: trains to many peers at once (sendmmsg with GSO), datagrams of many peers
//! at once (recvmmsg). IPv4 only: controls run on loopback.
#![expect(
    clippy::cast_possible_truncation,
    reason = "sizes of the kernel's structures and lengths of a batch, all below 2^16"
)]

use std::{
    io, mem,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket},
    os::fd::{AsRawFd as _, RawFd},
    ptr,
};

/// Messages of one system call.
const MESSAGES: usize = 64;
/// The longest train, and the room that one needs.
const TRAIN_MAX: usize = 65_507;
/// Room for packets that were built and not sent.
const ARENA: usize = 1 << 20;
/// The longest datagram that is received.
const RECEIVE_MAX: usize = 2_048;

/// A socket on loopback with large buffers, that never blocks.
///
/// # Errors
/// If the address is not to be had.
pub fn socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    for option in [libc::SO_RCVBUF, libc::SO_SNDBUF] {
        let size: libc::c_int = 4 << 20;
        // SAFETY: the option's value is an integer that lives through the call.
        unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                option,
                (&raw const size).cast(),
                size_of_val(&size) as libc::socklen_t,
            );
        }
    }
    Ok(socket)
}

/// UDP_SEGMENT, as it stands behind a message.
#[repr(C)]
#[derive(Clone, Copy)]
struct Segment {
    header: libc::cmsghdr,
    size: u16,
    padding: [u8; 6],
}

#[derive(Clone, Copy, Debug)]
struct Train {
    start: usize,
    length: usize,
    segment: usize,
    to: SocketAddrV4,
}

/// Trains on their way out.
#[derive(Debug)]
pub struct Outgoing {
    descriptor: RawFd,
    arena: Vec<u8>,
    used: usize,
    trains: Vec<Train>,
    /// Trains that the system did not take: lost, as on a wire.
    pub refused: u64,
}

impl Outgoing {
    /// Nothing yet, for a socket that lives as long.
    pub fn new(socket: &UdpSocket) -> Self {
        let descriptor = socket.as_raw_fd();
        Self { descriptor, arena: vec![0; ARENA], used: 0, trains: Vec::new(), refused: 0 }
    }

    /// Appends all that `write` has for `to`, as trains of datagrams of at most `datagram_max`.
    pub fn build(
        &mut self,
        to: SocketAddrV4,
        datagram_max: usize,
        mut write: impl FnMut(&mut [u8]) -> Option<usize>,
    ) {
        let segments_max = (TRAIN_MAX / datagram_max).min(MESSAGES);
        loop {
            if self.trains.len() == MESSAGES || self.arena.len() < self.used + TRAIN_MAX {
                self.flush();
            }
            let (start, mut segment, mut count) = (self.used, datagram_max, 0);
            let over = loop {
                let Some(length) = write(&mut self.arena[self.used..][..segment]) else {
                    break true;
                };
                self.used += length;
                count += 1;
                let short = length < segment && 1 < count;
                segment = if count == 1 { length } else { segment };
                if short || segment < 1_000 || count == segments_max {
                    break false;
                }
            };
            let length = self.used - start;
            if 0 < length {
                self.trains.push(Train { start, length, segment, to });
            }
            if over {
                return;
            }
        }
    }

    /// Appends a train of datagrams of `segment` bytes.
    pub fn push(&mut self, to: SocketAddrV4, segment: usize, bytes: &[u8]) {
        if self.trains.len() == MESSAGES || self.arena.len() < self.used + bytes.len() {
            self.flush();
        }
        let start = self.used;
        self.arena[start..][..bytes.len()].copy_from_slice(bytes);
        self.used += bytes.len();
        self.trains.push(Train { start, length: bytes.len(), segment, to });
    }

    /// Sends what was built.
    pub fn flush(&mut self) {
        // SAFETY: integers and pointers, for which zero is a value.
        let mut headers: [libc::mmsghdr; MESSAGES] = unsafe { mem::zeroed() };
        // SAFETY: as above.
        let mut addresses: [libc::sockaddr_in; MESSAGES] = unsafe { mem::zeroed() };
        // SAFETY: as above.
        let mut segments: [Segment; MESSAGES] = unsafe { mem::zeroed() };
        let mut vectors = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; MESSAGES];
        for (index, train) in self.trains.iter().enumerate() {
            vectors[index].iov_base = self.arena[train.start..].as_mut_ptr().cast();
            vectors[index].iov_len = train.length;
            addresses[index] = raw(train.to);
            let header = &mut headers[index].msg_hdr;
            header.msg_iov = &raw mut vectors[index];
            header.msg_iovlen = 1;
            header.msg_name = (&raw mut addresses[index]).cast();
            header.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            if train.segment < train.length {
                let segment = &mut segments[index];
                segment.size = u16::try_from(train.segment).unwrap_or(u16::MAX);
                segment.header.cmsg_level = libc::SOL_UDP;
                segment.header.cmsg_type = libc::UDP_SEGMENT;
                segment.header.cmsg_len = size_of::<libc::cmsghdr>() + 2;
                header.msg_control = (&raw mut *segment).cast();
                header.msg_controllen = size_of::<Segment>();
            }
        }
        let (mut sent, count) = (0, self.trains.len());
        while sent < count {
            // SAFETY: `count - sent` headers stand there, and all they point to lives on.
            let taken = unsafe {
                let left = (count - sent) as libc::c_uint;
                libc::sendmmsg(self.descriptor, headers.as_mut_ptr().add(sent), left, 0)
            };
            let Ok(taken @ 1..) = usize::try_from(taken) else {
                self.refused += 1;
                sent += 1;
                continue;
            };
            sent += taken;
        }
        self.trains.clear();
        self.used = 0;
    }
}

const fn raw(address: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
        sin_zero: [0; 8],
    }
}

fn cooked(address: &libc::sockaddr_in) -> SocketAddrV4 {
    let ip = Ipv4Addr::from(address.sin_addr.s_addr.to_ne_bytes());
    SocketAddrV4::new(ip, u16::from_be(address.sin_port))
}

/// Datagrams on their way in.
#[derive(Debug)]
pub struct Incoming {
    buffers: Vec<[u8; RECEIVE_MAX]>,
}

impl Default for Incoming {
    fn default() -> Self {
        Self { buffers: vec![[0; RECEIVE_MAX]; MESSAGES] }
    }
}

impl Incoming {
    /// Gives each datagram that is there to `take`; how many there were.
    pub fn receive(
        &mut self,
        socket: RawFd,
        mut take: impl FnMut(&mut [u8], SocketAddrV4),
    ) -> usize {
        let mut total = 0;
        loop {
            // SAFETY: integers and pointers, for which zero is a value.
            let mut headers: [libc::mmsghdr; MESSAGES] = unsafe { mem::zeroed() };
            // SAFETY: as above.
            let mut addresses: [libc::sockaddr_in; MESSAGES] = unsafe { mem::zeroed() };
            let mut vectors =
                [libc::iovec { iov_base: ptr::null_mut(), iov_len: RECEIVE_MAX }; MESSAGES];
            for (index, buffer) in self.buffers.iter_mut().enumerate() {
                vectors[index].iov_base = buffer.as_mut_ptr().cast();
                let header = &mut headers[index].msg_hdr;
                header.msg_iov = &raw mut vectors[index];
                header.msg_iovlen = 1;
                header.msg_name = (&raw mut addresses[index]).cast();
                header.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            }
            // SAFETY: as many headers as are said, and all they point to lives through the call.
            let count = unsafe {
                let (flags, messages) = (libc::MSG_DONTWAIT, MESSAGES as libc::c_uint);
                libc::recvmmsg(socket, headers.as_mut_ptr(), messages, flags, ptr::null_mut())
            };
            let count = usize::try_from(count).unwrap_or(0);
            for index in 0..count {
                let length = (headers[index].msg_len as usize).min(RECEIVE_MAX);
                take(&mut self.buffers[index][..length], cooked(&addresses[index]));
            }
            total += count;
            if count < MESSAGES {
                return total;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trains_arrive_as_datagrams() {
        let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let (sender, receiver) = (socket(local).unwrap(), socket(local).unwrap());
        let SocketAddr::V4(to) = receiver.local_addr().unwrap() else { panic!("IPv4") };
        let mut outgoing = Outgoing::new(&sender);
        let lengths = [1_200, 1_200, 700];
        let mut left = lengths.iter();
        outgoing.build(to, 1_200, |room| {
            let length = *left.next()?;
            room[..length].fill(7);
            Some(length)
        });
        outgoing.push(to, 1_000, &[8; 1_500]);
        outgoing.flush();
        assert_eq!(outgoing.refused, 0);
        let mut seen = Vec::new();
        let mut incoming = Incoming::default();
        while seen.len() < 5 {
            incoming.receive(receiver.as_raw_fd(), |bytes, _| seen.push((bytes.len(), bytes[0])));
        }
        assert_eq!(seen, [(1_200, 7), (1_200, 7), (700, 7), (1_000, 8), (500, 8)]);
    }
}
