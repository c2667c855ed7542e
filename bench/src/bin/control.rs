//! `aip-control`: what relays are measured beside.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use aip_bench::control::{quiche_relay::QuicheRelay, udp};
use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What relays are measured beside.
#[derive(Parser)]
enum Command {
    /// Bare quiche: forwards the bytes of a publisher's streams to all subscribers, unread
    Quiche {
        /// Where to listen: an address of 127.0.0.1
        #[arg(long)]
        listen: SocketAddr,
        /// Certificate (PEM)
        #[arg(long)]
        cert: PathBuf,
        /// Its key (PEM)
        #[arg(long)]
        key: PathBuf,
    },
    /// Bare UDP: sends objects to so many sockets, and prints what that cost as JSON
    Udp {
        /// Sockets that objects go to
        #[arg(long)]
        subscribers: usize,
        /// Bytes of an object
        #[arg(long)]
        size: usize,
        /// Objects a second
        #[arg(long)]
        rate: f64,
        /// Seconds
        #[arg(long)]
        seconds: f64,
        /// The core that sends
        #[arg(long, default_value_t = 0)]
        core: usize,
        /// The core that receives
        #[arg(long, default_value_t = 1)]
        load_core: usize,
    },
}

#[expect(clippy::print_stdout, reason = "the figures are what this program is for")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    match Command::parse() {
        Command::Quiche { listen, cert, key } => QuicheRelay::new(listen, &cert, &key)?.run()?,
        Command::Udp { subscribers, size, rate, seconds, core, load_core } => {
            let measured = Duration::try_from_secs_f64(seconds)?;
            let cost = udp::run(udp::Work { subscribers, size, rate, measured, core, load_core })?;
            println!("{}", serde_json::to_string(&cost)?);
        }
    }
    Ok(())
}
