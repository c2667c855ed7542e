//! What can be wrong with a configuration or with the machine.

use std::{io, net::SocketAddr, path::PathBuf};

/// Why a worker could not begin, or ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting that cannot be.
    #[error("configuration: {0}")]
    Config(String),
    /// An address could not be listened on.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A file could not be read or does not hold what it should.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A target's URL or trust cannot be.
    #[error("upstream {url}: {reason}")]
    Target {
        /// The URL as it was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// TLS refuses its settings.
    #[error("TLS: {0}")]
    Tls(String),
    /// The system refuses something that a worker cannot be without.
    #[error("{what}: {source}")]
    System {
        /// What was asked.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A worker's thread panicked.
    #[error("a worker panicked")]
    Panicked,
}
