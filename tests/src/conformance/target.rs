//! Where the relay under test is, and how it is believed.

use std::{
    net::{IpAddr, SocketAddr, ToSocketAddrs as _},
    path::PathBuf,
};

use aip_codec::Version;
use aip_engine::io::{Scheme, Trust, Url};
use boring::{
    ssl::{SslContext, SslMethod, SslVerifyMode},
    x509::{X509, store::X509StoreBuilder},
};

/// Flow control windows of a test connection: enough that no case waits for us.
const WINDOW: u64 = 16 << 20;
/// Streams of each kind that the relay may open.
const STREAMS_MAX: u64 = 10_000;
/// Silence after which a connection is taken for dead, in milliseconds.
const IDLE_TIMEOUT: u64 = 30_000;

/// A relay, found and ready to be connected to.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Its URL.
    pub url: Url,
    /// Its address, as the URL's host resolves.
    pub address: SocketAddr,
    /// Why it is believed.
    pub trust: Trust,
    /// Certificates (PEM) that the relay's may be signed by; read once.
    authorities: Vec<u8>,
}

impl Endpoint {
    /// Resolves `url` and reads the authorities of `trust`.
    ///
    /// # Errors
    /// A sentence for people: an unknown host, a file that cannot be read, no certificate in it.
    pub fn new(url: Url, trust: Trust) -> Result<Self, String> {
        let address = (url.host(), url.port())
            .to_socket_addrs()
            .map_err(|error| format!("{}: {error}", url.host()))?
            .min_by_key(SocketAddr::is_ipv6)
            .ok_or_else(|| format!("{} has no address", url.host()))?;
        let authorities = match &trust {
            Trust::Ca(path) => read(path)?,
            Trust::CertificateSha256(_) | Trust::Insecure => Vec::new(),
        };
        Ok(Self { url, address, trust, authorities })
    }

    /// Whether it is reached over HTTP/3.
    pub fn is_webtransport(&self) -> bool {
        self.url.scheme() == Scheme::Https
    }

    /// The name that the relay's certificate is for, unless its host is an address.
    pub(super) fn server_name(&self) -> Option<&str> {
        let host = self.url.host();
        host.parse::<IpAddr>().is_err().then_some(host)
    }

    /// Whether a leaf certificate (DER) is one that was pinned; true if none was.
    pub(super) fn accepts(&self, leaf: Option<&[u8]>) -> bool {
        match &self.trust {
            Trust::CertificateSha256(pins) => {
                leaf.is_some_and(|leaf| pins.contains(&boring::sha::sha256(leaf)))
            }
            Trust::Ca(_) | Trust::Insecure => true,
        }
    }

    /// QUIC settings that offer `alpn` alone.
    pub(super) fn quic(&self, alpn: &[u8]) -> Result<quiche::Config, String> {
        let failed = |error: quiche::Error| format!("quiche: {error}");
        let tls = self.tls().map_err(|error| error.to_string())?;
        let mut config = quiche::Config::with_boring_ssl_ctx_builder(quiche::PROTOCOL_VERSION, tls)
            .map_err(failed)?;
        config.set_application_protos(&[alpn]).map_err(failed)?;
        config.set_max_idle_timeout(IDLE_TIMEOUT);
        config.set_max_recv_udp_payload_size(1_500);
        config.set_initial_max_data(WINDOW);
        config.set_initial_max_stream_data_bidi_local(WINDOW);
        config.set_initial_max_stream_data_bidi_remote(WINDOW);
        config.set_initial_max_stream_data_uni(WINDOW);
        config.set_initial_max_streams_bidi(STREAMS_MAX);
        config.set_initial_max_streams_uni(STREAMS_MAX);
        config.enable_dgram(true, 1_000, 1_000);
        Ok(config)
    }

    fn tls(&self) -> Result<boring::ssl::SslContextBuilder, boring::error::ErrorStack> {
        let mut builder = SslContext::builder(SslMethod::tls())?;
        if self.authorities.is_empty() {
            builder.set_verify(SslVerifyMode::NONE);
            return Ok(builder);
        }
        let mut store = X509StoreBuilder::new()?;
        for certificate in X509::stack_from_pem(&self.authorities)? {
            store.add_cert(&certificate)?;
        }
        if let Ok(address) = self.url.host().parse() {
            store.verify_param_mut().set_ip(address)?;
        }
        builder.set_cert_store(store.build());
        builder.set_verify(SslVerifyMode::PEER);
        Ok(builder)
    }
}

/// The PEM file of authorities; at least one certificate.
fn read(path: &PathBuf) -> Result<Vec<u8>, String> {
    let wrong = |reason: String| format!("{}: {reason}", path.display());
    let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    match X509::stack_from_pem(&pem) {
        Ok(certificates) if !certificates.is_empty() => Ok(pem),
        Ok(_) => Err(wrong("holds no certificate in PEM".to_owned())),
        Err(error) => Err(wrong(format!("is no certificate in PEM: {error}"))),
    }
}

/// Drafts out of `22`, `draft-22`, `18,20,22` or `18..22`, newest first, each once.
///
/// # Errors
/// A sentence for people if it is none of those.
pub fn drafts(text: &str) -> Result<Vec<Version>, String> {
    let wrong = || format!("`{text}` names no drafts: say 22, 18,20,22 or 18..22");
    let number = |text: &str| -> Result<u8, String> {
        text.trim().trim_start_matches("draft-").parse().map_err(|_| wrong())
    };
    let mut numbers = Vec::new();
    for part in text.split(',') {
        match part.split_once("..") {
            Some((first, last)) => numbers.extend(number(first)?..=number(last)?),
            None => numbers.push(number(part)?),
        }
    }
    let known: Vec<_> = Version::PREFERENCE
        .into_iter()
        .filter(|version| numbers.contains(&version.number()))
        .collect();
    let all_known =
        numbers.iter().all(|number| known.iter().any(|version| version.number() == *number));
    if known.is_empty() || !all_known { Err(wrong()) } else { Ok(known) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drafts_are_named_in_many_ways() {
        let numbers =
            |text| drafts(text).map(|list| list.into_iter().map(Version::number).collect());
        assert_eq!(numbers("22"), Ok(vec![22]));
        assert_eq!(numbers("draft-18"), Ok(vec![18]));
        assert_eq!(numbers("18,22, 20,22"), Ok(vec![22, 20, 18]));
        assert_eq!(numbers("18..20"), Ok(vec![20, 19, 18]));
        for wrong in ["", "17", "22..18", "18..23", "new"] {
            assert!(numbers(wrong).is_err(), "{wrong}");
        }
    }
}
