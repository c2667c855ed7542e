//! A demonstration: agents of an MCP server, through a relay.

pub mod library;
