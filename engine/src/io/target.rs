//! A server to connect to, and why to believe that it is the one.

use std::{fmt, path::PathBuf, str::FromStr};

use aip_codec::aip::hops::RelayId;
use boring::rand::rand_bytes;

use super::error::Error;

/// The port of a URL that names none.
const PORT: u16 = 443;

/// A server to connect to.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Target {
    /// Where it is.
    pub url: Url,
    /// Why to believe that it is the one. Without one, dialling is refused.
    pub trust: Option<Trust>,
}

impl Target {
    /// The server that `moqt://host:port/path?query` names, or `https://` with the same behind it.
    ///
    /// # Errors
    /// [`Error::Target`] for any other URL.
    pub fn new(url: &str, trust: impl Into<Option<Trust>>) -> Result<Self, Error> {
        Ok(Self { url: url.parse()?, trust: trust.into() })
    }
}

/// Why to believe that a server is the one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Trust {
    /// Its certificate is signed, for the URL's host, by an authority of this PEM file.
    Ca(PathBuf),
    /// Its certificate (DER) has one of these SHA-256 values; neither name nor dates are asked.
    CertificateSha256(Vec<[u8; 32]>),
    /// Anyone will do. For tests.
    Insecure,
}

/// How a server is spoken to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scheme {
    /// `moqt://`: QUIC alone.
    Moqt,
    /// `https://`: WebTransport over HTTP/3.
    Https,
}

impl Scheme {
    const ALL: [Self; 2] = [Self::Moqt, Self::Https];

    const fn prefix(self) -> &'static str {
        match self {
            Self::Moqt => "moqt://",
            Self::Https => "https://",
        }
    }
}

/// A `moqt://` or `https://` URL (draft-22 section 6.1).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Url {
    scheme: Scheme,
    authority: String,
    host: String,
    port: u16,
    path: String,
}

impl Url {
    /// How the server is spoken to.
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// `host` or `host:port`, as it was written.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Name or address; an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port; 443 if none was written.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Path and query, as they were written; empty is none.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl fmt::Display for Url {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}{}{}", self.scheme.prefix(), self.authority, self.path)
    }
}

impl FromStr for Url {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self, Error> {
        let wrong = |reason: &str| Error::Target { url: url.to_owned(), reason: reason.to_owned() };
        let of_scheme = |scheme: Scheme| Some((scheme, url.strip_prefix(scheme.prefix())?));
        let Some((scheme, rest)) = Scheme::ALL.into_iter().find_map(of_scheme) else {
            return Err(wrong("only moqt://host:port/path and https://… are understood"));
        };
        if rest.bytes().any(|byte| byte <= b' ' || byte == 0x7f || byte == b'#') {
            return Err(wrong("no spaces, control characters or fragment may stand in it"));
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(wrong("no user may stand in it"));
        }
        let (host, port) = split_port(authority).ok_or_else(|| wrong("a host is missing"))?;
        let port = match port {
            "" => PORT,
            port => port.parse().map_err(|_| wrong("the port is no number up to 65535"))?,
        };
        if port == 0 {
            return Err(wrong("port 0 cannot be connected to"));
        }
        Ok(Self {
            scheme,
            authority: authority.to_owned(),
            host: host.to_owned(),
            port,
            path: path.to_owned(),
        })
    }
}

/// A number by which other relays tell this one from themselves and from each other.
///
/// # Errors
/// [`Error::Tls`] if there is no randomness.
pub fn random_relay_id() -> Result<RelayId, Error> {
    let mut random = [0; 8];
    rand_bytes(&mut random).map_err(|error| Error::Tls(error.to_string()))?;
    Ok(RelayId(u64::from_ne_bytes(random).max(1)))
}

/// Host and port of an authority; the port is empty where none is written.
fn split_port(authority: &str) -> Option<(&str, &str)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, if rest.is_empty() { rest } else { rest.strip_prefix(':')? })
        }
        None => authority.rsplit_once(':').unwrap_or((authority, "")),
    };
    (!host.is_empty() && (authority.starts_with('[') || !host.contains(':')))
        .then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, host: &str, port: u16, path: &str) {
        let parsed: Url = url.parse().unwrap();
        assert_eq!((parsed.host(), parsed.port(), parsed.path()), (host, port, path));
        assert_eq!(parsed.to_string(), url);
    }

    #[test]
    fn urls_are_taken_apart() {
        check("moqt://example.org", "example.org", 443, "");
        check("moqt://example.org:4443/relay?x=1", "example.org", 4443, "/relay?x=1");
        check("moqt://[::1]:4443/", "::1", 4443, "/");
        check("moqt://127.0.0.1:1?a/b", "127.0.0.1", 1, "?a/b");
        check("https://example.org/moq", "example.org", 443, "/moq");
    }

    #[test]
    fn other_urls_are_refused() {
        for url in [
            "http://example.org",
            "https://",
            "moqt://",
            "moqt://:4443",
            "moqt://a:b",
            "moqt://a:70000",
            "moqt://a:0",
            "moqt://::1:4443",
            "moqt://[::1",
            "moqt://[x]:1",
            "moqt://u@a",
            "moqt://a/ b",
            "moqt://a/#b",
        ] {
            assert!(url.parse::<Url>().is_err(), "{url}");
        }
    }
}
