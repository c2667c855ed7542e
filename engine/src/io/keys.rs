//! Secrets that the workers of a process share, so that each can read what another has written.

use std::time::Instant;

use boring::rand::rand_bytes;

use super::{config::Config, error::Error, stateless_reset::ResetKey};

/// The key of stateless resets in the state directory.
const RESET_KEY: &str = "stateless_reset.key";

/// What a process has one of.
#[derive(Clone)]
pub(super) struct Keys {
    pub(super) reset: ResetKey,
    /// Of TLS session tickets.
    pub(super) ticket: [u8; 48],
    /// Of Retry tokens.
    pub(super) token: [u8; 16],
    /// What the times in Retry tokens count from.
    pub(super) epoch: Instant,
}

impl Keys {
    /// New ones, but for the one that `config` names a file for.
    pub(super) fn new(config: &Config, now: Instant) -> Result<Self, Error> {
        let reset = match (&config.handshake.stateless_reset_key, &config.state_directory) {
            (Some(path), _) => ResetKey::load(path)?,
            (None, Some(folder)) => ResetKey::load_or_make(&folder.join(RESET_KEY))?,
            (None, None) => ResetKey::random()?,
        };
        let (mut ticket, mut token) = ([0; 48], [0; 16]);
        rand_bytes(&mut ticket)?;
        rand_bytes(&mut token)?;
        Ok(Self { reset, ticket, token, epoch: now })
    }
}
