//! quiche as it is configured here.

use aip_codec::Version;
use boring::ssl::SslContextBuilder;
use bytes::Bytes;

use super::{config, error::Error};

/// A connection whose buffers are shared.
pub(super) type Quic = quiche::Connection<Shared>;

/// Makes quiche keep references to our bytes instead of copies of its own.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Shared;

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

/// Connection ids that a peer may give us, and paths that a connection may have used.
///
/// quiche never forgets a path whose peer moved away from it, and ignores the peer on one path
/// more than this; so this is how often a peer's address may change.
pub(super) const ACTIVE_IDS_MAX: u64 = 32;
/// Connection ids that we give a peer, so that it may move.
pub(super) const SOURCE_IDS: usize = 4;
/// The longest packet that we take: quiche sends none that is longer.
const UDP_PAYLOAD_MAX: usize = 16_383;
/// Round trip that is assumed before the first is measured: a lost first packet is sent again
/// after three times this.
const INITIAL_RTT: std::time::Duration = std::time::Duration::from_millis(100);
/// The protocol that is agreed upon for WebTransport (RFC 9114 section 3.1).
pub(super) const HTTP3: &[u8] = b"h3";
/// CRYPTO_ERROR with the alert `no_application_protocol` (RFC 9001 section 4.8).
pub(super) const NO_APPLICATION_PROTOCOL: u64 = 0x178;
/// CRYPTO_ERROR with the alert `bad_certificate`.
pub(super) const BAD_CERTIFICATE: u64 = 0x12a;
/// CONNECTION_REFUSED (RFC 9000 section 20.1).
pub(super) const CONNECTION_REFUSED: u64 = 0x2;

/// The settings of all connections of one role.
///
/// `protocols` are those offered, or taken, first choice first. `ticket_key` lets all of a process's
/// workers resume each other's TLS sessions.
pub(super) fn config(
    tls: SslContextBuilder,
    protocols: &[&[u8]],
    limits: &config::Quic,
    ticket_key: Option<&[u8; 48]>,
) -> Result<quiche::Config, Error> {
    let failed = |error: quiche::Error| Error::Tls(format!("quiche: {error}"));
    let mut config = quiche::Config::with_boring_ssl_ctx_builder(quiche::PROTOCOL_VERSION, tls)
        .map_err(failed)?;
    config.set_application_protos(protocols).map_err(failed)?;
    if let Some(key) = ticket_key {
        config.set_ticket_key(key).map_err(failed)?;
    }
    config.set_max_idle_timeout(u64::try_from(limits.idle_timeout.as_millis()).unwrap_or(0));
    config.set_max_recv_udp_payload_size(UDP_PAYLOAD_MAX);
    config.set_max_send_udp_payload_size(limits.udp_payload_max);
    config.discover_pmtu(true);
    config.set_initial_max_data(limits.connection_window);
    config.set_max_connection_window(limits.connection_window_max);
    config.set_initial_max_stream_data_bidi_local(limits.stream_window);
    config.set_initial_max_stream_data_bidi_remote(limits.stream_window);
    config.set_initial_max_stream_data_uni(limits.stream_window);
    config.set_max_stream_window(limits.stream_window_max);
    // Beside a session's streams a peer may have those of HTTP/3: CONNECT; control, QPACK's two.
    config.set_initial_max_streams_bidi(limits.streams_bidirectional_max + 1);
    config.set_initial_max_streams_uni(limits.streams_unidirectional_max + 3);
    config.set_active_connection_id_limit(ACTIVE_IDS_MAX);
    config.set_cc_algorithm(quiche::CongestionControlAlgorithm::CUBIC);
    config.set_initial_congestion_window_packets(limits.initial_congestion_window_packets);
    config.set_initial_rtt(INITIAL_RTT);
    config.enable_dgram(true, limits.datagrams_max, limits.datagrams_max);
    Ok(config)
}

/// The protocols of drafts of MOQT.
pub(super) fn protocols(versions: &[Version]) -> Vec<&'static [u8]> {
    versions.iter().map(|version| version.alpn().as_bytes()).collect()
}
