//! MCP edges: any MCP server or client on the relay tier, unchanged.
//!
//! `serve` publishes an MCP server, `connect` offers one to MCP clients. Between them stands a
//! tier of relays that knows MOQT and CALL, and nothing of MCP: reads are tracks, everything else
//! is a call (PROFILE.md sections 2 to 5).
#![warn(missing_docs)]

mod admission;
pub mod backend;
pub mod bridge;
pub mod clock;
pub mod configuration;
pub mod connect;
pub mod demonstration;
pub mod description;
pub mod encoding;
pub mod federation;
pub mod fleet;
pub mod frontend;
mod header;
mod level;
pub mod lines;
pub mod link;
pub mod log;
pub mod message;
pub mod name;
pub mod observed;
pub mod offer;
mod parameters;
mod random;
pub mod read;
mod resumable;
pub mod revision;
pub mod serve;
pub mod version;
