//! Relay and clients on virtual links.

mod tracks;
