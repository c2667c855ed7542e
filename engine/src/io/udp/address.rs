//! Socket addresses as the system wants them.

use std::{
    mem,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
};

/// Room for an address of either family.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) union RawAddress {
    family: libc::sa_family_t,
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

/// Bytes that the system may write.
pub(super) const CAPACITY: libc::socklen_t = size_of_u32::<RawAddress>();

const fn size_of_u32<T>() -> u32 {
    let size = size_of::<T>();
    assert!(size <= u32::MAX as usize, "a type larger than 4 GiB");
    #[expect(clippy::cast_possible_truncation, reason = "asserted above")]
    {
        size as u32
    }
}

const fn family(value: libc::c_int) -> libc::sa_family_t {
    assert!(0 <= value && value <= 255, "an address family is small");
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "asserted above")]
    {
        value as libc::sa_family_t
    }
}

const V4: libc::sa_family_t = family(libc::AF_INET);
const V6: libc::sa_family_t = family(libc::AF_INET6);

impl RawAddress {
    /// No address.
    pub(super) const fn zeroed() -> Self {
        // SAFETY: every field is made of integers, for which zero is a value.
        unsafe { mem::zeroed() }
    }

    /// An address, and how many of the bytes it takes.
    pub(super) fn new(address: SocketAddr) -> (Self, libc::socklen_t) {
        let mut raw = Self::zeroed();
        match address {
            SocketAddr::V4(address) => {
                raw.v4 = libc::sockaddr_in {
                    sin_family: V4,
                    sin_port: address.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
                    sin_zero: [0; 8],
                };
                (raw, size_of_u32::<libc::sockaddr_in>())
            }
            SocketAddr::V6(address) => {
                raw.v6 = libc::sockaddr_in6 {
                    sin6_family: V6,
                    sin6_port: address.port().to_be(),
                    sin6_flowinfo: address.flowinfo(),
                    sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                    sin6_scope_id: address.scope_id(),
                };
                (raw, size_of_u32::<libc::sockaddr_in6>())
            }
        }
    }

    /// The address that the system wrote; `None` for another family.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        // SAFETY: all bytes are initialised (`zeroed`, then the system), and every variant begins
        // with the family.
        match unsafe { self.family } {
            V4 => {
                // SAFETY: as above; the family says that this is the variant.
                let raw = unsafe { self.v4 };
                let ip = Ipv4Addr::from(raw.sin_addr.s_addr.to_ne_bytes());
                Some(SocketAddrV4::new(ip, u16::from_be(raw.sin_port)).into())
            }
            V6 => {
                // SAFETY: as above; the family says that this is the variant.
                let raw = unsafe { self.v6 };
                let ip = Ipv6Addr::from(raw.sin6_addr.s6_addr);
                let port = u16::from_be(raw.sin6_port);
                Some(SocketAddrV6::new(ip, port, raw.sin6_flowinfo, raw.sin6_scope_id).into())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_way_there_and_back() {
        for text in ["127.0.0.1:4443", "255.1.2.3:65535", "[::1]:1", "[fe80::1%3]:4443"] {
            let address: SocketAddr = text.parse().unwrap();
            let (raw, length) = RawAddress::new(address);
            assert_eq!(raw.address(), Some(address));
            assert!(length <= CAPACITY);
        }
        assert_eq!(RawAddress::zeroed().address(), None);
    }
}
