//! Packets for no connection there is: new clients, old peers, and noise.
//!
//! Whoever has proven nothing costs nothing: headers are read in place, answers are shorter than
//! what they answer and, where they are not part of a handshake, limited per second.

use std::{net::SocketAddr, time::Instant};

use aip_codec::Version;

use super::{
    cid::{Cid, Issuer, RetryCid},
    config::{Config, RetryPolicy},
    connection_table::{InitialKey, generation_of},
    error::Error,
    keys::Keys,
    packet::{INITIAL_MIN, Packet},
    quic::{self, Quic},
    stateless_reset::{Limiter, ResetKey},
    tls,
    token::{OriginalId, TOKEN_MAX, Tokens},
};
use crate::{metrics::Counters, transport::SessionId};

/// The least bytes of the id that a client chooses for its first packet (RFC 9000 section 7.2).
const INITIAL_ID_MIN: usize = 8;
/// Bytes of the longest answer.
const ANSWER_MAX: usize = 1_200;

/// Decides what becomes of packets for no connection.
pub(super) struct Acceptor {
    config: quiche::Config,
    retry: RetryPolicy,
    half_open_max: usize,
    connections_max: usize,
    tokens: Tokens,
    reset_key: ResetKey,
    resets: Limiter,
    negotiations: Limiter,
    /// Handshakes under way.
    pub(super) half_open: usize,
    /// Whether new connections are ignored.
    pub(super) refuse: bool,
    /// Whether they are for want of memory.
    pub(super) is_short: bool,
}

/// A packet for no connection.
pub(super) struct Stranger<'a> {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) datagram: &'a [u8],
}

/// Where a new connection would go.
pub(super) struct Room<'a> {
    pub(super) next: Option<(u32, SessionId)>,
    /// Connections of all workers.
    pub(super) connections: usize,
    pub(super) ids: &'a Issuer,
}

/// What becomes of a packet.
pub(super) enum Verdict {
    /// Nothing.
    Ignore,
    /// This is sent back.
    Answer(Box<Answer>),
    /// A connection begins with it.
    Accept { quic: Box<Quic>, initial: InitialKey, session: SessionId },
}

/// One datagram.
pub(super) struct Answer {
    bytes: [u8; ANSWER_MAX],
    length: usize,
}

impl Answer {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// What `write` writes; nothing if it does not.
    fn of<E>(write: impl FnOnce(&mut [u8]) -> Result<usize, E>) -> Verdict {
        let mut bytes = [0; ANSWER_MAX];
        match write(&mut bytes) {
            Ok(length) => Verdict::Answer(Box::new(Self { bytes, length })),
            Err(_) => Verdict::Ignore,
        }
    }
}

/// A client's first packet.
struct Initial<'a> {
    destination: &'a [u8],
    source: &'a [u8],
    token: &'a [u8],
}

impl Acceptor {
    /// An acceptor that shows `certificate`.
    pub(super) fn new(
        config: &Config,
        certificate: &tls::Certificate,
        keys: &Keys,
        worker: u8,
        now: Instant,
    ) -> Result<Self, Error> {
        let handshake = &config.handshake;
        // What all workers may do together is shared out among them.
        let workers = u32::try_from(config.workers).unwrap_or(u32::MAX).max(1);
        let per_second = handshake.stateless_resets_per_second.div_ceil(workers);
        let mut protocols = quic::protocols(&Version::PREFERENCE);
        protocols.push(quic::HTTP3);
        Ok(Self {
            config: quic::config(
                certificate.server()?,
                &protocols,
                &config.quic,
                Some(&keys.ticket),
            )?,
            retry: handshake.retry,
            half_open_max: handshake.half_open_max.div_ceil(config.workers.max(1)),
            connections_max: handshake.connections_max,
            tokens: Tokens::new(&keys.token, worker, keys.epoch)?,
            reset_key: keys.reset.clone(),
            resets: Limiter::new(per_second, now),
            negotiations: Limiter::new(per_second, now),
            half_open: 0,
            refuse: false,
            is_short: false,
        })
    }

    /// Decides.
    pub(super) fn handle(
        &mut self,
        stranger: Stranger<'_>,
        room: Room<'_>,
        counters: &mut Counters,
        now: Instant,
    ) -> Verdict {
        let long_enough = INITIAL_MIN <= stranger.datagram.len();
        match Packet::parse(stranger.datagram) {
            Some(Packet::Short { destination }) => {
                self.reset(destination, stranger.datagram.len(), counters, now)
            }
            Some(Packet::OtherVersion { destination, source }) if long_enough => {
                if !self.negotiations.admit(now) {
                    return Verdict::Ignore;
                }
                counters.version_negotiations_total += 1;
                let (source, destination) = (id(source), id(destination));
                Answer::of(|out| quiche::negotiate_version(&source, &destination, out))
            }
            Some(Packet::Initial { destination, source, token })
                if long_enough && INITIAL_ID_MIN <= destination.len() =>
            {
                let initial = Initial { destination, source, token };
                self.handle_initial(&stranger, &initial, room, counters, now)
            }
            Some(Packet::Initial { .. } | Packet::OtherVersion { .. } | Packet::Long { .. })
            | None => {
                counters.packets_dropped_total += 1;
                Verdict::Ignore
            }
        }
    }

    fn handle_initial(
        &mut self,
        stranger: &Stranger<'_>,
        initial: &Initial<'_>,
        room: Room<'_>,
        counters: &mut Counters,
        now: Instant,
    ) -> Verdict {
        if self.refuse || self.is_short || self.connections_max <= room.connections {
            counters.handshakes_refused_total += 1;
            return Verdict::Ignore;
        }
        let proven = if initial.token.is_empty() {
            None
        } else {
            let Some(proven) = self.open_token(stranger.from, initial, now) else {
                counters.retry_tokens_refused_total += 1;
                return Verdict::Ignore;
            };
            Some(proven)
        };
        let wanted = match self.retry {
            RetryPolicy::Always => true,
            RetryPolicy::Auto => self.half_open_max <= self.half_open,
            RetryPolicy::Never => false,
        };
        if wanted && proven.is_none() {
            counters.retries_total += 1;
            return self.demand_proof(stranger.from, initial, room.ids, now);
        }
        counters.handshakes_total += 1;
        self.accept(stranger, initial, proven, room)
    }

    fn open_token(
        &mut self,
        from: SocketAddr,
        initial: &Initial<'_>,
        now: Instant,
    ) -> Option<OriginalId> {
        let retry: &RetryCid = initial.destination.try_into().ok()?;
        self.tokens.open(initial.token, from, retry, now)
    }

    fn demand_proof(
        &mut self,
        from: SocketAddr,
        initial: &Initial<'_>,
        ids: &Issuer,
        now: Instant,
    ) -> Verdict {
        let Ok(retry) = ids.issue_retry() else { return Verdict::Ignore };
        let mut token = [0; TOKEN_MAX];
        let minted = self.tokens.mint(&mut token, from, initial.destination, &retry, now);
        let Some(length) = minted else { return Verdict::Ignore };
        let source = id(initial.source);
        let destination = id(initial.destination);
        let retry = id(&retry);
        let token = &token[..length];
        Answer::of(|out| {
            quiche::retry(&source, &destination, &retry, token, quiche::PROTOCOL_VERSION, out)
        })
    }

    fn accept(
        &mut self,
        stranger: &Stranger<'_>,
        initial: &Initial<'_>,
        proven: Option<OriginalId>,
        room: Room<'_>,
    ) -> Verdict {
        let Some((slot, session)) = room.next else { return Verdict::Ignore };
        let Ok(own) = room.ids.issue(slot, generation_of(session)) else { return Verdict::Ignore };
        let Ok(token) = self.reset_key.token(&own) else { return Verdict::Ignore };
        let Some(key) = InitialKey::new(stranger.from, initial.destination) else {
            return Verdict::Ignore;
        };
        self.config.set_stateless_reset_token(Some(token));
        let own = id(&own);
        let (to, from, config) = (stranger.to, stranger.from, &mut self.config);
        let quic = match proven {
            Some(original) => {
                let ids = quiche::RetryConnectionIds {
                    original_destination_cid: &id(original.bytes()),
                    retry_source_cid: &id(initial.destination),
                };
                quiche::accept_with_retry(&own, ids, to, from, config)
            }
            None => quiche::accept_with_buf_factory(&own, None, to, from, config),
        };
        match quic {
            Ok(quic) => {
                self.half_open += 1;
                Verdict::Accept { quic: Box::new(quic), initial: key, session }
            }
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                Verdict::Ignore
            }
        }
    }

    fn reset(
        &mut self,
        destination: &Cid,
        trigger: usize,
        counters: &mut Counters,
        now: Instant,
    ) -> Verdict {
        counters.packets_dropped_total += 1;
        if !self.resets.admit(now) {
            return Verdict::Ignore;
        }
        let answer = Answer::of(|out| self.reset_key.write(out, destination, trigger).ok_or(()));
        counters.stateless_resets_total += u64::from(matches!(answer, Verdict::Answer(_)));
        answer
    }
}

/// An id as quiche wants it.
const fn id(bytes: &[u8]) -> quiche::ConnectionId<'_> {
    quiche::ConnectionId::from_ref(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::config::Identity;

    #[test]
    fn the_longest_transport_parameters_fit() {
        let now = Instant::now();
        let mut config =
            Config::server(vec!["127.0.0.1:0".parse().unwrap()], Identity::Development);
        config.handshake.retry = RetryPolicy::Always;
        config.quic.idle_timeout = std::time::Duration::from_secs(1_000);
        config.quic.stream_window = (1 << 30) - 1;
        config.quic.stream_window_max = (1 << 30) - 1;
        config.quic.connection_window = (1 << 30) - 1;
        config.quic.connection_window_max = (1 << 30) - 1;
        config.quic.streams_bidirectional_max = 16_380;
        config.quic.streams_unidirectional_max = 16_380;
        config.quic.check().unwrap();
        let certificate = tls::Certificate::new(&Identity::Development).unwrap();
        let keys = Keys::new(&config, now).unwrap();
        let mut acceptor = Acceptor::new(&config, &certificate, &keys, 0, now).unwrap();
        let ids = Issuer::new(0).unwrap();
        let retry = ids.issue_retry().unwrap();
        let from = "127.0.0.1:1".parse().unwrap();
        let mut token = [0; TOKEN_MAX];
        let length = acceptor.tokens.mint(&mut token, from, &[7; 20], &retry, now).unwrap();
        let mut datagram = vec![0xc3, 0, 0, 0, 1, 8];
        datagram.extend(retry);
        datagram.push(0);
        datagram.extend([0x40, u8::try_from(length).unwrap()]);
        datagram.extend(&token[..length]);
        datagram.resize(INITIAL_MIN, 0);
        let stranger = Stranger { from, to: from, datagram: &datagram };
        let room = Room { next: Some((0, SessionId(1 << 24))), connections: 0, ids: &ids };
        let verdict = acceptor.handle(stranger, room, &mut Counters::default(), now);
        assert!(matches!(verdict, Verdict::Accept { .. }));
    }
}
