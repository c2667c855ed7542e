//! What the kernel alone costs: objects as trains of UDP datagrams to so many sockets, when due.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket},
    os::fd::AsRawFd as _,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde::Serialize;

use super::{
    affinity,
    batch::{self, Incoming, Outgoing},
};

/// Bytes of a datagram, as of a QUIC packet.
const DATAGRAM: usize = 1_350;
/// Bytes of a train.
const TRAIN: usize = DATAGRAM * 48;

/// What is to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// Sockets that objects go to.
    pub subscribers: usize,
    /// Bytes of an object.
    pub size: usize,
    /// Objects a second.
    pub rate: f64,
    /// How long.
    pub measured: Duration,
    /// The core that sends.
    pub core: usize,
    /// The core that receives.
    pub load_core: usize,
}

/// What it cost.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Cost {
    /// Objects times subscribers.
    pub deliveries: u64,
    /// CPU time of the sending thread, in microseconds, of each.
    pub microseconds_per_delivery: f64,
    /// The share of datagrams that did not arrive.
    pub lost: f64,
}

/// Sends.
///
/// # Errors
/// If there are not so many sockets, or no such core.
#[expect(clippy::disallowed_methods, reason = "a control has no other clock reader")]
pub fn run(work: Work) -> io::Result<Cost> {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let sinks: Vec<_> =
        (0..work.subscribers).map(|_| batch::socket(any)).collect::<Result<_, _>>()?;
    let mut addresses = Vec::new();
    for sink in &sinks {
        if let SocketAddr::V4(address) = sink.local_addr()? {
            addresses.push(address);
        }
    }
    let (over, arrived) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (told, count) = (Arc::clone(&over), Arc::clone(&arrived));
    let sink = thread::Builder::new()
        .name("sink".to_owned())
        .spawn(move || drain(&sinks, work.load_core, &told, &count))?;
    affinity::pin(work.core)?;
    let socket = batch::socket(any)?;
    let mut outgoing = Outgoing::new(&socket);
    let object = vec![7_u8; work.size];
    let (began, cpu) = (Instant::now(), affinity::thread_time());
    let (mut objects, mut datagrams) = (0_u64, 0_u64);
    loop {
        let due = began + Duration::from_secs_f64(objects as f64 / work.rate);
        if began + work.measured <= due {
            break;
        }
        thread::sleep(due.saturating_duration_since(Instant::now()));
        datagrams += send(&mut outgoing, &addresses, &object);
        objects += 1;
    }
    let cpu = affinity::thread_time() - cpu;
    over.store(true, Ordering::Release);
    sink.join().map_err(|_| io::Error::other("the sink ended"))??;
    let deliveries = objects * work.subscribers as u64;
    let lost = 1.0 - arrived.load(Ordering::Acquire) as f64 / datagrams.max(1) as f64;
    let microseconds_per_delivery = cpu.as_secs_f64() * 1e6 / deliveries.max(1) as f64;
    Ok(Cost { deliveries, microseconds_per_delivery, lost })
}

/// One object to everybody; how many datagrams that were.
fn send(outgoing: &mut Outgoing, addresses: &[SocketAddrV4], object: &[u8]) -> u64 {
    let mut datagrams = 0;
    for train in object.chunks(TRAIN) {
        for to in addresses {
            outgoing.push(*to, DATAGRAM, train);
            datagrams += train.len().div_ceil(DATAGRAM) as u64;
        }
    }
    outgoing.flush();
    datagrams
}

/// Takes what arrives until nothing more does.
fn drain(
    sinks: &[UdpSocket],
    core: usize,
    over: &AtomicBool,
    arrived: &AtomicU64,
) -> io::Result<()> {
    affinity::pin(core)?;
    let mut poll = mio::Poll::new()?;
    for (index, sink) in sinks.iter().enumerate() {
        let mut source = mio::unix::SourceFd(&sink.as_raw_fd());
        poll.registry().register(&mut source, mio::Token(index), mio::Interest::READABLE)?;
    }
    let mut events = mio::Events::with_capacity(1_024);
    let mut incoming = Incoming::default();
    loop {
        let last = over.load(Ordering::Acquire);
        poll.poll(&mut events, Some(Duration::from_millis(20)))?;
        let mut count = 0;
        for event in &events {
            count += incoming.receive(sinks[event.token().0].as_raw_fd(), |_, _| {});
        }
        arrived.fetch_add(count as u64, Ordering::Release);
        if last && count == 0 {
            return Ok(());
        }
    }
}
