//! Retry tokens: proof that a client receives at the address it sends from.
//!
//! ```text
//! | nonce 12 | AES-128-GCM( minted at, ms, 8 | original destination id 0..=20 ) | tag 16 |
//! ```
//! The peer's address and the id of the Retry are authenticated with it. The key lives as long as
//! the process and leaves it never; a token lives for ten seconds.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use boring::{
    aead::{AeadCtx, Algorithm},
    error::ErrorStack,
    rand::rand_bytes,
};

use super::{cid::RetryCid, packet::CID_MAX};

/// How long a token is good for.
const LIFETIME: Duration = Duration::from_secs(10);
const NONCE: usize = 12;
const TIME: usize = 8;
const TAG: usize = 16;
/// Bytes of the longest token.
pub(super) const TOKEN_MAX: usize = NONCE + TIME + CID_MAX + TAG;

/// Mints tokens, and opens them.
pub(super) struct Tokens {
    aead: AeadCtx,
    /// Counted, so that no nonce comes twice under one key.
    nonce: [u8; NONCE],
    minted: u64,
    epoch: Instant,
}

/// The destination id of a client's very first packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct OriginalId {
    bytes: [u8; CID_MAX],
    length: usize,
}

impl OriginalId {
    /// Its bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Tokens {
    /// A mint with a new key.
    pub(super) fn new(key: &[u8; 16], worker: u8, epoch: Instant) -> Result<Self, ErrorStack> {
        let mut nonce = [0; NONCE];
        rand_bytes(&mut nonce)?;
        // No two workers use one nonce.
        nonce[0] = worker;
        let aead = AeadCtx::new_default_tag(&Algorithm::aes_128_gcm(), key)?;
        Ok(Self { aead, nonce, minted: 0, epoch })
    }

    /// Writes a token to the front of `out` and says how long it is.
    ///
    /// `None` if `original` is longer than an id can be, or sealing fails.
    pub(super) fn mint(
        &mut self,
        out: &mut [u8; TOKEN_MAX],
        peer: SocketAddr,
        original: &[u8],
        retry: &RetryCid,
        now: Instant,
    ) -> Option<usize> {
        let body = TIME + original.len();
        if original.len() > CID_MAX {
            return None;
        }
        self.minted += 1;
        let mut nonce = self.nonce;
        for (byte, count) in nonce[NONCE - 8..].iter_mut().zip(self.minted.to_be_bytes()) {
            *byte ^= count;
        }
        out[..NONCE].copy_from_slice(&nonce);
        out[NONCE..][..TIME].copy_from_slice(&self.millis(now).to_be_bytes());
        out[NONCE + TIME..][..original.len()].copy_from_slice(original);
        let (text, tag) = out[NONCE..].split_at_mut(body);
        let tag = tag.first_chunk_mut::<TAG>()?;
        self.aead.seal_in_place_mut(&nonce, text, tag, &bound(peer, retry)).ok()?;
        Some(NONCE + body + TAG)
    }

    /// The original id in a token of ours that was minted for this peer and this Retry lately.
    pub(super) fn open(
        &mut self,
        token: &[u8],
        peer: SocketAddr,
        retry: &RetryCid,
        now: Instant,
    ) -> Option<OriginalId> {
        let (nonce, rest) = token.split_first_chunk::<NONCE>()?;
        let (text, tag) = rest.split_last_chunk::<TAG>()?;
        let mut buffer = [0; TIME + CID_MAX];
        let buffer = buffer.get_mut(..text.len())?;
        buffer.copy_from_slice(text);
        self.aead.open_in_place_mut(nonce, buffer, tag, &bound(peer, retry)).ok()?;
        let (minted, original) = buffer.split_first_chunk::<TIME>()?;
        // Workers' clocks may differ a little, once the process was stopped.
        let age = self.millis(now).saturating_sub(u64::from_be_bytes(*minted));
        if u128::from(age) > LIFETIME.as_millis() {
            return None;
        }
        let mut bytes = [0; CID_MAX];
        bytes[..original.len()].copy_from_slice(original);
        Some(OriginalId { bytes, length: original.len() })
    }

    fn millis(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.epoch).as_millis()).unwrap_or(u64::MAX)
    }
}

/// What a token is bound to: address, port and the Retry's id.
fn bound(peer: SocketAddr, retry: &RetryCid) -> [u8; 26] {
    let address = match peer.ip() {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    let mut bytes = [0; 26];
    bytes[..16].copy_from_slice(&address.octets());
    bytes[16..18].copy_from_slice(&peer.port().to_be_bytes());
    bytes[18..].copy_from_slice(retry);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETRY: RetryCid = [7; 8];

    struct Minted {
        tokens: Tokens,
        token: Vec<u8>,
        peer: SocketAddr,
        now: Instant,
    }

    fn minted(original: &[u8]) -> Minted {
        let now = Instant::now();
        let peer = "192.0.2.1:4433".parse().unwrap();
        let mut tokens = Tokens::new(&[1; 16], 0, now).unwrap();
        let mut token = [0; TOKEN_MAX];
        let length = tokens.mint(&mut token, peer, original, &RETRY, now).unwrap();
        Minted { tokens, token: token[..length].to_vec(), peer, now }
    }

    #[test]
    fn a_token_gives_its_id_back() {
        for original in [&b""[..], b"12345678", &[9; CID_MAX]] {
            let Minted { mut tokens, token, peer, now } = minted(original);
            let late = now + LIFETIME;
            assert_eq!(tokens.open(&token, peer, &RETRY, late).unwrap().bytes(), original);
        }
        assert_eq!(minted(b"12345678").token.len(), NONCE + TIME + 8 + TAG);
    }

    #[test]
    fn an_old_token_is_refused() {
        let Minted { mut tokens, token, peer, now } = minted(b"12345678");
        let late = now + LIFETIME + Duration::from_millis(1);
        assert_eq!(tokens.open(&token, peer, &RETRY, late), None);
    }

    #[test]
    fn a_token_of_another_peer_is_refused() {
        let Minted { mut tokens, token, now, .. } = minted(b"12345678");
        for other in ["192.0.2.1:4434", "192.0.2.2:4433", "[2001:db8::1]:4433"] {
            assert_eq!(tokens.open(&token, other.parse().unwrap(), &RETRY, now), None, "{other}");
        }
    }

    #[test]
    fn a_token_of_another_retry_or_process_is_refused() {
        let Minted { mut tokens, token, peer, now } = minted(b"12345678");
        assert_eq!(tokens.open(&token, peer, &[8; 8], now), None);
        assert_eq!(Tokens::new(&[2; 16], 0, now).unwrap().open(&token, peer, &RETRY, now), None);
    }

    #[test]
    fn another_worker_of_the_process_takes_a_token() {
        let Minted { token, peer, now, .. } = minted(b"12345678");
        let mut other = Tokens::new(&[1; 16], 1, now).unwrap();
        assert_eq!(other.open(&token, peer, &RETRY, now).unwrap().bytes(), b"12345678");
    }

    #[test]
    fn a_changed_token_is_refused() {
        let Minted { mut tokens, token, peer, now } = minted(b"12345678");
        for index in 0..token.len() {
            let mut changed = token.clone();
            changed[index] ^= 1;
            assert_eq!(tokens.open(&changed, peer, &RETRY, now), None, "byte {index}");
        }
        for length in 0..token.len() {
            assert_eq!(tokens.open(&token[..length], peer, &RETRY, now), None, "cut at {length}");
        }
        assert_eq!(tokens.open(&[0; 400], peer, &RETRY, now), None);
    }
}
