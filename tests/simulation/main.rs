//! Relay and clients on virtual links.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

mod relay;
mod tracks;
