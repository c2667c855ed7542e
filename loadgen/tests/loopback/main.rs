//! Real runs on loopback: a relay, MCP servers, and the program itself.

#[cfg(test)]
mod fan_out;
#[cfg(test)]
mod interrupt;
#[cfg(test)]
mod mcp;
#[cfg(test)]
mod otlp;
#[cfg(test)]
mod program;
#[cfg(test)]
mod server;
#[cfg(test)]
mod support;
#[cfg(test)]
mod together;
