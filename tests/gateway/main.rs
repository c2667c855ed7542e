//! MCP through relays: real servers as processes, real agents, real QUIC on loopback.

mod http;
mod stdio;
mod tier;
