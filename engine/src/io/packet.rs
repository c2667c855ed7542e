//! The header of a packet, as far as it must be known to find the packet's connection.
//!
//! Borrows from the datagram: reading one allocates nothing, whatever it holds.

use super::cid::{self, Cid};

/// The only version of QUIC that is spoken.
pub(super) const VERSION: u32 = 1;
/// The least bytes of a datagram that may begin a connection (RFC 9000 section 14.1).
pub(super) const INITIAL_MIN: usize = 1_200;
/// Bytes of the longest id of version 1.
pub(super) const CID_MAX: usize = 20;

/// What the first packet of a datagram is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Packet<'a> {
    /// A short header; its destination is an id of ours, or nobody's.
    Short { destination: &'a Cid },
    /// An Initial.
    Initial { destination: &'a [u8], source: &'a [u8], token: &'a [u8] },
    /// Another packet with a long header: Handshake, 0-RTT, Retry, version negotiation.
    Long { destination: &'a [u8] },
    /// A long header of a version that is not spoken.
    OtherVersion { destination: &'a [u8], source: &'a [u8] },
}

impl<'a> Packet<'a> {
    /// Reads the first header of a datagram; `None` for what is no QUIC packet.
    pub(super) fn parse(datagram: &'a [u8]) -> Option<Self> {
        let (&first, rest) = datagram.split_first()?;
        if first & 0x80 == 0 {
            let destination = rest.first_chunk::<{ cid::LENGTH }>()?;
            return Some(Self::Short { destination });
        }
        let (version, rest) = rest.split_first_chunk::<4>()?;
        let (destination, rest) = prefixed(rest)?;
        let (source, rest) = prefixed(rest)?;
        match u32::from_be_bytes(*version) {
            // A version negotiation has version 0 and is for its client's connection to judge.
            0 => Some(Self::Long { destination }),
            VERSION if destination.len() > CID_MAX || source.len() > CID_MAX => None,
            VERSION if first & 0x30 == 0 => {
                let (length, rest) = varint(rest)?;
                let token = rest.get(..usize::try_from(length).ok()?)?;
                Some(Self::Initial { destination, source, token })
            }
            VERSION => Some(Self::Long { destination }),
            _ => Some(Self::OtherVersion { destination, source }),
        }
    }
}

/// The id that a datagram with a short header is sent to.
pub(super) fn short_destination(datagram: &[u8]) -> Option<Cid> {
    match Packet::parse(datagram)? {
        Packet::Short { destination } => Some(*destination),
        Packet::Initial { .. } | Packet::Long { .. } | Packet::OtherVersion { .. } => None,
    }
}

/// Bytes behind one byte of length.
fn prefixed(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&length, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(length))
}

/// A variable-length integer (RFC 9000 section 16).
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let &first = bytes.first()?;
    let (encoded, rest) = bytes.split_at_checked(1 << (first >> 6))?;
    let value = encoded[1..]
        .iter()
        .fold(u64::from(first & 0x3f), |value, &byte| value << 8 | u64::from(byte));
    Some((value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn long(first: u8, version: u32, destination: &[u8], source: &[u8], rest: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first];
        bytes.extend(version.to_be_bytes());
        bytes.push(u8::try_from(destination.len()).unwrap());
        bytes.extend(destination);
        bytes.push(u8::try_from(source.len()).unwrap());
        bytes.extend(source);
        bytes.extend(rest);
        bytes
    }

    #[track_caller]
    fn check(bytes: &[u8], header: usize, packet: Packet<'_>) {
        assert_eq!(Packet::parse(bytes), Some(packet));
        for cut in 0..header {
            assert_eq!(Packet::parse(&bytes[..cut]), None, "cut at {cut}");
        }
    }

    #[test]
    fn short_headers_hold_an_id_of_ours() {
        let mut bytes = vec![0x41];
        bytes.extend(0..20);
        let destination = &std::array::from_fn(|index| u8::try_from(index).unwrap());
        check(&bytes, 17, Packet::Short { destination });
    }

    #[test]
    fn initials_hold_a_token() {
        let bytes = long(0xc3, VERSION, b"destination", b"source", b"\x40\x05tokenrest");
        let packet =
            Packet::Initial { destination: b"destination", source: b"source", token: b"token" };
        check(&bytes, bytes.len() - 4, packet);
    }

    #[test]
    fn other_long_headers_are_told_apart() {
        let bytes = long(0xe3, VERSION, b"d", b"s", b"");
        check(&bytes, bytes.len(), Packet::Long { destination: b"d" });
        let bytes = long(0x80, 0, b"d", b"s", b"");
        check(&bytes, bytes.len(), Packet::Long { destination: b"d" });
        let bytes = long(0xc3, 0x0a0a_0a0a, &[7; 30], b"s", b"");
        check(&bytes, bytes.len(), Packet::OtherVersion { destination: &[7; 30], source: b"s" });
    }

    #[test]
    fn ids_too_long_for_the_version_are_refused() {
        assert_eq!(Packet::parse(&long(0xc3, VERSION, &[1; 21], b"", b"\0")), None);
        assert_eq!(Packet::parse(&long(0xc3, VERSION, b"", &[1; 21], b"\0")), None);
    }
}
