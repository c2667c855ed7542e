//! The configuration file of `aip-relay`: TOML.
//!
//! `example.toml` is one that sets everything to its default; a test keeps the two equal.

use std::{fs, net::SocketAddr, path::Path, path::PathBuf, time::Duration};

use serde::Deserialize;

use super::{
    config::{Dial, Handshake, Quic},
    error::Error,
    log::LogFormat,
};
use crate::relay;

/// A file that sets everything to its default, and says what everything is.
pub const EXAMPLE: &str = include_str!("example.toml");

/// What a configuration file may say. What it does not say has its default; what it says and is
/// not known is an error.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ConfigFile {
    /// Addresses to listen on.
    pub listen: Vec<SocketAddr>,
    /// Certificate chain, PEM.
    pub cert: Option<PathBuf>,
    /// Private key, PEM.
    pub key: Option<PathBuf>,
    /// Whether to make a short-lived certificate instead.
    pub dev_cert: bool,
    /// Worker threads; 1 if it is not said.
    pub workers: Option<usize>,
    /// Whether anyone may do anything.
    pub open: bool,
    /// Where `/metrics`, `/healthz` and `/readyz` are.
    pub admin: Option<SocketAddr>,
    /// Where what outlives the process is kept.
    pub state_directory: Option<PathBuf>,
    /// Bytes of memory that the process may have; what its control group allows if it is not said.
    pub memory_max: Option<u64>,
    /// How the log is written.
    pub log_format: LogFormat,
    /// URLs of relays to connect to.
    pub upstream: Vec<String>,
    /// This relay's number among relays, 16 hexadecimal digits; a random one if it is not said.
    pub relay_id: Option<String>,
    /// Authorities to believe upstream, PEM.
    pub ca: Option<PathBuf>,
    /// SHA-256 of certificates to believe upstream, in hexadecimal digits.
    pub certificate_sha256: Vec<String>,
    /// Whether to believe anyone upstream.
    pub insecure: bool,
    /// How long a drain may take.
    #[serde(deserialize_with = "duration::optional")]
    pub drain_timeout: Option<Duration>,
    /// How long a worker looks for more before it sleeps.
    #[serde(deserialize_with = "duration::optional")]
    pub awake: Option<Duration>,
    /// How long acknowledgements are let gather.
    #[serde(deserialize_with = "duration::optional")]
    pub nap: Option<Duration>,
    /// Limits of each connection.
    pub quic: Quic,
    /// How connections are accepted.
    pub handshake: Handshake,
    /// How upstream relays are dialled.
    pub dial: Dial,
    /// Limits of the relay.
    pub relay: RelayLimits,
}

/// Limits of the relay, as [`relay::Config`] has them.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "the names are those of relay::Config, which says what they are")]
#[non_exhaustive]
pub struct RelayLimits {
    pub tracks_max: usize,
    pub link_cost: u64,
    pub track_publishers_max: usize,
    pub namespaces_max: usize,
    pub session_namespaces_max: usize,
    pub upstream_namespaces_max: usize,
    pub session_watches_max: usize,
    pub watched_namespaces_max: usize,
    pub relay_watches_max: usize,
    pub session_publications_max: usize,
    pub session_waiting_max: usize,
    pub rendezvous_max: usize,
    pub session_rendezvous_max: usize,
    pub redirects_max: usize,
    #[serde(with = "duration")]
    pub redirect_age_max: Duration,
    #[serde(with = "duration")]
    pub rendezvous_timeout_max: Duration,
    #[serde(with = "duration")]
    pub linger: Duration,
    #[serde(with = "duration")]
    pub upstream_timeout: Duration,
    pub subscription_queued_bytes_max: usize,
    pub subscription_standing_bytes_max: usize,
    #[serde(with = "duration")]
    pub subscription_standstill_max: Duration,
    #[serde(with = "duration")]
    pub subscription_stall_max: Duration,
    pub subscription_ended_subgroups_max: usize,
    pub message_queued_bytes_max: usize,
    #[serde(with = "duration")]
    pub message_stall_max: Duration,
    pub session_queued_bytes_max: usize,
    pub identity_queued_bytes_max: usize,
    pub queued_bytes_max: usize,
    pub session_requests_per_second: u32,
    pub session_requests_burst: u32,
    pub identity_requests_per_second: u32,
    pub identity_requests_burst: u32,
    pub filter_ranges_max: u64,
    pub subscription_fills_max: usize,
    pub stream_queued_bytes_max: usize,
    pub cache_bytes_max: usize,
    pub cache_groups_max: usize,
    #[serde(with = "duration")]
    pub cache_age_max: Duration,
}

impl Default for RelayLimits {
    fn default() -> Self {
        let relay = relay::Config::default();
        let delivery = relay.session.delivery.clone();
        Self {
            tracks_max: relay.tracks_max,
            link_cost: relay.link_cost,
            track_publishers_max: relay.track_publishers_max,
            namespaces_max: relay.namespaces_max,
            session_namespaces_max: relay.session_namespaces_max,
            upstream_namespaces_max: relay.upstream_namespaces_max,
            session_watches_max: relay.session_watches_max,
            watched_namespaces_max: relay.watched_namespaces_max,
            relay_watches_max: relay.relay_watches_max,
            session_publications_max: relay.session_publications_max,
            session_waiting_max: relay.session_waiting_max,
            rendezvous_max: relay.rendezvous_max,
            session_rendezvous_max: relay.session_rendezvous_max,
            redirects_max: relay.redirects_max,
            redirect_age_max: relay.redirect_age_max,
            rendezvous_timeout_max: relay.rendezvous_timeout_max,
            linger: relay.linger,
            upstream_timeout: relay.upstream_timeout,
            subscription_queued_bytes_max: delivery.queued_bytes_max,
            subscription_standing_bytes_max: delivery.standing_bytes_max,
            subscription_standstill_max: delivery.standstill_max,
            subscription_stall_max: delivery.stall_max,
            subscription_ended_subgroups_max: delivery.ended_subgroups_max,
            message_queued_bytes_max: delivery.message_bytes_max,
            message_stall_max: delivery.message_stall_max,
            session_queued_bytes_max: relay.session_queued_bytes_max,
            identity_queued_bytes_max: relay.identity_queued_bytes_max,
            queued_bytes_max: relay.queued_bytes_max,
            session_requests_per_second: relay.session_request_rate.per_second,
            session_requests_burst: relay.session_request_rate.burst,
            identity_requests_per_second: relay.identity_request_rate.per_second,
            identity_requests_burst: relay.identity_request_rate.burst,
            filter_ranges_max: relay.session.filter_ranges_max,
            subscription_fills_max: relay.subscription_fills_max,
            stream_queued_bytes_max: relay.stream_queued_bytes_max,
            cache_bytes_max: relay.cache_bytes_max,
            cache_groups_max: relay.cache_groups_max,
            cache_age_max: relay.cache_age_max,
        }
    }
}

impl From<RelayLimits> for relay::Config {
    fn from(file: RelayLimits) -> Self {
        let mut session = Self::default().session;
        session.delivery.queued_bytes_max = file.subscription_queued_bytes_max;
        session.delivery.standing_bytes_max = file.subscription_standing_bytes_max;
        session.delivery.standstill_max = file.subscription_standstill_max;
        session.delivery.stall_max = file.subscription_stall_max;
        session.delivery.ended_subgroups_max = file.subscription_ended_subgroups_max;
        session.delivery.message_bytes_max = file.message_queued_bytes_max;
        session.delivery.message_stall_max = file.message_stall_max;
        session.filter_ranges_max = file.filter_ranges_max;
        Self {
            session,
            session_queued_bytes_max: file.session_queued_bytes_max,
            identity_queued_bytes_max: file.identity_queued_bytes_max,
            queued_bytes_max: file.queued_bytes_max,
            session_request_rate: relay::Rate {
                per_second: file.session_requests_per_second,
                burst: file.session_requests_burst,
            },
            identity_request_rate: relay::Rate {
                per_second: file.identity_requests_per_second,
                burst: file.identity_requests_burst,
            },
            tracks_max: file.tracks_max,
            link_cost: file.link_cost,
            track_publishers_max: file.track_publishers_max,
            namespaces_max: file.namespaces_max,
            session_namespaces_max: file.session_namespaces_max,
            upstream_namespaces_max: file.upstream_namespaces_max,
            session_watches_max: file.session_watches_max,
            watched_namespaces_max: file.watched_namespaces_max,
            relay_watches_max: file.relay_watches_max,
            session_publications_max: file.session_publications_max,
            session_waiting_max: file.session_waiting_max,
            rendezvous_max: file.rendezvous_max,
            session_rendezvous_max: file.session_rendezvous_max,
            redirects_max: file.redirects_max,
            redirect_age_max: file.redirect_age_max,
            rendezvous_timeout_max: file.rendezvous_timeout_max,
            linger: file.linger,
            upstream_timeout: file.upstream_timeout,
            subscription_fills_max: file.subscription_fills_max,
            stream_queued_bytes_max: file.stream_queued_bytes_max,
            cache_bytes_max: file.cache_bytes_max,
            cache_groups_max: file.cache_groups_max,
            cache_age_max: file.cache_age_max,
            ..Self::default()
        }
    }
}

impl ConfigFile {
    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be read; [`Error::Config`] if it says what cannot be.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let text = fs::read_to_string(path)
            .map_err(|error| Error::File { path: path.to_owned(), reason: error.to_string() })?;
        Self::parse(&text).map_err(|error| Error::Config(format!("{}: {error}", path.display())))
    }

    fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }
}

/// Durations as text: `250ms`, `1.5s`, `2m`; `0s` where it means never.
pub(super) mod duration {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, de::Error as _};

    pub(in crate::io) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse(&text).ok_or_else(|| {
            D::Error::custom(format!("{text:?} is no duration: write 250ms, 1.5s or 2m"))
        })
    }

    pub(super) fn optional<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        deserialize(deserializer).map(Some)
    }

    /// The duration that `text` says.
    fn parse(text: &str) -> Option<Duration> {
        let (number, unit) = [("ms", 0.001), ("s", 1.0), ("m", 60.0)]
            .into_iter()
            .find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, unit)))?;
        Duration::try_from_secs_f64(number.trim().parse::<f64>().ok()? * unit).ok()
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn durations_have_a_unit() {
            assert_eq!(parse("250ms"), Some(Duration::from_millis(250)));
            assert_eq!(parse("1.5s"), Some(Duration::from_millis(1_500)));
            assert_eq!(parse("2m"), Some(Duration::from_secs(120)));
            assert_eq!(parse("0s"), Some(Duration::ZERO));
            for text in ["", "5", "s", "-1s", "1h", "1 000s", "infs", "NaNs", "1e30s"] {
                assert_eq!(parse(text), None, "{text}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_says_every_key_and_its_default() {
        // Keys that have no default are there as comments.
        let uncommented: String = EXAMPLE
            .lines()
            .map(|line| line.strip_prefix("#: ").unwrap_or(line))
            .flat_map(|line| [line, "\n"])
            .collect();
        let full: toml::Table = toml::from_str(&uncommented).unwrap();
        let file = ConfigFile::parse(EXAMPLE).unwrap();
        let default = ConfigFile {
            drain_timeout: Some(super::super::config::Config::default().drain_timeout),
            awake: Some(super::super::config::Config::default().awake),
            nap: Some(super::super::config::Config::default().nap),
            ..ConfigFile::default()
        };
        assert_eq!(format!("{file:?}"), format!("{default:?}"));
        ConfigFile::parse(&uncommented).unwrap();
        // Each field of the structures stands in the example, but for those that only a program sets.
        let skipped = ["on_request", "versions"];
        let debug = format!("{file:#?}");
        for line in debug.lines().filter_map(|line| line.trim().split_once(": ")) {
            let (key, _) = line;
            let named = full.contains_key(key)
                || full.values().any(|it| it.as_table().is_some_and(|it| it.contains_key(key)));
            assert!(named != skipped.contains(&key), "{key} is not in example.toml");
        }
    }

    #[test]
    fn what_may_wait_and_how_often_one_may_ask_is_as_the_file_says() {
        let text = "[relay]\nidentity_queued_bytes_max = 1\nsession_requests_per_second = 2\n\
                    identity_requests_burst = 3\nmessage_stall_max = \"4s\"";
        let relay = relay::Config::from(ConfigFile::parse(text).unwrap().relay);
        assert_eq!(relay.identity_queued_bytes_max, 1);
        assert_eq!(relay.session_request_rate, relay::Rate { per_second: 2, burst: 20_000 });
        assert_eq!(relay.identity_request_rate, relay::Rate { per_second: 50_000, burst: 3 });
        assert_eq!(relay.session.delivery.message_stall_max, Duration::from_secs(4));
    }

    #[test]
    fn what_is_not_known_is_an_error() {
        for text in ["listn = []", "[quic]\nwindow = 1", "[relay]\nx = 1", "[other]"] {
            assert!(ConfigFile::parse(text).is_err(), "{text}");
        }
        let message = ConfigFile::parse("[quic]\nidle_timeout = 5").unwrap_err().to_string();
        assert!(message.contains("idle_timeout"), "{message}");
        let message = ConfigFile::parse("[handshake]\nretry = \"no\"").unwrap_err().to_string();
        assert!(message.contains("always"), "{message}");
    }
}
