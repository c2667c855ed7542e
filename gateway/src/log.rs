//! The log: to stderr, never to standard output, which may be an MCP stream.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// Begins to log. RUST_LOG sets what; states and warnings of the edges by default.
pub fn start() {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("warn,aip_gateway=info,aip_mcp=info,mcp_server=info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    // A second log in one process is the first.
    _ = log.try_init();
}
