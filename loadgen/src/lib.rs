//! `aip-load`: load on MOQT relays and MCP servers, with honest tails.
//!
//! Load is *open*: what is due is sent when it is due, whoever lags, and latency counts from the
//! moment it was due. So a target that stops for a second shows a second in its tail, which a
//! closed loop, that waits for each answer before it asks again, would hide.
#![warn(missing_docs)]

pub mod assertion;
pub mod ceiling;
pub mod check;
pub mod clock;
pub mod compare;
pub mod duration;
pub mod environment;
pub mod interrupt;
pub mod live;
pub mod mcp;
pub mod measure;
pub mod merge;
pub mod process;
pub mod progress;
pub mod relay;
pub mod report;
pub mod schedule;
pub mod watch;

use sha2::{Digest as _, Sha256};

/// SHA-256 of a plan's JSON, in hexadecimal digits: two runs with the same one asked for the same.
pub fn fingerprint(plan: &serde_json::Value) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(64);
    for byte in Sha256::digest(plan.to_string()) {
        // Writing to a string cannot fail.
        _ = write!(text, "{byte:02x}");
    }
    text
}
