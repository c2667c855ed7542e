//! MCP through relays: real servers as processes, real agents, real QUIC on loopback.

#[cfg(test)]
mod backends;
#[cfg(test)]
mod calls;
#[cfg(test)]
mod encoding;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod federation;
#[cfg(test)]
mod http;
#[cfg(test)]
mod listeners;
#[cfg(test)]
mod moves;
#[cfg(test)]
mod revisions;
#[cfg(test)]
mod stdio;
#[cfg(test)]
mod telemetry;
#[cfg(test)]
mod tier;
