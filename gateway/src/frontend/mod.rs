//! How MCP clients reach an edge.

pub mod http;
pub mod stdio;
