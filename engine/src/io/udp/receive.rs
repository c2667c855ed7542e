//! Receiving: up to 32 messages per system call, each of up to 64 KiB of joined datagrams.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::RawFd,
    ptr,
};

use super::{
    address::{CAPACITY, RawAddress},
    control::Control,
};

/// Messages per system call.
const MESSAGES: usize = 32;
/// Bytes of the longest message. A little more than 64 KiB, so that the fronts of the buffers do
/// not all fall on the same cache sets.
const BUFFER: usize = (64 << 10) + 192;

/// Buffers for one system call, used again for the next.
pub(in crate::io) struct ReceiveBatch {
    buffers: Vec<u8>,
    addresses: Vec<RawAddress>,
    controls: Vec<Control>,
    vectors: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
    received: usize,
}

/// Datagrams of one peer, all but the last of the same length.
pub(in crate::io) struct Message<'a> {
    /// Who sent them.
    pub(in crate::io) from: SocketAddr,
    /// The address they were sent to, if the system said.
    pub(in crate::io) local: Option<IpAddr>,
    /// The datagrams, to be decrypted in place.
    pub(in crate::io) datagrams: std::slice::ChunksMut<'a, u8>,
}

impl ReceiveBatch {
    /// Empty buffers.
    pub(in crate::io) fn new() -> Self {
        let vector = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        // SAFETY: integers and pointers, for which zero is a value.
        let header: libc::mmsghdr = unsafe { std::mem::zeroed() };
        Self {
            buffers: vec![0; MESSAGES * BUFFER],
            addresses: vec![RawAddress::zeroed(); MESSAGES],
            controls: vec![Control::EMPTY; MESSAGES],
            vectors: vec![vector; MESSAGES],
            headers: vec![header; MESSAGES],
            received: 0,
        }
    }

    /// Receives what is there; says how many messages, and whether more may wait.
    pub(in crate::io) fn receive(&mut self, fd: RawFd) -> io::Result<(usize, bool)> {
        self.received = 0;
        self.prepare();
        let headers = self.headers.as_mut_ptr();
        let length = libc::c_uint::try_from(MESSAGES).unwrap_or_default();
        let flags = libc::MSG_DONTWAIT;
        // SAFETY: `prepare` pointed every header to a buffer, an address and a control buffer of
        // this batch, each with its true length, and nothing moved since.
        let count = unsafe { libc::recvmmsg(fd, headers, length, flags, ptr::null_mut()) };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        self.received = count;
        Ok((count, count == MESSAGES))
    }

    /// The `index`-th message of the last receive; `None` for one from no address.
    pub(in crate::io) fn message(&mut self, index: usize) -> Option<Message<'_>> {
        if self.received <= index {
            return None;
        }
        let header = &self.headers[index];
        let from = self.addresses[index].address()?;
        let control = self.controls[index].read(&header.msg_hdr);
        let length = (header.msg_len as usize).min(BUFFER);
        let bytes = &mut self.buffers[index * BUFFER..][..length];
        let segment = control.segment.unwrap_or(length).max(1);
        Some(Message { from, local: control.local, datagrams: bytes.chunks_mut(segment) })
    }

    /// Points every header to its buffers.
    fn prepare(&mut self) {
        let parts = self
            .buffers
            .chunks_exact_mut(BUFFER)
            .zip(&mut self.addresses)
            .zip(&mut self.controls)
            .zip(&mut self.vectors)
            .zip(&mut self.headers);
        for ((((buffer, address), control), vector), header) in parts {
            vector.iov_base = buffer.as_mut_ptr().cast();
            vector.iov_len = buffer.len();
            let header = &mut header.msg_hdr;
            header.msg_iov = vector;
            header.msg_iovlen = 1;
            header.msg_name = ptr::from_mut(address).cast();
            header.msg_namelen = CAPACITY;
            header.msg_flags = 0;
            control.attach(header);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;

    use super::*;

    fn socket() -> std::net::UdpSocket {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    }

    #[test]
    fn messages_arrive_whole_and_in_order() {
        let (receiver, sender) = (socket(), socket());
        let to = receiver.local_addr().unwrap();
        for length in 1..=100_usize {
            sender.send_to(&vec![7; length], to).unwrap();
        }
        let mut batch = ReceiveBatch::new();
        let mut lengths = Vec::new();
        loop {
            match batch.receive(receiver.as_raw_fd()) {
                Ok((count, more)) => {
                    for index in 0..count {
                        let message = batch.message(index).unwrap();
                        assert_eq!(message.from, sender.local_addr().unwrap());
                        lengths.extend(message.datagrams.map(|datagram| datagram.len()));
                    }
                    assert!(batch.message(count).is_none());
                    if !more {
                        break;
                    }
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(lengths, (1..=100).collect::<Vec<_>>());
        let error = batch.receive(receiver.as_raw_fd()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}
