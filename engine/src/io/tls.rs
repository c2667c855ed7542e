//! Certificates: what a server shows, and why a client believes it.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    time::Duration,
};

use boring::{
    error::ErrorStack,
    hash::MessageDigest,
    pkey::{PKey, Private},
    ssl::{SslContext, SslContextBuilder, SslMethod, SslVerifyMode},
    x509::{X509, store::X509StoreBuilder},
};
use rcgen::{CertificateParams, KeyPair, SanType};

use super::{
    clock,
    config::Identity,
    error::Error,
    target::{Target, Trust},
};

/// How long a development certificate is good for.
const DEVELOPMENT_LIFETIME: Duration = Duration::from_secs(10 * 86_400 - 3_600);
/// How far clocks may differ.
const CLOCK_SKEW: Duration = Duration::from_secs(3_600);

/// A certificate with its key.
pub(super) struct Certificate {
    /// The leaf, then its intermediates.
    chain: Vec<X509>,
    key: PKey<Private>,
    /// SHA-256 of the leaf (DER).
    pub(super) sha256: [u8; 32],
}

impl From<ErrorStack> for Error {
    fn from(error: ErrorStack) -> Self {
        Self::Tls(error.to_string())
    }
}

impl Certificate {
    /// Loads or makes what `identity` says.
    pub(super) fn new(identity: &Identity) -> Result<Self, Error> {
        match identity {
            Identity::Files { certificate, key } => Self::load(certificate, key),
            Identity::Development => Self::development(),
        }
    }

    fn load(certificate: &Path, key: &Path) -> Result<Self, Error> {
        let chain = certificates(certificate)?;
        let pem = read(key)?;
        let wrong = |reason: String| Error::File { path: key.to_owned(), reason };
        let loaded = PKey::private_key_from_pem(&pem)
            .map_err(|error| wrong(format!("is no private key in PEM: {error}")))?;
        let fits = chain[0].public_key().is_ok_and(|public| public.public_eq(&loaded));
        if !fits {
            return Err(wrong(format!("is not the key of {}", certificate.display())));
        }
        if fs::metadata(key).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0) {
            tracing::warn!(path = %key.display(), "others may read the private key");
        }
        Self::of(chain, loaded)
    }

    fn development() -> Result<Self, Error> {
        let failed = |error: rcgen::Error| Error::Tls(format!("development certificate: {error}"));
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).map_err(failed)?;
        params.subject_alt_names.extend([
            SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            SanType::IpAddress(IpAddr::V6(Ipv6Addr::LOCALHOST)),
        ]);
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "localhost");
        let now = rcgen::date_time_ymd(1970, 1, 1) + clock::since_unix_epoch();
        params.not_before = now - CLOCK_SKEW;
        params.not_after = now + DEVELOPMENT_LIFETIME;
        let certificate = params.self_signed(&key).map_err(failed)?;
        let chain = vec![X509::from_der(certificate.der())?];
        Self::of(chain, PKey::private_key_from_der(key.serialized_der())?)
    }

    fn of(chain: Vec<X509>, key: PKey<Private>) -> Result<Self, Error> {
        let digest = chain[0].digest(MessageDigest::sha256())?;
        let sha256 = <[u8; 32]>::try_from(&*digest)
            .map_err(|_| Error::Tls("SHA-256 has not 32 bytes".to_owned()))?;
        Ok(Self { chain, key, sha256 })
    }

    /// TLS settings of a server that shows this.
    pub(super) fn server(&self) -> Result<SslContextBuilder, Error> {
        let mut builder = SslContext::builder(SslMethod::tls())?;
        let (leaf, intermediates) =
            self.chain.split_first().ok_or_else(|| Error::Tls("no certificate".to_owned()))?;
        builder.set_certificate(leaf)?;
        for certificate in intermediates {
            builder.add_extra_chain_cert(certificate.clone())?;
        }
        builder.set_private_key(&self.key)?;
        builder.check_private_key()?;
        Ok(builder)
    }
}

/// TLS settings of a client of `target`.
///
/// A certificate that is pinned is compared when the handshake is over, by [`matches`].
pub(super) fn client(target: &Target) -> Result<SslContextBuilder, Error> {
    let mut builder = SslContext::builder(SslMethod::tls())?;
    match &target.trust {
        Some(Trust::Ca(path)) => {
            let mut store = X509StoreBuilder::new()?;
            for certificate in certificates(path)? {
                store.add_cert(&certificate)?;
            }
            if let Ok(address) = target.url.host().parse() {
                store.verify_param_mut().set_ip(address)?;
            }
            builder.set_cert_store(store.build());
            builder.set_verify(SslVerifyMode::PEER);
        }
        Some(Trust::CertificateSha256(pins)) if pins.is_empty() => {
            return Err(Error::Target {
                url: target.url.to_string(),
                reason: "no certificate is pinned".to_owned(),
            });
        }
        Some(Trust::CertificateSha256(_) | Trust::Insecure) => {
            builder.set_verify(SslVerifyMode::NONE);
        }
        None => {
            return Err(Error::Target {
                url: target.url.to_string(),
                reason: "nothing says why to trust it; use --ca FILE, --certificate-sha256 HEX, \
                         or --insecure"
                    .to_owned(),
            });
        }
    }
    Ok(builder)
}

/// The name to send and to check, unless the host is an address: those are checked by [`client`].
pub(super) fn server_name(target: &Target) -> Option<&str> {
    let host = target.url.host();
    host.parse::<IpAddr>().is_err().then_some(host)
}

/// Whether a server that showed this leaf (DER) is trusted as far as pins go.
pub(super) fn matches(trust: Option<&Trust>, leaf: Option<&[u8]>) -> bool {
    match trust {
        Some(Trust::CertificateSha256(pins)) => {
            leaf.is_some_and(|leaf| pins.contains(&boring::sha::sha256(leaf)))
        }
        Some(Trust::Ca(_) | Trust::Insecure) => true,
        None => false,
    }
}

/// The name of a TLS alert, as RFC 8446 has it, for people.
pub(super) const fn alert_name(alert: u64) -> &'static str {
    match alert {
        10 => "unexpected message",
        20 => "bad record",
        40 => "handshake failure",
        42 => "bad certificate",
        43 => "unsupported certificate",
        44 => "certificate revoked",
        45 => "certificate expired",
        46 => "certificate unknown or not for this name",
        47 => "illegal parameter",
        48 => "certificate of an unknown authority",
        49 => "access denied",
        50 => "decode error",
        51 => "decrypt error",
        70 => "protocol version",
        71 => "insufficient security",
        80 => "internal error",
        109 => "missing extension",
        112 => "unrecognized name",
        116 => "certificate required",
        120 => "no common protocol: none of its MOQT drafts is spoken here",
        _ => "alert",
    }
}

/// The certificates of a PEM file: at least one.
fn certificates(path: &Path) -> Result<Vec<X509>, Error> {
    let wrong = |reason: String| Error::File { path: path.to_owned(), reason };
    let certificates = X509::stack_from_pem(&read(path)?)
        .map_err(|error| wrong(format!("is no certificate in PEM: {error}")))?;
    if certificates.is_empty() {
        return Err(wrong("holds no certificate in PEM".to_owned()));
    }
    Ok(certificates)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|error| Error::File { path: path.to_owned(), reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_development_certificate_is_short_lived_and_local() {
        let certificate = Certificate::new(&Identity::Development).unwrap();
        let leaf = &certificate.chain[0];
        let lifetime = leaf.not_before().diff(leaf.not_after()).unwrap();
        assert!(lifetime.days <= 10, "{} days", lifetime.days);
        let names = leaf.subject_alt_names().unwrap();
        let addresses: Vec<_> = names.iter().filter_map(|name| name.ipaddress()).collect();
        assert!(names.iter().any(|name| name.dnsname() == Some("localhost")));
        assert_eq!(addresses, [&[127, 0, 0, 1][..], &Ipv6Addr::LOCALHOST.octets()]);
        assert_eq!(boring::sha::sha256(&leaf.to_der().unwrap()), certificate.sha256);
        certificate.server().unwrap();
        let other = Certificate::new(&Identity::Development).unwrap();
        assert_ne!(other.sha256, certificate.sha256);
    }

    #[test]
    fn a_pin_is_of_the_leaf() {
        let leaf = b"leaf";
        let pins = Trust::CertificateSha256(vec![[0; 32], boring::sha::sha256(leaf)]);
        assert!(matches(Some(&pins), Some(leaf)));
        assert!(!matches(Some(&pins), Some(b"other")));
        assert!(!matches(Some(&pins), None));
        assert!(matches(Some(&Trust::Insecure), None));
        assert!(!matches(None, Some(leaf)));
    }

    #[test]
    fn a_target_without_trust_is_told_the_options() {
        let mut target = Target::new("moqt://localhost:1", Trust::Insecure).unwrap();
        target.trust = None;
        let message = client(&target).err().unwrap().to_string();
        for option in ["--ca", "--certificate-sha256", "--insecure"] {
            assert!(message.contains(option), "{message}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let missing = Identity::Files { certificate: "/nowhere/c.pem".into(), key: "k".into() };
        let message = Certificate::new(&missing).err().unwrap().to_string();
        assert!(message.starts_with("/nowhere/c.pem: "), "{message}");
    }
}
