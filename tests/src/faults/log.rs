//! A log that cannot be written: the disk is full, or nobody reads.

use std::{
    fs::OpenOptions,
    io,
    net::{TcpListener, UdpSocket},
    process::Stdio,
    time::{Duration, Instant},
};

use super::{
    agent::{Command, Group, PATIENCE},
    case::Scale,
    delivery::{Deliveries, agents},
    figure::{Figure, Goal},
    relay::Relay,
};

/// Groups that are sent; with all that is logged of them they fill any pipe.
const GROUPS: u64 = 500;

/// A relay that logs all that it can, to nowhere.
fn relay(stderr: Stdio) -> io::Result<Relay> {
    // It cannot say where it listens.
    let listen = UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
    let admin = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let relay = Relay::start_unheard(listen, admin, stderr)?;
    let began = Instant::now();
    while relay.get("/readyz").is_err() {
        if PATIENCE < began.elapsed() {
            return Err(io::Error::other("the relay does not begin"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(relay)
}

/// Objects flow though every line of the log is lost.
pub(super) fn unwritable(_: Scale) -> io::Result<Vec<Figure>> {
    let case = "log";
    let full = || OpenOptions::new().write(true).open("/dev/full").map(Stdio::from);
    let mut figures = Vec::new();
    for (what, stderr) in [("full disk", full()?), ("nobody reads", Stdio::piped())] {
        let relay = relay(stderr)?;
        let (publisher, subscriber) = agents(&relay, 1)?;
        let mut deliveries = Deliveries::default();
        let mut worst = Duration::ZERO;
        for id in 0..GROUPS {
            publisher.tell(Command::Publish(0, vec![Group { id, objects: 2, length: 100 }]));
            let sent = Instant::now();
            deliveries.await_from(&subscriber, PATIENCE, (id + 1) * 2);
            worst = worst.max(sent.elapsed());
        }
        figures.extend(deliveries.figures(case, what, GROUPS * 2));
        figures.push(Figure {
            case,
            what: format!("{what}: the longest way of an object"),
            value: worst.as_secs_f64(),
            unit: "s",
            goal: Goal::AtMost(1.0),
        });
    }
    Ok(figures)
}
