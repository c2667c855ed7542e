//! Targets that send us elsewhere: where to they may.

use super::target::{Scheme, Url};

/// What targets may send us to.
#[derive(Debug)]
pub(super) struct Permitted {
    /// Names and addresses, in small letters.
    hosts: Vec<String>,
}

impl Permitted {
    /// These hosts, and those of the targets.
    pub(super) fn new<'a>(hosts: &[String], targets: impl Iterator<Item = &'a Url>) -> Self {
        let hosts = hosts.iter().map(|host| host.to_ascii_lowercase());
        Self { hosts: hosts.chain(targets.map(|url| url.host().to_ascii_lowercase())).collect() }
    }

    /// The URL that `uri` is, if a target that is spoken to by `scheme` may send us there.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn url(&self, uri: &[u8], scheme: Scheme) -> Result<Url, &'static str> {
        let text = str::from_utf8(uri).map_err(|_| "it is no text")?;
        let url: Url = text.parse().map_err(|_| "it is no URL of a target")?;
        if url.scheme() != scheme {
            return Err("its scheme is not the target's");
        }
        if self.hosts.contains(&url.host().to_ascii_lowercase()) {
            Ok(url)
        } else {
            Err("its host is neither a target's nor in goaway_hosts")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_hosts_are_followed_to() {
        let target: Url = "moqt://one.example:4443/relay".parse().unwrap();
        let permitted = Permitted::new(&["Two.example".to_owned()], [&target].into_iter());
        for uri in ["moqt://one.example", "moqt://ONE.example:9/x?y", "moqt://two.EXAMPLE:1"] {
            assert!(permitted.url(uri.as_bytes(), Scheme::Moqt).is_ok(), "{uri}");
        }
        for uri in [
            "moqt://three.example",
            "moqt://127.0.0.1:4443",
            "moqt://[::1]:4443",
            "moqt://169.254.169.254",
            "https://one.example",
            "moqt://one.example@three.example",
            "moqt://one.example.three.example",
            "file:///etc/passwd",
            "",
        ] {
            assert!(permitted.url(uri.as_bytes(), Scheme::Moqt).is_err(), "{uri}");
        }
        assert!(permitted.url(&[0xff, 0xfe], Scheme::Moqt).is_err());
        assert!(permitted.url(b"https://one.example", Scheme::Https).is_ok());
        assert!(permitted.url(b"moqt://one.example", Scheme::Https).is_err());
    }
}
