//! Control messages: what goes with a datagram besides its bytes.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ptr,
};

/// Room for a segment size and a local address, with their headers.
const CAPACITY: usize = 128;

/// A buffer of control messages, aligned as their headers want it.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Control {
    bytes: [u8; CAPACITY],
}

/// What came with received datagrams.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Received {
    /// Bytes of each datagram but the last, if the system joined several.
    pub(super) segment: Option<usize>,
    /// The address that they were sent to.
    pub(super) local: Option<IpAddr>,
}

impl Control {
    /// No control messages.
    pub(super) const EMPTY: Self = Self { bytes: [0; CAPACITY] };

    /// Makes `header` receive control messages here.
    pub(super) fn attach(&mut self, header: &mut libc::msghdr) {
        header.msg_control = self.bytes.as_mut_ptr().cast();
        header.msg_controllen = CAPACITY;
    }

    /// Writes what `header` shall send: a segment size if there are several, and the address to
    /// send from.
    pub(super) fn write(
        &mut self,
        header: &mut libc::msghdr,
        segment: Option<u16>,
        local: Option<IpAddr>,
    ) {
        let mut used = 0;
        if let Some(segment) = segment {
            used = self.push(used, libc::SOL_UDP, libc::UDP_SEGMENT, segment);
        }
        match local {
            Some(IpAddr::V4(address)) => {
                let address = libc::in_addr { s_addr: u32::from_ne_bytes(address.octets()) };
                let nowhere = libc::in_addr { s_addr: 0 };
                let value =
                    libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: address, ipi_addr: nowhere };
                used = self.push(used, libc::IPPROTO_IP, libc::IP_PKTINFO, value);
            }
            Some(IpAddr::V6(address)) => {
                let address = libc::in6_addr { s6_addr: address.octets() };
                let value = libc::in6_pktinfo { ipi6_addr: address, ipi6_ifindex: 0 };
                used = self.push(used, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, value);
            }
            None => {}
        }
        header.msg_controllen = used;
        header.msg_control =
            if used == 0 { ptr::null_mut() } else { self.bytes.as_mut_ptr().cast() };
    }

    /// Appends one message at `offset`; says where the next begins.
    fn push<T: Copy>(
        &mut self,
        offset: usize,
        level: libc::c_int,
        kind: libc::c_int,
        value: T,
    ) -> usize {
        let length = u32::try_from(size_of::<T>()).unwrap_or(u32::MAX);
        // SAFETY: arithmetic on its argument alone.
        let space = unsafe { libc::CMSG_SPACE(length) } as usize;
        // SAFETY: arithmetic on its argument alone.
        let cmsg_len = unsafe { libc::CMSG_LEN(length) } as usize;
        let room = &mut self.bytes[offset..offset + space];
        let header = libc::cmsghdr { cmsg_len, cmsg_level: level, cmsg_type: kind };
        let data = cmsg_len - size_of::<T>();
        let start: *mut u8 = room.as_mut_ptr();
        // SAFETY: `room` holds `space` bytes, which is the header and more; unaligned is allowed.
        unsafe { start.cast::<libc::cmsghdr>().write_unaligned(header) };
        // SAFETY: `data` is where CMSG_LEN says that the value begins, inside `room`.
        let value_at = unsafe { start.add(data) };
        // SAFETY: `room` holds a `T` from there on, as CMSG_SPACE says; unaligned is allowed.
        unsafe { value_at.cast::<T>().write_unaligned(value) };
        offset + space
    }

    /// Reads what the system wrote for `header`, which this buffer was attached to.
    pub(super) fn read(&self, header: &libc::msghdr) -> Received {
        let mut received = Received::default();
        let mut rest = &self.bytes[..header.msg_controllen.min(CAPACITY)];
        while let Some((kind, data, next)) = split(rest) {
            match kind {
                (libc::SOL_UDP, libc::UDP_GRO) => {
                    let segment = value::<libc::c_int>(data).and_then(|it| it.try_into().ok());
                    received.segment = segment.filter(|&segment| segment != 0);
                }
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    received.local = value::<libc::in_pktinfo>(data)
                        .map(|it| Ipv4Addr::from(it.ipi_addr.s_addr.to_ne_bytes()).into());
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    received.local = value::<libc::in6_pktinfo>(data)
                        .map(|it| Ipv6Addr::from(it.ipi6_addr.s6_addr).into());
                }
                _ => {}
            }
            rest = next;
        }
        received
    }
}

/// The first message of a buffer: level and type, its data, and what follows.
#[expect(clippy::type_complexity, reason = "three parts, taken apart at once")]
fn split(bytes: &[u8]) -> Option<((libc::c_int, libc::c_int), &[u8], &[u8])> {
    let header = value::<libc::cmsghdr>(bytes)?;
    // SAFETY: arithmetic on its argument alone.
    let data = unsafe { libc::CMSG_LEN(0) } as usize;
    let payload = bytes.get(data..header.cmsg_len)?;
    let align = align_of::<libc::cmsghdr>();
    let next = header.cmsg_len.next_multiple_of(align).min(bytes.len());
    Some(((header.cmsg_level, header.cmsg_type), payload, &bytes[next..]))
}

/// Plain old data of the system's, which any bytes are a value of.
trait Plain: Copy {}
impl Plain for libc::c_int {}
impl Plain for libc::cmsghdr {}
impl Plain for libc::in_pktinfo {}
impl Plain for libc::in6_pktinfo {}

/// The value at the front of `bytes`, if they suffice.
fn value<T: Plain>(bytes: &[u8]) -> Option<T> {
    // SAFETY: there are enough bytes, any of which make a `T` (`Plain`); unaligned is allowed.
    (size_of::<T>() <= bytes.len()).then(|| unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> libc::msghdr {
        // SAFETY: integers and pointers, for which zero is a value.
        unsafe { std::mem::zeroed() }
    }

    #[test]
    fn what_is_written_can_be_read() {
        for local in
            [None, Some("192.0.2.7".parse().unwrap()), Some("2001:db8::7".parse().unwrap())]
        {
            for segment in [None, Some(1_350)] {
                let mut control = Control::EMPTY;
                let mut header = header();
                control.write(&mut header, segment, local);
                assert_eq!(header.msg_control.is_null(), segment.is_none() && local.is_none());
                let read = control.read(&header);
                // The system names the address it was sent to in another field than the one to
                // send from, for version 4.
                let expected = if local.is_some_and(|it| it.is_ipv4()) {
                    Some(Ipv4Addr::UNSPECIFIED.into())
                } else {
                    local
                };
                assert_eq!(read.local, expected);
                assert_eq!(read.segment, None, "sending has another type than receiving");
            }
        }
    }

    #[test]
    fn a_joined_receive_says_its_segment() {
        let mut control = Control::EMPTY;
        let mut header = header();
        let used = control.push(0, libc::SOL_UDP, libc::UDP_GRO, 1_200_i32);
        header.msg_controllen = used;
        assert_eq!(control.read(&header).segment, Some(1_200));
    }

    #[test]
    fn garbage_is_no_message() {
        let mut control = Control { bytes: [0xff; CAPACITY] };
        let mut header = header();
        control.attach(&mut header);
        assert_eq!(control.read(&header), Received::default());
        control.bytes = [0; CAPACITY];
        assert_eq!(control.read(&header), Received::default());
    }
}
